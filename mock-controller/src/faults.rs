//! Failing on demand: which of the requests to come goes wrong, and how. Pure: who carries requests acts on it.

use std::time::Duration;

use atoll_sdn_client::transport::Request;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Content};
use crate::controller::{Controller, allow_origins, answer};
use crate::failure::{ERROR_MEDIA, Failure};
use crate::routing;

/// How many faults may wait at once.
const KEPT: usize = 1000;
/// How many bytes of text they may have together.
const TEXT: usize = 4 << 20;

/// Something that is to go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Requests of this method; every method when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Requests whose path below the base is this one; `*` stands for one segment, a last `**` for any rest.
    #[serde(default = "anything")]
    pub path: String,
    /// How many matching requests pass unharmed before.
    #[serde(default)]
    pub skip: u64,
    /// How many are harmed; 0 is all that come.
    #[serde(default = "one")]
    pub times: u64,
    /// What happens to them.
    pub harm: Harm,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Harm {
    /// It waits before anything else happens.
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
        /// True: it took effect all the same.
        #[serde(default)]
        after: bool,
    },
    /// The connection is closed without an answer.
    Cut {
        /// True: it took effect all the same.
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
        /// How much of the body arrives.
        bytes: usize,
    },
    /// Every token expires before the request is looked at.
    ExpireTokens,
}

fn anything() -> String {
    "**".to_owned()
}

const fn one() -> u64 {
    1
}

impl Fault {
    /// All requests that match `path` are harmed, from now on.
    pub fn always(path: &str, harm: Harm) -> Self {
        Self { method: None, path: path.to_owned(), skip: 0, times: 0, harm }
    }

    /// How much text it has.
    fn size(&self) -> usize {
        let harm = match &self.harm {
            Harm::Status { message, .. } => message.as_ref().map_or(0, String::len),
            Harm::Body { text } => text.len(),
            Harm::Delay { .. } | Harm::Cut { .. } | Harm::Truncate { .. } | Harm::ExpireTokens => 0,
        };
        self.method.as_ref().map_or(0, String::len) + self.path.len() + harm
    }

    /// Whether some request could match it. A test whose fault waits for ever proves nothing.
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

/// The faults that wait for their request.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), Failure> {
        if self.0.len() >= KEPT {
            return Err(Failure::error(400, "too many faults wait already; DELETE /mock/faults forgets them"));
        }
        if let Harm::Status { status, .. } = fault.harm
            && !(200..600).contains(&status)
        {
            return Err(Failure::error(400, "a status is a number from 200 to 599"));
        }
        if !fault.could_match() {
            let method = fault.method.as_deref().unwrap_or("any method");
            return Err(Failure::error(
                400,
                format!(
                    "no request could match {method} {}: a path is one of the API's below /midonet-api, without a query; \
                     `*` is one segment, a last `**` any rest",
                    fault.path
                ),
            ));
        }
        if self.0.iter().map(Fault::size).sum::<usize>() + fault.size() > TEXT {
            return Err(Failure::error(
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

    /// What waits, with what is left of `skip` and `times`.
    pub(crate) fn waiting(&self) -> &[Fault] {
        &self.0
    }

    /// What happens to this request. Every fault that matches counts it.
    fn take(&mut self, method: &Method, path: &str) -> Vec<Harm> {
        let mut harms = Vec::new();
        self.0.retain_mut(|fault| {
            if !fault.matches(method, path) {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            harms.push(fault.harm.clone());
            fault.times = match fault.times {
                0 => return true,
                times => times - 1,
            };
            fault.times > 0
        });
        harms
    }
}

/// How an answer reaches its client.
#[derive(Debug)]
pub enum Delivery {
    /// As it is.
    Whole(Answer),
    /// So much of its body, then nothing.
    Truncated(Answer, usize),
    /// Not at all.
    Cut,
}

/// What was decided for one request.
#[derive(Debug)]
pub struct Fate(Vec<Harm>);

impl Fate {
    /// How long the request waits first.
    pub fn delay(&self) -> Duration {
        let delays = self.0.iter().map(|harm| match harm {
            Harm::Delay { milliseconds } => *milliseconds,
            _ => 0,
        });
        Duration::from_millis(delays.fold(0, u64::saturating_add))
    }
}

impl Controller {
    /// Lets a fault wait for its requests.
    pub fn inject(&mut self, fault: Fault) -> Result<(), String> {
        self.faults.add(fault).map_err(|failure| failure.to_string())
    }

    /// Decides what goes wrong with a request. Asked once for each, before [`Controller::deliver`].
    pub fn fate(&mut self, request: &Request) -> Fate {
        Fate(self.faults.take(&request.method, &request.path))
    }

    /// Answers a request as [`Controller::handle`], with what was decided for it.
    pub fn deliver(&mut self, request: &Request, fate: &Fate) -> Delivery {
        let harms = &fate.0;
        if harms.contains(&Harm::ExpireTokens) {
            self.tokens.expire();
        }
        if harms.contains(&Harm::Cut { after: false }) {
            return Delivery::Cut;
        }
        let error = |wanted: bool| {
            harms.iter().find_map(|harm| match harm {
                Harm::Status { status, message, after } if *after == wanted => Some(error(*status, message.clone())),
                _ => None,
            })
        };
        if let Some(error) = error(false) {
            return Delivery::Whole(error);
        }
        let mut response = self.answer(request);
        if harms.contains(&Harm::Cut { after: true }) {
            return Delivery::Cut;
        }
        if let Some(error) = error(true) {
            response = error;
        }
        for harm in harms {
            match harm {
                Harm::Body { text } => response.content = Content::Whole(text.clone().into()),
                Harm::Truncate { bytes } => return Delivery::Truncated(response, *bytes),
                _ => {}
            }
        }
        Delivery::Whole(response)
    }
}

fn error(status: u16, message: Option<String>) -> Answer {
    let failure = Failure::Error { status, message };
    let media = (http::header::CONTENT_TYPE, ERROR_MEDIA.to_owned());
    let mut error = answer(status, vec![media], failure.body().as_ref());
    allow_origins(&mut error.headers);
    error
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
            let harm = Harm::Cut { after: false };
            let method = method.map(str::to_owned);
            Faults::default().add(Fault { method, path: path.to_owned(), skip: 0, times: 1, harm }).is_ok()
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
    fn what_waits_is_bounded_in_sum() {
        let mut faults = Faults::default();
        let large = |size: usize| Fault::always("**", Harm::Body { text: "x".repeat(size) });
        assert!(faults.add(large(TEXT / 2)).is_ok());
        assert!(faults.add(large(TEXT / 2)).is_err(), "with their paths they are too much");
        assert!(faults.add(large(TEXT / 2 - 10)).is_ok());
        assert!(faults.add(large(10)).is_err());
        let message = Some("x".repeat(100));
        assert!(faults.add(Fault::always("**", Harm::Status { status: 500, message, after: true })).is_err());
        assert!(faults.add(Fault::always(&format!("/routers/{}", "x".repeat(100)), Harm::ExpireTokens)).is_err());
        faults.clear();
        assert!(faults.add(large(TEXT / 2)).is_ok());
    }

    #[test]
    fn a_fault_hits_the_requests_it_is_meant_for() {
        let mut faults = Faults::default();
        let cut = Harm::Cut { after: true };
        let fault =
            Fault { method: Some("post".to_owned()), path: "/routers".to_owned(), skip: 1, times: 2, harm: cut };
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
