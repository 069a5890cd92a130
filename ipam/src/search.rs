//! Looking through whole subnets: only when the window of a lost attempt showed nothing free. This is the one place
//! whose cost grows with the number of addresses in use: the proof that a subnet is full.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::ids::TenantName;
use atoll_records::{
    AddressRecord, ClaimedAddress, CoolDown, Entry, Key, Phase, PrefixEntry, Query, ReadError, RecordKey,
    ReservationRecord, Revision, Snapshot, SubnetEntry, TenantRecord,
};
use atoll_store::Store;
use ipnetwork::IpNetwork;

use crate::candidate::{Window, mix};
use crate::error::{Fill, IpamError};
use crate::pool::{Block, PodRange, number};

/// How many addresses one step of a search reads.
const PAGE: u128 = 4096;

/// An active subnet with the addresses that its pods may have.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSubnet {
    pub(crate) tenant: TenantName,
    pub(crate) ordinal: u32,
    /// One for each family that the subnet has, IPv4 first. Never empty.
    pub(crate) ranges: Vec<SubnetRange>,
}

/// The addresses of one family of a subnet.
#[derive(Clone, Debug)]
pub(crate) struct SubnetRange {
    pub(crate) cidr: IpNetwork,
    pub(crate) gateway: IpAddr,
    pub(crate) pods: PodRange,
}

impl SubnetRange {
    fn address(&self, position: u128) -> IpAddr {
        Block::from(self.cidr).family().address(self.pods.at(position))
    }
}

/// An address to try.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) tenant: TenantName,
    pub(crate) ordinal: u32,
    /// The subnet's range in which it is.
    pub(crate) range: SubnetRange,
    pub(crate) position: u128,
    /// It is in cool-down, last written at this revision, and is to be reused early.
    pub(crate) cool_down: Option<Revision>,
}

impl Target {
    /// As an address.
    pub(crate) fn address(&self) -> IpAddr {
        self.range.address(self.position)
    }

    /// As it stands in the claim.
    pub(crate) fn claimed(&self) -> ClaimedAddress {
        let SubnetRange { cidr, gateway, .. } = self.range;
        let address = IpNetwork::new(self.address(), cidr.prefix()).expect("the prefix comes from a network");
        ClaimedAddress { ordinal: self.ordinal, address, gateway }
    }

    /// Its key in one of the lists.
    pub(crate) fn key<R>(&self, of: impl Fn(&TenantName, u32, IpAddr) -> RecordKey<R>) -> RecordKey<R> {
        of(&self.tenant, self.ordinal, self.address())
    }
}

impl ActiveSubnet {
    /// Without a range in which a quota leaves no address. None: there is no room for a pod.
    fn new(tenant: &TenantName, entry: &SubnetEntry, most: Option<u128>) -> Option<Self> {
        let range = |prefix: &PrefixEntry| {
            let pods = PodRange::of(prefix, &entry.exclude)?;
            Some(SubnetRange { cidr: prefix.cidr, gateway: prefix.gateway, pods })
        };
        let mut ranges: Vec<_> = entry.prefixes.iter().map(range).collect::<Option<_>>()?;
        // The first range is the one that is counted: a pod has one address of each.
        if let (Some(most), Some(first)) = (most, ranges.first_mut()) {
            first.pods = first.pods.clone().limited(most)?;
        }
        (!ranges.is_empty()).then(|| Self { tenant: tenant.clone(), ordinal: entry.ordinal, ranges })
    }

    /// The network by which messages name it.
    pub(crate) fn cidr(&self) -> IpNetwork {
        self.ranges[0].cidr
    }

    /// An address that pods may have, if it is in one of the ranges.
    pub(crate) fn target(&self, address: IpAddr) -> Option<Target> {
        let range = self.ranges.iter().find(|range| range.cidr.is_ipv4() == address.is_ipv4())?;
        let position = range.pods.position(number(address))?;
        Some(self.at(range, position))
    }

    fn at(&self, range: &SubnetRange, position: u128) -> Target {
        let (tenant, ordinal, range) = (self.tenant.clone(), self.ordinal, range.clone());
        Target { tenant, ordinal, range, position, cool_down: None }
    }

