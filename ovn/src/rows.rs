//! A tenant's network as rows of OVN Northbound. Pure.
//!
//! # Guarantees
//! - The same network gives the same rows, in an order in which every row follows what it refers to.
//! - Each row names its owner, and its parent where it has one: OVN deletes a row without its parent.
//!
//! The tenant's router and the provider router are linked by two ports that name each other as `peer`. The tenant's end
//! carries the chassis group of the provider's uplinks: translation must happen where the uplink is, because the answer
//! enters there.

use std::net::IpAddr;

use atoll_model::derive;
use atoll_model::host_to_pod::{HostToPodPool, SOURCE_V6};
use atoll_network::{HostToPodPort, Network, NetworkNextHop, NetworkRoute, NetworkSubnet, SubnetId};
use ipnetwork::IpNetwork;
use uuid::Uuid;

use crate::names::{EXTERNAL_IDS, RowRole, key, name, network_row, owner, with};
use crate::next_hops::recorded;
use crate::ovsdb::{Row, Value};

/// A row as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRow {
    /// Its table.
    pub table: &'static str,
    /// Its identity.
    pub uuid: Uuid,
    /// What it is for.
    pub role: RowRole,
    /// Its columns, without references to children.
    pub row: Row,
    /// The columns in which others may add something: it must only include the wanted.
    pub shared: &'static [&'static str],
    /// The row that refers to it.
    pub parent: Option<Parent>,
}

/// The column of a row that refers to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its table.
    pub table: &'static str,
    /// Its identity.
    pub uuid: Uuid,
    /// The column.
    pub column: &'static str,
}

/// What a network needs of the provider router besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderRows {
    /// The chassis group of its uplinks; none: it has no gateway port.
    pub chassis_group: Option<Uuid>,
}

/// Columns to which operators and OVN add keys of their own.
pub(crate) const SHARED: &[&str] = &[EXTERNAL_IDS, "options", DNS_RECORDS];

/// The column of a switch that refers to the names for which it answers.
const DNS_RECORDS: &str = "dns_records";

/// Router and switches, by table.
pub(crate) const ROUTER: &str = "Logical_Router";
/// Ports of routers.
pub(crate) const ROUTER_PORT: &str = "Logical_Router_Port";
/// Static routes.
pub(crate) const STATIC_ROUTE: &str = "Logical_Router_Static_Route";
/// Translations.
pub(crate) const NAT: &str = "NAT";
/// Switches.
pub(crate) const SWITCH: &str = "Logical_Switch";
/// Ports of switches.
pub(crate) const SWITCH_PORT: &str = "Logical_Switch_Port";
/// Rules of switches.
pub(crate) const ACL: &str = "ACL";
/// Rows that belong to no network and have no effect on packets: the cluster's, and the nodes'.
pub(crate) const MARK: &str = "DNS";
/// Names for which the switches that refer to the row answer.
pub(crate) const NAMES: &str = "DNS";
/// Groups of chassis.
pub(crate) const CHASSIS_GROUP: &str = "HA_Chassis_Group";
/// Members of such groups.
pub(crate) const GROUP_MEMBER: &str = "HA_Chassis";

