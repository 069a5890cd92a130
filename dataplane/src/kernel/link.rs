//! Links: bridges, veth pairs, and interfaces of pods and of the machine.

use atoll_model::attachment::Mac;
use atoll_node::netlink::link::{self, Link, LinkKind, VethEnd};
use rtnetlink::packet_route::link::{BridgeBooleanOptionFlags, BridgeBooleanOptions, InfoBridge, LinkAttribute};
use uuid::Uuid;

use super::netlink::Netlink;
use super::netns::OpenNetns;
use crate::compile::GROUP;
use crate::counters::Count;
use crate::error::PlaneError;

/// The kernel's own for a new link.
pub(crate) const MTU: u32 = 1500;

/// The alias of an interface that was taken from another namespace.
const TAKEN: &str = "atoll:taken";

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        self.read("list links", link::list)
    }

    /// What each link has counted: name, in, out.
    pub(crate) fn counts(&mut self) -> Result<Vec<(String, Count, Count)>> {
        Ok(self.links()?.into_iter().filter_map(counts_of).collect())
    }

    /// The link of this name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        self.read(&format!("read link {name}"), |socket| link::by_name(socket, name))
    }

    /// Creates a bridge without spanning tree and without multicast snooping. It learns nothing from link-local frames,
    /// because those pass no filter.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: Mac) -> Result<()> {
        let no_link_local = BridgeBooleanOptionFlags::NoLinkLocalLearn;
        let options = vec![
            InfoBridge::MulticastSnooping(false),
            InfoBridge::MultiBoolOpt(BridgeBooleanOptions { value: no_link_local, mask: no_link_local }),
        ];
        self.change(format!("create bridge {name}"), |socket| link::create_bridge(socket, name, mac, GROUP, options))
    }

    /// Creates a veth pair whose other end is created directly in `peer`.
    pub(crate) fn add_veth(
        &mut self,
        name: &str,
        mac: Mac,
        peer: &OpenNetns,
        peer_name: &str,
        peer_mac: Mac,
    ) -> Result<()> {
        let other = VethEnd { netns: Some(peer.file()), ..end(peer_name, peer_mac) };
        let what = format!("create veth {name} to {peer_name} in {}", peer.path().display());
        self.change(what, |socket| link::create_veth(socket, &end(name, mac), &other))
    }

    /// Brings a link up or down.
    pub(crate) fn set_up(&mut self, link: &Link, up: bool) -> Result<()> {
        let what = format!("bring link {} {}", link.name, if up { "up" } else { "down" });
        self.change(what, |socket| link::set_up(socket, link.index, up))
    }

    /// Makes a link a port of `bridge`, or of none.
    pub(crate) fn set_master(&mut self, link: &Link, bridge: Option<u32>) -> Result<()> {
        let what = format!("change the bridge of link {}", link.name);
        self.change(what, |socket| link::set_master(socket, link.index, bridge))
    }

    /// Takes a link out of its bridge; gone meanwhile is fine.
    pub(crate) fn leave_master(&mut self, link: &Link) -> Result<()> {
        let what = format!("take link {} out of its bridge", link.name);
        self.remove(what, |socket| link::set_master(socket, link.index, None))
    }

    /// Gives a link a MAC.
    pub(crate) fn set_mac(&mut self, link: &Link, mac: Mac) -> Result<()> {
        let what = format!("set the MAC of link {} to {mac}", link.name);
        self.change(what, |socket| link::set_mac(socket, link.index, mac))
    }

    /// Sets link group and MTU of a link of ours again, and makes it use ARP.
    pub(crate) fn repair_link(&mut self, link: &Link) -> Result<()> {
        let mtu = Some(MTU).filter(|_| link.kind != LinkKind::Bridge);
        self.change(format!("repair link {}", link.name), |socket| link::reset(socket, link.index, GROUP, mtu))
    }

    /// Marks a link as taken from this namespace, or removes the mark.
    pub(crate) fn mark_taken(&mut self, link: &Link, taken: bool) -> Result<()> {
        let alias = if taken { TAKEN } else { "" };
        self.change(format!("mark link {}", link.name), |socket| link::set_alias(socket, link.index, alias))
    }

    /// Moves a link into another namespace.
    pub(crate) fn move_to(&mut self, link: &Link, netns: &OpenNetns) -> Result<()> {
        let what = format!("move link {} to {}", link.name, netns.path().display());
        self.change(what, |socket| link::move_to(socket, link.index, netns.file(), index_for(&link.name)))
    }

    /// Deletes a link.
    pub(crate) fn delete(&mut self, link: &Link) -> Result<()> {
        self.remove(format!("delete link {}", link.name), |socket| link::delete(socket, link.index))
    }
}

/// True for a link that was taken from the namespace of the data plane's process. It goes back there in the end.
pub(crate) fn is_taken(link: &Link) -> bool {
    link.alias() == Some(TAKEN)
}

fn end(name: &str, mac: Mac) -> VethEnd<'_> {
    VethEnd { name, index: index_for(name), mac: Some(mac), group: GROUP, ..VethEnd::default() }
}

/// An index for a link of this name. If both ends of a veth pair happen to have the same index, which is likely in young
/// namespaces, the kernel delays their carrier: see `atoll_node::veth::host_index`.
fn index_for(name: &str) -> u32 {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    let (_, low) = hash.as_u64_pair();
    // A large positive number: the kernel itself counts from one.
    u32::try_from(low & 0x0fff_ffff).unwrap_or_default() | 0x1000_0000
}

fn counts_of(link: Link) -> Option<(String, Count, Count)> {
    let counts = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some((
            Count { packets: stats.rx_packets, bytes: stats.rx_bytes },
            Count { packets: stats.tx_packets, bytes: stats.tx_bytes },
        )),
        _ => None,
    })?;
    Some((link.name, counts.0, counts.1))
}
