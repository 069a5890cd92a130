//! A live node is evicted: its pods lose the network, no others do, and the node registers again by itself.

use anyhow::Result;
use atoll_testkit::lab::node::{LabNode, PREFIX};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::servers;
use serde_json::{Value, json};

#[test]
fn an_evicted_nodes_pods_lose_the_network_and_the_node_comes_back() -> Result<()> {
    let node = LabNode::start(json!({ "timeoutSeconds": 5 }))?;
    let first = node.cni("1.0.0")?;
    // Another node, according to the records.
    let mut second = node.cni("1.0.0")?;
    second.config["nodeName"] = json!("node-2");
    second.config["stateDir"] = json!(node.scratch().path().join("state-2"));
    // A second name for one host is refused: this record imitates an older version without that check.
    let record = json!({ "v": 1, "host_id": node.host_id(), "machine_id": "", "epoch": 0 }).to_string();
    let endpoints = format!("--endpoints={}", servers::ETCD);
    for name in ["node-1", "node-2"] {
        node.netns().run("etcdctl", &[&endpoints, "put", &format!("{PREFIX}/v2/nodes/{name}"), &record])?;
    }

    let (lost, kept) = (LabPod::new("red", "lost")?, LabPod::new("red", "kept")?);
    let (here, there) = (first.add(&lost)?, second.add(&kept)?);
    assert!(ping(&lost.netns, there.address.ip())?);

    let refused = node.atollctl(&["attachment", "evict-node", "node-1"]).expect_err("its host is alive");
    assert!(format!("{refused:#}").contains("alive"), "{refused:#}");
    let plan: Value =
        serde_json::from_str(&node.atollctl(&["attachment", "evict-node", "node-1", "--dry-run", "-o", "json"])?)?;
    assert_eq!(
        (&plan["would"], &plan["hostAlive"], &plan["pods"][0]["pod"]),
        (&json!("refuse"), &json!(true), &json!("lost"))
    );
    assert!(ping(&lost.netns, there.address.ip())?, "nothing was touched");

    let printed = node.atollctl(&["attachment", "evict-node", "node-1", "--force", "--yes"])?;
    assert!(printed.contains("1 pod lost network and addresses") && printed.contains("red/lost"), "{printed}");
    assert!(!ping(&lost.netns, there.gateway)?, "its port is gone");
    assert!(ping(&kept.netns, there.gateway)?, "the pod of the other node is not touched");
    assert_eq!(node.keys("claims/node-1/")?, []);

    // The node has returned: it removes only its own attachments, and new ones work.
    let before = node.keys("addresses/")?;
    first.del(&lost)?;
    assert_eq!(node.keys("addresses/")?, before, "it frees no address of another node");
    assert!(ping(&kept.netns, there.gateway)?);
    let again = LabPod::new("red", "again")?;
    let at = first.add(&again)?;
    assert_ne!(at.address.ip(), there.address.ip());
    assert_ne!(at.address.ip(), here.address.ip(), "that one still cools");
    assert!(ping(&again.netns, there.address.ip())?);
    first.del(&again)?;
    second.del(&kept)?;
    node.finish()
}
