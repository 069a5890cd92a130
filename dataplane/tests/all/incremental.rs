//! Change by change, the compiler arrives where it would from scratch, and says which namespaces and ports that concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_dataplane::compile::{BridgePort, Compiled, RouterNamespace, Touched};
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use atoll_testkit::steps::Steps;
use proptest::prelude::*;
use uuid::Uuid;

const CHAIN: Uuid = Uuid::from_u128(0xc0);
const PORTS: Uuid = Uuid::from_u128(0xc1);
const ADDRESSES: Uuid = Uuid::from_u128(0xc2);
const LONE: Uuid = Uuid::from_u128(0xc3);

/// Every state of every object: three tenants with three pods each, a bridge without a tenant, chains and groups that
/// refer to them, links across tenants.
fn states() -> Vec<Object> {
    let mut all = Vec::new();
    let uplink = &provider();
    all.extend(uplink.routers.clone().into_iter().map(|(id, it)| Object::Router(id, it)));
    all.extend(uplink.ports.clone().into_iter().map(|(id, it)| Object::Port(id, it)));
    all.extend(uplink.routes.clone().into_iter().map(|(id, it)| Object::Route(id, it)));
    all.push(Object::Bridge(LONE, Bridge { up: true, inbound: Some(CHAIN), ..Bridge::default() }));
    for (tenant, n) in (1..=3).map(TenantObjects).zip(1..) {
        all.extend(tenant.objects("10.9.0.0/24"));
        let rule = |n: u128, condition, action| Rule { id: Uuid::from_u128(0xd00 + n), condition, action };
        let named =
            Condition { in_ports: Some(Test::is(vec![tenant.pod(1), tenant.gateway()])), ..Condition::default() };
        let grouped = Condition { in_port_group: Some(Test::is(PORTS)), ..Condition::default() };
        let addressed = Condition { source_group: Some(Test::is(ADDRESSES)), ..Condition::default() };
        let flows = Condition { return_flow: true, ..Condition::default() };
        let rules =
            vec![rule(0, named, RuleAction::Drop), rule(1, addressed, RuleAction::Jump { chain: tenant.inbound() })];
        all.push(Object::Chain(CHAIN, Chain { rules: rules.clone(), ..Chain::default() }));
        let rules = vec![rule(2, grouped, RuleAction::Reject), rule(3, flows, RuleAction::Accept)];
        all.push(Object::Chain(CHAIN, Chain { rules, ..Chain::default() }));
        all.push(Object::PortGroup(PORTS, PortGroup { members: vec![tenant.pod(2)], ..PortGroup::default() }));
        let members = vec![address(n).into()];
        all.push(Object::AddressGroup(ADDRESSES, AddressGroup { members, ..AddressGroup::default() }));
        let (inbound, up) = (Some(CHAIN), true);
        all.push(Object::Router(tenant.router(), Router { up, inbound, ..Router::default() }));
        all.push(Object::Router(tenant.router(), Router { up: false, ..Router::default() }));
        let arp = BTreeMap::from([(address(3), mac(3))]);
        let macs = BTreeMap::from([(mac(3), tenant.pod(3))]);
        all.push(Object::Bridge(tenant.bridge(), Bridge { up, inbound, arp, macs, ..Bridge::default() }));
        all.push(Object::Bridge(tenant.bridge(), Bridge { up: false, ..Bridge::default() }));
        // The bridge of the next tenant instead of one's own.
        let mut across = on_router(tenant.router(), "10.9.0.1/24");
        across.peer = Some(TenantObjects(tenant.0 % 3 + 1).bridge_port());
        all.push(Object::Port(tenant.gateway(), across));
        for n in 1..=3 {
            let Object::Port(id, plain) = tenant.pod_port(n) else { unreachable!() };
            let states = [
                plain.clone(),
                Port { up: false, ..plain.clone() },
                Port { vif_id: None, ..plain.clone() },
                Port { binding: None, ..plain.clone() },
                Port { inbound: Some(CHAIN), ..plain.clone() },
                Port { device: Device::Bridge { id: LONE, vlan: None }, ..plain.clone() },
                Port { binding: Some(Binding { host: HOST, interface: "shared".into() }), ..plain.clone() },
                Port { binding: Some(Binding { host: PROVIDER, interface: "far".into() }), ..plain },
            ];
            all.extend(states.map(|port| Object::Port(id, port)));
        }
    }
    all
}

fn pods(compiled: &Compiled) -> BTreeMap<Uuid, BridgePort> {
    let ports = compiled.topology().ports.keys();
    ports.filter_map(|id| Some((*id, compiled.pod(*id).ok()??))).collect()
}

