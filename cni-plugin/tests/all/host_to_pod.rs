//! How a node reaches its own pods, where the plugin makes it: with OVN. The sweep over its effects is in `sweep.rs`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::gc::GcCall;
use atoll_cni_plugin::kernel::{HostToPodChange, HostToPodEntry, HostToPodSide, Kernel};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::cni::version::Version;
use atoll_model::error::Classify as _;
use atoll_model::host_to_pod::HostToPodPool;
use atoll_ovn::ovsdb::Value;
use atoll_sdn_client::dialect::Dialect;
use futures_util::future::join_all;
use ipnetwork::IpNetwork;
use uuid::Uuid;

use crate::lab::{Lab, LabEngine, attachment, del};

/// The effects of the last call that have to do with it, without addresses.
fn effects(lab: &Lab) -> Vec<String> {
    let passed = lab.plan.passed();
    let ours = passed.iter().filter_map(|effect| effect.strip_prefix("kernel: host to pod: "));
    ours.map(|effect| effect.split(" 169.254.").next().unwrap_or_default().to_owned()).collect()
}

/// A call for a pod of its own.
fn pod(lab: &Lab, name: &str) -> AddCall {
    let sandbox = format!("/netns/{name}");
    lab.kernel.add_netns(&sandbox);
    AddCall { attachment: attachment(name, "eth0"), sandbox, ..lab.call() }
}

