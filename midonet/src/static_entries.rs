//! Further addresses of a port: static entries of its bridge's MAC and ARP tables. MidoNet REST API, sections "Bridge",
//! `mac_table` and `arp_table`.
//!
//! Its content identifies an entry, so that creating one is idempotent and deleting one needs no look-up.

use atoll_sdn_client::api::{Ip4Mac, MacPort};

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_network::PodPort;
use uuid::Uuid;

use crate::error::MidoNetError;
use crate::lower::v4_address;

/// The further addresses of a pod's port: its port security (`vifId`) has room for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StaticEntries {
    /// The bridge that the port belongs to.
    bridge: Uuid,
    /// The port.
    port: Uuid,
    /// The MAC of the pod's interface.
    mac: Mac,
    /// The addresses after the first; never empty.
    addresses: Vec<Ipv4Addr>,
}

impl StaticEntries {
    /// The entries of a port; none: it has one address, which the port itself has.
    pub(crate) fn of(port: &PodPort) -> Result<Option<Self>, MidoNetError> {
        let further = port.addresses.iter().skip(1).map(|address| v4_address(*address));
        let addresses = further.collect::<Result<Vec<_>, _>>()?;
        let (bridge, mac) = (port.subnet.object(), port.mac);
        Ok((!addresses.is_empty()).then_some(Self { bridge, port: port.id, mac, addresses }))
    }
}

/// The entry for the MAC of the port.
pub(crate) fn mac(entries: &StaticEntries) -> MacPort {
    MacPort {
        bridge: Some(entries.bridge),
        mac_addr: Some(entries.mac.to_string()),
        port_id: Some(entries.port),
        ..MacPort::default()
    }
}

/// The entries for the addresses of the MAC.
pub(crate) fn addresses(entries: &StaticEntries) -> impl Iterator<Item = Ip4Mac> {
    entries.addresses.iter().map(|address| Ip4Mac {
        bridge: Some(entries.bridge),
        ip: Some(address.to_string()),
        mac: Some(entries.mac.to_string()),
        ..Ip4Mac::default()
    })
}
