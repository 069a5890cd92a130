//! The throughput of the data plane: runs the example `throughput` of that crate and reads its output.

use anyhow::{Context as _, Result};
use atoll_testkit::lab::{netns, programs};

use crate::progress::step;
use crate::report::{Report, ReportLine, SpeedTarget};
use crate::spread::Spread;

/// How long each of its measurements lasts.
const SECONDS: &str = "1";

/// Adds its findings to the report.
pub(crate) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    step(&format!("TCP: {rounds} rounds"));
    let program = programs::path("examples/throughput")?;
    let printed = netns::run(&program.display().to_string(), &[&rounds.to_string(), SECONDS])?;
    let base = line(&printed, "plain bridge with conntrack", rounds)?;
    for (name, what, target) in [
        ("same tenant", "TCP pod to pod, beside a bridge with conntrack", SpeedTarget::RatioAtLeast(0.8)),
        ("to the external network, two routers", "TCP to the external network, beside the same", SpeedTarget::None),
    ] {
        report.find(ReportLine::new(what, "Gbit/s", target, line(&printed, name, rounds)?, Some(base)));
    }
    Ok(())
}

/// `<name>  <median> Gbit/s (from <lowest> to <highest>) ...`: the extremes stand for the tenths, which it does not print.
fn line(printed: &str, name: &str, samples: usize) -> Result<Spread> {
    let line = printed.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("no line {name:?} in {printed:?}"))?;
    let mut numbers = line.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|word| word.parse::<f64>().ok());
    let mut number = || numbers.next().with_context(|| format!("a number is missing: {line}"));
    Ok(Spread { median: number()?, p10: number()?, p90: number()?, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_example_prints() {
        let printed = "plain bridge with conntrack     12.30 Gbit/s (from 11.00 to 13.50)  1.00x\n";
        let spread = line(printed, "plain bridge with conntrack", 10).expect("readable");
        assert_eq!((spread.median, spread.p10, spread.p90), (12.30, 11.0, 13.5));
        assert!(line(printed, "same tenant", 10).is_err());
    }
}
