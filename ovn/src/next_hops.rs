//! Pods that are next hops of static routes: which prefixes their ports accept besides their own addresses.
//!
//! OVN's port security filters what a port receives as well as what it sends, so a port has to name what a route leads to it.
//! The pod may then also send from there, as a gateway has to: a prefix with a route to a pod belongs to that pod.
//!
//! # Guarantees
//! - A next hop gets no address that is another's: of a subnet or the transit link of its network, of a more specific route, of
//!   a service, of a node, or of no host.
//! - **Routes and ports agree, whichever is made first.** The switch of a subnet has the next hops in its `external_ids`. Each creation of
//!   a port compares them in its transaction, and each change of a network that changes them changes the ports of the switch in
//!   the same transaction, comparing which ports it has.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::host_to_pod::{HostToPodPool, SOURCE_V6};
use atoll_network::{Network, NetworkNextHop, NetworkSubnet};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// Prefixes without any host (RFC 6890, RFC 4291).
const NO_HOSTS: [&str; 6] = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"];

/// The next hops in a subnet, as its switch records them: `10.128.0.9 10.9.0.0/16; 10.128.0.10 10.10.0.0/16 10.11.0.0/16`.
pub(crate) fn recorded(network: &Network, subnet: &NetworkSubnet) -> String {
    let mut hops: BTreeMap<IpAddr, BTreeSet<IpNetwork>> = BTreeMap::new();
    for route in &network.routes {
        let NetworkNextHop::Gateway(hop) = route.next_hop else { continue };
        if subnet.prefixes.iter().any(|prefix| prefix.prefix.contains(hop)) {
            hops.entry(hop).or_default().extend(without(route.destination, &of_others(network, route.destination)));
        }
    }
    let hop = |(hop, prefixes): (IpAddr, BTreeSet<IpNetwork>)| {
        prefixes.into_iter().fold(hop.to_string(), |text, prefix| format!("{text} {prefix}"))
    };
    hops.into_iter().map(hop).collect::<Vec<_>>().join("; ")
}

/// What port security lets through for a port with `addresses` (`MAC address address`), beside these next hops.
pub(crate) fn port_security(addresses: &str, recorded: &str) -> String {
    let own: Vec<IpAddr> = addresses.split(' ').filter_map(|word| word.parse().ok()).collect();
    let mut security = addresses.to_owned();
    for hop in recorded.split("; ") {
        let mut words = hop.split(' ');
        let is_own = words.next().and_then(|hop| hop.parse().ok()).is_some_and(|hop| own.contains(&hop));
        for prefix in words.filter(|_| is_own) {
            security.push(' ');
            security.push_str(prefix);
        }
    }
    security
}

/// The prefixes of which no route may give a part to a next hop: those that a packet of the tenant reaches otherwise.
fn of_others(network: &Network, destination: IpNetwork) -> Vec<IpNetwork> {
    let subnets = network.subnets.iter().flat_map(|subnet| subnet.prefixes.iter().map(|prefix| prefix.prefix));
    let links = network.transit.iter().map(|link| link.tenant);
    let routes = network.routes.iter().map(|route| route.destination);
    let nodes = [IpAddr::V4(HostToPodPool::DEFAULT.source()), SOURCE_V6.into()].map(IpNetwork::from);
    let no_hosts = NO_HOSTS.iter().filter_map(|prefix| prefix.parse().ok());
    let more_specific = routes.filter(|route| route.prefix() > destination.prefix());
    subnets
        .chain(links)
        .chain(network.services.iter().copied())
        .chain(more_specific)
        .chain(nodes)
        .chain(no_hosts)
        .collect()
}

/// A prefix without these, as prefixes.
fn without(prefix: IpNetwork, holes: &[IpNetwork]) -> Vec<IpNetwork> {
    let covers = |outer: &IpNetwork, inner: &IpNetwork| outer.prefix() <= inner.prefix() && outer.contains(inner.ip());
    if holes.iter().any(|hole| covers(hole, &prefix)) {
        return Vec::new();
    }
    let inside: Vec<IpNetwork> = holes.iter().filter(|hole| covers(&prefix, hole)).copied().collect();
    if inside.is_empty() {
        return vec![prefix];
    }
    halves(prefix).into_iter().flatten().flat_map(|half| without(half, &inside)).collect()
}

