//! Routes: MidoNet REST API, section "Route".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient;
use super::object::{Extra, object};

/// A route of a router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Route {
    /// Id; on 1.9 the server chooses it, whatever is sent.
    pub id: Option<Uuid>,
    /// The router; taken from the path on creation.
    pub router_id: Option<Uuid>,
    /// `Normal`, `BlackHole`, `Reject`; read-only `Local` (shown as `Normal` on 1.9), `Fip64`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Destination network.
    pub dst_network_addr: Option<String>,
    /// Length of its prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub dst_network_length: Option<i32>,
    /// Source network.
    pub src_network_addr: Option<String>,
    /// Length of its prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub src_network_length: Option<i32>,
    /// The port through which it leads.
    pub next_hop_port: Option<Uuid>,
    /// The next hop; null is "directly connected", 255.255.255.255 stands in LOCAL routes of 5.x.
    pub next_hop_gateway: Option<String>,
    /// Lower wins.
    #[serde(deserialize_with = "lenient::integer_or_zero")]
    pub weight: i32,
    /// Unused by the server.
    pub attributes: Option<String>,
    /// Read-only: learned by BGP.
    #[serde(deserialize_with = "lenient::flag")]
    pub learned: bool,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

object!(Route, id id, in Router by router_id "routerId");
