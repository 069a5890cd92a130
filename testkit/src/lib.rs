//! What tests share. No program that ships depends on it.
//!
//! | module | for |
//! |---|---|
//! | [`lab`] | machines, servers and pods, as namespaces and processes |
//! | [`program`] | programs of the machine that a test starts |

pub mod lab;
pub mod program;
