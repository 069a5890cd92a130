//! Inconsistencies in an observation. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::attachment::Attachment;
use atoll_model::config::Addressing;
use atoll_model::ids::ClaimId;
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, CoolDown, Key, Revision, SCHEMA, SubnetEntry, TenantRecord,
    TombstoneRecord, Unknown, Versioned, encode,
};
use atoll_store::{Compare, StoreChange};
use uuid::Uuid;

use super::{AddressId, AuditFinding, AuditProblem, Fix, Observation, ObservedAddress};
use crate::pool::{PodRange, number};

/// How many possible port ids of one claim are checked.
const LATER_PORTS: usize = 8;

/// The inconsistencies, in a stable order.
pub fn audit(seen: &Observation) -> Vec<AuditFinding> {
    let mut judge = Judge { seen, holders: BTreeMap::new(), findings: Vec::new() };
    for (key, claim) in &seen.claims {
        for place in places(&claim.record) {
            judge.holders.entry(place).or_default().push(key);
        }
    }
    judge.damaged();
    judge.claims();
    judge.duplicates();
    judge.addresses();
    judge.marks();
    judge.reservations();
    judge.macs();
    judge.tombstones();
    judge.ports();
    judge.findings
}

fn places(claim: &ClaimRecord) -> impl Iterator<Item = AddressId> {
    claim.addresses.iter().map(|held| AddressId {
        tenant: claim.tenant.clone(),
        subnet: held.ordinal,
        address: held.address.ip(),
    })
}

pub(super) struct Judge<'a> {
    pub(super) seen: &'a Observation,
    /// The claims that list an address.
    holders: BTreeMap<AddressId, Vec<&'a Key>>,
    findings: Vec<AuditFinding>,
}

impl<'a> Judge<'a> {
    pub(super) fn report(&mut self, problem: AuditProblem, object: &impl ToString, text: String, fix: Option<Fix>) {
        self.findings.push(AuditFinding { problem, object: object.to_string(), text, fix });
    }

    fn damaged(&mut self) {
        for (key, why) in &self.seen.damaged {
            self.report(AuditProblem::Damaged, key, format!("{key} cannot be read: {why}"), None);
        }
    }

    /// Why an address of a tenant cannot be in use, if so. A tenant record that cannot be read gives no reason.
    pub(super) fn misfit(&self, place: &AddressId) -> Option<(AuditProblem, String)> {
        let AddressId { tenant: name, subnet, address } = place;
        let Some(tenant) = self.seen.tenants.get(name) else {
            let unreadable = self.seen.damaged.contains_key(&Key::from(TenantRecord::at(name)));
            return (!unreadable).then(|| (AuditProblem::Orphaned, format!("there is no tenant {name}")));
        };
        let Some(entry) = tenant.subnets.iter().find(|entry| entry.ordinal == *subnet) else {
            return Some((AuditProblem::Orphaned, format!("tenant {name} has no subnet {subnet}")));
        };
        (!may_be_a_pod(entry, *address))
            .then(|| (AuditProblem::OutOfRange, format!("no pod of subnet {} may have {address}", entry.cidrs())))
    }

    /// Every claim has its addresses.
    fn claims(&mut self) {
        for (key, claim) in &self.seen.claims {
            let record = &claim.record;
            if *key != Key::from(ClaimRecord::at(&record.attachment)) {
                let text = format!("{key} holds the claim of {}", record.attachment);
                self.report(AuditProblem::Misplaced, key, text, None);
                continue;
            }
            if let Some(tenant) = self.seen.tenants.get(&record.tenant)
                && tenant.incarnation != record.incarnation
            {
                let text =
                    format!("{} has a claim in an earlier incarnation of tenant {}", record.attachment, record.tenant);
                self.report(AuditProblem::Orphaned, key, text, None);
                continue;
            }
            for place in places(record) {
                match self.misfit(&place) {
                    Some((problem, why)) => {
                        let text = format!("{} has {place}, but {why}", record.attachment);
                        self.report(problem, key, text, None);
                    }
                    None => self.held(key, claim, &place),
                }
            }
        }
    }

