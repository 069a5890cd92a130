//! Groups of ports and of addresses: MidoNet REST API, sections "PortGroup", "IpAddrGroup".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient;
use super::object::{Extra, object};

/// A group of ports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortGroup {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// Owner, free text; required on 1.9.
    pub tenant_id: Option<String>,
    /// Name; required on 1.9.
    pub name: Option<String>,
    /// Members share flow and NAT state.
    #[serde(deserialize_with = "lenient::flag")]
    pub stateful: bool,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// Membership of a port in a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortGroupPort {
    /// The group; taken from the path on creation.
    pub port_group_id: Option<Uuid>,
    /// The port.
    pub port_id: Option<Uuid>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A group of addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpAddrGroup {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// Name, required.
    pub name: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A member of a group of addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpAddrGroupAddr {
    /// The group; taken from the path on creation.
    pub ip_addr_group_id: Option<Uuid>,
    /// The address.
    pub addr: Option<String>,
    /// 4 or 6; a number in answers, text or a number in requests.
    #[serde(deserialize_with = "lenient::integer")]
    pub version: Option<i32>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

object!(PortGroup, id id);
object!(PortGroupPort, in PortGroup by port_group_id "portGroupId", key |member| {
    Some(format!("ports/{}", member.port_id?))
});
object!(IpAddrGroup, id id);
object!(IpAddrGroupAddr, in IpAddrGroup by ip_addr_group_id "ipAddrGroupId", key |member| {
    let address: std::net::IpAddr = member.addr.as_deref()?.parse().ok()?;
    let version = if address.is_ipv4() { 4 } else { 6 };
    Some(format!("versions/{version}/ip_addrs/{address}"))
});
