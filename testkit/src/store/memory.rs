//! An etcd in memory: the same revisions, leases, watches and refusals, without a server.
//!
//! # Guarantees
//! The observable behaviour is that of etcd; one test suite runs against both. Clones share their state, so a test with
//! two nodes gives each a clone. Leases use tokio's clock, so a test that pauses the clock controls their expiry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, ready};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use atoll_model::sync::locked;
use atoll_records::{Answer, Entry, Key, Lease, Query, Revision, Snapshot};

use atoll_store::{Case, Choice, Chosen, Compare, Store, StoreChange, StoreError, Watch, WatchEvent};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The store. A new one is empty and at revision 1, like etcd.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    keys: BTreeMap<Key, Entry>,
    leases: BTreeMap<i64, Granted>,
    /// Every event since the last compaction, in order.
    history: VecDeque<(Revision, WatchEvent)>,
    /// Events of revisions up to this one were compacted.
    compacted: Revision,
}

#[derive(Debug)]
struct Granted {
    ttl: Duration,
    expires: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self { revision: 1, keys: BTreeMap::new(), leases: BTreeMap::new(), history: VecDeque::new(), compacted: 0 }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every key with its value, in the order of the keys.
    pub fn dump(&self) -> Vec<Entry> {
        self.now().keys.values().cloned().collect()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.now().revision
    }

    /// Compacts the history, as etcd does: a watch that has not caught up gets a resync.
    pub fn compact(&self) {
        let mut state = self.now();
        state.compacted = state.revision;
        state.history.clear();
    }

    /// The number of leases that have not expired.
    pub fn leases(&self) -> usize {
        self.now().leases.len()
    }

    /// The state, after the leases whose time is over have expired.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.0.state);
        if state.expire(Instant::now()) {
            self.0.changed.notify_waiters();
        }
        state
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.now());
        self.0.changed.notify_waiters();
        result
    }

    fn peek(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }
}

impl Store for MemoryStore {
    type Watch = MemoryWatch;

    fn read(&self, queries: Vec<Query>) -> impl Future<Output = Result<Snapshot, StoreError>> + Send {
        ready(Ok(self.now().answer(&queries)))
    }

    fn commit_first(&self, choice: Choice) -> impl Future<Output = Result<Chosen, StoreError>> + Send {
        ready(self.change(|state| state.commit_first(choice)))
    }

    fn watch(&self, prefix: Key, after: Revision) -> impl Future<Output = Result<MemoryWatch, StoreError>> + Send {
        ready(Ok(MemoryWatch { store: self.clone(), prefix, after, ready: VecDeque::new() }))
    }

    fn lease(&self, ttl: Duration) -> impl Future<Output = Result<Lease, StoreError>> + Send {
        ready(Ok(self.change(|state| {
            let id = state.leases.last_key_value().map_or(1, |(id, _)| id + 1);
            state.grant(id, ttl);
            Lease(id)
        })))
    }

    fn lease_as(&self, lease: Lease, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send {
        ready(if lease.0 > 0 {
            self.change(|state| state.grant(lease.0, ttl));
            Ok(())
        } else {
            Err(StoreError::Refused(format!("{lease:?}: the id of a lease must be positive")))
        })
    }

    fn keep_alive(&self, lease: Lease) -> impl Future<Output = Result<bool, StoreError>> + Send {
        ready(Ok(self.change(|state| match state.leases.get_mut(&lease.0) {
            Some(granted) => {
                granted.expires = Instant::now() + granted.ttl;
                true
            }
            None => false,
        })))
    }

    fn revoke(&self, lease: Lease) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.change(|state| state.end(lease));
        ready(Ok(()))
    }
}

impl State {
    fn answer(&self, queries: &[Query]) -> Snapshot {
        let answers = queries.iter().map(|query| self.find(query)).collect();
        Snapshot::new(self.revision, answers)
    }

    fn find(&self, query: &Query) -> Answer {
        match query {
            Query::Key(key) => {
                let entries = self.keys.get(key).cloned().into_iter().collect();
                Answer { query: query.clone(), entries, more: false }
            }
            Query::Range { prefix, from, until, limit, keys_only } => {
                let from = from.as_ref().unwrap_or(prefix).max(prefix);
                let behind = self.keys.range::<Key, _>((Bound::Included(from), Bound::Unbounded));
                let within = |entry: &&Entry| {
                    entry.key.begins_with(prefix) && until.as_ref().is_none_or(|until| entry.key < *until)
                };
                let mut all = behind.map(|(_, entry)| entry).take_while(within);
                let limit = if *limit == 0 { usize::MAX } else { *limit };
                let value = |entry: &Entry| if *keys_only { Vec::new() } else { entry.value.clone() };
                let entry = |entry: &Entry| Entry { key: entry.key.clone(), value: value(entry), ..*entry };
                let entries = all.by_ref().take(limit).map(entry).collect();
                Answer { query: query.clone(), entries, more: all.next().is_some() }
            }
        }
    }

