//! An address is kept for a pod: it gets that one and no other whenever it starts, on whatever node, and nobody else
//! gets it meanwhile.
//!
//! A reservation is one record under two keys, the address's and the pod's, written and deleted together. A claim
//! compares both, so that neither can be overlooked. With a MAC it has a third key, which belongs to the reservation and
//! not to the claims that come and go under it.
//!
//! Reserving and lifting are one guarded transaction each; doing either twice is doing it once. A pod that runs keeps
//! what it has.

use std::net::Ipv4Addr;

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{Namespace, PodName, TenantName};
use atoll_model::record::{
    AddressRecord, AddressState, ClaimRecord, ClusterRecord, MacOwner, MacRecord, ReservationRecord, SCHEMA,
    TenantRecord, Unknown, encode, now,
};
use atoll_store::{Change, Committed, Compare, Doubt, Key, Query, Revision, Store, Txn};
use serde::de::DeserializeOwned;

use crate::claim::mac::{is_local, look, of_no_router, unicast};
use crate::claim::want::place;
use crate::error::{IpamError, unsteady};
use crate::find::find;
use crate::holder::Holder;
use crate::search::{self, Subnet};
use crate::versioned::Versioned;

/// What a reservation rests on changes seldom: this is plenty.
const ATTEMPTS: u32 = 20;

/// What is to be kept for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The tenant.
    pub tenant: TenantName,
    /// The address; a pod of the tenant must be able to have it.
    pub address: Ipv4Addr,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub pod: PodName,
    /// The MAC that the pod gets with it; none: the derived one.
    pub mac: Option<Mac>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It is reserved, since now; or would be.
    New(ReservationRecord),
    /// It was reserved like this already.
    Already(ReservationRecord),
}

/// What became of a reservation that was to be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifted {
    /// It is gone, since now; or would be.
    Done,
    /// It was gone already.
    Already,
}

/// Keeps an address for a pod. It is refused when another pod has it, or when the pod has a reservation already; a pod
/// that has the address itself may keep it like this. With `dry_run` nothing is written.
pub async fn reserve<S: Store>(store: &S, request: &ReserveRequest, dry_run: bool) -> Result<Reserved, IpamError> {
    let ReserveRequest { tenant: name, address, namespace, pod, mac } = request;
    let failed = || IpamError::store(format!("reservation of {address} for pod {namespace}/{pod}"));
    let since = now();
    let mut doubt = Doubt::default();
    for _ in 0..ATTEMPTS {
        let tenant: Option<Versioned<TenantRecord>> = get(store, Key::tenant(name)).await?;
        let tenant = tenant.ok_or_else(|| IpamError::NoTenant { tenant: name.clone() })?;
        let subnet = place(&tenant.record, &search::subnets(&tenant.record)?, *address)?.subnet;
        let record = ReservationRecord {
            v: SCHEMA,
            tenant: name.clone(),
            incarnation: tenant.record.incarnation,
            ordinal: subnet.ordinal,
            address: *address,
            namespace: namespace.clone(),
            pod: pod.clone(),
            mac: *mac,
            since,
            unknown: Unknown::new(),
        };
        let seen = Seen::read(store, &record).await?;
        if let Some(there) = seen.refuse_other(&record)? {
            return Ok(Reserved::Already(there));
        }
        let mut compare = vec![
            Compare::Modified(Key::tenant(name), tenant.mod_revision),
            Compare::Absent(place_key(&record)),
            Compare::Absent(Key::reserved_for(namespace, pod)),
        ];
        let value = encode(&record);
        let mut then = vec![put(place_key(&record), value.clone()), put(Key::reserved_for(namespace, pod), value)];
        let owner = owner(store, &record, &seen).await?;
        compare.push(seen.address_as_seen(&record));
        if let (Some(key), Some(mac)) = (mac_key(&record), *mac) {
            let cluster: Option<Versioned<ClusterRecord>> = get(store, Key::cluster()).await?;
            if let Some(cluster) = cluster {
                of_no_router(cluster.record.id, &tenant.record, mac)?;
            }
            compare.push(seen.refuse_taken_mac(store, &subnet, &record, owner.as_ref()).await?);
            let owner = MacOwner::Reserved { namespace: namespace.clone(), pod: pod.clone() };
            then.push(put(key, encode(&MacRecord { v: SCHEMA, owner, unknown: Unknown::new() })));
        }
        if dry_run {
            return Ok(Reserved::New(record));
        }
        doubt.may_repeat().map_err(failed())?;
        let outcome = store.commit(Txn { compare, then, otherwise: Vec::new() }).await;
        // Lost, or nobody knows: what is there now, and whether it is ours, the next look tells.
        if let Some(Committed::Yes(_)) = doubt.weigh(outcome).map_err(failed())? {
            return Ok(Reserved::New(record));
        }
    }
    Err(failed()(doubt.cause().unwrap_or_else(|| unsteady("what it rests on changed at each attempt"))))
}

