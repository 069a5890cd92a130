//! Inconsistencies of reservations and chosen MACs. Pure.

use std::collections::BTreeMap;

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::TenantName;
use atoll_records::{
    ClaimRecord, Key, MacOwner, MacRecord, ReservationRecord, SCHEMA, TombstoneRecord, Unknown, Versioned, encode,
};
use atoll_store::{Compare, StoreChange};

use super::judge::Judge;
use super::{AddressId, AuditProblem, Fix};

impl Judge<'_> {
    /// Every reservation is of an address that its pod can get, and either of its two keys leads to the other.
    pub(super) fn reservations(&mut self) {
        let seen = self.seen;
        for (place, reservation) in &seen.reserved {
            let (key, record) = (place.key(ReservationRecord::at), &reservation.record);
            let back = Key::from(ReservationRecord::for_pod(&record.namespace, &record.pod));
            if key != Key::from(ReservationRecord::at(&record.tenant, record.ordinal, record.address)) {
                let text = format!("{key} holds the reservation of {}", record.address);
                self.report(AuditProblem::Misplaced, &key, text, None);
            } else if let Some((problem, why)) = self.misfit(place) {
                self.report(problem, &key, format!("{place} is reserved, but {why}"), None);
            } else if seen.tenants.get(&record.tenant).is_some_and(|tenant| tenant.incarnation != record.incarnation) {
                let text = format!("{place} is reserved in an earlier incarnation of tenant {}", record.tenant);
                self.report(AuditProblem::Orphaned, &key, text, None);
            } else if seen.reserved_for.get(&back).map(|there| &there.record) != Some(record)
                && !seen.damaged.contains_key(&back)
            {
                let text = format!(
                    "{place} is reserved for pod {}/{}, but {back} does not name it",
                    record.namespace, record.pod
                );
                self.report(AuditProblem::HalfReserved, &key, text, None);
            }
        }
        for (key, back) in &seen.reserved_for {
            let record = &back.record;
            let place = AddressId { tenant: record.tenant.clone(), subnet: record.ordinal, address: record.address };
            if *key != Key::from(ReservationRecord::for_pod(&record.namespace, &record.pod)) {
                let text = format!("{key} holds the reservation for pod {}/{}", record.namespace, record.pod);
                self.report(AuditProblem::Misplaced, key, text, None);
            } else if !seen.reserved.contains_key(&place)
                && !seen.damaged.contains_key(&place.key(ReservationRecord::at))
            {
                let text = format!("{place} is to be kept for pod {}/{}, but it is not", record.namespace, record.pod);
                self.report(AuditProblem::HalfReserved, key, text, None);
            }
        }
    }

    /// Every chosen MAC belongs to the claim or the reservation that has it, and no two claims of a subnet have one.
    pub(super) fn macs(&mut self) {
        let seen = self.seen;
        let mut users: BTreeMap<(&TenantName, u32, Mac), Vec<&Key>> = BTreeMap::new();
        for (key, claim) in &seen.claims {
            let record = &claim.record;
            // A record under a foreign key was reported as misplaced.
            let own = record.addresses.first().filter(|_| *key == Key::from(ClaimRecord::at(&record.attachment)));
            let Some(first) = own else { continue };
            users.entry((&record.tenant, first.ordinal, record.mac)).or_default().push(key);
            let mac = Key::from(MacRecord::at(&record.tenant, first.ordinal, record.mac));
            if record.mac == record.attachment.mac() || seen.macs.contains_key(&mac) || seen.damaged.contains_key(&mac)
            {
                continue;
            }
            let owner = MacOwner::Claimed { claim: record.claim, attachment: record.attachment.clone() };
            let text = format!("{} has the MAC {}, which others may choose", record.attachment, record.mac);
            let value = encode(&MacRecord { v: SCHEMA, owner, unknown: Unknown::new() });
            let fix = Fix {
                doing: format!("gives the MAC {} back to {}", record.mac, record.attachment),
                compare: vec![Compare::Modified(key.clone(), claim.mod_revision), Compare::Absent(mac.clone())],
                then: vec![StoreChange::Put { key: mac, value, lease: None }],
                cool_down: None,
            };
            // A reservation's MAC is not the claim's.
            let kept = self.keeps(&record.tenant, first.ordinal, record.mac);
            self.report(AuditProblem::MissingAddressRecord, key, text, (!kept).then_some(fix));
        }
        for ((tenant, subnet, mac), keys) in users.into_iter().filter(|(_, keys)| keys.len() > 1) {
            let names: Vec<_> = keys.iter().map(|key| seen.claims[*key].record.attachment.to_string()).collect();
            let text =
                format!("the MAC {mac} (tenant {tenant}, subnet {subnet}) belongs to {}", names.join(" and to "));
            self.report(AuditProblem::Duplicate, &Key::from(MacRecord::at(tenant, subnet, mac)), text, None);
        }
        for (key, mac) in &seen.macs {
            self.mac(key, mac);
        }
    }

    /// Whether a reservation has this MAC.
    fn keeps(&self, tenant: &TenantName, subnet: u32, mac: Mac) -> bool {
        let is_it = |(place, there): (&AddressId, &Versioned<ReservationRecord>)| {
            place.tenant == *tenant && place.subnet == subnet && there.record.mac == Some(mac)
        };
        self.seen.reserved.iter().any(is_it)
    }

    fn mac(&mut self, key: &Key, mac: &Versioned<MacRecord>) {
        let as_seen = Compare::Modified(key.clone(), mac.mod_revision);
        let removal = |compare: Vec<Compare>| Fix {
            doing: format!("deletes {key}"),
            compare: [vec![as_seen], compare].concat(),
            then: vec![StoreChange::Delete(key.clone())],
            cool_down: None,
        };
        match &mac.record.owner {
            MacOwner::Claimed { claim, attachment } => {
                let owner = Key::from(ClaimRecord::at(attachment));
                let there = self.seen.claims.get(&owner).map(|there| &there.record);
                let holds = there.is_some_and(|there| {
                    let subnet = there.addresses.first().map(|first| first.ordinal);
                    let its = subnet.map(|subnet| Key::from(MacRecord::at(&there.tenant, subnet, there.mac)));
                    there.claim == *claim && its.as_ref() == Some(key)
                });
                if !holds && !self.seen.damaged.contains_key(&owner) {
                    let text = format!("{key} belongs to {attachment}, which has no claim of it");
                    let fix = (!self.has_tombstone(attachment))
                        .then(|| removal(vec![self.as_seen(owner), Compare::absent(TombstoneRecord::at(attachment))]));
                    self.report(AuditProblem::OrphanedAddress, key, text, fix);
                }
            }
            MacOwner::Reserved { namespace, pod } => {
                let back = Key::from(ReservationRecord::for_pod(namespace, pod));
                let there = self.seen.reserved_for.get(&back);
                let its = there.and_then(|there| {
                    let ReservationRecord { tenant, ordinal, mac, .. } = &there.record;
                    mac.map(|mac| Key::from(MacRecord::at(tenant, *ordinal, mac)))
                });
                if its.as_ref() != Some(key) && !self.seen.damaged.contains_key(&back) {
                    let text = format!("{key} is kept for pod {namespace}/{pod}, which has no reservation of it");
                    let condition = match there {
                        Some(there) => Compare::Modified(back, there.mod_revision),
                        None => Compare::Absent(back),
                    };
                    // A claim may run with it, if its reservation was lost.
                    let used = self.seen.claims.values().any(|claim| {
                        let record = &claim.record;
                        let first = record.addresses.first();
                        first.is_some_and(|first| {
                            Key::from(MacRecord::at(&record.tenant, first.ordinal, record.mac)) == *key
                        })
                    });
                    self.report(AuditProblem::OrphanedAddress, key, text, (!used).then(|| removal(vec![condition])));
                }
            }
        }
    }

    /// The attachment has a tombstone, which must be resolved first.
    fn has_tombstone(&self, attachment: &Attachment) -> bool {
        let tombstone = Key::from(TombstoneRecord::at(attachment));
        self.seen.tombstones.contains_key(&tombstone) || self.seen.damaged.contains_key(&tombstone)
    }
}
