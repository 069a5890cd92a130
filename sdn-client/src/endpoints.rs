//! Which endpoint to ask first.
//!
//! Promises: one is kept until it fails, because reads on another may lag behind; one that failed is asked last for a
//! while; a later process begins where this one ended, so that a dead endpoint costs its time limit once and not once
//! per process.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// How long an endpoint that failed is asked last.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// The endpoints of one service.
#[derive(Debug)]
pub(crate) struct Endpoints {
    urls: Vec<String>,
    /// The one that is asked first.
    current: Cell<usize>,
    /// Until when each one is asked last.
    resting: RefCell<Vec<Option<Instant>>>,
    /// File with the URL of the one that worked last. It may be lost or wrong: it only changes the order.
    memory: Option<PathBuf>,
    remembered: RefCell<Option<String>>,
}

impl Endpoints {
    pub(crate) fn new(urls: Vec<String>, memory: Option<PathBuf>) -> Self {
        let remembered = memory.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let first = remembered.as_ref().and_then(|url| urls.iter().position(|u| u == url));
        Self {
            current: Cell::new(first.unwrap_or(0)),
            resting: RefCell::new(vec![None; urls.len()]),
            urls,
            memory,
            remembered: RefCell::new(remembered),
        }
    }

    pub(crate) fn url(&self, endpoint: usize) -> &str {
        &self.urls[endpoint]
    }

    /// Every endpoint, the best first: the current one, then the healthy ones in turn, then those that failed lately.
    pub(crate) fn order(&self) -> Vec<usize> {
        let (now, count, current) = (Instant::now(), self.urls.len(), self.current.get());
        let resting = self.resting.borrow();
        let mut order: Vec<usize> = (0..count).map(|n| (current + n) % count).collect();
        order.sort_by_key(|n| resting[*n].is_some_and(|until| until > now));
        order
    }

    /// This one failed: the next is current.
    pub(crate) fn rest(&self, endpoint: usize) {
        self.resting.borrow_mut()[endpoint] = Some(Instant::now() + COOL_DOWN);
        if self.current.get() == endpoint {
            self.current.set((endpoint + 1) % self.urls.len());
        }
    }

    /// This one worked.
    pub(crate) fn keep(&self, endpoint: usize) {
        self.resting.borrow_mut()[endpoint] = None;
        self.current.set(endpoint);
        let Some(path) = self.memory.as_ref().filter(|_| self.urls.len() > 1) else { return };
        let url = &self.urls[endpoint];
        if self.remembered.borrow().as_ref() != Some(url) {
            *self.remembered.borrow_mut() = Some(url.clone());
            // Renamed into place, so that no process reads half a URL.
            let temporary = path.with_extension(format!("{}.tmp", Uuid::new_v4().simple()));
            let written = fs::write(&temporary, url).and_then(|()| fs::rename(&temporary, path));
            if let Err(error) = written {
                drop(fs::remove_file(&temporary));
                tracing::debug!(path = %path.display(), %error, "the endpoint was not remembered");
            }
        }
    }
}
