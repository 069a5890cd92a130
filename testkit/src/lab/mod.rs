//! The lab of the scenarios in `tests/` and of the programs in `tools/`: real etcd, real namespaces, real binaries, real packets.
//!
//! | module | what |
//! |---|---|
//! | [`scratch`] | a directory of its own for each node, kept when the test fails |
//! | [`netns`] | network namespaces, and running commands inside them |
//! | [`daemon`] | servers as child processes, with their log |
//! | [`servers`] | etcd and the controller |
//! | [`node`] | a machine: a namespace in which etcd, the controller and the runtime side of the plugin live |
//! | [`ovn`] | several machines with OVN: databases, chassis, an external network |
//! | [`place`] | where the namespaces, files and servers of such a lab are, and until when |
//! | [`pod`], [`cni`] | a pod's namespace, and the plugin called as a runtime calls it |
//! | [`traced`] | a call that is killed at one of its system calls |
//! | [`ctl`] | `atollctl`, as an operator runs it |
//! | [`station`] | pods and hosts whose frames the conformance suite of the engines sends and captures |
//! | [`reach`] | reachability: ping, and TCP with a banner that names the server |
//! | [`leftovers`] | checks that nothing of Atoll is left |
//! | [`wait`], [`http`], [`programs`] | waiting for a condition, one GET, the paths of our binaries |
//!
//! The code for containerd and podman is beside its scenarios, in `tests/tests/scenarios/runtimes/`.
//!
//! # Guarantees
//! - The machine's own network namespace is not changed.
//! - Everything that is created is named `at-t<pid>-…` and is removed when its owner is dropped, also after a failure. The
//!   quickstart gives names of its own to what outlives it.
//! - Processes are ended by their id.
//! - Without root every test fails; none is skipped.

pub mod cni;
pub mod ctl;
pub mod daemon;
pub mod http;
pub mod leftovers;
pub mod netns;
pub mod node;
pub mod ovn;
pub mod place;
pub mod pod;
pub mod programs;
pub mod reach;
pub mod scratch;
pub mod servers;
pub mod station;
pub mod traced;
pub mod wait;
