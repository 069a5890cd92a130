//! The routes of an attachment: the default route and those of the configuration, and which of them a pod cannot have. Pure.

use std::net::IpAddr;

use atoll_model::ids::IfName;
use atoll_model::route::{MAIN_TABLE, PodRoute};
use atoll_records::ClaimRecord;
use ipnetwork::IpNetwork;

use crate::error::CallError;
use crate::policy_routing;

/// The routes of an attachment: the default route of each family, then those of the configuration.
pub(crate) fn routes(claim: &ClaimRecord, configured: &[PodRoute]) -> Vec<PodRoute> {
    let mut gateways: Vec<_> = claim.addresses.iter().map(|address| address.gateway).collect();
    gateways.dedup();
    routes_by(&gateways, &claim.attachment.interface, configured)
}

/// The same for the gateway of each family. A configured default route replaces the subnet's.
pub(super) fn routes_by(gateways: &[IpAddr], interface: &IfName, configured: &[PodRoute]) -> Vec<PodRoute> {
    // The default route of `eth0` is used; those of `eth1` and further interfaces have higher metrics. Runtimes attach a pod to
    // its networks concurrently, so the order of the ADDs must not matter.
    let priority = policy_routing::metric(interface);
    let gateway_for =
        |route: &PodRoute| gateways.iter().copied().find(|it| it.is_ipv4() == route.destination.is_ipv4());
    let whole = |route: &PodRoute| PodRoute {
        gateway: route.gateway.or_else(|| gateway_for(route).filter(|_| !route.is_local())),
        priority: route.priority.or_else(|| priority.filter(|_| route.is_default())),
        ..route.clone()
    };
    let default = |gateway: &IpAddr| PodRoute { priority, ..PodRoute::default_by(*gateway) };
    let mut routes: Vec<_> = gateways.iter().map(default).collect();
    for route in configured.iter().map(whole) {
        match routes.iter_mut().find(|other| other.is_instead_of(&route)) {
            Some(other) => *other = route,
            None => routes.push(route),
        }
    }
    routes
}

/// Why a pod with these addresses cannot have one of these routes. `own`: its addresses, or what stands for them before
/// they are known: the prefixes of its subnet.
pub(super) fn impossible(routes: &[PodRoute], own: &[IpNetwork], mtu: u32) -> Option<CallError> {
    let of = |n: usize| {
        let route: &PodRoute = &routes[n];
        let PodRoute { destination, gateway, mtu: path, .. } = route;
        let Some(subnet) = own.iter().find(|own| own.is_ipv4() == destination.is_ipv4()) else {
            return Some(format!("the pod has no address of {}", if destination.is_ipv4() { "IPv4" } else { "IPv6" }));
        };
        let (network, here) = (subnet.network(), format!("{}/{}", subnet.network(), subnet.prefix()));
        let in_main = route.table.unwrap_or(MAIN_TABLE) == MAIN_TABLE;
        if in_main && destination.prefix() >= subnet.prefix() && subnet.contains(destination.network()) {
            return Some(format!("its destination is inside the pod's own subnet {here}: it would cut off neighbours"));
        }
        if let Some(path) = path.filter(|path| *path > mtu) {
            return Some(format!("its MTU {path} is larger than the interface's, {mtu}"));
        }
        let gateway = (*gateway)?;
        // The kernel resolves the next hop with the routes that exist already.
        let by_route = |other: &PodRoute| other.gateway.is_none() && other.destination.contains(gateway);
        if !subnet.contains(gateway) && !routes[..n].iter().any(by_route) {
            return Some(format!("its next hop {gateway} is not in the pod's subnet {here}"));
        }
        let is_own = own.iter().any(|own| own.ip() == gateway && own.ip() != network);
        if is_own {
            return Some(format!("its next hop {gateway} is the pod's own address"));
        }
        // RFC 4291, 2.6.1: the first address of a prefix is every router's of it; there is no broadcast.
        let is_no_host = match subnet {
            IpNetwork::V4(subnet) => subnet.prefix() < 31 && (gateway == network || gateway == subnet.broadcast()),
            IpNetwork::V6(subnet) => subnet.prefix() < 127 && gateway == network,
        };
        is_no_host.then(|| format!("its next hop {gateway} is the address of no host of {here}"))
    };
    let (n, problem) = (0..routes.len()).find_map(|n| Some((n, of(n)?)))?;
    Some(CallError::Route { route: Box::new(routes[n].clone()), problem })
}

