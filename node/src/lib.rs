//! This machine, as the plugin, the data plane and the command line use it.
//!
//! | module | what |
//! |---|---|
//! | [`netlink`] | requests to the kernel about links, addresses, routes, rules and neighbours |
//! | [`files`] | reading, replacing, locking and printing |
//! | [`paths`] | every path below `runDir` and `stateDir` |

pub mod files;
pub mod netlink;
pub mod paths;
