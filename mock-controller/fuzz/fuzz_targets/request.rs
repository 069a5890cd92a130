//! Requests of any bytes, answered one after the other by a controller of either dialect. The ordinary tests call the same
//! function with the corpus and with seeded mutations of it (`hostile::mutated_requests_are_answered`), so that a clone with
//! stable cargo runs it. With the fuzzer, give it that corpus:
//! `cargo +nightly fuzz run request fuzz/corpus/request tests/corpus`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/everything.rs"]
mod everything;

fuzz_target!(|input: &[u8]| everything::fuzz(input));
