//! What a warm ADD and its DEL cost, in round trips and kernel operations.

use crate::lab::{Lab, LabEngine};

/// Ids and directories differ from run to run; which keys a transaction has is the business of others.
fn shape(lab: &Lab) -> Vec<String> {
    let run_dir = lab.config().run_dir.display().to_string();
    let is_id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let is_address = |word: &str| word.starts_with("10.");
    let part = |part: &str| if is_id(part) || is_address(part) { "<...>".to_owned() } else { part.to_owned() };
    let word = |word: &str| word.split('/').map(part).collect::<Vec<_>>().join("/");
    let of_store = |effect: &str| effect.starts_with("store:");
    let effect = |effect: &String| {
        let words = if of_store(effect) { 2 } else { usize::MAX };
        effect.replace(&run_dir, "<run>").split(' ').take(words).map(word).collect::<Vec<_>>().join(" ")
    };
    lab.plan.passed().iter().map(effect).collect()
}

#[tokio::test(start_paused = true)]
async fn a_warm_add_is_one_transaction_and_one_request() {
    let lab = Lab::warm().await;
    lab.plan.reset();
    lab.add().await.expect("works");
    let add = shape(&lab);
    let count = |what: &str| add.iter().filter(|effect| effect.starts_with(what)).count();
    let polls = count("controller: GET /ports/");
    assert_eq!((count("store"), count("controller") - polls), (1, 1), "{add:#?}");
    lab.plan.reset();
    lab.del().await.expect("works");
    let del = shape(&lab);
    insta::assert_debug_snapshot!((add, del));
}

/// The pod's names in DNS included.
#[tokio::test(start_paused = true)]
async fn with_ovn_a_warm_add_is_one_transaction_of_northbound_and_its_del_changes_it_once() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    lab.plan.reset();
    lab.add().await.expect("works");
    let add = lab.plan.passed();
    let count = |effects: &[String], what: &str| effects.iter().filter(|effect| effect.starts_with(what)).count();
    assert_eq!((count(&add, "store"), count(&add, "northbound")), (1, 1), "{add:#?}");
    assert_eq!(lab.names().len(), 2, "{:?}", lab.names());
    lab.plan.reset();
    lab.del().await.expect("works");
    let del = lab.plan.passed();
    assert_eq!(count(&del, "northbound: write"), 1, "{del:#?}");
    assert_eq!(lab.names(), Vec::<String>::new());
}
