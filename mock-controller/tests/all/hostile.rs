//! Malformed and hostile requests: none panics, changes anything or hangs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, Method};
use proptest::prelude::*;
use serde_json::{Value, json};

use atoll_mock_controller::Dialect;
use atoll_testkit::mutate::Mutator;
use atoll_testkit::program::command;

use crate::everything;
use crate::fixture::{BOTH, Fixture, id};
use crate::http_life::{PROGRAM, Running};

#[test]
fn bodies_that_are_no_objects() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!("{{\"name\":{deep}}}");
    let wide = format!("{{{}\"name\":\"x\"}}", "\"k\":1,".repeat(100_000));
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\"x\"",
        b"\xff\xfe",
        b"{\"name\":\"\\ud800\"}",
        b"{\"id\":\"zz\"}",
        b"{\"id\":[]}",
        b"{\"adminStateUp\":\"perhaps\"}",
        deep.as_bytes(),
        deep_field.as_bytes(),
    ];
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let before = fixture.mock.dump();
        for path in ["/routers", "/bridges"] {
            for body in bodies {
                let answer = fixture.raw(Method::POST, path, &[(CONTENT_TYPE, "application/json")], body);
                assert_eq!(answer.status, 400, "{path} {:?}", &body[..body.len().min(40)]);
            }
        }
        assert_eq!(fixture.mock.dump(), before);
        let answer = fixture.raw(Method::POST, "/port_groups", &[(CONTENT_TYPE, "application/json")], wide.as_bytes());
        assert!([201, 400].contains(&answer.status), "many keys are accepted or refused");
    }
}

#[test]
fn hostile_paths() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let before = fixture.mock.dump();
        let long = format!("/routers/{}", "a".repeat(100_000));
        let many = "/routers".repeat(10_000);
        for path in [
            "/routers/../mock/reset",
            "/routers/%2e%2e/%2e%2e/etc/passwd",
            "/routers/%00",
            "/routers/%",
            "/routers/%f",
            "/routers//",
            "//routers/x",
            "/routers/{}",
            "/routers/{id}",
            "/routers/not-a-uuid",
            "/routers/00000000000000000000000000000000",
            "/routers/{00000000-0000-0000-0000-000000000000}",
            "/routers/urn:uuid:00000000-0000-0000-0000-000000000000",
            "/\u{0}",
            &long,
            &many,
        ] {
            for method in [Method::GET, Method::DELETE, Method::PUT] {
                let headers = [(ACCEPT, "application/json"), (CONTENT_TYPE, "application/json")];
                let answer = fixture.raw(method.clone(), path, &headers, b"{}");
                assert!((400..500).contains(&answer.status), "{method} {path:.60}: {}", answer.status);
            }
        }
        assert_eq!(fixture.mock.dump(), before);
    }
}

#[test]
fn hostile_headers() {
    let fixture = Fixture::new(atoll_mock_controller::Dialect::V5);
    let name = HeaderName::from_static;
    for (header, value) in [
        (name("host"), "evil.example/x?"),
        (name("x-forwarded-host"), "a b"),
        (name("x-forwarded-proto"), "javascript"),
        (name("x-forwarded-port"), "99999999999"),
    ] {
        let headers = [(CONTENT_TYPE, "application/json"), (header, value)];
        let answer = fixture.raw(Method::POST, "/routers", &headers, b"{}");
        assert_eq!(answer.status, 201, "{value}");
    }
    let huge = "x".repeat(1 << 20);
    assert_eq!(fixture.raw(Method::GET, "/routers", &[(ACCEPT, &huge)], b"").status, 406);
}

