//! The effects. Everything that knows a syscall, a netlink message or the `nft` program is in here.
//!
//! | module | what |
//! |---|---|
//! | `netns` | network namespaces and their pins |
//! | `netlink` | the rtnetlink socket of one namespace |
//! | `link`, `options`, `repair`, `queue` | links, what they are set to, and what hangs on them |
//! | `address`, `route`, `policy_rule`, `neighbour`, `fdb` | one kind of object each |
//! | `watch` | events |
//! | `nfnetlink` | messages that the next three share |
//! | `nft`, `element`, `swap`, `checksum` | the ruleset of a namespace |
//! | `guard` | the ruleset of the machine's own namespace |
//! | `flows` | tracked flows |
//! | `sysctl` | settings |
//! | `steps` | each change is announced before it is made |

mod address;
mod checksum;
mod element;
pub(crate) mod fdb;
pub(crate) mod flows;
pub(crate) mod guard;
pub(crate) mod link;
mod neighbour;
pub(crate) mod netlink;
pub(crate) mod netns;
mod nfnetlink;
pub(crate) mod nft;
pub(crate) mod options;
pub(crate) mod policy_rule;
mod queue;
mod repair;
mod route;
pub(crate) mod steps;
mod swap;
pub(crate) mod sysctl;
pub(crate) mod watch;
