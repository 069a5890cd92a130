//! Ids of a tenant's objects: UUIDv5 (RFC 9562, section 5.5) of cluster, incarnation, role and ordinal.
//!
//! Promises: creating twice is harmless, because the id is the same; nothing of an earlier incarnation can be mistaken
//! for ours; objects that the controller cannot update in place (chains and rules) also carry the generation, so that a
//! change makes new ones. MidoNet 1.9 gives routes its own ids: match those on their fields.

use std::fmt;

use uuid::Uuid;

use crate::ids::{ClusterId, Incarnation};

/// What an object is for within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The tenant's router.
    Router,
    /// What packets pass before routing; generation.
    InboundChain(u32),
    /// What packets pass after routing; generation.
    OutboundChain(u32),
    /// A rule of the inbound chain; generation and place.
    InboundRule(u32, u32),
    /// A rule of the outbound chain; generation and place.
    OutboundRule(u32, u32),
    /// The provider router's end of the transit link.
    ProviderPort,
    /// The tenant router's end of the transit link.
    UplinkPort,
    /// The tenant's default route.
    DefaultRoute,
    /// The provider's route to the tenant.
    ProviderRoute,
    /// A subnet's bridge; ordinal.
    Bridge(u32),
    /// The router's port in a subnet: its gateway; ordinal.
    GatewayPort(u32),
    /// The bridge's port towards the router; ordinal.
    BridgePort(u32),
    /// The router's route to a subnet; ordinal.
    SubnetRoute(u32),
    /// The router's answer to what is for a service.
    ServiceRoute,
    /// A static route; a number that follows from what it says, so that another route is another object.
    StaticRoute(u32),
    /// The cluster's own provider router.
    ProviderRouter,
    /// A way outside of that router; place.
    ProviderUplink(u32),
    /// Its default route; place.
    ProviderDefaultRoute(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => write!(f, "router"),
            Self::InboundChain(generation) => write!(f, "inbound-chain/{generation}"),
            Self::OutboundChain(generation) => write!(f, "outbound-chain/{generation}"),
            Self::InboundRule(generation, place) => write!(f, "inbound-rule/{generation}/{place}"),
            Self::OutboundRule(generation, place) => write!(f, "outbound-rule/{generation}/{place}"),
            Self::ProviderPort => write!(f, "provider-port"),
            Self::UplinkPort => write!(f, "uplink-port"),
            Self::DefaultRoute => write!(f, "default-route"),
            Self::ProviderRoute => write!(f, "provider-route"),
            Self::Bridge(ordinal) => write!(f, "bridge/{ordinal}"),
            Self::GatewayPort(ordinal) => write!(f, "gateway-port/{ordinal}"),
            Self::BridgePort(ordinal) => write!(f, "bridge-port/{ordinal}"),
            Self::SubnetRoute(ordinal) => write!(f, "subnet-route/{ordinal}"),
            Self::ProviderRouter => write!(f, "provider-router"),
            Self::ProviderUplink(place) => write!(f, "provider-uplink/{place}"),
            Self::ProviderDefaultRoute(place) => write!(f, "provider-default-route/{place}"),
            Self::ServiceRoute => write!(f, "service-route"),
            Self::StaticRoute(number) => write!(f, "static-route/{number}"),
        }
    }
}

/// The id of an object of a tenant.
pub fn object(cluster: ClusterId, incarnation: Incarnation, role: Role) -> Uuid {
    Uuid::new_v5(&cluster.0, format!("{incarnation}/{role}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_change() {
        let (cluster, life) = (ClusterId(Uuid::from_u128(1)), Incarnation(Uuid::from_u128(2)));
        // Written down once: a change would orphan every tenant of every cluster.
        assert_eq!(object(cluster, life, Role::Router).to_string(), "9419cb4a-0cb0-5f29-9c62-6c4a311a1c08");
        assert_ne!(object(cluster, life, Role::Bridge(1)), object(cluster, life, Role::Bridge(2)));
        assert_ne!(object(cluster, life, Role::Router), object(cluster, Incarnation(Uuid::from_u128(3)), Role::Router));
    }
}
