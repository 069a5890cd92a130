//! What a warm ADD and its DEL cost, in round trips and kernel operations.

use crate::lab::Lab;

/// Ids, addresses and directories differ from run to run.
fn shape(lab: &Lab) -> Vec<String> {
    let run_dir = lab.config().run_dir.display().to_string();
    let effects: Vec<_> = lab.plan.passed().iter().map(|effect| effect.replace(&run_dir, "<run>")).collect();
    let is_hex =
        |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit()) && !word.starts_with("000");
    let is_id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let varies = |word: &str| is_id(word) || is_hex(word) || word.starts_with("10.");
    let word = |word: &str| if varies(word) { "<...>".to_owned() } else { word.to_owned() };
    let path = |part: &str| part.split('/').map(word).collect::<Vec<_>>().join("/");
    effects.iter().map(|effect| effect.split(' ').map(path).collect::<Vec<_>>().join(" ")).collect()
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
