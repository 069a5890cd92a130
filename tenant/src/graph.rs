//! A tenant as a desired graph: one pure function of the cluster's record and the tenant's.
//!
//! # Guarantees
//! The same records give the same graph, down to every id and MAC, so creating, completing, repairing and deleting a
//! tenant are one walk over one value. This module sends no requests.
//!
//! The meaning of the rules (MidoNet REST API, section "Rule"; the simulation evaluates them on the tenant's router):
//!
//! | chain | place | rule | why |
//! |---|---|---|---|
//! | outbound | 1 | accept what answers | an answer, or an ICMP error of the router itself, must not be translated again |
//! | outbound | 2 | translate what leaves by the uplink | ports 1024-65535 of the tenant's transit address; MidoNet can do this for unfragmented TCP, UDP and ICMP only |
//! | outbound | 3 | drop what leaves by the uplink untranslated | fragments and other protocols would leave with a pod's own address, which another tenant may have too |
//! | inbound | 1 | translate back what enters by the uplink | the other half of rule 2 |
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use atoll_model::derive::{self, Role};
use atoll_model::ids::{ClusterId, Incarnation, TenantName};
use atoll_model::topology::{
    Binding, Bridge, Chain, Condition, Device, FlowAction, Fragments, NatTarget, Port, Route, RouteAction, Router,
    Rule, RuleAction, Test, Topology,
};
use atoll_records::{ClusterRecord, Phase, StaticRoute, SubnetEntry, TenantRecord, Via};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

/// First and last port that the tenant's transit address translates to; below are those of servers.
const NAT_PORTS: (u16, u16) = (1024, 65535);

/// Namespace of the numbers of static routes; a constant of this project.
const STATIC_ROUTES: Uuid = Uuid::from_u128(0x6f0b_1d07_5a3c_4b8e_8d35_a701_1c0f_fee3);

/// The owner of our provider router in the controller.
const PROVIDER: &str = "admin";

/// Everything a tenant needs in the controller, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The tenant.
    pub tenant: TenantName,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its objects. Ports and routes of the provider router are in it; the provider router itself is not.
    pub objects: Topology,
    /// The role of each object, by its id.
    pub roles: BTreeMap<Uuid, Role>,
}

/// The two ends of a transit link, each with the length of the /30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Transit {
    /// The provider router's end: the first usable address.
    pub provider: Ipv4Network,
    /// The tenant router's end: the second.
    pub tenant: Ipv4Network,
}

impl Transit {
    /// The ends of `pair`. A pair that is no /30 gives its first addresses all the same; `registry` makes only /30s.
    pub fn of(pair: Ipv4Network) -> Self {
        let end = |n: u32| {
            let address = Ipv4Addr::from(u32::from(pair.network()).wrapping_add(n));
            with_length(address, pair.prefix())
        };
        Self { provider: end(1), tenant: end(2) }
    }
}

/// The desired graph of a tenant: what every subnet needs that is being built or in use.
pub fn graph(cluster: &ClusterRecord, tenant: &TenantRecord) -> Graph {
    let names = Names { cluster, tenant, roles: RefCell::default() };
    let mut objects = Topology::default();
    names.router(&mut objects);
    for subnet in tenant.subnets.iter().filter(|s| s.phase != Phase::Deleting) {
        names.subnet(subnet, &mut objects);
    }
    names.routes(&tenant.routes, &mut objects);
    let roles = names.roles.into_inner();
    Graph { tenant: tenant.name.clone(), incarnation: tenant.incarnation, objects, roles }
}

/// The removed routes of a tenant that may still be in the controller.
pub(crate) fn retired_graph(cluster: &ClusterRecord, tenant: &TenantRecord) -> Graph {
    let names = Names { cluster, tenant, roles: RefCell::default() };
    let mut objects = Topology::default();
    names.routes(&tenant.retired, &mut objects);
    let roles = names.roles.into_inner();
    Graph { tenant: tenant.name.clone(), incarnation: tenant.incarnation, objects, roles }
}

