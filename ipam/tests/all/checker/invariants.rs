//! Invariants at every moment, and after all attachments are released.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use atoll_model::attachment::Attachment;
use atoll_model::ids::ClaimId;
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, Entry, Key, MacOwner, MacRecord, PrefixEntry, RecordError,
    ReservationRecord, decode,
};

use super::Model;

/// What the store holds.
#[derive(Default)]
pub(crate) struct State {
    pub(super) claims: BTreeMap<Attachment, Rc<ClaimRecord>>,
    pub(super) owned: BTreeMap<IpAddr, (ClaimId, Attachment)>,
    pub(super) in_cool_down: BTreeMap<IpAddr, i64>,
    pub(super) marks: BTreeMap<IpAddr, i64>,
    /// By the end of their keys.
    pub(super) tombstones: BTreeSet<String>,
    /// Reservations by address, and by the end of the keys that point back.
    pub(super) reserved: BTreeMap<IpAddr, Rc<ReservationRecord>>,
    pub(super) reserved_for: BTreeMap<String, Rc<ReservationRecord>>,
    /// By the end of their keys.
    pub(super) macs: BTreeMap<String, MacOwner>,
}

/// Records that were read before, by key and revision: most of them have not changed since.
#[derive(Default)]
pub(crate) struct Reader(BTreeMap<Key, (i64, Value)>);

#[derive(Clone)]
enum Value {
    Claim(Rc<ClaimRecord>),
    Owned(ClaimId, Attachment),
    CoolDown,
    Reserved(Rc<ReservationRecord>),
    Mac(MacOwner),
    Other,
}

impl Reader {
    fn value(&mut self, entry: &Entry) -> Result<Value, String> {
        if let Some((revision, value)) = self.0.get(&entry.key)
            && *revision == entry.mod_revision
        {
            return Ok(value.clone());
        }
        let value = Self::decode(entry).map_err(|problem| format!("{}: {problem}", entry.key))?;
        self.0.insert(entry.key.clone(), (entry.mod_revision, value.clone()));
        Ok(value)
    }

    fn decode(Entry { key, value, .. }: &Entry) -> Result<Value, String> {
        let damaged = |error: RecordError| error.to_string();
        Ok(match kind(key) {
            "claims" => {
                let claim: ClaimRecord = decode(value).map_err(damaged)?;
                if *key != Key::from(ClaimRecord::at(&claim.attachment)) {
                    return Err(format!("holds the claim of {}", claim.attachment));
                }
                Value::Claim(Rc::new(claim))
            }
            "addresses" => match decode::<AddressRecord>(value).map_err(damaged)?.state {
                AddressState::Claimed { claim, attachment } => Value::Owned(claim, attachment),
                AddressState::CoolDown { .. } => Value::CoolDown,
            },
            "reservations" | "reserved-for" => Value::Reserved(Rc::new(decode(value).map_err(damaged)?)),
            "macs" => Value::Mac(decode::<MacRecord>(value).map_err(damaged)?.owner),
            _ => Value::Other,
        })
    }

    pub(crate) fn read(&mut self, entries: &[Entry]) -> Result<State, String> {
        let mut state = State::default();
        for entry in entries {
            let address = || entry.key.address_part().ok_or_else(|| format!("{} ends in no address", entry.key));
            match (self.value(entry)?, kind(&entry.key)) {
                (Value::Claim(claim), _) => drop(state.claims.insert(claim.attachment.clone(), claim)),
                (Value::Owned(claim, attachment), _) => drop(state.owned.insert(address()?, (claim, attachment))),
                (Value::CoolDown, _) => drop(state.in_cool_down.insert(address()?, entry.mod_revision)),
                (Value::Reserved(kept), "reservations") => drop(state.reserved.insert(address()?, kept)),
                (Value::Reserved(kept), _) => drop(state.reserved_for.insert(of_attachment(&entry.key), kept)),
                (Value::Mac(owner), _) => drop(state.macs.insert(of_attachment(&entry.key), owner)),
                (Value::Other, "cool-down") => drop(state.marks.insert(address()?, entry.mod_revision)),
                (Value::Other, "tombstones") => drop(state.tombstones.insert(of_attachment(&entry.key))),
                (Value::Other, _) => {}
            }
        }
        Ok(state)
    }
}

fn kind(key: &Key) -> &str {
    key.as_str().split('/').nth(1).unwrap_or_default()
}

/// The part of a key that names an attachment.
fn of_attachment(key: &Key) -> String {
    key.as_str().splitn(3, '/').nth(2).unwrap_or_default().to_owned()
}

