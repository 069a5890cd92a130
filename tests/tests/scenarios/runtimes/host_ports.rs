//! Host ports: Debian's `portmap` after Atoll, with the local data plane.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Error, Result, ensure};
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::reach::{PORT, TcpServer, ask, ask_at};
use serde_json::json;

use super::chain::{HOST_PORT, chain, firewall, portmap, ports};
use super::containerd::Containerd;
use super::cri::Port;
use super::podman::Podman;

/// With the local data plane, where the node reaches pods with a unique address.
#[test]
fn a_port_of_the_node_leads_to_a_pod() -> Result<()> {
    let node = LabNode::start(json!({ "cluster": { "addressing": "unique" } }))?;
    let neighbour = neighbour(&node)?;
    let containerd = Containerd::start(&node, &chain(&node, &[portmap(), firewall()])?)?;
    let client = containerd.client()?;
    let mut config = containerd.pod("red", "one");
    config.ports = ports();
    // The other one has a container port without a host port, which the runtime does not pass on.
    let mut inner = containerd.pod("red", "two");
    inner.ports = vec![Port { container: i32::from(PORT), host: 0 }];
    let (one, two) = (client.run(&config)?, client.run(&inner)?);
    let _servers = (TcpServer::start(&one.netns(), "one")?, TcpServer::start(&two.netns(), "two")?);
    let answers = |from: &LabNetns, to: &str| Ok::<_, Error>(ask(from, to.parse()?)?.map(|banner| banner.name));
    assert_eq!(answers(&two.netns(), &one.ip)?.as_deref(), Some("one"), "within the tenant");
    assert_eq!(answers(node.netns(), &two.ip)?.as_deref(), Some("two"), "the kubelet's probes");
    reached(node.netns(), Ipv4Addr::LOCALHOST).context("from the node, by loopback")?;
    reached(node.netns(), NODE).context("from the node, by its address")?;
    reached(&neighbour, NODE).context("from a machine beside the node")?;
    neighbour.run("ip", &["route", "add", "10.128.0.0/9", "via", &NODE.to_string()])?;
    assert_eq!(answers(&neighbour, &two.ip)?, None, "the node is no router to the pods of tenants");

    client.end(&one.id)?;
    ensure!(ask_at(&neighbour, NODE, HOST_PORT)?.is_none(), "the port of a pod that is gone");
    client.end(&two.id)?;
    containerd.finish()?;
    node.finish()
}

/// The same through podman.
#[test]
fn a_published_port_leads_to_a_podman_container() -> Result<()> {
    let node = LabNode::start(json!({ "tenant": { "default": "laptop" }, "cluster": { "addressing": "unique" } }))?;
    let neighbour = neighbour(&node)?;
    let podman = Podman::new(&node, &chain(&node, &[portmap(), firewall()])?)?;
    let one = podman.start("one", &["--publish", &format!("{HOST_PORT}:{PORT}")])?;
    let _server = TcpServer::start(&one.netns, "one")?;
    reached(node.netns(), Ipv4Addr::LOCALHOST).context("from the node, by loopback")?;
    reached(&neighbour, NODE).context("from a machine beside the node")?;
    podman.remove(&["one"])?;
    ensure!(ask_at(&neighbour, NODE, HOST_PORT)?.is_none(), "the port of a container that is gone");
    drop(podman);
    node.finish()
}

/// The address of the node towards its neighbour.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Another machine on the node's own network.
fn neighbour(node: &LabNode) -> Result<LabNetns> {
    let neighbour = LabNetns::new()?;
    let name = neighbour.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let link = ["link", "add", "uplink0", "type", "veth", "peer", "name", "uplink0", "netns", &name];
    node.netns().run("ip", &link)?;
    for (netns, address) in [(node.netns(), NODE), (&neighbour, Ipv4Addr::new(192, 0, 2, 2))] {
        netns.run("ip", &["address", "add", &format!("{address}/24"), "dev", "uplink0"])?;
        netns.run("ip", &["link", "set", "uplink0", "up"])?;
    }
    // As a node of Kubernetes does.
    node.netns().run("sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
    Ok(neighbour)
}

fn reached(from: &LabNetns, address: Ipv4Addr) -> Result<()> {
    let banner = ask_at(from, address, HOST_PORT)?.context("no answer")?;
    ensure!(banner.name == "one", "{} answers", banner.name);
    Ok(())
}
