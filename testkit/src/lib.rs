//! What the tests of several crates share. No program that ships depends on it.
//!
//! | module | for |
//! |---|---|
//! | [`program`] | programs of the machine that a test starts |

pub mod program;
