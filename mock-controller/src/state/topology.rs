//! The state as `atoll_model::topology`, for a data plane: the whole topology once, then its changes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::topology::{
    self as model, Condition, FlowAction, Fragments, NatTarget, Object, RouteAction, RuleAction, Test, Topology,
    TopologyChange,
};
use ipnetwork::Ipv4Network;
use serde_json::Value;
use uuid::Uuid;

use super::objects::{Bridge, DeviceFields, Port, PortKind, Route, RouteKind, Router, Rule};
use super::{ControllerState, ObjectMap, ObjectTable};
use crate::body::parse_uuid;

/// The tables that a topology is made of. Rules travel with their chain; hosts and zones are not part of it.
const TOPOLOGY: [ObjectTable; 7] = [
    ObjectTable::Routers,
    ObjectTable::Bridges,
    ObjectTable::Ports,
    ObjectTable::Routes,
    ObjectTable::Chains,
    ObjectTable::PortGroups,
    ObjectTable::AddressGroups,
];

impl ControllerState {
    /// The whole topology as it is.
    pub(crate) fn topology(&self) -> Topology {
        let mut topology = Topology::default();
        for object in self.all().into_iter().filter_map(|(table, id)| self.object(table, id)) {
            topology.apply(TopologyChange::Put(object));
        }
        topology
    }

    /// Replaces the state `old`: every object of either counts as touched.
    pub(crate) fn replaces(&mut self, old: &Self) {
        let mut touched = old.touched.clone();
        touched.extend(old.all());
        touched.extend(self.all());
        self.touched = touched;
    }

    fn all(&self) -> Vec<(ObjectTable, Uuid)> {
        fn of<V>(table: ObjectTable, rows: &ObjectMap<V>) -> impl Iterator<Item = (ObjectTable, Uuid)> + '_ {
            rows.keys().map(move |id| (table, *id))
        }
        let t = &self.tables;
        of(ObjectTable::Routers, &t.routers)
            .chain(of(ObjectTable::Bridges, &t.bridges))
            .chain(of(ObjectTable::Ports, &t.ports))
            .chain(of(ObjectTable::Routes, &t.routes))
            .chain(of(ObjectTable::Chains, &t.chains))
            .chain(of(ObjectTable::Rules, &t.rules))
            .chain(of(ObjectTable::PortGroups, &t.port_groups))
            .chain(of(ObjectTable::AddressGroups, &t.address_groups))
            .chain(of(ObjectTable::Hosts, &t.hosts))
            .chain(of(ObjectTable::TunnelZones, &t.tunnel_zones))
            .chain([(ObjectTable::ReadOnly, Uuid::nil())])
            .collect()
    }

    /// What was touched since the last [`ControllerState::take_touched`], in order.
    pub(crate) fn touched(&self) -> &[(ObjectTable, Uuid)] {
        &self.touched
    }

    /// What was touched since the last call, each object once, in the order in which they were first touched.
    pub(crate) fn take_touched(&mut self) -> Vec<(ObjectTable, Uuid)> {
        let mut seen = BTreeSet::new();
        std::mem::take(&mut self.touched).into_iter().filter(|one| seen.insert(*one)).collect()
    }

    /// The changes from a follower's state to the present one.
    pub(crate) fn changes(&self, touched: &[(ObjectTable, Uuid)]) -> Vec<TopologyChange> {
        let mut changes = Vec::new();
        for (table, id) in touched.iter().filter(|(table, _)| TOPOLOGY.contains(table)) {
            if let Some(object) = self.object(*table, *id) {
                changes.push(TopologyChange::Put(object));
            } else {
                changes.push(TopologyChange::Remove(*id));
                // A removal does not name its kind: another kind's object of the same id is put back.
                changes.extend(TOPOLOGY.iter().filter_map(|other| self.object(*other, *id)).map(TopologyChange::Put));
            }
        }
        changes
    }

    fn object(&self, table: ObjectTable, id: Uuid) -> Option<Object> {
        let t = &self.tables;
        Some(match table {
            ObjectTable::Routers => Object::Router(id, model_router(t.routers.get(&id)?)),
            ObjectTable::Bridges => Object::Bridge(id, model_bridge(t.bridges.get(&id)?)),
            ObjectTable::Ports => Object::Port(id, model_port(t.ports.get(&id)?)),
            ObjectTable::Routes => Object::Route(id, model_route(t.routes.get(&id)?)),
            ObjectTable::Chains => {
                let chain = t.chains.get(&id)?;
                let rules = chain.rules.iter().filter_map(|id| Some(model_rule(*id, t.rules.get(id)?))).collect();
                let (tenant, name) = (text(chain.tenant.as_ref()), text(chain.name.as_ref()));
                Object::Chain(id, model::Chain { tenant, name, rules })
            }
            ObjectTable::PortGroups => {
                let group = t.port_groups.get(&id)?;
                let members = group.members.iter().copied().collect();
                let (name, stateful) = (text(group.name.as_ref()), group.stateful);
                Object::PortGroup(id, model::PortGroup { name, stateful, members })
            }
            ObjectTable::AddressGroups => {
                let group = t.address_groups.get(&id)?;
                let members = group.members.iter().copied().collect();
                Object::AddressGroup(id, model::AddressGroup { name: text(group.name.as_ref()), members })
            }
            ObjectTable::Rules | ObjectTable::Hosts | ObjectTable::TunnelZones | ObjectTable::ReadOnly => return None,
        })
    }
}

