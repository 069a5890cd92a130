//! The client: keys with the prefix of the installation, and transactions in etcd's own types.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::config::EtcdConfig;
use atoll_records::{Answer, Entry, Key, Lease, Query, Revision, Snapshot};
use etcd_client as wire;

use super::endpoints::{Endpoints, Repeat};
use super::failure::RequestResult;
use super::limits::Limits;
use super::settings;
use crate::{Case, Chosen, Compare, StoreChange, StoreError, whole_seconds};

/// A store in etcd. Clones share their connections.
#[derive(Clone)]
pub struct Etcd(pub(super) Arc<SharedClient>);

pub(super) struct SharedClient {
    pub(super) endpoints: Endpoints,
    prefix: String,
}

impl Etcd {
    /// Reads the settings and the certificate files. Cheap: the first call connects.
    pub fn connect(config: &EtcdConfig) -> Result<Self, StoreError> {
        Self::with_limits(config, Limits::default())
    }

    /// [`Etcd::connect`] with other limits.
    pub fn with_limits(config: &EtcdConfig, limits: Limits) -> Result<Self, StoreError> {
        let endpoints = Endpoints::new(settings::endpoints(config, &limits)?, limits, config.cert.clone());
        Ok(Self(Arc::new(SharedClient { endpoints, prefix: config.prefix.clone() })))
    }

    /// The endpoint that is tried first: the one that answered last.
    pub fn preferred(&self) -> &str {
        self.0.endpoints.preferred()
    }

    /// Keeps the preferred endpoint in a file between processes, so that one that is down costs its time once and not
    /// once per process. The file may be lost or wrong: it only changes the order.
    pub fn remember(&self, file: PathBuf) {
        self.0.endpoints.remember(file);
    }

    pub(super) fn key(&self, key: &Key) -> Vec<u8> {
        format!("{}/{key}", self.0.prefix).into_bytes()
    }

    /// Answers queries at one revision.
    pub(super) async fn answer(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        let operations: Vec<_> = queries.iter().map(|query| self.operation(query)).collect();
        let response = self.transact(wire::Txn::new().and_then(operations), Repeat::Always).await?;
        self.snapshot(revision(response.header())?, queries, &response, 0)
    }

    fn operation(&self, query: &Query) -> wire::TxnOp {
        match query {
            Query::Key(key) => wire::TxnOp::get(self.key(key), None),
            Query::Range { prefix, from, until, limit, keys_only } => {
                let first = self.key(from.as_ref().unwrap_or(prefix).max(prefix));
                let end = behind(self.key(prefix));
                let end = until.as_ref().map(|until| self.key(until)).filter(|until| *until < end).unwrap_or(end);
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                let options = wire::GetOptions::new().with_range(end).with_limit(limit);
                wire::TxnOp::get(first, Some(if *keys_only { options.with_keys_only() } else { options }))
            }
        }
    }

    fn condition(&self, condition: &Compare) -> wire::Compare {
        let equal = wire::CompareOp::Equal;
        match condition {
            Compare::Absent(key) => wire::Compare::create_revision(self.key(key), equal, 0),
            Compare::Modified(key, revision) => wire::Compare::mod_revision(self.key(key), equal, *revision),
            Compare::Created(key, revision) => wire::Compare::create_revision(self.key(key), equal, *revision),
        }
    }

    fn change(&self, change: StoreChange) -> wire::TxnOp {
        match change {
            StoreChange::Put { key, value, lease } => {
                let options = lease.map(|lease| wire::PutOptions::new().with_lease(lease.0));
                wire::TxnOp::put(self.key(&key), value, options)
            }
            StoreChange::Delete(key) => wire::TxnOp::delete(self.key(&key), None),
        }
    }

    pub(super) fn entry(&self, kv: &wire::KeyValue) -> Result<Entry, StoreError> {
        let key = std::str::from_utf8(kv.key()).ok();
        let key = key.and_then(|key| key.strip_prefix(&self.0.prefix)?.strip_prefix('/')).ok_or_else(|| {
            StoreError::Refused(format!(
                "the key {:?} is not below {}",
                kv.key().escape_ascii().to_string(),
                self.0.prefix
            ))
        })?;
        Ok(Entry {
            key: Key::raw(key),
            value: kv.value().to_vec(),
            create_revision: kv.create_revision(),
            mod_revision: kv.mod_revision(),
            lease: (kv.lease() != 0).then(|| Lease(kv.lease())),
        })
    }

