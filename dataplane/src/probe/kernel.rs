//! Requests about links, routes, neighbours, settings and elements of filters, each kind once.

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_node::netlink::fdb::{FdbEntry, FdbOrigin};
use atoll_node::netlink::link::Link;
use atoll_node::netlink::policy_rule::{PolicyRule, RuleSelector};
use ipnetwork::Ipv4Network;

use super::need::Need;
use crate::compile::{Element, GROUP, KernelRoute, MAIN, Neighbour, NextHop, NftSet, Ruleset, TO_PODS};
use crate::error::{PlaneError, line};
use crate::kernel::flows::{Flow, Flows};
use crate::kernel::guard::Guard;
use crate::kernel::link::is_taken;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::OpenNetns;
use crate::kernel::nft::{Filter, run_nft};
use crate::kernel::sysctl;
use crate::missing::Missing;

const PINS: Need = Need {
    what: "mounts of network namespaces",
    needed_for: "namespaces that outlive the process",
    remedy: "the right to mount: CAP_SYS_ADMIN, and no seccomp or AppArmor profile that forbids it",
};
const SETTINGS: Need = Need {
    what: "settings of a namespace",
    needed_for: "forwarding, and routers that answer for themselves only",
    remedy: "/proc/sys must be mounted writable, as a container with --privileged has it",
};
const BRIDGED: Need = Need {
    what: "bridged packets before the hooks of IP",
    needed_for: "rules of ports and bridges that ask for flows or reject; ports with such rules stay closed",
    remedy: "modprobe br_netfilter",
};
const RTNETLINK: Need =
    Need { what: "rtnetlink", needed_for: "every link and route", remedy: "a kernel with CONFIG_NET" };
const BRIDGES: Need = Need { what: "bridges", needed_for: "every bridge", remedy: "modprobe bridge (CONFIG_BRIDGE)" };
const PAIRS: Need =
    Need { what: "veth pairs", needed_for: "links between routers, and pods", remedy: "modprobe veth (CONFIG_VETH)" };
const PORTS: Need = Need {
    what: "ports of bridges that do not learn",
    needed_for: "keeping each port to its own MAC",
    remedy: "Linux 5.0 or newer, with CONFIG_BRIDGE",
};
const STATIONS: Need = Need {
    what: "entries of bridges that learning leaves alone",
    needed_for: "keeping each port to its own MAC",
    remedy: "Linux 4.20 or newer, with CONFIG_BRIDGE",
};
const LINKS: Need = Need {
    what: "changes of links",
    needed_for: "uplinks that are taken from this machine and given back",
    remedy: "Linux 4.0 or newer",
};
const ADDRESSES: Need =
    Need { what: "addresses and neighbours", needed_for: "every router", remedy: "a kernel with CONFIG_INET" };
const ROUTES: Need = Need {
    what: "routes of every kind",
    needed_for: "every router",
    remedy: "a kernel with CONFIG_IP_MULTIPLE_TABLES",
};
const POLICY_RULES: Need = Need {
    what: "rules of routing",
    needed_for: "routes by source, and reaching pods from this machine",
    remedy: "a kernel with CONFIG_IP_MULTIPLE_TABLES",
};
const NFNETLINK: Need = Need {
    what: "tables of nftables, and their elements by nfnetlink",
    needed_for: "filters, without which no port is opened",
    remedy: "modprobe nfnetlink nf_tables (CONFIG_NETFILTER_NETLINK, CONFIG_NF_TABLES)",
};

const FLOWS: Need = Need {
    what: "tracked flows by ctnetlink",
    needed_for: "forgetting the flows of a pod that is gone, or its address's next pod would get them",
    remedy: "modprobe nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)",
};

type Tried<T> = Result<T, PlaneError>;

