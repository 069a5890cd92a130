//! Daemons that die: packets flow on, and the gateway moves to another machine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::{TcpServer, ping};
use atoll_testkit::lab::wait;
use serde_json::json;

use super::ask_outside;

/// Limit for a call, on a busy machine.
const CALL: Duration = Duration::from_mins(1);

/// The names of the chassis that carry the uplinks: one, unless they are moving.
fn gateways(lab: &OvnLab) -> Result<Vec<String>> {
    let find = ["--bare", "--columns=chassis", "find", "Port_Binding", "type=chassisredirect"];
    let mut bound: Vec<_> = lab.ctl("ovn-sbctl", &find)?.split_whitespace().map(str::to_owned).collect();
    bound.sort();
    bound.dedup();
    bound
        .iter()
        .map(|row| Ok(lab.ctl("ovn-sbctl", &["--bare", "get", "Chassis", row, "name"])?.trim().replace('"', "")))
        .collect()
}

#[test]
fn the_gateway_moves_to_another_machine_when_its_own_dies() -> Result<()> {
    let mut lab = OvnLab::start(3, &json!({}))?;
    let pods = ["pod-1", "pod-2", "pod-3"].map(|name| LabPod::new("red", name));
    let [one, two, three] = pods;
    let pods = [one?, two?, three?];
    for (pod, chassis) in pods.iter().zip(&lab.chassis) {
        chassis.cni()?.add(pod)?;
    }
    let server = TcpServer::start(&lab.out, "outside")?;
    for pod in &pods {
        ask_outside(pod)?;
    }
    let before = gateways(&lab)?;
    let [gateway] = before.as_slice() else { anyhow::bail!("one machine carries all uplinks: {before:?}") };
    let place = lab.chassis.iter().position(|chassis| chassis.name == *gateway).context("it is one of them")?;
    for program in ["ovs-vswitchd", "ovn-controller"] {
        lab.chassis[place].take_daemon(program)?.kill()?;
    }
    for (_, pod) in pods.iter().enumerate().filter(|(number, _)| *number != place) {
        ask_outside(pod)?;
    }
    let after = gateways(&lab)?;
    ensure!(after.len() == 1 && after != before, "all uplinks have moved from {before:?} to {after:?}");
    drop(server);
    for (pod, chassis) in pods.iter().zip(&lab.chassis) {
        chassis.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}

#[test]
fn packets_flow_on_while_northd_and_a_controller_are_away_and_new_pods_get_ready_afterwards() -> Result<()> {
    let mut lab = OvnLab::start(2, &json!({}))?;
    let mut northd = lab.take_daemon("ovn-northd")?;
    let mut controller = lab.chassis[1].take_daemon("ovn-controller")?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (here, there) = (first.cni()?, second.cni()?);
    let (one, two) = (LabPod::new("red", "one")?, LabPod::new("red", "two")?);
    let (one_at, two_at) = (here.add(&one)?, there.add(&two)?);
    let flow = |when: &str| -> Result<()> {
        ensure!(ping(&one.netns, two_at.address.ip())?, "{when}: one does not reach two");
        ensure!(ping(&two.netns, one_at.address.ip())?, "{when}: two does not reach one");
        Ok(())
    };
    flow("before")?;
    for (daemon, name) in [(&mut northd, "ovn-northd"), (&mut controller, "ovn-controller")] {
        daemon.kill()?;
        flow(&format!("without {name}"))?;
        let pod = LabPod::new("red", "late")?;
        let rows = second.plugged()?.len();
        // The ADD waits for the daemon.
        let at = std::thread::scope(|scope| {
            let adding = scope.spawn(|| there.add(&pod));
            let waiting = wait::until("the ADD has connected the pod", CALL, || {
                ensure!(second.plugged()?.len() > rows || adding.is_finished(), "it has not");
                Ok(())
            });
            let early = adding.is_finished();
            daemon.restart()?;
            waiting?;
            ensure!(!early, "the ADD did not wait: {:?}", adding.join());
            adding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .with_context(|| format!("ADD while {name} starts"))?;
        ensure!(ping(&one.netns, at.address.ip())?, "{name} is back: one does not reach the new pod");
        flow(&format!("{name} is back"))?;
        there.del(&pod)?;
    }
    here.del(&one)?;
    there.del(&two)?;
    lab.finish_after_cleanup()
}
