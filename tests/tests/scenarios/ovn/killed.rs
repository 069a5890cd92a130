//! ADD that is repeated, and ADD that is killed at many places.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use serde_json::json;

/// How many ADDs are killed, at places in equal distances.
const KILLS: u64 = 12;
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
