//! Refusing a request because of what other attachments have, while their cleanup may be pending.
//!
//! # Guarantees
//! * This node cleans up what it can before the request is decided.
//! * If cleanup is still pending, on whichever node, the refusal names the attachment, its node, the reason, and the etcd key or
//!   file.
//! * A request that is granted does none of this.

use std::net::IpAddr;
use std::time::Duration;

use atoll_records::{ClaimRecord, Listed, Prefix, Query, TombstoneRecord};

use atoll_ipam::IpamError;
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::error::Classify as _;
use atoll_model::ids::TenantName;
use atoll_network::Engine;
use atoll_store::{Store, StoreError};
use atoll_tenant::TenantError;
use tokio::time::{Instant, timeout_at};

use crate::error::{CallError, with_causes};
use crate::kernel::Kernel;
use crate::plugin::Plugin;

/// How long cleaning up, or reading what is pending, may take before a request is refused.
const WITHIN: Duration = Duration::from_secs(3);
/// At most so many tombstones are compared with the request.
const MOST: usize = 512;
/// Keys that one read asks for: etcd takes 128 operations in one transaction by default.
const BATCH: usize = 64;
/// At most so many are named.
const NAMED: usize = 4;

/// A request of a pod that was refused.
struct Sought<'a> {
    tenant: &'a TenantName,
    /// None: any address.
    address: Option<IpAddr>,
    mac: Option<Mac>,
}

impl<'a> Sought<'a> {
    /// None: the refusal does not depend on other attachments.
    fn of(refused: &'a CallError) -> Option<Self> {
        let (tenant, address, mac) = match refused {
            CallError::Ipam(IpamError::Taken { tenant, address, .. }) => (tenant, Some(*address), None),
            CallError::Ipam(IpamError::MacTaken { tenant, mac, .. }) => (tenant, None, Some(*mac)),
            CallError::Ipam(IpamError::SubnetFull { tenant, .. })
            | CallError::Tenant(TenantError::Full { tenant, .. }) => (tenant, None, None),
            _ => return None,
        };
        Some(Self { tenant, address, mac })
    }

    fn is_held_by(&self, claim: &ClaimRecord) -> bool {
        claim.tenant == *self.tenant
            && self.mac.is_none_or(|mac| mac == claim.mac)
            && self.address.is_none_or(|sought| claim.addresses.iter().any(|has| has.address.ip() == sought))
    }
}

/// One pending cleanup.
struct Pending {
    tombstone: TombstoneRecord,
    /// The etcd key or file.
    place: String,
}

/// True if a request may be refused only because cleanup is pending.
pub(crate) fn may_be_caused_by_pending_cleanup(refused: &IpamError) -> bool {
    matches!(refused, IpamError::Taken { .. } | IpamError::MacTaken { .. } | IpamError::SubnetFull { .. })
}

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Resolves all tombstones that this node can resolve.
    pub(crate) async fn clean_up_before_refusal(&self, until: Instant) {
        let until = until.min(Instant::now() + WITHIN);
        self.trace.stage("tombstones", self.retry_all_pending_cleanup(until)).await;
    }

    /// A refusal, with the pending cleanups that may be its reason. `own`: the request is about this attachment, which may
    /// have one itself.
    pub(crate) async fn explain_refusal(&self, refused: CallError, own: Option<&Attachment>) -> CallError {
        let sought = Sought::of(&refused);
        if sought.is_none() && own.is_none() {
            return refused;
        }
        let read = timeout_at(Instant::now() + WITHIN, self.pending(sought.as_ref(), own));
        let pending = match read.await {
            Ok(Ok(pending)) => pending,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "pending cleanups are not known");
                return refused;
            }
            Err(_) => return refused,
        };
        if pending.is_empty() {
            return refused;
        }
        let now = (self.clock)();
        let more = pending.len().saturating_sub(NAMED);
        let mut all: Vec<_> = pending.iter().take(NAMED).map(|pending| pending.describe(now)).collect();
        if more > 0 {
            all.push(format!("and {more} more"));
        }
        let (class, hint) = (refused.class(), refused.hint());
        CallError::Pending { refused: with_causes(&refused), pending: all, class, hint }
    }

    async fn pending(&self, sought: Option<&Sought<'_>>, own: Option<&Attachment>) -> Result<Vec<Pending>, IpamError> {
        let failed = |source| IpamError::Store { object: "pending cleanups".to_owned(), source };
        let below = |prefix: Prefix<TombstoneRecord>| {
            let prefix = prefix.into();
            Query::Range { prefix, from: None, until: None, limit: MOST, keys_only: false }
        };
        let mut query = below(TombstoneRecord::all());
        let mut read = self.store.read(vec![query.clone()]).await;
        if let Err(StoreError::Denied(_)) = read {
            // The role of a node's certificate covers what is its own.
            query = below(TombstoneRecord::of_node(&self.node));
            read = self.store.read(vec![query.clone()]).await;
        }
        let snapshot = read.map_err(failed)?;
        let listed = Listed::<TombstoneRecord>::read(&snapshot.answer(&query)?.entries);
        let in_etcd = listed.readable().into_iter().map(|tombstone| {
            let key = TombstoneRecord::at(&tombstone.record.attachment);
            let place = format!("etcd key {}/{key}", self.config.etcd.prefix);
            Pending { tombstone: tombstone.record, place }
        });
        let here = self.local_tombstones.list(MOST).unwrap_or_else(|error| {
            tracing::warn!(%error, "local tombstones are not known");
            Vec::new()
        });
        let here = here.into_iter().map(|tombstone| {
            let place = format!("file {}", self.local_tombstones.path(&tombstone.attachment).display());
            Pending { tombstone, place }
        });
        let all: Vec<_> = in_etcd.chain(here).collect();
        let mut found = Vec::new();
        let mut rest = all.into_iter().peekable();
        while rest.peek().is_some() {
            let batch: Vec<_> = rest.by_ref().take(BATCH).collect();
            let queries = batch.iter().map(|one| Query::key(ClaimRecord::at(&one.tombstone.attachment))).collect();
            let claims = self.store.read(queries).await.map_err(failed)?;
            found.extend(batch.into_iter().filter(|pending| {
                let claim = claims.get(&ClaimRecord::at(&pending.tombstone.attachment)).ok().flatten();
                let is_sought = sought.zip(claim).is_some_and(|(sought, claim)| sought.is_held_by(&claim.record));
                is_sought || own == Some(&pending.tombstone.attachment)
            }));
        }
        Ok(found)
    }
}

impl Pending {
    fn describe(&self, now: u64) -> String {
        let TombstoneRecord { attachment, not_before, note, .. } = &self.tombstone;
        let wait = match not_before.saturating_sub(now) {
            0 => String::new(),
            seconds => format!(", not before {seconds} s from now"),
        };
        format!(
            "attachment {attachment} is deleted but not cleaned up on node {} ({}{wait}): {note}",
            attachment.node, self.place
        )
    }
}