/// The Interfaces of sides.
fn connected(lab: &Lab) -> Vec<String> {
    let rows = lab.interfaces().into_iter();
    let names = rows.filter_map(|row| row.get("name").and_then(Value::text).map(str::to_owned));
    names.filter(|name| name.starts_with("ato")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_pod_makes_what_all_share_and_a_warm_one_adds_an_element_and_its_routes() {
    let lab = Lab::cold_with(LabEngine::Ovn);
    lab.add().await.expect("works");
    let shared = ["make the namespace", "load the rules", "make the link to the switch", "make the link to the node"];
    let own = ["route to", "translate", "add the routes to"];
    let firsts = ["route to", "route to"];
    assert_eq!(effects(&lab), [&["read"][..], &firsts, &shared, &["read"], &own].concat());
    assert_eq!(connected(&lab).len(), 1);
    lab.plan.reset();
    Box::pin(lab.plugin().add(&pod(&lab, "second"))).await.expect("works");
    assert_eq!(effects(&lab), [&["read"][..], &own].concat());
    let switch =
        lab.plan.passed().iter().filter(|effect| effect.starts_with("switch: ") && !effect.contains("watch")).count();
    assert_eq!(switch, 1, "one transaction of the node's Open vSwitch: {:#?}", lab.plan.passed());
    assert_eq!(lab.kernel.host_to_pod_reached().len(), 2);
    lab.plan.reset();
    lab.del().await.expect("works");
    assert_eq!(effects(&lab), ["read", "delete the routes to", "translate"]);
    assert_eq!(lab.kernel.host_to_pod_reached().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pods_that_come_at_once_make_one_side() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    for _ in 0..2 {
        lab.collect().await.expect("works");
    }
    lab.assert_no_sides("before");
    let calls: Vec<_> = (0..6).map(|n| pod(&lab, &format!("p{n}"))).collect();
    let plugins: Vec<_> = calls.iter().map(|_| lab.plugin()).collect();
    let adds = plugins.iter().zip(&calls).map(|(plugin, call)| Box::pin(plugin.add(call)));
    for answer in join_all(adds).await {
        answer.expect("works");
    }
    assert_eq!((lab.kernel.host_to_pod_sides(), connected(&lab).len()), (1, 1));
    assert_eq!(lab.kernel.host_to_pod_reached().len(), 6);
    for call in &calls {
        Box::pin(lab.plugin().del(&del(call))).await.expect("works");
    }
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn of_two_pods_with_one_derived_address_the_second_takes_the_next_one() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.add().await.expect("works");
    let derived = HostToPodPool::DEFAULT.allocate(lab.claims()[0].port, |_| false).expect("room");
    let derived = IpAddr::from(derived);
    assert_eq!(lab.kernel.host_to_pod_reached()[0].address, derived);
    lab.del().await.expect("works");
    // A pod of another subnet has it.
    let directory = atoll_node::paths::host_to_pod(&lab.config().run_dir);
    let other = HostToPodSide::of(Uuid::from_u128(7), &directory);
    let its = HostToPodEntry {
        address: derived,
        pod: [10, 9, 0, 5].into(),
        interface: "at0123456789ab".parse().expect("a name"),
    };
    let networks = vec!["10.9.0.0/24".parse().expect("a network")];
    for change in [
        HostToPodChange::Namespace,
        HostToPodChange::Rules,
        HostToPodChange::SwitchLink(Mac([2; 6]), 1442),
        HostToPodChange::NodeLink(networks, 1442),
        HostToPodChange::AddPod(its.clone()),
        HostToPodChange::AddRoutes(its.clone(), false),
    ] {
        assert_eq!(lab.kernel.change_host_to_pod(&other, &change).await, Ok(true));
    }
    for round in ["first", "again"] {
        lab.add().await.expect(round);
        let reached = lab.kernel.host_to_pod_reached();
        let ours: Vec<_> = reached.iter().filter(|entry| **entry != its).collect();
        assert!(reached.contains(&its) && ours.len() == 1 && ours[0].address != derived, "{round}: {reached:?}");
    }
    lab.del().await.expect("works");
    assert_eq!(lab.kernel.host_to_pod_reached(), [its]);
}

#[tokio::test(start_paused = true)]
async fn del_touches_the_side_of_the_pods_subnet_only() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.add().await.expect("works");
    let mut other = pod(&lab, "other");
    other.pod.namespace = Some("blue".parse().expect("valid"));
    Box::pin(lab.plugin().add(&other)).await.expect("works");
    assert_eq!(lab.kernel.host_to_pod_sides(), 2);
    lab.plan.reset();
    lab.del().await.expect("works");
    assert_eq!(effects(&lab), ["read", "delete the routes to", "translate"]);
    // What is known of the other is gone: it may be anywhere.
    std::fs::remove_dir_all(atoll_node::paths::attachments(&lab.config().run_dir)).expect("there");
    lab.plan.reset();
    Box::pin(lab.plugin().del(&del(&other))).await.expect("works");
    assert_eq!(effects(&lab).iter().filter(|effect| *effect == "read").count(), 2, "{:?}", effects(&lab));
    lab.assert_empty("after both");
}

#[tokio::test(start_paused = true)]
async fn check_names_what_a_pods_way_from_its_node_lacks() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    for (lost, expected) in [
        ("nothing", ""),
        ("routes", "the node's route to 169.254."),
        ("element", "has no element for 10."),
        ("side", "its node does not reach it: "),
    ] {
        let attached = lab.add().await.expect(lost);
        let call = crate::check::call(&lab, &attached, Version::V1_0_0);
        let entry = lab.kernel.host_to_pod_reached()[0].clone();
        match lost {
            "routes" => lab.kernel.lose_host_to_pod(&entry, true),
            "element" => lab.kernel.lose_host_to_pod(&entry, false),
            "side" => lab.kernel.forget_host_to_pod(),
            _ => {}
        }
        let answer = crate::check::check(&lab, &call).await;
        let Err(error) = answer else {
            assert_eq!(lost, "nothing");
            continue;
        };
        let text = error.to_string();
        assert!(!expected.is_empty() && text.contains(expected), "{lost}: {text}");
        let advice = error.hint().unwrap_or_default();
        assert!(advice.contains("DEL and ADD"), "{lost}: {advice}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_pod_gets_an_address_that_the_machine_routes_elsewhere() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.add().await.expect("works");
    let derived = lab.kernel.host_to_pod_reached()[0].address;
    lab.del().await.expect("works");
    // As many addresses as are reserved at the beginning of the pool, so that those of the node are never among them.
    let around = IpNetwork::new(derived, if derived.is_ipv4() { 29 } else { 125 }).expect("a length");
    lab.kernel.route_elsewhere(around);
    lab.add().await.expect("works");
    let [next] = &lab.kernel.host_to_pod_reached()[..] else { panic!("one pod") };
    assert!(!around.contains(next.address), "{next:?}");
    lab.del().await.expect("works");
    lab.kernel.route_elsewhere(HostToPodPool::DEFAULT.network().into());
    let error = lab.add().await.expect_err("no address is left").to_string();
    assert!(error.contains("each one of 169.254.128.0/17 is another pod's, or routed elsewhere"), "{error}");
    lab.kernel.forget_host_to_pod();
    let error = lab.add().await.expect_err("its own addresses are not left either").to_string();
    assert!(error.contains("this machine routes 169.254.128.0/17 elsewhere"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_the_first_pod_makes_it_anew() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.add().await.expect("works");
    let before = lab.kernel.host_to_pod_reached();
    // The files of `runDir` may be there or not; Open vSwitch keeps its Interface.
    lab.kernel.forget_host_to_pod();
    lab.add().await.expect("works");
    assert_eq!(lab.kernel.host_to_pod_reached(), before);
    lab.kernel.forget_host_to_pod();
    std::fs::remove_dir_all(atoll_node::paths::host_to_pod(&lab.config().run_dir)).expect("there");
    lab.add().await.expect("works");
    assert_eq!((lab.kernel.host_to_pod_reached(), connected(&lab).len()), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_shared_goes_with_the_second_gc_in_a_row_that_finds_no_pod() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.collect().await.expect("works");
    assert_eq!(lab.kernel.host_to_pod_sides(), 1, "it may be needed at once");
    lab.add().await.expect("works");
    lab.del().await.expect("works");
    lab.collect().await.expect("works");
    assert_eq!(lab.kernel.host_to_pod_sides(), 1, "a pod came and went since");
    lab.collect().await.expect("works");
    lab.assert_no_sides("the second one");
    // One that nothing of was made but the file.
    lab.add().await.expect("works");
    lab.kernel.forget_host_to_pod();
    lab.del().await.expect("works");
    for _ in 0..2 {
        lab.collect().await.expect("works");
    }
    lab.assert_no_sides("after a reboot");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_known_keeps_its_way_in_gc() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.add().await.expect("works");
    lab.pass(120).await;
    for _ in 0..3 {
        lab.collect_nothing().await;
        assert_eq!(lab.kernel.host_to_pod_reached().len(), 1);
    }
    lab.etcd_state.set(crate::lab::ServerState::Refusing);
    let Attachment { network, container, interface, .. } = lab.call().attachment;
    let call = GcCall { network, valid: BTreeSet::from([(container, interface)]) };
    Box::pin(lab.plugin().gc(&call)).await.expect_err("it cannot know");
    assert_eq!(lab.kernel.host_to_pod_reached().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_the_engines_agent_makes_it_the_plugin_does_not() {
    let lab = Lab::warm_with(Dialect::V5).await;
    lab.plan.reset();
    lab.add().await.expect("works");
    lab.collect_nothing().await;
    assert_eq!((effects(&lab), lab.kernel.host_to_pod_sides()), (Vec::new(), 0));
}
