//! Lowers a tenant's network to a MidoNet topology: routers, bridges, ports, routes, chains and rules. Pure.
//!
//! # Guarantees
//! The same network gives the same topology, down to every id and MAC. Creating, completing, repairing and deleting a network
//! therefore walk one value.
//!
//! # Errors
//! MidoNet's API forwards IPv4 only: a prefix or address of IPv6 is refused by name.
//!
//! The rules (MidoNet REST API, section "Rule"; the simulation evaluates them on the tenant's router):
//!
//! | chain | place | rule | reason |
//! |---|---|---|---|
//! | outbound | 1 | accept packets of the return direction | an answer, or an ICMP error of the router itself, must not be translated again |
//! | outbound | 2 | translate the source of what leaves by the uplink | ports 1024-65535 of the tenant's transit address; MidoNet can do this for unfragmented TCP, UDP and ICMP only |
//! | outbound | 3 | drop what leaves by the uplink untranslated | fragments and other protocols would leave with a pod's own address, which another tenant may have too |
//! | inbound | 1 | reverse the translation of what enters by the uplink | the other half of rule 2 |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use atoll_model::derive::{self, NetworkPart};
use atoll_model::topology::{
    Binding, Bridge, Chain, Condition, Device, FlowAction, Fragments, NatTarget, Port, Route, RouteAction, Router,
    Rule, RuleAction, Test, Topology,
};
use atoll_network::{
    EngineFailure, Network, NetworkNextHop, NetworkRoute, NetworkSubnet, ProviderNetwork, TransitLink, provider_object,
};
use ipnetwork::{IpNetwork, Ipv4Network};
use uuid::Uuid;

use crate::error::MidoNetError;
use crate::host_id;
use crate::memory::Memory;
use crate::role::Role;

/// First and last port that the tenant's transit address translates to; servers use those below.
const NAT_PORTS: (u16, u16) = (1024, 65535);

/// The owner of our provider router in the controller.
const PROVIDER: &str = "admin";

/// Objects of the controller as they should be, each with its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lowered {
    /// The objects. Ports and routes of the provider router are among a tenant's objects; the provider router is not.
    pub(crate) objects: Topology,
    /// The role of each object, by its id.
    pub(crate) roles: BTreeMap<Uuid, Role>,
}

impl Lowered {
    /// The objects of this that `other` has not.
    pub(crate) fn without(self, other: &Self) -> Topology {
        let Topology { routers, bridges, ports, routes, chains, .. } = self.objects;
        let other = &other.objects;
        Topology {
            routers: difference(routers, &other.routers),
            bridges: difference(bridges, &other.bridges),
            ports: difference(ports, &other.ports),
            routes: difference(routes, &other.routes),
            chains: difference(chains, &other.chains),
            ..Topology::default()
        }
    }
}

/// The entries of `from` whose keys `without` has not. Inserted one by one: removing from a map is code that the plugin needs
/// nowhere else.
fn difference<T>(from: BTreeMap<Uuid, T>, without: &BTreeMap<Uuid, T>) -> BTreeMap<Uuid, T> {
    let mut difference = BTreeMap::new();
    for (id, object) in from {
        if !without.contains_key(&id) {
            difference.insert(id, object);
        }
    }
    difference
}

/// Everything of a network.
pub(crate) fn network(network: &Network) -> Result<Lowered, MidoNetError> {
    let mut lowering = Lowering::new(network)?;
    lowering.router()?;
    for subnet in &network.subnets {
        lowering.subnet(subnet)?;
    }
    for route in &network.routes {
        lowering.route(route)?;
    }
    Ok(lowering.lowered)
}

/// The part that one subnet has for itself.
pub(crate) fn subnet(network: &Network, ordinal: u32) -> Result<Lowered, MidoNetError> {
    let mut lowering = Lowering::new(network)?;
    for subnet in network.subnets.iter().filter(|subnet| subnet.ordinal == ordinal) {
        lowering.subnet(subnet)?;
    }
    Ok(lowering.lowered)
}

