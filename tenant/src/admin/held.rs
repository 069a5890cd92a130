//! The pods that have the addresses of a tenant or a subnet.

use std::collections::BTreeSet;

use atoll_model::attachment::Attachment;
use atoll_model::ids::ClaimId;
use atoll_records::{AddressRecord, AddressState, ClaimRecord, Entry, Key, Prefix, Query, Revision, Versioned};
use atoll_store::Store;

use super::Admin;
use super::members::shown;
use crate::error::TenantError;
use atoll_network::Engine;

/// The records below a prefix.
pub(super) async fn list<S: Store, E: Engine, R>(
    admin: &Admin<'_, S, E>,
    prefix: Prefix<R>,
) -> Result<Vec<Entry>, TenantError> {
    let query = Query::all(&prefix);
    let snapshot = admin.store.read(vec![query.clone()]).await.map_err(TenantError::store(format!("list {prefix}")))?;
    Ok(snapshot.answer(&query)?.entries.clone())
}

/// The holders of addresses.
pub(super) struct Held {
    pub(super) claims: Vec<Versioned<ClaimRecord>>,
    pub(super) orphans: Vec<Orphan>,
}

/// An address that is taken by a claim that is not there or cannot be read. A pod may run with it all the same.
pub(super) struct Orphan {
    pub(super) key: Key,
    pub(super) mod_revision: Revision,
    attachment: Attachment,
}

impl Held {
    /// No pod has any of the addresses.
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.orphans.is_empty()
    }

    /// The pods, as operators know them.
    pub(super) fn shown(&self) -> Vec<String> {
        let orphan = |Orphan { key, attachment, .. }: &Orphan| {
            let address = key.address_part().map_or_else(|| key.to_string(), |address| address.to_string());
            format!("{address} of attachment {attachment}, whose claim cannot be read")
        };
        let pods = self.claims.iter().map(|claim| shown(&claim.record));
        pods.chain(self.orphans.iter().map(orphan)).collect()
    }
}

/// The holders of the addresses below a prefix. An address in cool-down belongs to no pod.
pub(super) async fn held<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    addresses: Prefix<AddressRecord>,
) -> Result<Held, TenantError> {
    let mut taken: Vec<(ClaimId, Orphan)> = Vec::new();
    for entry in list(admin, addresses).await? {
        let address = Versioned::<AddressRecord>::read(&entry)?;
        if let AddressState::Claimed { claim, attachment } = address.record.state {
            taken.push((claim, Orphan { key: entry.key, mod_revision: entry.mod_revision, attachment }));
        }
    }
    if taken.is_empty() {
        return Ok(Held { claims: Vec::new(), orphans: Vec::new() });
    }
    let wanted: BTreeSet<ClaimId> = taken.iter().map(|(claim, _)| *claim).collect();
    let mut claims = admin.claims().await?;
    claims.retain(|claim| wanted.contains(&claim.record.claim));
    let found: BTreeSet<ClaimId> = claims.iter().map(|claim| claim.record.claim).collect();
    taken.retain(|(claim, _)| !found.contains(claim));
    Ok(Held { claims, orphans: taken.into_iter().map(|(_, orphan)| orphan).collect() })
}
