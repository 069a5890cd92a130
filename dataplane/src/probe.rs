//! What the machine must have, tried out in a namespace that is thrown away.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use atoll_model::attachment::Mac;
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use crate::kernel::netns::{Netns, on_thread};
use crate::kernel::nl::{Netlink, Steer};

/// Something that the data plane needs and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// How that was noticed.
    pub found: String,
    /// How to get it.
    pub remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.found, self.remedy)
    }
}

/// Rules of every kind that the compiler may write.
const RULES: &[(&str, &str, &str)] = &[
    (
        "nftables: filters on bridges",
        "bridge",
        "type filter hook prerouting priority -310; policy drop;\nether type ip",
    ),
    ("nftables: connection tracking", "ip", "type filter hook prerouting priority -150;\nct direction reply accept"),
    (
        "nftables: translation of addresses",
        "ip",
        "type nat hook postrouting priority 100;\nmeta l4proto { tcp, udp, icmp } snat to 192.0.2.1:1024-65535",
    ),
    (
        "nftables: translation by a map, for the node side",
        "ip",
        "type nat hook prerouting priority -101;\ndnat to ip daddr map { 192.0.2.1 : 192.0.2.2 }",
    ),
    ("nftables: marks of flows", "ip", "type filter hook prerouting priority -149;\nct state new ct mark set 1"),
    ("nftables: reject", "ip", "type filter hook forward priority 0;\nreject with icmp type admin-prohibited"),
];

/// Lists what is missing; empty when the data plane can run here. Leaves nothing behind.
pub fn probe() -> Vec<Missing> {
    if !nix::unistd::geteuid().is_root() {
        return vec![missing("root", "the effective user is not root", "run as root")];
    }
    let nft = Command::new("nft").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if let Err(error) = nft {
        return vec![missing("the program nft", error, "apt-get install nftables")];
    }
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(probe_here())
    })
    .unwrap_or_else(|error| {
        vec![missing("network namespaces", error, "CONFIG_NET_NS and the right to create namespaces are needed")]
    })
}

/// Tries everything in the calling thread's namespace.
fn probe_here() -> Vec<Missing> {
    let mut found = Vec::new();
    match Netlink::open_here() {
        Err(error) => found.push(missing("rtnetlink", error, "CONFIG_NET is needed")),
        Ok(mut netlink) => {
            if let Err(error) = netlink.add_bridge("br0", Mac([2, 0, 0, 0, 0, 1])) {
                found.push(missing("bridges", crate::error::line(&error), "modprobe bridge"));
            }
            let veth = Netns::own()
                .and_then(|own| netlink.add_veth("v0", Mac([2, 0, 0, 0, 0, 2]), &own, "v1", Mac([2, 0, 0, 0, 0, 3])));
            let steer = Steer::Marked { mark: 1, table: 901 };
            if let Err(error) = netlink.add_steer(&steer) {
                found.push(missing(
                    "rules of routing",
                    crate::error::line(&error),
                    "CONFIG_IP_MULTIPLE_TABLES is needed",
                ));
            }
            if let Err(error) = veth {
                found.push(missing("veth pairs", crate::error::line(&error), "modprobe veth"));
            }
        }
    }
    for (number, (what, family, rules)) in RULES.iter().enumerate() {
        let script = format!("table {family} probe_{number} {{\nchain c_probe {{\n{rules}\n}}\n}}\n");
        match crate::kernel::nft::run_nft(&script) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => found.push(missing(what, error, "load or enable the kernel's nf_tables modules")),
            Err(error) => found.push(missing("the program nft", error, "apt-get install nftables")),
        }
    }
    if fs::metadata("/proc/sys/net/ipv4/ip_forward").is_err() {
        found.push(missing("/proc/sys/net", "it is not there", "mount /proc"));
    }
    found
}

fn missing(what: &str, found: impl fmt::Display, remedy: &str) -> Missing {
    Missing { what: what.to_owned(), found: found.to_string(), remedy: remedy.to_owned() }
}
