//! Checks what the machine must have, in temporary namespaces.
//!
//! Each kind of request to the kernel is made here once, by the code that makes it later; the list of rules (`rules.rs`) has each
//! keyword that the compiler may write. `tests/all/probe.rs` compares both with the requests of a running data plane. A missing
//! feature is reported with what needs it and how to get it.

mod kernel;
mod need;
mod rules;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::kernel::netns::OpenNetns;
use crate::kernel::steps::{self, BeforeChange};
use crate::missing::Missing;
use need::Need;

const ROOT: Need = Need { what: "root", needed_for: "everything", remedy: "run it as root" };
/// Required bits of the effective capability set (`capabilities(7)`), each with its purpose.
const CAPABILITIES: [(u32, Need); 2] = [
    (
        21,
        Need {
            what: "the capability CAP_SYS_ADMIN",
            needed_for: "network namespaces and the mounts that pin them",
            remedy: "do not drop it: in a container it takes --privileged, in a unit CapabilityBoundingSet=",
        },
    ),
    (
        12,
        Need {
            what: "the capability CAP_NET_ADMIN",
            needed_for: "links, routes and filters",
            remedy: "do not drop it: in a container it takes --privileged, in a unit CapabilityBoundingSet=",
        },
    ),
];
const PROC: Need = Need { what: "/proc", needed_for: "everything", remedy: "mount -t proc proc /proc" };
const NFT: Need = Need {
    what: "the program nft",
    needed_for: "every filter",
    remedy: "apt-get install nftables; it must be in PATH",
};
const NAMESPACES: Need = Need {
    what: "network namespaces",
    needed_for: "every router",
    remedy: "a kernel with CONFIG_NET_NS; see also /proc/sys/user/max_net_namespaces",
};

/// Lists what is missing; nothing of it is essential if the data plane can run here. Leaves nothing behind.
pub fn probe() -> Vec<Missing> {
    probe_with(None)
}

/// The same. `before_change` receives each request that changes something before it is made, and may refuse it.
pub fn probe_with(before_change: Option<Arc<dyn BeforeChange>>) -> Vec<Missing> {
    let before = steps::current();
    steps::follow(before_change);
    let missing = tried();
    steps::follow(before);
    missing
}

fn tried() -> Vec<Missing> {
    if !nix::unistd::geteuid().is_root() {
        return vec![ROOT.missing("the effective user is not root")];
    }
    let lacking = match fs::read_to_string("/proc/thread-self/status") {
        Ok(status) => lacking(&status),
        Err(error) => return vec![PROC.missing(format_args!("/proc/thread-self/status: {error}"))],
    };
    if !lacking.is_empty() {
        return lacking;
    }
    let nft = Command::new("nft").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(error) = nft {
        return vec![NFT.missing(error)];
    }
    match OpenNetns::fresh().and_then(|one| Ok((one, OpenNetns::fresh()?))) {
        Ok((one, other)) => kernel::try_all(&one, &other).into_iter().chain(rules::try_all(&one)).collect(),
        Err(error) => vec![NAMESPACES.missing(crate::error::line(&error))],
    }
}

/// Capabilities that the effective set of a `status` of `/proc` does not have.
fn lacking(status: &str) -> Vec<Missing> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(u64::MAX);
    let without = CAPABILITIES.iter().filter(|(bit, _)| set & (1 << bit) == 0);
    without.map(|(_, need)| need.missing("it is not in the effective set")).collect()
}
