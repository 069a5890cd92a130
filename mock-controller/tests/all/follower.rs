//! A follower of the changes has the same objects after any requests: the data plane with its topology, the state file
//! with its rows. A controller that starts from a dump has the same objects too.

use atoll_mock_controller::{MockController, MockSettings};
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{BOTH, Fixture, id};

/// A step with few ids, so that steps affect the same objects.
#[derive(Clone, Debug)]
enum Step {
    Post(&'static str, u128, u128),
    Delete(&'static str, u128),
    Reset,
}

/// What is created: `p` is a parent or partner, `n` the new id.
const POSTS: &[&str] = &[
    "router",
    "bridge",
    "chain",
    "router port",
    "bridge port",
    "bound port",
    "link",
    "bind",
    "route",
    "rule",
    "jump",
    "group",
    "member",
    "filtered router",
    "put router",
    "put bridge",
    "put port",
    "addresses",
    "address",
    "mac",
    "arp",
    "zone",
    "host",
];

const DELETES: &[&str] = &[
    "routers",
    "bridges",
    "chains",
    "ports",
    "routes",
    "rules",
    "port_groups",
    "link",
    "binding",
    "ip_addr_groups",
    "tunnel_zones",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop::sample::select(POSTS), 0..12_u128, 0..12_u128).prop_map(|(what, n, p)| Step::Post(what, n, p)),
        5 => (prop::sample::select(DELETES), 0..12_u128).prop_map(|(what, n)| Step::Delete(what, n)),
        1 => Just(Step::Reset),
    ]
}

fn run(fixture: &Fixture, step: &Step) {
    let owned = |n: u128| json!({ "id": id(n), "tenantId": format!("t{}", n % 3), "name": "n" });
    match step {
        Step::Reset => drop(fixture.admin(Method::POST, "/reset", &Value::Null)),
        Step::Delete(what, n) => {
            let n = id(*n);
            fixture.delete(&match *what {
                "link" => format!("/ports/{n}/link"),
                "binding" => format!("/hosts/{}/ports/{n}", fixture.host()),
                kind => format!("/{kind}/{n}"),
            });
        }
        Step::Post(what, n, p) => {
            let parent = id(*p);
            match *what {
                "router" => fixture.post("/routers", &owned(*n)),
                "bridge" => fixture.post("/bridges", &owned(*n)),
                "chain" => fixture.post("/chains", &owned(*n)),
                "router port" => fixture.post(
                    &format!("/routers/{parent}/ports"),
                    &json!({ "id": id(*n), "type": "Router", "networkAddress": "10.0.0.0", "networkLength": 24,
                        "portAddress": format!("10.0.0.{n}"), "inboundFilterId": (n % 2 == 0).then_some(id(3)) }),
                ),
                "bridge port" => fixture.post(&format!("/bridges/{parent}/ports"), &json!({ "id": id(*n), "type": "Bridge" })),
                "bound port" => fixture.post(
                    &format!("/bridges/{parent}/ports"),
                    &json!({ "id": id(*n), "type": "Bridge", "hostId": fixture.host(), "interfaceName": format!("i{p}") }),
                ),
                "link" => fixture.link(id(*n), parent),
                "bind" => fixture.bind(fixture.host(), id(*n), &format!("i{p}")),
                "route" => fixture.post(
                    &format!("/routers/{parent}/routes"),
                    &json!({ "id": id(*n), "type": if n % 2 == 0 { "Normal" } else { "Reject" }, "srcNetworkAddr": "0.0.0.0",
                        "srcNetworkLength": 0, "dstNetworkAddr": "10.0.0.0", "dstNetworkLength": 8, "nextHopPort": id(n + 1) }),
                ),
                "rule" => fixture.post(
                    &format!("/chains/{parent}/rules"),
                    &json!({ "id": id(*n), "type": "drop", "inPorts": [id(*p)] }),
                ),
                "jump" => fixture.post(
                    &format!("/chains/{parent}/rules"),
                    &json!({ "id": id(*n), "type": "jump", "jumpChainId": id(n + 1) }),
                ),
                "group" => fixture.post("/port_groups", &owned(*n)),
                "member" => fixture.post(&format!("/port_groups/{parent}/ports"), &json!({ "portId": id(*n) })),
                "filtered router" => {
                    let mut body = owned(*n);
                    body["inboundFilterId"] = json!(parent);
                    body["outboundFilterId"] = json!(parent);
                    fixture.post("/routers", &body)
                }
                "put router" => fixture.put(&format!("/routers/{parent}"), &owned(*n)),
                "put bridge" => {
                    let mut body = owned(*n);
                    body["outboundFilterId"] = json!(id(4));
                    fixture.put(&format!("/bridges/{parent}"), &body)
                }
                "put port" => {
                    let mut body = fixture.port(parent);
                    body["adminStateUp"] = json!(false);
                    body["peerId"] = json!(id(*n));
                    fixture.put(&format!("/ports/{parent}"), &body)
                }
                "addresses" => fixture.post("/ip_addr_groups", &owned(*n)),
                "address" => fixture.post(
                    &format!("/ip_addr_groups/{parent}/ip_addrs"),
                    &json!({ "addr": format!("10.0.0.{n}"), "version": 4 }),
                ),
                "mac" => fixture.post(
                    &format!("/bridges/{parent}/mac_table"),
                    &json!({ "macAddr": "02:00:00:00:00:01", "portId": id(*n) }),
                ),
                "arp" => fixture.post(
                    &format!("/bridges/{parent}/arp_table"),
                    &json!({ "ip": format!("10.0.0.{n}"), "mac": "02:00:00:00:00:01" }),
                ),
                "zone" => fixture.post("/tunnel_zones", &json!({ "id": id(*n), "name": format!("z{p}"), "type": "gre" })),
                "host" => fixture.admin(Method::POST, "/hosts", &json!({ "id": id(*n), "name": "h", "address": "10.0.0.9" })),
                other => panic!("{other}"),
            };
        }
    }
}

