//! The effects. Everything that knows a syscall, a netlink message or the `nft` program is in here.

mod checksum;
pub(crate) mod drift;
pub(crate) mod flows;
pub(crate) mod guard;
pub(crate) mod netns;
pub(crate) mod nft;
pub(crate) mod nl;
pub(crate) mod options;
mod repair;
pub(crate) mod steps;
mod swap;
pub(crate) mod sysctl;
pub(crate) mod watch;
