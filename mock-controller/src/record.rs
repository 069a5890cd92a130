//! What was asked: the last requests, and counters by method and path. Bounded, whatever comes.

use std::collections::{BTreeMap, VecDeque};

use http::Method;
use serde::Serialize;

/// How many requests are remembered.
const KEPT: usize = 10_000;

/// How much of a path is remembered.
const PATH: usize = 300;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Counts from 1.
    pub number: u64,
    /// Method.
    pub method: String,
    /// Path below the base, with its query.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
}

/// The record of requests.
#[derive(Debug, Default)]
pub(crate) struct Record {
    count: u64,
    rounds: u64,
    /// Something was answered in the current round: what begins now may depend on it.
    answered: bool,
    entries: VecDeque<Entry>,
    counters: BTreeMap<String, u64>,
}

impl Record {
    /// A request begins. It belongs to the round of those that are still unanswered, or opens the next one.
    pub(crate) fn begin(&mut self) {
        if self.rounds == 0 || self.answered {
            self.rounds += 1;
            self.answered = false;
        }
    }

    pub(crate) fn note(&mut self, method: &Method, pattern: &str, path: &str, status: u16) {
        self.count += 1;
        self.answered = true;
        // A method may be any word: only those that some resource has get a counter of their own.
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
        self.entries.push_back(Entry { number: self.count, method: method.to_owned(), path, status });
    }

    /// Requests since the start or the last reset.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Number of dependent round trips: requests that were sent after the answer to an earlier one.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Requests by method and path pattern.
    pub(crate) fn counters(&self) -> &BTreeMap<String, u64> {
        &self.counters
    }

    /// The last requests, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}
