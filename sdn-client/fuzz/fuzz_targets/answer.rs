//! Answers of any bytes, read as everything they could be. The same function runs over seeded mutations of the fixtures
//! in the ordinary tests; give the fixtures to the fuzzer as its corpus:
//! `cargo +nightly fuzz run answer fuzz/corpus/answer tests/fixtures`.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/everything.rs"]
mod everything;

fuzz_target!(|input: (u16, &[u8])| everything::read(200 + input.0 % 400, input.1));