fn text(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

fn owner(device: &DeviceFields) -> (String, String) {
    (text(device.tenant.as_ref()), text(device.name.as_ref()))
}

fn model_bridge(bridge: &Bridge) -> model::Bridge {
    // The patterns name every field, here and below, so that a new field is a compile error.
    let Bridge { device, disable_anti_spoof, macs, arp } = bridge;
    let DeviceFields { tenant: _, name: _, up, inbound, outbound } = *device;
    let (tenant, name) = owner(device);
    let other = named([
        (*disable_anti_spoof, "disableAntiSpoof"),
        (macs.iter().any(|(vlan, ..)| *vlan != 0), "vlans/mac_table"),
    ]);
    let untagged = macs.iter().filter(|(vlan, ..)| *vlan == 0);
    let macs = untagged.map(|(_, mac, port)| (*mac, *port)).collect();
    let arp = arp.iter().map(|(address, mac)| (*address, *mac)).collect();
    model::Bridge { tenant, name, up, inbound, outbound, macs, arp, other }
}

/// The names of what is there.
fn named<const N: usize>(fields: [(bool, &str); N]) -> Vec<String> {
    fields.into_iter().filter(|(there, _)| *there).map(|(_, name)| name.to_owned()).collect()
}

fn model_router(router: &Router) -> model::Router {
    let Router { device, as_number, local_redirect, forward } = router;
    let DeviceFields { tenant: _, name: _, up, inbound, outbound } = *device;
    let (tenant, name) = owner(device);
    let other = named([
        (as_number.is_some_and(|number| number > 0), "asNumber"),
        (local_redirect.is_some(), "localRedirectChainId"),
        (forward.is_some(), "forwardChainId"),
    ]);
    model::Router { tenant, name, up, inbound, outbound, other }
}

fn model_port(port: &Port) -> model::Port {
    // A tunnel key has no effect on one machine.
    let Port { device, kind, up, inbound, outbound, vif_id, binding, peer, tunnel_key: _ } = port;
    let device = match *kind {
        PortKind::Bridge { vlan } => model::Device::Bridge { id: *device, vlan: (vlan != 0).then_some(vlan) },
        PortKind::Router { address, network: _, length, mac } => {
            model::Device::Router { id: *device, address: network(address, length), mac: Some(mac) }
        }
    };
    let binding = binding.as_ref().map(|b| model::Binding { host: b.host, interface: b.interface.clone() });
    let (up, inbound, outbound, peer, vif_id) = (*up, *inbound, *outbound, *peer, *vif_id);
    // Other objects that a port could refer to are not built, and are refused.
    model::Port { device, up, inbound, outbound, peer, binding, vif_id, other: Vec::new() }
}

fn model_route(route: &Route) -> model::Route {
    let Route { router, kind, source, destination, port, gateway, weight, attributes: _ } = route;
    let action = match (kind, *port) {
        (RouteKind::Normal, Some(port)) => RouteAction::Forward { port, gateway: *gateway },
        (RouteKind::Local, Some(port)) => RouteAction::Local { port },
        // A route to nowhere forwards nothing.
        (RouteKind::BlackHole | RouteKind::Normal | RouteKind::Local, _) => RouteAction::BlackHole,
        (RouteKind::Reject, _) => RouteAction::Reject,
    };
    model::Route {
        router: *router,
        source: network(source.0, source.1),
        destination: network(destination.0, destination.1),
        action,
        weight: *weight,
    }
}

fn network(address: Ipv4Addr, length: u8) -> Ipv4Network {
    Ipv4Network::new(address, length.min(32)).expect("a length of at most 32 is a network")
}

// ---- rules: from the fields as the API names them ----------------------------------------------------------------

fn model_rule(id: Uuid, rule: &Rule) -> model::Rule {
    let fields = Fields(rule);
    let then = match fields.text("flowAction") {
        Some("accept") => FlowAction::Accept,
        Some("return") => FlowAction::Return,
        _ => FlowAction::Continue,
    };
    let action = match rule.kind.as_str() {
        "accept" => RuleAction::Accept,
        "drop" => RuleAction::Drop,
        "reject" => RuleAction::Reject,
        "return" => RuleAction::Return,
        "jump" => match super::jump_target(rule) {
            Some(chain) => RuleAction::Jump { chain },
            None => RuleAction::Other { kind: rule.kind.clone() },
        },
        "snat" => RuleAction::Snat { targets: fields.targets(), then },
        "dnat" => RuleAction::Dnat { targets: fields.targets(), then },
        "rev_snat" => RuleAction::ReverseSnat { then },
        "rev_dnat" => RuleAction::ReverseDnat { then },
        other => RuleAction::Other { kind: other.to_owned() },
    };
    model::Rule { id, condition: fields.condition(), action }
}

struct Fields<'a>(&'a Rule);

