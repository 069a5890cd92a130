//! Answers of databases, mutated: nothing that a server sends makes the client panic, hang, grow or print without bound.
//!
//! `AT_SEED` repeats a run, `ATOLL_SCHEDULES` sets how many answers there are (`./run-tests --long` has more). The fuzz target
//! `ovn/fuzz` calls the same function.

use std::fs;
use std::path::Path;

use atoll_ovn::ovsdb::DatabaseError;
use atoll_testkit::mutate::Mutator;

use crate::everything::fuzz;

/// The most that reading all answers may add to the memory of this process, KiB.
const GROWTH: u64 = 64 << 10;

/// Answers to the first request of a connection, whatever it is, and what a server sends besides.
fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = fs::read_dir(directory).expect("the corpus is there");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("readable")).collect()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn mutated_answers_are_outcomes_or_errors() {
    let answers = std::env::var("ATOLL_SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(1_500);
    let texts = corpus();
    let corpus: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let mut mutator = Mutator::seeded(0x0e5d_b000);
    let (mut before, mut outcomes, mut errors) = (0, 0, 0);
    for number in 0..answers {
        let text = if number < corpus.len() { corpus[number].to_vec() } else { mutator.mutation(&corpus, &[], 3) };
        let choice = u8::try_from(mutator.below(256)).expect("below 256");
        println!("answer {number}, choice {choice}: {}", String::from_utf8_lossy(&text));
        match fuzz((choice, &text)) {
            Ok(_) => outcomes += 1,
            Err(_) => errors += 1,
        }
        if number == 200 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{answers} answers cost {grown} KiB");
    assert!(outcomes > 0 && errors > outcomes, "{outcomes} outcomes, {errors} errors: they mean something");
}

/// Together they are larger than one message may be.
#[test]
fn large_notifications_before_an_answer_are_refused() {
    let large = format!(r#"{{"id":null,"method":"update3","params":["{}"]}}"#, "x".repeat(1 << 20));
    let asked = fuzz((u8::MAX - 1, large.repeat(80).as_bytes()));
    assert!(matches!(asked, Err(DatabaseError::NotDatabase { .. })), "{asked:?}");
}