/// Every request that reads these objects.
fn asked(fixture: &Fixture) -> Vec<Value> {
    let mut paths: Vec<String> =
        ["/routers", "/bridges", "/chains", "/ports", "/port_groups", "/hosts", "/tunnel_zones"]
            .map(str::to_owned)
            .to_vec();
    for tenant in ["t0", "t1", "t2"] {
        paths.extend(["routers", "bridges", "chains", "port_groups"].map(|kind| format!("/{kind}?tenant_id={tenant}")));
    }
    let mut answers: Vec<Value> = paths.iter().map(|path| Value::Array(fixture.list(path))).collect();
    let each = |table: &str, below: &[&str]| -> Vec<Value> {
        let ids: Vec<Uuid> = fixture.ids(&format!("/{table}"));
        ids.iter()
            .flat_map(|id| below.iter().map(move |below| format!("/{table}/{id}/{below}")))
            .map(|path| Value::Array(fixture.list(&path)))
            .collect()
    };
    answers.extend(each("routers", &["ports", "peer_ports", "routes"]));
    answers.extend(each("bridges", &["ports", "peer_ports", "mac_table", "arp_table"]));
    answers.extend(each("chains", &["rules"]));
    answers.extend(each("ports", &["port_groups"]));
    answers.extend(each("hosts", &["ports"]));
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn followers_end_where_the_controller_is(steps in prop::collection::vec(step(), 1..60), old in any::<bool>()) {
        let dialect = BOTH[usize::from(old)];
        let fixture = Fixture::new(dialect);
        let mut follower = fixture.mock.controller().follow();
        for step in &steps {
            run(&fixture, step);
            for change in fixture.mock.controller().take_changes() {
                follower.apply(change);
            }
        }
        prop_assert_eq!(&follower, &fixture.mock.controller().follow());

        // The same requests to another controller of the same settings: the same answers and objects, including generated ids.
        let again = Fixture::new(dialect);
        for step in &steps {
            run(&again, step);
        }
        prop_assert_eq!(again.mock.dump(), fixture.mock.dump());
        prop_assert_eq!(asked(&again), asked(&fixture));

        // Indexes are as if they were built anew.
        let settings = MockSettings { dialect, ..MockSettings::default() };
        let twin = Fixture::new(dialect);
        *twin.mock.controller() = MockController::with_tables(settings, fixture.mock.dump());
        prop_assert_eq!(asked(&fixture), asked(&twin));

        // Links are symmetric after any steps.
        for (id, port) in &fixture.mock.dump().ports {
            if let Some(peer) = port.peer {
                prop_assert_eq!(fixture.mock.dump().ports.get(&peer).and_then(|peer| peer.peer), Some(*id));
            }
        }
    }
}
