//! The addresses of host-to-pod addressing: one for each port of a pod, and two for the node itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use serde::Serialize;
use uuid::Uuid;

/// The pool of IPv6: a unique local network of this project (RFC 4193). It is the same everywhere.
pub const POOL_V6: Ipv6Network =
    match Ipv6Network::new_checked(Ipv6Addr::new(0xfd61, 0x746f, 0x6c6c, 0, 0, 0, 0, 0), 64) {
        Some(network) => network,
        None => panic!("64 is a length"),
    };
/// What a pod sees as the sender of its node's packets in IPv6.
pub const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd61, 0x746f, 0x6c6c, 0, 0, 0, 0, 1);
/// What the node sends from in IPv6, as far as it chooses itself.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd61, 0x746f, 0x6c6c, 0, 0, 0, 0, 2);

/// Addresses that only this machine can use, one for each port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HostToPodPool(Ipv4Network);

/// The first addresses are not for pods.
const RESERVED: u32 = 8;

/// Clouds have services at these addresses, on every machine: metadata, credentials, time and names (169.254.169.254,
/// .253, .123 and 169.254.170.2, .23 at the well-known ones). They belong to no pod and stay reachable.
const CLOUDS: Ipv4Network = match Ipv4Network::new_checked(Ipv4Addr::new(169, 254, 168, 0), 22) {
    Some(network) => network,
    None => panic!("22 is a length"),
};

impl HostToPodPool {
    /// The default pool.
    pub const DEFAULT: Self = Self(match Ipv4Network::new_checked(Ipv4Addr::new(169, 254, 128, 0), 17) {
        Some(network) => network,
        None => panic!("17 is a length"),
    });

    /// None when it has no room for a single pod, or when it is no network of hosts.
    pub fn new(network: Ipv4Network) -> Option<Self> {
        let network = Ipv4Network::new(network.network(), network.prefix()).ok()?;
        let (first, last) = (network.network(), network.broadcast());
        let of_hosts = first.octets()[0] != 0 && !first.is_loopback() && !last.is_loopback() && last.octets()[0] < 224;
        let pool = Self(network);
        let apart = !CLOUDS.contains(pool.source()) && !CLOUDS.contains(first);
        ((8..=28).contains(&network.prefix()) && of_hosts && apart).then_some(pool)
    }

    /// All of it.
    pub fn network(self) -> Ipv4Network {
        self.0
    }

    /// What of it is for host-to-pod addressing: neither a service of a cloud nor one of `others`.
    pub fn parts(self, others: &[Ipv4Network]) -> Vec<Ipv4Network> {
        let mut parts = vec![self.0];
        for other in others.iter().chain([&CLOUDS]) {
            parts = parts.into_iter().flat_map(|part| without(part, *other)).collect();
        }
        parts
    }

    /// What every pod sees as the sender of the node's packets.
    pub fn source(self) -> Ipv4Addr {
        self.nth(1)
    }

    /// What the node sends from, as far as it chooses itself.
    pub fn node(self) -> Ipv4Addr {
        self.nth(2)
    }

    /// The address of `port`: what derives from its id, or the next free one.
    pub fn allocate(self, port: Uuid, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        // The last address is left out: a broadcast address in the eyes of some.
        let room = (1_u32 << (32 - u32::from(self.0.prefix()))) - RESERVED - 1;
        let hash = hash(port);
        let first = u32::try_from(hash % u64::from(room)).expect("below 2^32");
        let mut all = (0..room).map(|n| self.nth(RESERVED + (first + n) % room));
        all.find(|address| !CLOUDS.contains(*address) && !taken(*address))
    }

    /// True for what [`HostToPodPool::allocate`] may give.
    pub fn gives(self, address: Ipv4Addr) -> bool {
        let given = self.0.contains(address) && address >= self.nth(RESERVED) && address != self.0.broadcast();
        given && !CLOUDS.contains(address)
    }

    fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0.network()) + n)
    }
}

/// The address of `port` in the pool of the family of `like`: what derives from its id, or the next free one.
pub fn allocate_like(like: IpAddr, port: Uuid, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    if like.is_ipv4() {
        return HostToPodPool::DEFAULT.allocate(port, |address| taken(address.into())).map(IpAddr::V4);
    }
    let (base, first) = (u128::from(POOL_V6.network()), hash(port));
    let mut suffixes = (0..=u64::from(u32::MAX)).map(|n| first.wrapping_add(n));
    let address = |suffix| IpAddr::V6(Ipv6Addr::from(base | u128::from(suffix)));
    suffixes.find(|suffix| *suffix >= RESERVED.into() && !taken(address(*suffix))).map(address)
}

/// The pool of the family of `like`.
pub fn pool_like(like: IpAddr) -> IpNetwork {
    if like.is_ipv4() { HostToPodPool::DEFAULT.network().into() } else { POOL_V6.into() }
}

/// What pods see as the sender of the node's packets, and what the node sends from, in the family of `like`.
pub fn nodes_like(like: IpAddr) -> [IpAddr; 2] {
    let pool = HostToPodPool::DEFAULT;
    if like.is_ipv4() { [pool.source().into(), pool.node().into()] } else { [SOURCE_V6.into(), NODE_V6.into()] }
}

