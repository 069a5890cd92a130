//! Bytes that a database sends: answers, notifications, anything. The ordinary tests call the same function with the corpus and
//! with seeded mutations of it (`mutated::mutated_answers_are_outcomes_or_errors`), so that a clone with stable cargo runs it. With
//! the fuzzer, give it that corpus: `cargo +nightly fuzz run answer fuzz/corpus/answer tests/corpus`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/everything.rs"]
mod everything;

fuzz_target!(|input: (u8, &[u8])| {
    // An error is an answer too.
    let _ = everything::fuzz(input);
});
