//! What the two families of MidoNet say differently: 1.9 writes ZooKeeper from a servlet, 5.x is a cluster daemon.
//!
//! Resources ask this module for wording and status; they do not branch on the dialect for either. Facts: MidoNet REST
//! API, families 2015.03 (enterprise 1.9) and 5.x.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::Failure;

/// The family of MidoNet that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// MidoNet 2015.03 and enterprise 1.9.x.
    #[serde(rename = "1.9")]
    V1,
    /// MidoNet 5.0 and later.
    #[default]
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

/// The text names no dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a dialect: `5` or `1.9` is expected")]
pub struct UnknownDialect(String);

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        match text {
            "5" | "5.x" => Ok(Self::V5),
            "1.9" => Ok(Self::V1),
            other => Err(UnknownDialect(other.to_owned())),
        }
    }
}

/// The classes of object, as messages name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    Router,
    Bridge,
    Port,
    Route,
    Chain,
    Rule,
    PortGroup,
    IpAddrGroup,
    Host,
    TunnelZone,
    LoadBalancer,
    Mirror,
    QosPolicy,
    Insertion,
    ServiceContainer,
}

impl Class {
    /// The protobuf class, which 5.x shows in its messages.
    const fn v5(self) -> &'static str {
        match self {
            Self::Router => "Router",
            Self::Bridge => "Network",
            Self::Port => "Port",
            Self::Route => "Route",
            Self::Chain => "Chain",
            Self::Rule => "Rule",
            Self::PortGroup => "PortGroup",
            Self::IpAddrGroup => "IPAddrGroup",
            Self::Host => "Host",
            Self::TunnelZone => "TunnelZone",
            Self::LoadBalancer => "LoadBalancer",
            Self::Mirror => "Mirror",
            Self::QosPolicy => "QosPolicy",
            Self::Insertion => "L2Insertion",
            Self::ServiceContainer => "ServiceContainer",
        }
    }

    const fn v1(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Bridge => "bridge",
            Self::Port => "port",
            Self::Route => "route",
            Self::Chain => "chain",
            Self::Rule => "rule",
            Self::PortGroup => "port group",
            Self::IpAddrGroup => "IP address group",
            Self::Host => "host",
            Self::TunnelZone => "tunnel zone",
            Self::LoadBalancer => "load balancer",
            Self::Mirror => "mirror",
            Self::QosPolicy => "QoS policy",
            Self::Insertion => "insertion",
            Self::ServiceContainer => "service container",
        }
    }
}

impl Dialect {
    /// `version` of the root document. 5.x never changed it.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::V1 => "v1.9",
            Self::V5 => "v5.0",
        }
    }

    /// Where a request without `Host` header thinks the server is. 1.9 always thinks so: the address comes from its
    /// `web.xml`, whatever the client used.
    pub(crate) const fn default_base(self) -> &'static str {
        match self {
            Self::V1 => "http://localhost:8080/midonet-api",
            Self::V5 => "http://localhost:8181/midonet-api",
        }
    }

    /// There is no such object.
    pub(crate) fn absent(self, class: Class, id: Uuid) -> Failure {
        Failure::error(
            404,
            match self {
                Self::V1 => format!("No {} with ID {id} exists.", class.v1()),
                Self::V5 => format!("There is no {} with ID {id}.", class.v5()),
            },
        )
    }

    /// A field of the body names an object that does not exist.
    pub(crate) fn dangling(self, property: &str, class: Class, id: Uuid) -> Failure {
        match self {
            Self::V1 => Failure::invalid(property, format!("No {} with ID {id} exists.", class.v1())),
            Self::V5 => self.absent(class, id),
        }
    }

    /// An object of this id is there already. 1.9 has no word for it.
    pub(crate) fn duplicate(self, class: Class, id: Uuid) -> Failure {
        match self {
            Self::V1 => Failure::error(500, "An internal server error has occurred, please try again."),
            Self::V5 => Failure::error(409, format!("A(n) {} with ID {id} already exists.", class.v5())),
        }
    }

    /// The request contradicts what is there: 1.9 calls that a validation error.
    pub(crate) fn conflict(self, property: &str, message: impl Into<String>) -> Failure {
        match self {
            Self::V1 => Failure::invalid(property, message),
            Self::V5 => Failure::error(409, message),
        }
    }

    /// The object already refers to another one by a field that holds a single id (5.x).
    pub(crate) fn taken(class: Class, id: Uuid, other: Class, other_id: Uuid, field: &str) -> Failure {
        Failure::error(
            409,
            format!(
                "The {} with ID {id} already references the {} with ID {other_id} via the field {field}, and this field \
                 can only accommodate a single reference.",
                class.v5(),
                other.v5()
            ),
        )
    }

    /// Whether deleting what is not there is answered 404 and not 204.
    pub(crate) const fn misses_deleted(self, class: Class) -> bool {
        matches!(
            (self, class),
            (Self::V5, Class::Port | Class::Bridge | Class::Chain | Class::Rule | Class::Host)
                | (Self::V1, Class::Host)
        )
    }

    /// The body is not JSON, or a field of it is of no readable kind.
    pub(crate) fn unreadable(self, detail: impl Into<String>) -> Failure {
        Failure::error(
            400,
            match self {
                Self::V1 => {
                    "Invalid fields or values were passed in that could not be deserialized into a known object.  \
                             Please check fields such as 'type'."
                        .to_owned()
                }
                Self::V5 => detail.into(),
            },
        )
    }

    /// A rule's position is not within the chain.
    pub(crate) fn position(self) -> Failure {
        match self {
            Self::V1 => Failure::invalid("position", "Invalid rule position."),
            Self::V5 => Failure::error(400, "Position exceeds number of rules in chain"),
        }
    }

    /// An entry of a MAC table names a port that speaks in another VLAN (`VLAN_ID_MATCHES_PORT_VLAN_ID`).
    pub(crate) fn wrong_vlan(self, port: u16) -> Failure {
        let message = format!("VLAN ID must match the port's VLAN ID, which is {port}.");
        match self {
            Self::V1 => Failure::invalid("macPort", message),
            Self::V5 => Failure::error(400, message),
        }
    }

    /// The port is not of the kind of the device it is to be made on.
    pub(crate) fn wrong_port(self, device: &str) -> Failure {
        match self {
            Self::V1 => Failure::error(400, format!("Invalid port type.  Only {device} type is accepted.")),
            Self::V5 => Failure::error(400, format!("Not a {} port.", device.to_lowercase())),
        }
    }
}
