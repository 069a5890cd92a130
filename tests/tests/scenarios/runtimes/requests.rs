//! Requests of a pod: several networks, an address, a MAC.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Error, Result, ensure};
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::reach::{TcpServer, ask};
use serde_json::{Value, json};

use super::containerd::Containerd;
use super::networks::{self, Networks};
use super::podman::Podman;

/// Two networks. Packets from the address of the second leave by its own interface (the standard plugin `sbr`).
fn two_networks(node: &LabNode) -> Result<Networks> {
    let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
    let plugin = networks::plugin(node, json!({}))?;
    networks.add("one", std::slice::from_ref(&plugin))?;
    networks.add("two", &[plugin, json!({ "type": "sbr" })])?;
    Ok(networks)
}

/// The address of an interface.
fn address(netns: &LabNetns, interface: &str) -> Result<Ipv4Addr> {
    let found: Value = serde_json::from_str(&netns.run("ip", &["-json", "address", "show", interface])?)?;
    let text = found[0]["addr_info"][0]["local"].as_str().with_context(|| format!("no address: {found}"))?;
    Ok(text.parse()?)
}

/// Both addresses answer, and the default route is that of the first.
fn both_answer(of: &LabNetns, from: &LabNetns) -> Result<()> {
    let routes = of.run("ip", &["route", "show", "default"])?;
    ensure!(routes.lines().next().is_some_and(|line| line.contains("dev eth0")), "the way out: {routes}");
    let _server = TcpServer::start(of, "both")?;
    for interface in ["eth0", "eth1"] {
        let answer = ask(from, address(of, interface)?)?;
        ensure!(answer.is_some_and(|banner| banner.name == "both"), "{interface} does not answer");
    }
    Ok(())
}

/// containerd attaches a pod to all its networks at once, in the same namespace.
#[test]
fn a_pod_of_two_networks() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &two_networks(&node)?)?;
    let client = containerd.client()?;
    // Either of the two may be first: several pods, so that both orders occur.
    let peer = client.run(&containerd.pod("red", "peer"))?;
    for number in 0..4 {
        let pod = client.run(&containerd.pod("red", &format!("pod-{number}")))?;
        assert_eq!(pod.ip.parse::<Ipv4Addr>()?, address(&pod.netns(), "eth0")?, "the address that the kubelet knows");
        both_answer(&pod.netns(), &peer.netns())?;
        client.end(&pod.id)?;
        assert_eq!(node.keys("claims/")?.len(), 2, "the peer's");
    }
    client.end(&peer.id)?;
    containerd.finish()?;
    node.finish()
}

#[test]
fn a_podman_container_of_two_networks() -> Result<()> {
    let node = LabNode::start(json!({ "tenant": { "default": "laptop" } }))?;
    let podman = Podman::new(&node, &two_networks(&node)?)?;
    let peer = podman.start("peer", &[])?;
    // Otherwise podman assigns the names in any order.
    let named = ["--network", "one:interface_name=eth0", "--network", "two:interface_name=eth1"];
    let both = podman.start("both", &named)?;
    both_answer(&both.netns, &peer.netns)?;
    podman.run(&["network", "disconnect", "two", "both"])?;
    assert_eq!(LabNode::links(&both.netns)?, ["eth0"], "the other network goes, this one stays");
    podman.remove(&["both", "peer"])?;
    drop(podman);
    node.finish()
}

const MAC: &str = "02:00:5e:10:00:09";

/// Addresses that can be requested: a pod without a request got `taken`.
fn free(taken: &str) -> Result<[String; 3]> {
    let free = (200..=203).map(|n| format!("10.128.0.{n}")).filter(|address| address != taken);
    free.take(3).collect::<Vec<_>>().try_into().map_err(|_| Error::msg("fewer than three"))
}

