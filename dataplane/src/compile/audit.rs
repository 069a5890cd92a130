//! Unsupported fields, and links that carry nothing: what happens instead.
//!
//! A field that only adds something (a copy, an announcement, a rate limit) is reported and ignored. A field that may
//! restrict traffic, and an unknown field, closes its device or port. Fields of rules are handled in `rule_list` and
//! `condition`.

use std::collections::BTreeSet;

use atoll_model::attachment::Mac;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{Bridge, Device, Port, Router};
use uuid::Uuid;

use super::names;
use super::unsupported::Unsupported;
use super::view::{View, tagged};

/// Fields that can be ignored without admitting traffic: the field, why it is not expressed, what happens.
const IGNORED: &[(&str, &str, &str)] = &[
    ("asNumber", "BGP is not spoken", "routes are neither announced nor learned"),
    ("loadBalancerId", "load balancers are not there", "its virtual addresses do not answer"),
    ("inboundMirrorIds", "mirrors are not there", "nothing is copied"),
    ("outboundMirrorIds", "mirrors are not there", "nothing is copied"),
    ("postInFilterMirrorIds", "mirrors are not there", "nothing is copied"),
    ("preOutFilterMirrorIds", "mirrors are not there", "nothing is copied"),
    ("qosPolicyId", "speed is not limited and packets are not marked", "traffic is as fast as it can be"),
    ("vxLanPortIds", "hardware VTEPs are not there", "hosts behind one are not reached"),
    ("vxLanPortId", "hardware VTEPs are not there", "hosts behind one are not reached"),
    ("disableAntiSpoof", "a port is held to the MAC and address that it is known by", "spoofing stays refused"),
    ("vlans/mac_table", "tagged frames pass no port", "entries with a VLAN are left out"),
];

/// What is left out of an object.
#[derive(Default)]
pub(super) struct Audited {
    pub(super) unsupported: BTreeSet<Unsupported>,
    /// The first field because of which nothing may pass.
    pub(super) closed: Option<Unsupported>,
}

/// What is left out of a router.
pub(super) fn router(id: Uuid, router: &Router) -> Audited {
    unexpressed(id, &router.other, "nothing passes the router")
}

/// What is left out of a bridge.
pub(super) fn bridge(id: Uuid, bridge: &Bridge) -> Audited {
    unexpressed(id, &bridge.other, "its ports stay inactive")
}

/// A bridge answers no ARP itself: a static entry of its ARP table helps its router, and a pod only if a known port
/// has the MAC.
pub(super) fn static_entries(view: &View<'_>, id: Uuid, bridge: &Bridge) -> Option<Unsupported> {
    let vif = |port: &Port| port.vif_id.and_then(PortSecurity::from_vif_id).map(|vif| vif.mac);
    let behind =
        |mac: &Mac| bridge.macs.contains_key(mac) || view.ports_of(id).any(|(_, port)| vif(port) == Some(*mac));
    bridge.arp.values().any(|mac| !behind(mac)).then(|| Unsupported {
        object: id,
        field: "arp_table".to_owned(),
        why: "a bridge answers no ARP itself".to_owned(),
        effect: "an address whose MAC is behind no known port is known to the router only".to_owned(),
        closes: false,
    })
}

/// What is left out of a port.
pub(super) fn port(id: Uuid, port: &Port) -> Audited {
    unexpressed(id, &port.other, "the port carries nothing")
}

fn unexpressed(object: Uuid, fields: &[String], closes: &str) -> Audited {
    let mut left = Audited::default();
    for field in fields {
        let known = IGNORED.iter().find(|(name, ..)| name == field);
        let (why, effect) = known.map_or(("this field is not known", closes), |(_, why, effect)| (*why, *effect));
        let one = Unsupported {
            object,
            field: field.clone(),
            why: why.to_owned(),
            effect: effect.to_owned(),
            closes: known.is_none(),
        };
        if known.is_none() && left.closed.is_none() {
            left.closed = Some(one.clone());
        }
        left.unsupported.insert(one);
    }
    left
}

/// Ports of a router or bridge whose link or binding cannot carry packets.
pub(super) fn links(view: &View<'_>, device: Uuid) -> BTreeSet<Unsupported> {
    let mut unsupported = BTreeSet::new();
    for (id, port) in view.ports_of(device) {
        let mut note = |field: &str, why: &str, effect: &str| {
            let (field, why, effect) = (field.to_owned(), why.to_owned(), effect.to_owned());
            unsupported.insert(Unsupported { object: id, field, why, effect, closes: true });
        };
        let Some(peer) = port.peer.and_then(|peer| view.port(peer)) else {
            let mine = port.binding.as_ref().filter(|binding| binding.host == view.site.host);
            let unusable = mine.and_then(|binding| names::unusable(&binding.interface));
            // `port` reports those of bridges.
            if let (Device::Router { .. }, Some(why)) = (&port.device, unusable) {
                note("interfaceName", why, "the port carries nothing");
            }
            continue;
        };
        match (&port.device, &peer.device) {
            (Device::Bridge { .. }, Device::Bridge { .. }) => {
                note("peerId", "a link between two bridges needs VLANs", "the link carries nothing");
            }
            _ if peer.peer.is_some_and(|back| back != id) => {
                note("peerId", "the port at the other end is linked to another one", "the link carries nothing");
            }
            _ if tagged(&port.device) => note("vlanId", "tagged frames pass no port", "the link carries nothing"),
            _ => {}
        }
        if port.binding.is_some() {
            note(
                "interfaceName",
                "the port is linked to another one too",
                "the link counts, the interface carries nothing",
            );
        }
    }
    unsupported
}