/// The two halves of a prefix; none of an address.
fn halves(prefix: IpNetwork) -> [Option<IpNetwork>; 2] {
    let longer = prefix.prefix() + 1;
    match prefix {
        IpNetwork::V4(prefix) => {
            let first = u32::from(prefix.network());
            let second = first | 1_u32.checked_shl(32 - u32::from(longer)).unwrap_or(0);
            [first, second].map(|half| Ipv4Network::new(half.into(), longer).ok().map(IpNetwork::V4))
        }
        IpNetwork::V6(prefix) => {
            let first = u128::from(prefix.network());
            let second = first | 1_u128.checked_shl(128 - u32::from(longer)).unwrap_or(0);
            [first, second].map(|half| Ipv6Network::new(half.into(), longer).ok().map(IpNetwork::V6))
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_network::NetworkRoute;
    use atoll_network::conformance::samples::{Families, network};
    use uuid::Uuid;

    use super::*;

    fn routed(routes: &[(&str, &str)]) -> Network {
        let route = |(to, by): &(&str, &str)| NetworkRoute {
            destination: to.parse().expect("a network"),
            next_hop: by.parse().map_or(NetworkNextHop::Blackhole, NetworkNextHop::Gateway),
        };
        let routes = routes.iter().map(route).collect();
        Network { routes, ..network(Uuid::from_u128(1), 1, 2, Families::Both) }
    }

    fn hop(network: &Network, place: usize, is_ipv4: bool) -> String {
        let prefix = network.subnets[place].prefixes.iter().find(|prefix| prefix.prefix.is_ipv4() == is_ipv4);
        let network = prefix.expect("of both families").prefix.network();
        match network {
            IpAddr::V4(network) => std::net::Ipv4Addr::from(u32::from(network) + 9).to_string(),
            IpAddr::V6(network) => std::net::Ipv6Addr::from(u128::from(network) + 9).to_string(),
        }
    }

    #[test]
    fn a_next_hop_gets_what_leads_to_it_and_the_others_get_nothing() {
        let plain = routed(&[]);
        let (first, second) = (hop(&plain, 0, true), hop(&plain, 1, true));
        let six = hop(&plain, 0, false);
        let network = routed(&[
            ("192.0.2.0/24", &first),
            ("198.51.100.0/24", &first),
            ("2001:db8::/32", &six),
            ("203.0.113.0/24", &second),
            ("192.88.99.0/24", "none"),
        ]);
        let [one, two] = [0, 1].map(|place| recorded(&network, &network.subnets[place]));
        assert_eq!(one, format!("{first} 192.0.2.0/24 198.51.100.0/24; {six} 2001:db8::/32"));
        assert_eq!(two, format!("{second} 203.0.113.0/24"));
        let mac = "02:00:00:00:00:01";
        assert_eq!(
            port_security(&format!("{mac} {first} {six}"), &one),
            format!("{mac} {first} {six} 192.0.2.0/24 198.51.100.0/24 2001:db8::/32")
        );
        assert_eq!(port_security(&format!("{mac} {second}"), &one), format!("{mac} {second}"));
        assert_eq!(port_security(&format!("{mac} {first}"), ""), format!("{mac} {first}"));
        assert_eq!(recorded(&plain, &plain.subnets[0]), "");
    }

    #[test]
    fn a_next_hop_gets_no_address_of_another() {
        let plain = routed(&[]);
        let first = hop(&plain, 0, true);
        let more = ("10.9.1.0/24", "none");
        let mut network = routed(&[("0.0.0.0/1", &first), ("128.0.0.0/1", &first), ("10.9.0.0/16", &first), more]);
        network.services = vec!["172.30.0.0/16".parse().expect("a network")];
        let text = recorded(&network, &network.subnets[0]);
        let granted: Vec<IpNetwork> = text.split(' ').skip(1).map(|word| word.parse().expect("a prefix")).collect();
        let is_granted = |address: &str| {
            let address: IpAddr = address.parse().expect("an address");
            granted.iter().any(|prefix| prefix.contains(address))
        };
        let others = network.subnets.iter().flat_map(|subnet| &subnet.prefixes).filter(|it| it.prefix.is_ipv4());
        for prefix in others {
            assert!(!is_granted(&prefix.gateway.to_string()), "{}: {text}", prefix.prefix);
        }
        let link = network.transit[0].tenant.ip().to_string();
        for address in [link.as_str(), "172.30.0.1", "169.254.128.1", "10.9.1.7", "127.0.0.1", "224.0.0.5", "0.0.0.0"] {
            assert!(!is_granted(address), "{address}: {text}");
        }
        for address in
            ["10.9.0.1", "10.9.2.1", "192.0.2.1", "172.31.0.1", "169.254.128.2", "1.1.1.1", "223.255.255.255"]
        {
            assert!(is_granted(address), "{address}: {text}");
        }
    }
}
