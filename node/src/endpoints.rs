//! The order in which the endpoints of a service are tried, and the file by which the next process begins with the one
//! that worked.
//!
//! # Guarantees
//! * The endpoint that worked is used until it fails, because reads on another one may lag behind the last write.
//! * An endpoint that failed while it was preferred is tried after all the others.
//! * The next process begins with the endpoint that worked last, so that a dead one costs its time limit once, not once per
//!   process.
//! * An endpoint that was silent when its caller gave up counts as failed, also for the next process.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atoll_model::sync::locked;
use tokio::time::Instant;

use crate::files::{TEXT, atomic, read};

/// An endpoint that was silent for this long when its caller gave up counts as failed. A DEL gives up after a second, long
/// before the limits of a connection or an answer. A shorter silence means that the caller had other reasons.
pub const SILENT: Duration = Duration::from_millis(300);

/// The endpoints of one service, by their positions in its list.
#[derive(Debug)]
pub struct EndpointOrder {
    urls: Vec<String>,
    /// The endpoint that is tried first; the others follow in turn. It moves on when that one fails, so that the one that
    /// failed last is tried last, without a clock.
    preferred: AtomicUsize,
    /// The file with the URL of the endpoint that worked last. It may be lost or wrong, because it only changes the order.
    memory: Mutex<EndpointFile>,
}

/// The file with the URL of the endpoint that worked last.
#[derive(Debug, Default)]
struct EndpointFile {
    path: Option<PathBuf>,
    /// What the file contains.
    remembered: Option<String>,
}

impl EndpointOrder {
    /// The first one is preferred, and no file remembers another.
    pub fn new(urls: Vec<String>) -> Self {
        Self { urls, preferred: AtomicUsize::new(0), memory: Mutex::default() }
    }

    /// Prefers the endpoint that the file names, and remembers there which one worked last.
    pub fn remember_in(&self, memory: PathBuf) {
        if self.urls.len() < 2 {
            return;
        }
        let remembered = read::own(&memory, TEXT).ok().and_then(|text| String::from_utf8(text).ok());
        if let Some(known) = remembered.as_ref().and_then(|url| self.urls.iter().position(|known| known == url)) {
            self.prefer(known);
        }
        *locked(&self.memory) = EndpointFile { path: Some(memory), remembered };
    }

    /// The URL of an endpoint.
    pub fn url(&self, endpoint: usize) -> &str {
        self.urls.get(endpoint).map_or("", String::as_str)
    }

    /// The URLs of all endpoints.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The endpoint that is tried first.
    pub fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    fn prefer(&self, endpoint: usize) {
        self.preferred.store(endpoint, Ordering::Relaxed);
    }

    /// Every endpoint, in the order in which they are tried.
    pub fn order(&self) -> Vec<usize> {
        let (count, preferred) = (self.urls.len(), self.preferred());
        (0..count).map(|n| (preferred + n) % count).collect()
    }

    /// Notes that an endpoint failed.
    pub fn leave(&self, endpoint: usize) {
        // Of two callers that see the same failure, one moves on.
        let next = (endpoint + 1) % self.urls.len();
        let _ = self.preferred.compare_exchange(endpoint, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes that an endpoint failed and no other was tried: the next process, too, begins with another one.
    pub fn abandon(&self, endpoint: usize) {
        self.leave(endpoint);
        self.remember();
    }

    /// Notes that an endpoint worked.
    pub fn keep(&self, endpoint: usize) {
        self.prefer(endpoint);
        self.remember();
    }

    /// Notes that a caller waits for an endpoint. If the caller gives up and the endpoint was silent, `given_up` is called
    /// and the endpoint is abandoned.
    pub fn wait_for<'a>(&'a self, endpoint: usize, given_up: &'a (dyn Fn() + Sync)) -> Waiting<'a> {
        Waiting { order: self, endpoint, since: Instant::now(), given_up }
    }

    fn remember(&self) {
        let mut memory = locked(&self.memory);
        let EndpointFile { path: Some(path), remembered } = &mut *memory else { return };
        let url = self.url(self.preferred());
        if remembered.as_deref() != Some(url) {
            *remembered = Some(url.to_owned());
            if let Err(error) = atomic::replace(path, url.as_bytes(), atomic::Durability::Lossy) {
                tracing::debug!(path = %path.display(), %error, "the endpoint was not remembered");
            }
        }
    }
}

/// A caller waits for an endpoint. When this is dropped before [`Waiting::over`], the caller has given up.
pub struct Waiting<'a> {
    order: &'a EndpointOrder,
    endpoint: usize,
    since: Instant,
    given_up: &'a (dyn Fn() + Sync),
}

impl Waiting<'_> {
    /// The endpoint answered, or failed by itself.
    pub fn over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SILENT {
            (self.given_up)();
            self.order.abandon(self.endpoint);
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn three() -> EndpointOrder {
        EndpointOrder::new(["a", "b", "c"].map(str::to_owned).to_vec())
    }

    #[test]
    fn an_endpoint_that_failed_is_tried_after_all_the_others() {
        let order = three();
        order.leave(0);
        assert_eq!(order.order(), [1, 2, 0]);
        order.leave(0);
        assert_eq!(order.order(), [1, 2, 0], "it is not preferred");
        order.leave(2);
        order.keep(2);
        assert_eq!(order.order(), [2, 0, 1]);
        order.leave(2);
        assert_eq!(order.order(), [0, 1, 2]);
    }

    #[test]
    fn the_next_process_begins_with_the_endpoint_that_worked() {
        let directory = tempfile::tempdir().expect("a directory");
        let memory = directory.path().join("endpoint");
        let process = || {
            let order = three();
            order.remember_in(memory.clone());
            order
        };
        process().keep(2);
        assert_eq!(process().preferred(), 2);
        process().leave(2);
        assert_eq!(process().preferred(), 2, "the others were not tried");
        process().abandon(2);
        assert_eq!(process().preferred(), 0);
        std::fs::write(&memory, "an endpoint of an earlier configuration").expect("writable");
        assert_eq!(process().preferred(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_silent_endpoint_is_abandoned() {
        for (waited, expected) in [(SILENT / 2, 0), (SILENT, 1)] {
            let (order, calls) = (three(), AtomicUsize::new(0));
            let given_up = || {
                calls.fetch_add(1, Ordering::Relaxed);
            };
            let waiting = order.wait_for(0, &given_up);
            tokio::time::advance(waited).await;
            drop(waiting);
            assert_eq!((order.preferred(), calls.load(Ordering::Relaxed)), (expected, expected));
            let waiting = order.wait_for(expected, &given_up);
            tokio::time::advance(SILENT).await;
            waiting.over();
            assert_eq!((order.preferred(), calls.load(Ordering::Relaxed)), (expected, expected), "it answered");
        }
    }
}
