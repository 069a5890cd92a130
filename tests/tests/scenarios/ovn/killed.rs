//! ADD that is repeated, and ADD that is killed at random moments.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use atoll_testkit::mutate::Mutator;
use serde_json::json;

/// How many ADDs are killed.
const KILLS: usize = 12;
/// Limit for DELs, on a busy machine.
const DELS: Duration = Duration::from_secs(30);
/// The first seed, a constant of this test. `AT_SEED` has another one.
const SEED: u64 = 15;

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

    let mut random = Mutator::seeded(SEED);
    let within = usize::try_from(at.took.as_micros())? * 5 / 4;
    let mut running = 0;
    for number in 0..KILLS {
        let delay = Duration::from_micros(u64::try_from(random.below(within))?);
        let pod = LabPod::new("red", &format!("killed-{number}"))?;
        running += u32::from(here.call("ADD", &pod).kill_after(delay)?);
        let when = format!("killed after {delay:?} of {:?}", at.took);
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
    println!("{running} of {KILLS} ADDs were killed before their end");
    ensure!(running > 0, "no ADD was still running when it was killed");
    there.del(&peer)?;
    lab.finish_after_cleanup()
}