/// The rows of a network.
pub fn network_rows(network: &Network, provider: ProviderRows) -> Vec<WantedRow> {
    let id = network.id;
    let in_router = |column| Parent { table: ROUTER, uuid: id.router(), column };
    let make = |table, role, parent, columns: Vec<(&'static str, Value)>| {
        let mut row = Row::from_iter(columns);
        row.insert(EXTERNAL_IDS, with(owner(id, role), key::TENANT, network.tenant.as_str()));
        WantedRow { table, uuid: network_row(id, role), role, row, shared: SHARED, parent }
    };
    let router_name = Value::one(name(id.router()));
    let mut rows = vec![make(ROUTER, RowRole::Router, None, vec![("name", router_name)])];

    let [uplink, far] = [RowRole::UplinkPort, RowRole::ProviderPort].map(|role| network_row(id, role));
    let link = |own: Uuid, peer: Uuid, networks: Vec<IpNetwork>| {
        vec![
            ("name", Value::one(name(own))),
            ("mac", Value::one(derive::mac(own).to_string())),
            ("networks", Value::set(networks.iter().map(ToString::to_string))),
            ("peer", Value::one(name(peer))),
        ]
    };
    let mut near = link(uplink, far, network.transit.iter().map(|link| link.tenant).collect());
    near.push(("ha_chassis_group", provider.chassis_group.map_or_else(Value::none, Value::one)));
    rows.push(make(ROUTER_PORT, RowRole::UplinkPort, Some(in_router("ports")), near));
    let far_columns = link(far, uplink, network.transit.iter().map(|link| link.provider).collect());
    let in_provider = Parent { table: ROUTER, uuid: network.provider, column: "ports" };
    rows.push(make(ROUTER_PORT, RowRole::ProviderPort, Some(in_provider), far_columns));
    for link in &network.transit {
        let family = family(link.tenant.ip());
        let everything = everything(link.tenant.ip());
        let route = vec![
            ("ip_prefix", Value::one(everything)),
            ("nexthop", Value::one(link.provider.ip().to_string())),
            ("output_port", Value::one(name(uplink))),
        ];
        rows.push(make(STATIC_ROUTE, RowRole::DefaultRoute(family), Some(in_router("static_routes")), route));
        let translation = vec![
            ("type", Value::one("snat")),
            ("external_ip", Value::one(link.tenant.ip().to_string())),
            ("logical_ip", Value::one(everything)),
            // Ports below 1024 are left to services of the router's own address.
            ("external_port_range", Value::one("1024-65535")),
        ];
        rows.push(make(NAT, RowRole::Translation(family), Some(in_router("nat")), translation));
    }
    if network.names {
        rows.push(names_row(network));
    }
    for subnet in &network.subnets {
        rows.extend(subnet_rows(network, subnet));
    }
    for route in &network.routes {
        rows.extend(route_rows(network, route));
    }
    for destination in &network.services {
        let refused = NetworkRoute { destination: *destination, next_hop: NetworkNextHop::Reject };
        rows.extend(rows_of_route(network, &refused, RowRole::ServiceRoute, RowRole::RefusedService));
    }
    rows
}

/// The names of a network's pods. All its switches refer to the row, and each port that is made or deleted changes it.
pub(crate) fn names_row(network: &Network) -> WantedRow {
    let role = RowRole::Names;
    let ids = with(owner(network.id, role), key::TENANT, network.tenant.as_str());
    let row = Row::from([(EXTERNAL_IDS, ids)]);
    WantedRow { table: NAMES, uuid: network_row(network.id, role), role, row, shared: SHARED, parent: None }
}

/// The rows of one subnet.
pub(crate) fn subnet_rows(network: &Network, subnet: &NetworkSubnet) -> Vec<WantedRow> {
    let (id, ordinal) = (network.id, subnet.ordinal);
    let switch = id.subnet(ordinal).object();
    let gateway = network_row(id, RowRole::GatewayPort(ordinal));
    let port = network_row(id, RowRole::RouterPort(ordinal));
    let ids = |role| with(owner(id, role), key::TENANT, network.tenant.as_str());
    let addresses = subnet.prefixes.iter().map(|prefix| format!("{}/{}", prefix.gateway, prefix.prefix.prefix()));
    let of_owner = with(ids(RowRole::Switch(ordinal)), key::NEXT_HOPS, recorded(network, subnet));
    let mut of_switch = Row::from([("name", Value::one(name(switch))), (EXTERNAL_IDS, of_owner)]);
    if network.names {
        of_switch.insert(DNS_RECORDS, Value::one(network_row(id, RowRole::Names)));
    }
    vec![
        WantedRow {
            table: SWITCH,
            uuid: switch,
            role: RowRole::Switch(ordinal),
            row: of_switch,
            shared: SHARED,
            parent: None,
        },
        WantedRow {
            table: ROUTER_PORT,
            uuid: gateway,
            role: RowRole::GatewayPort(ordinal),
            row: Row::from([
                ("name", Value::one(name(gateway))),
                ("mac", Value::one(derive::mac(gateway).to_string())),
                ("networks", Value::set(addresses)),
                (EXTERNAL_IDS, ids(RowRole::GatewayPort(ordinal))),
            ]),
            shared: SHARED,
            parent: Some(Parent { table: ROUTER, uuid: id.router(), column: "ports" }),
        },
        WantedRow {
            table: SWITCH_PORT,
            uuid: port,
            role: RowRole::RouterPort(ordinal),
            row: Row::from([
                ("name", Value::one(name(port))),
                ("type", Value::one("router")),
                ("addresses", Value::set(["router"])),
                ("options", Value::map([("router-port", name(gateway))])),
                (EXTERNAL_IDS, ids(RowRole::RouterPort(ordinal))),
            ]),
            shared: SHARED,
            parent: Some(Parent { table: SWITCH, uuid: switch, column: "ports" }),
        },
        host_to_pod_row(network, subnet),
    ]
}

