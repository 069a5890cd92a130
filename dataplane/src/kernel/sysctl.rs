//! Settings of a namespace under `/proc/sys/net`, which shows the namespace of the thread that looks.

use std::fs;
use std::io;

use super::netns::Netns;
use super::steps::step;
use crate::error::PlaneError;

/// What a router's namespace needs. `ip_forward` comes first: writing it resets others.
const ROUTER: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // A router that answers for its own addresses on its own links only.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
];

/// Whether bridged packets pass the hooks of IP. They do by default in every new namespace where `br_netfilter` is
/// loaded; where it is not, the keys are not there and nothing passes.
const BRIDGED: [&str; 3] =
    ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables"];

/// What the world behind an uplink needs: it answers, and forwards nothing.
const HOST: &[(&str, &str)] =
    &[("ipv4/ip_forward", "0"), ("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];

/// Makes a namespace a router; answers how many settings differed. `inner`: only pods and other routers of ours send
/// here.
pub(crate) fn router(netns: &Netns, track_bridged: bool, inner: bool, node: bool) -> Result<usize, PlaneError> {
    netns.run(move || {
        let mut changes = ROUTER.iter().map(|(key, value)| set(key, value)).sum::<io::Result<usize>>()?;
        // Whoever speaks as itself only may be told about each of its packets; strangers get the usual few ICMP errors,
        // because they may name somebody else as their sender.
        // What the router says about a packet of the node goes back to the node, and what it says about one that a
        // bridge rejected passes that bridge.
        changes += set("ipv4/fwmark_reflect", if node || track_bridged { "1" } else { "0" })?;
        changes += set("ipv4/icmp_ratemask", if inner { "0" } else { "6168" })?;
        for (place, key) in BRIDGED.into_iter().enumerate() {
            // Where rules ask for flows, a kernel that cannot show bridged packets to the hooks of IP is an error:
            // such rules would mean nothing.
            let needed = place == 0 && track_bridged;
            if needed || fs::exists(path(key))? {
                changes += set(key, if place == 0 && track_bridged { "1" } else { "0" })?;
            }
        }
        Ok(changes)
    })
}

/// Settings of a router that cannot be written here, each with the kernel's reason.
pub(crate) fn refused(netns: &Netns) -> Vec<(String, io::Error)> {
    let further = [("ipv4/fwmark_reflect", "1"), ("ipv4/icmp_ratemask", "0")];
    let tried = netns.run(|| {
        let all = ROUTER.iter().chain(&further);
        // The value changes, or nothing would be written.
        let other = |value: &str| if value == "0" { "1" } else { "0" };
        let tried = all.map(|(key, value)| (*key, set(key, other(value)).and_then(|_| set(key, value)).err()));
        Ok(tried.filter_map(|(key, error)| Some((key.to_owned(), error?))).collect())
    });
    tried.unwrap_or_else(|error| vec![(path(""), io::Error::other(error))])
}

/// Tries whether bridged packets can pass the hooks of IP.
pub(crate) fn bridged(netns: &Netns) -> Result<(), PlaneError> {
    netns.run(|| BRIDGED.iter().try_for_each(|key| set(key, "0").and_then(|_| set(key, "1")).map(drop)))
}

/// Makes a namespace a plain host; answers how many settings differed.
pub(crate) fn host(netns: &Netns) -> Result<usize, PlaneError> {
    netns.run(|| HOST.iter().map(|(key, value)| set(key, value)).sum())
}

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

fn set(key: &str, value: &str) -> io::Result<usize> {
    let path = path(key);
    let with_key = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    match fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(0),
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => Ok(0),
        Ok(_) => step(&path).and_then(|()| fs::write(&path, value)).map(|()| 1).map_err(with_key),
        Err(error) => Err(with_key(error)),
    }
}
