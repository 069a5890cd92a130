//! What a pod may ask for beyond "a network": several of them, this address, that MAC.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::netns::Netns;
use atoll_tests::node::Node;
use atoll_tests::programs;
use atoll_tests::reach::{Server, ask};
use serde_json::{Value, json};

use crate::containerd::Containerd;
use crate::networks::{self, Networks};
use crate::podman::Podman;

/// Two networks. What is sent from the address of the second leaves by its own interface: the standard plugin `sbr`.
fn two_networks(node: &Node) -> Result<Networks> {
    let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
    let plugin = networks::plugin(node, json!({}))?;
    networks.add("one", std::slice::from_ref(&plugin))?;
    networks.add("two", &[plugin, json!({ "type": "sbr" })])?;
    Ok(networks)
}

/// The address of an interface.
fn address(netns: &Netns, interface: &str) -> Result<Ipv4Addr> {
    let found: Value = serde_json::from_str(&netns.run("ip", &["-json", "address", "show", interface])?)?;
    let text = found[0]["addr_info"][0]["local"].as_str().with_context(|| format!("no address: {found}"))?;
    Ok(text.parse()?)
}

/// Both addresses answer, and the way out is that of the first.
fn both_answer(of: &Netns, from: &Netns) -> Result<()> {
    let routes = of.run("ip", &["route", "show", "default"])?;
    ensure!(routes.lines().next().is_some_and(|line| line.contains("dev eth0")), "the way out: {routes}");
    let _server = Server::start(of, "both")?;
    for interface in ["eth0", "eth1"] {
        let answer = ask(from, address(of, interface)?)?;
        ensure!(answer.is_some_and(|banner| banner.name == "both"), "{interface} does not answer");
    }
    Ok(())
}

/// containerd attaches a pod to all its networks at once, in the same namespace.
#[test]
fn a_pod_of_two_networks() -> Result<()> {
    let node = Node::start(json!({}))?;
    let containerd = Containerd::start(&node, &two_networks(&node)?)?;
    let client = containerd.client()?;
    // Whoever of the two is first: several pods, to see both.
    let peer = client.run(&containerd.pod("red", "peer"))?;
    for number in 0..4 {
        let pod = client.run(&containerd.pod("red", &format!("pod-{number}")))?;
        assert_eq!(pod.ip.parse::<Ipv4Addr>()?, address(&pod.netns(), "eth0")?, "the address that the kubelet knows");
        both_answer(&pod.netns(), &peer.netns())?;
        client.end(&pod.id)?;
        assert_eq!(node.keys("attachments/")?.len(), 2, "the peer's");
    }
    client.end(&peer.id)?;
    containerd.finish()?;
    node.finish()
}

#[test]
fn a_podman_container_of_two_networks() -> Result<()> {
    let node = Node::start(json!({ "tenant": { "default": "laptop" } }))?;
    let podman = Podman::new(&node, &two_networks(&node)?)?;
    let peer = podman.start("peer", &[])?;
    // Else podman calls them as it likes, another time the other way round.
    let named = ["--network", "one:interface_name=eth0", "--network", "two:interface_name=eth1"];
    let both = podman.start("both", &named)?;
    both_answer(&both.netns, &peer.netns)?;
    podman.run(&["network", "disconnect", "two", "both"])?;
    assert_eq!(Node::links(&both.netns)?, ["eth0"], "the other network goes, this one stays");
    podman.remove(&["both", "peer"])?;
    drop(podman);
    node.finish()
}