/// The pod's annotations, through the runtime's capability, without the API server.
#[test]
fn a_pod_gets_what_its_annotations_ask_for() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
    let capabilities = json!({ "capabilities": { "io.kubernetes.cri.pod-annotations": true } });
    networks.add("atoll", &[networks::plugin(&node, capabilities)?])?;
    let containerd = Containerd::start(&node, &networks)?;
    let client = containerd.client()?;
    let asking = |name: &str, annotations: &[(&str, &str)]| {
        let mut pod = containerd.pod("red", name);
        pod.annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        pod
    };
    let peer = client.run(&containerd.pod("red", "peer"))?;
    let [requested, ..] = &free(&peer.ip)?;
    let requests = [("atoll.dev/ips", requested.as_str()), ("atoll.dev/mac", MAC), ("atoll.dev/subnet", "1")];
    let mut config = asking("one", &requests);
    let one = client.run(&config)?;
    assert_eq!(one.ip, *requested);
    ensure!(one.netns().run("ip", &["link", "show", "eth0"])?.contains(MAC), "the MAC");
    let server = TcpServer::start(&one.netns(), "one")?;
    let answer = |from: &LabNetns| Ok::<_, Error>(ask(from, requested.parse()?)?.map(|banner| banner.name));
    assert_eq!(answer(&peer.netns())?.as_deref(), Some("one"));

    // A taken, an unknown and an invalid address: no pod, and no substitute.
    for (annotations, message) in [
        ([("atoll.dev/ips", requested.as_str())], requested.as_str()),
        ([("atoll.dev/mac", MAC)], MAC),
        ([("atoll.dev/subnet", "7")], "7"),
        ([("atoll.dev/ips", "everything")], "everything"),
    ] {
        let refused = client.run(&asking("two", &annotations)).expect_err("it cannot be had");
        ensure!(format!("{refused:#}").contains(message), "{annotations:?}: {refused:#}");
    }
    assert_eq!(answer(&peer.netns())?.as_deref(), Some("one"), "the first was not touched");

    // The same pod again, as after a restart of its sandbox: it gets the same address, although it was just released.
    drop(server);
    client.end(&one.id)?;
    config.metadata.as_mut().context("metadata")?.attempt = 1;
    let again = client.run(&config)?;
    assert_eq!(again.ip, *requested);
    let _server = TcpServer::start(&again.netns(), "again")?;
    assert_eq!(answer(&peer.netns())?.as_deref(), Some("again"));
    client.end(&again.id)?;
    client.end(&peer.id)?;
    containerd.finish()?;
    node.finish()
}

/// podman passes it in `CNI_ARGS`, or in `runtimeConfig` if there are several addresses.
#[test]
fn a_podman_container_gets_the_address_and_mac_it_asks_for() -> Result<()> {
    let node = LabNode::start(json!({ "tenant": { "default": "laptop" } }))?;
    let podman = Podman::new(&node, &Networks::of(&node)?)?;
    let peer = podman.start("peer", &[])?;
    let [requested, first, second] = &free(&peer.address("atoll")?.to_string())?;
    let one = podman.start("one", &["--network", "atoll", "--ip", requested, "--mac-address", MAC])?;
    assert_eq!(one.address("atoll")?.to_string(), *requested);
    ensure!(one.netns.run("ip", &["link", "show", "eth0"])?.contains(MAC), "the MAC");
    let _server = TcpServer::start(&one.netns, "one")?;
    let answer = |to: Ipv4Addr| Ok::<_, Error>(ask(&peer.netns, to)?.map(|banner| banner.name));
    assert_eq!(answer(requested.parse()?)?.as_deref(), Some("one"));
    let refused = podman.start("two", &["--network", "atoll", "--ip", requested]).err().context("it is taken")?;
    ensure!(format!("{refused:#}").contains(requested.as_str()), "{refused:#}");
    podman.remove(&["two"])?;

    let several = podman.start("several", &["--network", &format!("atoll:ip={first},ip={second}")])?;
    let _several = TcpServer::start(&several.netns, "several")?;
    for address in [first, second] {
        assert_eq!(answer(address.parse()?)?.as_deref(), Some("several"), "{address}");
    }

    // DEL and ADD for running containers: podman immediately requests their earlier addresses, also those that were not
    // requested.
    for (name, address) in [("one", one.address("atoll")?), ("peer", peer.address("atoll")?)] {
        podman.run(&["network", "reload", name])?;
        assert_eq!(podman.inspect(name)?.address("atoll")?, address, "{name} keeps its address");
    }
    assert_eq!(answer(requested.parse()?)?.as_deref(), Some("one"), "after the reload");
    podman.remove(&["one", "several", "peer"])?;
    drop(podman);
    node.finish()
}
