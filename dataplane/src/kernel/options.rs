//! Options of links that are not part of their creation: options of a bridge, flags of its ports, settings of IP.
//!
//! Only what differs is returned, with the value it should have: there are many options, and they rarely change.

use atoll_node::netlink::link::Link;
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeBooleanOptionFlags, BridgeBooleanOptions, BridgeStpState, InetDevConf,
    InfoBridge, InfoBridgePort, LinkAttribute,
};

use super::sysctl::Setting;

/// Five minutes, in hundredths of a second: the kernel's own.
const AGEING: u32 = 30_000;

/// Options of a bridge that differ.
pub(super) fn wrong_bridge_options(link: &Link) -> Vec<InfoBridge> {
    link.bridge_options().filter_map(|option| differing(option, right_option(option))).collect()
}

/// Flags of a port that differ.
pub(super) fn wrong_port_flags(link: &Link) -> Vec<InfoBridgePort> {
    link.port_flags().filter_map(|flag| differing(flag, right_flag(flag))).collect()
}

/// Settings under `/proc/sys/net` that differ.
pub(crate) fn wrong_settings(link: &Link) -> Vec<Setting> {
    let families = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    families.flatten().flat_map(settings).collect()
}

fn differing<T: PartialEq>(is: &T, right: Option<T>) -> Option<T> {
    right.filter(|right| right != is)
}

/// The right value of a bridge's option; `None` if any value is right.
fn right_option(option: &InfoBridge) -> Option<InfoBridge> {
    use InfoBridge as O;
    let no_link_local = BridgeBooleanOptionFlags::NoLinkLocalLearn;
    Some(match option {
        O::StpState(_) => O::StpState(BridgeStpState::Disabled),
        O::VlanFiltering(_) => O::VlanFiltering(false),
        O::MulticastSnooping(_) => O::MulticastSnooping(false),
        O::MulticastQuerier(_) => O::MulticastQuerier(false),
        O::AgeingTime(_) => O::AgeingTime(AGEING),
        O::GroupFwdMask(_) => O::GroupFwdMask(0),
        // The setting of the namespace decides whether bridged packets pass the hooks of IP.
        O::NfCallIpTables(_) => O::NfCallIpTables(false),
        O::NfCallIp6Tables(_) => O::NfCallIp6Tables(false),
        O::NfCallArpTables(_) => O::NfCallArpTables(false),
        O::FdbMaxLearned(_) => O::FdbMaxLearned(0),
        O::MultiBoolOpt(now) if !now.value.contains(no_link_local) => {
            O::MultiBoolOpt(BridgeBooleanOptions { value: no_link_local, mask: no_link_local })
        }
        _ => return None,
    })
}

/// The right value of a port's flag; `None` if any value is right, or if it depends on the port, as learning does.
fn right_flag(flag: &InfoBridgePort) -> Option<InfoBridgePort> {
    use InfoBridgePort as F;
    Some(match flag {
        F::HairpinMode(_) => F::HairpinMode(false),
        F::Guard(_) => F::Guard(false),
        F::Protect(_) => F::Protect(false),
        F::FastLeave(_) => F::FastLeave(false),
        F::UnicastFlood(_) => F::UnicastFlood(true),
        F::MulticastFlood(_) => F::MulticastFlood(true),
        F::BroadcastFlood(_) => F::BroadcastFlood(true),
        F::MulticastToUnicast(_) => F::MulticastToUnicast(false),
        F::ProxyARP(_) => F::ProxyARP(false),
        F::ProxyARPWifi(_) => F::ProxyARPWifi(false),
        F::NeighSupress(_) => F::NeighSupress(false),
        F::Isolated(_) => F::Isolated(false),
        F::Locked(_) => F::Locked(false),
        F::VlanTunnel(_) => F::VlanTunnel(false),
        F::GroupFwdMask(_) => F::GroupFwdMask(0),
        _ => return None,
    })
}

/// A setting of an interface, its reader, and its right value. The kernel combines some of these with the setting for all
/// interfaces, by "or" or by the maximum, so a wrong value here would override that one.
type Right = (&'static str, fn(&InetDevConf) -> i32, &'static str);

const RIGHT: &[Right] = &[
    ("forwarding", |it| it.forwarding, "1"),
    ("rp_filter", |it| it.rp_filter, "0"),
    ("proxy_arp", |it| it.proxy_arp, "0"),
    ("proxy_arp_pvlan", |it| it.proxy_arp_pvlan, "0"),
    ("arp_ignore", |it| it.arp_ignore, "1"),
    ("arp_announce", |it| it.arp_announce, "2"),
    ("arp_accept", |it| it.arp_accept, "0"),
    ("arp_filter", |it| it.arpfilter, "0"),
    ("accept_local", |it| it.accept_local, "0"),
    ("route_localnet", |it| it.route_localnet, "0"),
    ("accept_redirects", |it| it.accept_redirects, "0"),
    ("send_redirects", |it| it.send_redirects, "0"),
    ("accept_source_route", |it| it.accept_source_route, "0"),
    ("bc_forwarding", |it| it.bc_forwarding, "0"),
    ("src_valid_mark", |it| it.src_vmark, "0"),
    ("ignore_routes_with_linkdown", |it| it.ignore_routes_with_linkdown, "0"),
    ("drop_gratuitous_arp", |it| it.drop_gratuitous_arp, "0"),
    ("drop_unicast_in_l2_multicast", |it| it.drop_unicast_in_l2_multicast, "0"),
];

fn settings(family: &AfSpecUnspec) -> Vec<Setting> {
    let mut wrong = Vec::new();
    match family {
        AfSpecUnspec::Inet(parts) => {
            for part in parts {
                if let AfSpecInet::DevConf(now) = part {
                    let differ = RIGHT.iter().filter(|(_, read, right)| read(now).to_string() != *right);
                    wrong.extend(differ.map(|(key, _, right)| Setting { family: "ipv4", key, right }));
                }
            }
        }
        AfSpecUnspec::Inet6(parts) => {
            let on = |part: &AfSpecInet6| matches!(part, AfSpecInet6::DevConf(now) if now.disable_ipv6 == 0);
            if parts.iter().any(on) {
                wrong.push(Setting { family: "ipv6", key: "disable_ipv6", right: "1" });
            }
        }
        _ => {}
    }
    wrong
}
