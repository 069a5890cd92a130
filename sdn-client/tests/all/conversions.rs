//! Conversions keep the meaning of an object, in both directions and both dialects.

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::topology::{
    self, Binding, Condition, Device, FlowAction, Fragments, NatTarget, RouteAction, RuleAction, Test,
};
use atoll_sdn_client::api::{self, Bridge, Chain, Port, Route, Router, Rule};
use atoll_sdn_client::dialect::Dialect;
use ipnetwork::Ipv4Network;
use serde_json::Value;
use uuid::Uuid;

use crate::fixtures::text;
use crate::reading::{ToTopology as _, chain_to_topology, default_fragments, rule_to_topology};

const DIALECTS: [Dialect; 2] = [Dialect::V1, Dialect::V5];

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn net(text: &str) -> Ipv4Network {
    text.parse().expect("network")
}

/// Through the bytes of a request, as a server reads it.
fn travel<T: serde::Serialize + serde::de::DeserializeOwned>(object: &T) -> T {
    api::read(Value::Object(api::sparse(object)).to_string().as_bytes()).expect("own text")
}

/// Gives the unset fields of a port the values that a server of this dialect shows.
fn show_port(dialect: Dialect, port: &mut Port) {
    let vlan = Dialect::vlan(port.vlan_id).map(i32::from);
    let is_router_port = port.kind.as_deref().is_some_and(|kind| kind.ends_with("Router"));
    match dialect {
        Dialect::V1 if is_router_port => port.vlan_id = Some(-1),
        Dialect::V1 => {
            port.vlan_id = vlan;
            port.network_length = Some(-1);
        }
        // 5.x has no such keys in the port of the other kind; null reads the same.
        Dialect::V5 => port.vlan_id = if is_router_port { None } else { Some(vlan.unwrap_or(0)) },
    }
}

/// Gives the unset fields of a rule the values that a server of this dialect shows.
fn show_rule(dialect: Dialect, rule: &mut Rule) {
    if dialect == Dialect::V1 {
        rule.nw_proto.get_or_insert(0);
        rule.nw_tos.get_or_insert(0);
    }
}

fn actions() -> Vec<RuleAction> {
    let targets = vec![
        NatTarget { from: Ipv4Addr::new(1, 2, 3, 4), to: Ipv4Addr::new(1, 2, 3, 5), port_from: 1024, port_to: 65535 },
        NatTarget { from: Ipv4Addr::new(9, 9, 9, 9), to: Ipv4Addr::new(9, 9, 9, 9), port_from: 0, port_to: 0 },
    ];
    let mut actions = vec![
        RuleAction::Accept,
        RuleAction::Drop,
        RuleAction::Reject,
        RuleAction::Return,
        RuleAction::Jump { chain: id(77) },
        RuleAction::Other { kind: "l2_transform".to_owned() },
    ];
    for then in [FlowAction::Accept, FlowAction::Continue, FlowAction::Return] {
        actions.push(RuleAction::Snat { targets: targets.clone(), then });
        actions.push(RuleAction::Dnat { targets: targets[..1].to_vec(), then });
        actions.push(RuleAction::ReverseSnat { then });
        actions.push(RuleAction::ReverseDnat { then });
    }
    actions
}

