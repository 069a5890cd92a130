//! The controller without I/O: one request in, one answer out, and time only as it is told.
//!
//! Promises: the same settings and the same requests give the same answers; no request panics, whatever it holds; no
//! request walks over more objects than it answers with or changes; a change that its keeper cannot keep is not made, and
//! is answered 503.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_model::topology::{Change, Topology};
use atoll_sdn_client::transport::{Request, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use uuid::Uuid;

use crate::answer::{Answer, Content};
use crate::body::Body;
use crate::call::{Call, Fresh, Outcome, Reply, View};
use crate::failure::{ERROR_MEDIA, Failure};
use crate::faults::Faults;
use crate::media;
use crate::record::Record;
use crate::routing::{self, Endpoint, Found, Verb};
use crate::seed;
use crate::settings::{Activation, Settings};
use crate::state::{Patch, State, Tables};
use crate::tokens::Tokens;

/// Path under which the API is served.
pub const BASE_PATH: &str = "/midonet-api";

const TOKEN_MEDIA: &str = "application/vnd.org.midonet.Token-v1+json;charset=UTF-8";

/// Where changes are kept, so that they outlive the controller.
pub trait Keeper: std::fmt::Debug {
    /// Keeps a change; `tables` is what it leads to. An error says what failed and what to do; nothing is kept then.
    fn keep(&mut self, change: &Patch, tables: &Tables) -> Result<(), Box<dyn std::error::Error>>;

    /// No change comes any more.
    fn close(&mut self) -> Result<(), Box<dyn std::error::Error>>;
}

/// A whole controller.
#[derive(Debug)]
pub struct Controller {
    pub(crate) settings: Settings,
    pub(crate) state: State,
    pub(crate) tokens: Tokens,
    pub(crate) fresh: Fresh,
    pub(crate) record: Record,
    pub(crate) faults: Faults,
    /// When a bound port becomes active, which may be changed on the way.
    pub(crate) activation: Activation,
    /// A data plane says what is active.
    pub(crate) told: bool,
    clock: Duration,
    /// Ports that become active later, by when.
    pending: BTreeSet<(Duration, Uuid)>,
    /// Where every change is kept.
    keeper: Option<Box<dyn Keeper>>,
    /// What who follows the topology has not been told yet; none when nothing follows it.
    changes: Option<Vec<Change>>,
}

impl Controller {
    /// A controller with what every one starts with: provider router, host, tunnel zone.
    pub fn new(settings: Settings) -> Self {
        let tables = seed::tables(&settings);
        Self::with_tables(settings, tables)
    }

    /// A controller with these objects, and the configured host where it is not among them.
    pub fn with_tables(settings: Settings, mut tables: Tables) -> Self {
        seed::adopt(&mut tables, &settings);
        let mut fresh = Fresh::new(settings.seed);
        fresh.skip_keys(tables.ports.values().map(|port| port.tunnel_key).max().unwrap_or(0));
        let mut controller = Self {
            state: State::from_tables(tables),
            tokens: Tokens::default(),
            fresh,
            record: Record::default(),
            faults: Faults::default(),
            activation: settings.activation,
            told: false,
            clock: Duration::ZERO,
            pending: BTreeSet::new(),
            keeper: None,
            changes: None,
            settings,
        };
        controller.activate_all();
        controller
    }

    /// From now on a change is made only where `keeper` has kept it.
    pub fn keep_with(&mut self, keeper: Box<dyn Keeper>) {
        self.keeper = Some(keeper);
    }

    /// The end, in order: what was kept is safe.
    pub fn close(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.keeper.take().map_or(Ok(()), |mut keeper| keeper.close())
    }

    /// Back to the beginning: objects, tokens, faults, records of requests, and when ports become active.
    pub fn reset(&mut self) {
        self.start_over();
        self.forget();
        self.pass_on();
    }

    /// The objects are those of the beginning. Whoever follows learns of the difference as of any other change.
    pub(crate) fn start_over(&mut self) {
        let mut state = State::from_tables(seed::tables(&self.settings));
        state.replaces(&self.state);
        self.state = state;
    }

    /// Everything but the objects is as at the beginning.
    pub(crate) fn forget(&mut self) {
        self.tokens = Tokens::default();
        self.record = Record::default();
        self.faults = Faults::default();
        self.fresh = Fresh::new(self.settings.seed);
        self.fresh.skip_keys(self.tables().ports.values().map(|port| port.tunnel_key).max().unwrap_or(0));
        self.activation = self.settings.activation;
        self.pending.clear();
        self.activate_all();
    }

    /// Every object, comparable and serialisable.
    pub fn tables(&self) -> &Tables {
        self.state.tables()
    }

    /// What this instance is like.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The topology as it is; from now on [`Controller::drain`] tells what changes.
    pub fn follow(&mut self) -> Topology {
        drop(self.state.take_touched());
        self.changes = Some(Vec::new());
        self.state.topology()
    }

    /// What changed since the last call, in order.
    pub fn drain(&mut self) -> Vec<Change> {
        self.pass_on();
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What to go back to when a change cannot be kept; none where nothing keeps changes.
    pub(crate) fn checkpoint(&self) -> Option<State> {
        self.keeper.is_some().then(|| self.state.clone())
    }

    /// Keeps what was changed since `before`, or unmakes it.
    pub(crate) fn keep(&mut self, before: Option<State>) -> Result<(), Failure> {
        let touched = self.state.touched();
        if let Some(keeper) = &mut self.keeper
            && !touched.is_empty()
            && let Err(error) = keeper.keep(&Patch::of(self.state.tables(), touched), self.state.tables())
        {
            tracing::error!(%error, "a change could not be kept and was not made");
            if let Some(before) = before {
                self.state = before;
            }
            return Err(Failure::error(503, format!("Nothing was changed, since it could not be kept: {error}")));
        }
        self.pass_on();
        Ok(())
    }

    /// What was changed is told to who follows.
    fn pass_on(&mut self) {
        let touched = self.state.take_touched();
        if let Some(changes) = &mut self.changes {
            changes.extend(self.state.changes(&touched));
        }
    }

    /// Says whether a port's packets flow. Ports that are absent or not bound stay inactive.
    pub fn set_active(&mut self, port: Uuid, active: bool) {
        self.pending.retain(|(_, pending)| *pending != port);
        self.state.set_active(port, active);
    }

    /// Says whether a host's agent is there. An absent host stays absent.
    pub fn set_host_alive(&mut self, host: Uuid, alive: bool) {
        if let Some(mut found) = self.tables().hosts.get(&host).cloned() {
            found.alive = alive;
            self.state.put_host(host, found);
        }
    }

    /// From now on a data plane tells which ports are active, by [`Controller::set_active`] and nothing else; none is yet.
    pub fn wait_to_be_told(&mut self) {
        self.told = true;
        self.settings.activation = Activation::Told;
        self.activation = Activation::Told;
        self.pending.clear();
        self.state.deactivate_all();
    }

    /// Tells the time since the start; what was to happen until then happens.
    pub fn advance(&mut self, now: Duration) {
        self.clock = self.clock.max(now);
        while let Some((due, port)) = self.pending.first().copied()
            && due <= self.clock
        {
            self.pending.pop_first();
            self.state.set_active(port, true);
        }
    }

    fn activate_all(&mut self) {
        self.activate(self.state.all_bound());
    }

    fn activate(&mut self, bound: Vec<Uuid>) {
        match self.activation {
            Activation::AtOnce => bound.into_iter().for_each(|port| self.state.set_active(port, true)),
            Activation::After(delay) => self.pending.extend(bound.into_iter().map(|port| (self.clock + delay, port))),
            Activation::Told => {}
        }
    }

    /// A request has begun: for the record of rounds.
    pub fn begin(&mut self) {
        self.record.begin();
    }

    /// Answers one request. `request.path` is below the base path: `/routers/<id>`.
    pub fn handle(&mut self, request: &Request) -> Response {
        self.answer(request).whole()
    }

    /// As [`Controller::handle`]; a long answer comes in pieces.
    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let found = routing::find(path);
        let pattern = match &found {
            Found::Endpoint(endpoint, _) => endpoint.path,
            Found::Absent => "(not built)",
            Found::Nowhere => "(unknown)",
        };
        let before = self.checkpoint();
        let outcome = self.outcome(request, found, query);
        let outcome = self.keep(before).and(outcome);
        let bound = self.state.take_bound();
        self.activate(bound);
        let twice = self.settings.duplicate_type && pattern_has_type(pattern);
        let mut answer = match outcome {
            Ok((reply, media, base)) => {
                success(reply, &media, &base, if twice { with_type_twice } else { Value::to_string })
            }
            Err(failure) => refusal(&failure),
        };
        allow_origins(&mut answer.headers);
        self.record.note(&request.method, pattern, &request.path, answer.status);
        answer
    }

    fn outcome(&mut self, request: &Request, found: Found, query: &str) -> Result<(Reply, String, String), Failure> {
        let base = self.base(&request.headers);
        if request.method == Method::OPTIONS {
            return Ok((Reply::Done, String::new(), base));
        }
        let login = matches!(&found, Found::Endpoint(endpoint, _) if endpoint.media.name == "Token");
        if !login {
            let token = request.headers.get("x-auth-token").map(|token| token.to_str().unwrap_or_default());
            self.tokens.check(token, &self.settings)?;
        }
        let (endpoint, args) = match found {
            Found::Endpoint(endpoint, args) => (endpoint, args),
            Found::Absent => return Err(unbuilt()),
            Found::Nowhere => return Err(Failure::error(404, "Not Found")),
        };
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if self.state.is_read_only() && !reads && !login && endpoint.media.name != "SystemState" {
            return Err(Failure::error(503, "API server currently in restricted mode."));
        }
        let verb = verb(endpoint, &request.method)?;
        let dialect = self.settings.dialect;
        let (media, version, body) = if login {
            (TOKEN_MEDIA.to_owned(), 1, Body::empty(dialect))
        } else if reads {
            let media = media::Media { policy: endpoint.read_policy, ..endpoint.media };
            let chosen = media::accept(dialect, media, endpoint.collection, &request.headers)?;
            (chosen.media, chosen.version, Body::empty(dialect))
        } else if request.method == Method::DELETE {
            (String::new(), 1, Body::empty(dialect))
        } else {
            let version = media::content(dialect, endpoint.media, &request.headers)?;
            (String::new(), version, Body::parse(&request.body, dialect)?)
        };
        let mut call = Call {
            state: &mut self.state,
            tokens: &mut self.tokens,
            settings: &self.settings,
            fresh: &mut self.fresh,
            args,
            query: parse_query(query),
            headers: &request.headers,
            body,
            view: View { dialect, version, base: base.clone() },
        };
        let outcome: Outcome = verb(&mut call);
        Ok((outcome?, media, base))
    }

    /// What links begin with: as configured, else as the request (or the proxy before it) named this server.
    fn base(&self, headers: &HeaderMap) -> String {
        if let Some(base) = &self.settings.base {
            return base.clone();
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(host) = text("x-forwarded-host").or_else(|| text(HOST.as_str())) else {
            return self.settings.dialect.default_base().to_owned();
        };
        let proto = text("x-forwarded-proto").filter(|proto| *proto == "https").unwrap_or("http");
        let port = text("x-forwarded-port").filter(|_| !host.contains(':')).map(|port| format!(":{port}"));
        format!("{proto}://{host}{}{BASE_PATH}", port.unwrap_or_default())
    }
}

/// A part of the real API that this server does not have.
fn unbuilt() -> Failure {
    Failure::error(501, "This resource of the MidoNet API is not built into this mock controller.")
}

fn verb(endpoint: &Endpoint, method: &Method) -> Result<Verb, Failure> {
    let verb = match *method {
        Method::GET | Method::HEAD => endpoint.get,
        Method::POST => endpoint.post,
        Method::PUT => endpoint.put,
        Method::DELETE => endpoint.delete,
        _ => None,
    };
    let message = match endpoint.media.name {
        "Tenant" => "Tenants cannot be created, updated or deleted via the REST API.",
        _ => "Method Not Allowed",
    };
    verb.ok_or_else(|| if endpoint.unbuilt { unbuilt() } else { Failure::error(405, message) })
}

/// The query as pairs; of a key that comes twice the last one counts. What is not properly encoded is taken as well as
/// it can be: a filter that cannot be read is a filter that nothing passes, and not none.
fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (routing::decode_anyway(&key.replace('+', " ")), routing::decode_anyway(&value.replace('+', " ")))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

// ---- answers -----------------------------------------------------------------------------------------------------

fn success(reply: Reply, media: &str, base: &str, text: fn(&Value) -> String) -> Answer {
    match reply {
        Reply::Created(path) => {
            let location = path.map(|path| (LOCATION, format!("{base}{path}")));
            answer(201, location.into_iter().collect(), None)
        }
        Reply::Show(value) => with_content(200, media, Content::Whole(text(&value).into())),
        Reply::List(list) => with_content(200, media, list.content(text)),
        Reply::Token { value, cookie } => {
            answer(200, vec![(CONTENT_TYPE, media.to_owned()), (SET_COOKIE, cookie)], Some(&value))
        }
        Reply::Done => answer(200, Vec::new(), None),
        Reply::Gone => answer(204, Vec::new(), None),
    }
}

fn refusal(failure: &Failure) -> Answer {
    let body = failure.body();
    let mut headers = Vec::new();
    if body.is_some() {
        headers.push((CONTENT_TYPE, ERROR_MEDIA.to_owned()));
    }
    if failure.status() == 401 {
        headers.push((WWW_AUTHENTICATE, "Basic  realm=\"BASIC_AUTH_REALM\"".to_owned()));
    }
    answer(failure.status(), headers, body.as_ref())
}

/// Whether an endpoint shows objects whose class is told by `type`.
fn pattern_has_type(pattern: &str) -> bool {
    pattern.ends_with("/ports") || pattern.ends_with("/rules") || matches!(pattern, "/ports/{}" | "/rules/{}")
}

/// The text of an object with the key `type` a second time, as the real server very probably writes ports and rules.
fn with_type_twice(value: &Value) -> String {
    match (value.get("type"), value.to_string()) {
        (Some(kind), text) => format!("{{\"type\":{kind},{}", text.strip_prefix('{').unwrap_or_default()),
        (None, text) => text,
    }
}

/// Builds an answer. A header value that a request smuggled something unprintable into is left out.
pub(crate) fn answer(status: u16, headers: Vec<(HeaderName, String)>, body: Option<&Value>) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(name, value);
        }
    }
    let body = body.map_or_else(Bytes::new, |value| Bytes::from(value.to_string()));
    Answer { status, headers: map, content: Content::Whole(body) }
}

