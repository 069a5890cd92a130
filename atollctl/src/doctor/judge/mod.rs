//! From what was seen to findings: what is well, what is not, what that means and how to mend it. Pure.

mod names;
mod node;
mod records;
mod servers;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::seen::{Problem, Seen};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works; an operator should act before long.
    Warn,
    /// Pods cannot be attached, or are attached wrongly.
    Fail,
    /// It could not be looked at, because of something that is told elsewhere.
    Skip,
}

impl Level {
    /// As people read it; the word alone tells, without a colour.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One thing that was looked at. The shape of its JSON is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which check: one word that does not change.
    pub(crate) check: &'static str,
    /// What was looked at: an endpoint, a file, an interface.
    pub(crate) object: String,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// What this is good for, and what happens without it.
    pub(crate) means: &'static str,
    /// What to do; none where nothing has to be done.
    pub(crate) hint: Option<String>,
}

/// One check, with what it means: the maker of its findings.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    means: &'static str,
}

#[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have: a text, a path, an id")]
impl Check {
    const fn new(name: &'static str, means: &'static str) -> Self {
        Self { name, means }
    }

    fn finding(self, level: Level, object: &dyn ToString, found: impl Into<String>) -> Finding {
        let Self { name: check, means } = self;
        Finding { check, object: object.to_string(), level, found: found.into(), means, hint: None }
    }

    fn ok(self, object: impl ToString, found: impl Into<String>) -> Finding {
        self.finding(Level::Ok, &object, found)
    }

    fn warn(self, object: impl ToString, found: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { hint: Some(hint.into()), ..self.finding(Level::Warn, &object, found) }
    }

    fn fail(self, object: impl ToString, found: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { hint: Some(hint.into()), ..self.finding(Level::Fail, &object, found) }
    }

    fn skip(self, object: impl ToString, why: impl Into<String>) -> Finding {
        self.finding(Level::Skip, &object, why)
    }

    /// `hint` is for a problem that brings none.
    fn problem(self, object: impl ToString, problem: &Problem, hint: &str) -> Finding {
        self.fail(object, problem.text.clone(), problem.hint.clone().unwrap_or_else(|| hint.to_owned()))
    }
}

/// Judges everything, in the order in which a pod needs it.
pub(crate) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = node::configuration(seen);
    if let Some(site) = &seen.site {
        findings.extend(node::machine(site));
        findings.extend(node::secrets(site));
        findings.extend(node::certificates(site, seen.now));
        findings.extend(servers::etcd(site));
        findings.extend(servers::controllers(site));
        findings.extend(servers::clocks(site));
        findings.extend(servers::host(site, seen));
        findings.extend(records::cluster(site));
    }
    findings.extend(seen.names.iter().flat_map(names::judge));
    findings.extend(node::addressing(seen));
    findings.extend(node::kernel(seen));
    findings.extend(node::plugins(seen));
    findings.extend(node::conflists(seen));
    findings.extend(node::runtimes(seen));
    if let (Some(site), Ok((_, config))) = (&seen.site, &seen.config) {
        findings.extend(records::claims(site, seen, config));
        findings.extend(records::interfaces(site));
        findings.extend(records::progress(site, config, seen.now));
        findings.extend(records::tombstones(site, seen.now));
    }
    findings
}

/// `12 s`, `5 min`, `3 h`, `2 days`: how long ago, or how long still.
fn time(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
