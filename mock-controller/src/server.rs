//! The controller over HTTP/1.1: reads whole requests, bounded in size and time, and writes answers.
//!
//! One thread, one controller: requests are answered one after the other, in the order in which they are complete. A report
//! on all objects works on a copy, piece by piece, so that other requests are answered in between. At the limit of
//! connections an idle one makes room for a new one (`connections.rs`).
//!
//! hyper is used directly, without a framework such as axum: the paths are in a table of their own (`routing.rs`), and hyper
//! alone bounds the time of a request's head.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use atoll_model::topology::{Object, TopologyChange};
use atoll_sdn_client::transport::ApiRequest;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::access::{Access, ConnectionAddresses};
use crate::answer::{Content, HttpAnswer, allow_origins, answer};
use crate::answer_body::{AnswerBody, ConnectionCut};
use crate::connections::{ConnectionLimit, Slot, TrackedBody};
use crate::controller::{BASE_PATH, MockController};
use crate::delivery::Delivery;
use crate::mock::{AdminReply, orphans, report};
use crate::plane::{DataPlane, PlaneEvent};
use crate::refusal::Refusal;
use crate::socket::{MockSocket, may_ask};
use crate::state_file::StateFile;
use crate::write_timeout::WriteTimeout;

/// The largest body of a request.
const MAX_BODY: usize = 1 << 20;
/// The most memory for bodies of all requests.
const MAX_BODIES: usize = 64 << 20;
/// The largest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// The limit for a request's head, for its body, for an idle connection, and for a client that does not read its answer
/// (the real server's limit).
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Paths below `/mock` that the data plane answers.
const OF_DATA_PLANE: [&str; 3] = ["/dataplane", "/node-side", "/counters"];
/// The most connections over TCP.
const TCP_CONNECTIONS: usize = 1024;
/// The most connections on the unix socket. They have a limit of their own, so that its owner always gets one.
const SOCKET_CONNECTIONS: usize = 16;
/// How long requests in progress may take once the server shall end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A controller that is served. Clones are the same.
#[derive(Clone)]
pub struct MockServer {
    controller: Rc<RefCell<MockController>>,
    access: Rc<Access>,
    /// The memory that bodies of requests occupy.
    body_memory: Rc<Cell<usize>>,
    plane: Option<DataPlane>,
    /// Ports whose packets flow according to the data plane, also when the controller calls them inactive.
    flowing: Rc<RefCell<BTreeSet<Uuid>>>,
    started: Instant,
    client_timeout: Duration,
}

impl MockServer {
    /// Wraps a controller.
    pub fn new(controller: MockController) -> Self {
        Self {
            controller: Rc::new(RefCell::new(controller)),
            access: Rc::new(Access::Anyone),
            body_memory: Rc::default(),
            plane: None,
            flowing: Rc::default(),
            started: Instant::now(),
            client_timeout: CLIENT_TIMEOUT,
        }
    }

    /// Sets the limit for slow and silent clients, instead of 30 s.
    #[must_use]
    pub fn client_timeout(mut self, timeout: Duration) -> Self {
        self.client_timeout = timeout;
        self
    }