/// Takes a reservation back. With a MAC it stays while its pod runs with that MAC, which would be nobody's otherwise.
/// With `dry_run` nothing is written.
pub async fn lift<S: Store>(store: &S, record: &ReservationRecord, dry_run: bool) -> Result<Lifted, IpamError> {
    let ReservationRecord { address, namespace, pod, .. } = record;
    let failed = || IpamError::store(format!("reservation of {address} for pod {namespace}/{pod}"));
    let mut doubt = Doubt::default();
    for _ in 0..ATTEMPTS {
        let seen = Seen::read(store, record).await?;
        let (mut compare, mut then) = (Vec::new(), Vec::new());
        let keys = [(place_key(record), &seen.reservation), (Key::reserved_for(namespace, pod), &seen.reserved_for)];
        for (key, there) in keys {
            // A key that tells of another reservation belongs to that.
            if let Some(there) = there.as_ref().filter(|there| is_same(&there.record, record)) {
                compare.push(Compare::Modified(key.clone(), there.mod_revision));
                then.push(Change::Delete(key));
            }
        }
        if let (Some(key), Some(mac)) = (mac_key(record), &seen.mac)
            && mac.record.owner == (MacOwner::Reserved { namespace: namespace.clone(), pod: pod.clone() })
        {
            seen.refuse_used_mac(store, record).await?;
            compare.push(seen.address_as_seen(record));
            compare.push(Compare::Modified(key.clone(), mac.mod_revision));
            then.push(Change::Delete(key));
        }
        if then.is_empty() {
            return Ok(Lifted::Already);
        }
        if dry_run {
            return Ok(Lifted::Done);
        }
        doubt.may_repeat().map_err(failed())?;
        let outcome = store.commit(Txn { compare, then, otherwise: Vec::new() }).await;
        if let Some(Committed::Yes(_)) = doubt.weigh(outcome).map_err(failed())? {
            return Ok(Lifted::Done);
        }
    }
    Err(failed()(doubt.cause().unwrap_or_else(|| unsteady("what it rests on changed at each attempt"))))
}

/// What is reserved for a pod.
pub async fn reserved_for<S: Store>(
    store: &S,
    namespace: &Namespace,
    pod: &PodName,
) -> Result<Option<Versioned<ReservationRecord>>, IpamError> {
    get(store, Key::reserved_for(namespace, pod)).await
}

/// All reservations of a tenant, or all there are. A damaged one is an error: a list that hides one would be wrong.
pub async fn reservations<S: Store>(
    store: &S,
    tenant: Option<&TenantName>,
) -> Result<Vec<Versioned<ReservationRecord>>, IpamError> {
    let prefix = tenant.map_or_else(Key::all_reservations, Key::reservations_of);
    let object = prefix.to_string();
    let snapshot = store.read(vec![Query::all(prefix)]).await.map_err(IpamError::store(object))?;
    snapshot.answers.iter().flat_map(|answer| &answer.entries).map(Versioned::read).collect()
}

async fn get<S: Store, T: DeserializeOwned>(store: &S, key: Key) -> Result<Option<Versioned<T>>, IpamError> {
    let snapshot = store.read(vec![Query::Key(key.clone())]).await.map_err(IpamError::store(&key))?;
    snapshot.answers.first().map(Versioned::of).transpose().map(Option::flatten)
}

fn put(key: Key, value: Vec<u8>) -> Change {
    Change::Put { key, value, lease: None }
}

fn place_key(record: &ReservationRecord) -> Key {
    Key::reservation(&record.tenant, record.ordinal, record.address)
}

fn address_key(record: &ReservationRecord) -> Key {
    Key::address(&record.tenant, record.ordinal, record.address)
}

fn mac_key(record: &ReservationRecord) -> Option<Key> {
    record.mac.map(|mac| Key::mac(&record.tenant, record.ordinal, mac))
}

/// The same address of the same life of the same tenant for the same pod.
fn is_same(one: &ReservationRecord, other: &ReservationRecord) -> bool {
    let place = |record: &ReservationRecord| (record.incarnation, record.ordinal, record.address);
    let pod = |record: &ReservationRecord| (record.namespace.clone(), record.pod.clone());
    one.tenant == other.tenant && place(one) == place(other) && pod(one) == pod(other)
}

/// The attachment that has the address, which must be the pod's own.
async fn owner<S: Store>(store: &S, record: &ReservationRecord, seen: &Seen) -> Result<Option<Attachment>, IpamError> {
    let Some(attachment) = seen.claimed_by() else { return Ok(None) };
    let claim = find(store, attachment).await?.claim;
    let is_own = |claim: &ClaimRecord| {
        claim.namespace.as_ref() == Some(&record.namespace) && claim.pod.as_deref() == Some(record.pod.as_str())
    };
    match claim {
        Some(claim) if is_own(&claim.record) => Ok(Some(attachment.clone())),
        claim => {
            let unnamed = || Holder { attachment: attachment.clone(), namespace: None, pod: None };
            let holder = Box::new(claim.map_or_else(unnamed, |claim| Holder::of(&claim.record)));
            Err(IpamError::Taken { tenant: record.tenant.clone(), address: record.address, holder })
        }
    }
}

