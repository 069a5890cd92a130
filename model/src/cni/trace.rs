//! The trace that a call belongs to: W3C Trace Context, `TRACEPARENT`. Newer runtimes pass it in the environment.
//!
//! # Guarantees
//! A value that does not follow the format is ignored. The trace is written to the log, and a pod's annotations must
//! not be able to write arbitrary text there.

use std::fmt;

/// The id of a trace: 32 lower-case hexadecimal digits, not all of them zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(String);

impl TraceId {
    /// Reads `version-trace-parent-flags` (W3C Trace Context, section 3.2). A later version may have more after these.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let mut parts = text.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = match version {
            "00" => parts.next().is_none(),
            "ff" => false,
            later => hex(later, 2),
        };
        let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
        let fine = known && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && !is_zero(trace) && !is_zero(parent);
        fine.then(|| Self(trace.to_owned()))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_format_is_a_trace() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for good in [format!("00-{trace}-{parent}-01"), format!("01-{trace}-{parent}-00-more")] {
            assert_eq!(TraceId::from_traceparent(&good).map(|id| id.to_string()).as_deref(), Some(trace), "{good}");
        }
        for bad in [
            String::new(),
            "\n".to_owned(),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{trace}-{parent}-01-more"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}x-{parent}-01"),
            format!("00-{}ä-{parent}-01", "0".repeat(30)),
            format!("0-{trace}-{parent}-01"),
        ] {
            assert_eq!(TraceId::from_traceparent(&bad), None, "{bad}");
        }
    }
}
