//! One connection per endpoint, and which endpoint to ask.
//!
//! The library would balance over all endpoints and hand the failure of a dead one to the caller. So each endpoint has
//! a client of its own: we stay with the one that answered last, go on to the next when a request could not be sent,
//! and ask one that failed a short while ago only after the others.
//!
//! A connection is made before the request, not by it: what fails while connecting was certainly not sent.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::Duration;

use etcd_client as wire;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;

use super::Limits;
use super::failure::{Failure, chain};
use crate::StoreError;

/// What may be sent again, to another endpoint, after no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or twice is once.
    Always,
    /// Only what was never sent.
    Unsent,
}

/// Why there is no answer that a caller could use.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The lease is not there.
    NoLease,
    /// A lease of that id is there.
    LeaseExists,
    /// Anything else.
    Error(StoreError),
}

impl From<Stopped> for StoreError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::NoLease => Self::Refused("the lease is not there".to_owned()),
            Stopped::LeaseExists => Self::Refused("a lease of that id is there".to_owned()),
            Stopped::Error(error) => error,
        }
    }
}

pub(super) type Outcome<T> = Result<T, Stopped>;

pub(super) struct Endpoints {
    /// Never empty.
    list: Vec<Known>,
    preferred: Cell<usize>,
    limits: Limits,
}

struct Known {
    url: String,
    settings: Endpoint,
    client: RefCell<Option<wire::Client>>,
    failed: Cell<Option<Instant>>,
}

impl Endpoints {
    /// `list` must not be empty; [`super::settings`] sees to it.
    pub(super) fn new(list: Vec<(String, Endpoint)>, limits: Limits) -> Self {
        let known = |(url, settings)| Known { url, settings, client: RefCell::default(), failed: Cell::default() };
        Self { list: list.into_iter().map(known).collect(), preferred: Cell::new(0), limits }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn preferred(&self) -> &str {
        self.list.get(self.preferred.get()).map_or("", |known| &known.url)
    }

    pub(super) fn prefer(&self, url: &str) {
        if let Some(index) = self.list.iter().position(|known| known.url == url) {
            self.preferred.set(index);
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
    pub(super) async fn call<T, F>(&self, repeat: Repeat, send: impl Fn(wire::Client) -> F) -> Outcome<T>
    where
        F: Future<Output = Result<T, wire::Error>>,
    {
        let mut reasons = Vec::new();
        for index in self.order() {
            let Some(known) = self.list.get(index) else { continue };
            let failure = match known.client(self.limits.connect).await {
                Err(reason) => Failure::NotSent(reason),
                Ok(client) => match timeout(self.limits.request, send(client)).await {
                    Ok(Ok(answer)) => {
                        known.failed.set(None);
                        self.preferred.set(index);
                        return Ok(answer);
                    }
                    Ok(Err(error)) => Failure::of(error),
                    Err(_) => Failure::NoAnswer(format!("no answer within {:?}", self.limits.request)),
                },
            };
            let reason = match failure {
                Failure::Answer(stopped) => return Err(stopped),
                Failure::NoAnswer(reason) if repeat == Repeat::Unsent => {
                    known.drop_connection();
                    return Err(Stopped::Error(StoreError::Unknown { endpoint: known.url.clone(), reason }));
                }
                Failure::NotSent(reason) | Failure::NoAnswer(reason) => reason,
            };
            known.drop_connection();
            tracing::debug!(endpoint = known.url, reason, "etcd endpoint failed");
            reasons.push(format!("{}: {reason}", known.url));
        }
        let endpoints = self.list.iter().map(|known| known.url.as_str()).collect::<Vec<_>>().join(", ");
        Err(Stopped::Error(StoreError::Unavailable { endpoints, reason: reasons.join("; ") }))
    }

    /// The endpoint that answered last has failed since, in a way that no call has seen.
    pub(super) fn blame_preferred(&self) {
        if let Some(known) = self.list.get(self.preferred.get()) {
            known.drop_connection();
        }
    }
}

impl Known {
    async fn client(&self, limit: Duration) -> Result<wire::Client, String> {
        if let Some(client) = &*self.client.borrow() {
            return Ok(client.clone());
        }
        let channel = match timeout(limit, self.settings.connect()).await {
            Ok(Ok(channel)) => wire::Channel::Tonic(channel),
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err(format!("no connection within {limit:?}")),
        };
        // An etcd member without a leader says so at once instead of letting us wait.
        let options = wire::ConnectOptions::new().with_require_leader(true);
        let client = wire::Client::from_channel(channel, Some(options)).await.map_err(|error| chain(&error))?;
        *self.client.borrow_mut() = Some(client.clone());
        Ok(client)
    }

    fn drop_connection(&self) {
        self.failed.set(Some(Instant::now()));
        self.client.borrow_mut().take();
    }
}
