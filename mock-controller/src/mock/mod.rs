//! What a real controller does not have, under `/mock/` on the same address: hosts, activation, the request log, a dump, a
//! report of orphans, a reset. Plain JSON, without negotiation and without tokens of the API. `access` decides who may use it.

mod hosts;
pub(crate) mod orphans;

use std::time::Duration;

use atoll_sdn_client::transport::{ApiRequest, ApiResponse};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::answer::{Content, HttpAnswer, answer, dump, with_content};
use crate::body::{Body, parse_uuid};
use crate::controller::MockController;
use crate::refusal::Refusal;
use crate::request_log::RequestLog;
use crate::routing::decode;
use crate::settings::Activation;
use crate::state::Tables;

/// The answer to `GET /mock/`.
static HELP: &[(&str, &str)] = &[
    ("GET /mock/dump", "every object"),
    ("POST /mock/reset", "back to the beginning"),
    ("GET /mock/requests", "counters, dependent rounds, the last requests; DELETE forgets them"),
    ("GET /mock/orphans", "orphaned objects: ports without binding or link, routes to a missing port ..."),
    ("POST /mock/hosts", "{id, name, address}: a host that is alive, in the tunnel zone"),
    ("PUT /mock/hosts/{id}/alive", "{alive}"),
    ("PUT /mock/hosts/{id}/interfaces/{name}", "{mac, mtu, addresses, ...}; DELETE removes it"),
    ("PUT /mock/ports/{id}/active", "{active}: sets whether its packets flow"),
    ("GET /mock/activation", "when bound ports become active"),
    ("PUT /mock/activation", "{mode: at-once | never | after, milliseconds}: when bound ports become active"),
    (
        "POST /mock/faults",
        "{method, path, skip, times, fault: {kind: delay | status | cut | body | truncate | expire-tokens, ...}}: \
        injects a fault; GET lists the faults that wait, DELETE removes them",
    ),
    ("GET /mock/dataplane", "what the data plane could not do, where there is one"),
    ("GET /mock/counters", "packets and bytes of each port and each rule, where there is a data plane"),
    ("GET /mock/node-side", "by which address this machine reaches the pod of each port, where there is a data plane"),
    ("DELETE /mock/tokens", "every token expires"),
];

/// An answer, or the objects to be searched for orphans.
pub(crate) enum AdminReply {
    Done(HttpAnswer),
    Orphans(Tables),
}

impl MockController {
    /// Answers a request whose path is below `/mock`.
    pub fn admin(&mut self, request: &ApiRequest) -> ApiResponse {
        match self.begin_admin(request) {
            AdminReply::Done(answer) => answer.whole(),
            AdminReply::Orphans(tables) => report(&orphans::find_at_once(&tables)).whole(),
        }
    }

    /// As [`MockController::admin`]; a long search is left to the caller.
    pub(crate) fn begin_admin(&mut self, request: &ApiRequest) -> AdminReply {
        let path = request.path.split('?').next().unwrap_or_default();
        let segments: Option<Vec<String>> = path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
        let segments = segments.unwrap_or_default();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["dump"]) => {
                return AdminReply::Done(with_content(200, JSON, dump(self.tables().clone())));
            }
            ("GET", ["orphans"]) => return AdminReply::Orphans(self.tables().clone()),
            _ => {}
        }
        let before = self.checkpoint();
        let outcome = self.admin_outcome(request, &segments);
        let outcome = self.persist(before).and(outcome);
        if outcome.is_ok() && (request.method.as_str(), segments.as_slice()) == ("POST", &["reset"]) {
            self.reset_all_but_objects();
        }
        AdminReply::Done(match outcome {
            Ok(Value::Null) => answer(204, Vec::new(), None),
            Ok(value) => report(&value),
            Err(failure) => answer(failure.status(), vec![(CONTENT_TYPE, JSON.to_owned())], failure.body().as_ref()),
        })
    }

    fn admin_outcome(&mut self, request: &ApiRequest, segments: &[&str]) -> Result<Value, Refusal> {
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
                self.request_log = RequestLog::default();
                Ok(Value::Null)
            }
            ("POST", ["hosts"]) => hosts::add(self, &body),
            ("PUT", ["hosts", id, "alive"]) => hosts::set_alive(self, id, &body),
            ("PUT", ["hosts", id, "interfaces", name]) => hosts::set_interface(self, id, name, &request.body),
            ("DELETE", ["hosts", id, "interfaces", name]) => hosts::remove_interface(self, id, name),
            ("PUT", ["ports", id, "active"]) => {
                let id = parse_uuid(id).filter(|id| self.tables().ports.contains_key(id));
                let id = id.ok_or_else(|| Refusal::error(404, "there is no such port"))?;
                let active = body.flag("active")?.ok_or_else(|| Refusal::invalid("active", "may not be null"))?;
                self.refuse_with_data_plane()?;
                self.set_active(id, active);
                Ok(Value::Null)
            }
            ("GET", ["activation"]) => Ok(show_activation(self.activation)),
            ("PUT", ["activation"]) => {
                let activation = activation(&body)?;
                self.refuse_with_data_plane()?;
                self.activation = activation;
                Ok(Value::Null)
            }
            ("GET", ["faults"]) => Ok(json!(self.faults.waiting())),
            ("POST", ["faults"]) => {
                let fault = serde_json::from_slice(&request.body);
                self.faults.add(fault.map_err(|error| Refusal::error(400, error.to_string()))?)?;
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
            _ => Err(Refusal::error(404, "nothing here; GET /mock/ lists what there is")),
        }
    }

    /// With a data plane, only the data plane sets which ports are active.
    fn refuse_with_data_plane(&self) -> Result<(), Refusal> {
        if self.data_plane.is_some() {
            return Err(Refusal::error(409, "the data plane reports which ports are active"));
        }
        Ok(())
    }

    fn requests(&self) -> Value {
        json!({
            "count": self.request_log.count(),
            "rounds": self.request_log.rounds(),
            "counters": self.request_log.counters(),
            "last": self.request_log.entries().collect::<Vec<_>>(),
        })
    }
}

const JSON: &str = "application/json";

/// An answer in JSON.
pub(crate) fn report(found: &impl serde::Serialize) -> HttpAnswer {
    with_content(200, JSON, Content::Whole(json!(found).to_string().into()))
}

/// In the form of `PUT /mock/activation`.
fn show_activation(activation: Activation) -> Value {
    match activation {
        Activation::AtOnce => json!({ "mode": "at-once" }),
        Activation::Explicit => json!({ "mode": "never" }),
        Activation::After(delay) => {
            json!({ "mode": "after", "milliseconds": u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) })
        }
    }
}

fn activation(body: &Body) -> Result<Activation, Refusal> {
    match body.text("mode")?.as_deref() {
        Some("at-once") => Ok(Activation::AtOnce),
        Some("never") => Ok(Activation::Explicit),
        Some("after") => {
            let milliseconds = body.int("milliseconds")?.and_then(|n| u64::try_from(n).ok());
            let milliseconds = milliseconds.ok_or_else(|| Refusal::invalid("milliseconds", "may not be null"))?;
            Ok(Activation::After(Duration::from_millis(milliseconds)))
        }
        _ => Err(Refusal::invalid("mode", "should be at-once, never or after")),
    }
}
