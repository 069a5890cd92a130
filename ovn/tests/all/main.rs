//! Tests of the engine for OVN, with real database servers.

mod conformance;
mod database;
mod hosts;
mod late;
mod mutated;
mod remote;
mod sweep;
mod together;
