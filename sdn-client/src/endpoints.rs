//! The order in which the endpoints of a service are tried.
//!
//! # Guarantees
//!
//! - The endpoint that worked is used until it fails, because reads on another one may lag behind the last write.
//! - An endpoint that failed is tried after all the others.
//! - The next process begins with the endpoint that worked last, so that a dead one costs its time limit once, not once per
//!   process.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Duration;

use atoll_node::files::{TEXT, atomic, read};
use tokio::time::Instant;

/// An endpoint that was silent for this long when its caller gave up counts as failed. A DEL gives up after a second, long
/// before the limits of a connection or an answer. A shorter silence means that the caller had other reasons.
const SILENT: Duration = Duration::from_millis(300);

/// The endpoints of one service.
#[derive(Debug)]
pub(crate) struct Endpoints {
    urls: Vec<String>,
    /// The endpoint that is tried first; the others follow in turn. It moves on when that one fails, so that the one that
    /// failed last is tried last, without a clock.
    current: Cell<usize>,
    /// The file with the URL of the endpoint that worked last. It may be lost or wrong, because it only changes the order.
    memory: Option<PathBuf>,
    remembered: RefCell<Option<String>>,
}

impl Endpoints {
    pub(crate) fn new(urls: Vec<String>, memory: Option<PathBuf>) -> Self {
        let remembered = memory.as_ref().and_then(|path| String::from_utf8(read::own(path, TEXT).ok()?).ok());
        let first = remembered.as_ref().and_then(|url| urls.iter().position(|u| u == url));
        Self { current: Cell::new(first.unwrap_or(0)), urls, memory, remembered: RefCell::new(remembered) }
    }

    pub(crate) fn url(&self, endpoint: usize) -> &str {
        &self.urls[endpoint]
    }

    /// The number of endpoints.
    pub(crate) fn count(&self) -> usize {
        self.urls.len()
    }

    /// Every endpoint, in the order in which they are tried.
    pub(crate) fn order(&self) -> Vec<usize> {
        let (count, current) = (self.urls.len(), self.current.get());
        (0..count).map(|n| (current + n) % count).collect()
    }

    /// Notes that an endpoint failed.
    pub(crate) fn leave(&self, endpoint: usize) {
        if self.current.get() == endpoint {
            self.current.set((endpoint + 1) % self.urls.len());
        }
    }

    /// Notes that an endpoint worked.
    pub(crate) fn keep(&self, endpoint: usize) {
        self.current.set(endpoint);
        self.remember();
    }

    /// Notes that a caller waits for an endpoint.
    pub(crate) fn wait_for(&self, endpoint: usize) -> Waiting<'_> {
        Waiting { endpoints: self, endpoint, since: Instant::now() }
    }

    fn remember(&self) {
        let Some(path) = self.memory.as_ref().filter(|_| self.urls.len() > 1) else { return };
        let url = &self.urls[self.current.get()];
        if self.remembered.borrow().as_ref() != Some(url) {
            *self.remembered.borrow_mut() = Some(url.clone());
            if let Err(error) = atomic::replace(path, url.as_bytes(), atomic::Durability::Lossy) {
                tracing::debug!(path = %path.display(), %error, "the endpoint was not remembered");
            }
        }
    }
}

/// A caller waits for an endpoint. When this is dropped before [`Waiting::over`], the caller has given up.
pub(crate) struct Waiting<'a> {
    endpoints: &'a Endpoints,
    endpoint: usize,
    since: Instant,
}

impl Waiting<'_> {
    /// The endpoint answered, or failed by itself.
    pub(crate) fn over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SILENT {
            self.endpoints.leave(self.endpoint);
            self.endpoints.remember();
        }
    }
}
