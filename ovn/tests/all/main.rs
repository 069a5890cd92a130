//! Tests of the engine for OVN, with real database servers.

mod conformance;
mod late;
mod remote;
