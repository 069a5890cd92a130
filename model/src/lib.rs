//! The vocabulary of Atoll: ids and names, configuration, CNI requests and results, the virtual topology.
//!
//! | module | what |
//! |---|---|
//! | [`ids`], [`attachment`], [`mod@derive`] | checked names, and ids that derive from them without a lookup |
//! | [`config`] | the plugin's configuration |
//! | [`cni`] | requests, results and errors of the Container Network Interface, every version |
//! | [`route`] | a route of a pod |
//! | [`host_to_pod`] | the addresses by which a node reaches its own pods |
//! | [`address request`] | what a pod may ask of its interface |
//! | [`topology`], [`port_security`] | a virtual network with MidoNet's meaning |
//! | [`range`] | a range of addresses, as an operator writes it |
//! | [`certificate`] | what a server has against a certificate of ours |
//! | [`clock`] | the time that records and files are stamped with |
//! | [`error`] | what kind of failure an error is |
//! | [`sync`] | taking a lock |
//!
//! Pure: no I/O, no async runtime, no clock but [`clock`].

pub mod address_request;
pub mod attachment;
pub mod certificate;
pub mod clock;
pub mod cni;
pub mod config;
pub mod derive;
pub mod error;
pub mod host_to_pod;
pub mod ids;
pub mod port_security;
pub mod range;
pub mod route;
pub mod secret;
pub mod sync;
pub mod topology;
