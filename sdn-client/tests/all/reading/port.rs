//! Ports.

use atoll_model::attachment::Mac;
use atoll_model::topology::{self, Binding, Device};
use atoll_sdn_client::api::Port;
use atoll_sdn_client::{Dialect, Resource};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::{ConvertError, Reader, ToTopology, set};

/// Fields that the topology model does not have.
const UNSUPPORTED: &[&str] = &[
    "inboundMirrorIds",
    "outboundMirrorIds",
    "postInFilterMirrorIds",
    "preOutFilterMirrorIds",
    "insertionIds",
    "qosPolicyId",
    "rtrPortVni",
    "offRampVxlan",
    "serviceContainerId",
];

impl ToTopology for Port {
    type Object = topology::Port;

    /// As an object of the topology model. Fails for ports of other kinds (`Vxlan`) and, for a router port, without an address.
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError> {
        let reader = Reader(Resource::Port);
        let id = reader.id("id", self.id)?;
        let device = reader.id("deviceId", self.device_id)?;
        // `InteriorRouter` and its like are the names in version 1 of the object.
        let device = match self.kind.as_deref() {
            Some("Bridge" | "InteriorBridge" | "ExteriorBridge") => {
                Device::Bridge { id: device, vlan: Dialect::vlan(self.vlan_id) }
            }
            Some("Router" | "InteriorRouter" | "ExteriorRouter") => {
                let address = reader.address("portAddress", self.port_address.as_deref())?;
                let length = reader.length("networkLength", self.network_length)?;
                let address = Ipv4Network::new(address, length)
                    .map_err(|_| reader.wrong("networkLength", None, "a prefix length from 0 to 32"))?;
                let mac = self.port_mac.as_deref().filter(|text| !text.is_empty());
                let mac = mac.map(|text| reader.parsed::<Mac>("portMac", text, "a MAC address")).transpose()?;
                Device::Router { id: device, address, mac }
            }
            other => return Err(reader.wrong("type", other, "Bridge or Router")),
        };
        let binding = self.host_id.zip(self.interface_name.clone());
        let port = topology::Port {
            device,
            up: self.admin_state_up.0,
            inbound: self.inbound_filter_id,
            outbound: self.outbound_filter_id,
            peer: self.peer_id,
            binding: binding.map(|(host, interface)| Binding { host, interface }),
            vif_id: self.vif_id,
            other: set(&self.other, UNSUPPORTED).collect(),
        };
        Ok((id, port))
    }
}
