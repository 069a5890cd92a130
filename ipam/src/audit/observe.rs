//! Reads all that addresses rest on: everything in one request at one revision while it fits, then page by page.

use std::collections::BTreeMap;

use atoll_records::{
    AddressRecord, ClaimRecord, ClusterRecord, CoolDown, Entry, Key, MacRecord, NodeRecord, Query, ReservationRecord,
    TenantRecord, TombstoneRecord, Versioned, decode,
};
use atoll_store::Store;
use serde::de::DeserializeOwned;

use super::{AddressId, Observation, ObservedAddress};
use crate::error::IpamError;

/// How many keys of each list one request brings: a few hundred bytes each, far below etcd's limit of an answer.
const PAGE: usize = 4000;

/// Reads it all, without the ports, of which the store knows nothing.
pub async fn observe<S: Store>(store: &S) -> Result<Observation, IpamError> {
    observe_in_pages(store, PAGE).await
}

pub(super) async fn observe_in_pages<S: Store>(store: &S, page: usize) -> Result<Observation, IpamError> {
    let mut seen = Observation::default();
    let damaged = &mut seen.damaged;
    let list = |prefix: Key, keys_only| Query::Range { prefix, from: None, until: None, limit: page, keys_only };
    let cluster = Query::key(ClusterRecord::at());
    let nodes = list(NodeRecord::all().into(), true);
    let tenants = list(TenantRecord::all().into(), false);
    let addresses = list(AddressRecord::all().into(), false);
    let cool_downs = list(CoolDown::all().into(), true);
    let reserved = list(ReservationRecord::all().into(), false);
    let reserved_for = list(ReservationRecord::all_for_pods().into(), false);
    let macs = list(MacRecord::all().into(), false);
    let claims = list(ClaimRecord::all().into(), false);
    let tombstones = list(TombstoneRecord::all().into(), false);
    let found = Pages::read(
        store,
        [&cluster, &nodes, &tenants, &addresses, &cool_downs, &reserved, &reserved_for, &macs, &claims, &tombstones],
    )
    .await?;
    seen.steady = found.steady;
    let addresses = found.of(&addresses);
    let reserved = found.of(&reserved);
    seen.cluster =
        records::<ClusterRecord>(found.of(&cluster), damaged).into_values().next().map(|cluster| cluster.record);
    seen.nodes = found.of(&nodes).iter().filter_map(|entry| NodeRecord::name_in(&entry.key)).collect();
    let tenants = found.of(&tenants);
    for (key, tenant) in records::<TenantRecord>(tenants, damaged) {
        if key == Key::from(TenantRecord::at(&tenant.record.name)) {
            seen.tenants.insert(tenant.record.name.clone(), tenant.record);
        } else {
            damaged.insert(key, format!("it is the record of tenant {}", tenant.record.name));
        }
    }
    let records_of_addresses = records::<AddressRecord>(addresses, damaged);
    for entry in addresses {
        if let Some(place) = placed(entry, damaged)
            && let Some(record) = records_of_addresses.get(&entry.key).cloned()
        {
            seen.addresses.insert(place, ObservedAddress { record, leased: entry.lease.is_some() });
        }
    }
    seen.marks =
        found.of(&cool_downs).iter().filter_map(|entry| Some((placed(entry, damaged)?, entry.mod_revision))).collect();
    let records_of_reservations = records::<ReservationRecord>(reserved, damaged);
    for entry in reserved {
        if let Some(place) = placed(entry, damaged)
            && let Some(record) = records_of_reservations.get(&entry.key).cloned()
        {
            seen.reserved.insert(place, record);
        }
    }
    seen.reserved_for = records::<ReservationRecord>(found.of(&reserved_for), damaged);
    seen.macs = records::<MacRecord>(found.of(&macs), damaged);
    seen.claims = records::<ClaimRecord>(found.of(&claims), damaged);
    seen.tombstones = records::<TombstoneRecord>(found.of(&tombstones), damaged);
    Ok(seen)
}

/// Long lists, read page by page.
struct Pages {
    /// The revision was the same all the time.
    steady: bool,
    found: Vec<(Query, Vec<Entry>)>,
}

impl Pages {
    /// Asks until nothing is left.
    async fn read<S: Store, const N: usize>(store: &S, lists: [&Query; N]) -> Result<Self, IpamError> {
        let mut pages = Self { steady: true, found: lists.map(|list| (list.clone(), Vec::new())).into() };
        // Of each list that has more: where it stands in `found`, and its next page.
        let mut open: Vec<(usize, Query)> = lists.into_iter().cloned().enumerate().collect();
        let mut revision = None;
        while !open.is_empty() {
            let queries = open.iter().map(|(_, query)| query.clone()).collect();
            let snapshot = store.read(queries).await.map_err(IpamError::store("all tenants"))?;
            pages.steady &= *revision.get_or_insert(snapshot.revision) == snapshot.revision;
            let mut rest = Vec::new();
            for (list, query) in open {
                let answer = snapshot.answer(&query)?;
                let last = answer.entries.last().filter(|_| answer.more).map(|entry| entry.key.next());
                if let (Some(from), Query::Range { prefix, limit, keys_only, .. }) = (last, query.clone()) {
                    rest.push((list, Query::Range { prefix, from: Some(from), until: None, limit, keys_only }));
                }
                pages.found[list].1.extend(answer.entries.iter().cloned());
            }
            open = rest;
        }
        Ok(pages)
    }

    /// All pages of a list; nothing when it was not asked for.
    fn of(&self, list: &Query) -> &[Entry] {
        self.found.iter().find(|(query, _)| query == list).map_or(&[], |(_, entries)| entries)
    }
}

fn records<T: DeserializeOwned>(entries: &[Entry], damaged: &mut BTreeMap<Key, String>) -> BTreeMap<Key, Versioned<T>> {
    let mut records = BTreeMap::new();
    for entry in entries {
        match decode(&entry.value) {
            Ok(record) => {
                let Entry { create_revision, mod_revision, .. } = *entry;
                records.insert(entry.key.clone(), Versioned { record, create_revision, mod_revision });
            }
            Err(error) => {
                damaged.insert(entry.key.clone(), error.to_string());
            }
        }
    }
    records
}

fn placed(entry: &Entry, damaged: &mut BTreeMap<Key, String>) -> Option<AddressId> {
    let place = AddressId::of(&entry.key);
    if place.is_none() {
        damaged.insert(entry.key.clone(), "the key names no address of a tenant".to_owned());
    }
    place
}