/// What there is under the keys of a reservation, at one revision.
struct Seen {
    reservation: Option<Versioned<ReservationRecord>>,
    reserved_for: Option<Versioned<ReservationRecord>>,
    address: Option<Versioned<AddressRecord>>,
    mac: Option<Versioned<MacRecord>>,
}

impl Seen {
    async fn read<S: Store>(store: &S, record: &ReservationRecord) -> Result<Self, IpamError> {
        let keys = [place_key(record), Key::reserved_for(&record.namespace, &record.pod), address_key(record)];
        let queries = keys.into_iter().chain(mac_key(record)).map(Query::Key).collect();
        let object = format!("reservation of {}", record.address);
        let snapshot = store.read(queries).await.map_err(IpamError::store(&object))?;
        let [reservation, reserved_for, address, mac @ ..] = snapshot.answers.as_slice() else {
            return Err(IpamError::Answer { object });
        };
        Ok(Self {
            reservation: Versioned::of(reservation)?,
            reserved_for: Versioned::of(reserved_for)?,
            address: Versioned::of(address)?,
            mac: mac.first().map(Versioned::of).transpose()?.flatten(),
        })
    }

    /// The reservation, if it is there as it is wanted; nothing if there is none; else an error.
    fn refuse_other(&self, wanted: &ReservationRecord) -> Result<Option<ReservationRecord>, IpamError> {
        let but = |there: &ReservationRecord, why: String| {
            let ReservationRecord { address, namespace, pod, .. } = there.clone();
            Err(IpamError::Reservation { address, namespace, pod, why })
        };
        let [there, back] = [&self.reservation, &self.reserved_for].map(|r| r.as_ref().map(|there| &there.record));
        match (there, back) {
            (None, None) => Ok(None),
            (Some(there), _) if (&there.namespace, &there.pod) != (&wanted.namespace, &wanted.pod) => {
                let ReservationRecord { tenant, address, namespace, pod, .. } = there.clone();
                Err(IpamError::Reserved { tenant, address, namespace, pod })
            }
            (_, Some(back)) if !is_same(back, wanted) => but(back, "a pod has one reservation only".to_owned()),
            (Some(there), Some(_)) if there.mac == wanted.mac => Ok(Some(there.clone())),
            (Some(there), Some(_)) => {
                but(there, there.mac.map_or("without a MAC".to_owned(), |mac| format!("with the MAC {mac}")))
            }
            (Some(there), None) => {
                but(there, format!("{} is missing", Key::reserved_for(&wanted.namespace, &wanted.pod)))
            }
            (None, Some(back)) => but(back, format!("{} is missing", place_key(wanted))),
        }
    }

    fn claimed_by(&self) -> Option<&Attachment> {
        match self.address.as_ref().map(|address| &address.record.state) {
            Some(AddressState::Claimed { attachment, .. }) => Some(attachment),
            _ => None,
        }
    }

    /// The address is as it was seen.
    fn address_as_seen(&self, record: &ReservationRecord) -> Compare {
        as_seen(address_key(record), self.address.as_ref().map(|address| address.mod_revision))
    }

    /// The MAC is nobody's, or that of the pod which has the address already: then it is the reservation's from now on.
    async fn refuse_taken_mac<S: Store>(
        &self,
        store: &S,
        subnet: &Subnet,
        record: &ReservationRecord,
        owner: Option<&Attachment>,
    ) -> Result<Compare, IpamError> {
        let (Some(mac), Some(key)) = (record.mac, mac_key(record)) else {
            return Err(IpamError::Answer { object: record.address.to_string() });
        };
        unicast(mac)?;
        let by = match self.mac.as_ref().map(|mac| &mac.record.owner) {
            None => {
                if is_local(mac) {
                    look(store, subnet, mac, owner).await?;
                }
                None
            }
            Some(MacOwner::Claimed { attachment, .. }) if Some(attachment) == owner => None,
            Some(MacOwner::Claimed { attachment, .. }) => Some(format!("attachment {attachment}")),
            Some(MacOwner::Reserved { namespace, pod }) => Some(format!("the reservation for pod {namespace}/{pod}")),
        };
        match by {
            Some(by) => Err(IpamError::MacTaken { tenant: record.tenant.clone(), cidr: subnet.cidr, mac, by }),
            None => Ok(as_seen(key, self.mac.as_ref().map(|mac| mac.mod_revision))),
        }
    }

    /// Nobody runs with the MAC.
    async fn refuse_used_mac<S: Store>(&self, store: &S, record: &ReservationRecord) -> Result<(), IpamError> {
        let Some(attachment) = self.claimed_by() else { return Ok(()) };
        let claim = find(store, attachment).await?.claim;
        let Some(claim) = claim.filter(|claim| Some(claim.record.mac) == record.mac) else { return Ok(()) };
        let ReservationRecord { address, namespace, pod, .. } = record.clone();
        let why = format!("with the MAC {}, which {} uses", claim.record.mac, Holder::of(&claim.record));
        Err(IpamError::Reservation { address, namespace, pod, why })
    }
}

fn as_seen(key: Key, revision: Option<Revision>) -> Compare {
    match revision {
        Some(revision) => Compare::Modified(key, revision),
        None => Compare::Absent(key),
    }
}
