//! Whole outages: DEL succeeds within two seconds whatever is down, nothing it owes is forgotten, and ADD fails cleanly.

use std::time::Duration;

use atoll_model::error::{Class, Classify};
use tokio::time::Instant;

use crate::lab::{Lab, Mood};

const MOODS: [Mood; 4] = [Mood::Fine, Mood::Refusing, Mood::Silent, Mood::Stranger];

#[tokio::test(start_paused = true)]
async fn del_succeeds_in_time_whatever_is_down() {
    for etcd in MOODS {
        for controller in MOODS {
            for repeated in [false, true] {
                let when = format!("etcd {etcd:?}, controller {controller:?}, repeated {repeated}");
                let lab = Lab::warm().await;
                lab.add().await.expect("works");
                lab.etcd_mood.set(etcd);
                lab.controller_mood.set(controller);
                for _ in 0..=usize::from(repeated) {
                    let begun = Instant::now();
                    lab.del().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
                    assert!(begun.elapsed() < Duration::from_secs(2), "{when}: it took {:?}", begun.elapsed());
                }
                assert_eq!(lab.links(), vec![], "{when}");
                let (local_tombstones, tombstones) = (lab.local_tombstones().len(), lab.tombstones().len());
                match (etcd, controller) {
                    (Mood::Fine, Mood::Fine) => lab.assert_empty(&when),
                    (Mood::Fine, _) => assert_eq!((local_tombstones, tombstones), (0, 1), "{when}"),
                    _ => assert_eq!((local_tombstones, tombstones), (1, 0), "{when}"),
                }
                lab.etcd_mood.set(Mood::Fine);
                lab.controller_mood.set(Mood::Fine);
                lab.retry_pending_cleanup().await;
                // The repeated DEL asked a silent etcd to put: nothing of it is on its way, moods swallow requests.
                lab.assert_empty(&format!("{when}, and after"));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn add_fails_cleanly_when_something_is_down() {
    for (etcd, controller) in [
        (Mood::Refusing, Mood::Fine),
        (Mood::Silent, Mood::Fine),
        (Mood::Fine, Mood::Refusing),
        (Mood::Fine, Mood::Silent),
        (Mood::Fine, Mood::Stranger),
        (Mood::Refusing, Mood::Refusing),
    ] {
        for cold in [false, true] {
            let when = format!("etcd {etcd:?}, controller {controller:?}, cold {cold}");
            let lab = if cold { Lab::cold() } else { Lab::warm().await };
            lab.etcd_mood.set(etcd);
            lab.controller_mood.set(controller);
            let begun = Instant::now();
            let error = lab.add().await.expect_err(&when);
            assert_eq!(error.class(), Class::Unavailable, "{when}: {error:?}");
            assert!(begun.elapsed() <= lab.config().timeout, "{when}: it took {:?}", begun.elapsed());
            // What was refused cannot come late. What a gateway answers may have been passed on.
            if [etcd, controller].iter().all(|mood| !matches!(mood, Mood::Silent | Mood::Stranger)) {
                lab.assert_empty(&format!("{when}: what was refused cannot come late"));
            }
            lab.etcd_mood.set(Mood::Fine);
            lab.controller_mood.set(Mood::Fine);
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
    lab.controller_mood.set(Mood::Refusing);
    lab.del().await.expect("works");
    assert_eq!(lab.tombstones().len(), 1);
    lab.controller_mood.set(Mood::Fine);
    let mut call = lab.call();
    call.attachment = crate::lab::attachment("next", "eth0");
    lab.plugin().add(&call).await.expect("works");
    assert_eq!((lab.tombstones().len(), lab.claims().len()), (0, 1), "the old claim went with its tombstone");
}

#[tokio::test(start_paused = true)]
async fn an_add_over_its_own_unfinished_del_takes_the_claim_over() {
    for etcd in [Mood::Fine, Mood::Refusing] {
        let lab = Lab::warm().await;
        let first = lab.add().await.expect("works");
        lab.controller_mood.set(Mood::Refusing);
        lab.etcd_mood.set(etcd);
        lab.del().await.expect("works");
        lab.controller_mood.set(Mood::Fine);
        lab.etcd_mood.set(Mood::Fine);
        assert_eq!(lab.add().await.expect("works"), first, "the address was never free");
        assert_eq!((lab.tombstones().len(), lab.local_tombstones().len()), (0, 0), "nothing is owed for a running pod");
        lab.pass_request_lifetime().await;
        lab.retry_pending_cleanup().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
        lab.del().await.expect("works");
        lab.assert_empty("after all");
    }
}

/// An ADD that got no answer and lives on knows that the request may still be executed.
#[tokio::test(start_paused = true)]
async fn an_add_without_an_answer_keeps_its_address_until_none_can_come() {
    for (mood, again) in [Mood::Slow, Mood::BadGateway].into_iter().flat_map(|mood| [(mood, false), (mood, true)]) {
        let lab = Lab::warm().await;
        lab.controller_mood.set(mood);
        let error = lab.add().await.expect_err("no answer");
        assert_eq!(error.class(), Class::Unavailable, "{error:?}");
        lab.controller_mood.set(Mood::Fine);
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
    lab.etcd_mood.set(Mood::Refusing);
    lab.del().await.expect_err("it would be forgotten");
    lab.etcd_mood.set(Mood::Fine);
    lab.controller_mood.set(Mood::Refusing);
    std::fs::remove_file(&tombstones).expect("there");
    lab.del().await.expect("it is written down");
    lab.controller_mood.set(Mood::Fine);
    lab.retry_pending_cleanup().await;
    lab.assert_empty("after all");
}
