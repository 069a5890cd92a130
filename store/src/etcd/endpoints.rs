//! One connection per endpoint, and which endpoint to ask.
//!
//! The library would balance over all endpoints and hand the failure of a dead one to the caller. So each endpoint has
//! a client of its own: we stay with the one that answered last, go on to the next when a request could not be sent,
//! and ask one that failed a short while ago only after the others.
//!
//! The connection is established before the request, so a request whose connection failed was certainly not sent. While
//! other endpoints are left, each gets at most [`HASTE`]; if none connects in that time, all get the full timeout.
//!
//! An endpoint that a caller stopped waiting for counts as one that failed, also for the next process.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use atoll_model::{certificate, clock};
use atoll_node::files::{CERTIFICATES, TEXT, atomic, read};
use etcd_client as wire;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;

use super::failure::{EtcdFailure, RequestResult, Stopped, chain};
use super::limits::Limits;
use crate::StoreError;

/// How long a connection may take while there are other endpoints: many times what it takes, a fraction of what a DEL
/// has. And how long an endpoint must have been silent for a caller's giving up to be its fault.
const HASTE: Duration = Duration::from_millis(300);

/// What may be sent again, to another endpoint, after no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or twice is once.
    Always,
    /// Only what was never sent.
    Unsent,
}

pub(super) struct Endpoints {
    /// Never empty.
    list: Vec<Known>,
    preferred: Cell<usize>,
    limits: Limits,
    /// File with the URL of the preferred one, for the next process. It may be lost or wrong: it only changes the order.
    memory: RefCell<Option<PathBuf>>,
    /// The client certificate, if there is one: examined when a server closes the connection.
    certificate: Option<PathBuf>,
}

struct Known {
    url: String,
    settings: Endpoint,
    client: RefCell<Option<wire::Client>>,
    failed: Cell<Option<Instant>>,
}