/// Every field of a condition by itself, plain and inverted, and all of them together.
fn conditions() -> Vec<Condition> {
    let mut conditions = vec![
        Condition::default(),
        Condition { inverted: true, ..Condition::default() },
        Condition { forward_flow: true, ..Condition::default() },
        Condition { return_flow: true, ..Condition::default() },
        Condition { vlan: Some(None), ..Condition::default() },
        Condition { vlan: Some(Some(7)), ..Condition::default() },
    ];
    for fragments in [Fragments::Any, Fragments::Header, Fragments::NonHeader, Fragments::Unfragmented] {
        conditions.push(Condition { fragments, ..Condition::default() });
    }
    for inverted in [false, true] {
        let every = Condition {
            inverted: true,
            forward_flow: true,
            return_flow: true,
            in_ports: Some(Test { value: vec![id(1), id(2)], inverted }),
            out_ports: Some(Test { value: vec![id(3)], inverted }),
            in_port_group: Some(Test { value: id(4), inverted }),
            out_port_group: Some(Test { value: id(5), inverted }),
            source_group: Some(Test { value: id(6), inverted }),
            destination_group: Some(Test { value: id(7), inverted }),
            traversed: Some(Test { value: id(8), inverted }),
            ether_type: Some(Test { value: 0x0800, inverted }),
            ether_source: Some(Test { value: (Mac([2, 0, 0, 0, 0, 1]), Mac([0xff, 0xff, 0xf0, 0, 0, 0])), inverted }),
            ether_destination: Some(Test { value: (Mac([2, 0, 0, 0, 0, 2]), Mac([0xff; 6])), inverted }),
            vlan: Some(Some(4094)),
            tos: Some(Test { value: 8, inverted }),
            protocol: Some(Test { value: 6, inverted }),
            source: Some(Test { value: net("10.1.0.0/16"), inverted }),
            destination: Some(Test { value: net("10.2.3.4/32"), inverted }),
            source_port: Some(Test { value: (1, 65535), inverted }),
            destination_port: Some(Test { value: (80, 80), inverted }),
            fragments: Fragments::Header,
            other: vec![],
        };
        macro_rules! alone {
            ($($field:ident),*) => { $( conditions.push(Condition { $field: every.$field.clone(), ..Condition::default() }); )* };
        }
        alone!(
            in_ports,
            out_ports,
            in_port_group,
            out_port_group,
            source_group,
            destination_group,
            traversed,
            ether_type,
            ether_source,
            ether_destination,
            tos,
            protocol,
            source,
            destination,
            source_port,
            destination_port
        );
        conditions.push(every);
    }
    conditions
}

#[test]
fn every_rule_survives_the_way_to_the_server_and_back() {
    let mut count = 0;
    for dialect in DIALECTS {
        for action in actions() {
            for condition in conditions() {
                let rule = topology::Rule { id: id(1), condition, action: action.clone() };
                let arrived = travel(&Rule::from_topology(id(2), 3, &rule));
                assert_eq!((arrived.chain_id, arrived.position), (Some(id(2)), Some(3)));
                assert_eq!(rule_to_topology(&arrived, dialect).expect("own rule"), rule);
                // And as the server shows it, with its sentinels.
                let mut shown = arrived;
                show_rule(dialect, &mut shown);
                let shown: Rule = api::read(Value::Object(api::full(&shown)).to_string().as_bytes()).expect("shown");
                assert_eq!(rule_to_topology(&shown, dialect).expect("own rule"), rule);
                count += 1;
            }
        }
    }
    assert_eq!(count, 2 * 18 * (10 + 2 * 17), "the enumeration is complete");
}

#[test]
fn ports_routes_and_devices_survive_it_too() {
    let devices = [
        Device::Bridge { id: id(1), vlan: None },
        Device::Bridge { id: id(1), vlan: Some(100) },
        Device::Router { id: id(1), address: net("10.0.0.1/24"), mac: None },
        Device::Router { id: id(1), address: net("10.0.0.1/30"), mac: Some(Mac([0xac, 0xca, 0xba, 1, 2, 3])) },
    ];
    for device in devices {
        for bits in 0..64_u32 {
            let some = |bit: u32, n: u128| (bits & (1 << bit) != 0).then(|| id(n));
            let port = topology::Port {
                device: device.clone(),
                up: bits & 1 == 0,
                inbound: some(1, 11),
                outbound: some(2, 12),
                peer: some(3, 13),
                binding: some(4, 14).map(|host| Binding { host, interface: "at0".to_owned() }),
                vif_id: some(5, 15),
                other: Vec::new(),
            };
            for dialect in DIALECTS {
                let mut arrived = travel(&Port::from_topology(id(9), &port));
                assert_eq!(arrived.to_topology().expect("own port"), (id(9), port.clone()));
                show_port(dialect, &mut arrived);
                assert_eq!(arrived.to_topology().expect("shown port"), (id(9), port.clone()), "{dialect}");
            }
        }
    }
    let actions = [
        RouteAction::Forward { port: id(3), gateway: None },
        RouteAction::Forward { port: id(3), gateway: Some(Ipv4Addr::new(10, 0, 0, 1)) },
        RouteAction::Local { port: id(3) },
        RouteAction::BlackHole,
        RouteAction::Reject,
    ];
    for action in actions {
        let (source, destination) = (net("0.0.0.0/0"), net("10.0.0.0/8"));
        let route = topology::Route { router: id(1), source, destination, action, weight: 100 };
        let arrived = travel(&Route::from_topology(id(2), &route, Dialect::V5));
        assert_eq!(arrived.to_topology().expect("own route"), (id(2), route));
    }
    let router = topology::Router {
        tenant: "t".to_owned(),
        name: "n".to_owned(),
        up: false,
        inbound: Some(id(1)),
        outbound: None,
        other: Vec::new(),
    };
    assert_eq!(travel(&Router::from_topology(id(2), &router)).to_topology().expect("own"), (id(2), router));
    let bridge = topology::Bridge { up: true, outbound: Some(id(3)), ..topology::Bridge::default() };
    assert_eq!(travel(&Bridge::from_topology(id(2), &bridge)).to_topology().expect("own"), (id(2), bridge));
    let chain = topology::Chain { tenant: "t".to_owned(), name: "n".to_owned(), rules: vec![] };
    let arrived = chain_to_topology(&travel(&Chain::from_topology(id(2), &chain)), &[], Dialect::V5);
    assert_eq!(arrived.expect("own"), (id(2), chain));
}

