//! A call has exclusive access to its attachment from its first effect to its last answer, however long that takes: any
//! other call finds the lock held.

use std::future::Future;
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_model::cni::version::Version;
use atoll_model::ids::NodeName;
use futures_util::future::{Either, select};

use crate::check;
use crate::lab::{Lab, Mood};

/// Runs a call and looks at the lock of `attachment` whenever it waits for an answer. How often that was.
async fn looks_while(lab: &Lab, attachment: &Attachment, call: impl Future<Output = ()>) -> usize {
    let attachment_states = lab.plugin().attachment_states;
    let mut looks = 0;
    let look = async {
        loop {
            tokio::time::sleep(Duration::from_millis(33)).await;
            assert!(
                attachment_states.try_lock(attachment).expect("works").is_none(),
                "after look {looks} another call gets in"
            );
            looks += 1;
        }
    };
    match select(Box::pin(call), Box::pin(look)).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => never,
    }
    looks
}

/// A pod that runs, and a controller that answers nothing more.
async fn silent() -> (Lab, Attachment) {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.controller_mood.set(Mood::Silent);
    let attachment = lab.call().attachment;
    (lab, attachment)
}

#[tokio::test(start_paused = true)]
async fn an_add_is_alone_until_it_has_undone_what_it_did() {
    let lab = Lab::warm().await;
    lab.controller_mood.set(Mood::Silent);
    let attachment = lab.call().attachment;
    let limit = lab.config().timeout;
    let begun = tokio::time::Instant::now();
    let looks = looks_while(&lab, &attachment, async { drop(lab.add().await.expect_err("no answer")) }).await;
    assert!(looks > 20 && begun.elapsed() > limit * 3 / 4, "it undid nothing: {looks} looks, {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_del_is_alone_until_it_is_done() {
    let (lab, attachment) = silent().await;
    let looks = looks_while(&lab, &attachment, async { lab.del().await.expect("it is written down") }).await;
    assert!(looks > 10, "{looks}");
}

#[tokio::test(start_paused = true)]
async fn a_del_of_what_has_another_name_is_alone_with_that() {
    let (lab, attachment) = silent().await;
    lab.node.replace(NodeName::new("n1.example.com").expect("valid"));
    let looks = looks_while(&lab, &attachment, async { lab.del().await.expect("it is written down") });
    // The other name is found first, which takes no time.
    assert!(looks.await > 10);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_alone_until_it_has_seen_all() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    let attachment = lab.call().attachment;
    lab.controller_mood.set(Mood::Silent);
    let call = check::call(&lab, &attached, Version::NEWEST);
    let checked = async { drop(check::check(&lab, &call).await.expect_err("no answer")) };
    let looks = looks_while(&lab, &attachment, checked).await;
    assert!(looks > 10, "{looks}");
    assert_eq!(lab.lock_files(), 1, "what the ADD noted stays");
}

#[tokio::test(start_paused = true)]
async fn a_gc_is_alone_with_what_it_takes_apart() {
    let (lab, attachment) = silent().await;
    lab.pass(120).await;
    let looks = looks_while(&lab, &attachment, async { drop(lab.collect().await) }).await;
    assert!(looks > 10, "{looks}");
}

#[tokio::test(start_paused = true)]
async fn resolving_holds_the_lock_of_what_it_resolves() {
    let (lab, attachment) = silent().await;
    lab.del().await.expect("it is written down");
    let looks = looks_while(&lab, &attachment, lab.retry_pending_cleanup()).await;
    assert!(looks > 10, "{looks}");
    assert_eq!(lab.tombstones().len(), 1, "it stays");
}