/// These static routes of a network's router.
pub(crate) fn routes(network: &Network, routes: &[NetworkRoute]) -> Result<Lowered, MidoNetError> {
    let mut lowering = Lowering::new(network)?;
    for route in routes {
        lowering.route(route)?;
    }
    Ok(lowering.lowered)
}

/// A provider router of the cluster's own, with its uplinks.
pub(crate) fn provider(provider: &ProviderNetwork) -> Result<Lowered, MidoNetError> {
    let mut roles = BTreeMap::new();
    let mut id = |role| {
        let id = provider_object(provider.cluster, &role);
        roles.insert(id, role);
        id
    };
    let mut objects = Topology::default();
    let router = id(Role::Part(NetworkPart::ProviderRouter));
    let short = &provider.cluster.0.simple().to_string()[..8];
    let name = format!("atoll {short} provider router");
    objects.routers.insert(
        router,
        Router { tenant: PROVIDER.to_owned(), name, up: true, inbound: None, outbound: None, other: Vec::new() },
    );
    for (place, uplink) in (1..).zip(&provider.uplinks) {
        let port = id(Role::Part(NetworkPart::ProviderUplink(place)));
        let binding = Binding { host: host_id::read(&uplink.host)?, interface: uplink.interface.to_string() };
        let device = on_router(router, v4(uplink.address)?, port);
        let port_wanted = Port {
            device,
            up: true,
            inbound: None,
            outbound: None,
            peer: None,
            binding: Some(binding),
            vif_id: None,
            other: Vec::new(),
        };
        objects.ports.insert(port, port_wanted);
        let default = forward(router, any(), port, Some(v4_address(uplink.gateway)?));
        objects.routes.insert(id(Role::ProviderDefaultRoute(place)), default);
    }
    Ok(Lowered { objects, roles })
}

pub(crate) fn v4(prefix: IpNetwork) -> Result<Ipv4Network, MidoNetError> {
    match prefix {
        IpNetwork::V4(prefix) => Ok(prefix),
        IpNetwork::V6(prefix) => Err(no_ipv6(prefix.to_string())),
    }
}

pub(crate) fn v4_address(address: IpAddr) -> Result<Ipv4Addr, MidoNetError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(no_ipv6(address.to_string())),
    }
}

fn no_ipv6(given: String) -> MidoNetError {
    let message = "MidoNet's API forwards IPv4 only".to_owned();
    MidoNetError { object: given, failure: EngineFailure::Unsupported, message }
}

/// Lowers the parts of one network.
struct Lowering<'a> {
    network: &'a Network,
    /// The generation of chains and rules, which the API cannot update in place.
    generation: u32,
    lowered: Lowered,
}

impl<'a> Lowering<'a> {
    fn new(network: &'a Network) -> Result<Self, MidoNetError> {
        let generation = Memory::read(&network.memory)?.generation;
        let lowered = Lowered { objects: Topology::default(), roles: BTreeMap::new() };
        Ok(Self { network, generation, lowered })
    }

    fn id(&mut self, role: Role) -> Uuid {
        let id = derive::object(self.network.id.cluster, self.network.id.incarnation, &role);
        self.lowered.roles.insert(id, role);
        id
    }

    fn part(&mut self, part: NetworkPart) -> Uuid {
        self.id(Role::Part(part))
    }

    /// What an operator of the controller reads: the cluster and tenant of the object, and its role.
    fn name(&self, role: Role) -> String {
        let cluster = self.network.id.cluster.0.simple().to_string();
        format!("atoll {} {} {role}", &cluster[..8], self.network.tenant)
    }