#[test]
fn local_routes_are_read_as_normal_ones_on_1_9() {
    let action = RouteAction::Local { port: id(3) };
    let (source, destination) = (net("0.0.0.0/0"), net("10.0.0.1/32"));
    let route = topology::Route { router: id(1), source, destination, action, weight: 0 };
    let (old, new) =
        (Route::from_topology(id(2), &route, Dialect::V1), Route::from_topology(id(2), &route, Dialect::V5));
    assert_eq!((old.kind.as_deref(), old.next_hop_gateway), (Some("Normal"), None));
    assert_eq!((new.kind.as_deref(), new.next_hop_gateway.as_deref()), (Some("Local"), Some("255.255.255.255")));
}

#[test]
fn what_servers_show_is_understood() {
    let port = |name| api::read::<Port>(&text(name)).expect("port").to_topology().expect("meaning").1;
    assert_eq!(port("port.router.1.9.json"), port("port.router.5.json"));
    assert_eq!(port("port.bridge.1.9.json"), port("port.bridge.5.json"));
    assert_eq!(
        port("port.bridge.5.json").device,
        Device::Bridge { id: id(0x0a57_a100_0000_4000_8000_0000_0000_0002), vlan: None }
    );

    let rule: Rule = api::read(&text("rule.snat.1.9.json")).expect("rule");
    let condition = rule_to_topology(&rule, Dialect::V1).expect("meaning").condition;
    assert_eq!((condition.protocol, condition.tos, condition.in_ports), (None, None, None), "0 and null are unset");
    // The same bytes from a 5.x server would mean protocol 0.
    assert_eq!(rule_to_topology(&rule, Dialect::V5).expect("meaning").condition.protocol, Some(Test::is(0)));

    let rule: Rule = api::read(&text("rule.drop.5.json")).expect("rule");
    let condition = rule_to_topology(&rule, Dialect::V5).expect("meaning").condition;
    assert_eq!(condition.destination_port, Some(Test::is((80, 65535))), "an open end");
    assert_eq!(condition.source, Some(Test { value: net("10.1.0.0/16"), inverted: true }));
    assert_eq!(
        condition.ether_source,
        Some(Test { value: (Mac([2, 0, 0, 0, 0, 1]), Mac([0xff, 0xff, 0xff, 0, 0, 0])), inverted: true })
    );
    let route: Route = api::read(&text("route.local.5.json")).expect("route");
    assert!(matches!(route.to_topology().expect("meaning").1.action, RouteAction::Local { .. }));
}

