//! Settings of a namespace under `/proc/sys/net`, which shows the namespace of the thread that reads it.

use std::fs;
use std::io;

use super::netns::OpenNetns;
use super::steps::step;
use crate::error::PlaneError;

/// Settings of a router namespace. `ip_forward` is first because writing it resets others.
const ROUTER: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // A router answers ARP requests for its own addresses on their own links only.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/default/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/default/arp_announce", "2"),
    // A new MAC of an address is announced. Otherwise neighbours would send to the earlier one for a while.
    ("ipv4/conf/all/arp_notify", "1"),
    ("ipv4/conf/default/arp_notify", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
];

/// Settings whose default is right. They differ if they were changed here or in the machine's own namespace, whose settings new
/// namespaces inherit (`net.core.devconf_inherit_init_net`). Kube-proxy, for example, accepts packets for 127.0.0.0/8.
const USUAL: &[(&str, &str)] = &[
    ("ipv4/conf/default/forwarding", "1"),
    ("ipv4/conf/all/proxy_arp", "0"),
    ("ipv4/conf/default/proxy_arp", "0"),
    ("ipv4/conf/all/proxy_arp_pvlan", "0"),
    ("ipv4/conf/default/proxy_arp_pvlan", "0"),
    ("ipv4/conf/all/arp_accept", "0"),
    ("ipv4/conf/default/arp_accept", "0"),
    ("ipv4/conf/all/arp_filter", "0"),
    ("ipv4/conf/default/arp_filter", "0"),
    ("ipv4/conf/all/accept_local", "0"),
    ("ipv4/conf/default/accept_local", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/default/route_localnet", "0"),
    ("ipv4/conf/all/bc_forwarding", "0"),
    ("ipv4/conf/default/bc_forwarding", "0"),
    ("ipv4/conf/all/src_valid_mark", "0"),
    ("ipv4/conf/default/src_valid_mark", "0"),
    ("ipv4/conf/all/ignore_routes_with_linkdown", "0"),
    ("ipv4/conf/default/ignore_routes_with_linkdown", "0"),
    ("ipv4/conf/all/drop_gratuitous_arp", "0"),
    ("ipv4/conf/default/drop_gratuitous_arp", "0"),
    ("ipv4/conf/all/drop_unicast_in_l2_multicast", "0"),
    ("ipv4/conf/default/drop_unicast_in_l2_multicast", "0"),
    // ICMP errors of a router, and their source address.
    ("ipv4/icmp_echo_ignore_all", "0"),
    ("ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("ipv4/icmp_errors_use_inbound_ifaddr", "0"),
    ("ipv4/ip_default_ttl", "64"),
];

/// Settings that exist only with connection tracking and bridge filtering.
const WHERE_THERE: &[(&str, &str)] = &[
    ("netfilter/nf_conntrack_tcp_be_liberal", "0"),
    ("netfilter/nf_conntrack_tcp_loose", "1"),
    ("netfilter/nf_conntrack_checksum", "1"),
    ("bridge/bridge-nf-filter-vlan-tagged", "0"),
    ("bridge/bridge-nf-filter-pppoe-tagged", "0"),
    ("bridge/bridge-nf-pass-vlan-input-dev", "0"),
];

/// A setting of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// `ipv4` or `ipv6`.
    pub(super) family: &'static str,
    pub(super) key: &'static str,
    /// What it should be.
    pub(super) right: &'static str,
}

/// Writes settings of interfaces; returns how many differed.
pub(crate) fn interfaces(netns: &OpenNetns, wrong: &[(String, Setting)]) -> Result<usize, PlaneError> {
    if wrong.is_empty() {
        return Ok(0);
    }
    let key = |name: &str, it: Setting| format!("{}/conf/{name}/{}", it.family, it.key);
    netns.run(|| wrong.iter().map(|(name, setting)| set(&key(name, *setting), setting.right)).sum())
}

/// Whether bridged packets pass the hooks of IP. They do by default in every new namespace if `br_netfilter` is loaded. If it is
/// not, the keys are absent and bridged packets do not pass.
const BRIDGED: [&str; 3] =
    ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-arptables"];

/// Settings of the external network's namespace: it answers, and forwards nothing.
const HOST: &[(&str, &str)] =
    &[("ipv4/ip_forward", "0"), ("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];

/// Makes a namespace a router; returns how many settings differed. `inner`: only pods and other routers of ours send to it.
pub(crate) fn router(netns: &OpenNetns, track_bridged: bool, inner: bool, node: bool) -> Result<usize, PlaneError> {
    netns.run(move || {
        let mut changes = ROUTER.iter().map(|(key, value)| set(key, value)).sum::<io::Result<usize>>()?;
        changes += usual()?;
        // A sender that can use its own address only may get an error for each packet; senders behind an uplink get the
        // kernel's usual few ICMP errors, because they may forge their address.
        // ICMP errors for packets of the node have the mark that leads back to the node, and those for packets that a bridge
        // rejected have the mark that passes the bridge.
        changes += set("ipv4/fwmark_reflect", if node || track_bridged { "1" } else { "0" })?;
        changes += set("ipv4/icmp_ratemask", if inner { "0" } else { "6168" })?;
        for (place, key) in BRIDGED.into_iter().enumerate() {
            // If rules match on flows, a kernel that cannot pass bridged packets to the hooks of IP is an error: such rules
            // would never match.
            let needed = place == 0 && track_bridged;
            if needed || fs::exists(path(key))? {
                changes += set(key, if place == 0 && track_bridged { "1" } else { "0" })?;
            }
        }
        Ok(changes)
    })
}

/// All in one step: none depends on another, and the next comparison covers each.
fn usual() -> io::Result<usize> {
    let mut wrong = Vec::new();
    for (key, value) in USUAL {
        if differs(key, value)? {
            wrong.push((key, value));
        }
    }
    for (key, value) in WHERE_THERE {
        if fs::exists(path(key))? && differs(key, value)? {
            wrong.push((key, value));
        }
    }
    let Some((first, _)) = wrong.first() else { return Ok(0) };
    step(&path(first))?;
    wrong.iter().try_for_each(|(key, value)| write(key, value))?;
    Ok(wrong.len())
}

/// Settings of a router that cannot be written here, each with the kernel's reason.
pub(crate) fn refused(netns: &OpenNetns) -> Vec<(String, io::Error)> {
    let further = [("ipv4/fwmark_reflect", "1"), ("ipv4/icmp_ratemask", "0")];
    let tried = netns.run(|| {
        let all = ROUTER.iter().chain(&further);
        // The value must change: equal values are not written.
        let other = |value: &str| if value == "0" { "1" } else { "0" };
        let tried = all.map(|(key, value)| (*key, set(key, other(value)).and_then(|_| set(key, value)).err()));
        Ok(tried.filter_map(|(key, error)| Some((key.to_owned(), error?))).collect())
    });
    tried.unwrap_or_else(|error| vec![(path(""), io::Error::other(error))])
}

/// Checks whether bridged packets can pass the hooks of IP.
pub(crate) fn bridged(netns: &OpenNetns) -> Result<(), PlaneError> {
    netns.run(|| BRIDGED.iter().try_for_each(|key| set(key, "0").and_then(|_| set(key, "1")).map(drop)))
}

/// Makes a namespace a plain host; returns how many settings differed.
pub(crate) fn host(netns: &OpenNetns) -> Result<usize, PlaneError> {
    netns.run(|| HOST.iter().map(|(key, value)| set(key, value)).sum())
}

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

fn set(key: &str, value: &str) -> io::Result<usize> {
    if !differs(key, value)? {
        return Ok(0);
    }
    step(&path(key))?;
    write(key, value).map(|()| 1)
}

fn differs(key: &str, value: &str) -> io::Result<bool> {
    match fs::read_to_string(path(key)) {
        Ok(now) => Ok(now.trim() != value),
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => Ok(false),
        Err(error) => Err(with_key(key, &error)),
    }
}

fn write(key: &str, value: &str) -> io::Result<()> {
    fs::write(path(key), value).map_err(|error| with_key(key, &error))
}

fn with_key(key: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path(key)))
}
