//! Looking through whole subnets: only when the window of a lost attempt showed nothing free. This is the one place
//! whose cost grows with the number of addresses in use: the proof that a subnet is full.

use std::net::Ipv4Addr;

use atoll_model::ids::TenantName;
use atoll_model::record::{Phase, SubnetEntry, TenantRecord};
use atoll_store::{Answer, Key, Query, Revision, Store};
use ipnetwork::Ipv4Network;

use crate::candidate::{Window, mix};
use crate::claim::ClaimRequest;
use crate::error::{Fill, IpamError};
use crate::pool::{Block, PodRange, v4};

/// How many keys one step of a search reads.
const PAGE: usize = 4096;

/// An active subnet with the addresses that its pods may have.
#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) tenant: TenantName,
    pub(crate) ordinal: u32,
    pub(crate) cidr: Ipv4Network,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) pods: PodRange,
}

/// An address to try.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) subnet: Subnet,
    pub(crate) position: u128,
    /// It is cooling, last written at this revision, and is to be reused early.
    pub(crate) cooling: Option<Revision>,
}

impl Target {
    /// An address that should be free.
    pub(crate) fn free(subnet: Subnet, position: u128) -> Self {
        Self { subnet, position, cooling: None }
    }
}

impl Subnet {
    fn new(tenant: &TenantName, entry: &SubnetEntry, most: Option<u128>) -> Option<Self> {
        let pods = PodRange::new(Block::from(entry.cidr), u32::from(entry.gateway).into())?;
        let pods = most.map_or(Some(pods), |most| pods.limited(most))?;
        let SubnetEntry { ordinal, cidr, gateway, .. } = *entry;
        Some(Self { tenant: tenant.clone(), ordinal, cidr, gateway, pods })
    }

    /// Queries for what is taken, and what is reserved, from a position on.
    pub(crate) fn page(&self, from: u128, limit: usize) -> [Query; 2] {
        let Self { tenant, ordinal, pods, .. } = self;
        let first = v4(pods.at(from));
        let range = |prefix, from| Query::Range { prefix, from: Some(from), limit, keys_only: true };
        [
            range(Key::addresses(tenant, *ordinal), Key::address(tenant, *ordinal, first)),
            range(Key::reservations(tenant, *ordinal), Key::reservation(tenant, *ordinal, first)),
        ]
    }
}

/// The subnets that claims may come from, the newest first: a subnet is added only when those before it are full. A
/// quota bounds how far into the subnets, in the order of their numbers, the tenant may reach.
pub(crate) fn subnets(tenant: &TenantRecord) -> Result<Vec<Subnet>, IpamError> {
    if tenant.phase == Phase::Deleting {
        return Err(IpamError::Deleting { tenant: tenant.name.clone() });
    }
    let mut entries: Vec<_> = tenant.subnets.iter().filter(|entry| entry.phase == Phase::Active).collect();
    entries.sort_by_key(|entry| entry.ordinal);
    let mut most = tenant.quota.addresses.map(u128::from);
    let mut subnets = Vec::new();
    for entry in entries {
        if let Some(subnet) = Subnet::new(&tenant.name, entry, most) {
            most = most.map(|most| most.saturating_sub(subnet.pods.capacity()));
            subnets.push(subnet);
        }
    }
    subnets.reverse();
    if subnets.is_empty() { Err(IpamError::NoSubnet { tenant: tenant.name.clone() }) } else { Ok(subnets) }
}