    /// Checks that the address record of a claim names the claim.
    fn held(&mut self, key: &Key, claim: &'a Versioned<ClaimRecord>, place: &AddressId) {
        let address = place.key(AddressRecord::at);
        if self.seen.damaged.contains_key(&address) || self.holders.get(place).is_some_and(|all| all.len() > 1) {
            return;
        }
        let record = &claim.record;
        let found = self.seen.addresses.get(place);
        let (instead, found) = match found {
            None => ("is free".to_owned(), None),
            Some(ObservedAddress { record: there, .. }) => match &there.record.state {
                AddressState::Claimed { claim, .. } if *claim == record.claim => return,
                // A claim that cannot be read may be the one that the address names.
                AddressState::Claimed { attachment, .. }
                    if self.seen.damaged.contains_key(&Key::from(ClaimRecord::at(attachment))) =>
                {
                    return;
                }
                AddressState::Claimed { attachment, .. } => {
                    (format!("names {attachment} as its owner"), Some((there.mod_revision, Some(attachment))))
                }
                AddressState::CoolDown { .. } => ("is in cool-down".to_owned(), Some((there.mod_revision, None))),
            },
        };
        let mut compare = vec![
            Compare::Modified(key.clone(), claim.mod_revision),
            match found {
                Some((revision, _)) => Compare::Modified(address.clone(), revision),
                None => Compare::Absent(address.clone()),
            },
        ];
        let other = found
            .and_then(|(_, other)| other)
            .map(|other| Key::from(ClaimRecord::at(other)))
            .filter(|other| other != key);
        compare.extend(other.map(|other| self.as_seen(other)));
        let state = AddressState::Claimed { claim: record.claim, attachment: record.attachment.clone() };
        let owned = AddressRecord { v: SCHEMA, state, unknown: Unknown::new() };
        let mut then = vec![StoreChange::Put { key: address, value: encode(&owned), lease: None }];
        if let Some(revision) = self.seen.marks.get(place) {
            let mark = place.key(CoolDown::at);
            compare.push(Compare::Modified(mark.clone(), *revision));
            then.push(StoreChange::Delete(mark));
        }
        let doing = format!("gives {place} back to {}", record.attachment);
        let text = format!("{} has {place}, but the address {instead}", record.attachment);
        self.report(AuditProblem::MissingAddressRecord, key, text, Some(Fix { doing, compare, then, cool_down: None }));
    }

    /// No address has two owners: within a subnet, nor in the cluster where subnets are unique.
    fn duplicates(&mut self) {
        let name = |key: &Key| self.seen.claims[key].record.attachment.to_string();
        let mut found = Vec::new();
        let mut elsewhere: BTreeMap<IpAddr, BTreeSet<(&AddressId, String)>> = BTreeMap::new();
        for (place, keys) in &self.holders {
            let names: Vec<_> = keys.iter().map(|key| name(key)).collect();
            if names.len() > 1 {
                found.push((place.key(AddressRecord::at), format!("{place} belongs to {}", names.join(" and to "))));
            }
            elsewhere.entry(place.address).or_default().insert((place, names.join(", ")));
        }
        if self.seen.cluster.as_ref().is_some_and(|cluster| cluster.addressing == Addressing::Unique) {
            for owners in elsewhere.into_values().filter(|owners| owners.len() > 1) {
                let texts: Vec<_> = owners.iter().map(|(place, names)| format!("{place}: {names}")).collect();
                let first = owners.first().map(|(place, _)| place.key(AddressRecord::at));
                found.extend(first.map(|key| (key, format!("one address in several subnets: {}", texts.join("; ")))));
            }
        }
        for (key, text) in found {
            self.report(AuditProblem::Duplicate, &key, text, None);
        }
    }

    /// Checks that every taken address has its claim, and that every address in cool-down has a lease.
    fn addresses(&mut self) {
        for (place, ObservedAddress { record: address, leased }) in &self.seen.addresses {
            let key = place.key(AddressRecord::at);
            match &address.record.state {
                AddressState::Claimed { attachment, claim } => {
                    let owner = Key::from(ClaimRecord::at(attachment));
                    // A claim that lists it was judged with the claims; one that cannot be read may list it.
                    if !self.holders.contains_key(place) && !self.seen.damaged.contains_key(&owner) {
                        let (text, fix) = self.orphaned(place, address, attachment, *claim);
                        self.report(AuditProblem::OrphanedAddress, &key, text, fix);
                    }
                }
                AddressState::CoolDown { .. } if !leased => {
                    let text = format!("{place} is in cool-down, and no lease will ever free it");
                    let fix = self.removal(place, vec![Compare::Modified(key.clone(), address.mod_revision)], true);
                    self.report(AuditProblem::Expired, &key, text, Some(fix));
                }
                AddressState::CoolDown { .. } => {}
            }
        }
    }

    fn orphaned(
        &self,
        place: &AddressId,
        address: &Versioned<AddressRecord>,
        attachment: &Attachment,
        claim: ClaimId,
    ) -> (String, Option<Fix>) {
        let (owner, tombstone) = (Key::from(ClaimRecord::at(attachment)), Key::from(TombstoneRecord::at(attachment)));
        let text = format!("{place} belongs to {attachment}, which has no claim of it");
        let there = |port: &Uuid| self.seen.ports.as_ref().is_some_and(|ports| ports.contains_key(port));
        if let Some(port) = self.ports_of(attachment, claim).into_iter().find(there) {
            return (format!("{text}; its port {port} still exists and may be in use"), None);
        }
        if self.seen.tombstones.contains_key(&tombstone) || self.seen.damaged.contains_key(&tombstone) {
            return (format!("{text}; its tombstone must be resolved first"), None);
        }
        let compare = vec![
            Compare::Modified(place.key(AddressRecord::at), address.mod_revision),
            self.as_seen(owner),
            Compare::Absent(tombstone),
        ];
        let doing = format!("frees {place}, after a cool-down");
        (text, Some(Fix { doing, compare, then: Vec::new(), cool_down: Some(place.clone()) }))
    }

