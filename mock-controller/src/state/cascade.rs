//! Removing objects, with everything that goes with them (MidoNet REST API, "Cascade summary").
//!
//! Some references remain: rules keep the ids of ports that are gone, chains outlive their routers, and
//! the MAC table of a bridge keeps entries of deleted ports, as in the real controller.

use uuid::Uuid;

use super::index::drop_owned;
use super::{ControllerState, ObjectTable, jump_target};

impl ControllerState {
    /// Removes a router with its ports and routes. Chains stay. False when there is none.
    pub(crate) fn remove_router(&mut self, id: Uuid) -> bool {
        let Some(router) = self.tables.routers.remove(&id) else { return false };
        self.index.drop_router(id, &router);
        self.remove_ports_of(id);
        for route in self.index.routes_of_router.list(&id) {
            self.remove_route(route);
        }
        self.touch(ObjectTable::Routers, id);
        true
    }

    /// Removes a bridge with its ports and tables. Chains stay. False when there is none.
    pub(crate) fn remove_bridge(&mut self, id: Uuid) -> bool {
        let Some(bridge) = self.tables.bridges.remove(&id) else { return false };
        self.index.drop_bridge(id, &bridge);
        self.remove_ports_of(id);
        self.touch(ObjectTable::Bridges, id);
        true
    }

    fn remove_ports_of(&mut self, device: Uuid) {
        for port in self.index.ports_of_device.list(&device) {
            self.remove_port(port);
        }
    }

    /// Removes a port with its binding, its side of the link, its memberships and the routes through it.
    pub(crate) fn remove_port(&mut self, id: Uuid) -> bool {
        if !self.tables.ports.contains_key(&id) {
            return false;
        }
        self.unlink(id);
        self.active.remove(&id);
        if let Some(port) = self.tables.ports.remove(&id) {
            self.index.drop_port(id, &port);
        }
        for route in self.index.routes_of_port.list(&id) {
            self.remove_route(route);
        }
        for group in self.index.groups_of_port.list(&id) {
            self.index.groups_of_port.remove(&id, group);
            if let Some(group) = self.tables.port_groups.get_mut(&group) {
                group.members.remove(&id);
            }
            self.touch(ObjectTable::PortGroups, group);
        }
        self.touch(ObjectTable::Ports, id);
        true
    }

    /// Removes a route.
    pub(crate) fn remove_route(&mut self, id: Uuid) -> bool {
        let Some(route) = self.tables.routes.remove(&id) else { return false };
        self.index.routes_of_router.remove(&route.router, id);
        if let Some(port) = route.port {
            self.index.routes_of_port.remove(&port, id);
        }
        self.touch(ObjectTable::Routes, id);
        true
    }

    /// Removes a chain with its rules and with the rules elsewhere that jump to it, and clears it from every filter: its
    /// users are unfiltered from now on.
    pub(crate) fn remove_chain(&mut self, id: Uuid) -> bool {
        let Some(chain) = self.tables.chains.remove(&id) else { return false };
        drop_owned(&mut self.index.chains_of_tenant, chain.tenant.as_ref(), id);
        for rule in chain.rules {
            if let Some(rule_value) = self.tables.rules.remove(&rule) {
                drop_owned(&mut self.index.jumps_to_chain, jump_target(&rule_value).as_ref(), rule);
                self.touch(ObjectTable::Rules, rule);
            }
        }
        for rule in self.index.jumps_to_chain.list(&id) {
            self.remove_rule(rule);
        }
        for user in self.index.users_of_chain.list(&id) {
            self.clear_filter(user, id);
        }
        self.touch(ObjectTable::Chains, id);
        true
    }

    /// Clears `chain` from every filter of one router, bridge or port.
    fn clear_filter(&mut self, user: Uuid, chain: Uuid) {
        let clear = |filter: &mut Option<Uuid>| {
            if *filter == Some(chain) {
                *filter = None;
            }
        };
        if let Some(mut router) = self.tables.routers.get(&user).cloned() {
            clear(&mut router.device.inbound);
            clear(&mut router.device.outbound);
            clear(&mut router.local_redirect);
            clear(&mut router.forward);
            self.put_router(user, router);
        }
        if let Some(mut bridge) = self.tables.bridges.get(&user).cloned() {
            clear(&mut bridge.device.inbound);
            clear(&mut bridge.device.outbound);
            self.put_bridge(user, bridge);
        }
        if let Some(mut port) = self.tables.ports.get(&user).cloned() {
            clear(&mut port.inbound);
            clear(&mut port.outbound);
            self.put_port(user, port);
        }
    }

    /// Removes a rule; the later ones of its chain move up.
    pub(crate) fn remove_rule(&mut self, id: Uuid) -> bool {
        let Some(rule) = self.tables.rules.remove(&id) else { return false };
        drop_owned(&mut self.index.jumps_to_chain, jump_target(&rule).as_ref(), id);
        if let Some(chain) = self.tables.chains.get_mut(&rule.chain) {
            chain.rules.retain(|other| *other != id);
        }
        self.touch(ObjectTable::Rules, id);
        self.touch(ObjectTable::Chains, rule.chain);
        true
    }

    /// Removes a port group; its members stay.
    pub(crate) fn remove_port_group(&mut self, id: Uuid) -> bool {
        let there = self.drop_port_group(id);
        self.touch(ObjectTable::PortGroups, id);
        there
    }

    pub(super) fn drop_port_group(&mut self, id: Uuid) -> bool {
        let Some(group) = self.tables.port_groups.remove(&id) else { return false };
        drop_owned(&mut self.index.groups_of_tenant, group.tenant.as_ref(), id);
        for port in &group.members {
            self.index.groups_of_port.remove(port, id);
        }
        true
    }