    /// Restricts `/mock/` over TCP, which every client may use by default.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = Rc::new(access);
        self
    }

    /// Persists the controller's objects in `file` from now on.
    pub fn persist_to(&self, file: StateFile) {
        self.controller.borrow_mut().persist_with(Box::new(file));
    }

    /// Closes the persistence: every change is safe afterwards.
    pub fn close(&self) -> Result<(), Box<dyn std::error::Error>> {
        self.controller.borrow_mut().close()
    }

    /// Realises the controller's topology in this machine's kernel from now on. The data plane reports active ports. Must be
    /// called within a `LocalSet` or a local runtime.
    pub async fn realise(&mut self, run_dir: &std::path::Path) -> Result<DataPlane, atoll_dataplane::PlaneError> {
        let (host, host_to_pod, services, topology) = {
            let mut controller = self.controller.borrow_mut();
            controller.leave_activation_to_data_plane();
            let (host, host_to_pod) = (controller.settings.host, controller.settings.host_to_pod);
            (host, host_to_pod, controller.settings.services, controller.follow())
        };
        let (plane, mut events) = DataPlane::start(run_dir, host, host_to_pod, services, topology).await?;
        let (controller, flowing) = (Rc::downgrade(&self.controller), Rc::clone(&self.flowing));
        // The task ends with the controller, or with the local set.
        tokio::task::spawn_local(async move {
            while let Some(event) = events.recv().await
                && let Some(controller) = controller.upgrade()
            {
                handle_event(event, &mut controller.borrow_mut(), &mut flowing.borrow_mut());
            }
        });
        self.plane = Some(plane.clone());
        Ok(plane)
    }

    /// Serves until `end` is ready, then gives requests in progress a moment to finish. Must be called within a `LocalSet` or
    /// a local runtime.
    pub async fn serve(&self, listener: TcpListener, end: impl Future<Output = ()>) {
        let accept = async move || {
            let (stream, peer) = listener.accept().await?;
            // Answers are small: waiting for a full packet would only add latency.
            drop(stream.set_nodelay(true));
            let addresses = stream.local_addr().ok().map(|own| ConnectionAddresses { own, peer });
            Ok((stream, Caller::Tcp(addresses)))
        };
        self.accept(accept, TCP_CONNECTIONS, end).await;
    }

    /// Serves `/mock/`, and nothing else, on a unix socket. As [`MockServer::serve`].
    pub async fn serve_mock(&self, socket: &MockSocket, end: impl Future<Output = ()>) {
        let accept = async || loop {
            let (stream, _) = socket.listener.accept().await?;
            if may_ask(&stream) {
                return Ok((stream, Caller::Socket));
            }
        };
        self.accept(accept, SOCKET_CONNECTIONS, end).await;
    }

    async fn accept<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        accept: impl AsyncFn() -> io::Result<(S, Caller)>,
        limit: usize,
        end: impl Future<Output = ()>,
    ) {
        let mut end = std::pin::pin!(end);
        let limit = ConnectionLimit::new(limit);
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept() => accepted,
                () = &mut end => break,
            };
            match accepted {
                Ok((stream, caller)) => {
                    let slot = tokio::select! {
                        slot = limit.acquire() => slot,
                        () = &mut end => break,
                    };
                    self.connect(stream, caller, slot, &graceful, &mut connections);
                }
                Err(error) => {
                    // Most likely the process has no file descriptor left: an idle connection returns its own.
                    limit.evict_idle();
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        // Requests that do not finish in time are cut off with the set.
        drop(accept);
        drop(tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await);
    }

    /// Serves one connection until it ends or is evicted.
    fn connect<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stream: S,
        caller: Caller,
        slot: Slot,
        graceful: &GracefulShutdown,
        connections: &mut JoinSet<()>,
    ) {
        let (server, own_slot) = (self.clone(), slot.clone());
        let service = service_fn(move |request| {
            let (server, slot) = (server.clone(), own_slot.clone());
            async move { server.answer(request, caller, &slot).await }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.client_timeout)
            .max_buf_size(MAX_HEAD)
            // A client that closes its sending direction after the request is answered.
            .half_close(true)
            .serve_connection(TokioIo::new(WriteTimeout::new(stream, self.client_timeout)), service);
        let connection = graceful.watch(connection);
        connections.spawn_local(async move {
            tokio::select! {
                // First, so that no request begins after the eviction.
                biased;
                () = slot.evicted() => tracing::debug!("an idle connection is closed to make room"),
                // An error concerns this connection only.
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                },
            }
        });
    }

    /// Answers one request. An error, which only an injected fault causes, closes the connection without an answer.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
        caller: Caller,
        slot: &Slot,
    ) -> Result<http::Response<TrackedBody>, ConnectionCut> {
        let (head, body) = request.into_parts();
        let (target, path) = locate(head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
        match (target, caller) {
            (Target::Api, Caller::Tcp(_)) => self.controller.borrow_mut().begin(),
            (Target::Mock, Caller::Tcp(addresses)) => {
                if let Err(why) = self.access.admits(addresses, &head.headers) {
                    return Ok(sent(refused(403, why)).map(|body| TrackedBody::new(body, None)));
                }
            }
            (Target::Api | Target::Nowhere, Caller::Socket) => {
                let answer = sent(refused(404, "this socket answers /mock/ only"));
                return Ok(answer.map(|body| TrackedBody::new(body, None)));
            }
            (Target::Mock, Caller::Socket) | (Target::Nowhere, Caller::Tcp(_)) => {}
        }
        let mut in_progress = None;
        let answered = match tokio::time::timeout(self.client_timeout, self.read(body)).await {
            Ok(Ok((body, _memory))) => {
                in_progress = Some(slot.begin_request());
                let request = ApiRequest { method: head.method, path, headers: head.headers, body };
                self.answer_whole(target, &request).await?
            }
            Ok(Err(status)) => plain(status),
            Err(_) => plain(StatusCode::REQUEST_TIMEOUT),
        };
        let answered = match target {
            Target::Mock => answered,
            Target::Api | Target::Nowhere => {
                let mut answered = answered;
                allow_origins(answered.headers_mut());
                answered
            }
        };
        Ok(answered.map(|body| TrackedBody::new(body, in_progress)))
    }

    /// Reads a body of a bounded size, with a bound for all bodies together.
    async fn read(&self, mut body: Incoming) -> Result<(Bytes, BodyMemory), StatusCode> {
        let (mut whole, mut memory) = (BytesMut::new(), BodyMemory { all: Rc::clone(&self.body_memory), own: 0 });
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > MAX_BODY {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            if !memory.take(data.len()) {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), memory))
    }

    async fn answer_whole(
        &self,
        target: Target,
        request: &ApiRequest,
    ) -> Result<http::Response<AnswerBody>, ConnectionCut> {
        match target {
            Target::Api => {
                let faults = self.controller.borrow_mut().apply_faults(request);
                if !faults.delay().is_zero() {
                    tokio::time::sleep(faults.delay()).await;
                }
                match self.act(request, |controller| controller.deliver(request, &faults)).await {
                    Delivery::Whole(answer) => Ok(sent(answer)),
                    Delivery::Truncated(answer, bytes) => Ok(truncated(answer, bytes)),
                    Delivery::Cut => Err(ConnectionCut),
                }
            }
            Target::Mock if request.method == http::Method::GET && OF_DATA_PLANE.contains(&request.path.as_str()) => {
                Ok(self.answer_of_data_plane(&request.path).await)
            }
            Target::Mock => Ok(sent(match self.act(request, |controller| controller.begin_admin(request)).await {
                AdminReply::Done(answer) => answer,
                AdminReply::Orphans(tables) => report(&orphans::find(&tables).await),
            })),
            Target::Nowhere => Ok(plain(StatusCode::NOT_FOUND)),
        }
    }

    /// Calls the controller. Its changes are persisted, and handed to the data plane, before the answer is sent.
    async fn act<T>(&self, request: &ApiRequest, act: impl FnOnce(&mut MockController) -> T) -> T {
        let (answer, changes) = {
            let mut controller = self.controller.borrow_mut();
            controller.advance(self.started.elapsed());
            let answer = act(&mut controller);
            (answer, controller.take_changes())
        };
        self.submit(request, changes).await;
        answer
    }

    /// Hands changes to the data plane. The answer to a new router waits until it is programmed, because the client then
    /// creates interfaces in its namespace. For everything else `active` shows when it is programmed.
    async fn submit(&self, request: &ApiRequest, changes: Vec<TopologyChange>) {
        if let Some(plane) = &self.plane {
            let bound = self.flowing_and_bound(&changes);
            plane.submit(changes);
            if !bound.is_empty() {
                let plane = plane.clone();
                tokio::task::spawn_local(async move { plane.report_programmed(bound).await });
            }
            if request.method == http::Method::POST && request.path.trim_end_matches('/') == "/routers" {
                plane.programmed().await;
            }
        }
    }

    /// Ports that were bound now and whose packets flow already: the data plane may report no change.
    fn flowing_and_bound(&self, changes: &[TopologyChange]) -> Vec<Uuid> {
        let flowing = self.flowing.borrow();
        let bound = changes.iter().filter_map(|change| match change {
            TopologyChange::Put(Object::Port(id, port)) if port.binding.is_some() => Some(*id),
            _ => None,
        });
        bound.filter(|id| flowing.contains(id)).collect()
    }

    /// An answer of the data plane; 404 without one.
    async fn answer_of_data_plane(&self, path: &str) -> http::Response<AnswerBody> {
        let Some(plane) = &self.plane else { return plain(StatusCode::NOT_FOUND) };
        // The answer covers every change that was answered before.
        plane.programmed().await;
        let found = plane.report();
        let value = match path {
            "/counters" => serde_json::json!(plane.counters().await),
            "/node-side" => serde_json::json!(found.host_to_pod),
            _ => serde_json::json!(found),
        };
        sent(report(&value))
    }
}

