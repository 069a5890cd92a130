//! The controller over HTTP/1.1: a thin shell that reads whole requests, bounded in size and time, and writes answers.
//!
//! One thread, one controller: requests are answered one after the other, in the order in which they are complete. What
//! reads everything does so piece by piece, in a copy, so that others have their turn in between.
//! When all places are taken, an idle connection makes room for a new one (`crowd.rs`).
//! hyper is used directly, without a framework: there is nothing to route, and only hyper lets us bound the time of
//! the request head.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use atoll_model::topology::{Change, Object};
use atoll_sdn_client::transport::Request;
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

use crate::access::{Access, Ends};
use crate::answer::{Answer, Content};
use crate::controller::{BASE_PATH, Controller, allow_origins, answer};
use crate::crowd::{Answered, Crowd, Seat};
use crate::failure::Failure;
use crate::faults::Delivery;
use crate::mock::{Admin, orphans, report};
use crate::patient::Patient;
use crate::plane::{News, Plane};
use crate::socket::{MockSocket, may_ask};
use crate::state_file::StateFile;
use crate::torn::{CutOnPurpose, Torn};

/// The largest body that is read.
const BODY: usize = 1 << 20;
/// How much of bodies is held at once.
const BODIES: usize = 64 << 20;
/// How large the head of a request may be.
const HEAD: usize = 64 << 10;
/// How long a request's head or body may take, how long an idle connection stays, and how long a client may take
/// nothing of its answer (the real server's figure).
const PATIENCE: Duration = Duration::from_secs(30);
/// What is asked of the data plane, below `/mock`.
const PLANE: [&str; 3] = ["/dataplane", "/node-side", "/counters"];
/// How many connections are served at once. One more takes the place of the one that has been idle longest.
const CONNECTIONS: usize = 1024;
/// As many on the unix socket, which keeps its own: its owner gets in whoever else is there.
const ASIDE: usize = 16;
/// How long running requests may take after the end was asked for.
const FAREWELL: Duration = Duration::from_secs(2);

/// A controller that is served. Clones are the same.
#[derive(Clone)]
pub struct Server {
    controller: Rc<RefCell<Controller>>,
    access: Rc<Access>,
    /// How much of bodies is held.
    held: Rc<Cell<usize>>,
    plane: Option<Plane>,
    /// Ports whose packets flow, as the data plane says, whatever the controller thinks of them.
    flowing: Rc<RefCell<BTreeSet<Uuid>>>,
    started: Instant,
    patience: Duration,
}

impl Server {
    /// Wraps a controller.
    pub fn new(controller: Controller) -> Self {
        Self {
            controller: Rc::new(RefCell::new(controller)),
            access: Rc::new(Access::Anyone),
            held: Rc::default(),
            plane: None,
            flowing: Rc::default(),
            started: Instant::now(),
            patience: PATIENCE,
        }
    }

