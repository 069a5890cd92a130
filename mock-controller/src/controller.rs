//! The controller without I/O: one request in, one answer out. The caller supplies the time.
//!
//! # Guarantees
//!
//! - The same settings and the same requests give the same answers.
//! - No request panics, whatever it holds.
//! - No request visits more objects than it answers with or changes.
//! - A change that cannot be persisted is not made, and is answered with 503.

use crate::wording::Wording as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_model::topology::{Topology, TopologyChange};
use atoll_sdn_client::data_plane::{self, LocalDataPlane};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse};
use http::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method};
use serde_json::Value;
use uuid::Uuid;

use crate::answer::{Content, HttpAnswer, allow_origins, answer, with_content};
use crate::body::Body;
use crate::call::{Call, IdGenerator, Rendering, Reply, ReplyResult};
use crate::faults::Faults;
use crate::initial;
use crate::media;
use crate::refusal::{ERROR_MEDIA, Refusal};
use crate::request_log::RequestLog;
use crate::routing::{self, Endpoint, RouteMatch, Verb};
use crate::settings::{Activation, MockSettings};
use crate::state::{ControllerState, Patch, Tables};
use crate::tokens::Tokens;

/// Path under which the API is served.
pub const BASE_PATH: &str = "/midonet-api";

const TOKEN_MEDIA: &str = "application/vnd.org.midonet.Token-v1+json;charset=UTF-8";

/// A store of changes that outlives the controller.
pub trait Persistence: std::fmt::Debug + Send {
    /// Persists a change; `tables` are the tables with it. After an error, which says what failed and what to do, nothing is
    /// persisted.
    fn persist(&mut self, change: &Patch, tables: &Tables) -> Result<(), Box<dyn std::error::Error>>;

    /// Ends the sequence of changes: everything is safe afterwards.
    fn close(&mut self) -> Result<(), Box<dyn std::error::Error>>;
}

/// A controller.
#[derive(Debug)]
pub struct MockController {
    pub(crate) settings: MockSettings,
    pub(crate) state: ControllerState,
    pub(crate) tokens: Tokens,
    pub(crate) ids: IdGenerator,
    pub(crate) request_log: RequestLog,
    pub(crate) faults: Faults,
    /// When a bound port becomes active. Requests may change it.
    pub(crate) activation: Activation,
    /// A data plane reports which ports are active. The root document names it in a header.
    pub(crate) data_plane: Option<LocalDataPlane>,
    clock: Duration,
    /// Ports that become active later, by when.
    pending: BTreeSet<(Duration, Uuid)>,
    /// Where every change is persisted.
    persistence: Option<Box<dyn Persistence>>,
    /// Changes that the follower of the topology has not taken yet; `None` without a follower.
    changes: Option<Vec<TopologyChange>>,
}

impl MockController {
    /// A controller with the initial objects: provider router, host, tunnel zone.
    pub fn new(settings: MockSettings) -> Self {
        let tables = initial::tables(&settings);
        Self::with_tables(settings, tables)
    }

    /// A controller with these objects, and the configured host where it is not among them.
    pub fn with_tables(settings: MockSettings, mut tables: Tables) -> Self {
        initial::add_host(&mut tables, &settings);
        let mut ids = IdGenerator::new(settings.seed);
        ids.skip_keys(tables.ports.values().map(|port| port.tunnel_key).max().unwrap_or(0));
        let mut controller = Self {
            state: ControllerState::from_tables(tables),
            tokens: Tokens::default(),
            ids,
            request_log: RequestLog::default(),
            faults: Faults::default(),
            activation: settings.activation,
            data_plane: None,
            clock: Duration::ZERO,
            pending: BTreeSet::new(),
            persistence: None,
            changes: None,
            settings,
        };
        controller.activate_all();
        controller
    }

    /// Persists every change from now on, before it is made.
    pub fn persist_with(&mut self, persistence: Box<dyn Persistence>) {
        self.persistence = Some(persistence);
    }

