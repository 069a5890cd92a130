//! The effects. What knows a syscall, a netlink message or the `nft` program is here or in `atoll_node`.
//!
//! | module | what |
//! |---|---|
//! | `netns` | handles of network namespaces |
//! | `netlink` | the rtnetlink socket of one namespace |
//! | `link`, `options`, `repair`, `queue` | links, what they are set to, and what hangs on them |
//! | `address`, `route`, `policy_rule`, `neighbour`, `fdb` | one kind of object each; `atoll_node::netlink` has their messages |
//! | `watch` | events |
//! | `nft`, `element`, `swap`, `checksum` | the ruleset of a namespace |
//! | `guard` | the ruleset of the machine's own namespace |
//! | `flows` | tracked flows |
//! | `sysctl` | settings |
//! | `steps` | each change is announced before it is made |

mod address;
mod checksum;
mod element;
mod fdb;
pub(crate) mod flows;
pub(crate) mod guard;
pub(crate) mod link;
mod neighbour;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod nft;
pub(crate) mod options;
mod policy_rule;
mod queue;
mod repair;
mod route;
pub(crate) mod steps;
mod swap;
pub(crate) mod sysctl;
pub(crate) mod watch;
