//! Fault injection: which of the next requests fail, and how. Pure: [`crate::delivery`] applies the faults.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::routing;

/// The most faults that wait at once.
const KEPT: usize = 1000;
/// The most text that they have together, in bytes.
const TEXT: usize = 4 << 20;

/// A fault of certain requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestFault {
    /// The method of the requests; absent means every method.
    #[serde(default)]
    pub method: Option<String>,
    /// The path of the requests, below the base; `*` stands for one segment, a last `**` for any rest.
    #[serde(default = "anything")]
    pub path: String,
    /// How many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// How many requests it applies to; 0 means all.
    #[serde(default = "one")]
    pub times: u64,
    /// What happens to them. `harm` is the earlier name of this key.
    #[serde(alias = "harm")]
    pub fault: FaultKind,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// It is delayed before anything else happens.
    Delay {
        /// How long.
        milliseconds: u64,
    },
    /// It is answered with an error.
    Status {
        /// The status.
        status: u16,
        /// `message` of the error.
        #[serde(default)]
        message: Option<String>,
        /// True: it takes effect before.
        #[serde(default)]
        after: bool,
    },
    /// The connection is closed without an answer.
    Cut {
        /// True: it takes effect before.
        #[serde(default)]
        after: bool,
    },
    /// The answer has another body.
    Body {
        /// That body.
        text: String,
    },
    /// The connection is closed in the middle of the answer's body.
    Truncate {
        /// How many bytes of the body arrive.
        bytes: usize,
    },
    /// Every token expires before the request is handled.
    ExpireTokens,
}

fn anything() -> String {
    "**".to_owned()
}

const fn one() -> u64 {
    1
}

impl RequestFault {
    /// A fault of all requests that match `path`, from now on.
    pub fn always(path: &str, fault: FaultKind) -> Self {
        Self { method: None, path: path.to_owned(), skip: 0, times: 0, fault }
    }

    /// The size of its text, in bytes.
    fn size(&self) -> usize {
        let text = match &self.fault {
            FaultKind::Status { message, .. } => message.as_ref().map_or(0, String::len),
            FaultKind::Body { text } => text.len(),
            FaultKind::Delay { .. } | FaultKind::Cut { .. } | FaultKind::Truncate { .. } | FaultKind::ExpireTokens => 0,
        };
        self.method.as_ref().map_or(0, String::len) + self.path.len() + text
    }

    /// Whether some request could match it. A fault that waits for ever would make a test pass for no reason.
    fn could_match(&self) -> bool {
        let pattern: Vec<&str> = self.path.split('/').filter(|segment| !segment.is_empty()).collect();
        let last = pattern.len().saturating_sub(1);
        let well = pattern.iter().enumerate().all(|(place, segment)| *segment != "**" || place == last);
        well && routing::could_come(self.method.as_deref(), |path, below| could_fit(&pattern, path, below))
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        let method_fits = self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method.as_str()));
        method_fits && path_fits(&self.path, path.split('?').next().unwrap_or_default())
    }
}