    /// One case inside the other, each the else-branch of the one before it; in the innermost else-branch the queries.
    pub(super) fn nested(&self, cases: Vec<Case>, otherwise: &[Query]) -> wire::Txn {
        let mut rest: Vec<_> = otherwise.iter().map(|query| self.operation(query)).collect();
        let mut txn = None;
        for Case { compare, then, read } in cases.into_iter().rev() {
            if let Some(inner) = txn.take() {
                rest = vec![wire::TxnOp::txn(inner)];
            }
            let compare: Vec<_> = compare.iter().map(|condition| self.condition(condition)).collect();
            let changes = then.into_iter().map(|change| self.change(change));
            // etcd carries the operations of a branch out in their order: what is read is as it is after the changes.
            let then: Vec<_> = changes.chain(read.iter().map(|query| self.operation(query))).collect();
            txn = Some(wire::Txn::new().when(compare).and_then(then).or_else(std::mem::take(&mut rest)));
        }
        // Without a case there is nothing to commit, only to ask.
        txn.unwrap_or_else(|| wire::Txn::new().and_then(rest))
    }

    /// The case of a nested transaction that happened, if any, and the answers. `cases`: of each case the number of changes,
    /// and the queries.
    pub(super) fn chosen(
        &self,
        response: &wire::TxnResponse,
        mut cases: Vec<(usize, Vec<Query>)>,
        otherwise: Vec<Query>,
    ) -> Result<Chosen, StoreError> {
        // The transaction may have committed: an answer that cannot be read is no better than no answer.
        let unclear =
            |reason: &str| StoreError::Unknown { endpoint: self.preferred().to_owned(), reason: reason.to_owned() };
        let revision = revision(response.header()).map_err(|_| unclear("an answer without a header"))?;
        let odd = || unclear("a nested transaction was not answered as one");
        let mut response = response.clone();
        for case in 0..cases.len() {
            if response.succeeded() {
                let (changes, read) = cases.swap_remove(case);
                return match self.snapshot(revision, read, &response, changes) {
                    Ok(snapshot) => Ok(Chosen::Case(case, snapshot)),
                    // It has committed: what was read along cannot be had again, and nothing else may be concluded.
                    Err(error) => Err(unclear(&error.to_string())),
                };
            }
            if case + 1 < cases.len() {
                let Some(wire::TxnOpResponse::Txn(inner)) = response.op_responses().pop() else { return Err(odd()) };
                response = inner;
            }
        }
        Ok(Chosen::Lost(self.snapshot(revision, otherwise, &response, 0)?))
    }

    /// etcd answers operations in their order, of which the first `changes` are no queries. From here on an answer is found
    /// by its query.
    fn snapshot(
        &self,
        revision: Revision,
        queries: Vec<Query>,
        response: &wire::TxnResponse,
        changes: usize,
    ) -> Result<Snapshot, StoreError> {
        let odd = || StoreError::Refused("the answers do not fit the queries".to_owned());
        let mut responses = response.op_responses();
        let responses = responses.split_off(changes.min(responses.len()));
        if responses.len() != queries.len() {
            return Err(odd());
        }
        let mut answers = Vec::with_capacity(queries.len());
        for (query, response) in queries.into_iter().zip(responses) {
            let wire::TxnOpResponse::Get(get) = response else { return Err(odd()) };
            let entries = get.kvs().iter().map(|kv| self.entry(kv)).collect::<Result<_, _>>()?;
            answers.push(Answer { query, entries, more: get.more() });
        }
        Ok(Snapshot::new(revision, answers))
    }

    pub(super) async fn transact(&self, txn: wire::Txn, repeat: Repeat) -> RequestResult<wire::TxnResponse> {
        let limit = self.0.endpoints.limits().answer;
        let send = |client: wire::Client| {
            let txn = txn.clone();
            async move { client.kv_client().max_decoding_message_size(limit).txn(txn).await }
        };
        // Boxed: the library's future is large, and would be part of every caller's future.
        Box::pin(self.0.endpoints.call(repeat, send)).await
    }

    pub(super) async fn grant(&self, ttl: Duration, id: Option<Lease>) -> RequestResult<wire::LeaseGrantResponse> {
        let ttl = i64::try_from(whole_seconds(ttl)).unwrap_or(i64::MAX);
        let options = id.map(|id| wire::LeaseGrantOptions::new().with_id(id.0));
        // A lease whose id got lost on the way expires by itself.
        let send = |mut client: wire::Client| {
            let options = options.clone();
            async move { client.lease_grant(ttl, options).await }
        };
        self.0.endpoints.call(Repeat::Always, send).await
    }
}

/// The first key behind all that begin with `prefix`.
fn behind(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return prefix;
        }
    }
    // No such key: etcd reads this as "to the end".
    vec![0]
}

fn revision(header: Option<&wire::ResponseHeader>) -> Result<Revision, StoreError> {
    let header = header.ok_or_else(|| StoreError::Refused("an answer without a header".to_owned()))?;
    Ok(header.revision())
}

#[cfg(test)]
mod tests {
    use super::behind;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_behind_it() {
        assert_eq!(behind(b"/a/v2/".to_vec()), b"/a/v20");
        assert_eq!(behind(b"a\xff\xff".to_vec()), b"b");
        assert_eq!(behind(b"\xff".to_vec()), b"\0");
    }
}
