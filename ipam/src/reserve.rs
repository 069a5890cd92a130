//! Reserves an address for a pod: the pod gets exactly this address whenever it starts, on whichever node, and no other
//! pod gets it.
//!
//! A reservation is one record under two keys, the address's and the pod's, written and deleted together. A claim
//! compares both, so that neither can be overlooked. With a MAC it has a third key, which belongs to the reservation and
//! not to the claims that come and go under it.
//!
//! Reserving and lifting are one guarded transaction each; doing either twice is doing it once. A pod that runs keeps
//! what it has.

use std::net::IpAddr;

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::clock::now;
use atoll_model::ids::{Namespace, PodName, TenantName};
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, ClusterRecord, MacOwner, MacRecord, Query, RecordKey, ReservationRecord,
    SCHEMA, TenantRecord, Unknown, Versioned,
};
use atoll_store::{Attempts, Chosen, Compare, Store, StoreChange, Txn};
use serde::de::DeserializeOwned;

use crate::claim::mac::{is_local, of_no_router, refuse_derived, unicast};
use crate::claim::want::place;
use crate::error::IpamError;
use crate::find::find;
use crate::holder::Holder;
use crate::search::{self, Target};

/// The records that a reservation compares change seldom: this is plenty.
const ATTEMPTS: u32 = 20;

/// The address to reserve, and its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The tenant.
    pub tenant: TenantName,
    /// The address; a pod of the tenant must be able to have it.
    pub address: IpAddr,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's name.
    pub pod: PodName,
    /// The MAC that the pod gets with it; none: the derived one.
    pub mac: Option<Mac>,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It is reserved, since now; or would be.
    New(ReservationRecord),
    /// It was reserved like this already.
    Already(ReservationRecord),
}

/// The outcome of deleting a reservation.
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
    let object = format!("reservation of {address} for pod {namespace}/{pod}");
    let failed = || IpamError::store(&object);
    let since = now();
    let exhausted = IpamError::exhausted(&object, "what it rests on changed at each attempt");
    let mut attempts = Attempts::at_most(ATTEMPTS);
    loop {
        attempts.begin().map_err(&exhausted)?;
        let tenant = get(store, &TenantRecord::at(name)).await?;
        let tenant = tenant.ok_or_else(|| IpamError::NoTenant { tenant: name.clone() })?;
        let target = place(&tenant.record, &search::subnets(&tenant.record)?, *address)?;
        let record = ReservationRecord {
            v: SCHEMA,
            tenant: name.clone(),
            incarnation: tenant.record.incarnation,
            ordinal: target.ordinal,
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
        let mut compare = vec![Compare::modified(TenantRecord::at(name), tenant.mod_revision)];
        compare.extend(record.keys().map(Compare::absent));
        let mut then: Vec<_> = record.keys().iter().map(|key| StoreChange::put(key, &record)).collect();
        let owner = owner(store, &record, &seen).await?;
        compare.push(seen.address_as_seen(&record));
        if let (Some(key), Some(mac)) = (mac_key(&record), *mac) {
            if let Some(cluster) = get(store, &ClusterRecord::at()).await? {
                of_no_router(cluster.record.id, &tenant.record, mac)?;
            }
            compare.push(seen.refuse_taken_mac(store, &target, mac, &key, owner.as_ref()).await?);
            let owner = MacOwner::Reserved { namespace: namespace.clone(), pod: pod.clone() };
            then.push(StoreChange::put(&key, &MacRecord { v: SCHEMA, owner, unknown: Unknown::new() }));
        }
        if dry_run {
            return Ok(Reserved::New(record));
        }
        let txn = Txn { compare, then, read: Vec::new(), otherwise: Vec::new() };
        // Lost, or unknown: the next attempt reads what is there, and whether it is ours.
        if let Some(Chosen::Case(..)) = attempts.commit(store, txn.into()).await.map_err(failed())? {
            return Ok(Reserved::New(record));
        }
    }
}

/// Deletes a reservation. With a MAC it remains while its pod runs with that MAC, whose record would be lost otherwise.
/// With `dry_run` nothing is written.
pub async fn lift<S: Store>(store: &S, record: &ReservationRecord, dry_run: bool) -> Result<Lifted, IpamError> {
    let ReservationRecord { address, namespace, pod, .. } = record;
    let object = format!("reservation of {address} for pod {namespace}/{pod}");
    let failed = || IpamError::store(&object);
    let exhausted = IpamError::exhausted(&object, "what it rests on changed at each attempt");
    let mut attempts = Attempts::at_most(ATTEMPTS);
    loop {
        attempts.begin().map_err(&exhausted)?;
        let seen = Seen::read(store, record).await?;
        let (mut compare, mut then) = (Vec::new(), Vec::new());
        for (key, there) in record.keys().into_iter().zip([&seen.reservation, &seen.reserved_for]) {
            // A key that holds another reservation belongs to that.
            if let Some(there) = there.as_ref().filter(|there| is_same(&there.record, record)) {
                compare.push(Compare::modified(&key, there.mod_revision));
                then.push(StoreChange::delete(key));
            }
        }
        if let (Some(key), Some(mac)) = (mac_key(record), &seen.mac)
            && mac.record.owner == (MacOwner::Reserved { namespace: namespace.clone(), pod: pod.clone() })
        {
            seen.refuse_used_mac(store, record).await?;
            compare.push(seen.address_as_seen(record));
            compare.push(Compare::modified(&key, mac.mod_revision));
            then.push(StoreChange::delete(key));
        }
        if then.is_empty() {
            return Ok(Lifted::Already);
        }
        if dry_run {
            return Ok(Lifted::Done);
        }
        let txn = Txn { compare, then, read: Vec::new(), otherwise: Vec::new() };
        if let Some(Chosen::Case(..)) = attempts.commit(store, txn.into()).await.map_err(failed())? {
            return Ok(Lifted::Done);
        }
    }
}