#[cfg(test)]
mod tests {
    use atoll_model::error::{Class, Classify as _};

    use super::*;

    fn to(destination: &str, gateway: Option<[u8; 4]>) -> PodRoute {
        PodRoute::plain(destination.parse().expect("valid"), gateway.map(IpAddr::from))
    }

    const GATEWAY: [u8; 4] = [10, 128, 0, 1];

    fn made(interface: &str, configured: &[PodRoute]) -> Vec<String> {
        let routes = routes_by(&[GATEWAY.into()], &interface.parse().expect("valid"), configured);
        routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_configured_route_is_made_and_a_default_route_takes_the_place_of_ours() {
        let local = PodRoute { scope: Some(253), ..to("192.0.2.0/24", None) };
        let table = PodRoute { table: Some(100), ..to("0.0.0.0/0", None) };
        let all = made("eth0", &[to("10.96.0.0/12", None), to("10.97.0.0/16", Some([10, 128, 0, 7])), local, table]);
        assert_eq!(
            all,
            [
                "0.0.0.0/0 via 10.128.0.1",
                "10.96.0.0/12 via 10.128.0.1",
                "10.97.0.0/16 via 10.128.0.7",
                "192.0.2.0/24 scope 253",
                "0.0.0.0/0 via 10.128.0.1 table 100",
            ]
        );
        // As many configurations for other plugins have it, and with a next hop or an MTU of its own.
        assert_eq!(made("eth0", &[to("0.0.0.0/0", None)]), ["0.0.0.0/0 via 10.128.0.1"]);
        let other = PodRoute { mtu: Some(1400), ..to("0.0.0.0/0", Some([10, 128, 0, 7])) };
        assert_eq!(made("eth0", std::slice::from_ref(&other)), ["0.0.0.0/0 via 10.128.0.7 mtu 1400"]);
        assert_eq!(made("eth1", std::slice::from_ref(&other)), ["0.0.0.0/0 via 10.128.0.7 mtu 1400 metric 1"]);
        // One that stands back is another.
        let back = PodRoute { priority: Some(9), ..other };
        assert_eq!(made("eth0", &[back]).len(), 2);
    }

    #[test]
    fn a_route_that_does_not_fit_the_pods_subnet_is_refused_with_the_reason() {
        let own: IpNetwork = "10.128.0.5/24".parse().expect("valid");
        let refused = |configured: &[PodRoute]| {
            let routes = routes_by(&[GATEWAY.into()], &"eth0".parse().expect("valid"), configured);
            impossible(&routes, &[own], 1450).map(|error| (error.class(), error.to_string()))
        };
        for (route, why) in [
            (to("10.0.0.0/8", Some([192, 0, 2, 1])), "192.0.2.1 is not in the pod's subnet 10.128.0.0/24"),
            (to("10.0.0.0/8", Some([10, 128, 0, 5])), "the pod's own address"),
            (to("10.0.0.0/8", Some([10, 128, 0, 0])), "no host"),
            (to("10.0.0.0/8", Some([10, 128, 0, 255])), "no host"),
            (to("10.128.0.0/24", None), "inside the pod's own subnet"),
            (to("10.128.0.128/25", None), "inside the pod's own subnet"),
            (PodRoute { mtu: Some(1451), ..to("10.0.0.0/8", None) }, "larger than the interface's, 1450"),
        ] {
            let (class, text) = refused(&[route]).expect(why);
            assert!(text.contains(why) && class == Class::Config, "{text}");
        }
        let local = PodRoute { scope: Some(253), ..to("192.0.2.0/24", None) };
        let behind = to("10.0.0.0/8", Some([192, 0, 2, 1]));
        let table = PodRoute { table: Some(100), ..to("10.128.0.0/24", None) };
        assert_eq!(refused(&[local.clone(), behind.clone(), table, to("10.0.0.0/7", None)]), None);
        assert!(refused(&[behind, local]).is_some(), "the kernel knows it only afterwards");
    }
}