/// Whether a pattern fits some path of the table (`{}` is any segment), or with `below` also one that goes on after it.
fn could_fit(pattern: &[&str], path: &str, below: bool) -> bool {
    let mut given = path.split('/').filter(|segment| !segment.is_empty());
    for wanted in pattern {
        match (*wanted, given.next()) {
            ("**", _) => return true,
            ("*", Some(_)) | (_, Some("{}")) => {}
            (wanted, Some(segment)) if wanted == segment => {}
            (_, None) if below => return true,
            _ => return false,
        }
    }
    given.next().is_none()
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let mut given = path.split('/').filter(|segment| !segment.is_empty());
    for wanted in pattern.split('/').filter(|segment| !segment.is_empty()) {
        match (wanted, given.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

/// The faults that wait for their requests.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<RequestFault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: RequestFault) -> Result<(), Refusal> {
        if self.0.len() >= KEPT {
            return Err(Refusal::error(400, "too many faults wait already; DELETE /mock/faults forgets them"));
        }
        if let FaultKind::Status { status, .. } = fault.fault
            && !(200..600).contains(&status)
        {
            return Err(Refusal::error(400, "a status is a number from 200 to 599"));
        }
        if !fault.could_match() {
            let method = fault.method.as_deref().unwrap_or("any method");
            return Err(Refusal::error(
                400,
                format!(
                    "no request could match {method} {}: a path is one of the API's below /midonet-api, without a query; \
                     `*` is one segment, a last `**` any rest",
                    fault.path
                ),
            ));
        }
        if self.0.iter().map(RequestFault::size).sum::<usize>() + fault.size() > TEXT {
            return Err(Refusal::error(
                400,
                format!("the faults that wait have more than {TEXT} bytes of text; DELETE /mock/faults forgets them"),
            ));
        }
        self.0.push(fault);
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The waiting faults, with the rest of `skip` and `times`.
    pub(crate) fn waiting(&self) -> &[RequestFault] {
        &self.0
    }

    /// What happens to this request. Every matching fault counts it.
    pub(crate) fn take(&mut self, method: &Method, path: &str) -> Vec<FaultKind> {
        let mut kinds = Vec::new();
        self.0.retain_mut(|fault| {
            if !fault.matches(method, path) {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            kinds.push(fault.fault.clone());
            fault.times = match fault.times {
                0 => return true,
                times => times - 1,
            };
            fault.times > 0
        });
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_segments() {
        for (pattern, path, fits) in [
            ("**", "/", true),
            ("**", "/routers/x", true),
            ("/routers", "/routers/", true),
            ("/routers", "/routers/x", false),
            ("/routers/*", "/routers/x", true),
            ("/routers/*/ports", "/routers/x/ports", true),
            ("/routers/*/ports", "/routers/x/routes", false),
            ("/routers/**", "/routers", true),
            ("/routers/**", "/routers/x/ports", true),
            ("/router", "/routers", false),
        ] {
            assert_eq!(path_fits(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn a_fault_that_could_never_hit_is_refused() {
        let add = |method: Option<&str>, path: &str| {
            let fault = FaultKind::Cut { after: false };
            let method = method.map(str::to_owned);
            Faults::default().add(RequestFault { method, path: path.to_owned(), skip: 0, times: 1, fault }).is_ok()
        };
        for (method, path) in [
            (None, "**"),
            (None, "/"),
            (None, ""),
            (None, "routers"),
            (None, "/routers/"),
            (Some("post"), "/routers/*/ports"),
            (Some("HEAD"), "/routers"),
            (Some("OPTIONS"), "/routers"),
            (Some("PUT"), "/ports/aaaa0000-0000-4000-8000-000000000001"),
            (Some("DELETE"), "/*/*"),
            (Some("PUT"), "/login"),
            (None, "/neutron/networks"),
            (Some("POST"), "/neutron/*/x"),
            (Some("POST"), "/load_balancers"),
            (None, "/routers/**"),
        ] {
            assert!(add(method, path), "{method:?} {path}");
        }
        for (method, path) in [
            (Some("GTE"), "**"),
            (Some("PATCH"), "/routers"),
            (Some(""), "**"),
            (Some("POST"), "/ports"),
            (Some("PUT"), "/routes/*"),
            (None, "/router"),
            (None, "/midonet-api/routers"),
            (None, "/mock/dump"),
            (None, "/routers?tenant_id=t"),
            (None, "/routers/*/ports/*"),
            (None, "/routers/**/ports"),
            (None, "/**/routers"),
            (None, "/chains/*/*/*"),
        ] {
            assert!(!add(method, path), "{method:?} {path}");
        }
    }

    #[test]
    fn the_text_of_pending_faults_is_bounded_in_sum() {
        let mut faults = Faults::default();
        let large = |size: usize| RequestFault::always("**", FaultKind::Body { text: "x".repeat(size) });
        assert!(faults.add(large(TEXT / 2)).is_ok());
        assert!(faults.add(large(TEXT / 2)).is_err(), "with their paths they are too much");
        assert!(faults.add(large(TEXT / 2 - 10)).is_ok());
        assert!(faults.add(large(10)).is_err());
        let message = Some("x".repeat(100));
        assert!(
            faults.add(RequestFault::always("**", FaultKind::Status { status: 500, message, after: true })).is_err()
        );
        assert!(
            faults
                .add(RequestFault::always(&format!("/routers/{}", "x".repeat(100)), FaultKind::ExpireTokens))
                .is_err()
        );
        faults.clear();
        assert!(faults.add(large(TEXT / 2)).is_ok());
    }

    #[test]
    fn a_fault_hits_the_requests_it_is_meant_for() {
        let mut faults = Faults::default();
        let cut = FaultKind::Cut { after: true };
        let fault = RequestFault {
            method: Some("post".to_owned()),
            path: "/routers".to_owned(),
            skip: 1,
            times: 2,
            fault: cut,
        };
        assert!(faults.add(fault).is_ok());
        let mut hit = |method: Method, path: &str| faults.take(&method, path).len();
        assert_eq!(hit(Method::GET, "/routers"), 0);
        assert_eq!(hit(Method::POST, "/routers"), 0, "skipped");
        assert_eq!(hit(Method::POST, "/routers?x"), 1);
        assert_eq!(hit(Method::POST, "/bridges"), 0);
        assert_eq!(hit(Method::POST, "/routers"), 1);
        assert_eq!(hit(Method::POST, "/routers"), 0, "used up");
    }
}
