//! Containers through podman.

use anyhow::{Context as _, Result, ensure};
use atoll_tests::node::Node;
use atoll_tests::reach::{Server, ask, ping};
use serde_json::json;

use crate::networks::Networks;
use crate::podman::Podman;

#[test]
fn containers_share_the_default_tenant() -> Result<()> {
    let node = Node::start(json!({ "tenant": { "default": "laptop" } }))?;
    let podman = Podman::new(&node, &Networks::of(&node)?)?;
    let (one, two) = (podman.start("one", &[])?, podman.start("two", &[])?);
    let (one_address, two_address) = (one.address("atoll")?, two.address("atoll")?);
    let _server = Server::start(&one.netns, "one")?;
    ensure!(ping(&one.netns, two_address)? && ping(&two.netns, one_address)?, "two containers of one tenant");
    assert_eq!(ask(&two.netns, one_address)?.context("an answer")?.name, "one");
    let tenants: Vec<String> = node.keys("tenants/")?.into_iter().map(|(key, _)| key).collect();
    assert_eq!(tenants, ["tenants/laptop"]);

    // The namespace of a running container survives DEL: the interface has to go, and can come back.
    podman.run(&["network", "disconnect", "atoll", "two"])?;
    ensure!(!Node::links(&two.netns)?.iter().any(|name| name == "eth0"), "the interface is still there");
    podman.run(&["network", "connect", "atoll", "two"])?;
    ensure!(ping(&two.netns, one_address)?, "connected again");

    podman.remove(&["one", "two"])?;
    drop(podman);
    node.finish()
}