impl Fields<'_> {
    fn raw(&self, name: &str) -> Option<&Value> {
        self.0.fields.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).and_then(Value::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        self.raw(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn int<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        self.raw(name).and_then(Value::as_u64).and_then(|n| T::try_from(n).ok())
    }

    fn test<T>(&self, value: Option<T>, inverse: &str) -> Option<Test<T>> {
        value.map(|value| Test { value, inverted: self.flag(inverse) })
    }

    fn uuid(&self, name: &str) -> Option<Uuid> {
        self.text(name).and_then(parse_uuid)
    }

    fn uuids(&self, name: &str) -> Option<Vec<Uuid>> {
        let list = self.raw(name)?.as_array()?;
        Some(list.iter().filter_map(|id| id.as_str().and_then(parse_uuid)).collect())
    }

    fn network(&self, address: &str, length: &str) -> Option<Ipv4Network> {
        let address = self.text(address)?.parse().ok()?;
        Some(network(address, self.int(length).unwrap_or(32)))
    }

    fn mac(&self, name: &str, mask: &str) -> Option<(Mac, Mac)> {
        let mac = self.text(name)?.parse().ok()?;
        Some((mac, self.text(mask).and_then(mask_bytes).unwrap_or(Mac([0xff; 6]))))
    }

    fn ports(&self, name: &str) -> Option<(u16, u16)> {
        let range = self.raw(name)?;
        let bound = |key: &str| range.get(key).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
        Some((bound("start").unwrap_or(0), bound("end").unwrap_or(u16::MAX)))
    }

    fn targets(&self) -> Vec<NatTarget> {
        let list = self.raw("natTargets").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(nat_target).collect()
    }

    fn condition(&self) -> Condition {
        let vlan = if self.flag("noVlan") { Some(None) } else { self.int("vlan").map(Some) };
        Condition {
            inverted: self.flag("condInvert"),
            forward_flow: self.flag("matchForwardFlow"),
            return_flow: self.flag("matchReturnFlow"),
            in_ports: self.test(self.uuids("inPorts"), "invInPorts"),
            out_ports: self.test(self.uuids("outPorts"), "invOutPorts"),
            in_port_group: self
                .test(self.uuid("portGroup"), "invPortGroup")
                .or_else(|| self.test(self.uuid("inPortGroup"), "invInPortGroup")),
            out_port_group: self.test(self.uuid("outPortGroup"), "invOutPortGroup"),
            source_group: self.test(self.uuid("ipAddrGroupSrc"), "invIpAddrGroupSrc"),
            destination_group: self.test(self.uuid("ipAddrGroupDst"), "invIpAddrGroupDst"),
            traversed: self.test(self.uuid("traversedDevice"), "invTraversedDevice"),
            ether_type: self.test(self.int("dlType"), "invDlType"),
            ether_source: self.test(self.mac("dlSrc", "dlSrcMask"), "invDlSrc"),
            ether_destination: self.test(self.mac("dlDst", "dlDstMask"), "invDlDst"),
            vlan,
            tos: self.test(self.int("nwTos"), "invNwTos"),
            protocol: self.test(self.int("nwProto"), "invNwProto"),
            source: self.test(self.network("nwSrcAddress", "nwSrcLength"), "invNwSrc"),
            destination: self.test(self.network("nwDstAddress", "nwDstLength"), "invNwDst"),
            source_port: self.test(self.ports("tpSrc"), "invTpSrc"),
            destination_port: self.test(self.ports("tpDst"), "invTpDst"),
            fragments: match self.text("fragmentPolicy") {
                Some("header") => Fragments::Header,
                Some("nonheader") => Fragments::NonHeader,
                Some("unfragmented") => Fragments::Unfragmented,
                _ => Fragments::Any,
            },
            other: self.other(),
        }
    }

    /// Match fields that the model cannot express, so that a data plane can report them instead of ignoring them.
    fn other(&self) -> Vec<String> {
        let mut other: Vec<String> = ["icmpDataSrcIpAddress", "icmpDataDstIpAddress"]
            .into_iter()
            .filter(|name| self.raw(name).is_some())
            .chain(["matchNwDstRewritten"].into_iter().filter(|name| self.flag(name)))
            .map(str::to_owned)
            .collect();
        if self.raw("portGroup").is_some() && self.raw("inPortGroup").is_some() {
            other.push("inPortGroup".to_owned());
        }
        other
    }
}

