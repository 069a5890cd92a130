//! Further addresses of a port: static entries of its bridge's MAC and ARP tables. MidoNet REST API, sections "Bridge",
//! `mac_table` and `arp_table`.
//!
//! Its content identifies an entry, so that creating one is idempotent and deleting one needs no lookup.

use atoll_sdn_client::api::{Ip4Mac, MacPort};

use crate::controller::StaticEntries;

/// The entry for the MAC of the port.
pub(super) fn mac(entries: &StaticEntries) -> MacPort {
    MacPort {
        bridge: Some(entries.bridge),
        mac_addr: Some(entries.mac.to_string()),
        port_id: Some(entries.port),
        ..MacPort::default()
    }
}

/// The entries for the addresses of the MAC.
pub(super) fn addresses(entries: &StaticEntries) -> impl Iterator<Item = Ip4Mac> {
    entries.addresses.iter().map(|address| Ip4Mac {
        bridge: Some(entries.bridge),
        ip: Some(address.to_string()),
        mac: Some(entries.mac.to_string()),
        ..Ip4Mac::default()
    })
}
