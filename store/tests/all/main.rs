//! Tests of the stores: one suite for etcd and for the store in memory, and what only etcd has: endpoints and settings.

mod failover;
mod settings;
mod suite;
