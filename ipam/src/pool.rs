//! Arithmetic on blocks of addresses, IPv4 and IPv6 alike. Pure, and never by walking through a block: a /8 costs what
//! a /30 costs.
//!
//! All numbers are `u128` and all ranges include both ends, so that the last address of the space needs no care.
//!
//! | block | gateway | pods |
//! |---|---|---|
//! | IPv4 up to /30 | second address | third to last but one: never network or broadcast |
//! | IPv6 up to /126 | second address | third to last: the first is every router's (RFC 4291, 2.6.1), there is no broadcast |
//! | /31 and /127 | first address | second address (RFC 3021, RFC 6164) |
//! | /32 and /128 | none | none |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_model::range::AddressRange;
use atoll_records::PrefixEntry;
use ipnetwork::{IpNetwork, Ipv4Network};

/// The prefix length of a transit link.
pub const TRANSIT_PREFIX: u8 = 30;

/// The prefix length of a transit link of IPv6.
pub const TRANSIT_PREFIX6: u8 = 126;

/// The two families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl IpFamily {
    /// How many bits an address has.
    pub const fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address of a number of this family. The bits beyond the width of the family are dropped.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => v4(number).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

/// The number of an address.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Neighbouring addresses, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first.
    pub first: u128,
    /// The last.
    pub last: u128,
}

impl Span {
    /// How many there are. The whole of IPv6 has one more than a `u128` can hold: the result is then the greatest number.
    pub fn count(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether it is one of them.
    pub fn contains(self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// The part that both have.
    fn common(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// How many of them are lower than `number`.
    fn lower(self, number: u128) -> u128 {
        number.clamp(self.first, self.last) - self.first + u128::from(number > self.last)
    }
}

impl From<AddressRange> for Span {
    fn from(range: AddressRange) -> Self {
        Self { first: number(range.first()), last: number(range.last()) }
    }
}

/// A network: a prefix, without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    family: IpFamily,
    base: u128,
    prefix: u8,
}

impl Block {
    /// The network of a prefix; host bits of `address` are dropped. None when the prefix is longer than an address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let family = if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        (prefix <= family.width()).then(|| Self {
            family,
            base: number(address) & !mask(family.width() - prefix),
            prefix,
        })
    }

    /// Its family.
    pub const fn family(self) -> IpFamily {
        self.family
    }

    /// The prefix length.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// All of its addresses.
    pub fn span(self) -> Span {
        Span { first: self.base, last: self.base | mask(self.host_bits()) }
    }

    /// As a network.
    pub fn network(self) -> IpNetwork {
        let address = self.family.address(self.base);
        IpNetwork::new(address, self.prefix).expect("a block's prefix is not longer than its family's addresses")
    }

    /// Do the two have an address in common?
    pub fn overlaps(self, other: Self) -> bool {
        let (a, b) = (self.span(), other.span());
        self.family == other.family && a.first <= b.last && b.first <= a.last
    }

    /// The addresses that an interface may have: gateway and pods.
    pub fn hosts(self) -> Option<Span> {
        let Span { first, last } = self.span();
        match (self.host_bits(), self.family) {
            (0, _) => None,
            (1, _) => Some(Span { first, last }),
            (_, IpFamily::V4) => Some(Span { first: first + 1, last: last - 1 }),
            (_, IpFamily::V6) => Some(Span { first: first + 1, last }),
        }
    }

    /// The usual gateway: the first address that an interface may have.
    pub fn gateway(self) -> Option<u128> {
        self.hosts().map(|hosts| hosts.first)
    }

    /// How many blocks of `prefix` it holds; none when they are larger than it or no prefix of the family.
    pub fn count(self, prefix: u8) -> Option<u128> {
        (self.prefix..=self.family.width())
            .contains(&prefix)
            .then(|| 1_u128.checked_shl((prefix - self.prefix).into()).unwrap_or(u128::MAX))
    }

    /// The `index`th block of `prefix` in it, from 0 on.
    pub fn nth(self, prefix: u8, index: u128) -> Option<Self> {
        let count = self.count(prefix)?;
        let step = u32::from(self.family.width() - prefix);
        // A count of 2^128 saturates, and a shift by 128 happens only for the one block of that size.
        (index < count).then(|| Self { base: self.base | index.checked_shl(step).unwrap_or(0), prefix, ..self })
    }

    /// The index of `part` among this block's parts of its size; `None` if it is not inside the block.
    pub fn index_of(self, part: Self) -> Option<u128> {
        let inside = self.family == part.family && part.prefix >= self.prefix && self.span().contains(part.base);
        inside.then(|| (part.base - self.base).checked_shr(part.host_bits().into()).unwrap_or(0))
    }

    fn host_bits(self) -> u8 {
        self.family.width() - self.prefix
    }
}

impl From<IpNetwork> for Block {
    fn from(network: IpNetwork) -> Self {
        Self::new(network.ip(), network.prefix()).expect("a network's prefix is not longer than its address")
    }
}

impl From<Ipv4Network> for Block {
    fn from(network: Ipv4Network) -> Self {
        IpNetwork::V4(network).into()
    }
}

/// `bits` ones at the low end.
fn mask(bits: u8) -> u128 {
    1_u128.checked_shl(bits.into()).map_or(u128::MAX, |bit| bit - 1)
}

/// The addresses of a subnet that pods may have, in order: everything an interface may have, except the gateway and
/// what is excluded, and no more than a quota allows. An address is known by its position, from 0 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRange {
    hosts: Span,
    /// Positions that pods may not have: in order, without overlaps, all of them among the hosts.
    holes: Vec<Span>,
    capacity: u128,
}

