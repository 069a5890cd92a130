//! Rules of every kind that the compiler writes.

use super::need::Need;
use crate::error::line;
use crate::kernel::netns::OpenNetns;
use crate::kernel::nft::run_nft;
use crate::missing::Missing;

const MODULES: &str = "load it, or a kernel with CONFIG_NF_TABLES, CONFIG_NF_TABLES_BRIDGE and CONFIG_NF_TABLES_INET: \
                       modprobe nf_tables nf_tables_bridge";
const NEWER: &str = "Linux 5.10 and nftables 1.0.6 or newer";
const CONNTRACK: &str = "modprobe nf_conntrack nft_ct (CONFIG_NF_CONNTRACK, CONFIG_NFT_CT)";
const NAT: &str = "modprobe nft_nat nft_chain_nat (CONFIG_NFT_NAT)";

/// What is tried, and the text of a table of the family.
const RULES: &[(Need, &str, &str)] = &[
    (
        Need { what: "nftables: filters on bridges", needed_for: "keeping each port to its own addresses", remedy: MODULES },
        "bridge",
        "chain a { type filter hook prerouting priority -310; policy drop; ether type ip accept; ether type != ip drop; }
chain b { type filter hook input priority 20; policy accept; ether type { ip, arp } return; }
chain c { type filter hook forward priority -20; policy accept; ether daddr { 02:00:00:00:00:01 } iifname \"br*\" drop; }
chain d { type filter hook output priority 10; policy accept; ether saddr and ff:ff:ff:ff:ff:ff == 02:00:00:00:00:01 oifname != \"a\" drop; }
chain e { arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4 arp saddr ether 02:00:00:00:00:01 arp saddr ip 192.0.2.1 accept; }
chain f { arp operation request arp daddr ip 192.0.2.1 accept; arp operation reply accept; }",
    ),
    (
        Need { what: "nftables: filters of IP", needed_for: "chains of routers", remedy: MODULES },
        "ip",
        "chain a { type filter hook prerouting priority -145; policy accept; ip saddr 192.0.2.0/24 ip daddr != 192.0.2.1 jump j; iifgroup != 0xa702 drop; }
chain b { type filter hook postrouting priority 110; policy accept; icmp type echo-request icmp code 0 goto j; }
chain j { meta l4proto { tcp, udp, icmp } th sport 1-2 th dport 3 ip protocol 6 continue; }
chain k { icmp type { destination-unreachable, time-exceeded, parameter-problem } return; }",
    ),
    (
        Need { what: "nftables: raw bytes", needed_for: "rules about fragments and the type of service", remedy: NEWER },
        "bridge",
        "chain a { ether type ip ip frag-off and 0x1fff != 0 drop; ether type ip @nh,8,8 == 16 drop; }",
    ),
    (
        Need { what: "nftables: marks of packets", needed_for: "marks that one chain sets for the next", remedy: NEWER },
        "ip",
        "chain a { meta mark set meta mark and 0x10000 or 0x80000; meta mark and 0x10000 != 0 accept; }",
    ),
    (
        Need {
            what: "nftables: sets of several fields",
            needed_for: "keeping each port to its own addresses",
            remedy: NEWER,
        },
        "bridge",
        "set s { type ifname . ether_addr . ether_addr . ipv4_addr; }
set o { type ifname; elements = { \"a\" }; }
chain a { iifname . ether saddr . arp saddr ether . arp saddr ip @s accept; }",
    ),
    (
        Need { what: "nftables: maps from interfaces to chains", needed_for: "chains of ports", remedy: NEWER },
        "bridge",
        "map m { type ifname : verdict; elements = { \"a\" : jump j }; }
chain j { }
chain a { type filter hook prerouting priority 10; iifname vmap @m; oifname vmap { \"a\" : jump j }; }",
    ),
    (
        Need { what: "nftables: sets of networks", needed_for: "runs of rules about networks", remedy: NEWER },
        "ip",
        "set s { type ipv4_addr; flags interval; elements = { 192.0.2.0/25, 192.0.2.128/25 }; }
chain a { ip saddr @s drop; }",
    ),
    (
        Need {
            what: "nftables: sets of networks with further fields",
            needed_for: "runs of rules about networks and ports",
            remedy: "Linux 5.6 or newer",
        },
        "ip",
        "set s { type ipv4_addr . inet_proto . inet_service; flags interval; elements = { 192.0.2.0/25 . 6 . 80-90 }; }
chain a { ip saddr . meta l4proto . th dport @s drop; }",
    ),
    (
        Need { what: "nftables: sets that packets write to", needed_for: "bounds of what a port may show", remedy: NEWER },
        "bridge",
        "set s { type ifname . ether_addr; size 256; flags dynamic,timeout; timeout 5m; }
chain a { update @s { iifname . ether saddr } accept; }",
    ),
    (
        Need { what: "nftables: counters", needed_for: "counting what met each rule", remedy: "Linux 5.7 or newer" },
        "ip",
        "set s { type ipv4_addr; counter; elements = { 192.0.2.1 counter packets 1 bytes 2 comment \"c\" }; }
map m { type ipv4_addr : verdict; counter; elements = { 192.0.2.1 counter comment \"c\" : drop }; }
chain a { ip saddr @s counter drop comment \"c\"; ip saddr vmap @m; }",
    ),
    (
        Need { what: "nftables: counters of what packets write", needed_for: "counting refused frames", remedy: NEWER },
        "bridge",
        "set s { type ifname; size 65535; flags dynamic; elements = { \"a\" counter packets 1 bytes 2 }; }
chain a { update @s { iifname counter }; }",
    ),
    (
        Need { what: "nftables: connection tracking", needed_for: "return flows and translations", remedy: CONNTRACK },
        "ip",
        "chain a { type filter hook prerouting priority -150; ct direction reply ct state { invalid, untracked } drop; \
         ct direction original ct state established,related accept; ct status and 0x30 == 0 drop; }",
    ),
    (
        Need { what: "nftables: marks of flows", needed_for: "reaching pods from this machine", remedy: CONNTRACK },
        "ip",
        "chain a { type filter hook prerouting priority -149; ct state new ct mark set 1; ct mark 1 accept; }",
    ),
    (
        Need {
            what: "nftables: where a flow was sent to, and the frame that a packet came in",
            needed_for: "letting in to pods only what was published",
            remedy: CONNTRACK,
        },
        "ip",
        "chain a { type filter hook postrouting priority -1; policy accept; @ll,48,48 { 0x020000000001 } continue; ct original ip daddr { 192.0.2.1 } accept; ct original ip daddr != 192.0.2.0/24 accept; }",
    ),
    (
        Need {
            what: "nftables: counting of flows",
            needed_for: "bounding the flows of each tenant at a shared router",
            remedy: "modprobe nft_connlimit (CONFIG_NFT_CONNLIMIT)",
        },
        "ip",
        "set s { type ifname; size 65535; flags dynamic; }
chain a { type filter hook forward priority -20; iifname \"rl*\" ct state new add @s { iifname ct count over 9 } drop; }",
    ),
    (
        Need { what: "nftables: translation of sources", needed_for: "rules that translate sources", remedy: NAT },
        "ip",
        "chain a { type nat hook postrouting priority 100; meta l4proto { tcp, udp, icmp } snat to 192.0.2.1-192.0.2.2:1024-65535; }",
    ),
    (
        Need {
            what: "nftables: translation of destinations",
            needed_for: "floating addresses and reaching pods from this machine",
            remedy: NAT,
        },
        "ip",
        "map m { type ipv4_addr : ipv4_addr; }
chain a { type nat hook prerouting priority -101; dnat to 192.0.2.1; dnat to ip daddr map @m; }",
    ),
    (
        Need {
            what: "nftables: random choice",
            needed_for: "translations with several targets",
            remedy: "modprobe nft_numgen (CONFIG_NFT_NUMGEN)",
        },
        "ip",
        "chain j { }
chain a { numgen random mod 2 vmap { 0 : goto j, 1 : goto j }; }",
    ),
    (
        Need {
            what: "nftables: reject",
            needed_for: "telling senders what was refused",
            remedy: "modprobe nft_reject_ipv4 (CONFIG_NFT_REJECT)",
        },
        "ip",
        "chain a { type filter hook forward priority 0; reject with icmp type admin-prohibited; reject with icmp type host-unreachable; }
chain b { type filter hook input priority -10; reject with icmp type admin-prohibited; }
chain c { type filter hook prerouting priority -146; reject with icmp type admin-prohibited; }",
    ),
    (
        Need {
            what: "nftables: the next hop",
            needed_for: "not asking for those who are not there",
            remedy: "modprobe nft_rt (CONFIG_NFT_RT)",
        },
        "ip",
        "set s { type ifname . ipv4_addr; }
chain a { type filter hook forward priority 20; oifname . rt nexthop != @s drop; }",
    ),
];

const ALL: Need = Need { what: "nftables", needed_for: "every filter", remedy: MODULES };

/// Loads all of them together, and one by one when that fails.
pub(super) fn try_all(netns: &OpenNetns) -> Vec<Missing> {
    let load = |script: &str| match netns.run(|| run_nft(script)) {
        Ok(loaded) => loaded,
        Err(error) => Err(line(&error)),
    };
    let table = |(place, (_, family, text)): (usize, &(Need, &str, &str))| {
        format!("table {family} probe_{place} {{\n{text}\n}}\n")
    };
    let tables: Vec<_> = RULES.iter().enumerate().map(table).collect();
    let Err(together) = load(&tables.concat()) else { return Vec::new() };
    let alone = RULES.iter().zip(&tables).filter_map(|((need, ..), table)| Some(need.missing(load(table).err()?)));
    let missing: Vec<_> = alone.collect();
    if missing.is_empty() { vec![ALL.missing(together)] } else { missing }
}
