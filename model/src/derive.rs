//! Ids of a tenant's objects: UUIDv5 (RFC 9562, section 5.5) of cluster, incarnation, role and ordinal.
//!
//! # Guarantees
//! - Creation is idempotent, because the id is the same.
//! - Objects of an earlier incarnation have other ids.
//! - Ids of objects that the controller cannot update in place (chains and rules) also depend on the generation, so
//!   that a change creates new ones.
//!
//! MidoNet 1.9 assigns the ids of routes itself; they are identified by their fields.

use std::fmt;

use uuid::Uuid;

use crate::attachment::Mac;
use crate::ids::{ClusterId, Incarnation};

/// The role of an object within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The tenant's router.
    Router,
    /// The chain before routing; generation.
    InboundChain(u32),
    /// The chain after routing; generation.
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
    /// A static route; the number derives from its content, so that another route is another object.
    StaticRoute(u32),
    /// The cluster's own provider router.
    ProviderRouter,
    /// An uplink of that router; its index.
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

/// The MAC of a port or device of the infrastructure, from its id: a port that was lost and made again keeps its MAC, and
/// no pod has to ask for its gateway anew.
pub fn mac(id: Uuid) -> Mac {
    let b = id.as_bytes();
    // Locally administered, unicast; bytes 6 and 8 hold the UUID's version and variant.
    Mac([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
}

/// The router port of a tenant that has this MAC, in words; `None`: no router port has it. `subnets`: their numbers.
pub fn infrastructure(
    cluster: ClusterId,
    incarnation: Incarnation,
    subnets: impl IntoIterator<Item = u32>,
    wanted: Mac,
) -> Option<String> {
    let is = |role: &Role| mac(object(cluster, incarnation, *role)) == wanted;
    let of_tenant = [
        (Role::UplinkPort, "the tenant router's port to the provider".to_owned()),
        (Role::ProviderPort, "the provider router's port to the tenant".to_owned()),
    ];
    let gateway = |ordinal| (Role::GatewayPort(ordinal), format!("the gateway of subnet {ordinal}"));
    let mut all = of_tenant.into_iter().chain(subnets.into_iter().map(gateway));
    all.find(|(role, _)| is(role)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_change() {
        let (cluster, incarnation) = (ClusterId(Uuid::from_u128(1)), Incarnation(Uuid::from_u128(2)));
        // Written down once: a change would orphan every tenant of every cluster.
        assert_eq!(object(cluster, incarnation, Role::Router).to_string(), "9419cb4a-0cb0-5f29-9c62-6c4a311a1c08");
        assert_eq!(mac(object(cluster, incarnation, Role::Router)).to_string(), "96:19:cb:4a:0c:b0");
        assert_ne!(object(cluster, incarnation, Role::Bridge(1)), object(cluster, incarnation, Role::Bridge(2)));
        let whose = |role, subnets: &[u32]| {
            infrastructure(cluster, incarnation, subnets.iter().copied(), mac(object(cluster, incarnation, role)))
        };
        assert_eq!(whose(Role::GatewayPort(2), &[1, 2]).as_deref(), Some("the gateway of subnet 2"));
        assert_eq!(whose(Role::GatewayPort(3), &[1, 2]), None, "there is no such subnet");
        assert!([Role::UplinkPort, Role::ProviderPort].into_iter().all(|role| whose(role, &[]).is_some()));
        assert_ne!(
            object(cluster, incarnation, Role::Router),
            object(cluster, Incarnation(Uuid::from_u128(3)), Role::Router)
        );
    }
}