    /// Removes an address group.
    pub(crate) fn remove_address_group(&mut self, id: Uuid) -> bool {
        let there = self.tables.address_groups.remove(&id).is_some();
        self.touch(ObjectTable::AddressGroups, id);
        there
    }

    /// Removes a host with its memberships; the caller has checked that no port is bound to it.
    pub(crate) fn remove_host(&mut self, id: Uuid) -> bool {
        for zone in self.index.zones_of_host.list(&id) {
            self.index.zones_of_host.remove(&id, zone);
            if let Some(zone) = self.tables.tunnel_zones.get_mut(&zone) {
                zone.members.remove(&id);
            }
            self.touch(ObjectTable::TunnelZones, zone);
        }
        self.touch(ObjectTable::Hosts, id);
        self.tables.hosts.remove(&id).is_some()
    }

    /// Removes a tunnel zone with its memberships.
    pub(crate) fn remove_tunnel_zone(&mut self, id: Uuid) -> bool {
        self.touch(ObjectTable::TunnelZones, id);
        self.drop_tunnel_zone(id)
    }

    pub(super) fn drop_tunnel_zone(&mut self, id: Uuid) -> bool {
        let Some(zone) = self.tables.tunnel_zones.remove(&id) else { return false };
        self.index.zones_of_name.remove(&zone.name, id);
        for host in zone.members.keys() {
            self.index.zones_of_host.remove(host, id);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::resources::port::local_route;
    use crate::state::objects::{
        Binding, Bridge, Chain, DeviceFields, Host, Port, PortGroup, PortKind, Router, Rule, TunnelZone,
    };

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// One object of each class, with references between them: chains 1 and 2, router 3, bridge 4, ports 5 and 6, route 7,
    /// rules 8 and 9, group 10, host 11, zone 12.
    fn knot() -> ControllerState {
        let mut state = ControllerState::default();
        let tenant = Some("t".to_owned());
        for chain in [1, 2] {
            state.put_chain(id(chain), Chain { tenant: tenant.clone(), ..Chain::default() });
        }
        let device = DeviceFields {
            tenant: tenant.clone(),
            inbound: Some(id(1)),
            outbound: Some(id(2)),
            ..DeviceFields::default()
        };
        let (local_redirect, forward) = (Some(id(2)), Some(id(1)));
        state.put_router(id(3), Router { device: device.clone(), local_redirect, forward, ..Router::default() });
        state.put_bridge(id(4), Bridge { device, ..Bridge::default() });
        let port = |device: Uuid, kind| Port {
            device,
            kind,
            up: true,
            inbound: Some(id(1)),
            outbound: Some(id(2)),
            vif_id: None,
            binding: Some(Binding { host: id(11), interface: format!("i{device}") }),
            peer: None,
            tunnel_key: 1,
        };
        let mac = atoll_model::attachment::Mac([2, 0, 0, 0, 0, 1]);
        let any = Ipv4Addr::UNSPECIFIED;
        state.put_port(id(5), port(id(3), PortKind::Router { address: any, network: any, length: 0, mac }));
        state.put_port(id(6), port(id(4), PortKind::Bridge { vlan: 0 }));
        state.link(id(5), id(6));
        state.set_active(id(5), true);
        state.put_route(id(7), local_route(id(3), id(5), any));
        for (rule, chain, target) in [(8, 1, 2), (9, 2, 1)] {
            let fields = [("jumpChainId".to_owned(), serde_json::json!(id(target)))].into();
            state.put_rule(id(rule), Rule { chain: id(chain), kind: "jump".to_owned(), fields }, 0);
        }
        let members = [id(5), id(6)].into_iter().collect();
        state.put_port_group(id(10), PortGroup { tenant, members, ..PortGroup::default() });
        state.put_host(id(11), Host::default());
        let members = std::iter::once((id(11), any)).collect();
        state.put_tunnel_zone(id(12), TunnelZone { name: "z".to_owned(), members, ..TunnelZone::default() });
        state
    }

    /// Removing all objects in any order leaves no entry in an index.
    #[test]
    fn no_order_of_deletion_leaves_an_object() {
        let removals: [fn(&mut ControllerState) -> bool; 7] = [
            |state| state.remove_chain(id(1)),
            |state| state.remove_chain(id(2)),
            |state| state.remove_router(id(3)),
            |state| state.remove_bridge(id(4)),
            |state| state.remove_port(id(5)),
            |state| state.remove_rule(id(8)),
            |state| state.remove_port_group(id(10)),
        ];
        let mut orders = 0;
        permute(&mut [0, 1, 2, 3, 4, 5, 6], 0, &mut |order| {
            orders += 1;
            let mut state = knot();
            for step in order {
                removals[*step](&mut state);
            }
            assert!(state.remove_host(id(11)) && state.remove_tunnel_zone(id(12)));
            assert_eq!(*state.tables(), crate::state::Tables::default(), "{order:?}");
            assert!(state.index.is_empty() && state.active.is_empty(), "{order:?}: {:?}", state.index);
        });
        assert_eq!(orders, 5040);
    }

    fn permute(order: &mut [usize; 7], fixed: usize, act: &mut impl FnMut(&[usize; 7])) {
        if fixed == order.len() {
            return act(order);
        }
        for choice in fixed..order.len() {
            order.swap(fixed, choice);
            permute(order, fixed + 1, act);
            order.swap(fixed, choice);
        }
    }
}
