//! Test doubles, fixtures and the lab that tests share. No program that ships depends on it.
//!
//! | module | for |
//! |---|---|
//! | [`store`] | an etcd in memory; stores with injected faults |
//! | [`kernel`] | a kernel in memory for the plugin; one with injected faults |
//! | [`controller`], [`transport`] | the mock controller without a network; a transport with injected faults |
//! | [`steps`] | counts, refuses or cuts off the changes that a data plane makes |
//! | [`recorder`] | an engine without a server, which writes down what it would do |
//! | [`authority`] | an authority with certificates |
//! | [`process`] | ports without a listener, signals to a server of a test |
//! | [`cell`] | cells that test doubles share between threads |
//! | [`send`] | futures that move between threads |
//! | [`fault`] | the plan that makes these fail |
//! | [`mutate`] | seeded mutations of a corpus |
//! | [`plane`] | a data plane in a network namespace of the test: topologies, pods, frames |
//! | [`etcd`] | a real etcd of one test |
//! | [`fixture`] | the records of a cluster with one node and one tenant |
//! | [`ovn`] | real parts of OVN: its programs, database servers of one test |
//! | [`lab`] | machines, servers and pods, as namespaces and processes |
//! | [`program`] | programs of the machine that a test starts |

pub mod authority;
pub mod cell;
pub mod controller;
pub mod etcd;
pub mod fault;
pub mod fixture;
pub mod kernel;
pub mod lab;
pub mod mutate;
pub mod ovn;
pub mod plane;
pub mod process;
pub mod program;
pub mod recorder;
pub mod send;
pub mod steps;
pub mod store;
pub mod transport;
