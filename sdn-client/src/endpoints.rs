//! Which endpoint to ask first.
//!
//! Promises: one is kept until it fails, because reads on another may lag behind; one that failed is asked after all the
//! others; a later process begins where this one ended, so that a dead endpoint costs its time limit once and not once
//! per process.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::PathBuf;

use uuid::Uuid;

/// The endpoints of one service.
#[derive(Debug)]
pub(crate) struct Endpoints {
    urls: Vec<String>,
    /// The one that is asked first; the others follow in turn. It moves on when that one fails, so whoever failed last is
    /// asked last, and no clock is needed.
    current: Cell<usize>,
    /// File with the URL of the one that worked last. It may be lost or wrong: it only changes the order.
    memory: Option<PathBuf>,
    remembered: RefCell<Option<String>>,
}

impl Endpoints {
    pub(crate) fn new(urls: Vec<String>, memory: Option<PathBuf>) -> Self {
        let remembered = memory.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let first = remembered.as_ref().and_then(|url| urls.iter().position(|u| u == url));
        Self { current: Cell::new(first.unwrap_or(0)), urls, memory, remembered: RefCell::new(remembered) }
    }

    pub(crate) fn url(&self, endpoint: usize) -> &str {
        &self.urls[endpoint]
    }

    /// Every endpoint, the best first.
    pub(crate) fn order(&self) -> Vec<usize> {
        let (count, current) = (self.urls.len(), self.current.get());
        (0..count).map(|n| (current + n) % count).collect()
    }

    /// This one failed.
    pub(crate) fn leave(&self, endpoint: usize) {
        if self.current.get() == endpoint {
            self.current.set((endpoint + 1) % self.urls.len());
        }
    }

    /// This one worked.
    pub(crate) fn keep(&self, endpoint: usize) {
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
