//! Pods are added and deleted while the runtime, the controller or etcd restart: no call takes long, no traffic is
//! lost, and nothing is left.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::json;

use super::containerd::Containerd;
use super::cri::Running;
use super::networks::Networks;
use super::side_by_side;

fn reaches(from: &Running, to: &Running, name: &str) -> Result<()> {
    let banner = ask(&from.netns(), to.ip.parse()?)?.with_context(|| format!("no answer of {name}"))?;
    ensure!(banner.name == name, "{} answers instead of {name}", banner.name);
    Ok(())
}

#[test]
fn a_killed_runtime_interrupts_no_traffic() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let mut containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let (one, two) = (client.run(&containerd.pod("red", "one"))?, client.run(&containerd.pod("red", "two"))?);
    let _server = TcpServer::start(&one.netns(), "one")?;
    reaches(&two, &one, "one")?;
    drop(client);

    containerd.kill()?;
    reaches(&two, &one, "one").context("without the runtime")?;
    containerd.begin()?;
    let client = containerd.client()?;
    reaches(&two, &one, "one").context("with the runtime again")?;
    assert_eq!(client.status(&one.id)?.network.context("a network")?.ip, one.ip, "the runtime knows its pods");

    // Old and new pods reach each other, and are deleted alike.
    let three = client.run(&containerd.pod("red", "three"))?;
    reaches(&three, &one, "one").context("a new pod")?;
    for pod in [&one, &two, &three] {
        client.end(&pod.id)?;
    }
    containerd.finish()?;
    node.finish()
}

#[test]
fn stopping_and_removing_twice_is_as_once() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let (one, two) = (client.run(&containerd.pod("red", "one"))?, client.run(&containerd.pod("red", "two"))?);
    client.stop(&one.id)?;
    client.stop(&one.id).context("stop again")?;
    ensure!(client.status(&one.id)?.state == 1, "not ready any more");
    assert_eq!(node.keys("claims/")?.len(), 1, "the other pod's");
    client.remove(&one.id)?;
    client.remove(&one.id).context("remove again")?;
    ensure!(ping(&two.netns(), gateway_of(&two)?)?, "the other pod was not touched");
    client.end(&two.id)?;
    containerd.finish()?;
    node.finish()
}

fn gateway_of(pod: &Running) -> Result<std::net::Ipv4Addr> {
    let routes = pod.netns().run("ip", &["route", "show", "default"])?;
    let gateway = routes.split_whitespace().nth(2).with_context(|| format!("no default route: {routes}"))?;
    Ok(gateway.parse()?)
}

/// A pod stuck in Terminating is a page at night: during an outage cleanup becomes pending, and the next call completes
/// it.
#[test]
fn pods_end_while_controller_or_etcd_are_down() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let run = |name: &str| client.run(&containerd.pod("red", name));
    let (one, two, three, four) = (run("one")?, run("two")?, run("three")?, run("four")?);
    let end = |pod: &Running, what: &str| client.end(&pod.id).with_context(|| format!("end a pod {what}"));

    node.kill_controller()?;
    end(&one, "without a controller")?;
    ensure!(!node.keys("claims/")?.iter().all(|(_, claim)| claim["pod"] != "one"), "its address stays taken");
    node.kill_etcd()?;
    end(&two, "without a controller and etcd")?;
    node.start_controller()?;
    end(&three, "without etcd")?;
    node.start_etcd()?;
    ensure!(client.list()? == [four.id.clone()], "the runtime is done with them");

    // Two unrelated calls: each completes at most four pending cleanups.
    end(&four, "after the outage")?;
    let later = run("later")?;
    end(&later, "after all")?;
    containerd.finish()?;
    node.finish()
}

/// As the kubelet does if a sandbox died: the new one of the same pod is created before the old one is removed.
#[test]
fn the_next_sandbox_of_a_pod_comes_before_the_old_one_goes() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let config = containerd.pod("red", "one");
    let (old, other) = (client.run(&config)?, client.run(&containerd.pod("red", "two"))?);
    let mut next = config.clone();
    next.metadata.as_mut().context("metadata")?.attempt = 1;
    let new = client.run(&next)?;
    assert_ne!(old.ip, new.ip, "the old one may still speak");
    let _server = TcpServer::start(&new.netns(), "new")?;
    client.stop(&old.id)?;
    client.remove(&old.id)?;
    reaches(&other, &new, "new")?;
    client.end(&new.id)?;
    client.end(&other.id)?;
    containerd.finish()?;
    node.finish()
}

#[test]
fn twenty_pods_at_once() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let pods = side_by_side(20, |number| {
        let tenant = ["red", "blue"][number % 2];
        let pod = containerd.client()?.run(&containerd.pod(tenant, &format!("pod-{number}")))?;
        Ok((tenant, pod))
    })?;
    let addresses: BTreeSet<(&str, &str)> = pods.iter().map(|(tenant, pod)| (*tenant, pod.ip.as_str())).collect();
    assert_eq!(addresses.len(), pods.len(), "no address twice in a tenant: {addresses:?}");
    // The first pod of each tenant against all others.
    let _servers =
        pods[..2].iter().map(|(name, pod)| TcpServer::start(&pod.netns(), name)).collect::<Result<Vec<_>>>()?;
    side_by_side(18, |number| reaches(&pods[number + 2].1, &pods[number % 2].1, pods[number % 2].0))?;
    side_by_side(20, |number| containerd.client()?.end(&pods[number].1.id))?;
    containerd.finish()?;
    node.finish()
}
