//! The program with its data plane, in a network namespace of its own: packets follow the API.
//! Needs root.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use atoll_mock_controller::{provider_router, uplink_port};
use atoll_model::port_security::PortSecurity;
use atoll_testkit::program::{command, located};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::id;
use crate::http_life::Running;

pub(crate) const HOST: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const JSON: &str = "application/json";
pub(crate) const ROUTER: Uuid = Uuid::from_u128(1);
pub(crate) const BRIDGE: Uuid = Uuid::from_u128(2);
const GATEWAY: Uuid = Uuid::from_u128(3);
pub(crate) const INNER: Uuid = Uuid::from_u128(4);
pub(crate) const POD: Uuid = Uuid::from_u128(5);
pub(crate) const MAC: &str = "02:00:00:00:00:05";

/// A namespace that is deleted with the test.
pub(crate) struct Netns(pub(crate) String);

impl Netns {
    pub(crate) fn new() -> Self {
        let name = format!("at-mock-{}", &Uuid::new_v4().simple().to_string()[..8]);
        run("ip", &["netns", "add", &name]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = command("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Removes what a failed test leaves in the kernel.
pub(crate) struct Traces(pub(crate) PathBuf);

impl Drop for Traces {
    fn drop(&mut self) {
        let _ = atoll_mock_controller::plane::purge(&self.0);
    }
}

fn run(program: &str, args: &[&str]) {
    let output = command(program).args(args).output().expect("it runs");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn pings(netns: &Netns, address: &str) -> bool {
    let inside = format!("--net={}", netns.path().display());
    let output =
        command("nsenter").args([&inside, &located("ping").display().to_string(), "-c1", "-W1", address]).output();
    output.expect("ping runs").status.success()
}

pub(crate) fn is_active(server: &Running, port: Uuid) -> bool {
    server.send("GET", &format!("/midonet-api/ports/{port}"), JSON, &Value::Null).2["active"] == true
}

pub(crate) fn wait_for(what: &str, mut met: impl FnMut() -> bool) {
    let started = Instant::now();
    while !met() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn create(server: &Running, path: &str, body: &Value) {
    let (status, _, answer) = server.send("POST", &format!("/midonet-api{path}"), JSON, body);
    assert_eq!(status, 201, "POST {path} {body}: {answer}");
}

/// A router with a bridge for 10.0.0.0/24.
pub(crate) fn network(server: &Running) {
    let create = |path: &str, body: Value| create(server, path, &body);
    create("/routers", json!({ "id": ROUTER, "tenantId": "t", "name": "r" }));
    create("/bridges", json!({ "id": BRIDGE, "tenantId": "t", "name": "b" }));
    let port = json!({ "id": GATEWAY, "type": "Router", "networkAddress": "10.0.0.0", "networkLength": 24,
        "portAddress": "10.0.0.1" });
    create(&format!("/routers/{ROUTER}/ports"), port);
    create(&format!("/bridges/{BRIDGE}/ports"), json!({ "id": INNER, "type": "Bridge" }));
    create(&format!("/ports/{GATEWAY}/link"), json!({ "peerId": INNER }));
    let route = json!({ "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0,
        "dstNetworkAddr": "10.0.0.0", "dstNetworkLength": 24, "nextHopPort": GATEWAY });
    create(&format!("/routers/{ROUTER}/routes"), route);
}

/// Makes the namespace a pod, as the plugin does: the host end is created in the router's namespace.
pub(crate) fn wire(router: &Path, pod: &Netns) {
    let inside = format!("--net={}", router.display());
    let peer = ["netns", pod.0.as_str(), "address", MAC];
    let link = ["ip", "link", "add", "atmock0", "type", "veth", "peer", "name", "eth0"];
    run("nsenter", &[&[inside.as_str()], &link[..], &peer[..]].concat());
    run("nsenter", &[&inside, "ip", "link", "set", "atmock0", "up"]);
    run("ip", &["-n", &pod.0, "addr", "add", "10.0.0.5/24", "dev", "eth0"]);
    run("ip", &["-n", &pod.0, "link", "set", "eth0", "up"]);
}

/// The JSON example of the documentation that follows this text.
fn documented(text: &str) -> Value {
    let page = include_str!("../../../docs/mock-controller.md");
    let (_, below) = page.split_once(text).unwrap_or_else(|| panic!("docs/mock-controller.md does not say {text:?}"));
    let (_, block) = below.split_once("```json\n").expect("an example");
    serde_json::from_str(block.split("```").next().unwrap_or_default()).expect("JSON")
}

/// The shape of an answer: its keys, with all ids equal, and the types of its values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let key = |key: &String| if Uuid::try_parse(key).is_ok() { "id".to_owned() } else { key.clone() };
            object.iter().map(|(name, value)| (key(name), shape(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        other => other.is_boolean().to_string().into(),
    }
}

#[test]
fn counters_are_shown_as_documented() {
    let netns = Netns::new();
    let directory = tempfile::tempdir().expect("a directory");
    let _traces = Traces(directory.path().to_owned());
    let run_dir = directory.path().to_str().expect("a path");
    let args = ["--dataplane", "--run-dir", run_dir, "--host-id", HOST];
    let server = Running::start_in(Some(&netns.path()), &args);
    let create = |path: &str, body: Value| create(&server, path, &body);
    network(&server);
    let (chain, icmp) = (id(10), id(11));
    create("/chains", json!({ "id": chain, "tenantId": "t", "name": "c" }));
    let rule = json!({ "id": icmp, "type": "accept", "dlType": 0x0800, "nwProto": 1, "position": 1 });
    create(&format!("/chains/{chain}/rules"), rule);
    // Several equal rules: each has its own counter.
    for n in 1..=5 {
        let rule = json!({ "id": id(20 + n), "type": if n == 3 { "reject" } else { "drop" }, "dlType": 0x0800, "nwProto": 17,
            "tpDst": { "start": 7000 + n, "end": 7000 + n }, "position": n + 1 });
        create(&format!("/chains/{chain}/rules"), rule);
    }
    let address = "10.0.0.5".parse().expect("an address");
    let vif = PortSecurity { mac: MAC.parse().expect("a MAC"), address, unique: false }.to_vif_id();
    create(
        &format!("/bridges/{BRIDGE}/ports"),
        json!({ "id": POD, "type": "Bridge", "hostId": HOST, "interfaceName": "atmock0", "inboundFilterId": chain,
            "vifId": vif }),
    );
    wire(&directory.path().join("dataplane").join(ROUTER.to_string()), &netns);
    wait_for("the pod's port is active", || is_active(&server, POD));

    let inside = format!("--net={}", netns.path().display());
    run("nsenter", &[&inside, "ping", "-q", "-c4", "-i0.01", "-W1", "10.0.0.1"]);
    let socket = crate::http_life::inside(&netns.path(), || UdpSocket::bind("10.0.0.5:0")).expect("a socket");
    for n in 1..=4_u16 {
        for _ in 0..n {
            // An error is the answer to an earlier datagram that was rejected.
            while socket.send_to(b"atol", ("10.0.0.1", 7000 + n)).is_err() {}
        }
    }
    let get = |path: &str| {
        let (status, head, body) = server.send("GET", path, "*/*", &Value::Null);
        assert_eq!(status, 200, "GET {path}: {body}");
        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
        body
    };
    let counted = get("/mock/counters");
    let count = |packets: u64, bytes: u64| json!({ "packets": packets, "bytes": packets * bytes });
    let mut rules = json!({ icmp.to_string(): count(4, 84) });
    for n in 1..=5 {
        rules[id(20 + n).to_string()] = if n == 5 { count(0, 0) } else { count(u64::try_from(n).expect("few"), 32) };
    }
    assert_eq!(counted["rules"], rules, "{counted}");
    let port = &counted["ports"][POD.to_string()];
    assert!(
        port["sent"]["packets"].as_u64() >= Some(14) && port["received"]["packets"].as_u64() >= Some(4),
        "{counted}"
    );
    assert_eq!(shape(&counted), shape(&documented("`$mock/counters` has `ports`")));

    let shown = get("/mock/node-side");
    assert_eq!(shape(&shown), shape(&documented("`curl -s $mock/node-side` shows")));
    let side = &shown[POD.to_string()];
    assert_eq!((&side["pod"], &side["direct"]), (&json!("10.0.0.5"), &json!(false)), "{shown}");
    assert!(pings(&netns, "10.0.0.1"), "{shown}");

    let (plain, nothing) = (Running::start(&[]), &Value::Null);
    for path in ["/mock/counters", "/mock/node-side", "/mock/dataplane"] {
        assert_eq!(plain.send("GET", path, "*/*", nothing).0, 404, "{path} without a data plane");
        assert!(matches!(server.send("POST", path, JSON, &json!({})).0, 404 | 405), "{path} is only read");
    }
    assert!(server.end("-TERM").success());
}

#[test]
fn the_documented_example_makes_packets_flow() {
    let (netns, pod, directory) = (Netns::new(), Netns::new(), tempfile::tempdir().expect("a directory"));
    let _traces = Traces(directory.path().to_owned());
    // The example creates the pod's namespace itself.
    run("ip", &["netns", "del", &pod.0]);
    let run_dir = directory.path().to_str().expect("a path");
    let server = Running::start_in(Some(&netns.path()), &["--dataplane", "--run-dir", run_dir, "--host-id", HOST]);
    let page = include_str!("../../../docs/mock-controller.md");
    let (_, below) = page.split_once("a namespace that stands for a pod:\n\n```sh\n").expect("the example");
    let example = below.split("```").next().unwrap_or_default();
    let example = example.replace("run=/run/atoll\n", &format!("run={run_dir}\n"));
    let script = format!(
        "set -eu\napi=http://{}/midonet-api\n{}",
        server.address,
        example.replace("pod=web\n", &format!("pod={}\n", pod.0))
    );
    assert!(script.contains(run_dir) && script.contains(&pod.0), "{script}");
    let inside = format!("--net={}", netns.path().display());
    run("timeout", &["20", "nsenter", &inside, "sh", "-c", &script]);
    assert!(server.end("-TERM").success());
}

#[test]
fn the_kernel_follows_the_api() {
    let netns = Netns::new();
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state.json");
    let traces = Traces(directory.path().to_owned());
    let run_dir = directory.path().to_str().expect("a path");
    let args = ["--dataplane", "--run-dir", run_dir, "--host-id", HOST, "--state", state.to_str().expect("a path")];
    let server = Running::start_in(Some(&netns.path()), &args);
    let pinned = |router: Uuid| directory.path().join("dataplane").join(router.to_string());
    assert!(pinned(provider_router()).exists(), "the provider router is there before the first request");

    let create = |path: &str, body: Value| create(&server, path, &body);
    let (router, pod) = (ROUTER, POD);
    network(&server);
    assert!(pinned(router).exists(), "a router is answered when its namespace exists");
    let bound = json!({ "id": pod, "type": "Bridge", "hostId": HOST, "interfaceName": "atmock0" });
    create(&format!("/bridges/{BRIDGE}/ports"), bound);
    assert!(!is_active(&server, pod), "no interface, no packets");

    wire(&pinned(router), &netns);
    wait_for("the pod's port is active", || is_active(&server, pod));
    assert!(pings(&netns, "10.0.0.1"), "active means that packets flow");
    let (status, _, report) = server.send("GET", "/mock/dataplane", JSON, &Value::Null);
    assert_eq!((status, &report["errors"]), (200, &json!({})), "{report}");

    // Unbound and bound again, one right after the other: the data plane may see no difference, the port is active.
    for n in 0..20 {
        let bindings = format!("/midonet-api/hosts/{HOST}/ports");
        assert_eq!(server.send("DELETE", &format!("{bindings}/{pod}"), JSON, &Value::Null).0, 204);
        create(&format!("/hosts/{HOST}/ports"), json!({ "portId": pod, "interfaceName": "atmock0" }));
        wait_for(&format!("the port is active after binding it again, {n}"), || is_active(&server, pod));
    }
    assert_eq!(server.send("POST", "/mock/hosts", JSON, &json!({ "id": HOST, "name": "h" })).0, 200);
    assert!(is_active(&server, uplink_port()) && is_active(&server, pod));

    // The report includes everything that was answered before it was requested, and no reader of the log is needed:
    // this test has closed the other end of standard error.
    let rules = id(6);
    create("/chains", json!({ "id": rules, "tenantId": "t", "name": "c" }));
    create(&format!("/chains/{rules}/rules"), json!({ "type": "drop", "traversedDevice": router }));
    let filtered = |chain: Value| {
        let mut it = server.send("GET", &format!("/midonet-api/bridges/{BRIDGE}"), JSON, &Value::Null).2;
        it["inboundFilterId"] = chain;
        assert_eq!(server.send("PUT", &format!("/midonet-api/bridges/{BRIDGE}"), JSON, &it).0, 204);
        let report = server.send("GET", "/mock/dataplane", JSON, &Value::Null).2;
        report["unsupported"].as_array().map(Vec::len)
    };
    assert!(filtered(json!(rules)) > Some(0));
    assert_eq!(filtered(Value::Null), Some(0));
    wait_for("the pod's port is active without the rule", || is_active(&server, pod));

    // Killed, packets keep flowing; started again, the ports are active again.
    server.end("-KILL");
    assert!(pings(&netns, "10.0.0.1"), "the kernel needs no controller");
    let server = Running::start_in(Some(&netns.path()), &args);
    wait_for("the pod's port is active again", || is_active(&server, pod));
    assert!(pings(&netns, "10.0.0.1"));

    assert_eq!(server.send("DELETE", &format!("/midonet-api/ports/{pod}"), JSON, &Value::Null).0, 204);
    wait_for("the pod is cut off", || !pings(&netns, "10.0.0.1"));
    assert!(server.end("-TERM").success());
    assert!(pinned(router).exists(), "an ordinary end leaves the kernel as it is");

    let purge = Command::new(env!("CARGO_BIN_EXE_mock-controller"))
        .args(["dataplane", "purge", "--run-dir", run_dir])
        .status()
        .expect("it runs");
    assert!(purge.success());
    assert!(!directory.path().join("dataplane").exists(), "every trace is gone");

    let mut purging = args.to_vec();
    purging.push("--purge-on-exit");
    let server = Running::start_in(Some(&netns.path()), &purging);
    assert!(pinned(router).exists());
    wait_for("the uplink is active", || is_active(&server, uplink_port()));
    assert_eq!(server.send("POST", "/mock/reset", JSON, &Value::Null).0, 204);
    wait_for("the uplink is active after a reset", || is_active(&server, uplink_port()));
    wait_for("what was reset is gone", || !pinned(router).exists());
    assert!(server.end("-TERM").success());
    assert!(!directory.path().join("dataplane").exists(), "purged on exit");
    drop(traces);
}
