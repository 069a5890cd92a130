//! Looking through whole subnets: only when the window of a lost attempt showed nothing free. This is the one place
//! whose cost grows with the number of addresses in use: the proof that a subnet is full.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use atoll_model::ids::TenantName;
use atoll_records::{
    AddressRecord, ClaimedAddress, CoolDown, Entry, Key, Phase, Query, ReadError, RecordKey, ReservationRecord,
    Revision, Snapshot, SubnetEntry, TenantRecord,
};
use atoll_store::Store;
use ipnetwork::Ipv4Network;

use crate::candidate::{Window, mix};
use crate::error::{Fill, IpamError};
use crate::pool::{PodRange, v4};

/// How many addresses one step of a search reads.
const PAGE: u128 = 4096;

/// An active subnet with the addresses that its pods may have.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSubnet {
    pub(crate) tenant: TenantName,
    pub(crate) ordinal: u32,
    pub(crate) cidr: Ipv4Network,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) pods: PodRange,
}

/// An address to try.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) subnet: ActiveSubnet,
    pub(crate) position: u128,
    /// It is in cool-down, last written at this revision, and is to be reused early.
    pub(crate) cool_down: Option<Revision>,
}

impl Target {
    /// An address that should be free.
    pub(crate) fn free(subnet: ActiveSubnet, position: u128) -> Self {
        Self { subnet, position, cool_down: None }
    }

    /// As an address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        v4(self.subnet.pods.at(self.position))
    }

    /// As it stands in the claim.
    pub(crate) fn claimed(&self) -> ClaimedAddress {
        let ActiveSubnet { ordinal, cidr, gateway, .. } = self.subnet;
        let address = Ipv4Network::new(self.address(), cidr.prefix()).expect("the prefix comes from a network");
        ClaimedAddress { ordinal, address, gateway }
    }

    /// Its key in one of the lists.
    pub(crate) fn key<R>(&self, of: impl Fn(&TenantName, u32, Ipv4Addr) -> RecordKey<R>) -> RecordKey<R> {
        of(&self.subnet.tenant, self.subnet.ordinal, self.address())
    }
}

impl ActiveSubnet {
    fn new(tenant: &TenantName, entry: &SubnetEntry, most: Option<u128>) -> Option<Self> {
        let pods = PodRange::of(entry)?;
        let pods = most.map_or(Some(pods.clone()), |most| pods.limited(most))?;
        let SubnetEntry { ordinal, cidr, gateway, .. } = *entry;
        Some(Self { tenant: tenant.clone(), ordinal, cidr, gateway, pods })
    }

    /// Queries for taken and reserved addresses at the positions from `from` to before `end`. They end where the positions
    /// do: etcd reads every key of a range, also those that a limit omits.
    pub(crate) fn part(&self, from: u128, end: u128) -> [Query; 2] {
        let Self { tenant, ordinal, pods, .. } = self;
        let (first, last) = (v4(pods.at(from)), v4(pods.at(end.max(from + 1) - 1)));
        let range = |prefix: Key, first: Key, last: &Key| Query::Range {
            prefix,
            from: Some(first),
            until: Some(last.next()),
            limit: 0,
            keys_only: true,
        };
        let address = |at| AddressRecord::at(tenant, *ordinal, at);
        let reservation = |at| ReservationRecord::at(tenant, *ordinal, at);
        [
            range(AddressRecord::of_subnet(tenant, *ordinal).into(), address(first).into(), &address(last)),
            range(ReservationRecord::of_subnet(tenant, *ordinal).into(), reservation(first).into(), &reservation(last)),
        ]
    }

    /// The answers to [`ActiveSubnet::part`].
    pub(crate) fn window(&self, snapshot: &Snapshot, from: u128, end: u128) -> Result<Window, ReadError> {
        let [taken, reserved] = self.part(from, end);
        Ok(Window::read(&self.pods, from, end, [snapshot.answer(&taken)?, snapshot.answer(&reserved)?]))
    }
}

/// The subnets that claims may come from, the newest first: a subnet is added only when those before it are full. A
/// quota bounds how far into the subnets, in the order of their numbers, the tenant may reach.
pub(crate) fn subnets(tenant: &TenantRecord) -> Result<Vec<ActiveSubnet>, IpamError> {
    if tenant.phase == Phase::Deleting {
        return Err(IpamError::Deleting { tenant: tenant.name.clone() });
    }
    let mut entries: Vec<_> = tenant.subnets.iter().filter(|entry| entry.phase == Phase::Active).collect();
    entries.sort_by_key(|entry| entry.ordinal);
    let mut most = tenant.quota.addresses.map(u128::from);
    let mut subnets = Vec::new();
    for entry in entries {
        if let Some(subnet) = ActiveSubnet::new(&tenant.name, entry, most) {
            most = most.map(|most| most.saturating_sub(subnet.pods.capacity()));
            subnets.push(subnet);
        }
    }
    subnets.reverse();
    if subnets.is_empty() { Err(IpamError::NoSubnet { tenant: tenant.name.clone() }) } else { Ok(subnets) }
}