fn nat_target(target: &Value) -> Option<NatTarget> {
    let address = |name: &str| target.get(name)?.as_str()?.parse().ok();
    let port = |name: &str| target.get(name).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    Some(NatTarget {
        from: address("addressFrom")?,
        to: address("addressTo")?,
        port_from: port("portFrom"),
        port_to: port("portTo"),
    })
}

/// `ffff.ff00.0000` as six bytes.
fn mask_bytes(mask: &str) -> Option<Mac> {
    let mut bytes = [0_u8; 6];
    let mut words = mask.split('.');
    for pair in bytes.chunks_exact_mut(2) {
        pair.copy_from_slice(&u16::from_str_radix(words.next()?, 16).ok()?.to_be_bytes());
    }
    words.next().is_none().then_some(Mac(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::rule_fields::examples;

    /// Labels and counters, which have no effect on packets.
    const LABELS: [&str; 2] = ["meterName", "properties"];

    #[test]
    fn every_field_that_a_rule_can_have_reaches_the_data_plane() {
        let rule = |fields: &[(&str, Value)]| {
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            model_rule(Uuid::nil(), &Rule { chain: Uuid::nil(), kind: "drop".to_owned(), fields })
        };
        for (name, value) in examples() {
            let partner = match name {
                "invNwSrc" | "nwSrcLength" => Some("nwSrcAddress"),
                "invNwDst" | "nwDstLength" => Some("nwDstAddress"),
                "dlSrcMask" => Some("dlSrc"),
                "dlDstMask" => Some("dlDst"),
                _ => None,
            };
            let partner = partner.map(str::to_owned).or_else(|| {
                let rest = name.strip_prefix("inv")?;
                Some(format!("{}{}", rest[..1].to_lowercase(), &rest[1..]))
            });
            let partner = examples().into_iter().filter(|(other, _)| Some(*other) == partner.as_deref());
            let without: Vec<_> = partner.collect();
            let with: Vec<_> = without.iter().cloned().chain([(name, value)]).collect();
            // A field that the model cannot express is named once, whatever its length or sign.
            let part_of_another =
                name.starts_with("icmpData") && name.ends_with("Length") || name.starts_with("invIcmp");
            let means_nothing = LABELS.contains(&name) || part_of_another;
            assert_eq!(rule(&with) == rule(&without), means_nothing, "{name}");
        }
        let fragments = rule(&[("fragmentPolicy", json!("header"))]);
        assert_ne!(fragments, rule(&[]));
    }
}