    /// A draw of an address from each range.
    pub(crate) fn draw(&self) -> Draw {
        Draw { subnet: self.clone() }
    }

    /// A draw from the ranges of the families that `fixed` lacks. None: it has an address of each.
    pub(crate) fn draw_beside(&self, fixed: &[Target]) -> Option<Draw> {
        let is_fixed = |range: &SubnetRange| fixed.iter().any(|target| target.range.cidr == range.cidr);
        let ranges: Vec<_> = self.ranges.iter().filter(|range| !is_fixed(range)).cloned().collect();
        (!ranges.is_empty()).then(|| Draw { subnet: Self { ranges, ..self.clone() } })
    }
}

/// Addresses at one position, one of each of these ranges. A pod that has the address of one range at a position has the others
/// there as well, so that a further family adds no race. Only a pod that asks for an address, or has one reserved, may have
/// addresses of different positions; no draw gives those positions to another pod.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    pub(crate) subnet: ActiveSubnet,
}

impl Draw {
    /// How many positions there are.
    pub(crate) fn capacity(&self) -> u128 {
        self.subnet.ranges.iter().map(|range| range.pods.capacity()).min().unwrap_or(0)
    }

    /// The addresses at a position.
    pub(crate) fn targets(&self, position: u128) -> Vec<Target> {
        self.subnet.ranges.iter().map(|range| self.subnet.at(range, position)).collect()
    }

    /// Queries for taken and for reserved addresses at the positions from `from` to before `end`, for each range. They end
    /// where the positions do: etcd reads every key of a range, also those that a limit omits.
    pub(crate) fn part(&self, from: u128, end: u128) -> Vec<Query> {
        let ActiveSubnet { tenant, ordinal, ranges } = &self.subnet;
        let query = |prefix: Key, first: Key, last: &Key| Query::Range {
            prefix,
            from: Some(first),
            until: Some(last.next()),
            limit: 0,
            keys_only: true,
        };
        let address = |at| AddressRecord::at(tenant, *ordinal, at);
        let reservation = |at| ReservationRecord::at(tenant, *ordinal, at);
        let of_range = |range: &SubnetRange| {
            let (first, last) = (range.address(from), range.address(end.max(from + 1) - 1));
            let taken = AddressRecord::of_subnet(tenant, *ordinal).into();
            let reserved = ReservationRecord::of_subnet(tenant, *ordinal).into();
            [
                query(taken, address(first).into(), &address(last)),
                query(reserved, reservation(first).into(), &reservation(last)),
            ]
        };
        ranges.iter().flat_map(of_range).collect()
    }

    /// The answers to [`Draw::part`].
    pub(crate) fn window(&self, snapshot: &Snapshot, from: u128, end: u128) -> Result<Window, ReadError> {
        let mut taken = Vec::new();
        for query in self.part(from, end) {
            let addresses = snapshot.answer(&query)?.entries.iter().filter_map(|entry| entry.key.address_part());
            let position = |address| self.subnet.target(address).map(|target| target.position);
            taken.extend(addresses.filter_map(position));
        }
        Ok(Window::new(from, end, taken))
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
            most = most.map(|most| most.saturating_sub(subnet.draw().capacity()));
            subnets.push(subnet);
        }
    }
    subnets.reverse();
    if subnets.is_empty() { Err(IpamError::NoSubnet { tenant: tenant.name.clone() }) } else { Ok(subnets) }
}

/// Free addresses of one of the draws; else those that have been in cool-down longest, unless the tenant can and had better grow;
/// else the error that `full` makes of the figures.
pub(crate) async fn any<S: Store>(
    store: &S,
    draws: &[Draw],
    seed: u64,
    attempt: u32,
    can_grow: bool,
    full: impl FnOnce(Vec<Fill>) -> IpamError,
) -> Result<(Draw, Vec<Vec<Target>>), IpamError> {
    for draw in draws {
        let free = free(store, draw, mix(seed, attempt)).await?;
        if !free.is_empty() {
            return Ok((draw.clone(), free));
        }
    }
    let mut fills = Vec::new();
    let mut oldest = Vec::new();
    for draw in draws {
        let cool_down = in_cool_down(store, draw).await?;
        fills.push(Fill { cidr: draw.subnet.cidr(), capacity: draw.capacity(), cool_down: cool_down.len() });
        oldest.extend(cool_down.into_iter().map(|targets| (draw, targets)));
    }
    if can_grow && is_full_of_pods(&fills) {
        return Err(full(fills));
    }
    // The oldest first. After a lost race, any of the two, four, ... oldest: else all who wait would meet again.
    oldest.sort_by_key(|(_, targets)| targets.iter().filter_map(|target| target.cool_down).max());
    let choice = 1_usize.checked_shl(attempt.saturating_sub(1) / 2).unwrap_or(usize::MAX).min(oldest.len());
    let index = mix(seed, attempt).checked_rem(choice as u128).and_then(|index| usize::try_from(index).ok());
    let Some((draw, targets)) = index.map(|index| oldest.swap_remove(index)) else { return Err(full(fills)) };
    Ok((draw.clone(), vec![targets]))
}