/// Everything that is not a rule of nftables. `here` and `there` are temporary namespaces.
pub(super) fn try_all(here: &OpenNetns, there: &OpenNetns) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut try_one =
        |need: &Need, tried: Tried<()>| missing.extend(tried.err().map(|error| need.missing(line(&error))));
    try_one(&PINS, OpenNetns::try_to_pin());
    let mut links = None;
    match Netlink::open(here) {
        Err(error) => try_one(&RTNETLINK, Err(error)),
        Ok(mut netlink) => {
            let bridge = bridge(&mut netlink);
            let pair = pair(&mut netlink, there);
            if let (Ok(bridge), Ok(pair)) = (&bridge, &pair) {
                try_one(&PORTS, port(&mut netlink, bridge, pair));
                try_one(&STATIONS, station(&mut netlink, bridge, pair));
                try_one(&ADDRESSES, addresses(&mut netlink, bridge));
                try_one(&ROUTES, routes(&mut netlink, bridge));
                try_one(&LINKS, changes(&mut netlink, pair, there));
            }
            try_one(&POLICY_RULES, policy_rules(&mut netlink));
            links = Some((bridge, pair));
        }
    }
    if let Some((bridge, pair)) = links {
        try_one(&BRIDGES, bridge.map(drop));
        try_one(&PAIRS, pair.map(drop));
    }
    try_one(&NFNETLINK, elements(here));
    try_one(&FLOWS, flows(here));
    missing
        .extend(sysctl::refused(here).into_iter().map(|(key, error)| SETTINGS.missing(format_args!("{key}: {error}"))));
    if let Err(error) = sysctl::bridged(here) {
        missing.push(Missing { essential: false, ..BRIDGED.missing(line(&error)) });
    }
    missing
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// The created link, once the kernel shows it as requested.
fn shown(netlink: &mut Netlink, name: &str, is: impl Fn(&Link) -> bool) -> Tried<Link> {
    let link = netlink.link(name)?.filter(is);
    link.ok_or_else(|| ignored(format!("link {name}")))
}

/// An old kernel accepts a request and ignores what it does not know.
fn ignored(what: String) -> PlaneError {
    PlaneError::Netlink { what, source: std::io::Error::other("the kernel has taken it, and does not do it") }
}

fn bridge(netlink: &mut Netlink) -> Tried<Link> {
    netlink.add_bridge("br0", mac(1))?;
    let bridge = shown(netlink, "br0", |link| link.group == GROUP && link.mac == Some(mac(1)))?;
    netlink.set_up(&bridge, true)?;
    Ok(bridge)
}

fn pair(netlink: &mut Netlink, there: &OpenNetns) -> Tried<Link> {
    netlink.add_veth("v0", mac(2), there, "v1", mac(3))?;
    shown(netlink, "v0", |link| link.group == GROUP && link.peer.is_some())
}

fn port(netlink: &mut Netlink, bridge: &Link, pair: &Link) -> Tried<()> {
    netlink.set_master(pair, Some(bridge.index))?;
    netlink.repair_port(pair, false)?;
    shown(netlink, "v0", |link| link.master == Some(bridge.index) && link.is_learning() == Some(false)).map(drop)
}

fn station(netlink: &mut Netlink, bridge: &Link, pair: &Link) -> Tried<()> {
    // It is a port only if an earlier check made it one.
    netlink.set_master(pair, Some(bridge.index))?;
    netlink.add_fdb_entry(pair.index, mac(4))?;
    let entry = FdbEntry { port: pair.index, mac: mac(4), origin: FdbOrigin::Sticky };
    if !netlink.fdb()?.contains(&entry) {
        return Err(ignored("FDB entry".to_owned()));
    }
    netlink.delete_fdb_entry(pair.index, mac(4))
}

fn changes(netlink: &mut Netlink, pair: &Link, there: &OpenNetns) -> Tried<()> {
    netlink.leave_master(pair)?;
    netlink.set_mac(pair, mac(5))?;
    netlink.mark_taken(pair, true)?;
    shown(netlink, "v0", |link| is_taken(link) && link.mac == Some(mac(5)))?;
    netlink.move_to(pair, there)?;
    let mut other = Netlink::open(there)?;
    let moved = shown(&mut other, "v0", is_taken)?;
    other.delete(&moved)
}

const TEST_NET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);

