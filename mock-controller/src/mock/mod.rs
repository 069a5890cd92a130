//! What a real controller does not have, under `/mock/` on the same address: hosts, activity, the record of requests,
//! a dump, a report of orphans, a reset. No negotiation and no token of the API: plain JSON for the tester. Who may ask is
//! the server's business (`access`).

mod hosts;
pub(crate) mod orphans;

use std::time::Duration;

use atoll_sdn_client::transport::{Request, Response};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::answer::{self, Answer, Content};
use crate::body::{Body, parse_uuid};
use crate::controller::{Controller, answer, with_content};
use crate::failure::Failure;
use crate::record::Record;
use crate::routing::decode;
use crate::settings::Activation;
use crate::state::Tables;

/// What there is, for the reader of `GET /mock/`.
static HELP: &[(&str, &str)] = &[
    ("GET /mock/dump", "every object"),
    ("POST /mock/reset", "back to the beginning"),
    ("GET /mock/requests", "counters, dependent rounds, the last requests; DELETE forgets them"),
    ("GET /mock/orphans", "objects that nobody will miss: ports without binding or link, routes to nowhere ..."),
    ("POST /mock/hosts", "{id, name, address}: a host that is alive, in the tunnel zone"),
    ("PUT /mock/hosts/{id}/alive", "{alive}"),
    ("PUT /mock/hosts/{id}/interfaces/{name}", "{mac, mtu, addresses, ...}; DELETE removes it"),
    ("PUT /mock/ports/{id}/active", "{active}: says whether its packets flow"),
    ("GET /mock/activation", "when bound ports become active"),
    ("PUT /mock/activation", "{mode: at-once | never | after, milliseconds}: when bound ports become active"),
    (
        "POST /mock/faults",
        "{method, path, skip, times, harm: {kind: delay | status | cut | body | truncate | expire-tokens, ...}}: \
        what goes wrong; GET lists those that wait, DELETE forgets them",
    ),
    ("GET /mock/dataplane", "what the data plane could not do, where there is one"),
    ("GET /mock/counters", "packets and bytes of each port and each rule, where there is a data plane"),
    ("GET /mock/node-side", "by which address this machine reaches the pod of each port, where there is a data plane"),
    ("DELETE /mock/tokens", "every token expires"),
];

/// What is done, or what is still to be looked for in a copy of the objects.
pub(crate) enum Admin {
    Done(Answer),
    Orphans(Tables),
}

impl Controller {
    /// Answers a request whose path is below `/mock`.
    pub fn admin(&mut self, request: &Request) -> Response {
        match self.begin_admin(request) {
            Admin::Done(answer) => answer.whole(),
            Admin::Orphans(tables) => report(&orphans::find_at_once(&tables)).whole(),
        }
    }

