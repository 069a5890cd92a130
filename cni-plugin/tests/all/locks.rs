//! A call has exclusive access to its attachment from its first effect to its last answer, however long that takes: any
//! other call finds the lock held.

use std::future::Future;
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_model::cni::version::Version;
use atoll_model::ids::NodeName;
use futures_util::future::{Either, select};

use crate::check;
use crate::lab::{Lab, ServerState};

/// Runs a call and checks at the lock of `attachment` whenever it waits for an answer. How often that was.
async fn checks_during(lab: &Lab, attachment: &Attachment, call: impl Future<Output = ()>) -> usize {
    let attachment_states = lab.plugin().attachment_states;
    let mut checks = 0;
    let check = async {
        loop {
            tokio::time::sleep(Duration::from_millis(33)).await;
            assert!(
                attachment_states.try_lock(attachment).expect("works").is_none(),
                "after check {checks} another call gets in"
            );
            checks += 1;
        }
    };
    match select(Box::pin(call), Box::pin(check)).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => never,
    }
    checks
}

/// A pod that runs, and a controller that answers nothing more.
async fn silent() -> (Lab, Attachment) {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.controller_state.set(ServerState::Silent);
    let attachment = lab.call().attachment;
    (lab, attachment)
}

#[tokio::test(start_paused = true)]
async fn an_add_is_alone_until_it_has_undone_what_it_did() {
    let lab = Lab::warm().await;
    lab.controller_state.set(ServerState::Silent);
    let attachment = lab.call().attachment;
    let limit = lab.config().timeout;
    let begun = tokio::time::Instant::now();
    let checks = checks_during(&lab, &attachment, async { drop(lab.add().await.expect_err("no answer")) }).await;
    assert!(checks > 20 && begun.elapsed() > limit * 3 / 4, "it undid nothing: {checks} checks, {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_del_is_alone_until_it_is_done() {
    let (lab, attachment) = silent().await;
    let checks = checks_during(&lab, &attachment, async { lab.del().await.expect("it is written down") }).await;
    assert!(checks > 10, "{checks}");
}

#[tokio::test(start_paused = true)]
async fn a_del_of_what_has_another_name_is_alone_with_that() {
    let (lab, attachment) = silent().await;
    lab.node.replace(NodeName::new("n1.example.com").expect("valid"));
    let checks = checks_during(&lab, &attachment, async { lab.del().await.expect("it is written down") });
    // The other name is found first, which takes no time.
    assert!(checks.await > 10);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_alone_until_it_has_seen_all() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    let attachment = lab.call().attachment;
    lab.controller_state.set(ServerState::Silent);
    let call = check::call(&lab, &attached, Version::NEWEST);
    let checked = async { drop(check::check(&lab, &call).await.expect_err("no answer")) };
    let checks = checks_during(&lab, &attachment, checked).await;
    assert!(checks > 10, "{checks}");
    assert_eq!(lab.lock_files(), 1, "what the ADD noted stays");
}

#[tokio::test(start_paused = true)]
async fn a_gc_is_alone_with_what_it_takes_apart() {
    let (lab, attachment) = silent().await;
    lab.pass(120).await;
    let checks = checks_during(&lab, &attachment, async { drop(lab.collect().await) }).await;
    assert!(checks > 10, "{checks}");
}

#[tokio::test(start_paused = true)]
async fn resolving_holds_the_lock_of_what_it_resolves() {
    let (lab, attachment) = silent().await;
    lab.del().await.expect("it is written down");
    let checks = checks_during(&lab, &attachment, lab.retry_pending_cleanup()).await;
    assert!(checks > 10, "{checks}");
    assert_eq!(lab.tombstones().len(), 1, "it stays");
}