#[test]
fn the_newer_name_of_the_port_group_is_understood() {
    let text = format!(r#"{{"id":"{}","type":"drop","inPortGroup":"{}","invInPortGroup":true}}"#, id(1), id(2));
    let rule: Rule = api::read(text.as_bytes()).expect("rule");
    let condition = rule_to_topology(&rule, Dialect::V5).expect("meaning").condition;
    assert_eq!(condition.in_port_group, Some(Test { value: id(2), inverted: true }));
    assert!(condition.other.is_empty());
}

#[test]
fn a_restriction_that_cannot_be_expressed_is_kept_by_name() {
    let rule = Rule {
        id: Some(id(1)),
        kind: Some("drop".to_owned()),
        match_nw_dst_rewritten: true,
        icmp_data_src_ip_address: Some("10.0.0.0".to_owned()),
        icmp_data_dst_ip_address: Some("10.0.0.0".to_owned()),
        port_group: Some(id(2)),
        in_port_group: Some(id(3)),
        ..Rule::default()
    };
    let other = rule_to_topology(&rule, Dialect::V5).expect("meaning").condition.other;
    assert_eq!(other, ["portGroup", "matchNwDstRewritten", "icmpDataSrcIpAddress", "icmpDataDstIpAddress"]);
}

#[test]
fn the_default_fragment_policy_depends_on_the_rule() {
    let rule = |text: &str| default_fragments(&api::read::<Rule>(text.as_bytes()).expect("rule"));
    assert_eq!(rule(r#"{"type":"drop"}"#), Fragments::Any);
    assert_eq!(rule(r#"{"type":"drop","tpDst":{"start":80,"end":80}}"#), Fragments::Header);
    let target = r#""natTargets":[{"addressFrom":"1.1.1.1","addressTo":"1.1.1.1","portFrom":0,"portTo":0}]"#;
    assert_eq!(rule(&format!(r#"{{"type":"dnat",{target}}}"#)), Fragments::Any, "a floating address");
    assert_eq!(rule(&format!(r#"{{"type":"dnat","tpDst":{{"start":80}},{target}}}"#)), Fragments::Unfragmented);
    assert_eq!(rule(r#"{"type":"snat"}"#), Fragments::Unfragmented);
    assert_eq!(rule(r#"{"type":"rev_snat"}"#), Fragments::Any);
}

#[test]
fn a_field_that_makes_no_sense_is_named() {
    let port = |text: &str| api::read::<Port>(text.as_bytes()).expect("shape").to_topology().expect_err(text).field;
    let (own, device) = (id(1), id(2));
    let router = format!(r#""id":"{own}","deviceId":"{device}","type":"Router""#);
    assert_eq!(port("{}"), "id");
    assert_eq!(port(&format!(r#"{{"id":"{own}"}}"#)), "deviceId");
    assert_eq!(port(&format!(r#"{{"id":"{own}","deviceId":"{device}","type":"Vxlan"}}"#)), "type");
    assert_eq!(port(&format!("{{{router}}}")), "portAddress");
    assert_eq!(port(&format!(r#"{{{router},"portAddress":"10.0.0.300"}}"#)), "portAddress");
    assert_eq!(port(&format!(r#"{{{router},"portAddress":"10.0.0.3","networkLength":33}}"#)), "networkLength");
    let mac = r#""portAddress":"10.0.0.3","networkLength":24,"portMac":"zz""#;
    assert_eq!(port(&format!("{{{router},{mac}}}")), "portMac");

    let rule = |text: &str| {
        let text = format!(r#"{{"id":"{own}",{text}}}"#);
        rule_to_topology(&api::read::<Rule>(text.as_bytes()).expect("shape"), Dialect::V5).expect_err(&text).field
    };
    assert_eq!(rule(r#""position":1"#), "type");
    assert_eq!(rule(r#""type":"jump""#), "jumpChainId");
    assert_eq!(rule(r#""type":"snat","flowAction":"accept""#), "natTargets");
    assert_eq!(rule(r#""type":"rev_snat""#), "flowAction");
    assert_eq!(rule(r#""type":"drop","nwProto":256"#), "nwProto");
    assert_eq!(rule(r#""type":"drop","nwProto":-1"#), "nwProto");
    assert_eq!(rule(r#""type":"drop","dlSrc":"02:00:00:00:00:01","dlSrcMask":"ffff.ff00""#), "dlSrcMask");
    assert_eq!(rule(r#""type":"drop","nwSrcAddress":"::1","nwSrcLength":64"#), "nwSrcAddress");
    assert_eq!(rule(r#""type":"drop","tpDst":{"start":-1,"end":70000}"#), "tpDst");
    assert_eq!(rule(r#""type":"drop","fragmentPolicy":"some""#), "fragmentPolicy");
    assert_eq!(rule(r#""type":"drop","vlan":70000"#), "vlan");

    let route = |text: &str| {
        let text = format!(r#"{{"id":"{own}","routerId":"{device}",{text}}}"#);
        api::read::<Route>(text.as_bytes()).expect("shape").to_topology().expect_err(&text).field
    };
    assert_eq!(route(r#""type":"Fip64""#), "type");
    assert_eq!(route(r#""type":"Normal""#), "nextHopPort");
    assert_eq!(route(r#""type":"Reject""#), "srcNetworkAddr");
    assert_eq!(route(r#""type":"Reject","weight":-1"#), "weight");
}
