//! Statuses and messages in which the two families of MidoNet differ: 1.9 writes ZooKeeper from a servlet, 5.x is a cluster
//! daemon.
//!
//! Resources ask this module for wording and status; they do not branch on the dialect for either. Facts: MidoNet REST
//! API, families 2015.03 (enterprise 1.9) and 5.x.

use atoll_sdn_client::Dialect;
use uuid::Uuid;

use crate::refusal::Refusal;

/// The classes of object, as messages name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectClass {
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

impl ObjectClass {
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

/// Statuses and messages of a dialect.
pub(crate) trait Wording: Sized {
    /// The server's address in links if the request has no `Host` header. 1.9 always uses it: the address comes from its
    /// `web.xml`, whatever the client used.
    fn default_base(self) -> &'static str;

    /// There is no such object.
    fn absent(self, class: ObjectClass, id: Uuid) -> Refusal;

    /// A field of the body names an object that does not exist.
    fn dangling(self, property: &str, class: ObjectClass, id: Uuid) -> Refusal;

    /// An object of this id exists already. 1.9 has no message for it.
    fn duplicate(self, class: ObjectClass, id: Uuid) -> Refusal;

    /// The request contradicts what is there: 1.9 calls that a validation error.
    fn conflict(self, property: &str, message: impl Into<String>) -> Refusal;

    /// The object already refers to another one by a field that holds a single id (5.x).
    fn taken(class: ObjectClass, id: Uuid, other: ObjectClass, other_id: Uuid, field: &str) -> Refusal;

    /// Whether deleting what is not there is answered 404 and not 204.
    fn misses_deleted(self, class: ObjectClass) -> bool;

    /// The body is not JSON, or a field of it is of no readable kind.
    fn unreadable(self, detail: impl Into<String>) -> Refusal;

    /// A rule's position is not within the chain.
    fn position(self) -> Refusal;

    /// An entry of a MAC table names a port of another VLAN (`VLAN_ID_MATCHES_PORT_VLAN_ID`).
    fn wrong_vlan(self, port: u16) -> Refusal;

    /// The port is not of the kind of the device it is to be made on.
    fn wrong_port(self, device: &str) -> Refusal;
}

impl Wording for Dialect {
    fn default_base(self) -> &'static str {
        match self {
            Self::V1 => "http://localhost:8080/midonet-api",
            Self::V5 => "http://localhost:8181/midonet-api",
        }
    }

    fn absent(self, class: ObjectClass, id: Uuid) -> Refusal {
        Refusal::error(
            404,
            match self {
                Self::V1 => format!("No {} with ID {id} exists.", class.v1()),
                Self::V5 => format!("There is no {} with ID {id}.", class.v5()),
            },
        )
    }

    fn dangling(self, property: &str, class: ObjectClass, id: Uuid) -> Refusal {
        match self {
            Self::V1 => Refusal::invalid(property, format!("No {} with ID {id} exists.", class.v1())),
            Self::V5 => self.absent(class, id),
        }
    }

    fn duplicate(self, class: ObjectClass, id: Uuid) -> Refusal {
        match self {
            Self::V1 => Refusal::error(500, "An internal server error has occurred, please try again."),
            Self::V5 => Refusal::error(409, format!("A(n) {} with ID {id} already exists.", class.v5())),
        }
    }

    fn conflict(self, property: &str, message: impl Into<String>) -> Refusal {
        match self {
            Self::V1 => Refusal::invalid(property, message),
            Self::V5 => Refusal::error(409, message),
        }
    }

    fn taken(class: ObjectClass, id: Uuid, other: ObjectClass, other_id: Uuid, field: &str) -> Refusal {
        Refusal::error(
            409,
            format!(
                "The {} with ID {id} already references the {} with ID {other_id} via the field {field}, and this field \
                 can only accommodate a single reference.",
                class.v5(),
                other.v5()
            ),
        )
    }

    fn misses_deleted(self, class: ObjectClass) -> bool {
        matches!(
            (self, class),
            (
                Self::V5,
                ObjectClass::Port | ObjectClass::Bridge | ObjectClass::Chain | ObjectClass::Rule | ObjectClass::Host
            ) | (Self::V1, ObjectClass::Host)
        )
    }

    fn unreadable(self, detail: impl Into<String>) -> Refusal {
        Refusal::error(
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

    fn position(self) -> Refusal {
        match self {
            Self::V1 => Refusal::invalid("position", "Invalid rule position."),
            Self::V5 => Refusal::error(400, "Position exceeds number of rules in chain"),
        }
    }

    fn wrong_vlan(self, port: u16) -> Refusal {
        let message = format!("VLAN ID must match the port's VLAN ID, which is {port}.");
        match self {
            Self::V1 => Refusal::invalid("macPort", message),
            Self::V5 => Refusal::error(400, message),
        }
    }

    fn wrong_port(self, device: &str) -> Refusal {
        match self {
            Self::V1 => Refusal::error(400, format!("Invalid port type.  Only {device} type is accepted.")),
            Self::V5 => Refusal::error(400, format!("Not a {} port.", device.to_lowercase())),
        }
    }
}