    /// Waits for slow and silent clients for so long, instead of 30 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Who may ask for what is below `/mock/` over TCP, instead of whoever can connect.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = Rc::new(access);
        self
    }

    /// Keeps the controller's objects in `file` from now on.
    pub fn keep(&self, file: StateFile) {
        self.controller.borrow_mut().keep_with(Box::new(file));
    }

    /// The end, in order: what was kept is safe.
    pub fn close(&self) -> Result<(), Box<dyn std::error::Error>> {
        self.controller.borrow_mut().close()
    }

    /// Realises the controller's topology in this machine's kernel from now on. Ports become active as the data plane
    /// says. Needs a `LocalSet` or a local runtime around it.
    pub async fn realise(&mut self, run_dir: &std::path::Path) -> Result<Plane, atoll_dataplane::PlaneError> {
        let (host, node_side, services, topology) = {
            let mut controller = self.controller.borrow_mut();
            controller.wait_to_be_told();
            let (host, node_side) = (controller.settings.host, controller.settings.node_side);
            (host, node_side, controller.settings.services, controller.follow())
        };
        let (plane, mut news) = Plane::start(run_dir, host, node_side, services, topology).await?;
        let (controller, flowing) = (Rc::downgrade(&self.controller), Rc::clone(&self.flowing));
        // It ends with the controller, or with the local set.
        tokio::task::spawn_local(async move {
            while let Some(news) = news.recv().await
                && let Some(controller) = controller.upgrade()
            {
                listen(news, &mut controller.borrow_mut(), &mut flowing.borrow_mut());
            }
        });
        self.plane = Some(plane.clone());
        Ok(plane)
    }

    /// Serves until `end` is ready, then lets running requests finish for a moment. Needs a `LocalSet` or a local
    /// runtime around it.
    pub async fn serve(&self, listener: TcpListener, end: impl Future<Output = ()>) {
        let accept = async move || {
            let (stream, peer) = listener.accept().await?;
            // Answers are small: waiting to fill a packet only costs time.
            drop(stream.set_nodelay(true));
            let ends = stream.local_addr().ok().map(|own| Ends { own, peer });
            Ok((stream, Caller::Tcp(ends)))
        };
        self.accept(accept, CONNECTIONS, end).await;
    }

    /// Serves what is below `/mock/`, and nothing else, on a unix socket. As [`Server::serve`].
    pub async fn serve_mock(&self, socket: &MockSocket, end: impl Future<Output = ()>) {
        let accept = async || loop {
            let (stream, _) = socket.listener.accept().await?;
            if may_ask(&stream) {
                return Ok((stream, Caller::Socket));
            }
        };
        self.accept(accept, ASIDE, end).await;
    }

    async fn accept<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        accept: impl AsyncFn() -> io::Result<(S, Caller)>,
        places: usize,
        end: impl Future<Output = ()>,
    ) {
        let mut end = std::pin::pin!(end);
        let crowd = Crowd::new(places);
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept() => accepted,
                () = &mut end => break,
            };
            match accepted {
                Ok((stream, caller)) => {
                    let seat = tokio::select! {
                        seat = crowd.seat() => seat,
                        () = &mut end => break,
                    };
                    self.connect(stream, caller, seat, &graceful, &mut connections);
                }
                Err(error) => {
                    // Out of descriptors, most likely: then an idle connection gives its own back.
                    crowd.make_room();
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        // Those who do not finish in time are cut off with the set.
        drop(accept);
        drop(tokio::time::timeout(FAREWELL, graceful.shutdown()).await);
    }

    /// Serves one connection, which has a place until it ends or has to make room.
    fn connect<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stream: S,
        caller: Caller,
        seat: Seat,
        graceful: &GracefulShutdown,
        connections: &mut JoinSet<()>,
    ) {
        let (server, seat_of_work) = (self.clone(), seat.clone());
        let service = service_fn(move |request| {
            let (server, seat) = (server.clone(), seat_of_work.clone());
            async move { server.answer(request, caller, &seat).await }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience)
            .max_buf_size(HEAD)
            // Who has said everything may close this direction, and is answered.
            .half_close(true)
            .serve_connection(TokioIo::new(Patient::new(stream, self.patience)), service);
        let connection = graceful.watch(connection);
        connections.spawn_local(async move {
            tokio::select! {
                // First: what arrives after that is not begun.
                biased;
                () = seat.taken() => tracing::debug!("an idle connection makes room"),
                // What a peer did wrong on its connection is its own affair.
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                },
            }
        });
    }

    /// Answers one request. An error closes the connection without an answer: only a fault wants that.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
        caller: Caller,
        seat: &Seat,
    ) -> Result<http::Response<Answered>, CutOnPurpose> {
        let (head, body) = request.into_parts();
        let (place, path) = locate(head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
        match (place, caller) {
            (Place::Api, Caller::Tcp(_)) => self.controller.borrow_mut().begin(),
            (Place::Mock, Caller::Tcp(ends)) => {
                if let Err(why) = self.access.admits(ends, &head.headers) {
                    return Ok(sent(refused(403, why)).map(|body| Answered::new(body, None)));
                }
            }
            (Place::Api | Place::Nowhere, Caller::Socket) => {
                let answer = sent(refused(404, "this socket answers what is below /mock/ only"));
                return Ok(answer.map(|body| Answered::new(body, None)));
            }
            (Place::Mock, Caller::Socket) | (Place::Nowhere, Caller::Tcp(_)) => {}
        }
        let mut work = None;
        let answered = match tokio::time::timeout(self.patience, self.read(body)).await {
            Ok(Ok((body, _held))) => {
                work = Some(seat.work());
                let request = Request { method: head.method, path, headers: head.headers, body };
                self.answer_whole(place, &request).await?
            }
            Ok(Err(status)) => plain(status),
            Err(_) => plain(StatusCode::REQUEST_TIMEOUT),
        };
        let answered = match place {
            Place::Mock => answered,
            Place::Api | Place::Nowhere => {
                let mut answered = answered;
                allow_origins(answered.headers_mut());
                answered
            }
        };
        Ok(answered.map(|body| Answered::new(body, work)))
    }

    /// Reads a body of a bounded size, out of a bounded store for all of them.
    async fn read(&self, mut body: Incoming) -> Result<(Bytes, Held), StatusCode> {
        let (mut whole, mut held) = (BytesMut::new(), Held { all: Rc::clone(&self.held), own: 0 });
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > BODY {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            if !held.take(data.len()) {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), held))
    }

    async fn answer_whole(&self, place: Place, request: &Request) -> Result<http::Response<Torn>, CutOnPurpose> {
        match place {
            Place::Api => {
                let fate = self.controller.borrow_mut().fate(request);
                if !fate.delay().is_zero() {
                    tokio::time::sleep(fate.delay()).await;
                }
                match self.act(request, |controller| controller.deliver(request, &fate)).await {
                    Delivery::Whole(answer) => Ok(sent(answer)),
                    Delivery::Truncated(answer, bytes) => Ok(truncated(answer, bytes)),
                    Delivery::Cut => Err(CutOnPurpose),
                }
            }
            Place::Mock if request.method == http::Method::GET && PLANE.contains(&request.path.as_str()) => {
                Ok(self.of_plane(&request.path).await)
            }
            Place::Mock => Ok(sent(match self.act(request, |controller| controller.begin_admin(request)).await {
                Admin::Done(answer) => answer,
                Admin::Orphans(tables) => report(&orphans::find(&tables).await),
            })),
            Place::Nowhere => Ok(plain(StatusCode::NOT_FOUND)),
        }
    }

    /// Does something to the controller. What that changed was kept, and is on its way to the kernel, before the answer
    /// leaves.
    async fn act<T>(&self, request: &Request, act: impl FnOnce(&mut Controller) -> T) -> T {
        let (answer, changes) = {
            let mut controller = self.controller.borrow_mut();
            controller.advance(self.started.elapsed());
            let answer = act(&mut controller);
            (answer, controller.drain())
        };
        self.hand_down(request, changes).await;
        answer
    }

    /// A new router is there when it is answered: the client goes on to create interfaces in its namespace, which must
    /// exist by then. Everything else is realised while the client goes on; `active` says when.
    async fn hand_down(&self, request: &Request, changes: Vec<Change>) {
        if let Some(plane) = &self.plane {
            let again = self.flowing_and_bound(&changes);
            plane.submit(changes);
            if !again.is_empty() {
                let plane = plane.clone();
                tokio::task::spawn_local(async move { plane.ask_again(again).await });
            }
            if request.method == http::Method::POST && request.path.trim_end_matches('/') == "/routers" {
                plane.settle().await;
            }
        }
    }

    /// Ports that were bound now and whose packets flow already: the data plane may see no difference.
    fn flowing_and_bound(&self, changes: &[Change]) -> Vec<Uuid> {
        let flowing = self.flowing.borrow();
        let bound = changes.iter().filter_map(|change| match change {
            Change::Put(Object::Port(id, port)) if port.binding.is_some() => Some(*id),
            _ => None,
        });
        bound.filter(|id| flowing.contains(id)).collect()
    }

    /// What the data plane tells; without one there is nothing.
    async fn of_plane(&self, path: &str) -> http::Response<Torn> {
        let Some(plane) = &self.plane else { return plain(StatusCode::NOT_FOUND) };
        // What was answered before this question is part of the answer.
        plane.settle().await;
        let found = plane.report();
        let told = match path {
            "/counters" => serde_json::json!(plane.counters().await),
            "/node-side" => serde_json::json!(found.node_side),
            _ => serde_json::json!(found),
        };
        sent(report(&told))
    }
}

