//! What one call resolves of the cleanup that earlier ones left: a few tombstones, due ones first, each only once it is due;
//! and the mark of `runDir`, which exists while any cleanup is pending.

use atoll_cni_plugin::add::AddCall;
use atoll_records::{Key, TombstoneRecord, encode};
use atoll_store::{Store, StoreChange, Txn};

use crate::lab::{Lab, ServerState, attachment, del};

/// An ADD call for this container.
fn of(lab: &Lab, container: &str) -> AddCall {
    let sandbox = format!("/netns/{container}");
    lab.kernel.add_netns(&sandbox);
    AddCall { attachment: attachment(container, "eth0"), sandbox, ..lab.call() }
}

async fn add(lab: &Lab, container: &str) {
    Box::pin(lab.plugin().add(&of(lab, container))).await.expect("works");
}

/// A DEL of a container, which resolves a few tombstones of others.
async fn delete(lab: &Lab, container: &str) {
    Box::pin(lab.plugin().del(&del(&of(lab, container)))).await.expect("done or written down");
}

fn is_marked(lab: &Lab) -> bool {
    lab.config().run_dir.join("pending-cleanup").exists()
}

/// Pods that were deleted while the controller, or etcd, refused everything.
async fn deleted(containers: &[&str], etcd: bool) -> Lab {
    let lab = Lab::warm().await;
    for container in containers {
        add(&lab, container).await;
    }
    let state = if etcd { &lab.etcd_state } else { &lab.controller_state };
    state.set(ServerState::Refusing);
    for container in containers {
        delete(&lab, container).await;
    }
    state.set(ServerState::Fine);
    lab
}

#[tokio::test(start_paused = true)]
async fn a_call_resolves_four_and_the_mark_stays_until_nothing_is_left() {
    for etcd in [false, true] {
        let lab = deleted(&["a", "b", "c", "d", "e", "f"], etcd).await;
        let left = || lab.tombstones().len() + lab.local_tombstones().len();
        assert_eq!((left(), is_marked(&lab)), (6, true), "etcd {etcd}");
        delete(&lab, "next").await;
        assert_eq!((left(), is_marked(&lab)), (2, true), "etcd {etcd}");
        assert_eq!(
            lab.local_tombstones().len(),
            if etcd { 2 } else { 0 },
            "no more are moved to etcd than are resolved"
        );
        delete(&lab, "next").await;
        assert_eq!((left(), is_marked(&lab)), (0, false), "etcd {etcd}");
        lab.assert_empty("after all");
    }
}

/// The next ADD searches for pending cleanup, for any reason for which it is pending.
#[tokio::test(start_paused = true)]
async fn the_mark_stays_while_something_is_locked_or_waits_or_fails() {
    // Another call works on it.
    let lab = deleted(&["a"], false).await;
    let plugin = lab.plugin();
    let lock = plugin.attachment_states.try_lock(&attachment("a", "eth0")).expect("works").expect("free");
    lab.retry_pending_cleanup().await;
    assert!(is_marked(&lab) && lab.tombstones().len() == 1, "locked");
    drop(lock);
    // It fails.
    lab.controller_state.set(ServerState::Refusing);
    lab.retry_pending_cleanup().await;
    assert!(is_marked(&lab) && lab.tombstones().len() == 1, "failed");
    // It waits.
    let lab = Lab::warm().await;
    lab.controller_state.set(ServerState::Slow);
    lab.add().await.expect_err("no answer");
    lab.controller_state.set(ServerState::Fine);
    lab.retry_pending_cleanup().await;
    assert!(is_marked(&lab) && lab.tombstones().len() == 1, "waiting");
    lab.catch_up().await;
    lab.pass_request_lifetime().await;
    lab.retry_pending_cleanup().await;
    assert!(!is_marked(&lab) && lab.tombstones().is_empty(), "resolved");
}

/// A tombstone that is not in etcd stays in its file.
#[tokio::test(start_paused = true)]
async fn a_local_tombstone_stays_until_etcd_has_it() {
    let lab = deleted(&["a"], true).await;
    let before = lab.local_tombstones();
    lab.etcd_state.set(ServerState::Refusing);
    lab.retry_pending_cleanup().await;
    assert_eq!((lab.local_tombstones(), is_marked(&lab)), (before, true));
    lab.etcd_state.set(ServerState::Fine);
    lab.retry_pending_cleanup().await;
    lab.assert_empty("after all");
}

/// Three failures in a row: the others would only take time.
#[tokio::test(start_paused = true)]
async fn three_failures_in_a_row_end_the_attempt() {
    let lab = deleted(&["a", "b", "c", "d"], false).await;
    let earlier = lab.tombstones().into_iter().map(|tombstone| tombstone.since).max().expect("four");
    lab.pass(10).await;
    lab.controller_state.set(ServerState::Refusing);
    lab.retry_pending_cleanup().await;
    let tried = lab.tombstones().iter().filter(|tombstone| tombstone.since > earlier).count();
    assert_eq!(tried, 3);
}

/// To wait is no failure, whether for late requests or for a clock that was ahead.
#[tokio::test(start_paused = true)]
async fn what_waits_keeps_nothing_waiting_that_is_due() {
    for ahead in [0, 365 * 86_400] {
        let lab = deleted(&["a", "b", "c", "d"], false).await;
        let now = lab.tombstones()[0].since;
        for tombstone in lab.tombstones().into_iter().take(3) {
            let (since, not_before) = (now + ahead, now + ahead + 50);
            let fence = TombstoneRecord { kind: atoll_records::TombstoneKind::Fence, since, not_before, ..tombstone };
            let (key, value) = (Key::from(TombstoneRecord::at(&fence.attachment)), encode(&fence));
            let put = StoreChange::Put { key, value, lease: None };
            lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("works");
        }
        lab.retry_pending_cleanup().await;
        let left: Vec<_> = lab.tombstones().into_iter().map(|tombstone| tombstone.attachment).collect();
        assert_eq!(left, ["a", "b", "c"].map(|container| attachment(container, "eth0")), "{ahead} s ahead");
    }
}
