//! The requirements of the CRI's validation suite for networks (`critest`, "Networking"), with real containers in the
//! sandboxes.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::programs;
use serde_json::{Value, json};

use super::containerd::{self, Containerd};
use super::cri::{Dns, Namespaces, SandboxSecurity};
use super::networks::{self, Networks};

/// A container that sleeps, to run commands in.
const WAIT: [&str; 2] = ["/bin/sleep", "100000"];

#[test]
fn a_container_sees_the_network_of_its_pod() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let mut config = containerd.pod("red", "one");
    config.dns = Some(Dns {
        servers: vec!["10.96.0.10".to_owned()],
        searches: vec!["red.svc.cluster.local".to_owned()],
        options: vec!["ndots:8".to_owned()],
    });
    let pod = client.run(&config)?;
    let one = client.container(&pod, "one", &WAIT)?;

    // "runtime should support DNS config"
    let resolv = client.exec(&one, &["cat", "/etc/resolv.conf"])?;
    assert_eq!(resolv, "search red.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:8\n");

    // The status has the pod's address, and no other.
    let status = client.status(&pod.id)?.network.context("no network in the status")?;
    ensure!(status.more.is_empty(), "one address: {status:?}");
    let address: Ipv4Addr = status.ip.parse()?;
    let (_, claim) = node.keys("claims/")?.pop().context("no claim")?;
    ensure!(claim.to_string().contains(&format!("\"{address}/")), "{address} is claimed: {claim}");
    let inside: Value = serde_json::from_str(&pod.netns().run("ip", &["-json", "address", "show", "eth0"])?)?;
    assert_eq!(inside[0]["addr_info"][0]["local"], json!(status.ip));

    // A container has interface, address, gateway and default route.
    let seen = client.exec(&one, &["ip", "-4", "address", "show", "eth0"])?;
    ensure!(seen.contains(&format!("inet {address}/")) && seen.contains("UP"), "eth0: {seen}");
    let routes = client.exec(&one, &["ip", "route"])?;
    let gateway = routes.lines().find_map(|line| line.strip_prefix("default via ")).context("no default route")?;
    let gateway = gateway.split(' ').next().unwrap_or("");
    client.exec(&one, &["ping", "-c", "1", "-W", "5", gateway]).context("the gateway answers")?;
    client.exec(&one, &["ping", "-c", "1", "-W", "5", "127.0.0.1"]).context("loopback is up")?;

    // Two containers of a pod share its network: what one serves on loopback, the other reads.
    let serve = ["/bin/httpd", "-f", "-p", "127.0.0.1:8000", "-h", "/www"];
    let two = client.container(&pod, "two", &serve)?;
    let network = |container: &str| client.exec(container, &["readlink", "/proc/self/ns/net"]);
    assert_eq!(network(&one)?, network(&two)?, "one namespace");
    let page = client.exec(
        &one,
        &["sh", "-c", "for i in 1 2 3 4 5; do wget -q -O - http://127.0.0.1:8000/ && exit; sleep 1; done; exit 1"],
    )?;
    assert_eq!(page, "atoll\n");

    // A container may be replaced while the network remains.
    client.end_container(&one)?;
    let three = client.container(&pod, "three", &WAIT)?;
    let seen = client.exec(&three, &["ip", "-4", "address", "show", "eth0"])?;
    ensure!(seen.contains(&format!("inet {address}/")), "the same address: {seen}");
    client.end(&pod.id)?;
    containerd.finish()?;
    node.finish()
}

#[test]
fn a_host_network_pod_is_not_ours() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let before = LabNode::links(node.netns())?;
    let mut config = containerd.pod("red", "host");
    if let Some(linux) = &mut config.linux {
        linux.security = Some(SandboxSecurity { namespaces: Some(Namespaces { network: 2, pid: 1 }) });
    }
    let pod = client.run(&config)?;
    let container = client.container(&pod, "one", &WAIT)?;
    let inside = client.exec(&container, &["readlink", "/proc/self/ns/net"])?;
    let node_itself = node.netns().run("readlink", &["/proc/self/ns/net"])?;
    assert_eq!(inside, node_itself, "the node's own namespace");
    ensure!(pod.more.is_empty(), "no address: {pod:?}");
    assert_eq!(pod.ip, "", "the kubelet knows the node's address itself");
    ensure!(node.keys("claims/")?.is_empty() && node.keys("tenants/")?.is_empty(), "the plugin was not called");
    client.end(&pod.id)?;
    assert_eq!(LabNode::links(node.netns())?, before);
    containerd.finish()?;
    node.finish()
}

/// The kubelet polls the runtime, and containerd 2 calls STATUS each time. Older versions never call it.
#[test]
fn a_node_is_ready_until_something_local_is_wrong() -> Result<()> {
    let mut node = LabNode::start_without_dataplane(json!({}))?;
    let password = node.scratch().path().join("password");
    // The mock controller accepts this user with this password.
    fs::write(&password, "admin")?;
    let secret = |mode: u32| fs::set_permissions(&password, fs::Permissions::from_mode(mode));
    secret(0o600)?;
    let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
    let login = json!({ "controller": { "username": "admin", "passwordFile": &password } });
    networks.add("atoll", &[networks::plugin(&node, login)?])?;
    let containerd = Containerd::start(&node, &networks)?;
    let client = containerd.client()?;
    let ready = || client.condition("NetworkReady");
    let pod = client.run(&containerd.pod("red", "one"))?;
    ensure!(ready()?.good, "at first: {:?}", ready()?);

    secret(0o644)?;
    let condition = ready()?;
    if containerd::knows_status()? {
        ensure!(!condition.good && condition.message.contains("password"), "others can read it: {condition:?}");
    } else {
        ensure!(condition.good, "this version does not ask: {condition:?}");
    }
    secret(0o600)?;
    ensure!(ready()?.good, "repaired: {:?}", ready()?);

    // An outage of etcd or the controller must not make all nodes NotReady.
    node.kill_controller()?;
    node.kill_etcd()?;
    ensure!(ready()?.good, "without controller and etcd: {:?}", ready()?);
    node.start_etcd()?;
    node.start_controller()?;
    client.end(&pod.id)?;
    containerd.finish()?;
    node.finish()
}
