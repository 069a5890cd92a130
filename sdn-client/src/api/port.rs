//! Ports, links and bindings: MidoNet REST API, sections "Port", "PortLink", "HostInterfacePort".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient::{self, Up};
use super::object::{ApiObject, Extra, Incomplete, object};
use crate::resource::Resource;

/// A port of either kind; the fields of the other kind are null, or -1 on 1.9.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's own names")]
pub struct Port {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// `Router`, `Bridge`, `Vxlan`; `InteriorRouter` and its like in version 1 of the object.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The router or bridge; taken from the path on creation.
    pub device_id: Option<Uuid>,
    /// Administratively up.
    pub admin_state_up: Up,
    /// Chain for what enters the device here.
    pub inbound_filter_id: Option<Uuid>,
    /// Chain for what leaves the device here.
    pub outbound_filter_id: Option<Uuid>,
    /// Opaque to the controller; see `atoll_model::port_security`.
    pub vif_id: Option<Uuid>,
    /// The host it is bound on.
    pub host_id: Option<Uuid>,
    /// The interface it is bound to.
    pub interface_name: Option<String>,
    /// The port it is linked to.
    pub peer_id: Option<Uuid>,
    /// Read-only: an agent has plugged it.
    #[serde(deserialize_with = "lenient::flag")]
    pub active: bool,
    /// Read-only, 5.x: the key of its tunnel.
    #[serde(deserialize_with = "lenient::integer")]
    pub tunnel_key: Option<i64>,
    /// Bridge: VLAN; none is null or -1 on 1.9, 0 on 5.x.
    #[serde(deserialize_with = "lenient::integer")]
    pub vlan_id: Option<i32>,
    /// Router: network.
    pub network_address: Option<String>,
    /// Router: length of the network's prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub network_length: Option<i32>,
    /// Router: its own address.
    pub port_address: Option<String>,
    /// Router: its own MAC; the server makes one up.
    pub port_mac: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A link, as it is posted. It has no `portId`: a 5.x server answers that with status 500.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortLink {
    /// The port at the other end.
    pub peer_id: Option<Uuid>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A binding of a port to an interface of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HostInterfacePort {
    /// The host; taken from the path on creation.
    pub host_id: Option<Uuid>,
    /// The port.
    pub port_id: Option<Uuid>,
    /// The interface.
    pub interface_name: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

impl ApiObject for Port {
    const RESOURCE: Resource = Resource::Port;
    const HAS_ID: bool = true;

    fn id(&self) -> Option<Uuid> {
        self.id
    }

    fn parent(&self) -> Result<Option<(Resource, Uuid)>, Incomplete> {
        let missing = |field| Incomplete { resource: Resource::Port, field };
        let device = match self.kind.as_deref() {
            Some(kind) if kind.ends_with("Router") => Resource::Router,
            Some(kind) if kind.ends_with("Bridge") => Resource::Bridge,
            _ => return Err(missing("type")),
        };
        Ok(Some((device, self.device_id.ok_or_else(|| missing("deviceId"))?)))
    }
}
object!(HostInterfacePort, in Host by host_id "hostId", key |binding| Some(format!("ports/{}", binding.port_id?)));
