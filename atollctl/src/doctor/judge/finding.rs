//! Findings, and the checks that make them.

use serde::Serialize;

use super::super::seen::Problem;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works; an operator should act before long.
    Warn,
    /// Pods cannot be attached, or are attached wrongly.
    Fail,
    /// It could not be checked, because of a fault that another finding reports.
    Skip,
}

impl Level {
    /// The word for people; it needs no colour.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// The result of one check. The shape of its JSON is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DoctorFinding {
    /// Which check: one word that does not change.
    pub(crate) check: &'static str,
    /// What was checked: an endpoint, a file, an interface.
    pub(crate) object: String,
    /// The severity of a finding.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// The purpose of the checked object, and the effect of its absence.
    pub(crate) means: &'static str,
    /// What to do; none where nothing has to be done.
    pub(crate) hint: Option<String>,
}

/// One check with its meaning; creates its findings.
#[derive(Clone, Copy)]
pub(super) struct Check {
    name: &'static str,
    means: &'static str,
}

#[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have: a text, a path, an id")]
impl Check {
    pub(super) const fn new(name: &'static str, means: &'static str) -> Self {
        Self { name, means }
    }

    pub(super) fn finding(self, level: Level, object: &dyn ToString, found: impl Into<String>) -> DoctorFinding {
        let Self { name: check, means } = self;
        DoctorFinding { check, object: object.to_string(), level, found: found.into(), means, hint: None }
    }

    pub(super) fn ok(self, object: impl ToString, found: impl Into<String>) -> DoctorFinding {
        self.finding(Level::Ok, &object, found)
    }

    pub(super) fn warn(
        self,
        object: impl ToString,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> DoctorFinding {
        DoctorFinding { hint: Some(hint.into()), ..self.finding(Level::Warn, &object, found) }
    }

    pub(super) fn fail(
        self,
        object: impl ToString,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> DoctorFinding {
        DoctorFinding { hint: Some(hint.into()), ..self.finding(Level::Fail, &object, found) }
    }

    pub(super) fn skip(self, object: impl ToString, why: impl Into<String>) -> DoctorFinding {
        self.finding(Level::Skip, &object, why)
    }

    /// `hint` is used if the problem has none.
    pub(super) fn problem(self, object: impl ToString, problem: &Problem, hint: &str) -> DoctorFinding {
        self.fail(object, problem.text.clone(), problem.hint.clone().unwrap_or_else(|| hint.to_owned()))
    }
}

/// `12 s`, `5 min`, `3 h`, `2 days`: a duration for people.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
