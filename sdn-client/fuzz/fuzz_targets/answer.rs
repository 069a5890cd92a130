//! Answers of any bytes, read as everything they could be. The ordinary tests call the same function with the fixtures and with
//! seeded mutations of them (`answers::mutated_answers_do_not_panic`), so that a clone with stable cargo runs it. With the fuzzer,
//! give it the fixtures as its corpus: `cargo +nightly fuzz run answer fuzz/corpus/answer tests/fixtures`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/everything.rs"]
mod everything;
#[path = "../../tests/all/reading/mod.rs"]
mod reading;

fuzz_target!(|input: (u16, &[u8])| everything::fuzz(input));
