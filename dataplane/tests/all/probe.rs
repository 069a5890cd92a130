//! The probe: each refused request is reported, with what needs it and what to do; and there is no kind of
//! request that a data plane makes and the probe does not.

#![allow(clippy::unwrap_used, reason = "a fixture that does not fit is a failed test")]

use std::collections::BTreeSet;

use atoll_dataplane::{Missing, probe, probe_with};
use atoll_model::topology::*;
use atoll_testkit::plane::*;
use atoll_testkit::steps::Steps;
use uuid::Uuid;

/// The kind of a request: its first two words, and of a setting its path.
fn kind(step: &str) -> String {
    if step.starts_with('/') {
        return step.to_owned();
    }
    step.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn kinds(steps: &Steps) -> BTreeSet<String> {
    steps.made().iter().map(|step| kind(step)).collect()
}

fn is_complete(missing: &Missing) -> bool {
    let Missing { what, found, needed_for, remedy, .. } = missing;
    let line = missing.to_string();
    [what, found, needed_for, remedy].iter().all(|part| !part.is_empty() && line.contains(part.as_str()))
        && !line.contains('\n')
}

#[test]
fn each_refused_request_is_reported() {
    assert_eq!(probe(), []);
    let all = Steps::all();
    assert_eq!(probe_with(Some(all.clone())), [], "nothing is missing here");
    let made = all.made();
    assert!(made.len() > 60, "{made:#?}");
    let mut reported = BTreeSet::new();
    for (place, step) in made.iter().enumerate() {
        let refusing = Steps::refuses(place);
        let missing = probe_with(Some(refusing.clone()));
        assert!(
            !missing.is_empty() && missing.iter().all(is_complete),
            "{step} is refused, and is reported as {missing:#?}"
        );
        assert!(missing.iter().any(|it| it.found.contains("not supported")), "{step}: {missing:#?}");
        // Only what bridges rules about flows can be done without.
        let essential = missing.iter().any(|it| it.essential);
        assert_eq!(essential, !step.contains("/bridge-nf-call-"), "{step}: {missing:#?}");
        reported.extend(missing.into_iter().map(|it| it.what));
        // What is refused does not stop the rest from being tried, as far as it does not stand on it.
        let other = |step: &String| step.starts_with("/proc") || step.starts_with("load");
        assert!(step == "make a namespace" || refusing.made().iter().any(other) || other(step), "{step}");
    }
    assert!(reported.len() >= 14, "{reported:#?}");
}

#[test]
fn there_is_no_kind_of_request_that_was_not_tried() {
    let tried = Steps::all();
    probe_with(Some(tried.clone()));
    let asked = Steps::all();
    {
        let mut lab = Lab::start(provider());
        lab.steps = Some(asked.clone());
        lab.restart(provider());
        let (red, blue) = (lab.tenant(1), lab.tenant(2));
        let pod = lab.pod(red, 1);
        // Moved in from this machine's namespace.
        lab.wire(blue, 1, None);
        lab.submit(put([blue.pod_port(1)]));
        lab.wait_active(blue.pod(1), true);
        // A source of its own, a route that refuses, and a chain that asks for flows.
        let from = |n: u128, action: RouteAction| {
            let source = "10.9.0.101/32".parse().unwrap();
            let destination = "198.51.100.0/24".parse().unwrap();
            Object::Route(Uuid::from_u128(n), Route { router: red.router(), source, destination, action, weight: 7 })
        };
        lab.submit(put([from(0x9001, RouteAction::BlackHole), from(0x9002, RouteAction::Reject)]));
        let flows = Condition { return_flow: true, ..Condition::default() };
        let rule = Rule { id: Uuid::from_u128(0x9003), condition: flows, action: RuleAction::Drop };
        lab.submit(put([Object::Chain(Uuid::from_u128(0x9004), Chain { rules: vec![rule], ..Chain::default() })]));
        let Object::Port(id, port) = red.pod_port(1) else { unreachable!() };
        lab.submit(put([Object::Port(id, Port { inbound: Some(Uuid::from_u128(0x9004)), ..port })]));
        // Back to what it was, and away.
        lab.submit(put([red.pod_port(1)]));
        lab.submit([0x9001, 0x9002].map(|n| TopologyChange::Remove(Uuid::from_u128(n))).to_vec());
        let ports = [red.pod(1), red.gateway(), red.bridge_port(), red.uplink(), red.provider_port()];
        lab.submit(ports.into_iter().chain([red.bridge(), red.router()]).map(TopologyChange::Remove).collect());
        drop(pod);
    }
    // Files, not requests to the kernel's network.
    let files = ["create the", "remove the", "unpin the"].map(str::to_owned).into();
    let untried: Vec<_> = kinds(&asked).difference(&(&kinds(&tried) | &files)).cloned().collect();
    assert!(kinds(&asked).len() > 30, "{:#?}", kinds(&asked));
    assert_eq!(untried, Vec::<String>::new());
}
