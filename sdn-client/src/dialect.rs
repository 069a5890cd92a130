//! Everything that MidoNet 1.9 and 5.x disagree about, in one place: MidoNet REST API, section "1.9 versus 5.x: what the
//! client must branch on".
//!
//! | topic | 1.9 | 5.x | here |
//! |---|---|---|---|
//! | root document | `v1.…` | `v5.…` | [`Dialect::from_version`] |
//! | media types | older versions | newer versions | [`Resource::media`] |
//! | id of a route | the server's | the client's | [`Dialect::chooses_id`] |
//! | id that exists | 500 | 409 | [`Dialect::may_exist_already`] |
//! | link or binding that conflicts | 400 with violations | 409 | [`Dialect::may_exist_already`] |
//! | binding in the request that creates the port | no | yes | [`Dialect::binds_on_create`] |
//! | VLAN unset | null, or -1 on a router port | 0 | [`Dialect::show_port`] |
//! | protocol and TOS unset | 0 | null | [`Dialect::show_rule`] |
//! | LOCAL routes | shown as `Normal` | shown as `Local` | [`Dialect::shows_local_routes`] |
//! | fields | fewer | more | [`Resource::fields_since_5`] |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::{Port, Rule};

mod resource;

pub use resource::Resource;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dialect {
    /// API 1.9: MidoNet 2015.03 and the 1.9.x releases.
    #[serde(rename = "1.9")]
    V1,
    /// API 5: MidoNet 5.0 and later.
    #[serde(rename = "5")]
    V5,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1.9",
            Self::V5 => "5",
        })
    }
}

impl Dialect {
    /// Reads the `version` of the root document; none for a version that nobody knows.
    pub fn from_version(version: &str) -> Option<Self> {
        match version.strip_prefix('v')?.split('.').next()? {
            "1" => Some(Self::V1),
            "5" => Some(Self::V5),
            _ => None,
        }
    }

    /// The `version` a server of this dialect shows.
    pub const fn version(self) -> &'static str {
        match self {
            Self::V1 => "v1.9",
            Self::V5 => "v5.0",
        }
    }

    /// Whether the server ignores the id in a request to create `resource`.
    pub fn chooses_id(self, resource: Resource) -> bool {
        self == Self::V1 && resource == Resource::Route
    }

    /// Whether one request may create a port and bind it. On 1.9 the fields would be stored without the host's own
    /// list of bindings.
    pub fn binds_on_create(self) -> bool {
        self == Self::V5
    }

    /// Whether routes that the server added for a router's own addresses are recognisable by their type.
    pub fn shows_local_routes(self) -> bool {
        self == Self::V5
    }

    /// Whether this status may mean that what was to be created is there already, so that a look decides. 409 on both;
    /// on 1.9 also 500 for an id that exists, and 400 for links and bindings.
    pub fn may_exist_already(self, resource: Resource, status: u16) -> bool {
        let by_fields = matches!(
            resource,
            Resource::PortLink | Resource::HostInterfacePort | Resource::PortGroupPort | Resource::TunnelZoneHost
        );
        match status {
            409 => true,
            500 => self == Self::V1,
            400 => self == Self::V1 && by_fields,
            _ => false,
        }
    }

    /// A port's VLAN as it is meant; 0 and negative numbers are none.
    pub fn vlan(wire: Option<i32>) -> Option<u16> {
        wire.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
    }

    /// A rule's protocol or type of service as it is meant: on 1.9, 0 is unset.
    pub fn protocol_or_tos(self, wire: Option<i32>) -> Option<u8> {
        wire.and_then(|n| u8::try_from(n).ok()).filter(|n| self == Self::V5 || *n != 0)
    }

    /// Gives the unset fields of a port the values that a server of this dialect shows. For servers; idempotent.
    pub fn show_port(self, port: &mut Port) {
        let vlan = Self::vlan(port.vlan_id).map(i32::from);
        let router = port.kind.as_deref().is_some_and(|kind| kind.ends_with("Router"));
        match self {
            Self::V1 if router => port.vlan_id = Some(-1),
            Self::V1 => {
                port.vlan_id = vlan;
                port.network_length = Some(-1);
            }
            // 5.x has no such keys in the port of the other kind; null reads the same.
            Self::V5 => port.vlan_id = if router { None } else { Some(vlan.unwrap_or(0)) },
        }
    }

    /// Gives the unset fields of a rule the values that a server of this dialect shows. For servers; idempotent.
    pub fn show_rule(self, rule: &mut Rule) {
        if self == Self::V1 {
            rule.nw_proto.get_or_insert(0);
            rule.nw_tos.get_or_insert(0);
        }
    }
}
