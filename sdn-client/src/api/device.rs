//! Routers and bridges: MidoNet REST API, sections "Router", "Bridge", "Bridge MAC and ARP tables".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient::{self, Up};
use super::object::{Extra, object};

/// A router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Router {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// Owner, free text; required on 1.9.
    pub tenant_id: Option<String>,
    /// Name, not unique; required on 1.9.
    pub name: Option<String>,
    /// Administratively up.
    pub admin_state_up: Up,
    /// Chain before routing.
    pub inbound_filter_id: Option<Uuid>,
    /// Chain after routing.
    pub outbound_filter_id: Option<Uuid>,
    /// Load balancer.
    pub load_balancer_id: Option<Uuid>,
    /// 5.x: number of its autonomous system; unset reads as -1 or 0.
    #[serde(deserialize_with = "lenient::integer")]
    pub as_number: Option<i64>,
    /// 5.x: chain of local redirection.
    pub local_redirect_chain_id: Option<Uuid>,
    /// 5.1: chain between routing and the outbound chain.
    pub forward_chain_id: Option<Uuid>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A bridge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bridge {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// Owner, free text; required on 1.9.
    pub tenant_id: Option<String>,
    /// Name, not unique; required on 1.9.
    pub name: Option<String>,
    /// Administratively up.
    pub admin_state_up: Up,
    /// Chain before the destination is looked up.
    pub inbound_filter_id: Option<Uuid>,
    /// Chain after it was looked up.
    pub outbound_filter_id: Option<Uuid>,
    /// Read-only: ports towards hardware VTEPs. Refused when set in a request.
    pub vx_lan_port_ids: Option<Vec<Uuid>>,
    /// Read-only, 1.9.
    pub vx_lan_port_id: Option<Uuid>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// An entry of a bridge's MAC table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MacPort {
    /// The bridge; it is in the path only.
    #[serde(skip)]
    pub bridge: Option<Uuid>,
    /// The MAC.
    pub mac_addr: Option<String>,
    /// The port it is behind.
    pub port_id: Option<Uuid>,
    /// The VLAN.
    #[serde(deserialize_with = "lenient::integer")]
    pub vlan_id: Option<i32>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// An entry of a bridge's ARP table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ip4Mac {
    /// The bridge; it is in the path only.
    #[serde(skip)]
    pub bridge: Option<Uuid>,
    /// The address.
    pub ip: Option<String>,
    /// Its MAC.
    pub mac: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

object!(Router, id id);
object!(Bridge, id id);
object!(MacPort, in Bridge by bridge "bridge", key |entry| {
    Some(format!("mac_table/{}_{}", hyphenated(entry.mac_addr.as_deref()?)?, entry.port_id?))
});
object!(Ip4Mac, in Bridge by bridge "bridge", key |entry| {
    let address: std::net::Ipv4Addr = entry.ip.as_deref()?.parse().ok()?;
    Some(format!("arp_table/{address}_{}", hyphenated(entry.mac.as_deref()?)?))
});

/// A MAC as paths have it: `aa-bb-cc-dd-ee-ff`.
fn hyphenated(mac: &str) -> Option<String> {
    let mac: atoll_model::attachment::Mac = mac.parse().ok()?;
    Some(mac.to_string().replace(':', "-"))
}
