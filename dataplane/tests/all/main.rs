//! Tests of the data plane as its users see it. Most of them make a plane in a network namespace of their own and need root;
//! `compile`, `incremental` and `audit` look at what would be made.

mod audit;
mod chains;
mod compile;
mod counters;
mod crash;
mod flows;
mod frames;
mod host_to_pod;
mod incremental;
mod isolation;
mod kube_proxy;
mod living;
mod meaning;
mod overflow;
mod packets;
mod probe;
mod reconcile;
mod uplink_unit;