/// The provider router that `init` makes, with its uplinks; `None` if the cluster has adopted one.
pub fn provider_graph(cluster: &ClusterRecord) -> Option<Graph> {
    let provider = cluster.provider.as_ref()?;
    let mut roles = BTreeMap::new();
    let mut id = |role| {
        let id = provider_id(cluster.id, role);
        roles.insert(id, role);
        id
    };
    let mut objects = Topology::default();
    let router = id(Role::ProviderRouter);
    let short = &cluster.id.0.simple().to_string()[..8];
    let name = format!("atoll {short} provider router");
    objects.routers.insert(
        router,
        Router { tenant: PROVIDER.to_owned(), name, up: true, inbound: None, outbound: None, other: Vec::new() },
    );
    for (place, uplink) in (1..).zip(&provider.uplinks) {
        let port = id(Role::ProviderUplink(place));
        let binding = Binding { host: uplink.host, interface: uplink.interface.to_string() };
        let device = on_router(router, uplink.address, port);
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
        objects.routes.insert(id(Role::ProviderDefaultRoute(place)), route(router, any(), port, Some(uplink.gateway)));
    }
    let tenant = TenantName::new(PROVIDER).expect("a valid name");
    Some(Graph { tenant, incarnation: Incarnation(cluster.id.0), objects, roles })
}

/// The id of the provider router that a cluster makes, or of a part of it.
pub(crate) fn provider_id(cluster: ClusterId, role: Role) -> Uuid {
    derive::object(cluster, Incarnation(cluster.0), role)
}

/// The part of the graph that belongs to one subnet alone, in any phase of the subnet: for its removal.
pub fn subnet_graph(cluster: &ClusterRecord, tenant: &TenantRecord, ordinal: u32) -> Graph {
    let names = Names { cluster, tenant, roles: RefCell::default() };
    let mut objects = Topology::default();
    for subnet in tenant.subnets.iter().filter(|subnet| subnet.ordinal == ordinal) {
        names.subnet(subnet, &mut objects);
    }
    let roles = names.roles.into_inner();
    Graph { tenant: tenant.name.clone(), incarnation: tenant.incarnation, objects, roles }
}

/// The tenant of the graph, which determines every id and name.
struct Names<'a> {
    cluster: &'a ClusterRecord,
    tenant: &'a TenantRecord,
    /// Every id that was asked for.
    roles: RefCell<BTreeMap<Uuid, Role>>,
}

