//! The roles of MidoNet's objects in a tenant's network: the parts that every engine has, and those of this engine alone.
//!
//! The ids of objects that the API cannot update in place (chains and rules) also depend on the generation, so that a change
//! creates new ones. MidoNet 1.9 assigns the ids of routes itself; they are identified by their fields.

use std::fmt;

use atoll_model::derive::NetworkPart;

/// The role of an object. Its text is part of ids and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// A part that the network has with every engine.
    Part(NetworkPart),
    /// The chain before routing; generation.
    InboundChain(u32),
    /// The chain after routing; generation.
    OutboundChain(u32),
    /// A rule of the inbound chain; generation and place.
    InboundRule(u32, u32),
    /// A rule of the outbound chain; generation and place.
    OutboundRule(u32, u32),
    /// The tenant's default route.
    DefaultRoute,
    /// The provider's route to the tenant.
    ProviderRoute,
    /// The bridge's port towards the router; ordinal.
    BridgePort(u32),
    /// The router's route to a subnet; ordinal.
    SubnetRoute(u32),
    /// The router's answer to what is for a service.
    ServiceRoute,
    /// A static route; the number derives from its content, so that another route is another object.
    StaticRoute(u32),
    /// The default route of an uplink of the cluster's own provider router; place.
    ProviderDefaultRoute(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(part) => part.fmt(f),
            Self::InboundChain(generation) => write!(f, "inbound-chain/{generation}"),
            Self::OutboundChain(generation) => write!(f, "outbound-chain/{generation}"),
            Self::InboundRule(generation, place) => write!(f, "inbound-rule/{generation}/{place}"),
            Self::OutboundRule(generation, place) => write!(f, "outbound-rule/{generation}/{place}"),
            Self::DefaultRoute => f.write_str("default-route"),
            Self::ProviderRoute => f.write_str("provider-route"),
            Self::BridgePort(ordinal) => write!(f, "bridge-port/{ordinal}"),
            Self::SubnetRoute(ordinal) => write!(f, "subnet-route/{ordinal}"),
            Self::ServiceRoute => f.write_str("service-route"),
            Self::StaticRoute(number) => write!(f, "static-route/{number}"),
            Self::ProviderDefaultRoute(place) => write!(f, "provider-default-route/{place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::derive::object;
    use atoll_model::ids::{ClusterId, Incarnation};
    use uuid::Uuid;

    use super::*;

    /// Written down once: a change would orphan every tenant of every cluster.
    #[test]
    fn ids_never_change() {
        let (cluster, incarnation) = (ClusterId(Uuid::from_u128(1)), Incarnation(Uuid::from_u128(2)));
        for (role, id) in [
            (Role::Part(NetworkPart::Router), "9419cb4a-0cb0-5f29-9c62-6c4a311a1c08"),
            (Role::InboundChain(3), "03236334-16e6-5008-b2c3-a8193b2011e8"),
            (Role::OutboundChain(3), "362020fe-8d7c-5d71-8332-eb8f57fa96d2"),
            (Role::InboundRule(3, 1), "10f7f91b-0694-5874-a562-ba60417049dd"),
            (Role::OutboundRule(3, 2), "80022bcd-1bfa-5e71-afb5-fd69c90b0a59"),
            (Role::DefaultRoute, "2ccd768b-b512-5db7-9b51-8583af21ab3a"),
            (Role::ProviderRoute, "45176329-6298-5ef5-8322-f5ebe613c74c"),
            (Role::BridgePort(1), "2a8251bf-1ec3-5743-8aee-71963d6bcaf5"),
            (Role::SubnetRoute(1), "4ad7fdca-f696-5fb4-9fb7-89b29018a127"),
            (Role::ServiceRoute, "ad8c74cf-8e93-545d-a6e3-9241bb22770a"),
            (Role::StaticRoute(7), "b75a1bb1-aa9d-5f35-a056-49cf2954fe9b"),
            (Role::ProviderDefaultRoute(1), "87015274-9766-5170-abba-0dcfcce300a6"),
        ] {
            assert_eq!(object(cluster, incarnation, &role).to_string(), id, "{role}");
        }
    }
}