    fn router(&mut self) -> Result<(), MidoNetError> {
        let generation = self.generation;
        let (inbound, outbound) = (Role::InboundChain(generation), Role::OutboundChain(generation));
        let (router, uplink, provider_port) =
            (self.part(NetworkPart::Router), self.part(NetworkPart::UplinkPort), self.part(NetworkPart::ProviderPort));
        let Some(TransitLink { provider: far, tenant: near }) = self.network.transit.first() else {
            let object = format!("network of tenant {}", self.network.tenant);
            let message = "it has no transit link".to_owned();
            return Err(MidoNetError { object, failure: EngineFailure::Invalid, message });
        };
        let (far, near) = (v4(*far)?, v4(*near)?);

        let rules = self.inbound_rules(uplink);
        self.chain(inbound, rules);
        let rules = self.outbound_rules(uplink, near.ip());
        self.chain(outbound, rules);
        let filters = (self.id(inbound), self.id(outbound));
        self.lowered.objects.routers.insert(
            router,
            Router {
                tenant: self.network.tenant.to_string(),
                name: self.name(Role::Part(NetworkPart::Router)),
                up: true,
                inbound: Some(filters.0),
                outbound: Some(filters.1),
                other: Vec::new(),
            },
        );
        let provider = self.network.provider;
        self.port(provider_port, on_router(provider, far, provider_port), uplink);
        self.port(uplink, on_router(router, near, uplink), provider_port);
        self.put_route(Role::DefaultRoute, forward(router, any(), uplink, Some(far.ip())));
        for services in &self.network.services {
            // The longest destination wins, so the default route takes none of these packets.
            let services = v4(*services)?;
            let destination = with_length(services.network(), services.prefix());
            let refused = Route { router, source: any(), destination, action: RouteAction::Reject, weight: 0 };
            self.put_route(Role::ServiceRoute, refused);
        }
        self.put_route(Role::ProviderRoute, forward(provider, with_length(near.ip(), 32), provider_port, None));
        Ok(())
    }

    fn subnet(&mut self, subnet: &NetworkSubnet) -> Result<(), MidoNetError> {
        let ordinal = subnet.ordinal;
        let (router, bridge) = (self.part(NetworkPart::Router), self.part(NetworkPart::Subnet(ordinal)));
        let (gateway_port, bridge_port) =
            (self.part(NetworkPart::GatewayPort(ordinal)), self.id(Role::BridgePort(ordinal)));
        let wanted = Bridge {
            tenant: self.network.tenant.to_string(),
            name: self.name(Role::Part(NetworkPart::Subnet(ordinal))),
            up: true,
            ..Bridge::default()
        };
        self.lowered.objects.bridges.insert(bridge, wanted);
        let [prefix] = subnet.prefixes.as_slice() else {
            let second = subnet.prefixes.last().map_or_else(String::new, |prefix| prefix.prefix.to_string());
            return Err(no_ipv6(second));
        };
        let (network, gateway) = (v4(prefix.prefix)?, v4_address(prefix.gateway)?);
        let gateway = with_length(gateway, network.prefix());
        self.port(gateway_port, on_router(router, gateway, gateway_port), bridge_port);
        self.port(bridge_port, Device::Bridge { id: bridge, vlan: None }, gateway_port);
        let destination = with_length(network.network(), network.prefix());
        self.put_route(Role::SubnetRoute(ordinal), forward(router, destination, gateway_port, None));
        Ok(())
    }

    /// A route whose next hop is in no subnet of the network leads nowhere: it is left out.
    fn route(&mut self, wanted: &NetworkRoute) -> Result<(), MidoNetError> {
        let action = match wanted.next_hop {
            NetworkNextHop::Reject => RouteAction::Reject,
            NetworkNextHop::Blackhole => RouteAction::BlackHole,
            NetworkNextHop::Gateway(address) => {
                let has =
                    |subnet: &&NetworkSubnet| subnet.prefixes.iter().any(|prefix| prefix.prefix.contains(address));
                let Some(subnet) = self.network.subnets.iter().find(has) else { return Ok(()) };
                let (port, gateway) = (self.part(NetworkPart::GatewayPort(subnet.ordinal)), v4_address(address)?);
                RouteAction::Forward { port, gateway: Some(gateway) }
            }
        };
        let destination = v4(wanted.destination)?;
        let route = Route { router: self.network.id.router(), source: any(), destination, action, weight: 0 };
        self.put_route(Role::StaticRoute(wanted.number()), route);
        Ok(())
    }

