//! Tests of the engine for OVN, with real database servers.

mod conformance;
mod database;
mod everything;
mod hosts;
mod late;
mod mutated;
mod remote;
mod sweep;
mod together;
