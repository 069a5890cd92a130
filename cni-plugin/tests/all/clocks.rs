//! Times that a clock wrote which was ahead hold nothing up for longer than the longest time they may.

use atoll_records::{ClaimRecord, Key, TombstoneKind, TombstoneRecord, encode};
use atoll_store::{Store, StoreChange, Txn};

use crate::lab::{Lab, ServerState};

const YEAR: i64 = 365 * 86_400;

async fn put(lab: &Lab, key: Key, value: Vec<u8>) {
    let put = StoreChange::Put { key, value, lease: None };
    lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("works");
}

/// A pod whose ADD got no answer: its DEL leaves a fence.
async fn fenced() -> Lab {
    let lab = Lab::warm().await;
    lab.controller_state.set(ServerState::Slow);
    lab.add().await.expect_err("no answer");
    lab.controller_state.set(ServerState::Fine);
    lab.catch_up().await;
    assert_eq!(lab.tombstones().iter().map(|fence| fence.kind).collect::<Vec<_>>(), [TombstoneKind::Fence]);
    lab
}

#[tokio::test(start_paused = true)]
async fn a_fence_of_the_future_waits_for_one_request_lifetime_at_most() {
    // The clock was ahead when it was written, or only its deadline is too far.
    let year = YEAR.unsigned_abs();
    for (since, before) in [(year, year), (0, year), (year, 0)] {
        let lab = fenced().await;
        let fence = lab.tombstones().remove(0);
        let fence = TombstoneRecord { since: fence.since + since, not_before: fence.not_before + before, ..fence };
        put(&lab, Key::from(TombstoneRecord::at(&fence.attachment)), encode(&fence)).await;
        lab.retry_pending_cleanup().await;
        let is_waiting = fence.not_before.saturating_sub(fence.since) > 0;
        assert_eq!(lab.claims().len(), usize::from(is_waiting), "{since} {before}: it waits for late requests still");
        lab.pass_request_lifetime().await;
        lab.retry_pending_cleanup().await;
        lab.assert_empty(&format!("{since} {before}: after the maximum request lifetime"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_fence_and_a_progress_file_of_the_future_as_well() {
    let lab = Lab::warm().await;
    lab.controller_state.set(ServerState::Slow);
    lab.etcd_state.set(ServerState::Fine);
    Lab::set_clock(YEAR);
    lab.add().await.expect_err("no answer");
    // An ADD over the fence takes its time into the attachment state.
    lab.controller_state.set(ServerState::Fine);
    lab.add().await.expect("works");
    Lab::set_clock(-YEAR);
    lab.etcd_state.set(ServerState::Refusing);
    lab.del().await.expect("it is written down");
    lab.etcd_state.set(ServerState::Fine);
    assert_eq!(lab.local_tombstones().len(), 1);
    lab.catch_up().await;
    for _ in 0..2 {
        lab.pass_request_lifetime().await;
        lab.retry_pending_cleanup().await;
    }
    lab.assert_empty("after the maximum request lifetime");
}

/// A fence in a file holds the address as one in etcd does, also for a DEL that finds etcd again.
#[tokio::test(start_paused = true)]
async fn a_local_fence_holds_the_address_for_a_del_that_reaches_etcd() {
    let lab = Lab::warm().await;
    lab.controller_state.set(ServerState::Slow);
    lab.add().await.expect_err("no answer");
    // An ADD over the fence takes its time into the attachment state; the DEL after it cannot record it in etcd.
    lab.controller_state.set(ServerState::Fine);
    lab.add().await.expect("works");
    lab.etcd_state.set(ServerState::Refusing);
    lab.del().await.expect("it is written down");
    assert_eq!(lab.local_tombstones().iter().map(|fence| fence.kind).collect::<Vec<_>>(), [TombstoneKind::Fence]);
    lab.etcd_state.set(ServerState::Fine);
    lab.del().await.expect("works");
    assert_eq!((lab.claims().len(), lab.local_tombstones().len()), (1, 0), "its request may still come");
    lab.catch_up().await;
    lab.assert_ports_have_claims("after the late request");
    lab.pass_request_lifetime().await;
    lab.retry_pending_cleanup().await;
    lab.assert_empty("after the maximum request lifetime");
}

#[tokio::test(start_paused = true)]
async fn gc_collects_what_was_made_in_the_future() {
    for forget in [false, true] {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        let mut claim = lab.claims().remove(0);
        claim.since += YEAR.unsigned_abs();
        // The claim as it was made: only its time differs.
        put(&lab, Key::from(ClaimRecord::at(&claim.attachment)), encode(&claim)).await;
        if forget {
            lab.forget();
        } else {
            lab.forward_files(YEAR.unsigned_abs());
            lab.collect().await.expect("works");
            assert_eq!(lab.claims().len(), 1, "it may be younger than the list");
        }
        lab.pass(120).await;
        lab.collect().await.expect("works");
        lab.assert_empty(&format!("forgotten {forget}"));
    }
}
