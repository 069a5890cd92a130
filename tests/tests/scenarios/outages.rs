//! DEL succeeds while etcd, the controller or both are down, and a later call completes the pending cleanup.

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::{leftovers, servers};
use serde_json::json;

/// The bound of a DEL during an outage, including process start and a busy machine.
const AT_MOST: Duration = Duration::from_secs(6);

fn tombstone_files(node: &LabNode) -> usize {
    std::fs::read_dir(node.state_dir().join("tombstones")).map_or(0, Iterator::count)
}

fn eth0_is_there(pod: &LabPod) -> Result<bool> {
    Ok(LabNode::links(&pod.netns)?.iter().any(|name| name == "eth0"))
}

#[test]
fn del_without_a_controller_leaves_a_tombstone_in_etcd() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let pod = LabPod::new("red", "pod")?;
    node.cni("1.0.0")?.add(&pod)?;
    node.kill_controller()?;

    let took = node.cni("1.0.0")?.del(&pod)?;
    assert!(took < AT_MOST, "DEL took {took:?}");
    assert!(!eth0_is_there(&pod)?, "the interface goes, whatever is down");
    assert_eq!(node.keys("tombstones/")?.len(), 1, "the pending cleanup is recorded");
    let claimed = node.keys("addresses/")?;
    assert!(claimed.iter().any(|(_, value)| value["state"] == "claimed"), "the address stays taken: {claimed:?}");
    node.cni("1.0.0")?.del(&pod)?;

    node.start_controller()?;
    node.finish_after_cleanup()
}

#[test]
fn del_without_etcd_leaves_a_tombstone_on_disk() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let pod = LabPod::new("red", "pod")?;
    node.cni("1.0.0")?.add(&pod)?;
    node.kill_etcd()?;

    let took = node.cni("1.0.0")?.del(&pod)?;
    assert!(took < AT_MOST, "DEL took {took:?}");
    assert!(!eth0_is_there(&pod)?);
    assert_eq!(tombstone_files(&node), 1);

    node.start_etcd()?;
    assert!(!leftovers::of_pods(&node)?.is_empty(), "the claim is not yet released");
    node.finish_after_cleanup()
}

#[test]
fn del_with_everything_down_and_the_namespace_gone() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let pods = (0..3).map(|n| LabPod::new("red", &format!("pod-{n}"))).collect::<Result<Vec<_>>>()?;
    for pod in &pods {
        node.cni("1.0.0")?.add(pod)?;
    }
    node.kill_etcd()?;
    node.kill_controller()?;
    for pod in pods {
        let call = node.cni("1.0.0")?.call("DEL", &pod);
        pod.netns.delete()?;
        let answer = call.run()?;
        answer.done()?;
        assert!(answer.took < AT_MOST, "DEL took {:?}", answer.took);
    }
    assert_eq!(tombstone_files(&node), 3);

    node.start_etcd()?;
    node.start_controller()?;
    node.finish_after_cleanup()
}

#[test]
fn packets_flow_on_while_the_controller_is_away_and_it_goes_on_where_it_was() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    let (one, other) = (LabPod::new("red", "one")?, LabPod::new("red", "other")?);
    node.cni("1.0.0")?.add(&one)?;
    let at = node.cni("1.0.0")?.add(&other)?;
    for gentle in [true, false] {
        if gentle {
            node.stop_controller()?;
        } else {
            node.kill_controller()?;
        }
        ensure!(ping(&one.netns, at.address.ip())?, "packets stopped with the controller");
        let refused = node.cni("1.0.0")?.call("ADD", &LabPod::new("red", "early")?).run()?;
        assert_eq!(refused.error_code()?, 11, "ADD without a controller: try again later");
        node.start_controller()?;
        ensure!(ping(&one.netns, at.address.ip())?, "packets stopped when the controller came back");
        let third = LabPod::new("red", "third")?;
        let there = node.cni("1.0.0")?.add(&third)?;
        ensure!(ping(&one.netns, there.address.ip())?, "a pod from before reaches one from after");
        node.cni("1.0.0")?.del(&third)?;
    }
    node.cni("1.0.0")?.del(&one)?;
    node.cni("1.0.0")?.del(&other)?;
    node.finish_after_cleanup()
}

/// An endpoint that drops all packets, first in the lists of etcd and of the controller: the plugin uses the working
/// one, even on a node that only deletes pods.
#[test]
fn an_endpoint_that_never_answers_is_skipped() -> Result<()> {
    let hole = "http://127.0.0.1:7777";
    let node = LabNode::start(json!({
        "etcd": { "endpoints": [hole, format!("http://{}", servers::ETCD)] },
        "controller": { "endpoints": [format!("{hole}{}", servers::API), format!("http://{}{}", servers::CONTROLLER, servers::API)] },
    }))?;
    let drop = "add table ip hole; add chain ip hole in { type filter hook input priority 0; }; \
                add rule ip hole in tcp dport 7777 drop";
    node.netns().run("nft", &[drop])?;
    let (one, other) = (LabPod::new("red", "one")?, LabPod::new("red", "other")?);
    node.cni("1.0.0")?.add(&one)?;
    node.cni("1.0.0")?.add(&other)?;
    // No cache has the working endpoint.
    for file in ["etcd-endpoint", "controller-endpoint"] {
        std::fs::remove_file(node.state_dir().join("cache").join(file))?;
    }
    let took = node.cni("1.0.0")?.del(&one)?;
    assert!(took < AT_MOST, "DEL took {took:?}");
    assert_eq!(tombstone_files(&node), 0, "etcd was found in time");
    // Its time was over before the controller's second endpoint was tried. The next call starts with that one.
    assert_eq!(node.keys("tombstones/")?.len(), 1);
    node.cni("1.0.0")?.del(&other)?;
    assert_eq!((tombstone_files(&node), node.keys("tombstones/")?.len()), (0, 0), "and settles what was left");
    node.finish()
}
