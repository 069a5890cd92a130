//! The controller over HTTP/1.1: a thin shell that reads whole requests, bounded in size and time, and writes answers.
//!
//! One thread, one controller: requests are answered one after the other, in the order in which they are complete.
//! hyper is used directly, without a framework: there is nothing to route, and only hyper lets us bound the time of
//! the request head.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use atoll_model::topology::{Change, Object};
use atoll_sdn_client::transport::{Request, Response};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::controller::{BASE_PATH, Controller, answer};
use crate::faults::Delivery;
use crate::patient::Patient;
use crate::plane::{News, Plane};
use crate::state_file::StateFile;
use crate::torn::{CutOnPurpose, Torn};

/// The largest body that is read.
const BODY: usize = 1 << 20;
/// How long a request's head or body may take, how long an idle connection stays, and how long a client may take
/// nothing of its answer (the real server's figure).
const PATIENCE: Duration = Duration::from_secs(30);
/// What is asked of the data plane, below `/mock`.
const PLANE: [&str; 3] = ["/dataplane", "/node-side", "/counters"];
/// How many connections are served at once; more wait.
const CONNECTIONS: usize = 1024;
/// How long running requests may take after the end was asked for.
const FAREWELL: Duration = Duration::from_secs(2);

/// A controller that is served. Clones are the same.
#[derive(Clone)]
pub struct Server {
    controller: Rc<RefCell<Controller>>,
    file: Rc<RefCell<Option<StateFile>>>,
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
            file: Rc::default(),
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

    /// Keeps the controller's objects in `file` from now on.
    pub fn keep(&self, file: StateFile) {
        drop(self.controller.borrow_mut().follow());
        *self.file.borrow_mut() = Some(file);
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
        let mut end = std::pin::pin!(end);
        let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let place = tokio::select! {
                place = std::sync::Arc::clone(&places).acquire_owned() => place,
                () = &mut end => break,
            };
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut end => break,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others will close theirs.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Answers are small: waiting to fill a packet only costs time.
            drop(stream.set_nodelay(true));
            let server = self.clone();
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { server.answer(request).await }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.patience)
                .serve_connection(TokioIo::new(Patient::new(stream, self.patience)), service);
            let connection = graceful.watch(connection);
            connections.spawn_local(async move {
                // What a peer did wrong on its connection is its own affair.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
                drop(place);
            });
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        // Those who do not finish in time are cut off with the set.
        drop(tokio::time::timeout(FAREWELL, graceful.shutdown()).await);
    }

    /// Answers one request. An error closes the connection without an answer: only a fault wants that.
    async fn answer(&self, request: http::Request<Incoming>) -> Result<http::Response<Torn>, CutOnPurpose> {
        let (head, body) = request.into_parts();
        let (place, path) = locate(head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
        if place == Place::Api {
            self.controller.borrow_mut().begin();
        }
        let body = match tokio::time::timeout(self.patience, Limited::new(body, BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
            }
            Ok(Err(_)) => return Ok(plain(StatusCode::BAD_REQUEST)),
            Err(_) => return Ok(plain(StatusCode::REQUEST_TIMEOUT)),
        };
        let request = Request { method: head.method, path, headers: head.headers, body };
        match place {
            Place::Api => {
                let fate = self.controller.borrow_mut().fate(&request);
                if !fate.delay().is_zero() {
                    tokio::time::sleep(fate.delay()).await;
                }
                match self.act(&request, |controller| controller.deliver(&request, &fate)).await {
                    Delivery::Whole(response) => Ok(whole(response)),
                    Delivery::Truncated(response, bytes) => Ok(truncated(response, bytes)),
                    Delivery::Cut => Err(CutOnPurpose),
                }
            }
            Place::Mock if request.method == http::Method::GET && PLANE.contains(&request.path.as_str()) => {
                Ok(self.of_plane(&request.path).await)
            }
            Place::Mock => Ok(whole(self.act(&request, |controller| controller.admin(&request)).await)),
            Place::Nowhere => Ok(plain(StatusCode::NOT_FOUND)),
        }
    }

    /// Does something to the controller. What that changed is in the file, and on its way to the kernel, before the
    /// answer leaves.
    async fn act<T>(&self, request: &Request, act: impl FnOnce(&mut Controller) -> T) -> T {
        let (answer, changes) = {
            let mut controller = self.controller.borrow_mut();
            controller.advance(self.started.elapsed());
            let answer = act(&mut controller);
            let (changes, patch) = controller.drain_with_patch();
            if let Some(file) = self.file.borrow_mut().as_mut()
                && let Err(error) = file.append(&patch, controller.tables())
            {
                // The change is made and cannot be unmade; the next one writes the file anew.
                tracing::error!(%error, "a change was not kept");
            }
            (answer, changes)
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
        let report = plane.report();
        let told = match path {
            "/counters" => serde_json::json!(plane.counters().await),
            "/node-side" => serde_json::json!(report.node_side),
            _ => serde_json::json!(report),
        };
        let json = (http::header::CONTENT_TYPE, "application/json".to_owned());
        whole(answer(200, vec![json], Some(&told)))
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

fn plain(status: StatusCode) -> http::Response<Torn> {
    let mut response = http::Response::new(Torn::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn whole(answer: Response) -> http::Response<Torn> {
    let mut response = http::Response::new(Torn::whole(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = answer.headers;
    response
}

/// The head promises the whole body, so that the client notices.
fn truncated(answer: Response, bytes: usize) -> http::Response<Torn> {
    let body = answer.body.clone();
    let mut response = whole(answer);
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
