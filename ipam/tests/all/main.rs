//! Tests of the allocator as its callers see it: in memory, with a real etcd, and interleaved call by call.

#[macro_use]
mod suite;

mod address_requests;
mod audit;
mod causes;
mod checker;
mod cluster;
mod concurrency;
mod guards;
mod interleave;
mod late;
mod reservations;
mod send;
mod verbs;