/// Takes over what the data plane tells.
fn listen(news: News, controller: &mut Controller, flowing: &mut BTreeSet<Uuid>) {
    match news {
        News::Flow(ports) => {
            for (port, flows) in ports {
                if flows {
                    flowing.insert(port);
                } else {
                    flowing.remove(&port);
                }
                controller.set_active(port, flows);
            }
        }
        News::Settled(ports) => {
            for port in ports.into_iter().filter(|port| flowing.contains(port)) {
                controller.set_active(port, true);
            }
        }
    }
}

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Api,
    Mock,
    Nowhere,
}

/// Splits a request target into the part that serves it and the path below. Nothing is normalised: `/midonet-api/../x`
/// is a path with a segment `..`, which nothing is called.
fn locate(target: &str) -> (Place, String) {
    for (prefix, place) in [(BASE_PATH, Place::Api), ("/mock", Place::Mock)] {
        match target.strip_prefix(prefix) {
            Some(rest) if rest.starts_with('/') => return (place, rest.to_owned()),
            Some(rest) if rest.is_empty() || rest.starts_with('?') => return (place, format!("/{rest}")),
            _ => {}
        }
    }
    (Place::Nowhere, String::new())
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// Somebody who can connect.
    Tcp(Option<Ends>),
    /// Root, or the user that the controller runs as.
    Socket,
}

