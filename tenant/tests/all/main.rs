//! The registry and the engine against a store and a controller in memory.

mod admin;
mod builders;
mod drift;
mod engine;
mod evict;
mod foreign;
mod grow;
mod lives;
mod lost;
mod over_http;
mod ports;
mod provider;
mod prune;
mod resolve;
mod set;
mod strangers;
mod sweep;
mod world;
