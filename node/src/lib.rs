//! This machine, as the plugin, the data plane and the command line use it.
//!
//! | module | what |
//! |---|---|
//! | [`paths`] | every path below `runDir` and `stateDir` |
//! | [`files`] | reading, replacing, locking and printing |
//! | [`attachments`] | locks and states of attachments |
//! | [`tombstones`] | cleanup that could not be recorded in etcd |
//! | [`endpoints`] | the order in which the endpoints of a service are tried |
//! | [`netns`] | network namespaces and their pins |
//! | [`netlink`] | requests to the kernel about links, addresses, routes, policy rules, neighbours and bridge entries |
//! | [`veth`] | what marks the interfaces of attachments |

pub mod attachments;
pub mod endpoints;
pub mod files;
pub mod netlink;
pub mod netns;
pub mod paths;
pub mod tombstones;
pub mod veth;
