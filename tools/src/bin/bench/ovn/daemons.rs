//! The CPU time of OVN's daemons, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::ovn::OvnLab;

/// Milliseconds of CPU time, by daemon.
pub(crate) type CpuTimes = BTreeMap<String, f64>;

/// What `work` costs each daemon until every machine has its result. Waiting for that costs something itself, which is measured
/// before and left out.
pub(crate) fn cost(lab: &OvnLab, work: impl FnOnce() -> Result<()>) -> Result<CpuTimes> {
    lab.synchronize()?;
    let before = now(lab)?;
    lab.synchronize()?;
    let begin = now(lab)?;
    work()?;
    lab.synchronize()?;
    let end = now(lab)?;
    Ok(end.iter().map(|(name, end)| (name.clone(), end - 2.0 * begin[name] + before[name])).collect())
}

fn now(lab: &OvnLab) -> Result<CpuTimes> {
    lab.processes().into_iter().map(|(name, pid)| Ok((name, milliseconds(pid)?))).collect()
}

/// Of all threads of a process.
fn milliseconds(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))? {
        let file = task?.path().join("schedstat");
        // A thread that has ended meanwhile has taken its time with it.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse().with_context(|| text.clone())?;
        sum += nanoseconds / 1e6;
    }
    Ok(sum)
}
