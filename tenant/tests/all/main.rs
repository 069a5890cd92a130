//! The registry and the engine against a store and a controller in memory.

mod admin;
mod build_lease;
mod drift;
mod engine;
mod evict;
mod fixture;
mod foreign;
mod gateways;
mod grow;
mod incarnations;
mod lost;
mod other_engine;
mod over_http;
mod paused;
mod ports;
mod provider;
mod prune;
mod resolve;
mod send;
mod set;
mod sweep;
mod without_waiting;
