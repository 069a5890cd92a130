//! Machines and the tunnels between them: MidoNet REST API, sections "Host, Interface", "TunnelZone".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient;
use super::object::{Extra, object};

/// A machine that runs an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's own names")]
pub struct Host {
    /// Id, chosen by its agent.
    pub id: Option<Uuid>,
    /// Name.
    pub name: Option<String>,
    /// Its addresses.
    pub addresses: Option<Vec<String>>,
    /// Its interfaces, as far as they are embedded.
    pub host_interfaces: Option<Vec<Interface>>,
    /// Its agent is alive.
    #[serde(deserialize_with = "lenient::flag")]
    pub alive: bool,
    /// How much flooding it takes.
    #[serde(deserialize_with = "lenient::integer")]
    pub flooding_proxy_weight: Option<i32>,
    /// 5.x: weight for service containers.
    #[serde(deserialize_with = "lenient::integer")]
    pub container_weight: Option<i32>,
    /// 5.x: how many service containers; -1 is no limit.
    #[serde(deserialize_with = "lenient::integer")]
    pub container_limit: Option<i32>,
    /// 5.x: the limit holds.
    pub enforce_container_limit: Option<bool>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// An interface of a host, read-only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// The host.
    pub host_id: Option<Uuid>,
    /// Name.
    pub name: Option<String>,
    /// MAC.
    pub mac: Option<String>,
    /// MTU.
    #[serde(deserialize_with = "lenient::integer")]
    pub mtu: Option<i32>,
    /// `Physical`, `Virtual`, `Tunnel`, `Unknown`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `DATAPATH`, `PHYSICAL`, `VM` and others.
    pub endpoint: Option<String>,
    /// Kind of port in the agent's data path.
    pub port_type: Option<String>,
    /// Its addresses.
    pub addresses: Option<Vec<String>>,
    /// Bit 0: up, bit 1: link.
    #[serde(deserialize_with = "lenient::integer")]
    pub status: Option<i32>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A set of hosts with tunnels between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TunnelZone {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// Name, unique.
    pub name: Option<String>,
    /// `gre`, `vxlan`, `vtep`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A host's membership in a tunnel zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TunnelZoneHost {
    /// The zone; taken from the path on creation.
    pub tunnel_zone_id: Option<Uuid>,
    /// The host.
    pub host_id: Option<Uuid>,
    /// The end of its tunnels.
    pub ip_address: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

object!(Host, id id);
object!(Interface, in Host by host_id "hostId");
object!(TunnelZone, id id);
object!(TunnelZoneHost, in TunnelZone by tunnel_zone_id "tunnelZoneId", key |member| {
    Some(format!("hosts/{}", member.host_id?))
});