/// Builds an answer with a body of one type.
pub(crate) fn with_content(status: u16, media: &str, content: Content) -> Answer {
    Answer { content, ..answer(status, vec![(CONTENT_TYPE, media.to_owned())], None) }
}

/// What the real server adds to every answer of its API, errors included, for pages of other origins (CORS).
pub(crate) fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-headers", "Origin, X-Auth-Token, Content-Type, Accept, Authorization"),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-expose-headers", "Location"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    #[test]
    fn queries_are_decoded_and_never_fail() {
        let query = parse_query("tenant_id=a%2Fb+c&x&=&%zz=1&tenant_id=d");
        assert_eq!(query.get("tenant_id").map(String::as_str), Some("d"));
        assert_eq!(parse_query("tenant_id=a%2Fb+c")["tenant_id"], "a/b c");
        for wrong in ["%ff", "%zz", "%", "%f", "a%c3"] {
            assert!(!parse_query(&format!("tenant_id={wrong}"))["tenant_id"].is_empty(), "{wrong}: the filter stays");
        }
    }

    #[test]
    fn a_port_becomes_active_when_its_time_has_come() {
        let delay = Duration::from_millis(500);
        let mut controller = Controller::new(Settings { activation: Activation::After(delay), ..Settings::default() });
        let uplink = crate::settings::uplink_port();
        for (now, active) in [(0, false), (499, false), (500, true), (501, true)] {
            controller.advance(Duration::from_millis(now));
            assert_eq!(controller.state.is_active(uplink), active, "after {now} ms");
        }
    }

    #[test]
    fn a_type_comes_twice_and_stays_json() {
        for (value, types) in [(serde_json::json!({ "a": 1, "type": "Router" }), 2), (serde_json::json!({ "b": 2 }), 0)]
        {
            let text = with_type_twice(&value);
            assert_eq!(text.matches("\"type\"").count(), types, "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
    }

    #[test]
    fn dialects_name_their_versions() {
        assert_eq!((Dialect::V1.version(), Dialect::V5.version()), ("v1.9", "v5.0"));
    }
}