fn different<T: PartialEq>(before: &BTreeMap<Uuid, T>, after: &BTreeMap<Uuid, T>) -> BTreeSet<Uuid> {
    before.keys().chain(after.keys()).filter(|id| before.get(id) != after.get(id)).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_in_any_order_lead_where_compiling_from_scratch_does(
        steps in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 0..5_u8), 1..4), 1..40)
    ) {
        let states = states();
        // From nothing, and from everything.
        let mut everything = Topology::default();
        for change in put(states.clone()) {
            everything.apply(change);
        }
        for start in [Topology::default(), everything] {
            let mut compiled = Compiled::new(start, HOST);
            for batch in &steps {
                let before: BTreeMap<Uuid, RouterNamespace> = compiled.plan().namespaces.clone();
                let ports = pods(&compiled);
                let mut alone = BTreeSet::new();
                for (which, kind) in batch {
                    let object = which.get(&states);
                    let change = if *kind == 0 { TopologyChange::Remove(object.id()) } else { TopologyChange::Put(object.clone()) };
                    alone.extend(compiled.apply(change));
                }
                let touched = if compiled.is_pending() { compiled.update() } else { Touched::default() };
                let scratch = Compiled::new(compiled.topology().clone(), HOST);
                prop_assert_eq!(compiled.plan(), scratch.plan());
                prop_assert_eq!(&touched.namespaces, &different(&before, &scratch.plan().namespaces));
                let reported: BTreeSet<_> = touched.ports.union(&alone).copied().collect();
                let different = different(&ports, &pods(&scratch));
                prop_assert!(different.is_subset(&reported), "{:?} of {:?}", different, reported);
            }
        }
    }
}

#[test]
fn a_pod_costs_no_domain_and_a_tenant_no_other_tenant() {
    let (one, two) = (TenantObjects(1), TenantObjects(2));
    let mut compiled = Compiled::new(provider(), HOST);
    let mut touched = |objects: Vec<Object>| {
        let alone: Vec<_> = put(objects).into_iter().filter_map(|change| compiled.apply(change)).collect();
        (alone, if compiled.is_pending() { compiled.update().namespaces } else { BTreeSet::new() })
    };
    let both = |tenant: TenantObjects| (vec![], BTreeSet::from([PROVIDER, tenant.router()]));
    assert_eq!(touched(one.objects("10.9.0.0/24")), both(one));
    assert_eq!(touched(two.objects("10.9.0.0/24")), both(two));
    assert_eq!(touched(vec![one.pod_port(1)]), (vec![one.pod(1)], BTreeSet::new()));
    // Once a rule names the port, its interface is part of the filter.
    let named = Condition { in_ports: Some(Test::is(vec![one.pod(2)])), ..Condition::default() };
    let rules = vec![Rule { id: Uuid::from_u128(1), condition: named, action: RuleAction::Drop }];
    let chain = Object::Chain(CHAIN, Chain { rules, ..Chain::default() });
    let bridge = Object::Bridge(one.bridge(), Bridge { up: true, inbound: Some(CHAIN), ..Bridge::default() });
    assert_eq!(touched(vec![chain, bridge]), (vec![], BTreeSet::from([one.router()])));
    assert_eq!(touched(vec![one.pod_port(2)]), (vec![], BTreeSet::from([one.router()])));
    assert_eq!(touched(vec![one.pod_port(3)]), (vec![one.pod(3)], BTreeSet::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 16, ..ProptestConfig::default() })]

    /// The kernel, too, arrives where a fresh look would bring it: after a restart nothing is left to change.
    #[test]
    fn the_kernel_holds_after_small_steps_what_a_fresh_look_wants(
        steps in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8), 1..6), 12)
    ) {
        let (states, mut topology) = (states(), provider());
        for tenant in [TenantObjects(1), TenantObjects(2)] {
            for change in put(tenant.objects("10.9.0.0/24")) {
                topology.apply(change);
            }
        }
        // The laboratory leaves the machine's namespace, with the thread.
        let failed = std::thread::spawn(move || {
            let mut lab = Lab::start(topology.clone());
            for (n, batch) in steps.iter().enumerate() {
                for (which, kind) in batch {
                    let object = which.get(&states);
                    let change = if *kind == 0 { TopologyChange::Remove(object.id()) } else { TopologyChange::Put(object.clone()) };
                    topology.apply(change.clone());
                    lab.submit(vec![change]);
                }
                let before = lab.plane().report();
                let fresh = Steps::all();
                lab.steps = Some(Arc::clone(&fresh));
                lab.restart(topology.clone());
                let (after, made) = (lab.plane().report(), fresh.made());
                // Of two that want the same interface or address the first has it; after a restart, the first by name.
                let rivals = ["interfaceName", "vifId"];
                if before.unsupported.iter().any(|one| rivals.contains(&one.field.as_str())) {
                    continue;
                }
                if !made.is_empty() || !after.errors.is_empty() || before.unsupported != after.unsupported {
                    let batch: Vec<_> = batch.iter().map(|(which, kind)| (kind, which.get(&states))).collect();
                    return Some(format!("after batch {n}: {made:#?} {batch:#?}\n{before:#?}\n{after:#?}"));
                }
            }
            None
        }).join().expect("no panic");
        prop_assert!(failed.is_none(), "{}", failed.unwrap_or_default());
    }
}
