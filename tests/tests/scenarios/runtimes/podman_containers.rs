//! Containers through podman.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::{Value, json};

use super::networks::Networks;
use super::podman::Podman;
use super::side_by_side;

/// Podman passes no Kubernetes namespace.
fn settings() -> Value {
    json!({ "tenant": { "default": "laptop" } })
}

#[test]
fn containers_share_the_default_tenant() -> Result<()> {
    let node = LabNode::start(settings())?;
    let podman = Podman::new(&node, &Networks::of(&node)?)?;
    let (one, two) = (podman.start("one", &[])?, podman.start("two", &[])?);
    let (one_address, two_address) = (one.address("atoll")?, two.address("atoll")?);
    let _server = TcpServer::start(&one.netns, "one")?;
    ensure!(ping(&one.netns, two_address)? && ping(&two.netns, one_address)?, "two containers of one tenant");
    assert_eq!(ask(&two.netns, one_address)?.context("an answer")?.name, "one");
    let tenants: Vec<String> = node.keys("tenants/")?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(tenants, ["tenants/laptop"]);

    // The namespace of a running container survives DEL: the interface must be deleted, and can be added again.
    podman.run(&["network", "disconnect", "atoll", "two"])?;
    ensure!(!LabNode::links(&two.netns)?.iter().any(|name| name == "eth0"), "the interface is still there");
    podman.run(&["network", "connect", "atoll", "two"])?;
    ensure!(ping(&two.netns, one_address)?, "connected again");

    podman.remove(&["one", "two"])?;
    drop(podman);
    node.finish()
}

#[test]
fn a_container_is_removed_while_the_controller_is_down() -> Result<()> {
    let mut node = LabNode::start(settings())?;
    let podman = Podman::new(&node, &Networks::of(&node)?)?;
    podman.start("one", &[])?;
    node.kill_controller()?;
    podman.remove(&["one"])?;
    assert_eq!(podman.run(&["ps", "--all", "--quiet"])?, "", "podman is done with it");
    assert_eq!(node.keys("claims/")?.len(), 1, "its address stays taken");
    node.start_controller()?;
    // Two unrelated calls complete the pending cleanup.
    podman.start("later", &[])?;
    podman.remove(&["later"])?;
    drop(podman);
    node.finish()
}

#[test]
fn a_container_whose_network_fails_does_not_run_and_leaves_nothing() -> Result<()> {
    let mut node = LabNode::start(json!({ "tenant": { "default": "laptop" }, "timeoutSeconds": 3 }))?;
    let podman = Podman::new(&node, &Networks::of(&node)?)?;
    node.kill_controller()?;
    let refused = podman.start("early", &[]).err().context("there is no controller")?;
    ensure!(format!("{refused:#}").contains("controller"), "podman shows what is wrong: {refused:#}");
    node.start_controller()?;
    podman.remove(&["early"])?;
    podman.start("later", &[])?;
    podman.remove(&["later"])?;
    drop(podman);
    node.finish()
}

#[test]
fn containers_at_once() -> Result<()> {
    let node = LabNode::start(settings())?;
    let podman = Podman::new(&node, &Networks::of(&node)?)?;
    let name = |number: usize| format!("container-{number}");
    let addresses = side_by_side(8, |number| podman.start(&name(number), &[])?.address("atoll"))?;
    let different: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(different.len(), addresses.len(), "no address twice: {addresses:?}");
    side_by_side(8, |number| podman.remove(&[&name(number)]))?;
    drop(podman);
    node.finish()
}
