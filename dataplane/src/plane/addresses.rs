//! Host-to-pod addressing of ports: the address of each, and the pod addresses that the node routes directly.
//!
//! An address derives from the port's id; if it is taken, another one is used. A port keeps its address: this process
//! remembers it, and after a restart the sets of the router namespaces have it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use atoll_model::host_to_pod::HostToPodPool;
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use crate::apply::HostNamespace;
use crate::compile::HostToPod;
use crate::error::PlaneError;

/// The assigned addresses.
#[derive(Default)]
pub(super) struct Addresses {
    by_port: BTreeMap<Uuid, Assigned>,
    /// Addresses of the pool.
    taken: BTreeMap<Ipv4Addr, Uuid>,
    /// The port that an address of a router namespace's pods belongs to.
    owners: BTreeMap<(Uuid, Ipv4Addr), Uuid>,
    /// Pod addresses that the node routes directly.
    direct: BTreeMap<Ipv4Addr, Uuid>,
    /// Ports to which something was denied.
    pub(super) waiting: BTreeSet<Uuid>,
    /// The ports that have each pod address, and the addresses of each port.
    claimed: BTreeMap<Ipv4Addr, BTreeSet<Uuid>>,
    claims: BTreeMap<Uuid, BTreeSet<Ipv4Addr>>,
    /// Networks within the pool that the machine uses for something else: they are not assigned.
    pub(super) others: Vec<Ipv4Network>,
    /// Addresses in the kernel's sets, by namespace and pod address.
    pub(super) remembered: BTreeMap<(Uuid, Ipv4Addr), Ipv4Addr>,
}

/// The address of one port.
struct Assigned {
    namespace: Uuid,
    own: Ipv4Addr,
    address: Ipv4Addr,
}

/// The request of one port.
pub(super) struct HostToPodRequest {
    pub(super) port: Uuid,
    pub(super) namespace: Uuid,
    pub(super) own: Ipv4Addr,
    pub(super) unique: bool,
}

/// Why something was denied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// This port of the same router has the pod address.
    Rival(Uuid),
    /// The pool is exhausted.
    Full,
    /// This port has the same address, and it is marked as unique too.
    Direct(Uuid),
}

impl Addresses {
    /// Assigns an address to a port; returns what it gets and what is denied. The call is idempotent.
    pub(super) fn assign(
        &mut self,
        pool: HostToPodPool,
        asked: &HostToPodRequest,
    ) -> (Option<HostToPod>, Option<Denied>) {
        let HostToPodRequest { port, namespace, own, unique } = *asked;
        if self.by_port.get(&port).is_some_and(|given| (given.namespace, given.own) != (namespace, own)) {
            self.release(port);
        }
        if let Some(rival) = self.owners.get(&(namespace, own)).filter(|owner| **owner != port) {
            self.waiting.insert(port);
            return (None, Some(Denied::Rival(*rival)));
        }
        let free = |address: &Ipv4Addr| self.taken.get(address).is_none_or(|holder| *holder == port);
        let kept = self.by_port.get(&port).map(|given| given.address);
        let kept = kept.or_else(|| self.remembered.get(&(namespace, own)).copied());
        let kept = kept.filter(|address| pool.gives(*address) && free(address));
        let used = |address: Ipv4Addr| self.others.iter().any(|network| network.contains(address));
        let taken = |address: Ipv4Addr| !free(&address) || used(address);
        let Some(address) = kept.or_else(|| pool.allocate(port, taken)) else {
            self.waiting.insert(port);
            return (None, Some(Denied::Full));
        };
        self.remembered.remove(&(namespace, own));
        self.waiting.remove(&port);
        self.taken.insert(address, port);
        self.owners.insert((namespace, own), port);
        self.by_port.insert(port, Assigned { namespace, own, address });
        // Two ports are marked as unique: the first one keeps the direct route.
        let holder = if unique { *self.direct.entry(own).or_insert(port) } else { port };
        let denied = (holder != port).then_some(Denied::Direct(holder));
        if denied.is_some() {
            self.waiting.insert(port);
        }
        let direct = unique && holder == port;
        if !direct && self.direct.get(&own) == Some(&port) {
            self.direct.remove(&own);
        }
        (Some(HostToPod { address, pod: own, direct }), denied)
    }

    /// Notes the pod addresses of a port. Returns each address that it had or has, and whether the node must not forward packets to
    /// it: some port has it, and no port has it as its unique address.
    pub(super) fn claim(&mut self, port: Uuid, addresses: BTreeSet<Ipv4Addr>) -> Vec<(Ipv4Addr, bool)> {
        let before = self.claims.remove(&port).unwrap_or_default();
        for address in &before {
            if let Some(ports) = self.claimed.get_mut(address) {
                ports.remove(&port);
                if ports.is_empty() {
                    self.claimed.remove(address);
                }
            }
        }
        for address in &addresses {
            self.claimed.entry(*address).or_default().insert(port);
        }
        let affected: BTreeSet<_> = before.union(&addresses).copied().collect();
        if !addresses.is_empty() {
            self.claims.insert(port, addresses);
        }
        let stopped = |address| self.claimed.contains_key(&address) && !self.direct.contains_key(&address);
        affected.into_iter().map(|address| (address, stopped(address))).collect()
    }