impl Names<'_> {
    fn id(&self, role: Role) -> Uuid {
        let id = derive::object(self.cluster.id, self.tenant.incarnation, role);
        self.roles.borrow_mut().insert(id, role);
        id
    }

    /// The name for an operator of the controller: the maker, the cluster, the tenant and the role.
    fn name(&self, role: Role) -> String {
        let cluster = self.cluster.id.0.simple().to_string();
        format!("atoll {} {} {role}", &cluster[..8], self.tenant.name)
    }

    fn router(&self, objects: &mut Topology) {
        let generation = self.tenant.generation;
        let (inbound, outbound) = (Role::InboundChain(generation), Role::OutboundChain(generation));
        let (router, uplink, provider_port) =
            (self.id(Role::Router), self.id(Role::UplinkPort), self.id(Role::ProviderPort));
        let transit = Transit::of(self.tenant.transit);

        objects.chains.insert(self.id(inbound), self.chain(inbound, self.inbound_rules(uplink)));
        objects.chains.insert(self.id(outbound), self.chain(outbound, self.outbound_rules(uplink, transit)));
        objects.routers.insert(
            router,
            Router {
                tenant: self.tenant.name.to_string(),
                name: self.name(Role::Router),
                up: true,
                inbound: Some(self.id(inbound)),
                outbound: Some(self.id(outbound)),
                other: Vec::new(),
            },
        );
        let provider = self.cluster.provider_router;
        objects.ports.insert(provider_port, linked(on_router(provider, transit.provider, provider_port), uplink));
        objects.ports.insert(uplink, linked(on_router(router, transit.tenant, uplink), provider_port));
        objects.routes.insert(self.id(Role::DefaultRoute), route(router, any(), uplink, Some(transit.provider.ip())));
        if let Some(services) = self.cluster.service_cidr {
            // The longest destination wins, so none of it goes the way of the default route.
            let destination = with_length(services.network(), services.prefix());
            let refused = Route { router, source: any(), destination, action: RouteAction::Reject, weight: 0 };
            objects.routes.insert(self.id(Role::ServiceRoute), refused);
        }
        objects.routes.insert(
            self.id(Role::ProviderRoute),
            route(provider, with_length(transit.tenant.ip(), 32), provider_port, None),
        );
    }

    fn subnet(&self, subnet: &SubnetEntry, objects: &mut Topology) {
        let ordinal = subnet.ordinal;
        let (router, bridge) = (self.id(Role::Router), self.id(Role::Bridge(ordinal)));
        let (gateway_port, bridge_port) = (self.id(Role::GatewayPort(ordinal)), self.id(Role::BridgePort(ordinal)));
        objects.bridges.insert(
            bridge,
            Bridge {
                tenant: self.tenant.name.to_string(),
                name: self.name(Role::Bridge(ordinal)),
                up: true,
                ..Bridge::default()
            },
        );
        let gateway = with_length(subnet.gateway, subnet.cidr.prefix());
        objects.ports.insert(gateway_port, linked(on_router(router, gateway, gateway_port), bridge_port));
        objects.ports.insert(bridge_port, linked(Device::Bridge { id: bridge, vlan: None }, gateway_port));
        let destination = with_length(subnet.cidr.network(), subnet.cidr.prefix());
        objects.routes.insert(self.id(Role::SubnetRoute(ordinal)), route(router, destination, gateway_port, None));
    }

    /// A route whose next hop is in no subnet that stays leads nowhere: it is left out.
    fn routes(&self, routes: &[StaticRoute], objects: &mut Topology) {
        for wanted in routes {
            let action = match wanted.via {
                Via::Reject => RouteAction::Reject,
                Via::Blackhole => RouteAction::BlackHole,
                Via::Gateway(address) => {
                    let mut subnets = self.tenant.subnets.iter().filter(|subnet| subnet.phase != Phase::Deleting);
                    let Some(subnet) = subnets.find(|subnet| subnet.cidr.contains(address)) else { continue };
                    RouteAction::Forward { port: self.id(Role::GatewayPort(subnet.ordinal)), gateway: Some(address) }
                }
            };
            let router = derive::object(self.cluster.id, self.tenant.incarnation, Role::Router);
            let route = Route { router, source: any(), destination: wanted.destination, action, weight: 0 };
            objects.routes.insert(self.id(Role::StaticRoute(number(wanted))), route);
        }
    }

    fn chain(&self, role: Role, rules: Vec<Rule>) -> Chain {
        Chain { tenant: self.tenant.name.to_string(), name: self.name(role), rules }
    }

    fn inbound_rules(&self, uplink: Uuid) -> Vec<Rule> {
        let generation = self.tenant.generation;
        vec![Rule {
            id: self.id(Role::InboundRule(generation, 1)),
            condition: Condition { in_ports: Some(Test::is(vec![uplink])), ..Condition::default() },
            action: RuleAction::ReverseSnat { then: FlowAction::Continue },
        }]
    }

    fn outbound_rules(&self, uplink: Uuid, transit: Transit) -> Vec<Rule> {
        let generation = self.tenant.generation;
        let leaves = || Condition { out_ports: Some(Test::is(vec![uplink])), ..Condition::default() };
        let own = transit.tenant.ip();
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

fn linked(device: Device, peer: Uuid) -> Port {
    let other = Vec::new();
    Port { device, up: true, inbound: None, outbound: None, peer: Some(peer), binding: None, vif_id: None, other }
}

fn route(router: Uuid, destination: Ipv4Network, port: Uuid, gateway: Option<Ipv4Addr>) -> Route {
    Route { router, source: any(), destination, action: RouteAction::Forward { port, gateway }, weight: 0 }
}

/// Distinguishes a static route from every other one of its tenant.
pub(crate) fn number(route: &StaticRoute) -> u32 {
    let text = format!("{} {:?}", route.destination, route.via);
    Uuid::new_v5(&STATIC_ROUTES, text.as_bytes()).as_fields().0
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

    use atoll_model::config::Addressing;
    use atoll_model::ids::{Epoch, Namespace};
    use atoll_records::{Origin, Quota, SCHEMA};

    use super::*;

    /// A cluster with fixed ids.
    pub(crate) fn cluster() -> ClusterRecord {
        ClusterRecord {
            v: SCHEMA,
            id: ClusterId(Uuid::from_u128(1)),
            epoch: Epoch(Uuid::from_u128(2)),
            addressing: Addressing::Unique,
            pod_cidr: "10.128.0.0/9".parse().expect("valid"),
            subnet_prefix: 24,
            transit_cidr: "100.64.0.0/16".parse().expect("valid"),
            node_side_cidr: "169.254.128.0/17".parse().expect("valid"),
            service_cidr: None,
            provider_router: Uuid::from_u128(3),
            provider: None,
            unknown: serde_json::Map::new(),
        }
    }

    /// Tenant `red` with `subnets` subnets.
    pub(crate) fn tenant(subnets: usize) -> TenantRecord {
        TenantRecord {
            v: SCHEMA,
            name: TenantName::new("red").expect("valid"),
            incarnation: Incarnation(Uuid::from_u128(4)),
            origin: Origin::Namespace(Namespace::new("red").expect("valid")),
            phase: Phase::Active,
            generation: 1,
            transit: "100.64.1.4/30".parse().expect("valid"),
            subnets: (1..)
                .take(subnets)
                .map(|ordinal| SubnetEntry {
                    ordinal,
                    cidr: format!("10.128.{ordinal}.0/24").parse().expect("valid"),
                    gateway: Ipv4Addr::new(10, 128, u8::try_from(ordinal).expect("small"), 1),
                    phase: Phase::Active,
                    exclude: Vec::new(),
                    unknown: serde_json::Map::new(),
                })
                .collect(),
            quota: Quota::default(),
            routes: Vec::new(),
            retired: Vec::new(),
            dns: None,
            unknown: serde_json::Map::new(),
        }
    }

    pub(crate) fn sample(subnets: usize) -> Graph {
        graph(&cluster(), &tenant(subnets))
    }

    #[test]
    fn what_is_for_a_service_is_refused_by_the_tenants_router_where_services_are_known() {
        let (mut known, tenant) = (cluster(), tenant(1));
        let without = graph(&known, &tenant);
        known.service_cidr = Some("10.96.0.0/12".parse().expect("valid"));
        let with = graph(&known, &tenant);
        let new: Vec<_> =
            with.objects.routes.iter().filter(|(id, _)| !without.objects.routes.contains_key(id)).collect();
        let [(id, route)] = new.as_slice() else { panic!("{new:?}") };
        assert_eq!(with.roles[*id], Role::ServiceRoute);
        assert_eq!((route.destination, &route.action), ("10.96.0.0/12".parse().expect("valid"), &RouteAction::Reject));
        assert!(with.objects.routers.contains_key(&route.router), "the tenant's own router, not the provider's");
        let rest = |graph: &Graph| (graph.objects.ports.clone(), graph.objects.chains.clone());
        assert_eq!(rest(&with), rest(&without), "nothing else differs");
    }

    #[test]
    fn the_graph_of_a_tenant_with_one_subnet() {
        insta::assert_json_snapshot!(sample(1).objects);
    }

    #[test]
    fn a_subnet_that_is_going_is_not_in_the_graph_and_the_others_keep_their_ids() {
        let mut tenant = tenant(2);
        tenant.subnets[0].phase = Phase::Deleting;
        let objects = graph(&cluster(), &tenant).objects;
        assert_eq!(objects.bridges.len(), 1);
        let bridges: BTreeSet<_> = sample(2).objects.bridges.into_keys().collect();
        assert!(objects.bridges.keys().all(|id| bridges.contains(id)));
    }

    #[test]
    fn another_incarnation_or_generation_shares_no_object_that_cannot_be_updated() {
        let ids = |tenant: &TenantRecord| -> BTreeSet<Uuid> {
            let objects = graph(&cluster(), tenant).objects;
            let rules = objects.chains.values().flat_map(|chain| chain.rules.iter().map(|rule| rule.id));
            let rules: Vec<_> = rules.collect();
            objects.chains.into_keys().chain(rules).collect()
        };
        let (old, mut new) = (tenant(1), tenant(1));
        new.generation = 2;
        assert!(ids(&old).is_disjoint(&ids(&new)));
        let mut recreated = tenant(1);
        recreated.incarnation = Incarnation(Uuid::from_u128(5));
        let ports =
            |tenant: &TenantRecord| -> BTreeSet<_> { graph(&cluster(), tenant).objects.ports.into_keys().collect() };
        assert!(ports(&old).is_disjoint(&ports(&recreated)));
        assert_eq!(ports(&old), ports(&new), "ports outlive a change of rules: pods stay connected");
    }

    #[test]
    fn the_provider_has_the_first_usable_address_and_the_tenant_the_second() {
        let transit = Transit::of("100.64.1.4/30".parse().expect("valid"));
        assert_eq!(transit.provider.to_string(), "100.64.1.5/30");
        assert_eq!(transit.tenant.to_string(), "100.64.1.6/30");
    }
}