impl PodRange {
    /// The pods' part of a prefix of a subnet, without what is `excluded`; ranges of the other family have no effect. None
    /// when there is no room for a single pod.
    pub fn of(prefix: &PrefixEntry, excluded: &[AddressRange]) -> Option<Self> {
        let of_family = |range: &&AddressRange| range.first().is_ipv4() == prefix.cidr.is_ipv4();
        let excluded: Vec<_> = excluded.iter().filter(of_family).copied().map(Span::from).collect();
        Self::new(Block::from(prefix.cidr), number(prefix.gateway), &excluded)
    }

    /// For how many pods a subnet has room: as many as the smallest of its prefixes, since a pod has an address of each.
    pub fn room(prefixes: &[PrefixEntry], excluded: &[AddressRange]) -> u128 {
        let ranges = prefixes.iter().map(|prefix| Self::of(prefix, excluded));
        ranges.map(|pods| pods.map_or(0, |pods| pods.capacity)).min().unwrap_or(0)
    }

    /// The pods' part of `block` if its router has `gateway`, without what is `excluded` (in any order, and not necessarily
    /// inside the block). `None` if there is no room for a single pod.
    pub fn new(block: Block, gateway: u128, excluded: &[Span]) -> Option<Self> {
        let hosts = block.hosts()?;
        let router = Span { first: gateway, last: gateway };
        let mut spans: Vec<_> = excluded.iter().chain([&router]).filter_map(|span| hosts.common(*span)).collect();
        spans.sort_by_key(|span| span.first);
        let mut holes: Vec<Span> = Vec::new();
        for span in spans {
            match holes.last_mut() {
                Some(before) if span.first <= before.last => before.last = before.last.max(span.last),
                _ => holes.push(span),
            }
        }
        let capacity = hosts.count() - holes.iter().map(|hole| hole.count()).sum::<u128>();
        (capacity > 0).then_some(Self { hosts, holes, capacity })
    }

    /// The first `most` of them. None when that leaves nothing.
    pub fn limited(self, most: u128) -> Option<Self> {
        (most > 0).then(|| Self { capacity: self.capacity.min(most), ..self })
    }

    /// How many pods have room.
    pub fn capacity(&self) -> u128 {
        self.capacity
    }

    /// The address at `position`; positions beyond the capacity start again at 0.
    pub fn at(&self, position: u128) -> u128 {
        let skip = |number, hole: &Span| if hole.first <= number { number + hole.count() } else { number };
        self.holes.iter().fold(self.hosts.first + position % self.capacity, skip)
    }

    /// The position of an address; none when pods may not have it.
    pub fn position(&self, number: u128) -> Option<u128> {
        let position = self.before(number);
        (position < self.capacity && self.at(position) == number).then_some(position)
    }

    /// How many of them are lower than `number`.
    pub fn before(&self, number: u128) -> u128 {
        let holes: u128 = self.holes.iter().map(|hole| hole.lower(number)).sum();
        (self.hosts.lower(number) - holes).min(self.capacity)
    }
}

/// The usual gateway of a subnet: its second address (the first of a /31 or /127). None for a /32 or /128.
pub fn gateway(subnet: IpNetwork) -> Option<IpAddr> {
    let block = Block::from(subnet);
    block.gateway().map(|number| block.family.address(number))
}

/// How many subnets of `prefix` a pool holds; none when they do not fit.
pub fn subnet_count(pool: IpNetwork, prefix: u8) -> Option<u128> {
    Block::from(pool).count(prefix)
}

/// The `index`th subnet of `prefix` in a pool.
pub fn subnet(pool: IpNetwork, prefix: u8, index: u128) -> Option<IpNetwork> {
    Block::from(pool).nth(prefix, index).map(Block::network)
}

/// The addresses of a transit link: the provider's side, then the tenant's. None when it has no room for both, as a /31 or
/// a /127.
pub fn transit_sides(link: IpNetwork) -> Option<(IpAddr, IpAddr)> {
    let block = Block::from(link);
    let hosts = block.hosts().filter(|_| block.host_bits() >= 2)?;
    Some((block.family.address(hosts.first), block.family.address(hosts.first + 1)))
}

/// A free part of `pool` of size `prefix`: the first at or after a start that `seed` decides, so that processes that start
/// together seldom choose the same. `taken` need not be sorted, and may have networks that are not in the pool or have
/// another size or family; a part that overlaps one of them is not free. `None` if the whole pool is taken.
pub fn free_part(pool: IpNetwork, prefix: u8, taken: &[IpNetwork], seed: u128) -> Option<IpNetwork> {
    let pool = Block::from(pool);
    let count = pool.count(prefix)?;
    let mut ranges: Vec<_> = taken
        .iter()
        .map(|network| Block::from(*network))
        .filter(|block| block.overlaps(pool))
        .filter_map(|block| {
            let Span { first, last } = block.span();
            let Span { first: lowest, last: highest } = pool.span();
            let index = |number: u128| pool.index_of(Block { base: number, prefix: pool.family.width(), ..pool });
            let shift = pool.family.width() - prefix;
            Some((index(first.max(lowest))? >> shift, index(last.min(highest))? >> shift))
        })
        .collect();
    ranges.sort_unstable();
    let start = seed % count;
    let after = |from: u128| {
        ranges.iter().fold(from, |free, &(first, last)| if (first..=last).contains(&free) { last + 1 } else { free })
    };
    let first = after(start);
    let index = if first < count { first } else { Some(after(0)).filter(|free| *free < start)? };
    pool.nth(prefix, index).map(Block::network)
}

/// The IPv4 address of a number that came from an IPv4 block.
fn v4(number: u128) -> Ipv4Addr {
    let [.., a, b, c, d] = number.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