fn hash(port: Uuid) -> u64 {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, port.as_bytes()).as_u64_pair().1
}

/// What is left of a network without another: the halves that the other is not in, all the way down.
fn without(network: Ipv4Network, other: Ipv4Network) -> Vec<Ipv4Network> {
    if other.contains(network.network()) && other.prefix() <= network.prefix() {
        return Vec::new();
    }
    if !network.contains(other.network()) {
        return vec![network];
    }
    let prefix = network.prefix() + 1;
    let upper = Ipv4Addr::from(u32::from(network.network()) | 1 << (32 - prefix));
    let halves = [network.network(), upper].map(|address| Ipv4Network::new(address, prefix).expect("at most 32"));
    halves.into_iter().flat_map(|half| without(half, other)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_address_derives_from_the_port_and_gives_way_when_it_is_taken() {
        let pool = HostToPodPool::DEFAULT;
        let port = Uuid::from_u128(7);
        let first = pool.allocate(port, |_| false).expect("room");
        assert_eq!(pool.allocate(port, |_| false), Some(first));
        let second = pool.allocate(port, |address| address == first).expect("room");
        assert_ne!(first, second);
        assert!(pool.gives(first) && pool.gives(second));
        assert!(!pool.gives(pool.source()) && !pool.gives(pool.node()));
    }

    #[test]
    fn an_address_of_ipv6_is_of_its_pool_and_gives_way_too() {
        let (like, port) = (IpAddr::V6(Ipv6Addr::LOCALHOST), Uuid::from_u128(7));
        let first = allocate_like(like, port, |_| false).expect("room");
        let second = allocate_like(like, port, |address| address == first).expect("room");
        assert_ne!(first, second);
        for address in [first, second].into_iter().chain(nodes_like(like)) {
            assert!(pool_like(like).contains(address), "{address}");
        }
        assert!(!nodes_like(like).contains(&first) && !nodes_like(like).contains(&second));
        let v4 = allocate_like(Ipv4Addr::LOCALHOST.into(), port, |_| false);
        assert_eq!(v4, HostToPodPool::DEFAULT.allocate(port, |_| false).map(IpAddr::V4));
    }

    #[test]
    fn clouds_and_others_keep_their_part() {
        let parts = |others: &[&str]| {
            let others: Vec<_> = others.iter().map(|other| other.parse().expect("a network")).collect();
            HostToPodPool::DEFAULT.parts(&others).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let clouds = "169.254.128.0/19 169.254.160.0/21 169.254.172.0/22 169.254.176.0/20 169.254.192.0/18";
        assert_eq!(parts(&[]), clouds);
        assert_eq!(parts(&["192.0.2.0/24", "169.254.0.0/17"]), clouds);
        assert_eq!(
            parts(&["169.254.192.0/19", "169.254.224.1/32", "169.254.169.254/32"])
                .split(' ')
                .skip(4)
                .collect::<Vec<_>>(),
            [
                "169.254.224.0/32",
                "169.254.224.2/31",
                "169.254.224.4/30",
                "169.254.224.8/29",
                "169.254.224.16/28",
                "169.254.224.32/27",
                "169.254.224.64/26",
                "169.254.224.128/25",
                "169.254.225.0/24",
                "169.254.226.0/23",
                "169.254.228.0/22",
                "169.254.232.0/21",
                "169.254.240.0/20"
            ]
        );
        assert_eq!(parts(&["169.254.0.0/16"]), "");
        let pool = HostToPodPool::DEFAULT;
        assert!(!pool.gives("169.254.169.254".parse().expect("an address")));
        assert!(pool.gives("169.254.172.1".parse().expect("an address")));
        let free = |n: u128| pool.allocate(Uuid::from_u128(n), |_| false).expect("room");
        assert!((0..2000).all(|n| !CLOUDS.contains(free(n))));
    }

    #[test]
    fn no_pool_is_made_of_what_is_no_network_of_hosts() {
        for network in ["127.0.0.0/24", "0.0.0.0/0", "224.0.0.0/8", "64.0.0.0/1", "169.254.169.0/24", "192.0.2.0/29"] {
            assert_eq!(HostToPodPool::new(network.parse().expect("a network")), None, "{network}");
        }
        assert!(HostToPodPool::new("10.0.0.0/8".parse().expect("a network")).is_some());
    }

    #[test]
    fn a_pool_is_used_up_to_its_last_address_and_never_beyond() {
        let pool = HostToPodPool::new("192.0.2.0/28".parse().expect("a network")).expect("room");
        let mut taken = BTreeSet::new();
        for n in 0.. {
            let Some(address) = pool.allocate(Uuid::from_u128(n), |address| taken.contains(&address)) else { break };
            assert!(pool.gives(address) && taken.insert(address), "{address}");
        }
        assert_eq!(taken.len(), 7, "{taken:?}");
        assert_eq!(HostToPodPool::new("192.0.2.0/29".parse().expect("a network")), None);
    }
}
