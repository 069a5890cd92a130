//! Tests the harness against a network that was made by hand: the checks of the scenarios must detect what exists, and
//! only that.

use std::net::Ipv4Addr;

use anyhow::Result;
use atoll_testkit::lab::daemon::Lifetime;
use atoll_testkit::lab::netns::{LabNetns, run};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use atoll_testkit::lab::{http, servers};
use serde_json::json;

const LEFT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

fn pair() -> Result<(LabNetns, LabNetns)> {
    let (left, right) = (LabNetns::new()?, LabNetns::new()?);
    let right_path = right.path().display().to_string();
    left.run("ip", &["link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", &right_path])?;
    for (netns, address) in [(&left, LEFT), (&right, RIGHT)] {
        netns.run("ip", &["address", "add", &format!("{address}/24"), "dev", "v0"])?;
        netns.run("ip", &["link", "set", "v0", "up"])?;
    }
    Ok((left, right))
}

#[test]
fn answers_are_seen_and_silence_is_too() -> Result<()> {
    let (left, right) = pair()?;
    assert!(ping(&left, RIGHT)?);
    assert!(!ping(&left, Ipv4Addr::new(10, 9, 0, 3))?, "no host has this address");
    assert_eq!(ask(&left, RIGHT)?, None, "no server listens");
    let server = TcpServer::start(&right, "right")?;
    let banner = ask(&left, RIGHT)?.expect("the server answers");
    assert_eq!((banner.name.as_str(), banner.seen_as), ("right", LEFT));
    drop(server);
    assert_eq!(ask(&left, RIGHT)?, None, "the server has ended");
    Ok(())
}

#[test]
fn etcd_keeps_its_data_over_a_kill() -> Result<()> {
    let (netns, scratch) = (LabNetns::new()?, Scratch::new(&unique_name())?);
    let start = || servers::etcd(&netns, Lifetime::Scoped, &scratch.path().join("etcd"), &scratch.path().join("log"));
    let etcdctl = |args: &[&str]| netns.run("etcdctl", args);
    let etcd = start()?;
    etcdctl(&["put", "/k", "v"])?;
    etcd.end(nix::sys::signal::Signal::SIGKILL)?;
    assert!(netns.within(|| http::get(servers::ETCD, "/health")).is_err(), "it is dead");
    let _etcd = start()?;
    assert_eq!(etcdctl(&["get", "/k", "--print-value-only"])?.trim(), "v");
    scratch.passed();
    Ok(())
}

#[test]
fn a_dropped_namespace_is_gone() -> Result<()> {
    let path = LabNetns::new()?.path().to_owned();
    assert!(!path.exists(), "{} is still there", path.display());
    assert!(run("ip", &["netns", "exec", "at-missing", "true"]).is_err(), "a failing command is an error");
    Ok(())
}

#[test]
fn a_node_has_its_servers_and_the_external_network() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    assert!(node.keys("")?.is_empty(), "no call was made");
    assert!(node.controller_get("/mock/dump")?["routers"].is_object());
    assert!(
        ping(&node.external_network(), Ipv4Addr::new(203, 0, 113, 2))?,
        "the external network reaches the provider router"
    );
    node.kill_controller()?;
    assert!(node.controller_get("/mock/dump").is_err(), "it is dead");
    node.start_controller()?;
    node.finish()
}
