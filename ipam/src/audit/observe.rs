//! Reads all that addresses rest on: everything in one request at one revision while it fits, then page by page.

use std::collections::BTreeMap;

use atoll_model::ids::NodeName;
use atoll_model::record::{
    AddressRecord, ClaimRecord, ClusterRecord, MacRecord, ReservationRecord, TenantRecord, TombstoneRecord, decode,
};
use atoll_store::{Entry, Key, Query, Store};
use serde::de::DeserializeOwned;

use super::{Observation, Place, Seen};
use crate::error::IpamError;
use crate::versioned::Versioned;

/// How many keys of each list one request brings: a few hundred bytes each, far below etcd's limit of an answer.
const PAGE: usize = 4000;

/// Reads it all, without the ports, of which the store knows nothing.
pub async fn observe<S: Store>(store: &S) -> Result<Observation, IpamError> {
    observe_in_pages(store, PAGE).await
}

pub(super) async fn observe_in_pages<S: Store>(store: &S, page: usize) -> Result<Observation, IpamError> {
    let list = |prefix: &str, keys_only| Query::Range {
        prefix: Key::raw(format!("v1/{prefix}/")),
        from: None,
        until: None,
        limit: page,
        keys_only,
    };
    let lists = [
        Query::Key(Key::cluster()),
        list("nodes", true),
        list("tenants", false),
        list("addresses", false),
        list("cooling", true),
        list("reservations", false),
        list("reserved-for", false),
        list("macs", false),
        list("attachments", false),
        list("tombstones", false),
    ];
    let (steady, found) = read(store, lists).await?;
    let [cluster, nodes, tenants, addresses, marks, reserved, reserved_for, macs, claims, tombstones] = found;
    let mut seen = Observation { steady, ..Observation::default() };
    let damaged = &mut seen.damaged;
    seen.cluster = records::<ClusterRecord>(&cluster, damaged).into_values().next().map(|cluster| cluster.record);
    let names = nodes.iter().filter_map(|entry| entry.key.as_str().rsplit('/').next());
    seen.nodes = names.filter_map(|name| NodeName::new(name).ok()).collect();
    for (key, tenant) in records::<TenantRecord>(&tenants, damaged) {
        if key == Key::tenant(&tenant.record.name) {
            seen.tenants.insert(tenant.record.name.clone(), tenant.record);
        } else {
            damaged.insert(key, format!("it is the record of tenant {}", tenant.record.name));
        }
    }
    let records_of_addresses = records::<AddressRecord>(&addresses, damaged);
    for entry in &addresses {
        if let Some(place) = placed(entry, damaged)
            && let Some(record) = records_of_addresses.get(&entry.key).cloned()
        {
            seen.addresses.insert(place, Seen { record, leased: entry.lease.is_some() });
        }
    }
    seen.marks =
        marks.iter().filter_map(|entry| placed(entry, damaged).map(|place| (place, entry.mod_revision))).collect();
    let records_of_reservations = records::<ReservationRecord>(&reserved, damaged);
    for entry in &reserved {
        if let Some(place) = placed(entry, damaged)
            && let Some(record) = records_of_reservations.get(&entry.key).cloned()
        {
            seen.reserved.insert(place, record);
        }
    }
    seen.reserved_for = records::<ReservationRecord>(&reserved_for, damaged);
    seen.macs = records::<MacRecord>(&macs, damaged);
    seen.claims = records::<ClaimRecord>(&claims, damaged);
    seen.tombstones = records::<TombstoneRecord>(&tombstones, damaged);
    Ok(seen)
}

/// Asks until nothing is left. True: the revision was the same all the time.
async fn read<S: Store, const N: usize>(store: &S, lists: [Query; N]) -> Result<(bool, [Vec<Entry>; N]), IpamError> {
    let mut found = [(); N].map(|()| Vec::new());
    let mut open: Vec<(usize, Query)> = lists.into_iter().enumerate().collect();
    let (mut steady, mut revision) = (true, None);
    while !open.is_empty() {
        let queries = open.iter().map(|(_, query)| query.clone()).collect();
        let snapshot = store.read(queries).await.map_err(IpamError::store("all tenants"))?;
        if snapshot.answers.len() != open.len() {
            return Err(IpamError::Answer { object: "all tenants".to_owned() });
        }
        steady &= *revision.get_or_insert(snapshot.revision) == snapshot.revision;
        let mut rest = Vec::new();
        for ((list, query), answer) in open.into_iter().zip(snapshot.answers) {
            let last = answer.entries.last().map(|entry| entry.key.clone()).filter(|_| answer.more);
            if let (Some(last), Query::Range { prefix, limit, keys_only, .. }) = (last, query) {
                let from = Some(last.next());
                rest.push((list, Query::Range { prefix, from, until: None, limit, keys_only }));
            }
            found[list].extend(answer.entries);
        }
        open = rest;
    }
    Ok((steady, found))
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

fn placed(entry: &Entry, damaged: &mut BTreeMap<Key, String>) -> Option<Place> {
    let place = Place::of(&entry.key);
    if place.is_none() {
        damaged.insert(entry.key.clone(), "the key names no address of a tenant".to_owned());
    }
    place
}