/// No address is free. If pods hold at least half of the addresses, the tenant needs room, and the cool-downs last.
/// Otherwise its pods come and go faster than cool-downs end: more room would not last either, and the oldest addresses are
/// reused early. So a tenant never gets more than one subnet beyond twice what its pods held at one time.
fn is_full_of_pods(subnets: &[Fill]) -> bool {
    let capacity: u128 = subnets.iter().map(|subnet| subnet.capacity).sum();
    let cool_down: u128 = subnets.iter().map(|subnet| subnet.cool_down as u128).sum();
    2 * cool_down <= capacity
}

/// Free addresses of a draw: page by page from a random position to the end, then from the beginning. A prefix of IPv6 is
/// never walked through: a page that is all taken would need as many pods at neighbouring positions.
async fn free<S: Store>(store: &S, draw: &Draw, random: u128) -> Result<Vec<Vec<Target>>, IpamError> {
    let capacity = draw.capacity();
    let start = random % capacity;
    for (mut from, until) in [(start, capacity), (0, start)] {
        while from < until {
            let end = (from + PAGE).min(until);
            let snapshot = read(store, &draw.subnet, draw.part(from, end)).await?;
            let picked = draw.window(&snapshot, from, end)?.pick(random);
            if !picked.is_empty() {
                return Ok(picked.into_iter().map(|position| draw.targets(position)).collect());
            }
            from = end;
        }
    }
    Ok(Vec::new())
}

/// The addresses of a draw that are in cool-down and not reserved. Address and mark were written by one transaction, so
/// that the revision of the mark is that of the address.
async fn in_cool_down<S: Store>(store: &S, draw: &Draw) -> Result<Vec<Vec<Target>>, IpamError> {
    let ActiveSubnet { tenant, ordinal, .. } = &draw.subnet;
    let cool_down = Query::keys(CoolDown::of_subnet(tenant, *ordinal));
    let reserved = Query::keys(ReservationRecord::of_subnet(tenant, *ordinal));
    let snapshot = read(store, &draw.subnet, vec![cool_down.clone(), reserved.clone()]).await?;
    let address = |entry: &Entry| entry.key.address_part();
    let reserved: BTreeSet<_> = snapshot.answer(&reserved)?.entries.iter().filter_map(address).collect();
    let marks = snapshot.answer(&cool_down)?.entries.iter();
    let since: BTreeMap<_, _> = marks.filter_map(|entry| Some((address(entry)?, entry.mod_revision))).collect();
    let capacity = draw.capacity();
    let marked = since.keys().filter_map(|address| draw.subnet.target(*address)).map(|target| target.position);
    let positions: BTreeSet<_> = marked.filter(|position| *position < capacity).collect();
    let at = |position| {
        let targets = draw.targets(position).into_iter();
        targets.map(|target| Target { cool_down: since.get(&target.address()).copied(), ..target }).collect()
    };
    let is_free = |targets: &Vec<Target>| targets.iter().all(|target| !reserved.contains(&target.address()));
    Ok(positions.into_iter().map(at).filter(is_free).collect())
}

async fn read<S: Store>(store: &S, subnet: &ActiveSubnet, queries: Vec<Query>) -> Result<Snapshot, IpamError> {
    let object = format!("subnet {} of tenant {}", subnet.cidr(), subnet.tenant);
    store.read(queries).await.map_err(IpamError::store(object))
}