/// The switch of each subnet.
pub(crate) fn switch_rows(network: &Network) -> impl Iterator<Item = WantedRow> {
    network.subnets.iter().flat_map(|subnet| subnet_rows(network, subnet)).filter(|row| row.table == SWITCH)
}

/// The port by which each node reaches its own pods of a subnet.
pub(crate) fn host_to_pod_port(subnet: SubnetId) -> HostToPodPort {
    let id = network_row(subnet.network, RowRole::HostToPodPort(subnet.ordinal));
    HostToPodPort { id, mac: derive::mac(id) }
}

/// Its row. OVN carries its packets on one chassis only, whatever their destination, and each chassis may have an interface of
/// it (`ovn-nb(5)`, `localport`). It has the same addresses in every subnet: pods answer to them, and no tenant can have them.
fn host_to_pod_row(network: &Network, subnet: &NetworkSubnet) -> WantedRow {
    let (id, role) = (network.id.subnet(subnet.ordinal), RowRole::HostToPodPort(subnet.ordinal));
    let port = host_to_pod_port(id);
    let families =
        [true, false].into_iter().filter(|family| subnet.prefixes.iter().any(|it| it.gateway.is_ipv4() == *family));
    let sources =
        families.map(|is_ipv4| if is_ipv4 { IpAddr::V4(HostToPodPool::DEFAULT.source()) } else { SOURCE_V6.into() });
    let addresses = sources.fold(port.mac.to_string(), |text, source| format!("{text} {source}"));
    WantedRow {
        table: SWITCH_PORT,
        uuid: port.id,
        role,
        row: Row::from([
            // An Interface of the chassis names it.
            ("name", Value::one(port.id.to_string())),
            ("type", Value::one("localport")),
            ("addresses", Value::set([addresses.clone()])),
            ("port_security", Value::set([addresses])),
            (EXTERNAL_IDS, with(owner(network.id, role), key::TENANT, network.tenant.as_str())),
        ]),
        shared: SHARED,
        parent: Some(Parent { table: SWITCH, uuid: id.object(), column: "ports" }),
    }
}

/// The rows of one static route.
pub(crate) fn route_rows(network: &Network, route: &NetworkRoute) -> Vec<WantedRow> {
    rows_of_route(network, route, RowRole::StaticRoute, RowRole::RefusedRoute)
}

fn rows_of_route(
    network: &Network,
    route: &NetworkRoute,
    role: fn(u32) -> RowRole,
    refusal: fn(u32, u32) -> RowRole,
) -> Vec<WantedRow> {
    let (id, number) = (network.id, route.number());
    let role = role(number);
    let ids = |role| with(owner(id, role), key::TENANT, network.tenant.as_str());
    let next_hop = match route.next_hop {
        NetworkNextHop::Gateway(address) => address.to_string(),
        // What the rules below do not answer is dropped, for instance packets from outside.
        NetworkNextHop::Reject | NetworkNextHop::Blackhole => "discard".to_owned(),
    };
    let mut rows = vec![WantedRow {
        table: STATIC_ROUTE,
        uuid: network_row(id, role),
        role,
        row: Row::from([
            ("ip_prefix", Value::one(route.destination.to_string())),
            ("nexthop", Value::one(next_hop)),
            (EXTERNAL_IDS, ids(role)),
        ]),
        shared: SHARED,
        parent: Some(Parent { table: ROUTER, uuid: id.router(), column: "static_routes" }),
    }];
    if route.next_hop == NetworkNextHop::Reject {
        // OVN's routes cannot answer: the pod's own switch does, but for what another route or a subnet inside is for.
        let ip = if route.destination.is_ipv6() { "ip6" } else { "ip4" };
        let inside: Vec<_> = inside(network, route.destination).iter().map(ToString::to_string).collect();
        let but = if inside.is_empty() { String::new() } else { format!(" && {ip}.dst != {{{}}}", inside.join(", ")) };
        let meant = format!("{ip}.dst == {}{but}", route.destination);
        for subnet in &network.subnets {
            let role = refusal(subnet.ordinal, number);
            rows.push(WantedRow {
                table: ACL,
                uuid: network_row(id, role),
                role,
                row: Row::from([
                    ("direction", Value::one("from-lport")),
                    ("priority", Value::one(1000 + i64::from(route.destination.prefix()))),
                    ("match", Value::one(meant.clone())),
                    ("action", Value::one("reject")),
                    (EXTERNAL_IDS, ids(role)),
                ]),
                shared: SHARED,
                parent: Some(Parent { table: SWITCH, uuid: id.subnet(subnet.ordinal).object(), column: "acls" }),
            });
        }
    }
    rows
}