/// A share of what bodies may hold together, given back with this.
struct Held {
    all: Rc<Cell<usize>>,
    own: usize,
}

impl Held {
    fn take(&mut self, more: usize) -> bool {
        let all = self.all.get() + more;
        if all > BODIES {
            return false;
        }
        self.all.set(all);
        self.own += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.own);
    }
}

fn plain(status: StatusCode) -> http::Response<Torn> {
    let mut response = http::Response::new(Torn::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A refusal of what is below `/mock/`.
fn refused(status: u16, why: &str) -> Answer {
    let json = (http::header::CONTENT_TYPE, "application/json".to_owned());
    answer(status, vec![json], Failure::error(status, why).body().as_ref())
}

fn sent(answer: Answer) -> http::Response<Torn> {
    let Answer { status, headers, content } = answer;
    let body = match content {
        Content::Whole(body) => Torn::whole(body),
        Content::Long(pieces) => Torn::pieces(pieces),
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

/// The head promises the whole body, so that the client notices.
fn truncated(answer: Answer, bytes: usize) -> http::Response<Torn> {
    let answer = answer.whole();
    let body = answer.body.clone();
    let mut response = sent(answer.into());
    response.headers_mut().insert(http::header::CONTENT_LENGTH, body.len().into());
    *response.body_mut() = Torn::after(body, bytes);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_lead_to_the_api() {
        for (target, place, path) in [
            ("/midonet-api", Place::Api, "/"),
            ("/midonet-api/", Place::Api, "/"),
            ("/midonet-api?x=1", Place::Api, "/?x=1"),
            ("/midonet-api/routers?tenant_id=a", Place::Api, "/routers?tenant_id=a"),
            ("/mock/dump", Place::Mock, "/dump"),
            ("/midonet-apis/routers", Place::Nowhere, ""),
            ("/mocking", Place::Nowhere, ""),
            ("/", Place::Nowhere, ""),
            ("/midonet-api/../mock/reset", Place::Api, "/../mock/reset"),
        ] {
            assert_eq!(locate(target), (place, path.to_owned()), "{target}");
        }
    }
}