/// Any free address of any of the subnets; else the address that has cooled the longest, unless the tenant had better
/// grow; else the figures.
pub(crate) async fn any<S: Store>(
    store: &S,
    request: &ClaimRequest<'_>,
    subnets: &[Subnet],
    seed: u64,
    attempt: u32,
) -> Result<Target, IpamError> {
    for subnet in subnets {
        if let Some(target) = free(store, subnet, mix(seed, attempt)).await? {
            return Ok(target);
        }
    }
    let mut fills = Vec::new();
    let mut cooled = Vec::new();
    for subnet in subnets {
        let cooling = cooling(store, subnet).await?;
        fills.push(Fill { cidr: subnet.cidr, capacity: subnet.pods.capacity(), cooling: cooling.len() });
        cooled.extend(cooling);
    }
    let exhausted = |subnets| IpamError::Exhausted { tenant: request.tenant.name.clone(), subnets };
    if request.can_grow && is_full_of_pods(&fills) {
        return Err(exhausted(fills));
    }
    // The oldest first. After a lost race, any of the two, four, ... oldest: else all who wait would meet again.
    cooled.sort_by_key(|target| target.cooling);
    let choice = 1_usize.checked_shl(attempt.saturating_sub(1) / 2).unwrap_or(usize::MAX).min(cooled.len());
    let index = mix(seed, attempt).checked_rem(choice as u128).and_then(|index| usize::try_from(index).ok());
    match index.map(|index| cooled.swap_remove(index)) {
        Some(target) => Ok(target),
        None => Err(exhausted(fills)),
    }
}

/// Nothing is free. Do pods hold at least half of it? Then the tenant needs room, and what cools may go on cooling. Else
/// its pods come and go faster than addresses cool: more room would not last either, and the oldest are reused early. So
/// a tenant never gets more than one subnet beyond twice what its pods held at one time.
fn is_full_of_pods(subnets: &[Fill]) -> bool {
    let capacity: u128 = subnets.iter().map(|subnet| subnet.capacity).sum();
    let cooling: u128 = subnets.iter().map(|subnet| subnet.cooling as u128).sum();
    2 * cooling <= capacity
}

/// A free address of a subnet: page by page from a random position to the end, then from the beginning.
async fn free<S: Store>(store: &S, subnet: &Subnet, random: u128) -> Result<Option<Target>, IpamError> {
    let capacity = subnet.pods.capacity();
    let start = random % capacity;
    for (mut from, until) in [(start, capacity), (0, start)] {
        while from < until {
            let answers = answers(store, subnet, subnet.page(from, PAGE).to_vec()).await?;
            let window = Window::read(subnet.pods, from, &answers.iter().collect::<Vec<_>>());
            if let Some(position) = window.pick(random) {
                return Ok(Some(Target::free(subnet.clone(), position)));
            }
            // A page that shows nothing new would be a page without keys, and then everything in it is free.
            from = window.end().max(from + 1);
        }
    }
    Ok(None)
}

/// The addresses of a subnet that cool and are not reserved. Address and mark were written by one transaction, so that
/// the revision of the mark is that of the address.
async fn cooling<S: Store>(store: &S, subnet: &Subnet) -> Result<Vec<Target>, IpamError> {
    let Subnet { tenant, ordinal, pods, .. } = subnet;
    let all = |prefix| Query::Range { prefix, from: None, limit: 0, keys_only: true };
    let queries = vec![all(Key::coolings(tenant, *ordinal)), all(Key::reservations(tenant, *ordinal))];
    let answers = answers(store, subnet, queries).await?;
    let [cooling, reserved] = answers.as_slice() else { return Err(odd(subnet)) };
    let address = |entry: &atoll_store::Entry| entry.key.address_part();
    let reserved: std::collections::BTreeSet<_> = reserved.entries.iter().filter_map(address).collect();
    let target = |entry| {
        let number = address(entry).filter(|address| !reserved.contains(address))?;
        let position = pods.position(u32::from(number).into())?;
        Some(Target { subnet: subnet.clone(), position, cooling: Some(entry.mod_revision) })
    };
    Ok(cooling.entries.iter().filter_map(target).collect())
}

async fn answers<S: Store>(store: &S, subnet: &Subnet, queries: Vec<Query>) -> Result<Vec<Answer>, IpamError> {
    let count = queries.len();
    let object = format!("subnet {} of tenant {}", subnet.cidr, subnet.tenant);
    let answers = store.read(queries).await.map_err(IpamError::store(object))?.answers;
    if answers.len() == count { Ok(answers) } else { Err(odd(subnet)) }
}

fn odd(subnet: &Subnet) -> IpamError {
    IpamError::Answer { object: format!("subnet {} of tenant {}", subnet.cidr, subnet.tenant) }
}
