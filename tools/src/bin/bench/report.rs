//! The findings beside their bounds: a table for people, JSON for programs. Pure, except that it reads the machine's load.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::json;

use crate::spread::Spread;

/// The target of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SpeedTarget {
    /// The median, at most.
    AtMost(f64),
    /// The median divided by that of what it is compared with, at most.
    RatioAtMost(f64),
    /// The same, at least.
    RatioAtLeast(f64),
    /// There is none: the measurement is only reported.
    #[serde(rename = "nothing")]
    None,
}

/// One measurement, with its target.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReportLine {
    what: String,
    unit: &'static str,
    #[serde(rename = "promise")]
    target: SpeedTarget,
    measured: Spread,
    /// What it is compared with.
    beside: Option<Spread>,
    ratio: Option<f64>,
    met: Option<bool>,
}

impl ReportLine {
    /// A finding, with its verdict.
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        target: SpeedTarget,
        measured: Spread,
        beside: Option<Spread>,
    ) -> Self {
        let ratio = beside.map(|beside| measured.median / beside.median);
        let met = match target {
            SpeedTarget::AtMost(limit) => Some(measured.median <= limit),
            SpeedTarget::RatioAtMost(limit) => ratio.map(|ratio| ratio <= limit),
            SpeedTarget::RatioAtLeast(limit) => ratio.map(|ratio| ratio >= limit),
            SpeedTarget::None => None,
        };
        Self { what: what.into(), unit, target, measured, beside, ratio, met }
    }
}

/// The whole report.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    findings: Vec<ReportLine>,
    /// Duplicates, leaks and failures, one line each.
    wrong: Vec<String>,
    /// The version of the engine's programs, if they are not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    processors: usize,
    /// The load average over one minute, at the beginning and at the end.
    load: Vec<String>,
}

impl Report {
    /// An empty one.
    pub(crate) fn begin() -> Self {
        let processors = std::thread::available_parallelism().map_or(0, Into::into);
        Self { processors, load: vec![load()], ..Self::default() }
    }

    /// Records the version of the engine's programs.
    pub(crate) fn engine(&mut self, version: String) {
        self.engine = Some(version);
    }

    /// Records the machine's load.
    pub(crate) fn end(&mut self) {
        self.load.push(load());
    }

    /// Adds a finding.
    pub(crate) fn find(&mut self, finding: ReportLine) {
        self.findings.push(finding);
    }

    /// Adds a fault.
    pub(crate) fn wrong(&mut self, what: impl IntoIterator<Item = String>) {
        self.wrong.extend(what);
    }

    /// Whether there is no fault.
    pub(crate) fn sound(&self) -> bool {
        self.wrong.is_empty()
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        format!("{:#}\n", json!(self))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "TARGET", "MEASURED (10 % .. 90 %)", "BESIDE", "RATIO", ""]);
        for finding in &self.findings {
            table.add_row([
                finding.what.clone(),
                target(finding),
                number(finding.measured, finding.unit),
                finding.beside.map(|beside| number(beside, finding.unit)).unwrap_or_default(),
                finding.ratio.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default(),
                match finding.met {
                    Some(true) => "met",
                    Some(false) => "NOT met",
                    None => "",
                }
                .to_owned(),
            ]);
        }
        let mut text = format!("{}\n\n", table.trim_fmt());
        for wrong in &self.wrong {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "WRONG: {wrong}");
        }
        if let Some(engine) = &self.engine {
            let _ = writeln!(text, "{engine}");
        }
        let load = self.load.join(" at the beginning, ");
        let _ = writeln!(text, "{} processors; load {load} at the end, this run included.", self.processors);
        text
    }
}

fn target(finding: &ReportLine) -> String {
    match finding.target {
        SpeedTarget::AtMost(limit) => format!("<= {limit} {}", finding.unit).trim_end().to_owned(),
        SpeedTarget::RatioAtMost(limit) => format!("<= {limit}x"),
        SpeedTarget::RatioAtLeast(limit) => format!(">= {limit}x"),
        SpeedTarget::None => String::new(),
    }
}

fn number(spread: Spread, unit: &str) -> String {
    let Spread { median, p10, p90, samples } = spread;
    let middle = format!("{median:.2} {unit}");
    if samples == 1 { middle.trim_end().to_owned() } else { format!("{} ({p10:.2} .. {p90:.2})", middle.trim_end()) }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_the_target() {
        let met = |target, measured, beside| {
            let beside = Some(Spread::exactly(beside));
            ReportLine::new("it", "ms", target, Spread::exactly(measured), beside).met
        };
        assert_eq!(met(SpeedTarget::AtMost(1.0), 1.0, 9.0), Some(true));
        assert_eq!(met(SpeedTarget::AtMost(1.0), 1.1, 9.0), Some(false));
        assert_eq!(met(SpeedTarget::RatioAtMost(0.5), 4.0, 8.0), Some(true));
        assert_eq!(met(SpeedTarget::RatioAtMost(0.5), 4.1, 8.0), Some(false));
        assert_eq!(met(SpeedTarget::RatioAtLeast(0.5), 4.0, 8.0), Some(true));
        assert_eq!(met(SpeedTarget::RatioAtLeast(0.5), 3.9, 8.0), Some(false));
        assert_eq!(met(SpeedTarget::None, 3.9, 8.0), None);
    }
}
