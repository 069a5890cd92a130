//! Debian's standard plugins after Atoll, as in the lists of most clusters.

use anyhow::{Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::reach::PORT;
use serde_json::{Value, json};

use super::containerd::Containerd;
use super::cri::Port;
use super::networks::{self, Networks};

/// The port of the node that leads to a pod.
pub(crate) const HOST_PORT: u16 = 18080;

/// Atoll's plugin, then these.
pub(crate) fn chain(node: &LabNode, behind: &[Value]) -> Result<Networks> {
    let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
    networks.add("atoll", &[&[networks::plugin(node, json!({}))?], behind].concat())?;
    Ok(networks)
}

pub(crate) fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true })
}

pub(crate) fn firewall() -> Value {
    json!({ "type": "firewall", "backend": "iptables" })
}

fn tuning() -> Value {
    json!({ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" }, "mtu": 1300 })
}

pub(crate) fn ports() -> Vec<Port> {
    vec![Port { container: i32::from(PORT), host: i32::from(HOST_PORT) }]
}

/// Without a local data plane the host interface is in the node's namespace, where `bandwidth` finds it.
#[test]
fn the_standard_plugins_stand_behind_ours() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let bandwidth = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
    let networks = chain(&node, &[portmap(), bandwidth, tuning(), firewall()])?;
    let containerd = Containerd::start(&node, &networks)?;
    let client = containerd.client()?;
    let mut config = containerd.pod("red", "one");
    config.ports = ports();
    let annotations = [("kubernetes.io/ingress-bandwidth", "10M"), ("kubernetes.io/egress-bandwidth", "20M")];
    config.annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let pod = client.run(&config)?;

    let rules = node.netns().run("iptables-save", &[])?;
    ensure!(rules.contains(&format!("DNAT --to-destination {}:{PORT}", pod.ip)), "portmap: {rules}");
    ensure!(rules.contains(&format!("-A CNI-FORWARD -s {}/32 -j ACCEPT", pod.ip)), "firewall: {rules}");
    let shapers = node.netns().run("tc", &["qdisc", "show"])?;
    for rate in ["10Mbit", "20Mbit"] {
        ensure!(shapers.contains(&format!("rate {rate}")), "bandwidth: {shapers}");
    }
    let inside = |program, args: &[&str]| pod.netns().run(program, args);
    ensure!(inside("ip", &["link", "show", "eth0"])?.contains("mtu 1300"), "tuning: MTU");
    assert_eq!(inside("cat", &["/proc/sys/net/core/somaxconn"])?.trim(), "500", "tuning: sysctl");

    client.end(&pod.id)?;
    let rules = node.netns().run("iptables-save", &[])?;
    ensure!(!rules.contains(&pod.ip), "rules of a pod that is gone: {rules}");
    assert_eq!(LabNode::links(node.netns())?, [""; 0], "the shaper's link");
    containerd.finish()?;
    node.finish()
}
