//! Ports.

use atoll_model::topology::{self, Device};
use uuid::Uuid;

use crate::api::Port;
use crate::api::lenient::Up;

impl Port {
    /// As a request to create it. Link and binding are in it too; [`crate::request`] leaves out what the dialect does
    /// not accept there.
    pub fn from_topology(id: Uuid, port: &topology::Port) -> Self {
        let mut object = Self {
            id: Some(id),
            device_id: Some(port.device.id()),
            admin_state_up: Up(port.up),
            inbound_filter_id: port.inbound,
            outbound_filter_id: port.outbound,
            vif_id: port.vif_id,
            host_id: port.binding.as_ref().map(|b| b.host),
            interface_name: port.binding.as_ref().map(|b| b.interface.clone()),
            peer_id: port.peer,
            ..Self::default()
        };
        match &port.device {
            Device::Bridge { vlan, .. } => {
                object.kind = Some("Bridge".to_owned());
                object.vlan_id = vlan.map(i32::from);
            }
            Device::Router { address, mac, .. } => {
                object.kind = Some("Router".to_owned());
                object.network_address = Some(address.network().to_string());
                object.network_length = Some(address.prefix().into());
                object.port_address = Some(address.ip().to_string());
                object.port_mac = mac.map(|m| m.to_string());
            }
        }
        object
    }
}
