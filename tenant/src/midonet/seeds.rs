//! Further addresses of a port: seeds of its bridge's MAC and ARP tables. MidoNet REST API, sections "Bridge",
//! `mac_table` and `arp_table`.
//!
//! An entry is known by what it says, so that making it twice is making it once and deleting needs no look-up.

use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::wire::{Ip4Mac, MacPort, Object};

use super::MidoNet;
use crate::controller::{ControllerError, Seeds};

/// The MAC is behind the port.
pub(super) fn mac(seeds: &Seeds) -> MacPort {
    MacPort {
        bridge: Some(seeds.bridge),
        mac_addr: Some(seeds.mac.to_string()),
        port_id: Some(seeds.port),
        ..MacPort::default()
    }
}

/// The addresses have the MAC.
pub(super) fn addresses(seeds: &Seeds) -> impl Iterator<Item = Ip4Mac> {
    seeds.addresses.iter().map(|address| Ip4Mac {
        bridge: Some(seeds.bridge),
        ip: Some(address.to_string()),
        mac: Some(seeds.mac.to_string()),
        ..Ip4Mac::default()
    })
}

impl<T: Transport> MidoNet<T> {
    pub(super) async fn ensure_seed<O: Object>(&self, entry: &O) -> Result<(), ControllerError> {
        // An entry says no more than what it is known by: nothing of it can differ.
        self.client.ensure(entry).await?;
        Ok(())
    }
}