impl Endpoints {
    /// `list` must not be empty; [`super::settings`] sees to it.
    pub(super) fn new(list: Vec<(String, Endpoint)>, limits: Limits, certificate: Option<PathBuf>) -> Self {
        let known = |(url, settings)| Known { url, settings, client: RefCell::default(), failed: Cell::default() };
        let list = list.into_iter().map(known).collect();
        Self { list, preferred: Cell::new(0), limits, memory: RefCell::default(), certificate }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn preferred(&self) -> &str {
        self.list.get(self.preferred.get()).map_or("", |known| &known.url)
    }

    /// Begins with the endpoint that is remembered in a file, and remembers there which one to begin with next time.
    pub(super) fn remember(&self, memory: PathBuf) {
        if self.list.len() == 1 {
            return;
        }
        if let Ok(url) = read::own(&memory, TEXT)
            && let Some(index) = self.list.iter().position(|known| known.url.as_bytes() == url)
        {
            self.preferred.set(index);
        }
        *self.memory.borrow_mut() = Some(memory);
    }

    fn prefer(&self, index: usize) {
        if self.preferred.replace(index) == index {
            return;
        }
        if let Some(path) = &*self.memory.borrow()
            && let Err(error) = atomic::replace(path, self.preferred().as_bytes(), atomic::Durability::Lossy)
        {
            tracing::debug!(path = %path.display(), %error, "the endpoint was not remembered");
        }
    }

    /// The preferred one, then the rest in turn; those that failed lately behind all others.
    fn order(&self) -> Vec<usize> {
        let count = self.list.len();
        let mut order: Vec<_> = (0..count).map(|step| (self.preferred.get() + step) % count).collect();
        let lately = |index: &usize| {
            let failed = self.list.get(*index).and_then(|known| known.failed.get());
            failed.is_some_and(|failed| failed.elapsed() < self.limits.penalty)
        };
        order.sort_by_key(lately);
        order
    }

    /// Sends a request to one endpoint after another until one answers.
    pub(super) async fn call<T, F>(&self, repeat: Repeat, send: impl Fn(wire::Client) -> F) -> RequestResult<T>
    where
        F: Future<Output = Result<T, wire::Error>>,
    {
        let (mut reasons, mut hung_up) = (Vec::new(), false);
        let order = self.order();
        let hasty = if order.len() > 1 { self.limits.connect.min(HASTE) } else { self.limits.connect };
        let mut turns: Vec<_> = order.iter().map(|index| (*index, hasty)).collect();
        let mut turn = 0;
        while let Some((index, connect)) = turns.get(turn).copied() {
            turn += 1;
            let Some(known) = self.list.get(index) else { continue };
            let waiting = Waiting { endpoints: self, index, since: Instant::now() };
            let failure = match known.client(connect).await {
                Err(NoConnection::Late) if connect < self.limits.connect => {
                    // Others first. If none of them is there, it gets the rest of its time.
                    turns.push((index, self.limits.connect));
                    waiting.over();
                    known.drop_connection();
                    continue;
                }
                Err(NoConnection::Late) => EtcdFailure::NotSent(format!("no connection within {connect:?}")),
                Err(NoConnection::Failed(reason)) => EtcdFailure::NotSent(reason),
                Ok(client) => match timeout(self.limits.request, send(client)).await {
                    Ok(Ok(answer)) => {
                        waiting.over();
                        known.failed.set(None);
                        self.prefer(index);
                        return Ok(answer);
                    }
                    Ok(Err(error)) => EtcdFailure::of(error),
                    Err(_) => EtcdFailure::NoAnswer(format!("no answer within {:?}", self.limits.request)),
                },
            };
            waiting.over();
            // A connection stood, and brought nothing.
            hung_up |= matches!(failure, EtcdFailure::NoAnswer(_));
            let reason = match failure {
                EtcdFailure::Answer(stopped) => return Err(self.dated(stopped)),
                EtcdFailure::NoAnswer(reason) if repeat == Repeat::Unsent => {
                    self.leave(index);
                    let reason = match self.certificate_trouble() {
                        Some(trouble) => format!("{reason}; {trouble}"),
                        None => reason,
                    };
                    return Err(Stopped::Error(StoreError::Unknown { endpoint: known.url.clone(), reason }));
                }
                EtcdFailure::NotSent(reason) | EtcdFailure::NoAnswer(reason) => reason,
            };
            known.drop_connection();
            tracing::debug!(endpoint = known.url, reason, "etcd endpoint failed");
            reasons.push(format!("{}: {reason}", known.url));
        }
        let reason = reasons.join("; ");
        // A server that refuses a certificate may hang up before its own reason has arrived.
        let trouble = self.certificate_trouble().filter(|_| hung_up);
        let trouble =
            trouble.or_else(|| certificate::refusal(&reason).map(|_| "this node's certificate (`etcd.cert`)".into()));
        if let Some(trouble) = trouble {
            return Err(Stopped::Error(StoreError::Denied(format!("{trouble} ({reason})"))));
        }
        let perhaps = if hung_up && self.certificate.is_some() {
            "; perhaps it does not take this node's certificate (`etcd.cert`)"
        } else {
            ""
        };
        let reason = reason + perhaps;
        let endpoints = self.list.iter().map(|known| known.url.as_str()).collect::<Vec<_>>().join(", ");
        Err(Stopped::Error(StoreError::Unavailable { endpoints, reason }))
    }

    /// A refusal of the client certificate, with the certificate's own faults: a server's alert often states only that it is
    /// bad.
    fn dated(&self, stopped: Stopped) -> Stopped {
        match stopped {
            Stopped::Error(StoreError::Denied(reason)) if certificate::refusal(&reason).is_some() => {
                let trouble = self.certificate_trouble().map(|trouble| format!("{trouble} ({reason})"));
                Stopped::Error(StoreError::Denied(trouble.unwrap_or(reason)))
            }
            stopped => stopped,
        }
    }

    /// What is wrong with our certificate today, in words.
    fn certificate_trouble(&self) -> Option<String> {
        let path = self.certificate.as_ref()?;
        let problem = certificate::out_of_time(&read::given(path, CERTIFICATES).ok()?, clock::now())?;
        Some(format!("this node's certificate {} (`etcd.cert`): {problem}", path.display()))
    }

    /// This one failed and no other was asked: the next call, also of another process, begins with the next one.
    fn leave(&self, index: usize) {
        if let Some(known) = self.list.get(index) {
            known.drop_connection();
        }
        if self.preferred.get() == index {
            self.prefer((index + 1) % self.list.len());
        }
    }

    /// The endpoint that answered last has failed since, in a way that no call has seen.
    pub(super) fn blame_preferred(&self) {
        if let Some(known) = self.list.get(self.preferred.get()) {
            known.drop_connection();
        }
    }
}

/// An endpoint is being waited for. Dropped before it is [`Waiting::over`], the caller has given up.
struct Waiting<'a> {
    endpoints: &'a Endpoints,
    index: usize,
    since: Instant,
}

impl Waiting<'_> {
    /// The endpoint answered, or failed by itself.
    fn over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= HASTE {
            self.endpoints.leave(self.index);
        }
    }
}

/// Why there is no connection.
enum NoConnection {
    /// Not within the limit.
    Late,
    /// For this reason.
    Failed(String),
}

impl Known {
    async fn client(&self, limit: Duration) -> Result<wire::Client, NoConnection> {
        if let Some(client) = &*self.client.borrow() {
            return Ok(client.clone());
        }
        let channel = match timeout(limit, self.settings.connect()).await {
            Ok(Ok(channel)) => wire::Channel::Tonic(channel),
            Ok(Err(error)) => return Err(NoConnection::Failed(chain(&error))),
            Err(_) => return Err(NoConnection::Late),
        };
        // An etcd member without a leader answers so at once instead of delaying the request.
        let options = wire::ConnectOptions::new().with_require_leader(true);
        let client = wire::Client::from_channel(channel, Some(options)).await;
        let client = client.map_err(|error| NoConnection::Failed(chain(&error)))?;
        *self.client.borrow_mut() = Some(client.clone());
        Ok(client)
    }

    fn drop_connection(&self) {
        self.failed.set(Some(Instant::now()));
        self.client.borrow_mut().take();
    }
}