    /// Closes the persistence: every change is safe afterwards.
    pub fn close(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.persistence.take().map_or(Ok(()), |mut persistence| persistence.close())
    }

    /// Restores the initial state: objects, tokens, faults, request log, activation.
    pub fn reset(&mut self) {
        self.start_over();
        self.reset_all_but_objects();
        self.collect_changes();
    }

    /// Resets the objects to the initial ones. Followers get the difference like any other change.
    pub(crate) fn start_over(&mut self) {
        let mut state = ControllerState::from_tables(initial::tables(&self.settings));
        state.replaces(&self.state);
        self.state = state;
    }

    /// Restores the initial state of everything but the objects.
    pub(crate) fn reset_all_but_objects(&mut self) {
        self.tokens = Tokens::default();
        self.request_log = RequestLog::default();
        self.faults = Faults::default();
        self.ids = IdGenerator::new(self.settings.seed);
        self.ids.skip_keys(self.tables().ports.values().map(|port| port.tunnel_key).max().unwrap_or(0));
        self.activation = self.settings.activation;
        self.pending.clear();
        self.activate_all();
    }

    /// Every object, comparable and serialisable.
    pub fn tables(&self) -> &Tables {
        self.state.tables()
    }

    /// The settings of this instance.
    pub fn settings(&self) -> &MockSettings {
        &self.settings
    }

    /// The topology as it is. From now on [`MockController::take_changes`] returns what changes.
    pub fn follow(&mut self) -> Topology {
        drop(self.state.take_touched());
        self.changes = Some(Vec::new());
        self.state.topology()
    }

    /// The changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<TopologyChange> {
        self.collect_changes();
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The state to restore when a change cannot be persisted; `None` without persistence.
    pub(crate) fn checkpoint(&self) -> Option<ControllerState> {
        self.persistence.is_some().then(|| self.state.clone())
    }

    /// Persists the changes since `before`, or reverts them.
    pub(crate) fn persist(&mut self, before: Option<ControllerState>) -> Result<(), Refusal> {
        let touched = self.state.touched();
        if let Some(persistence) = &mut self.persistence
            && !touched.is_empty()
            && let Err(error) = persistence.persist(&Patch::of(self.state.tables(), touched), self.state.tables())
        {
            tracing::error!(%error, "a change could not be persisted and was not made");
            if let Some(before) = before {
                self.state = before;
            }
            return Err(Refusal::error(
                503,
                format!("Nothing was changed, because the change could not be persisted: {error}"),
            ));
        }
        self.collect_changes();
        Ok(())
    }

    /// Collects the last changes for the follower.
    fn collect_changes(&mut self) {
        let touched = self.state.take_touched();
        if let Some(changes) = &mut self.changes {
            changes.extend(self.state.changes(&touched));
        }
    }

    /// Sets whether a port is active. Ports that are absent or not bound stay inactive.
    pub fn set_active(&mut self, port: Uuid, active: bool) {
        self.pending.retain(|(_, pending)| *pending != port);
        self.state.set_active(port, active);
    }

    /// Sets whether a host's agent is alive. An absent host stays absent.
    pub fn set_host_alive(&mut self, host: Uuid, alive: bool) {
        if let Some(mut found) = self.tables().hosts.get(&host).cloned() {
            found.alive = alive;
            self.state.put_host(host, found);
        }
    }

    /// Leaves it to a data plane to report active ports by [`MockController::set_active`]. All ports are inactive at first.
    pub fn leave_activation_to_data_plane(&mut self) {
        self.data_plane = Some(LocalDataPlane { host_to_pod: self.settings.host_to_pod.is_some() });
        self.settings.activation = Activation::Explicit;
        self.activation = Activation::Explicit;
        self.pending.clear();
        self.state.deactivate_all();
    }