/// Applies an event of the data plane.
fn handle_event(event: PlaneEvent, controller: &mut MockController, flowing: &mut BTreeSet<Uuid>) {
    match event {
        PlaneEvent::Flow(ports) => {
            for (port, flows) in ports {
                if flows {
                    flowing.insert(port);
                } else {
                    flowing.remove(&port);
                }
                controller.set_active(port, flows);
            }
        }
        PlaneEvent::Programmed(ports) => {
            for port in ports.into_iter().filter(|port| flowing.contains(port)) {
                controller.set_active(port, true);
            }
        }
    }
}

/// The part of the server that a path belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Api,
    Mock,
    Nowhere,
}

/// Splits a request target into the part that serves it and the path below. Nothing is normalised: `/midonet-api/../x`
/// is a path with a segment `..`, which is the name of nothing.
fn locate(request_target: &str) -> (Target, String) {
    for (prefix, target) in [(BASE_PATH, Target::Api), ("/mock", Target::Mock)] {
        match request_target.strip_prefix(prefix) {
            Some(rest) if rest.starts_with('/') => return (target, rest.to_owned()),
            Some(rest) if rest.is_empty() || rest.starts_with('?') => return (target, format!("/{rest}")),
            _ => {}
        }
    }
    (Target::Nowhere, String::new())
}

