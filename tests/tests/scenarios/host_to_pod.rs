//! A node reaches its own pods: by the pod's address if the cluster's addresses are unique, and always by a host-to-pod
//! address. A kubelet's probe does as well.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::json;

/// The source address that every pod sees.
const SOURCE: Ipv4Addr = Ipv4Addr::new(169, 254, 128, 1);

fn sides(node: &LabNode) -> Result<Vec<(Ipv4Addr, Ipv4Addr, bool)>> {
    let answer = node.controller_get("/mock/node-side")?;
    let sides = answer.as_object().context("an object")?.values();
    sides
        .map(|side| {
            let address = |key: &str| side[key].as_str().unwrap_or_default().parse::<Ipv4Addr>();
            Ok((address("address")?, address("pod")?, side["direct"] == true))
        })
        .collect()
}

#[test]
fn a_probe_of_the_node_reaches_each_pod() -> Result<()> {
    for (addressing, direct) in [("unique", true), ("overlapping", false)] {
        let mut node = LabNode::start(json!({ "cluster": { "addressing": addressing } }))?;
        let pods = ["red", "blue"].map(|tenant| LabPod::new(tenant, tenant));
        let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
        let added = pods.iter().map(|pod| node.cni("1.0.0")?.add(pod)).collect::<Result<Vec<_>>>()?;
        let _servers = pods.iter().map(|pod| TcpServer::start(&pod.netns, &pod.name)).collect::<Result<Vec<_>>>()?;
        let check = |node: &LabNode| {
            let sides = sides(node)?;
            ensure!(sides.len() == 2 && sides.iter().all(|side| side.2 == direct), "{addressing}: {sides:?}");
            let mut named = Vec::new();
            for (address, _, _) in &sides {
                let banner = ask(node.netns(), *address)?.with_context(|| format!("{addressing}: {address}"))?;
                ensure!(banner.seen_as == SOURCE, "{addressing}: the pod sees {}", banner.seen_as);
                named.push(banner.name);
            }
            named.sort();
            ensure!(named == ["blue", "red"], "{addressing}: {named:?}");
            for (pod, at) in pods.iter().zip(&added) {
                let answer = ask(node.netns(), at.address.ip())?.map(|banner| banner.name);
                let expected = direct.then(|| pod.name.clone());
                ensure!(answer == expected, "{addressing}: {} is answered by {answer:?}", at.address);
                ensure!(ping(node.netns(), at.address.ip())? == direct, "{addressing}: ping {}", at.address);
            }
            Ok(())
        };
        check(&node)?;
        let before = sides(&node)?;
        node.kill_controller()?;
        node.start_controller()?;
        assert_eq!(sides(&node)?, before, "{addressing}: a restart changes no address");
        check(&node)?;
        pods.iter().try_for_each(|pod| node.cni("1.0.0")?.del(pod).map(drop))?;
        assert!(sides(&node)?.is_empty());
        node.finish()?;
    }
    Ok(())
}

/// The commands in `docs/operations.md`.
fn documented() -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.join("docs/operations.md");
    let text = std::fs::read_to_string(page)?;
    let (_, below) = text.split_once("### A pod's address on its node\n").context("no such heading")?;
    let (_, block) = below.split_once("```console\n").context("no block of commands")?;
    let lines = block.split("```").next().unwrap_or_default().lines();
    Ok(lines.filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn an_operator_finds_the_address_of_a_pod_as_documented() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let pod = LabPod::new("red", "web-0")?;
    node.cni("1.0.0")?.add(&pod)?;
    let _server = TcpServer::start(&pod.netns, &pod.name)?;
    let config = node.scratch().path().join("operator.json");
    std::fs::write(&config, node.config().to_string())?;
    let program = format!("{} --config {}", programs::path("atollctl")?.display(), config.display());
    let commands = format!(
        "set -eo pipefail\natollctl() {{ {program} \"$@\"; }}\n{}",
        documented()?.replace("/run/atoll/mock.sock", &node.run_dir().join("mock.sock").display().to_string())
    );
    let address: Ipv4Addr = node.netns().run("bash", &["-c", &commands])?.trim().parse()?;
    let banner = ask(node.netns(), address)?.with_context(|| format!("no server answers at {address}"))?;
    assert_eq!((banner.name.as_str(), banner.seen_as), ("web-0", SOURCE));
    node.cni("1.0.0")?.del(&pod)?;
    node.finish()
}
