//! Concurrency: the first pods of one tenant, and tenants that are created and deleted without remains.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::{Value, json};

const FIRST: usize = 64;
/// `ATOLL_TENANTS` overrides it; `./run-tests --long` sets 500.
const TENANTS: usize = 40;
/// The number of concurrent processes.
const AT_ONCE: usize = 64;

#[test]
fn sixty_four_first_pods_at_once_make_one_tenant_and_are_all_connected() -> Result<()> {
    let node = LabNode::start(json!({ "timeoutSeconds": 60 }))?;
    let cni = node.cni("1.0.0")?;
    let pods = (0..FIRST).map(|number| LabPod::new("red", &format!("pod-{number}"))).collect::<Result<Vec<_>>>()?;
    let attached = at_once(&pods, |pod| cni.add(pod))?;
    let addresses: BTreeSet<_> = attached.iter().map(|at| at.address.ip()).collect();
    assert_eq!(addresses.len(), FIRST, "an address twice: {attached:?}");
    for (pod, at) in pods.iter().zip(&attached) {
        assert!(ping(&pod.netns, at.gateway)?, "{} does not reach its gateway", pod.name);
        assert!(ping(&pod.netns, attached[0].address.ip())?, "{} does not reach the first", pod.name);
    }
    assert_eq!((node.keys("tenants/")?.len(), node.keys("transit/")?.len()), (1, 1));
    assert_eq!(node.keys("build-leases/")?, []);
    let orphans = node.controller_get("/mock/orphans")?;
    for (kind, found) in orphans.as_object().context("a report")? {
        let is_empty =
            found.as_array().is_some_and(Vec::is_empty) || found.as_object().is_some_and(serde_json::Map::is_empty);
        assert!(is_empty, "{kind}: {found}");
    }
    assert_eq!(node.atollctl(&["tenant", "plan", "red"])?, "Tenant red is as it should be: nothing would change.\n");
    at_once(&pods, |pod| cni.del(pod))?;
    node.finish()
}

/// All objects of the controller and keys of etcd, without release markers, which expire within a minute.
fn everything(node: &LabNode) -> Result<(Value, Vec<(String, Value)>)> {
    let mut keys = node.keys("")?;
    keys.retain(|(key, _)| !key.starts_with("released/"));
    Ok((node.controller_get("/mock/dump")?, keys))
}

#[test]
fn tenants_that_come_and_go_leave_nothing() -> Result<()> {
    let count = std::env::var("ATOLL_TENANTS").map_or(Ok(TENANTS), |count| count.parse())?;
    let node = LabNode::start_without_dataplane(json!({
        "cooldownSeconds": 0, "timeoutSeconds": 60, "cluster": { "addressing": "unique" }
    }))?;
    let cni = node.cni("1.0.0")?;
    let add_and_delete = |pods: &[LabPod]| -> Result<()> {
        at_once(pods, |pod| cni.add(pod))?;
        at_once(pods, |pod| cni.del(pod))?;
        // The first run records idle tenants, the second one finds the records.
        node.atollctl(&["tenant", "prune"])?;
        let printed = node.atollctl(&["tenant", "prune", "--days", "0", "--delete", "--yes"])?;
        assert_eq!(printed.lines().filter(|line| line.ends_with("is deleted.")).count(), pods.len(), "{printed}");
        Ok(())
    };
    // The first pod creates permanent records: those of cluster and node.
    add_and_delete(&[LabPod::new("first", "pod")?])?;
    let before = everything(&node)?;
    let pods = (0..count).map(|number| LabPod::new(&format!("tenant-{number}"), "pod")).collect::<Result<Vec<_>>>()?;
    add_and_delete(&pods)?;
    let after = everything(&node)?;
    assert_eq!(after.1, before.1, "etcd");
    assert_eq!(after.0, before.0, "the controller");
    node.finish()
}

fn at_once<T: Send>(pods: &[LabPod], work: impl Fn(&LabPod) -> Result<T> + Sync) -> Result<Vec<T>> {
    let batch = |pods: &[LabPod]| -> Vec<Result<T>> {
        std::thread::scope(|scope| {
            let running: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
            running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    };
    pods.chunks(AT_ONCE).flat_map(batch).collect()
}