/// Destinations inside another one that are reached otherwise: the router has a more specific route, or they are a node's.
fn inside(network: &Network, outer: IpNetwork) -> Vec<IpNetwork> {
    let subnets = network.subnets.iter().flat_map(|subnet| subnet.prefixes.iter().map(|prefix| prefix.prefix));
    let routes = network.routes.iter().map(|route| route.destination);
    // A pod answers its node whatever its tenant's routes are.
    let sources = [IpAddr::V4(HostToPodPool::DEFAULT.source()), SOURCE_V6.into()].map(IpNetwork::from);
    let mut inside: Vec<_> = subnets.chain(routes).chain(sources).filter(|inner| is_inside(*inner, outer)).collect();
    inside.sort();
    inside.dedup();
    inside
}

fn is_inside(inner: IpNetwork, outer: IpNetwork) -> bool {
    inner.prefix() > outer.prefix() && outer.contains(inner.ip())
}

pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

pub(crate) fn everything(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" }
}

#[cfg(test)]
mod tests {
    use atoll_network::conformance::samples::{Families, network};

    use super::*;

    fn ports(rows: &[WantedRow]) -> Vec<&WantedRow> {
        rows.iter().filter(|row| matches!(row.role, RowRole::HostToPodPort(_))).collect()
    }

    #[test]
    fn each_subnet_has_one_port_by_which_nodes_reach_their_pods() {
        for (families, addresses) in [
            (Families::V4, "169.254.128.1"),
            (Families::V6, "fd61:746f:6c6c::1"),
            (Families::Both, "169.254.128.1 fd61:746f:6c6c::1"),
        ] {
            let network = network(Uuid::from_u128(1), 1, 2, families);
            let rows = network_rows(&network, ProviderRows { chassis_group: None });
            let ports = ports(&rows);
            assert_eq!(ports.len(), 2, "one for each subnet");
            for (port, subnet) in ports.iter().zip(&network.subnets) {
                let id = network.id.subnet(subnet.ordinal);
                let wanted = host_to_pod_port(id);
                let text = |column: &str| port.row.get(column).and_then(Value::text).unwrap_or_default();
                assert_eq!((port.uuid, text("name").to_owned()), (wanted.id, wanted.id.to_string()));
                assert_eq!(text("type"), "localport");
                assert_eq!(text("addresses"), format!("{} {addresses}", wanted.mac));
                let (cluster, incarnation) = (network.id.cluster, network.id.incarnation);
                let whose = derive::infrastructure(cluster, incarnation, [subnet.ordinal], wanted.mac);
                assert!(whose.is_some(), "no pod may have its MAC");
                assert_eq!(text("port_security"), text("addresses"));
                assert_eq!(port.parent, Some(Parent { table: SWITCH, uuid: id.object(), column: "ports" }));
            }
        }
    }

    #[test]
    fn no_route_that_refuses_keeps_a_pod_from_answering_its_node() {
        let mut network = network(Uuid::from_u128(1), 1, 1, Families::V4);
        network.routes = ["169.254.0.0/16", "192.0.2.0/24"]
            .map(|to| NetworkRoute { destination: to.parse().expect("valid"), next_hop: NetworkNextHop::Reject })
            .to_vec();
        let rows = network_rows(&network, ProviderRows { chassis_group: None });
        let acls = rows.iter().filter(|row| row.table == ACL);
        let matches: Vec<_> = acls.filter_map(|row| row.row.get("match")?.text()).collect();
        assert_eq!(
            matches,
            ["ip4.dst == 169.254.0.0/16 && ip4.dst != {169.254.128.1/32}", "ip4.dst == 192.0.2.0/24"],
            "the address of nodes is left out"
        );
    }
}