    fn put_route(&mut self, role: Role, route: Route) {
        let id = self.id(role);
        self.lowered.objects.routes.insert(id, route);
    }

    fn port(&mut self, id: Uuid, device: Device, peer: Uuid) {
        let other = Vec::new();
        let port = Port {
            device,
            up: true,
            inbound: None,
            outbound: None,
            peer: Some(peer),
            binding: None,
            vif_id: None,
            other,
        };
        self.lowered.objects.ports.insert(id, port);
    }

    fn chain(&mut self, role: Role, rules: Vec<Rule>) {
        let chain = Chain { tenant: self.network.tenant.to_string(), name: self.name(role), rules };
        let id = self.id(role);
        self.lowered.objects.chains.insert(id, chain);
    }

    fn inbound_rules(&mut self, uplink: Uuid) -> Vec<Rule> {
        vec![Rule {
            id: self.id(Role::InboundRule(self.generation, 1)),
            condition: Condition { in_ports: Some(Test::is(vec![uplink])), ..Condition::default() },
            action: RuleAction::ReverseSnat { then: FlowAction::Continue },
        }]
    }

    fn outbound_rules(&mut self, uplink: Uuid, own: Ipv4Addr) -> Vec<Rule> {
        let leaves = || Condition { out_ports: Some(Test::is(vec![uplink])), ..Condition::default() };
        let rules = [
            (Condition { return_flow: true, ..Condition::default() }, RuleAction::Accept),
            (
                Condition { fragments: Fragments::Unfragmented, ..leaves() },
                RuleAction::Snat {
                    targets: vec![NatTarget { from: own, to: own, port_from: NAT_PORTS.0, port_to: NAT_PORTS.1 }],
                    then: FlowAction::Accept,
                },
            ),
            (leaves(), RuleAction::Drop),
        ];
        let generation = self.generation;
        (1..)
            .zip(rules)
            .map(|(place, (condition, action))| Rule {
                id: self.id(Role::OutboundRule(generation, place)),
                condition,
                action,
            })
            .collect()
    }
}

fn on_router(router: Uuid, address: Ipv4Network, port: Uuid) -> Device {
    Device::Router { id: router, address, mac: Some(derive::mac(port)) }
}

fn forward(router: Uuid, destination: Ipv4Network, port: Uuid, gateway: Option<Ipv4Addr>) -> Route {
    Route { router, source: any(), destination, action: RouteAction::Forward { port, gateway }, weight: 0 }
}

fn any() -> Ipv4Network {
    with_length(Ipv4Addr::UNSPECIFIED, 0)
}

