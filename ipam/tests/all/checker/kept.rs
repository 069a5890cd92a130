//! What must hold of reservations, chosen MACs and what is excluded.

use std::collections::BTreeMap;

use atoll_records::{ClaimRecord, MacOwner, ReservationRecord};

use super::Model;
use super::invariants::State;

impl State {
    /// For how many pods there are assignable addresses.
    pub(super) fn free(&self, model: &Model) -> usize {
        let is_free = |address: &std::net::IpAddr| {
            !self.owned.contains_key(address)
                && !self.in_cool_down.contains_key(address)
                && !self.reserved.contains_key(address)
        };
        model.places().iter().filter(|place| place.iter().all(is_free)).count()
    }

    /// At every moment: the two keys of a reservation lead to each other; a chosen MAC belongs to the claim or the
    /// reservation that has it; no two claims have one MAC.
    pub(super) fn check_kept(&self) -> Result<(), String> {
        let back = |kept: &ReservationRecord| format!("{}/{}", kept.namespace, kept.pod);
        for (address, kept) in &self.reserved {
            if kept.address != *address || self.reserved_for.get(&back(kept)) != Some(kept) {
                return Err(format!("{address} is reserved for {}, which points elsewhere", back(kept)));
            }
        }
        for (pod, kept) in &self.reserved_for {
            if *pod != back(kept) || self.reserved.get(&kept.address) != Some(kept) {
                return Err(format!("{pod} has a reservation of {}, which is not", kept.address));
            }
        }
        let of = |mac: atoll_model::attachment::Mac| format!("red/00000000/{}", mac.to_string().replace(':', ""));
        let mut users = BTreeMap::new();
        for (attachment, claim) in &self.claims {
            if let Some(other) = users.insert(claim.mac, attachment) {
                return Err(format!("{other} and {attachment} have one MAC, {}", claim.mac));
            }
            if claim.mac != attachment.mac() && !self.macs.contains_key(&of(claim.mac)) {
                return Err(format!("{attachment} has the MAC {}, of which there is no record", claim.mac));
            }
        }
        for (key, owner) in &self.macs {
            let held = match owner {
                MacOwner::Claimed { claim, attachment } => {
                    self.claims.get(attachment).is_some_and(|there| there.claim == *claim && of(there.mac) == *key)
                }
                MacOwner::Reserved { namespace, pod } => {
                    let kept = self.reserved_for.get(&format!("{namespace}/{pod}"));
                    kept.and_then(|kept| kept.mac).is_some_and(|mac| of(mac) == *key)
                }
            };
            if !held {
                return Err(format!("the MAC {key} belongs to {owner:?}, which does not have it"));
            }
        }
        Ok(())
    }

    /// A reservation that appeared in this state has an address that is free or belongs to its pod.
    pub(super) fn check_reserved(&self, before: &Self) -> Result<(), String> {
        for (address, kept) in &self.reserved {
            let Some((_, owner)) = self.owned.get(address).filter(|_| before.reserved.get(address) != Some(kept))
            else {
                continue;
            };
            let pod = self.claims.get(owner).and_then(|claim| claim.pod.clone());
            if pod.as_deref() != Some(kept.pod.as_str()) {
                return Err(format!("{address} was reserved for {}, but {owner} has it", kept.pod));
            }
        }
        Ok(())
    }

    /// A claim that appeared in this state. A concurrent reservation precedes or follows it; its addresses are the same
    /// in both states, because claims and reservations never change in one transaction.
    pub(super) fn check_new(&self, claim: &ClaimRecord) -> Result<(), String> {
        let pod = format!(
            "{}/{}",
            claim.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            claim.pod.as_deref().unwrap_or_default()
        );
        let own = self.reserved_for.get(&pod);
        for address in claim.addresses.iter().map(|address| address.address.ip()) {
            match self.reserved.get(&address) {
                Some(kept) if own != Some(kept) => {
                    return Err(format!("{pod} got {address}, which is reserved for {}/{}", kept.namespace, kept.pod));
                }
                // Of the other family it gets any address.
                None if own.is_some_and(|own| own.address.is_ipv4() == address.is_ipv4()) => {
                    return Err(format!("{pod} has a reservation and got {address}"));
                }
                _ => {}
            }
        }
        match own.and_then(|own| own.mac) {
            Some(mac) if mac != claim.mac => Err(format!("{pod} has a reservation with {mac} and got {}", claim.mac)),
            _ => Ok(()),
        }
    }
}
