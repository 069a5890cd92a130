//! `atollctl tenant repair` makes ports of running pods again that the engine has lost. Whatever goes wrong at any of its effects,
//! and whatever the pod's node does meanwhile, no port is left without a claim.

use std::time::Duration;

use atoll_model::ids::TenantName;
use atoll_sdn_client::dialect::Dialect;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, Admin, PlannedChange};
use atoll_testkit::fault::Fault;

use crate::lab::{Lab, LabEngine};
use crate::sweep::{assert_runs, first_address, give_away};

const ENGINES: [LabEngine; 2] = [LabEngine::Ovn, LabEngine::MidoNet(Dialect::V5)];

const REQUEST_LIFETIME: Duration = Duration::from_secs(45);

fn red() -> TenantName {
    TenantName::new("red").expect("valid")
}

/// A pod runs, and the engine has lost its port: that alone, or everything.
async fn lab(engine: LabEngine, is_all_lost: bool) -> Lab {
    let lab = Lab::warm_with(engine).await;
    lab.add().await.expect("it works without faults");
    if is_all_lost {
        lab.lose_northbound();
    } else {
        lab.lose_port(lab.claims()[0].port);
    }
    lab
}

async fn repair(lab: &Lab) -> Result<(), TenantError> {
    let plugin = lab.plugin();
    let admin = Admin { store: &plugin.store, engine: &plugin.engine, config: &plugin.config.cluster };
    Box::pin(admin::repair(&admin, &red(), REQUEST_LIFETIME)).await.map(drop)
}

async fn plan(lab: &Lab) -> Vec<PlannedChange> {
    let plugin = lab.plugin();
    let admin = Admin { store: &plugin.store, engine: &plugin.engine, config: &plugin.config.cluster };
    Box::pin(admin::plan(&admin, &red())).await.expect("planned")
}

/// After a DEL: nothing is left, at once or when late requests have had their time.
async fn require_gone(lab: &Lab, engine: LabEngine, address: Option<std::net::IpAddr>, when: &str) {
    lab.retry_pending_cleanup().await;
    lab.assert_ports_have_claims(when);
    if engine == LabEngine::Ovn {
        give_away(lab, address, false, when).await;
        return;
    }
    lab.plan.deliver_late().await;
    lab.assert_ports_have_claims(when);
    lab.pass_request_lifetime().await;
    for _ in 0..2 {
        lab.retry_pending_cleanup().await;
    }
    lab.assert_empty(when);
}

#[tokio::test(start_paused = true)]
async fn a_lost_port_is_planned_with_its_pod_and_made_again() {
    for (engine, is_all_lost) in [(ENGINES[0], true), (ENGINES[0], false), (ENGINES[1], false)] {
        let when = format!("{engine:?}, all lost: {is_all_lost}");
        let lab = lab(engine, is_all_lost).await;
        let address = first_address(&lab);
        let planned = plan(&lab).await;
        let [.., port] = planned.as_slice() else { panic!("{when}: nothing is planned") };
        assert_eq!((port.action, port.role.as_str(), port.id), ("create", "pod-port", lab.claims()[0].port), "{when}");
        assert_eq!(port.differences, ["red/web on n1"], "{when}");
        assert!(lab.pod_ports().is_empty(), "{when}: a plan changes nothing");
        repair(&lab).await.unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_runs(&lab, &when);
        assert_eq!(plan(&lab).await, [], "{when}");
        if engine == LabEngine::Ovn {
            assert_eq!(lab.claims()[0].creations_until, 0, "{when}: all was answered");
        }
        lab.del().await.expect("deleted");
        require_gone(&lab, engine, address, &when).await;
    }
}

/// How many effects of a repair concern the network; it has a sweep of its own.
fn effects_of_the_network(effects: &[String]) -> usize {
    effects.iter().position(|effect| effect.contains("claims")).expect("the claims are read")
}

/// A repair that fails at this effect, then perhaps another one, then the DEL of the pod.
async fn failing(engine: LabEngine, (at, name): (usize, &str), fault: Fault, again: bool, is_late_before: bool) {
    let when = format!("{engine:?}: {fault:?} at {at} ({name}), again: {again}");
    let lab = lab(engine, false).await;
    let address = first_address(&lab);
    lab.plan.arm(at, fault);
    lab.plan.run(repair(&lab)).await;
    lab.plan.reset();
    if is_late_before {
        lab.plan.deliver_late().await;
    }
    if again {
        repair(&lab).await.unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_runs(&lab, &when);
        assert_eq!(plan(&lab).await, [], "{when}");
    }
    lab.del().await.unwrap_or_else(|error| panic!("{when}: {error}"));
    require_gone(&lab, engine, address, &when).await;
}

async fn effects(engine: LabEngine) -> Vec<String> {
    let undisturbed = lab(engine, false).await;
    undisturbed.plan.reset();
    repair(&undisturbed).await.expect("it works without faults");
    undisturbed.plan.passed()
}

#[tokio::test(start_paused = true)]
async fn with_ovn_a_repair_leaves_no_port_without_a_claim_wherever_it_fails() {
    let effects = effects(LabEngine::Ovn).await;
    let mut points = 0;
    for (at, name) in effects.iter().enumerate().skip(effects_of_the_network(&effects)) {
        for fault in Fault::ALL {
            failing(LabEngine::Ovn, (at, name), fault, false, false).await;
            points += 1;
        }
    }
    println!("repair: {points} points covered");
    assert!(points >= 30, "{points}: {effects:?}");
}

#[tokio::test(start_paused = true)]
#[ignore = "long: with every engine, at every effect, and repaired again"]
async fn a_repair_leaves_no_port_without_a_claim_wherever_it_fails() {
    let mut points = 0;
    for engine in ENGINES {
        for (at, name) in effects(engine).await.iter().enumerate() {
            for fault in Fault::ALL {
                for (again, is_late_before) in [(true, false), (true, true), (false, false), (false, true)] {
                    if !is_late_before || fault == Fault::CrashLate {
                        failing(engine, (at, name), fault, again, is_late_before).await;
                        points += 1;
                    }
                }
            }
        }
    }
    println!("repair: {points} points covered");
    assert!(points >= 500, "{points}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_or_is_added_again_while_a_repair_is_paused_has_no_port_or_one() {
    let mut points = 0;
    for engine in ENGINES {
        let network = effects_of_the_network(&effects(engine).await);
        for adds in [false, true] {
            for at in network.. {
                let lab = lab(engine, false).await;
                let address = first_address(&lab);
                lab.plan.pause_at(at);
                let mut repair = Box::pin(repair(&lab));
                if let Some(done) = lab.plan.run_until_paused(repair.as_mut()).await {
                    done.expect("nothing went wrong");
                    break;
                }
                let effect = lab.plan.passed().pop().unwrap_or_default();
                let when = format!("{engine:?}, adds: {adds}, paused at {at} ({effect})");
                if adds {
                    lab.add().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
                } else {
                    lab.del().await.unwrap_or_else(|error| panic!("{when}: {error}"));
                    lab.retry_pending_cleanup().await;
                }
                lab.plan.resume();
                repair.await.unwrap_or_else(|error| panic!("{when}: {error}"));
                lab.assert_ports_have_claims(&when);
                if adds {
                    assert_runs(&lab, &when);
                    lab.del().await.unwrap_or_else(|error| panic!("{when}: {error}"));
                }
                require_gone(&lab, engine, address, &when).await;
                points += 1;
            }
        }
    }
    println!("paused: {points} points covered");
    assert!(points >= 15, "{points}");
}
