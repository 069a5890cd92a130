//! STATUS: local by default; strict reports an outage when it has lasted, within a second, and not at every blink.

use std::time::Duration;

use atoll_model::config::StatusMode;
use atoll_model::error::Classify;
use tokio::time::Instant;

use crate::lab::{Lab, ServerState};

/// The code, and how long it took.
async fn status(lab: &Lab, mode: StatusMode) -> (Option<u32>, Duration) {
    let mut plugin = lab.plugin();
    plugin.config.status = mode;
    // The lab's controller knows this host.
    plugin.config.host_id = Some(lab.call().node.host_id);
    let begun = Instant::now();
    let answer = Box::pin(plugin.status()).await;
    (answer.err().map(|error| error.class().cni_code()), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_affair_of_a_node_unless_it_is_asked_for() {
    let lab = Lab::warm().await;
    lab.etcd_state.set(ServerState::Silent);
    lab.controller_state.set(ServerState::Refusing);
    lab.plan.reset();
    for _ in 0..10 {
        assert_eq!(status(&lab, StatusMode::Local).await.0, None);
        lab.pass(5).await;
    }
    assert!(lab.plan.passed().iter().all(|effect| effect.starts_with("kernel")), "no server was asked");
}

#[tokio::test(start_paused = true)]
async fn strict_reports_what_lasts_and_forgets_what_is_over() {
    for (etcd, controller) in [
        (ServerState::Refusing, ServerState::Fine),
        (ServerState::Silent, ServerState::Fine),
        (ServerState::Fine, ServerState::Refusing),
        (ServerState::Fine, ServerState::Silent),
    ] {
        let lab = Lab::warm().await;
        let mut codes = Vec::new();
        for n in 0..11 {
            let is_down = (1..=5).contains(&n);
            lab.etcd_state.set(if is_down { etcd } else { ServerState::Fine });
            lab.controller_state.set(if is_down { controller } else { ServerState::Fine });
            let (code, took) = status(&lab, StatusMode::Strict).await;
            assert!(took <= Duration::from_secs(1), "it took {took:?}");
            codes.push(code);
            lab.pass(5).await;
        }
        let down = Some(50);
        // Down from 5 s on; reported at 20 s, over at the second success.
        let expected = [None, None, None, None, down, down, down, None, None, None, None];
        assert_eq!(codes, expected, "etcd {etcd:?}, controller {controller:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_are_reused() {
    let lab = Lab::warm().await;
    lab.plan.reset();
    for _ in 0..20 {
        assert_eq!(status(&lab, StatusMode::Strict).await.0, None);
    }
    let asked = |what: &str| lab.plan.passed().iter().filter(|effect| effect.starts_with(what)).count();
    assert_eq!((asked("store"), asked("controller")), (1, 1));
}

/// Without the agent no packet of this node flows: that is worse than not being able to add.
#[tokio::test(start_paused = true)]
async fn a_dead_agent_has_a_code_of_its_own() {
    let lab = Lab::warm().await;
    lab.set_alive(false);
    let mut last = None;
    for _ in 0..5 {
        last = status(&lab, StatusMode::Strict).await.0;
        lab.pass(5).await;
    }
    assert_eq!(last, Some(51));
}
