//! One connection per endpoint, and which endpoint to ask.
//!
//! The library would balance over all endpoints and hand the failure of a dead one to the caller. So each endpoint has
//! a client of its own: we stay with the one that answered last, go on to the next when a request could not be sent,
//! and ask one that failed a short while ago only after the others.
//!
//! The connection is established before the request, so a request whose connection failed was certainly not sent. While
//! other endpoints are left, each gets at most [`HASTE`]; if none connects in that time, all get the full timeout.
//!
//! The order and its file are `atoll_node::endpoints`, as with the controller. Here are the connections: an endpoint
//! whose connection was dropped a short while ago is tried after the others, whatever the order.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use atoll_model::sync::locked;
use atoll_model::{certificate, clock};
use atoll_node::endpoints::EndpointOrder;
use atoll_node::files::{CERTIFICATES, read};
use etcd_client as wire;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;

use super::failure::{EtcdFailure, RequestResult, Stopped, chain};
use super::limits::Limits;
use crate::StoreError;

/// How long a connection may take while there are other endpoints: many times what it takes, a fraction of what a DEL
/// has.
const HASTE: Duration = Duration::from_millis(300);

/// Requests that may be sent again, to another endpoint, after no answer came.
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
    order: EndpointOrder,
    limits: Limits,
    /// The client certificate, if there is one: examined when a server closes the connection.
    certificate: Option<PathBuf>,
}

struct Known {
    settings: Endpoint,
    client: Mutex<Option<wire::Client>>,
    failed: Mutex<Option<Instant>>,
}

impl Endpoints {
    /// `list` must not be empty; [`super::settings`] sees to it.
    pub(super) fn new(list: Vec<(String, Endpoint)>, limits: Limits, certificate: Option<PathBuf>) -> Self {
        let (urls, settings): (Vec<_>, Vec<_>) = list.into_iter().unzip();
        let known = |settings| Known { settings, client: Mutex::default(), failed: Mutex::default() };
        let list = settings.into_iter().map(known).collect();
        Self { list, order: EndpointOrder::new(urls), limits, certificate }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn preferred(&self) -> &str {
        self.order.url(self.order.preferred())
    }

    /// Begins with the endpoint that is remembered in a file, and remembers there which one to begin with next time.
    pub(super) fn remember(&self, memory: PathBuf) {
        self.order.remember_in(memory);
    }

    /// The preferred one, then the rest in turn; those that failed lately behind all others.
    fn order(&self) -> Vec<usize> {
        let mut order = self.order.order();
        let lately = |index: &usize| {
            let failed = self.list.get(*index).and_then(|known| *locked(&known.failed));
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
            let given_up = || known.drop_connection();
            let waiting = self.order.wait_for(index, &given_up);
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
                        *locked(&known.failed) = None;
                        self.order.keep(index);
                        return Ok(answer);
                    }
                    Ok(Err(error)) => EtcdFailure::of(error),
                    Err(_) => EtcdFailure::NoAnswer(format!("no answer within {:?}", self.limits.request)),
                },
            };
            waiting.over();
            // A connection was made, and closed without an answer.
            hung_up |= matches!(failure, EtcdFailure::NoAnswer(_));
            let reason = match failure {
                EtcdFailure::Answer(stopped) => return Err(self.dated(stopped)),
                EtcdFailure::NoAnswer(reason) if repeat == Repeat::Unsent => {
                    known.drop_connection();
                    self.order.abandon(index);
                    let reason = match self.certificate_trouble() {
                        Some(trouble) => format!("{reason}; {trouble}"),
                        None => reason,
                    };
                    return Err(Stopped::Error(StoreError::Unknown {
                        endpoint: self.order.url(index).to_owned(),
                        reason,
                    }));
                }
                EtcdFailure::NotSent(reason) | EtcdFailure::NoAnswer(reason) => reason,
            };
            known.drop_connection();
            let url = self.order.url(index);
            tracing::debug!(endpoint = url, reason, "etcd endpoint failed");
            reasons.push(format!("{url}: {reason}"));
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
        let endpoints = self.order.urls().join(", ");
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

    /// The fault of our certificate today, in words.
    fn certificate_trouble(&self) -> Option<String> {
        let path = self.certificate.as_ref()?;
        let problem = certificate::out_of_time(&read::given(path, CERTIFICATES).ok()?, clock::now())?;
        Some(format!("this node's certificate {} (`etcd.cert`): {problem}", path.display()))
    }

    /// The endpoint that answered last has failed since, in a way that no call has seen.
    pub(super) fn blame_preferred(&self) {
        if let Some(known) = self.list.get(self.order.preferred()) {
            known.drop_connection();
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
        if let Some(client) = &*locked(&self.client) {
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
        *locked(&self.client) = Some(client.clone());
        Ok(client)
    }

    fn drop_connection(&self) {
        *locked(&self.failed) = Some(Instant::now());
        locked(&self.client).take();
    }
}
