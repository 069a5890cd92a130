//! The initial objects of a controller: a deployment that is prepared for tenants.

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;

use crate::resources::port::local_route;
use crate::settings::{MockSettings, fixed, provider_router, tunnel_zone, uplink_port};
use crate::state::Tables;
use crate::state::objects::{
    Binding, DeviceFields, Host, Interface, Port, PortKind, Route, RouteKind, Router, TunnelZone,
};

/// The name by which MidoNet's own tools call the provider router.
pub const PROVIDER_ROUTER_NAME: &str = "MidoNet Provider Router";

/// The uplink's own address (RFC 5737, TEST-NET-3).
const UPLINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const UPLINK_NETWORK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);
const UPLINK_LENGTH: u8 = 24;
/// The next hop to the external network.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The provider router with its uplink and default route, one host, and a tunnel zone with that host in it.
pub(crate) fn tables(settings: &MockSettings) -> Tables {
    let (router, port) = (provider_router(), uplink_port());
    let device = DeviceFields {
        tenant: Some("admin".to_owned()),
        name: Some(PROVIDER_ROUTER_NAME.to_owned()),
        up: true,
        inbound: None,
        outbound: None,
    };
    let uplink = Port {
        device: router,
        kind: PortKind::Router {
            address: UPLINK,
            network: UPLINK_NETWORK,
            length: UPLINK_LENGTH,
            mac: Mac([0xac, 0xca, 0xba, 0, 0, 1]),
        },
        up: true,
        inbound: None,
        outbound: None,
        vif_id: None,
        binding: Some(Binding { host: settings.host, interface: settings.uplink_interface.clone() }),
        peer: None,
        tunnel_key: 1,
    };
    let default = Route {
        router,
        kind: RouteKind::Normal,
        source: (Ipv4Addr::UNSPECIFIED, 0),
        destination: (Ipv4Addr::UNSPECIFIED, 0),
        port: Some(port),
        gateway: Some(GATEWAY),
        weight: 0,
        attributes: None,
    };
    let host = Host {
        name: Some(settings.host_name.clone()),
        addresses: vec![settings.host_address.to_string()],
        alive: true,
        interfaces: one(settings.uplink_interface.clone(), Interface::default()),
        ..Host::default()
    };
    let zone = TunnelZone {
        name: "default".to_owned(),
        kind: "vxlan".to_owned(),
        members: one(settings.host, settings.host_address),
    };
    Tables {
        routers: one(router, Router { device, ..Router::default() }),
        ports: one(port, uplink),
        routes: [(fixed("default-route"), default), (fixed("uplink-local"), local_route(router, port, UPLINK))]
            .into_iter()
            .collect(),
        hosts: one(settings.host, host),
        tunnel_zones: one(tunnel_zone(), zone),
        ..Tables::default()
    }
}

/// A map of one entry.
fn one<K, V, M: FromIterator<(K, V)>>(key: K, value: V) -> M {
    std::iter::once((key, value)).collect()
}

/// Adds the configured host to tables from a file, unless they hold it.
pub(crate) fn add_host(tables: &mut Tables, settings: &MockSettings) {
    if !tables.hosts.contains_key(&settings.host) {
        let initial = self::tables(settings);
        tables.hosts.extend(initial.hosts);
        if let Some(zone) = tables.tunnel_zones.get_mut(&tunnel_zone()) {
            zone.members.insert(settings.host, settings.host_address);
        }
    }
}