fn addresses(netlink: &mut Netlink, bridge: &Link) -> Tried<()> {
    let address = Ipv4Network::from(Ipv4Addr::new(192, 0, 2, 1));
    let neighbour = Neighbour { device: bridge.index, address: Ipv4Addr::new(192, 0, 2, 2), mac: mac(6) };
    netlink.add_address(bridge.index, address)?;
    netlink.add_neighbour(&neighbour)?;
    if !netlink.addresses()?.contains(&(bridge.index, address)) || !netlink.neighbours()?.contains(&neighbour) {
        return Err(ignored("address and neighbour".to_owned()));
    }
    netlink.delete_neighbour(&neighbour)?;
    netlink.delete_address(bridge.index, address)
}

fn routes(netlink: &mut Netlink, bridge: &Link) -> Tried<()> {
    let destination = Ipv4Network::new(TEST_NET, 24).expect("24 is a length");
    let gateway = Ipv4Addr::new(203, 0, 113, 1);
    let device = bridge.index;
    for (place, next) in
        [NextHop::Direct { device }, NextHop::Via { device, gateway }, NextHop::BlackHole, NextHop::Prohibit]
            .into_iter()
            .enumerate()
    {
        let metric = u32::try_from(place).unwrap_or_default();
        for table in [MAIN, TO_PODS] {
            let route = KernelRoute { table, destination, metric, next: next.clone() };
            netlink.add_route(&route)?;
            if !netlink.routes()?.contains(&route) {
                return Err(ignored(format!("route {next:?}")));
            }
            netlink.delete_route(&route)?;
        }
    }
    let own = Ipv4Addr::new(192, 0, 2, 3);
    netlink.add_address(device, own.into())?;
    let route = KernelRoute { table: MAIN, destination, metric: 0, next: NextHop::Direct { device } };
    netlink.add_sourced_route(&route, Some(own))?;
    netlink.delete_route(&route)?;
    netlink.delete_address(device, own.into())
}

fn policy_rules(netlink: &mut Netlink) -> Tried<()> {
    let source = RuleSelector::Source(Ipv4Network::new(TEST_NET, 24).expect("24 is a length").into());
    let selectors = [source, RuleSelector::Interface("v0".to_owned()), RuleSelector::Mark(1)];
    let rules = selectors.map(|selector| PolicyRule { selector, table: TO_PODS });
    for rule in &rules {
        netlink.add_policy_rule(rule)?;
    }
    let have = netlink.policy_rules()?;
    if !rules.iter().all(|rule| have.contains(rule)) {
        return Err(ignored("policy rules".to_owned()));
    }
    for rule in &rules {
        netlink.delete_policy_rule(rule)?;
    }
    Ok(())
}

fn flows(netns: &OpenNetns) -> Tried<()> {
    let mut flows = Flows::open(netns)?;
    let flow = Flow::of_datagram(TEST_NET, Ipv4Addr::new(192, 0, 2, 1));
    flows.remember(&flow)?;
    if flows.of(TEST_NET)? != [flow] || flows.find(&flow.reply)? != Some(flow) {
        return Err(ignored("tracked flow".to_owned()));
    }
    flows.forget(&flow)?;
    if flows.all()?.is_empty() { Ok(()) } else { Err(ignored("forgetting a tracked flow".to_owned())) }
}

fn elements(netns: &OpenNetns) -> Tried<()> {
    let mut filter = Filter::open(netns)?;
    let tables = "table bridge atoll { set open { type ifname; }\n}\n";
    netns.run(|| run_nft(tables))?.map_err(PlaneError::Filter)?;
    let element = Element { set: NftSet::Open, interface: "v0".to_owned(), source: None, chain: None, node: None };
    filter.change(std::slice::from_ref(&element), &[])?;
    if !filter.elements()?.contains(&element) {
        return Err(ignored("elements".to_owned()));
    }
    filter.change(&[], &[element])?;
    let mut guard = Guard::open(netns, "atoll_probe")?;
    let ruleset = Ruleset::empty("atoll_probe");
    guard.ensure(netns, &ruleset)?;
    // What is loaded is recognised.
    if guard.ensure(netns, &ruleset)? == 0 { Ok(()) } else { Err(ignored("tables".to_owned())) }
}