    /// Sets the time since the start, and does what is due.
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
            Activation::Explicit => {}
        }
    }

    /// Notes that a request has begun, for the count of rounds.
    pub fn begin(&mut self) {
        self.request_log.begin();
    }

    /// Answers one request. `request.path` is below the base path: `/routers/<id>`.
    pub fn handle(&mut self, request: &ApiRequest) -> ApiResponse {
        self.answer(request).whole()
    }

    /// As [`MockController::handle`]; a long answer comes in pieces.
    pub(crate) fn answer(&mut self, request: &ApiRequest) -> HttpAnswer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let found = routing::find(path);
        let pattern = match &found {
            RouteMatch::Endpoint(endpoint, _) => endpoint.path,
            RouteMatch::Absent => "(not built)",
            RouteMatch::Nowhere => "(unknown)",
        };
        let before = self.checkpoint();
        let outcome = self.outcome(request, found, query);
        let outcome = self.persist(before).and(outcome);
        let bound = self.state.take_bound();
        self.activate(bound);
        let twice = self.settings.duplicate_type && pattern_has_type(pattern);
        let mut answer = match outcome {
            Ok((reply, media, base)) => {
                success(reply, &media, &base, if twice { with_type_twice } else { Value::to_string })
            }
            Err(failure) => refusal(&failure),
        };
        if pattern == "/"
            && answer.status == 200
            && let Some(plane) = self.data_plane
        {
            answer.headers.insert(data_plane::HEADER, HeaderValue::from_static(plane.to_header()));
        }
        allow_origins(&mut answer.headers);
        self.request_log.note(&request.method, pattern, &request.path, answer.status);
        answer
    }

    fn outcome(
        &mut self,
        request: &ApiRequest,
        found: RouteMatch,
        query: &str,
    ) -> Result<(Reply, String, String), Refusal> {
        let base = self.base(&request.headers);
        if request.method == Method::OPTIONS {
            return Ok((Reply::Done, String::new(), base));
        }
        let login = matches!(&found, RouteMatch::Endpoint(endpoint, _) if endpoint.media.name == "Token");
        if !login {
            let token = request.headers.get("x-auth-token").map(|token| token.to_str().unwrap_or_default());
            self.tokens.check(token, &self.settings)?;
        }
        let (endpoint, args) = match found {
            RouteMatch::Endpoint(endpoint, args) => (endpoint, args),
            RouteMatch::Absent => return Err(unbuilt()),
            RouteMatch::Nowhere => return Err(Refusal::error(404, "Not RouteMatch")),
        };
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if self.state.is_read_only() && !reads && !login && endpoint.media.name != "SystemState" {
            return Err(Refusal::error(503, "API server currently in restricted mode."));
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
            ids: &mut self.ids,
            args,
            query: parse_query(query),
            headers: &request.headers,
            body,
            view: Rendering { dialect, version, base: base.clone() },
        };
        let outcome: ReplyResult = verb(&mut call);
        Ok((outcome?, media, base))
    }

    /// The base of links: as configured, otherwise as the request or the proxy before it named this server.
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

/// The refusal of a part of the real API that this server does not have.
fn unbuilt() -> Refusal {
    Refusal::error(501, "This resource of the MidoNet API is not built into this mock controller.")
}

fn verb(endpoint: &Endpoint, method: &Method) -> Result<Verb, Refusal> {
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
    verb.ok_or_else(|| if endpoint.unbuilt { unbuilt() } else { Refusal::error(405, message) })
}

/// The query as pairs; of a key that occurs twice the last value counts. Invalid encoding is kept as it is: an unreadable
/// filter matches no object, instead of being ignored.
fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (routing::decode_lossy(&key.replace('+', " ")), routing::decode_lossy(&value.replace('+', " ")))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn success(reply: Reply, media: &str, base: &str, text: fn(&Value) -> String) -> HttpAnswer {
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

fn refusal(failure: &Refusal) -> HttpAnswer {
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

/// Whether an endpoint shows objects with the key `type`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_sdn_client::Dialect;

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
        let mut controller =
            MockController::new(MockSettings { activation: Activation::After(delay), ..MockSettings::default() });
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
