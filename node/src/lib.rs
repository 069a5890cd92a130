//! This machine, as the plugin, the data plane and the command line use it.
//!
//! | module | what |
//! |---|---|
//! | [`netlink`] | requests to the kernel about links, addresses, routes, rules and neighbours |

pub mod netlink;