    fn holds(&self, condition: &Compare) -> bool {
        match condition {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::Modified(key, at) => self.keys.get(key).is_some_and(|entry| entry.mod_revision == *at),
            Compare::Created(key, at) => self.keys.get(key).is_some_and(|entry| entry.create_revision == *at),
        }
    }

    fn commit_first(&mut self, mut choice: Choice) -> Result<Chosen, StoreError> {
        choice.check()?;
        let holds = |compare: &[Compare]| compare.iter().all(|condition| self.holds(condition));
        let Some(index) = choice.cases.iter().position(|case| holds(&case.compare)) else {
            return Ok(Chosen::Lost(self.answer(&choice.otherwise)));
        };
        let lease_of = |change: &StoreChange| match change {
            StoreChange::Put { lease, .. } => *lease,
            StoreChange::Delete(_) => None,
        };
        let first = choice.changes().find_map(lease_of);
        let Case { then, read, .. } = choice.cases.swap_remove(index);
        let is_gone = then.iter().filter_map(lease_of).any(|lease| !self.leases.contains_key(&lease.0));
        if let Some(first) = first.filter(|_| is_gone) {
            return Err(StoreError::LeaseGone(first));
        }
        self.write(then);
        Ok(Chosen::Case(index, self.answer(&read)))
    }

    /// Applies all changes at one revision; deleting only absent keys makes no revision.
    fn write(&mut self, changes: Vec<StoreChange>) {
        let revision = self.revision + 1;
        let mut events = Vec::new();
        for change in changes {
            match change {
                StoreChange::Put { key, value, lease } => {
                    let create_revision = self.keys.get(&key).map_or(revision, |entry| entry.create_revision);
                    let entry = Entry { key: key.clone(), value, create_revision, mod_revision: revision, lease };
                    events.push(WatchEvent::Put(entry.clone()));
                    self.keys.insert(key, entry);
                }
                StoreChange::Delete(key) => {
                    events.extend(self.keys.remove(&key).map(|_| WatchEvent::Delete(key, revision)));
                }
            }
        }
        if !events.is_empty() {
            self.revision = revision;
            self.history.extend(events.into_iter().map(|event| (revision, event)));
        }
    }

    fn grant(&mut self, id: i64, ttl: Duration) {
        let ttl = Duration::from_secs(atoll_store::whole_seconds(ttl));
        self.leases.entry(id).or_insert_with(|| Granted { ttl, expires: Instant::now() + ttl });
    }

    /// Ends a lease; its keys are deleted at one revision.
    fn end(&mut self, lease: Lease) {
        if self.leases.remove(&lease.0).is_some() {
            let keys: BTreeSet<_> =
                self.keys.values().filter(|entry| entry.lease == Some(lease)).map(|entry| entry.key.clone()).collect();
            self.write(keys.into_iter().map(StoreChange::Delete).collect());
        }
    }

    fn expire(&mut self, now: Instant) -> bool {
        let due: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, _)| Lease(*id)).collect();
        for lease in &due {
            self.end(*lease);
        }
        !due.is_empty()
    }
}

/// A watch of [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryWatch {
    store: MemoryStore,
    prefix: Key,
    /// Everything up to this revision was delivered, or is in `ready`.
    after: Revision,
    ready: VecDeque<WatchEvent>,
}

impl MemoryWatch {
    fn collect(&mut self) {
        let state = self.store.now();
        if self.after < state.compacted {
            self.ready.push_back(WatchEvent::Resync(state.answer(&[Query::all(self.prefix.clone())])));
        } else {
            let ours = |event: &WatchEvent| match event {
                WatchEvent::Put(entry) => entry.key.begins_with(&self.prefix),
                WatchEvent::Delete(key, _) => key.begins_with(&self.prefix),
                WatchEvent::Resync(_) => false,
            };
            let new = state.history.iter().filter(|(revision, event)| *revision > self.after && ours(event));
            self.ready.extend(new.map(|(_, event)| event.clone()));
        }
        self.after = self.after.max(state.revision);
    }
}

impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            // Subscribe before reading, so that no event is lost.
            let shared = Arc::clone(&self.store.0);
            let changed = shared.changed.notified();
            if self.ready.is_empty() {
                self.collect();
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let expiry = self.store.peek().leases.values().map(|lease| lease.expires).min();
            match expiry {
                Some(at) => tokio::select! { () = changed => {}, () = sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_there_keeps_its_life() {
        let store = MemoryStore::new();
        let lease = Lease(7);
        store.lease_as(lease, Duration::from_secs(10)).await.expect("made");
        tokio::time::sleep(Duration::from_secs(6)).await;
        store.lease_as(lease, Duration::from_mins(1)).await.expect("there already");
        assert_eq!(store.leases(), 1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(store.leases(), 0, "asking for it again is no keep-alive");
    }
}
