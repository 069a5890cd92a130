//! What topologies become, without a kernel.

#![allow(clippy::unwrap_used, clippy::unnecessary_wraps, reason = "a fixture that does not fit is a failed test")]

use std::fmt::Write;

use atoll_dataplane::compile::{Compiled, KernelPlan};
use atoll_model::attachment::Mac;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use uuid::Uuid;

fn compiled(change: impl FnOnce(&mut Topology, TenantObjects)) -> Compiled {
    let (mut topology, red) = (provider(), TenantObjects(1));
    for change in put(red.objects("10.9.0.0/24")) {
        topology.apply(change);
    }
    change(&mut topology, red);
    Compiled::new(topology, HOST)
}

fn plan(change: impl FnOnce(&mut Topology, TenantObjects)) -> KernelPlan {
    compiled(change).plan().clone()
}

fn ruleset(rules: Vec<Rule>) -> String {
    let plan = plan(|t, red| t.chains.get_mut(&red.outbound()).unwrap().rules = rules);
    plan.namespaces[&TenantObjects(1).router()].ruleset.text.split_once("table ip").unwrap().1.to_owned()
}

fn rule(n: u128, condition: Condition, action: RuleAction) -> Rule {
    Rule { id: Uuid::from_u128(n), condition, action }
}

#[test]
fn a_tenant_and_its_provider() {
    let plan = plan(|_, _| {});
    let mut text = String::new();
    for (id, namespace) in &plan.namespaces {
        let parts = (&namespace.devices, &namespace.routes);
        writeln!(text, "== {id}\n{parts:#?}\n{}", namespace.ruleset.text).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_same_topology_gives_the_same_plan_and_what_changes_stays_in_its_domain() {
    let before = plan(|_, _| {});
    assert_eq!(before, plan(|_, _| {}));
    let after = plan(|t, red| t.routes.retain(|_, route| route.router != red.router()));
    assert_eq!(before.namespaces[&PROVIDER], after.namespaces[&PROVIDER]);
    assert_ne!(before.namespaces[&TenantObjects(1).router()], after.namespaces[&TenantObjects(1).router()]);
}

fn it<T>(value: T) -> Option<Test<T>> {
    Some(Test::is(value))
}

#[test]
fn every_field_of_a_condition_is_a_match_and_its_inverse_another() {
    let base = Condition::default;
    let address = |text: &str| net(text);
    let conditions = vec![
        base(),
        Condition { forward_flow: true, ..base() },
        Condition { return_flow: true, ..base() },
        Condition { in_ports: it(vec![TenantObjects(1).gateway()]), ..base() },
        Condition { in_ports: it(vec![Uuid::from_u128(9)]), ..base() },
        Condition { in_ports: it(vec![]), ..base() },
        Condition { out_ports: Some(Test { value: vec![TenantObjects(1).uplink()], inverted: true }), ..base() },
        Condition { ether_type: it(0x0800), ..base() },
        Condition { ether_type: it(0x86dd), ..base() },
        Condition { tos: it(8), ..base() },
        Condition { protocol: it(6), ..base() },
        Condition { protocol: Some(Test { value: 6, inverted: true }), ..base() },
        Condition { source: it(address("10.0.0.0/8")), ..base() },
        Condition { destination: Some(Test { value: address("10.1.2.3/16"), inverted: true }), ..base() },
        Condition { protocol: it(6), destination_port: it((80, 90)), ..base() },
        Condition { protocol: it(1), source_port: it((8, 8)), destination_port: it((0, 0)), ..base() },
        Condition { destination_port: it((53, 53)), ..base() },
        Condition { fragments: Fragments::NonHeader, ..base() },
        Condition { vlan: Some(Some(5)), ..base() },
        Condition { vlan: Some(None), ..base() },
        Condition { inverted: true, source: it(address("10.0.0.0/8")), destination_port: it((1, 2)), ..base() },
    ];
    let mut text = String::new();
    for (n, condition) in conditions.into_iter().enumerate() {
        let shown = format!("{condition:?}");
        let ruleset = ruleset(vec![rule(n as u128, condition, RuleAction::Drop)]);
        let stage = ruleset.split_once("chain outbound {").map_or("", |(_, rest)| rest);
        // What every such chain begins with: its hook, the flows of the node, uplink and mark.
        let lines: Vec<_> = stage.lines().skip(3).take_while(|line| *line != "}").skip(1).collect();
        let fields: Vec<_> = shown.split(", ").filter(|f| f.contains("Some") || f.contains(": true")).collect();
        writeln!(text, "# {}\n{}", fields.join(", "), lines.join("\n")).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn filters_around_a_translation_become_passes_around_it() {
    let leaves = || Condition { out_ports: Some(Test::is(vec![TenantObjects(1).uplink()])), ..Condition::default() };
    let from = |text: &str| Condition { source: Some(Test::is(net(text))), ..Condition::default() };
    let snat = |then| RuleAction::Snat {
        targets: vec![NatTarget {
            from: "100.64.0.6".parse().unwrap(),
            to: "100.64.0.6".parse().unwrap(),
            port_from: 1024,
            port_to: 65535,
        }],
        then,
    };
    insta::assert_snapshot!(ruleset(vec![
        rule(1, from("10.9.0.7/32"), RuleAction::Drop),
        rule(2, from("10.9.0.8/32"), RuleAction::Accept),
        rule(3, leaves(), snat(FlowAction::Continue)),
        rule(4, from("100.64.0.6/32"), RuleAction::Drop),
    ]));
}

#[test]
fn a_chain_that_jumps_in_circles_ends() {
    let (a, b) = (Uuid::from_u128(0xa1), Uuid::from_u128(0xb1));
    let jump = |n, chain| rule(n, Condition::default(), RuleAction::Jump { chain });
    let chain = |rules| Chain { rules, ..Chain::default() };
    let plan = plan(|t, red| {
        t.chains.insert(a, chain(vec![jump(1, b), rule(2, Condition::default(), RuleAction::Return)]));
        t.chains.insert(b, chain(vec![jump(3, a), jump(4, red.outbound()), jump(5, b)]));
        t.chains.get_mut(&red.outbound()).unwrap().rules.insert(0, jump(6, a));
    });
    let text = &plan.namespaces[&TenantObjects(1).router()].ruleset.text;
    // From the top to one, from that to the other, and what leads back is skipped.
    assert_eq!(text.matches("jump c_").count(), 2, "{text}");
}

#[test]
fn a_rule_between_translations_is_refused_when_it_asks_for_what_was_translated() {
    let at = |text: &str| Some(Test::is(net(text)));
    let from = || Condition { source: at("10.9.0.0/24"), ..Condition::default() };
    let to = || Condition { destination: at("10.9.0.0/24"), ..Condition::default() };
    let dnat = |then| RuleAction::Dnat {
        targets: vec![NatTarget {
            from: "10.9.0.101".parse().unwrap(),
            to: "10.9.0.101".parse().unwrap(),
            port_from: 0,
            port_to: 0,
        }],
        then,
    };
    let back = || RuleAction::ReverseSnat { then: FlowAction::Continue };
    let jumped = Uuid::from_u128(0xd1);
    let cases = [
        (back(), from(), RuleAction::Drop, false),
        (back(), to(), RuleAction::Drop, true),
        (back(), Condition::default(), RuleAction::Jump { chain: jumped }, true),
        (dnat(FlowAction::Continue), from(), RuleAction::Drop, true),
        (dnat(FlowAction::Continue), from(), dnat(FlowAction::Accept), true),
        (dnat(FlowAction::Continue), Condition::default(), RuleAction::ReverseSnat { then: FlowAction::Accept }, false),
        (dnat(FlowAction::Accept), to(), RuleAction::Drop, false),
        (RuleAction::ReverseDnat { then: FlowAction::Continue }, from(), RuleAction::Drop, true),
        (RuleAction::ReverseDnat { then: FlowAction::Continue }, to(), RuleAction::Drop, false),
    ];
    for (first, condition, between, refused) in cases {
        let plan = plan(|t, red| {
            t.chains.insert(jumped, Chain { rules: vec![rule(9, to(), RuleAction::Drop)], ..Chain::default() });
            t.chains.get_mut(&red.inbound()).unwrap().rules = vec![
                rule(1, Condition::default(), first.clone()),
                rule(2, condition.clone(), between.clone()),
                rule(3, to(), dnat(FlowAction::Accept)),
            ];
        });
        let unsupported = &plan.namespaces[&TenantObjects(1).router()].unsupported;
        let fields: Vec<_> = unsupported.iter().map(|it| (it.object.as_u128(), it.field.as_str())).collect();
        let last = matches!(first, RuleAction::Dnat { then: FlowAction::Continue, .. }).then_some((3, "position"));
        let wanted: Vec<_> = refused.then_some((2, "position")).into_iter().chain(last).collect();
        assert_eq!(fields, wanted, "{first:?}, {condition:?}, {between:?}");
    }
}

#[test]
fn a_static_arp_entry_without_a_host_is_reported() {
    let seeds = |mac: Mac, behind: Option<Uuid>| {
        let plan = plan(|t, red| {
            let bridge = t.bridges.get_mut(&red.bridge()).unwrap();
            bridge.arp.insert("10.9.0.99".parse().unwrap(), mac);
            bridge.macs.extend(behind.map(|port| (mac, port)));
            let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
            t.ports.insert(id, port);
        });
        let unsupported = plan.namespaces[&TenantObjects(1).router()].unsupported.clone();
        unsupported.into_iter().map(|it| it.field).collect::<Vec<_>>()
    };
    assert_eq!(seeds(mac(9), None), ["arp_table"]);
    assert_eq!(seeds(mac(9), Some(TenantObjects(1).pod(1))), [""; 0]);
    assert_eq!(seeds(mac(1), None), [""; 0], "the port's vif has it");
}

#[test]
fn a_group_of_addresses_is_one_set_of_a_table_however_many_rules_ask_for_it() {
    let group = Uuid::from_u128(0xe1);
    let members: Vec<std::net::IpAddr> = (0..100).map(|n| std::net::Ipv4Addr::new(198, 18, 0, n).into()).collect();
    let asks = |n: u8| Condition {
        source_group: Some(Test { value: group, inverted: n.is_multiple_of(2) }),
        tos: Some(Test::is(n)),
        ..Condition::default()
    };
    let plan = plan(|t, red| {
        t.address_groups.insert(group, AddressGroup { members, ..AddressGroup::default() });
        let rules = (0..100).map(|n| rule(n.into(), asks(n), RuleAction::Drop));
        t.chains.get_mut(&red.outbound()).unwrap().rules.splice(0..0, rules);
        t.bridges.get_mut(&red.bridge()).unwrap().inbound = Some(red.outbound());
    });
    let text = &plan.namespaces[&TenantObjects(1).router()].ruleset.text;
    assert_eq!(text.matches("198.18.0.7,").count(), 2, "one for each table: {text}");
    assert!(text.lines().map(str::len).filter(|length| *length > 1000).count() == 2, "{text}");
}

#[test]
fn jumps_that_nest_too_deep_or_lead_back_in_too_many_ways_close_and_are_reported() {
    let id = |n: usize| Uuid::from_u128(0xa000 + n as u128);
    let jump = |from: usize, to: usize| {
        rule((from * 100 + to) as u128, Condition::default(), RuleAction::Jump { chain: id(to) })
    };
    // Of `nested` chains each jumps to the next, or to all.
    let compiled = |nested: usize, all: bool| {
        let plan = plan(|t, red| {
            for n in 0..nested {
                let next = if all { 0..nested } else { n + 1..nested.min(n + 2) };
                let rules =
                    next.map(|to| jump(n, to)).chain([rule(7, Condition::default(), RuleAction::Drop)]).collect();
                t.chains.insert(id(n), Chain { rules, ..Chain::default() });
            }
            t.chains.get_mut(&red.outbound()).unwrap().rules.insert(0, jump(99, 0));
        });
        let namespace = plan.namespaces[&TenantObjects(1).router()].clone();
        let fields: std::collections::BTreeSet<_> = namespace.unsupported.into_iter().map(|u| u.field).collect();
        let closed = namespace.ruleset.text.split_once("chain outbound {").unwrap().1.lines().nth(3) == Some("drop");
        assert_eq!(closed, !fields.is_empty());
        fields.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(compiled(12, false), [""; 0]);
    assert_eq!(compiled(13, false), ["jumpChainId"]);
    assert_eq!(compiled(5000, false), ["jumpChainId"]);
    assert_eq!(compiled(6, true), [""; 0]);
    assert_eq!(compiled(20, true), ["jumpChainId"]);
}

#[test]
fn what_restricts_and_cannot_be_expressed_closes_and_the_rest_is_left_out() {
    let unknown = || Condition { other: vec!["flowLabel".into()], ..Condition::default() };
    for (action, closes) in [(RuleAction::Drop, true), (RuleAction::Reject, true), (RuleAction::Accept, false)] {
        let plan =
            plan(|t, red| t.chains.get_mut(&red.outbound()).unwrap().rules.insert(0, rule(7, unknown(), action)));
        let namespace = &plan.namespaces[&TenantObjects(1).router()];
        assert_eq!(namespace.unsupported.iter().map(|u| u.object.as_u128()).collect::<Vec<_>>(), [7]);
        let forward = namespace.ruleset.text.split_once("chain outbound {").unwrap().1;
        assert_eq!(forward.lines().nth(3) == Some("drop"), closes, "{forward}");
    }
}

#[test]
fn a_router_with_an_unknown_field_passes_nothing() {
    let plan = plan(|t, red| t.routers.get_mut(&red.router()).unwrap().other = vec!["forwardChainId".into()]);
    let text = &plan.namespaces[&TenantObjects(1).router()].ruleset.text;
    let forward = text.split_once("chain outbound {").unwrap().1;
    assert_eq!(forward.lines().nth(3), Some("drop"), "{forward}");
}

#[test]
fn a_link_that_one_end_alone_names_carries_nothing() {
    for other in [None, Some(Uuid::from_u128(9)), Some(UPLINK)] {
        let plan = plan(|t, red| t.ports.get_mut(&red.provider_port()).unwrap().peer = other);
        let devices = &plan.namespaces[&TenantObjects(1).router()].devices;
        assert!(devices.keys().all(|name| !name.starts_with("rl")), "{other:?}: {devices:?}");
    }
}

type Spoil = fn(&mut Port);

#[test]
fn ports_that_cannot_be_carried_say_why() {
    fn vif(mac: Mac, address: [u8; 4]) -> Option<Uuid> {
        Some(PortSecurity { mac, address: address.into(), unique: false }.to_vif_id())
    }
    let chain = Uuid::from_u128(0xc);

    let cases: [(&str, Spoil); 6] = [
        ("vlanId", |port| {
            if let Device::Bridge { vlan, .. } = &mut port.device {
                *vlan = Some(7);
            }
        }),
        ("inboundFilterId/outboundFilterId", |port| port.inbound = Some(Uuid::from_u128(0xc))),
        ("deviceId", |port| port.device = Device::Bridge { id: Uuid::from_u128(0xdead), vlan: None }),
        // An address of the gateway, one of host-to-pod addressing, and a MAC of many hosts.
        ("vifId", |port| port.vif_id = vif(mac(1), [10, 9, 0, 1])),
        ("vifId", |port| port.vif_id = vif(mac(1), [169, 254, 200, 1])),
        ("vifId", |port| port.vif_id = vif(Mac([3, 0, 0, 0, 9, 1]), [10, 9, 0, 101])),
    ];
    for (field, spoil) in cases {
        let red = TenantObjects(1);
        let compiled = compiled(|t, _| {
            let unknown = Condition { other: vec!["flowLabel".into()], ..Condition::default() };
            let rules = vec![rule(1, unknown, RuleAction::Drop)];
            t.chains.insert(chain, Chain { rules, ..Chain::default() });
            let Object::Port(id, mut port) = red.pod_port(1) else { unreachable!() };
            spoil(&mut port);
            t.ports.insert(id, port);
        });
        let refused = compiled.pod(red.pod(1)).unwrap_err();
        assert_eq!((refused.object, refused.field.as_str()), (red.pod(1), field));
    }
    let compiled = compiled(|t, red| {
        let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
        t.ports.insert(id, port);
    });
    let one = |host| Compiled::new(compiled.topology().clone(), host).pod(TenantObjects(1).pod(1)).unwrap();
    assert_eq!(one(HOST).unwrap().elements().len(), 4);
    assert_eq!(one(Uuid::from_u128(1)), None, "another host's port is none of our business");
}
