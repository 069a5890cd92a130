//! Requests of any bytes, answered one after the other by a controller of either family. The same function runs over
//! seeded mutations of the corpus in the ordinary tests; give that corpus to the fuzzer:
//! `cargo +nightly fuzz run request fuzz/corpus/request tests/corpus`.

#![no_main]

use atoll_mock_controller::Dialect;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/all/everything.rs"]
mod everything;

fuzz_target!(|input: &[u8]| {
    for dialect in [Dialect::V5, Dialect::V1] {
        everything::answer(dialect, input);
    }
});
