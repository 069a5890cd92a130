//! The program with its data plane, in a network namespace of its own: what the API says is what packets do.
//! Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use atoll_mock_controller::{provider_router, uplink_port};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_life::Running;
use crate::world::id;

const HOST: &str = "11111111-2222-3333-4444-555555555555";
const JSON: &str = "application/json";

/// A namespace that goes with the test.
struct Netns(String);

impl Netns {
    fn new() -> Self {
        let name = format!("at-mock-{}", &Uuid::new_v4().simple().to_string()[..8]);
        run("ip", &["netns", "add", &name]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Removes what a failed test leaves in the kernel.
struct Traces(PathBuf);

impl Drop for Traces {
    fn drop(&mut self) {
        let _ = atoll_mock_controller::plane::purge(&self.0);
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect("it runs");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn pings(netns: &Netns, address: &str) -> bool {
    let inside = format!("--net={}", netns.path().display());
    let output = Command::new("nsenter").args([&inside, "ping", "-c1", "-W1", address]).output();
    output.expect("ping runs").status.success()
}

fn is_active(server: &Running, port: Uuid) -> bool {
    server.send("GET", &format!("/midonet-api/ports/{port}"), JSON, &Value::Null).2["active"] == true
}

fn wait_for(what: &str, mut met: impl FnMut() -> bool) {
    let started = Instant::now();
    while !met() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
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

    let create = |path: &str, body: Value| {
        let (status, _, answer) = server.send("POST", &format!("/midonet-api{path}"), JSON, &body);
        assert_eq!(status, 201, "POST {path} {body}: {answer}");
    };
    let (router, bridge, gateway, inner, pod) = (id(1), id(2), id(3), id(4), id(5));
    create("/routers", json!({ "id": router, "tenantId": "t", "name": "r" }));
    assert!(pinned(router).exists(), "a router is answered when its namespace exists");
    create("/bridges", json!({ "id": bridge, "tenantId": "t", "name": "b" }));
    let port = json!({ "id": gateway, "type": "Router", "networkAddress": "10.0.0.0", "networkLength": 24,
        "portAddress": "10.0.0.1" });
    create(&format!("/routers/{router}/ports"), port);
    create(&format!("/bridges/{bridge}/ports"), json!({ "id": inner, "type": "Bridge" }));
    create(&format!("/ports/{gateway}/link"), json!({ "peerId": inner }));
    let route = json!({ "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0,
        "dstNetworkAddr": "10.0.0.0", "dstNetworkLength": 24, "nextHopPort": gateway });
    create(&format!("/routers/{router}/routes"), route);
    let bound = json!({ "id": pod, "type": "Bridge", "hostId": HOST, "interfaceName": "atmock0" });
    create(&format!("/bridges/{bridge}/ports"), bound);
    assert!(!is_active(&server, pod), "no interface, no packets");

    // As the plugin does it: the host end is made in the router's namespace.
    let inside = format!("--net={}", pinned(router).display());
    let peer = ["netns", netns.0.as_str()];
    run(
        "nsenter",
        &[&inside, "ip", "link", "add", "atmock0", "type", "veth", "peer", "name", "eth0", peer[0], peer[1]],
    );
    run("nsenter", &[&inside, "ip", "link", "set", "atmock0", "up"]);
    run("ip", &["-n", &netns.0, "addr", "add", "10.0.0.5/24", "dev", "eth0"]);
    run("ip", &["-n", &netns.0, "link", "set", "eth0", "up"]);
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