impl State {
    /// At every moment: claims and addresses refer to each other, no address has two owners or is not in its subnet, a
    /// running pod has its claim, and a tenant that was found empty stays empty.
    pub(crate) fn check(&self, model: &Model) -> Result<(), String> {
        let prefixes = model.cache.borrow().tenant.subnets[0].prefixes.clone();
        let mut owners: BTreeMap<IpAddr, &Attachment> = BTreeMap::new();
        for (attachment, claim) in &self.claims {
            for address in claim.addresses.iter().map(|address| address.address.ip()) {
                if let Some(other) = owners.insert(address, attachment) {
                    return Err(format!("{address} is claimed by {other} and by {attachment}"));
                }
                match self.owned.get(&address) {
                    Some((id, owner)) if *id == claim.claim && owner == attachment => {}
                    other => return Err(format!("{attachment} claims {address}, whose record has {other:?}")),
                }
                let excluded = model.exclude.iter().any(|range| range.contains(address));
                let is_host = prefixes.iter().any(|PrefixEntry { cidr, gateway }| {
                    let is_broadcast = cidr.is_ipv4() && address == cidr.broadcast();
                    cidr.contains(address) && ![cidr.network(), *gateway].contains(&address) && !is_broadcast
                });
                if !is_host || excluded {
                    return Err(format!("{attachment} has {address}, which is not for pods"));
                }
            }
            for PrefixEntry { cidr, .. } in &prefixes {
                if claim.addresses.iter().all(|claimed| !cidr.contains(claimed.address.ip())) {
                    return Err(format!("{attachment} is claimed by half: it has no address of {cidr}"));
                }
            }
        }
        if let Some((address, (id, owner))) = self.owned.iter().find(|(address, _)| !owners.contains_key(*address)) {
            return Err(format!("{address} belongs to claim {id} of {owner}, which does not exist"));
        }
        if self.in_cool_down != self.marks {
            return Err(format!(
                "addresses in cool-down and their marks differ: {:?} {:?}",
                self.in_cool_down, self.marks
            ));
        }
        for (attachment, runs_on) in &*model.alive.borrow() {
            if self.claims.get(attachment).map(|claim| &**claim) != Some(runs_on) {
                let now = self.claims.get(attachment).map(|claim| claim.claim);
                return Err(format!("{attachment} runs on claim {}, the store has {now:?}", runs_on.claim));
            }
        }
        self.check_kept()?;
        if model.emptied.get() && !self.claims.is_empty() {
            return Err(format!("{} claims in a tenant that was found empty", self.claims.len()));
        }
        Ok(())
    }

    /// Between two moments: no claim appears under a tombstone; a released address is in cool-down, and is reused during it
    /// only if no address is free. The clock stands still: no address becomes free by itself.
    pub(crate) fn check_step(&self, before: &Self, model: &Model) -> Result<(), String> {
        for (attachment, claim) in &self.claims {
            let new = before.claims.get(attachment).is_none_or(|old| old.claim != claim.claim);
            let name = of_attachment(&Key::from(ClaimRecord::at(attachment)));
            if new && before.tombstones.contains(&name) && self.tombstones.contains(&name) {
                return Err(format!("{attachment} got a claim in spite of its tombstone"));
            }
            if new {
                self.check_new(claim)?;
            }
        }
        self.check_reserved(before)?;
        if model.setup.cooldown.is_zero() {
            return Ok(());
        }
        let free = before.free(model);
        for address in before.owned.keys() {
            if !self.owned.contains_key(address) && !self.in_cool_down.contains_key(address) {
                return Err(format!("{address} was released and is not in cool-down"));
            }
        }
        for address in before.in_cool_down.keys() {
            // Who asks for it, and whose it is, may have it at once.
            let asked_for = model.setup.requests > 0 || before.reserved.contains_key(address);
            if self.owned.contains_key(address) && free > 0 && !asked_for {
                return Err(format!("{address} was reused during its cool-down, with {free} addresses free"));
            }
        }
        Ok(())
    }

    /// After all releases: only addresses in cool-down are left.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        let lists = [self.claims.len(), self.owned.len(), self.tombstones.len(), self.reserved.len(), self.macs.len()];
        match lists {
            [0, 0, 0, 0, 0] => Ok(()),
            [claims, owned, tombstones, reserved, macs] => Err(format!(
                "left behind: {claims} claims, {owned} addresses, {tombstones} tombstones, {reserved} reservations, {macs} MACs"
            )),
        }
    }
}