/// Any JSON, with the names that the API reads among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["accept", "snat", "jump", "Router", "Bridge", "Normal", "any", "10.0.0.1", "x", ""])
            .prop_map(Value::from),
        (0..6_u128).prop_map(|n| json!(id(n))),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "id",
        "type",
        "name",
        "tenantId",
        "peerId",
        "hostId",
        "interfaceName",
        "portId",
        "position",
        "natTargets",
        "flowAction",
        "addressFrom",
        "addressTo",
        "portFrom",
        "tpDst",
        "start",
        "end",
        "inPorts",
        "fragmentPolicy",
        "networkAddress",
        "networkLength",
        "portAddress",
        "portMac",
        "vlanId",
        "jumpChainId",
        "weight",
        "nextHopPort",
        "srcNetworkAddr",
        "dstNetworkAddr",
        "srcNetworkLength",
        "dstNetworkLength",
        "ipAddress",
        "addr",
        "version",
        "macAddr",
        "ip",
        "mac",
        "stateful",
        "dlSrc",
        "dlSrcMask",
        "nwProto",
        "vifId",
        "adminStateUp",
    ]);
    leaf.prop_recursive(3, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..10)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        prop::sample::select(vec![
            "routers",
            "bridges",
            "ports",
            "chains",
            "rules",
            "routes",
            "hosts",
            "tunnel_zones",
            "link",
            "port_groups",
            "ip_addr_groups",
            "ip_addrs",
            "mac_table",
            "arp_table",
            "versions",
            "4",
            "vlans",
            "9",
            "interfaces",
        ])
        .prop_map(str::to_owned),
        (0..6_u128).prop_map(|n| id(n).to_string()),
        "[ -~]{0,6}",
    ];
    prop::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Every request is answered, with a status that names the right side.
    #[test]
    fn any_request_is_answered(
        requests in prop::collection::vec((any_path(), any_json(), 0..4_usize), 1..12),
        old in any::<bool>(),
    ) {
        let fixture = small(old);
        for (path, body, method) in requests {
            let method = [Method::GET, Method::POST, Method::PUT, Method::DELETE][method].clone();
            let headers = [(ACCEPT, "application/json"), (CONTENT_TYPE, "application/json")];
            let started = Instant::now();
            let answer = fixture.raw(method.clone(), &path, &headers, body.to_string().as_bytes());
            prop_assert!(started.elapsed() < Duration::from_secs(2));
            let known = [200, 201, 204, 400, 401, 403, 404, 405, 406, 409, 415, 501];
            // 500: 1.9 for a duplicate, 5.x for a link with a portId.
            let allowed = known.contains(&answer.status) || answer.status == 500 && (old || path.ends_with("/link"));
            prop_assert!(allowed, "{} {} {}: {:?}", method, path, body, answer);
        }
    }
}

/// Valid bodies, for paths of the objects below: the corpus of the mutations.
fn corpus() -> Vec<(String, Value)> {
    let route = json!({ "id": id(9), "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0,
        "dstNetworkAddr": "10.9.0.0", "dstNetworkLength": 16, "nextHopPort": id(2), "nextHopGateway": "10.0.0.9" });
    let port = json!({ "id": id(9), "type": "Router", "networkAddress": "10.1.0.0", "networkLength": 16,
        "portAddress": "10.1.0.1", "portMac": "02:00:00:00:00:01", "vifId": id(7), "inboundFilterId": id(4) });
    let nat = json!({ "id": id(9), "type": "snat", "flowAction": "accept", "outPorts": [id(2)], "position": 1,
        "natTargets": [{ "addressFrom": "10.0.0.1", "addressTo": "10.0.0.2", "portFrom": 1, "portTo": 65535 }] });
    let drop = json!({ "type": "drop", "tpDst": { "start": 80, "end": 90 }, "dlSrc": "02:00:00:00:00:01",
        "dlSrcMask": "ffff.ff00.0000", "nwSrcAddress": "10.0.0.0", "nwSrcLength": "8", "fragmentPolicy": "header" });
    vec![
        ("/routers".to_owned(), json!({ "id": id(9), "name": "r", "tenantId": "t", "inboundFilterId": id(4) })),
        (format!("/routers/{}/ports", id(0)), port),
        (format!("/routers/{}/routes", id(0)), route),
        (format!("/chains/{}/rules", id(4)), nat),
        (format!("/chains/{}/rules", id(4)), drop),
        (format!("/ports/{}/link", id(2)), json!({ "peerId": id(3) })),
        ("/tunnel_zones".to_owned(), json!({ "name": "z", "type": "gre" })),
    ]
}

#[test]
fn the_corpus_is_well() {
    for (path, body) in corpus() {
        let fixture = small(false);
        let answer =
            fixture.raw(Method::POST, &path, &[(CONTENT_TYPE, "application/json")], body.to_string().as_bytes());
        assert_eq!(answer.status, 201, "{path} {body}: {answer:?}");
    }
}

fn small(old: bool) -> Fixture {
    let fixture = Fixture::new(BOTH[usize::from(old)]);
    let (router, bridge) = (fixture.router(0, "t"), fixture.bridge(1, "t"));
    fixture.router_port(2, router, "10.0.0.1");
    fixture.bridge_port(3, bridge);
    fixture.chain(4, "t");
    fixture
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Valid bodies with a few bytes changed, doubled or removed are answered with a success or a 4xx.
    #[test]
    fn mutated_bodies_are_answered(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..6),
    ) {
        let (path, body) = which.get(&corpus()).clone();
        let mut bytes = body.to_string().into_bytes();
        for (place, what, byte) in cuts {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match what {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => drop(bytes.remove(place)),
                _ => bytes.extend_from_within(place..),
            }
        }
        let fixture = small(false);
        let answer = fixture.raw(Method::POST, &path, &[(CONTENT_TYPE, "application/json")], &bytes);
        let refused = matches!(answer.status, 201 | 400 | 404 | 409) || path.ends_with("/link") && answer.status == 500;
        prop_assert!(refused, "{} {:?}: {:?}", path, String::from_utf8_lossy(&bytes), answer);
    }
}