    /// The ids that the port of a missing claim may have: as it was claimed, and after each ADD that found a deletion in
    /// flight. Such ADDs are rare: the number of ids that are checked is bounded.
    fn ports_of(&self, attachment: &Attachment, claim: ClaimId) -> Vec<Uuid> {
        let Some(cluster) = self.seen.cluster.as_ref().map(|cluster| cluster.id) else { return Vec::new() };
        let claimed = [attachment.port(cluster), attachment.port_after(cluster, claim.0)];
        let later = |port: &Uuid| Some(attachment.port_after(cluster, *port));
        claimed.into_iter().flat_map(|port| std::iter::successors(Some(port), later).take(LATER_PORTS)).collect()
    }

    /// The claim of this key is there, or not, as it was seen.
    pub(super) fn as_seen(&self, claim: Key) -> Compare {
        match self.seen.claims.get(&claim) {
            Some(seen) => Compare::Modified(claim, seen.mod_revision),
            None => Compare::Absent(claim),
        }
    }

    /// Deletes the mark of a place as it was seen, and perhaps its address.
    fn removal(&self, place: &AddressId, mut compare: Vec<Compare>, address: bool) -> Fix {
        let mark = place.key(CoolDown::at);
        compare.push(match self.seen.marks.get(place) {
            Some(revision) => Compare::Modified(mark.clone(), *revision),
            None => Compare::Absent(mark.clone()),
        });
        let mut then = vec![StoreChange::Delete(mark)];
        if address {
            then.push(StoreChange::Delete(place.key(AddressRecord::at)));
        }
        let doing = if address { format!("frees {place}") } else { format!("deletes the mark of {place}") };
        Fix { doing, compare, then, cool_down: None }
    }

    /// Checks that every cool-down marker belongs to an address in cool-down.
    fn marks(&mut self) {
        for place in self.seen.marks.keys() {
            let address = place.key(AddressRecord::at);
            let found: Option<Revision> = match self.seen.addresses.get(place) {
                None if self.seen.damaged.contains_key(&address) => continue,
                None => None,
                Some(ObservedAddress { record, .. })
                    if matches!(record.record.state, AddressState::CoolDown { .. }) =>
                {
                    continue;
                }
                // The repair of a claim's address deletes the marker.
                Some(ObservedAddress { record, .. }) => Some(record.mod_revision),
            };
            let condition = found.map_or_else(
                || Compare::Absent(address.clone()),
                |revision| Compare::Modified(address.clone(), revision),
            );
            let fix = self.removal(place, vec![condition], false);
            let text = format!("{place} has a cool-down marker and is not in cool-down");
            self.report(AuditProblem::StaleCoolDown, &place.key(CoolDown::at), text, Some(fix));
        }
    }

    fn tombstones(&mut self) {
        for (key, tombstone) in &self.seen.tombstones {
            let attachment = &tombstone.record.attachment;
            if *key != Key::from(TombstoneRecord::at(attachment)) {
                let text = format!("{key} holds the tombstone of {attachment}");
                self.report(AuditProblem::Misplaced, key, text, None);
            } else if !self.seen.nodes.contains(&attachment.node) {
                let node = &attachment.node;
                let text =
                    format!("{attachment} has pending cleanup, and no node {node} is registered that could finish it");
                self.report(AuditProblem::OrphanedNodeRecord, key, text, None);
            }
        }
    }

    /// Every claim has its port, and every pod's port a claim or a tombstone.
    fn ports(&mut self) {
        let Some(ports) = &self.seen.ports else { return };
        for (key, claim) in &self.seen.claims {
            let port = claim.record.port;
            if !ports.contains_key(&port)
                && !self.seen.tombstones.contains_key(&Key::from(TombstoneRecord::at(&claim.record.attachment)))
            {
                let ClaimRecord { attachment, tenant, .. } = &claim.record;
                let text = format!("{attachment} of tenant {tenant} has no port {port}; it has no network");
                self.report(AuditProblem::NoPort, key, text, None);
            }
        }
        let claimed = self.seen.claims.values().map(|claim| claim.record.port);
        let pending = self.seen.tombstones.values().filter_map(|tombstone| tombstone.record.port);
        let known: BTreeSet<_> = claimed.chain(pending).collect();
        // One that cannot be read may be the claim of any of them.
        let blind = self.seen.damaged.keys().any(|key| {
            key.begins_with(&Key::from(ClaimRecord::all())) || key.begins_with(&Key::from(TombstoneRecord::all()))
        });
        for (port, what) in ports.iter().filter(|(port, _)| !known.contains(port) && !blind) {
            self.report(AuditProblem::OrphanedPort, port, format!("port {port} ({what}) belongs to no claim"), None);
        }
    }
}

fn may_be_a_pod(entry: &SubnetEntry, address: IpAddr) -> bool {
    let pods = entry.prefix_for(address).and_then(|prefix| PodRange::of(prefix, &entry.exclude));
    pods.is_some_and(|pods| pods.position(number(address)).is_some())
}
