//! Pods of one tenant on two machines, each with a containerd of its own, over OVN.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::programs;
use atoll_testkit::lab::reach::{TcpServer, ask};
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use atoll_testkit::lab::wait;
use serde_json::json;

use super::containerd::Containerd;
use super::cri::Running;
use super::networks::{Networks, entry};

/// Limit for OVN to forward for a new pod, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A containerd on this machine, with its files.
fn containerd_on(machine: &OvnMachine) -> Result<(Scratch, Containerd)> {
    let scratch = Scratch::new(&unique_name())?;
    let mut networks = Networks::new(&scratch, &programs::path("atoll")?)?;
    networks.add("atoll", &[entry(machine.config(), json!({}))?])?;
    let containerd = Containerd::start_in(&machine.netns, &scratch, &networks)?;
    Ok((scratch, containerd))
}

fn reaches(from: &Running, to: &Running, name: &str) -> Result<()> {
    wait::until("packets flow", SOON, || {
        let banner = ask(&from.netns(), to.ip.parse()?)?.with_context(|| format!("no answer of {name}"))?;
        ensure!(banner.name == name, "{} answers instead of {name}", banner.name);
        Ok(())
    })
}

#[test]
fn pods_of_two_machines_reach_each_other_and_outlive_their_runtimes() -> Result<()> {
    let lab = OvnLab::start(2, &json!({}))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let ((here, mut containerd), (there, other)) = (containerd_on(first)?, containerd_on(second)?);
    let (client, far) = (containerd.client()?, other.client()?);
    let one = client.run(&containerd.pod("red", "one"))?;
    let two = far.run(&other.pod("red", "two"))?;
    let blue = far.run(&other.pod("blue", "blue"))?;
    let servers = [TcpServer::start(&one.netns(), "one")?, TcpServer::start(&two.netns(), "two")?];
    reaches(&one, &two, "two")?;
    reaches(&two, &one, "one")?;
    let stranger = ask(&blue.netns(), one.ip.parse()?)?;
    ensure!(stranger.as_ref().is_none_or(|banner| banner.name != "one"), "another tenant reaches it: {stranger:?}");

    drop(client);
    containerd.kill()?;
    reaches(&two, &one, "one").context("without its runtime")?;
    containerd.begin()?;
    let client = containerd.client()?;
    let three = client.run(&containerd.pod("red", "three")).context("a pod of the runtime that was started again")?;
    reaches(&three, &two, "two")?;
    drop(servers);
    for (client, pods) in [(&client, vec![&one, &three]), (&far, vec![&two, &blue])] {
        for pod in pods {
            client.end(&pod.id)?;
        }
    }
    drop((client, far));
    containerd.finish()?;
    other.finish()?;
    lab.finish_after_cleanup()?;
    for scratch in [here, there] {
        scratch.passed();
    }
    Ok(())
}