/// Texts of requests with their dialect: `tests/corpus/NAME.DIALECT.txt`.
fn texts() -> Vec<(Dialect, String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let dialect = if name.ends_with(".1.9.txt") { Dialect::V1 } else { Dialect::V5 };
        texts.push((dialect, name, std::fs::read(path).expect("a file")));
    }
    texts.sort_by(|one, other| one.1.cmp(&other.1));
    texts
}

#[test]
fn every_request_of_the_corpus_is_well() {
    let texts = texts();
    assert_eq!(texts.len(), 6);
    for (dialect, name, text) in &texts {
        let answered = everything::answer(*dialect, text);
        assert!(answered.len() > 15, "{name}");
        for (request, response) in answered {
            assert!((200..300).contains(&response.status), "{name}: {request:?}: {response:?}");
        }
    }
}

#[test]
fn mutated_requests_are_answered() {
    let corpus = texts();
    let all: Vec<&[u8]> = corpus.iter().map(|(_, _, text)| text.as_slice()).collect();
    // The end of a request, and the id of an object.
    let pieces: [&[u8]; 2] = [b"\n---\n", b"aaaa0000-0000-4000-8000-000000000003"];
    let mut mutator = Mutator::seeded(0x5eed_0003);
    for _ in 0..3_000 {
        everything::fuzz(&mutator.mutation(&all, &pieces, 8));
    }
}

/// The ways in which a client only holds its connection.
#[derive(Clone, Copy, Debug)]
enum Holding {
    /// It sends nothing.
    Silence,
    /// It sends a head without an end.
    HalfAHead,
    /// One request is answered, and none follows.
    KeepAlive,
    /// It sends a part of a large body.
    HalfABody,
}

impl Holding {
    fn hold(self, address: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let (sent, reads) = match self {
            Self::Silence => (String::new(), false),
            Self::HalfAHead => ("GET /midonet-api/routers HTTP/1.1\r\nHost: x\r\nX-".to_owned(), false),
            Self::KeepAlive => ("GET /mock/faults HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), true),
            Self::HalfABody => {
                let head = "POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
                (format!("{head}Content-Length: 1000000\r\n\r\n{{"), false)
            }
        };
        // The server may have closed the connection to serve a newer one.
        let _ = stream.write_all(sent.as_bytes());
        if reads {
            let _ = stream.read(&mut [0; 512]);
        }
        stream
    }
}

/// More than the server's limit.
const CONNECTIONS: usize = 1100;

fn allow_descriptors() {
    let own = ["--pid", &std::process::id().to_string(), "--nofile=4096:"];
    assert!(command("prlimit").args(own).status().expect("prlimit runs").success());
}

/// Any number of clients that only hold connections neither locks another client out nor interrupts a request in progress.
/// The server closes silent connections after 30 s; this test does not wait for that.
#[test]
fn idle_connections_lock_no_client_out() {
    allow_descriptors();
    for holding in [Holding::Silence, Holding::HalfAHead, Holding::KeepAlive, Holding::HalfABody] {
        let server = Running::start(&[]);
        let slow = json!({ "path": "/routers", "times": 1, "fault": { "kind": "delay", "milliseconds": 3000 } });
        assert_eq!(server.send("POST", "/mock/faults", "application/json", &slow).0, 204, "{holding:?}");
        std::thread::scope(|scope| {
            let in_progress =
                scope.spawn(|| server.send("GET", "/midonet-api/routers", "application/json", &Value::Null));
            // It is in progress as soon as its fault is used up.
            let began = Instant::now();
            while server.send("GET", "/mock/faults", "application/json", &Value::Null).2 != json!([]) {
                assert!(began.elapsed() < Duration::from_secs(20), "{holding:?}: it has not begun");
            }
            let held: Vec<_> = (0..CONNECTIONS).map(|_| holding.hold(&server.address)).collect();
            for _ in 0..3 {
                let (status, ..) = server.send("GET", "/midonet-api/bridges", "application/json", &Value::Null);
                assert_eq!(status, 200, "{holding:?}: a new connection is served");
            }
            assert_eq!(
                in_progress.join().expect("no panic").0,
                200,
                "{holding:?}: the request in progress is answered"
            );
            drop(held);
        });
    }
}

/// The same if the process may open fewer descriptors than its limit of connections.
#[test]
fn idle_connections_lock_no_client_out_without_descriptors() {
    let mut command = command("prlimit");
    command.args(["--nofile=64", PROGRAM, "--listen", "127.0.0.1:0"]);
    let server = Running::begin(command, None);
    let held: Vec<_> = (0..200).map(|_| Holding::Silence.hold(&server.address)).collect();
    for _ in 0..3 {
        let (status, ..) = server.send("GET", "/midonet-api/bridges", "application/json", &Value::Null);
        assert_eq!(status, 200, "a new connection is served");
    }
    drop(held);
}
