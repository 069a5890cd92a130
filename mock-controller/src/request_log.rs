//! The request log: the last requests, and counters by method and path. Its size is bounded.

use std::collections::{BTreeMap, VecDeque};

use http::Method;
use serde::Serialize;

/// The most requests in the log.
const KEPT: usize = 10_000;

/// The longest path in the log, in characters.
const PATH: usize = 300;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoggedRequest {
    /// Counts from 1.
    pub number: u64,
    /// Method.
    pub method: String,
    /// Path below the base, with its query.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
}

/// The request log.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    count: u64,
    rounds: u64,
    /// A request of the current round was answered: the next request may depend on that answer.
    answered: bool,
    entries: VecDeque<LoggedRequest>,
    counters: BTreeMap<String, u64>,
}

impl RequestLog {
    /// Notes that a request begins. It belongs to the round of the requests that are unanswered, or begins the next round.
    pub(crate) fn begin(&mut self) {
        if self.rounds == 0 || self.answered {
            self.rounds += 1;
            self.answered = false;
        }
    }

    pub(crate) fn note(&mut self, method: &Method, pattern: &str, path: &str, status: u16) {
        self.count += 1;
        self.answered = true;
        // A method may be any word, so only the known ones have counters.
        let method = if matches!(method.as_str(), "GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS") {
            method.as_str()
        } else {
            "(other)"
        };
        *self.counters.entry(format!("{method} {pattern}")).or_default() += 1;
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        let path = path.chars().take(PATH).collect();
        self.entries.push_back(LoggedRequest { number: self.count, method: method.to_owned(), path, status });
    }

    /// Requests since the start or the last reset.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of dependent round trips: how often a client waited for an answer before the next request.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Requests by method and path pattern.
    pub(crate) fn counters(&self) -> &BTreeMap<String, u64> {
        &self.counters
    }

    /// The last requests, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &LoggedRequest> {
        self.entries.iter()
    }
}