    /// As [`Controller::admin`], without what takes long.
    pub(crate) fn begin_admin(&mut self, request: &Request) -> Admin {
        let path = request.path.split('?').next().unwrap_or_default();
        let segments: Option<Vec<String>> = path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
        let segments = segments.unwrap_or_default();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["dump"]) => {
                return Admin::Done(with_content(200, JSON, answer::dump(self.tables().clone())));
            }
            ("GET", ["orphans"]) => return Admin::Orphans(self.tables().clone()),
            _ => {}
        }
        let before = self.checkpoint();
        let outcome = self.admin_outcome(request, &segments);
        let outcome = self.keep(before).and(outcome);
        if outcome.is_ok() && (request.method.as_str(), segments.as_slice()) == ("POST", &["reset"]) {
            self.forget();
        }
        Admin::Done(match outcome {
            Ok(Value::Null) => answer(204, Vec::new(), None),
            Ok(value) => report(&value),
            Err(failure) => answer(failure.status(), vec![(CONTENT_TYPE, JSON.to_owned())], failure.body().as_ref()),
        })
    }

    fn admin_outcome(&mut self, request: &Request, segments: &[&str]) -> Result<Value, Failure> {
        let dialect = self.settings.dialect;
        let body = if request.body.is_empty() { Body::empty(dialect) } else { Body::parse(&request.body, dialect)? };
        match (request.method.as_str(), segments) {
            ("GET", []) => Ok(HELP.iter().map(|(what, does)| ((*what).to_owned(), json!(does))).collect()),
            ("POST", ["reset"]) => {
                self.start_over();
                Ok(Value::Null)
            }
            ("GET", ["requests"]) => Ok(self.requests()),
            ("DELETE", ["requests"]) => {
                self.record = Record::default();
                Ok(Value::Null)
            }
            ("POST", ["hosts"]) => hosts::add(self, &body),
            ("PUT", ["hosts", id, "alive"]) => hosts::set_alive(self, id, &body),
            ("PUT", ["hosts", id, "interfaces", name]) => hosts::set_interface(self, id, name, &request.body),
            ("DELETE", ["hosts", id, "interfaces", name]) => hosts::remove_interface(self, id, name),
            ("PUT", ["ports", id, "active"]) => {
                let id = parse_uuid(id).filter(|id| self.tables().ports.contains_key(id));
                let id = id.ok_or_else(|| Failure::error(404, "there is no such port"))?;
                let active = body.flag("active")?.ok_or_else(|| Failure::invalid("active", "may not be null"))?;
                self.may_tell()?;
                self.set_active(id, active);
                Ok(Value::Null)
            }
            ("GET", ["activation"]) => Ok(show_activation(self.activation)),
            ("PUT", ["activation"]) => {
                let activation = activation(&body)?;
                self.may_tell()?;
                self.activation = activation;
                Ok(Value::Null)
            }
            ("GET", ["faults"]) => Ok(json!(self.faults.waiting())),
            ("POST", ["faults"]) => {
                let fault = serde_json::from_slice(&request.body);
                self.faults.add(fault.map_err(|error| Failure::error(400, error.to_string()))?)?;
                Ok(Value::Null)
            }
            ("DELETE", ["faults"]) => {
                self.faults.clear();
                Ok(Value::Null)
            }
            ("DELETE", ["tokens"]) => {
                self.tokens.expire();
                Ok(Value::Null)
            }
            _ => Err(Failure::error(404, "nothing here; GET /mock/ lists what there is")),
        }
    }

    /// A data plane says which packets flow, and nothing else does.
    fn may_tell(&self) -> Result<(), Failure> {
        if self.told {
            return Err(Failure::error(409, "the data plane says which ports are active"));
        }
        Ok(())
    }

    fn requests(&self) -> Value {
        json!({
            "count": self.record.count(),
            "rounds": self.record.rounds(),
            "counters": self.record.counters(),
            "last": self.record.entries().collect::<Vec<_>>(),
        })
    }
}

const JSON: &str = "application/json";

/// What was found, as JSON.
pub(crate) fn report(found: &impl serde::Serialize) -> Answer {
    with_content(200, JSON, Content::Whole(json!(found).to_string().into()))
}

/// As `PUT /mock/activation` takes it.
fn show_activation(activation: Activation) -> Value {
    match activation {
        Activation::AtOnce => json!({ "mode": "at-once" }),
        Activation::Told => json!({ "mode": "never" }),
        Activation::After(delay) => {
            json!({ "mode": "after", "milliseconds": u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) })
        }
    }
}

fn activation(body: &Body) -> Result<Activation, Failure> {
    match body.text("mode")?.as_deref() {
        Some("at-once") => Ok(Activation::AtOnce),
        Some("never") => Ok(Activation::Told),
        Some("after") => {
            let milliseconds = body.int("milliseconds")?.and_then(|n| u64::try_from(n).ok());
            let milliseconds = milliseconds.ok_or_else(|| Failure::invalid("milliseconds", "may not be null"))?;
            Ok(Activation::After(Duration::from_millis(milliseconds)))
        }
        _ => Err(Failure::invalid("mode", "should be at-once, never or after")),
    }
}