/// The caller of a request.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// A client over TCP.
    Tcp(Option<ConnectionAddresses>),
    /// Root, or the user that the controller runs as.
    Socket,
}

/// The memory of one body, returned when this is dropped.
struct BodyMemory {
    all: Rc<Cell<usize>>,
    own: usize,
}

impl BodyMemory {
    fn take(&mut self, more: usize) -> bool {
        let all = self.all.get() + more;
        if all > MAX_BODIES {
            return false;
        }
        self.all.set(all);
        self.own += more;
        true
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.own);
    }
}

fn plain(status: StatusCode) -> http::Response<AnswerBody> {
    let mut response = http::Response::new(AnswerBody::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A refusal below `/mock/`.
fn refused(status: u16, why: &str) -> HttpAnswer {
    let json = (http::header::CONTENT_TYPE, "application/json".to_owned());
    answer(status, vec![json], Refusal::error(status, why).body().as_ref())
}

fn sent(answer: HttpAnswer) -> http::Response<AnswerBody> {
    let HttpAnswer { status, headers, content } = answer;
    let body = match content {
        Content::Whole(body) => AnswerBody::whole(body),
        Content::Long(pieces) => AnswerBody::pieces(pieces),
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

/// The head announces the whole body, so that the client notices.
fn truncated(answer: HttpAnswer, bytes: usize) -> http::Response<AnswerBody> {
    let answer = answer.whole();
    let body = answer.body.clone();
    let mut response = sent(answer.into());
    response.headers_mut().insert(http::header::CONTENT_LENGTH, body.len().into());
    *response.body_mut() = AnswerBody::truncated(body, bytes);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_lead_to_the_api() {
        for (request_target, target, path) in [
            ("/midonet-api", Target::Api, "/"),
            ("/midonet-api/", Target::Api, "/"),
            ("/midonet-api?x=1", Target::Api, "/?x=1"),
            ("/midonet-api/routers?tenant_id=a", Target::Api, "/routers?tenant_id=a"),
            ("/mock/dump", Target::Mock, "/dump"),
            ("/midonet-apis/routers", Target::Nowhere, ""),
            ("/mocking", Target::Nowhere, ""),
            ("/", Target::Nowhere, ""),
            ("/midonet-api/../mock/reset", Target::Api, "/../mock/reset"),
        ] {
            assert_eq!(locate(request_target), (target, path.to_owned()), "{request_target}");
        }
    }
}