    /// Releases the host-to-pod address of a port. True: it had one, for which another port may wait.
    pub(super) fn release(&mut self, port: Uuid) -> bool {
        self.waiting.remove(&port);
        let Some(Assigned { namespace, own, address }) = self.by_port.remove(&port) else { return false };
        self.taken.remove(&address);
        self.owners.remove(&(namespace, own));
        if self.direct.get(&own) == Some(&port) {
            self.direct.remove(&own);
        }
        true
    }
}

/// Without the first two addresses of its pool there is no host-to-pod addressing.
pub(super) fn check(pool: HostToPodPool, node: &mut HostNamespace) -> Result<(), PlaneError> {
    let used = |network: &&Ipv4Network| [pool.source(), pool.node()].iter().any(|ip| network.contains(*ip));
    match node.others(pool)?.iter().find(used) {
        Some(network) => Err(PlaneError::PoolInUse { pool: pool.network(), network: *network }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(port: u128, namespace: u128, own: &str, unique: bool) -> HostToPodRequest {
        let id = Uuid::from_u128;
        HostToPodRequest { port: id(port), namespace: id(namespace), own: own.parse().expect("an address"), unique }
    }

    #[test]
    fn a_port_keeps_its_address_and_no_other_port_gets_it() {
        let pool = HostToPodPool::new("192.0.2.0/28".parse().expect("a network")).expect("room");
        let mut addresses = Addresses::default();
        let all: Vec<_> = (0..7).map(|n| asked(n, n, "10.0.0.2", false)).collect();
        let sides: Vec<_> = all.iter().map(|asked| addresses.assign(pool, asked).0.expect("room").address).collect();
        assert_eq!(sides.iter().collect::<BTreeSet<_>>().len(), 7, "the same own address, seven of the pool");
        assert_eq!(addresses.assign(pool, &asked(9, 9, "10.0.0.2", false)), (None, Some(Denied::Full)));
        assert!(addresses.release(Uuid::from_u128(3)));
        let (side, _) = addresses.assign(pool, &asked(9, 9, "10.0.0.2", false));
        assert_eq!(side.map(|side| side.address), Some(sides[3]));
        for (asked, address) in all.iter().zip(&sides).filter(|(asked, _)| asked.port != Uuid::from_u128(3)) {
            assert_eq!(addresses.assign(pool, asked).0.map(|side| side.address), Some(*address));
        }
    }

    #[test]
    fn what_the_kernel_remembers_wins_over_what_would_be_derived() {
        let pool = HostToPodPool::DEFAULT;
        let (namespace, own) = (Uuid::from_u128(1), "10.0.0.2".parse().expect("an address"));
        let remembered = "169.254.200.200".parse().expect("an address");
        let mut addresses = Addresses::default();
        addresses.remembered.insert((namespace, own), remembered);
        let (side, _) = addresses.assign(pool, &asked(5, 1, "10.0.0.2", false));
        assert_eq!(side.map(|side| side.address), Some(remembered));
        // Of another pool, or taken by now: no.
        for foreign in ["192.0.2.77", "169.254.200.200"] {
            addresses.remembered.insert((Uuid::from_u128(2), own), foreign.parse().expect("an address"));
            let (side, _) = addresses.assign(pool, &asked(6, 2, "10.0.0.2", false));
            assert_ne!(side.map(|side| side.address.to_string()).as_deref(), Some(foreign));
            addresses.release(Uuid::from_u128(6));
        }
    }

    #[test]
    fn only_the_first_of_two_equal_unique_addresses_is_routed() {
        let pool = HostToPodPool::DEFAULT;
        let mut addresses = Addresses::default();
        let (first, second) = (asked(1, 1, "10.0.0.2", true), asked(2, 2, "10.0.0.2", true));
        assert!(addresses.assign(pool, &first).0.is_some_and(|side| side.direct));
        let (side, denied) = addresses.assign(pool, &second);
        assert_eq!((side.map(|side| side.direct), denied), (Some(false), Some(Denied::Direct(first.port))));
        assert!(addresses.waiting.contains(&second.port));
        addresses.release(first.port);
        assert!(addresses.assign(pool, &second).0.is_some_and(|side| side.direct));
        assert!(addresses.waiting.is_empty());
        let rival = asked(3, 2, "10.0.0.2", true);
        assert_eq!(addresses.assign(pool, &rival), (None, Some(Denied::Rival(second.port))));
    }
}