/// The reservation of a pod.
pub async fn reserved_for<S: Store>(
    store: &S,
    namespace: &Namespace,
    pod: &PodName,
) -> Result<Option<Versioned<ReservationRecord>>, IpamError> {
    get(store, &ReservationRecord::for_pod(namespace, pod)).await
}

/// All reservations of a tenant, or all there are. A damaged one is an error: a list that hides one would be wrong.
pub async fn reservations<S: Store>(
    store: &S,
    tenant: Option<&TenantName>,
) -> Result<Vec<Versioned<ReservationRecord>>, IpamError> {
    let prefix = tenant.map_or_else(ReservationRecord::all, ReservationRecord::of_tenant);
    let snapshot = store.read(vec![Query::all(&prefix)]).await.map_err(IpamError::store(&prefix))?;
    Ok(snapshot.list(&prefix)?.complete()?)
}

async fn get<S: Store, R: DeserializeOwned>(store: &S, key: &RecordKey<R>) -> Result<Option<Versioned<R>>, IpamError> {
    let snapshot = store.read(vec![Query::key(key)]).await.map_err(IpamError::store(key))?;
    Ok(snapshot.get(key)?)
}

fn address_key(record: &ReservationRecord) -> RecordKey<AddressRecord> {
    AddressRecord::at(&record.tenant, record.ordinal, record.address)
}

fn mac_key(record: &ReservationRecord) -> Option<RecordKey<MacRecord>> {
    record.mac.map(|mac| MacRecord::at(&record.tenant, record.ordinal, mac))
}

/// The same address of the same incarnation of the same tenant for the same pod.
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

/// The records under the keys of a reservation, at one revision.
struct Seen {
    reservation: Option<Versioned<ReservationRecord>>,
    reserved_for: Option<Versioned<ReservationRecord>>,
    address: Option<Versioned<AddressRecord>>,
    mac: Option<Versioned<MacRecord>>,
}

impl Seen {
    async fn read<S: Store>(store: &S, record: &ReservationRecord) -> Result<Self, IpamError> {
        let ([at, for_pod], address, mac) = (record.keys(), address_key(record), mac_key(record));
        let mut queries = vec![Query::key(&at), Query::key(&for_pod), Query::key(&address)];
        queries.extend(mac.as_ref().map(Query::key));
        let object = format!("reservation of {}", record.address);
        let snapshot = store.read(queries).await.map_err(IpamError::store(&object))?;
        Ok(Self {
            reservation: snapshot.get(&at)?,
            reserved_for: snapshot.get(&for_pod)?,
            address: snapshot.get(&address)?,
            mac: mac.map(|key| snapshot.get(&key)).transpose()?.flatten(),
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
                but(there, format!("{} is missing", ReservationRecord::for_pod(&wanted.namespace, &wanted.pod)))
            }
            (None, Some(back)) => {
                let missing = ReservationRecord::at(&wanted.tenant, wanted.ordinal, wanted.address);
                but(back, format!("{missing} is missing"))
            }
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
        Compare::unchanged(address_key(record), self.address.as_ref().map(|address| address.mod_revision))
    }

    /// The MAC is unused, or it is that of the pod with the address; the reservation owns it from now on.
    async fn refuse_taken_mac<S: Store>(
        &self,
        store: &S,
        target: &Target,
        mac: Mac,
        key: &RecordKey<MacRecord>,
        owner: Option<&Attachment>,
    ) -> Result<Compare, IpamError> {
        unicast(mac)?;
        let by = match self.mac.as_ref().map(|mac| &mac.record.owner) {
            None => {
                if is_local(mac) {
                    refuse_derived(store, (&target.tenant, target.ordinal, target.range.cidr), mac, owner).await?;
                }
                None
            }
            Some(MacOwner::Claimed { attachment, .. }) if Some(attachment) == owner => None,
            Some(MacOwner::Claimed { attachment, .. }) => Some(format!("attachment {attachment}")),
            Some(MacOwner::Reserved { namespace, pod }) => Some(format!("the reservation for pod {namespace}/{pod}")),
        };
        match by {
            Some(by) => Err(IpamError::MacTaken { tenant: target.tenant.clone(), cidr: target.range.cidr, mac, by }),
            None => Ok(Compare::unchanged(key, self.mac.as_ref().map(|mac| mac.mod_revision))),
        }
    }

    /// No running pod has the MAC.
    async fn refuse_used_mac<S: Store>(&self, store: &S, record: &ReservationRecord) -> Result<(), IpamError> {
        let Some(attachment) = self.claimed_by() else { return Ok(()) };
        let claim = find(store, attachment).await?.claim;
        let Some(claim) = claim.filter(|claim| Some(claim.record.mac) == record.mac) else { return Ok(()) };
        let ReservationRecord { address, namespace, pod, .. } = record.clone();
        let why = format!("with the MAC {}, which {} uses", claim.record.mac, Holder::of(&claim.record));
        Err(IpamError::Reservation { address, namespace, pod, why })
    }
}
