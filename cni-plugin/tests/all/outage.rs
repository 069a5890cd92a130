//! Whole outages: DEL succeeds within two seconds during any of them, no pending cleanup is lost, and ADD fails cleanly.

use std::time::Duration;

use atoll_model::error::{Class, Classify};
use tokio::time::Instant;

use crate::lab::{Lab, ServerState};

const STATES: [ServerState; 4] = [ServerState::Fine, ServerState::Refusing, ServerState::Silent, ServerState::Gateway];

#[tokio::test(start_paused = true)]
async fn del_succeeds_in_time_whatever_is_down() {
    for etcd in STATES {
        for controller in STATES {
            for repeated in [false, true] {
                let when = format!("etcd {etcd:?}, controller {controller:?}, repeated {repeated}");
                let lab = Lab::warm().await;
                lab.add().await.expect("works");
                lab.etcd_state.set(etcd);
                lab.controller_state.set(controller);
                for _ in 0..=usize::from(repeated) {
                    let begun = Instant::now();
                    lab.del().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
                    assert!(begun.elapsed() < Duration::from_secs(2), "{when}: it took {:?}", begun.elapsed());
                }
                assert_eq!(lab.links(), vec![], "{when}");
                let (local_tombstones, tombstones) = (lab.local_tombstones().len(), lab.tombstones().len());
                match (etcd, controller) {
                    (ServerState::Fine, ServerState::Fine) => lab.assert_empty(&when),
                    (ServerState::Fine, _) => assert_eq!((local_tombstones, tombstones), (0, 1), "{when}"),
                    _ => assert_eq!((local_tombstones, tombstones), (1, 0), "{when}"),
                }
                lab.etcd_state.set(ServerState::Fine);
                lab.controller_state.set(ServerState::Fine);
                lab.retry_pending_cleanup().await;
                // The repeated DEL asked a silent etcd to put: nothing of it is on its way, states swallow requests.
                lab.assert_empty(&format!("{when}, and after"));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn add_fails_cleanly_when_something_is_down() {
    for (etcd, controller) in [
        (ServerState::Refusing, ServerState::Fine),
        (ServerState::Silent, ServerState::Fine),
        (ServerState::Fine, ServerState::Refusing),
        (ServerState::Fine, ServerState::Silent),
        (ServerState::Fine, ServerState::Gateway),
        (ServerState::Refusing, ServerState::Refusing),
    ] {
        for cold in [false, true] {
            let when = format!("etcd {etcd:?}, controller {controller:?}, cold {cold}");
            let lab = if cold { Lab::cold() } else { Lab::warm().await };
            lab.etcd_state.set(etcd);
            lab.controller_state.set(controller);
            let begun = Instant::now();
            let error = lab.add().await.expect_err(&when);
            assert_eq!(error.class(), Class::Unavailable, "{when}: {error:?}");
            assert!(begun.elapsed() <= lab.config().timeout, "{when}: it took {:?}", begun.elapsed());
            // What was refused cannot come late. What a gateway answers may have been passed on.
            if [etcd, controller].iter().all(|state| !matches!(state, ServerState::Silent | ServerState::Gateway)) {
                lab.assert_empty(&format!("{when}: what was refused cannot come late"));
            }
            lab.etcd_state.set(ServerState::Fine);
            lab.controller_state.set(ServerState::Fine);
            lab.retry_pending_cleanup().await;
            lab.pass_request_lifetime().await;
            lab.retry_pending_cleanup().await;
            lab.assert_empty(&when);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_add_resolves_what_an_outage_left() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.controller_state.set(ServerState::Refusing);
    lab.del().await.expect("works");
    assert_eq!(lab.tombstones().len(), 1);
    lab.controller_state.set(ServerState::Fine);
    let mut call = lab.call();
    call.attachment = crate::lab::attachment("next", "eth0");
    lab.plugin().add(&call).await.expect("works");
    assert_eq!((lab.tombstones().len(), lab.claims().len()), (0, 1), "the old claim went with its tombstone");
}

#[tokio::test(start_paused = true)]
async fn an_add_over_its_own_unfinished_del_takes_the_claim_over() {
    for etcd in [ServerState::Fine, ServerState::Refusing] {
        let lab = Lab::warm().await;
        let first = lab.add().await.expect("works");
        lab.controller_state.set(ServerState::Refusing);
        lab.etcd_state.set(etcd);
        lab.del().await.expect("works");
        lab.controller_state.set(ServerState::Fine);
        lab.etcd_state.set(ServerState::Fine);
        assert_eq!(lab.add().await.expect("works"), first, "the address was never free");
        assert_eq!(
            (lab.tombstones().len(), lab.local_tombstones().len()),
            (0, 0),
            "nothing is pending for a running pod"
        );
        lab.pass_request_lifetime().await;
        lab.retry_pending_cleanup().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
        lab.del().await.expect("works");
        lab.assert_empty("after all");
    }
}

/// An ADD that got no answer and goes on knows that the request may still be executed.
#[tokio::test(start_paused = true)]
async fn an_add_without_an_answer_keeps_its_address_until_none_can_come() {
    for (state, again) in
        [ServerState::Slow, ServerState::BadGateway].into_iter().flat_map(|state| [(state, false), (state, true)])
    {
        let lab = Lab::warm().await;
        lab.controller_state.set(state);
        let error = lab.add().await.expect_err("no answer");
        assert_eq!(error.class(), Class::Unavailable, "{error:?}");
        lab.controller_state.set(ServerState::Fine);
        if again {
            lab.del().await.expect("works");
        }
        lab.retry_pending_cleanup().await;
        assert_eq!((lab.pod_ports().len(), lab.claims().len(), lab.links()), (0, 1, vec![]));
        assert!(lab.catch_up().await > 0, "something was on its way");
        assert_eq!(lab.pod_ports().len(), 1, "and arrived");
        lab.assert_ports_have_claims("after the late request");
        lab.pass_request_lifetime().await;
        lab.retry_pending_cleanup().await;
        lab.assert_empty("after the maximum request lifetime");
    }
}

/// What can be written down neither in etcd nor here is a failure: the runtime calls again.
#[tokio::test(start_paused = true)]
async fn a_del_that_can_write_nothing_down_fails() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    let tombstones = lab.config().state_dir.join("tombstones");
    let _ = std::fs::remove_dir_all(&tombstones);
    std::fs::write(&tombstones, "").expect("written");
    lab.etcd_state.set(ServerState::Refusing);
    lab.del().await.expect_err("it would be forgotten");
    lab.etcd_state.set(ServerState::Fine);
    lab.controller_state.set(ServerState::Refusing);
    std::fs::remove_file(&tombstones).expect("there");
    lab.del().await.expect("it is written down");
    lab.controller_state.set(ServerState::Fine);
    lab.retry_pending_cleanup().await;
    lab.assert_empty("after all");
}
