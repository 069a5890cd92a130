//! ADD that is repeated, and ADD that is killed at many places.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use serde_json::json;

use super::collect;

/// How many ADDs are killed, at places in equal distances.
const KILLS: u64 = 12;
/// How many ADDs of a new tenant are killed.
const COLD_KILLS: u64 = 40;
/// Limit for DELs, on a busy machine.
const DELS: Duration = Duration::from_secs(30);

#[test]
fn a_repeated_add_and_one_after_a_kill_connect_the_pod() -> Result<()> {
    let lab = OvnLab::start(2, &json!({}))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (here, there) = (first.cni()?, second.cni()?);
    let peer = LabPod::new("red", "peer")?;
    let peer_at = there.add(&peer)?;

    let pod = LabPod::new("red", "repeated")?;
    let at = here.add(&pod)?;
    let rows = first.plugged()?;
    for _ in 0..2 {
        let again = here.add(&pod)?;
        ensure!((again.address, &again.mac) == (at.address, &at.mac), "a repeated ADD: {again:?}, before: {at:?}");
        ensure!(ping(&pod.netns, peer_at.address.ip())?, "packets flow after a repeated ADD");
        ensure!(first.plugged()? == rows, "it replaces its rows: {:?}", first.plugged()?);
    }
    here.del(&pod)?;

    let pod = LabPod::new("red", "traced")?;
    let whole = here.call("ADD", &pod).count_stops()?;
    here.del(&pod)?;
    let mut killed = 0;
    for number in 0..KILLS {
        let stop = whole * number / KILLS;
        let pod = LabPod::new("red", &format!("killed-{number}"))?;
        killed += u64::from(here.call("ADD", &pod).kill_at(stop)?);
        let when = format!("killed at {stop} of {whole}");
        if number % 2 == 0 {
            let at = here.add(&pod).with_context(|| when.clone())?;
            ensure!(ping(&pod.netns, peer_at.address.ip())?, "{when}: {} does not reach its peer", at.address);
            ensure!(first.plugged()?.len() == 2 && lab.ports("")?.len() == 2, "{when}: {:?}", lab.leftovers()?);
        }
        // On a busy machine Northbound may answer too late for one DEL: the next one completes it.
        wait::until("DEL leaves nothing", DELS, || {
            here.del(&pod)?;
            ensure!(first.plugged()?.is_empty() && lab.ports("")?.len() == 1, "{:?}", lab.leftovers()?);
            Ok(())
        })
        .context(when)?;
    }
    println!("{killed} of {KILLS} ADDs were killed before their end, at most at {whole}");
    ensure!(killed >= KILLS / 2, "only {killed} ADDs were still running when they were killed: the places are wrong");
    there.del(&peer)?;
    lab.finish_after_cleanup()
}

/// Of a tenant that does not exist yet, at each stage of the tenant and of the pod.
#[test]
#[ignore = "long: a tenant is made for each place"]
fn the_first_add_of_a_tenant_that_is_killed_anywhere_is_completed_by_the_next_one() -> Result<()> {
    let lab = OvnLab::start(1, &json!({}))?;
    let [chassis] = lab.chassis.as_slice() else { unreachable!("there is one") };
    let cni = chassis.cni()?;
    let traced = LabPod::new("traced", "pod")?;
    let whole = cni.call("ADD", &traced).count_stops()?;
    cni.del(&traced)?;
    let mut killed = 0;
    for number in 0..COLD_KILLS {
        let stop = whole * number / COLD_KILLS;
        let tenant = format!("cold-{number}");
        let pod = LabPod::new(&tenant, "killed")?;
        killed += u64::from(cni.call("ADD", &pod).kill_at(stop)?);
        let when = format!("{tenant}: killed at {stop} of {whole}");
        // The same pod again, or another one after its DEL.
        let next = LabPod::new(&tenant, "next")?;
        let next = if number % 2 == 0 { &pod } else { &next };
        if number % 2 == 1 {
            cni.del(&pod).with_context(|| when.clone())?;
        }
        let at = cni.add(next).with_context(|| when.clone())?;
        ensure!(ping(&next.netns, at.gateway)?, "{when}: the next pod does not reach its gateway");
        ensure!(lab.ports("")?.len() == 1 && chassis.plugged()?.len() == 2, "{when}: {:?}", lab.leftovers()?);
        let plan = chassis.atollctl(&["tenant", "plan", &tenant]).with_context(|| when.clone())?;
        ensure!(plan.contains("nothing would change"), "{when}: the tenant is incomplete: {plan}");
        wait::until("DEL and GC leave nothing", DELS, || {
            cni.del(next)?;
            collect(chassis, [])?;
            lab.assert_nothing_left()
        })
        .context(when)?;
    }
    println!("{killed} of {COLD_KILLS} ADDs were killed before their end, at most at {whole}");
    ensure!(killed >= COLD_KILLS / 2, "only {killed} ADDs were still running when they were killed");
    lab.finish()
}