fn with_length(address: Ipv4Addr, length: u8) -> Ipv4Network {
    Ipv4Network::new(address, length).expect("lengths come from networks, or are 0 or 32")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use atoll_model::ids::{ClusterId, Incarnation, TenantName};
    use atoll_network::{EngineMemory, NetworkId, SubnetPrefix};

    use super::*;

    /// The network of tenant `red` with `subnets` subnets, with fixed ids.
    pub(crate) fn red(subnets: u8) -> Network {
        let network = |text: String| text.parse::<IpNetwork>().expect("valid");
        Network {
            id: NetworkId { cluster: ClusterId(Uuid::from_u128(1)), incarnation: Incarnation(Uuid::from_u128(4)) },
            tenant: TenantName::new("red").expect("valid"),
            revision: 1,
            provider: Uuid::from_u128(3),
            transit: vec![TransitLink {
                provider: network("100.64.1.5/30".to_owned()),
                tenant: network("100.64.1.6/30".to_owned()),
            }],
            subnets: (1..=subnets)
                .map(|ordinal| NetworkSubnet {
                    ordinal: u32::from(ordinal),
                    prefixes: vec![SubnetPrefix {
                        prefix: network(format!("10.128.{ordinal}.0/24")),
                        gateway: Ipv4Addr::new(10, 128, ordinal, 1).into(),
                    }],
                })
                .collect(),
            routes: Vec::new(),
            removed_routes: Vec::new(),
            names: false,
            services: Vec::new(),
            memory: EngineMemory::default(),
        }
    }

    fn lowered(network: &Network) -> Lowered {
        super::network(network).expect("it is of IPv4")
    }

    pub(crate) fn sample(subnets: u8) -> Lowered {
        lowered(&red(subnets))
    }

    #[test]
    fn what_is_for_a_service_is_refused_by_the_tenants_router_where_services_are_known() {
        let mut known = red(1);
        let without = lowered(&known);
        known.services = vec!["10.96.0.0/12".parse().expect("valid")];
        let with = lowered(&known);
        let new: Vec<_> =
            with.objects.routes.iter().filter(|(id, _)| !without.objects.routes.contains_key(id)).collect();
        let [(id, route)] = new.as_slice() else { panic!("{new:?}") };
        assert_eq!(with.roles[*id], Role::ServiceRoute);
        assert_eq!((route.destination, &route.action), ("10.96.0.0/12".parse().expect("valid"), &RouteAction::Reject));
        assert!(with.objects.routers.contains_key(&route.router), "the tenant's own router, not the provider's");
        let rest = |lowered: &Lowered| (lowered.objects.ports.clone(), lowered.objects.chains.clone());
        assert_eq!(rest(&with), rest(&without), "nothing else differs");
    }

    #[test]
    fn the_topology_of_a_tenant_with_one_subnet() {
        insta::assert_json_snapshot!(sample(1).objects);
    }

    #[test]
    fn a_subnet_that_is_not_in_the_network_leaves_the_ids_of_the_others_as_they_are() {
        let mut network = red(2);
        network.subnets.remove(0);
        let objects = lowered(&network).objects;
        assert_eq!(objects.bridges.len(), 1);
        let bridges: BTreeSet<_> = sample(2).objects.bridges.into_keys().collect();
        assert!(objects.bridges.keys().all(|id| bridges.contains(id)));
    }

    #[test]
    fn another_incarnation_or_generation_shares_no_object_that_cannot_be_updated() {
        let ids = |network: &Network| -> BTreeSet<Uuid> {
            let objects = lowered(network).objects;
            let rules = objects.chains.values().flat_map(|chain| chain.rules.iter().map(|rule| rule.id));
            let rules: Vec<_> = rules.collect();
            objects.chains.into_keys().chain(rules).collect()
        };
        let (old, mut new) = (red(1), red(1));
        new.memory.0.insert("generation".to_owned(), 2.into());
        assert!(ids(&old).is_disjoint(&ids(&new)));
        let mut recreated = red(1);
        recreated.id.incarnation = Incarnation(Uuid::from_u128(5));
        let ports = |network: &Network| -> BTreeSet<_> { lowered(network).objects.ports.into_keys().collect() };
        assert!(ports(&old).is_disjoint(&ports(&recreated)));
        assert_eq!(ports(&old), ports(&new), "ports outlive a change of rules: pods stay connected");
    }

    #[test]
    fn ipv6_is_refused_by_name() {
        let mut network = red(1);
        let prefix = SubnetPrefix {
            prefix: "fd00:1::/64".parse().expect("valid"),
            gateway: "fd00:1::1".parse().expect("valid"),
        };
        network.subnets[0].prefixes.push(prefix);
        let error = super::network(&network).expect_err("refused");
        assert_eq!((error.failure, error.object.as_str()), (EngineFailure::Unsupported, "fd00:1::/64"));
        network.subnets[0].prefixes.remove(0);
        let error = super::network(&network).expect_err("refused");
        assert_eq!((error.failure, error.object.as_str()), (EngineFailure::Unsupported, "fd00:1::/64"));
    }
}
