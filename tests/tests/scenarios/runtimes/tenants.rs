//! Pods through containerd: two tenants, and a pod whose network cannot be created.

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::json;

use super::containerd::Containerd;
use super::networks::Networks;

#[test]
fn pods_of_two_kubernetes_namespaces_reach_their_own_only() -> Result<()> {
    let node = LabNode::start(json!({ "cluster": { "podCidr": "10.128.0.0/16", "subnetPrefix": 29 } }))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    let run = |namespace: &str, name: &str| {
        client.run(&containerd.pod(namespace, name)).with_context(|| format!("run {namespace}/{name}"))
    };
    let pods = [run("red", "one")?, run("red", "two")?, run("blue", "one")?, run("blue", "two")?];
    let names = ["red-one", "red-two", "blue-one", "blue-two"];
    let _servers =
        pods.iter().zip(names).map(|(pod, name)| TcpServer::start(&pod.netns(), name)).collect::<Result<Vec<_>>>()?;
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        let netns = pods[from].netns();
        let address = pods[to].ip.parse()?;
        ensure!(ping(&netns, address)?, "{} pings {}", names[from], names[to]);
        let banner = ask(&netns, address)?.with_context(|| format!("{} asks {}", names[from], names[to]))?;
        assert_eq!(banner.name, names[to]);
    }
    // Concurrently: to verify that no packet arrives takes some time.
    std::thread::scope(|scope| {
        let across_tenants = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0), (3, 1)];
        let asking = across_tenants.map(|(from, to): (usize, usize)| {
            let (netns, address) = (pods[from].netns(), pods[to].ip.parse());
            (names[from], names[to], scope.spawn(move || ask(&netns, address?)))
        });
        for (from, to, answer) in asking {
            let answer = answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let tenant = |name: &str| name.split('-').next().map(str::to_owned);
            // The same address may be a pod of the same tenant.
            ensure!(answer.is_none_or(|banner| tenant(&banner.name) == tenant(from)), "{from} reached {to}");
        }
        Ok(())
    })?;
    for pod in &pods {
        client.end(&pod.id)?;
    }
    containerd.finish()?;
    node.finish()
}

#[test]
fn a_pod_whose_network_fails_does_not_run_and_leaves_nothing() -> Result<()> {
    let mut node = LabNode::start(json!({ "timeoutSeconds": 3 }))?;
    let containerd = Containerd::start(&node, &Networks::of(&node)?)?;
    let client = containerd.client()?;
    node.kill_controller()?;
    let refused = client.run(&containerd.pod("red", "early")).expect_err("there is no controller");
    ensure!(format!("{refused:#}").contains("controller"), "the runtime shows what is wrong: {refused:#}");
    node.start_controller()?;
    let pod = client.run(&containerd.pod("red", "later"))?;
    client.end(&pod.id)?;
    containerd.finish()?;
    node.finish()
}