/// Free addresses of one of the subnets; else the address that has oldest the longest, unless the tenant can and had
/// better grow; else the error that `full` makes of the figures.
pub(crate) async fn any<S: Store>(
    store: &S,
    subnets: &[ActiveSubnet],
    seed: u64,
    attempt: u32,
    can_grow: bool,
    full: impl FnOnce(Vec<Fill>) -> IpamError,
) -> Result<Vec<Target>, IpamError> {
    for subnet in subnets {
        let free = free(store, subnet, mix(seed, attempt)).await?;
        if !free.is_empty() {
            return Ok(free);
        }
    }
    let mut fills = Vec::new();
    let mut oldest = Vec::new();
    for subnet in subnets {
        let cool_down = in_cool_down(store, subnet).await?;
        fills.push(Fill { cidr: subnet.cidr, capacity: subnet.pods.capacity(), cool_down: cool_down.len() });
        oldest.extend(cool_down);
    }
    if can_grow && is_full_of_pods(&fills) {
        return Err(full(fills));
    }
    // The oldest first. After a lost race, any of the two, four, ... oldest: else all who wait would meet again.
    oldest.sort_by_key(|target| target.cool_down);
    let choice = 1_usize.checked_shl(attempt.saturating_sub(1) / 2).unwrap_or(usize::MAX).min(oldest.len());
    let index = mix(seed, attempt).checked_rem(choice as u128).and_then(|index| usize::try_from(index).ok());
    index.map(|index| vec![oldest.swap_remove(index)]).ok_or_else(|| full(fills))
}

/// No address is free. If pods hold at least half of the addresses, the tenant needs room, and the cool-downs last.
/// Otherwise its pods come and go faster than cool-downs end: more room would not last either, and the oldest addresses are
/// reused early. So a tenant never gets more than one subnet beyond twice what its pods held at one time.
fn is_full_of_pods(subnets: &[Fill]) -> bool {
    let capacity: u128 = subnets.iter().map(|subnet| subnet.capacity).sum();
    let cool_down: u128 = subnets.iter().map(|subnet| subnet.cool_down as u128).sum();
    2 * cool_down <= capacity
}

/// Free addresses of a subnet: page by page from a random position to the end, then from the beginning.
async fn free<S: Store>(store: &S, subnet: &ActiveSubnet, random: u128) -> Result<Vec<Target>, IpamError> {
    let capacity = subnet.pods.capacity();
    let start = random % capacity;
    for (mut from, until) in [(start, capacity), (0, start)] {
        while from < until {
            let end = (from + PAGE).min(until);
            let snapshot = read(store, subnet, subnet.part(from, end).into()).await?;
            let picked = subnet.window(&snapshot, from, end)?.pick(random);
            if !picked.is_empty() {
                return Ok(picked.into_iter().map(|position| Target::free(subnet.clone(), position)).collect());
            }
            from = end;
        }
    }
    Ok(Vec::new())
}

/// The addresses of a subnet that are in cool-down and not reserved. Address and mark were written by one transaction, so
/// that the revision of the mark is that of the address.
async fn in_cool_down<S: Store>(store: &S, subnet: &ActiveSubnet) -> Result<Vec<Target>, IpamError> {
    let ActiveSubnet { tenant, ordinal, pods, .. } = subnet;
    let cool_down = Query::keys(CoolDown::of_subnet(tenant, *ordinal));
    let reserved = Query::keys(ReservationRecord::of_subnet(tenant, *ordinal));
    let snapshot = read(store, subnet, vec![cool_down.clone(), reserved.clone()]).await?;
    let address = |entry: &Entry| entry.key.address_part();
    let reserved: BTreeSet<_> = snapshot.answer(&reserved)?.entries.iter().filter_map(address).collect();
    let target = |entry| {
        let number = address(entry).filter(|address| !reserved.contains(address))?;
        let position = pods.position(u32::from(number).into())?;
        Some(Target { subnet: subnet.clone(), position, cool_down: Some(entry.mod_revision) })
    };
    Ok(snapshot.answer(&cool_down)?.entries.iter().filter_map(target).collect())
}

async fn read<S: Store>(store: &S, subnet: &ActiveSubnet, queries: Vec<Query>) -> Result<Snapshot, IpamError> {
    let object = format!("subnet {} of tenant {}", subnet.cidr, subnet.tenant);
    store.read(queries).await.map_err(IpamError::store(object))
}
