//! Ids of the objects of a tenant's network: UUIDv5 (RFC 9562, section 5.5) of cluster, incarnation, role and ordinal.
//!
//! # Guarantees
//! - Creation is idempotent, because the id is the same.
//! - Objects of an earlier incarnation have other ids.
//!
//! [`NetworkPart`] has the roles that a network has with every engine. An engine derives further ids from roles of its own.

use std::fmt;

use uuid::Uuid;

use crate::attachment::Mac;
use crate::ids::{ClusterId, Incarnation};

/// A part of a tenant's network, or of the cluster's own provider router, that it has with every engine. Its text is part of
/// ids and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkPart {
    /// The tenant's router.
    Router,
    /// The bridge or switch of a subnet; ordinal.
    Subnet(u32),
    /// The router's port in a subnet: its gateway; ordinal.
    GatewayPort(u32),
    /// The port by which nodes reach their pods of a subnet, where an engine has one; ordinal.
    HostToPodPort(u32),
    /// The tenant router's end of the transit link.
    UplinkPort,
    /// The provider router's end of the transit link.
    ProviderPort,
    /// The cluster's own provider router.
    ProviderRouter,
    /// An uplink of that router; its index.
    ProviderUplink(u32),
}

impl fmt::Display for NetworkPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => f.write_str("router"),
            Self::Subnet(ordinal) => write!(f, "bridge/{ordinal}"),
            Self::GatewayPort(ordinal) => write!(f, "gateway-port/{ordinal}"),
            Self::HostToPodPort(ordinal) => write!(f, "ovn/host-to-pod-port/{ordinal}"),
            Self::UplinkPort => f.write_str("uplink-port"),
            Self::ProviderPort => f.write_str("provider-port"),
            Self::ProviderRouter => f.write_str("provider-router"),
            Self::ProviderUplink(place) => write!(f, "provider-uplink/{place}"),
        }
    }
}

/// The id of an object of a tenant. `role`: a [`NetworkPart`], or a role that one engine alone has.
pub fn object(cluster: ClusterId, incarnation: Incarnation, role: &dyn fmt::Display) -> Uuid {
    Uuid::new_v5(&cluster.0, format!("{incarnation}/{role}").as_bytes())
}

/// The MAC of a port or device of the infrastructure, from its id: a port that was lost and made again keeps its MAC, and
/// no pod has to ask for its gateway anew.
pub fn mac(id: Uuid) -> Mac {
    let b = id.as_bytes();
    // Locally administered, unicast; bytes 6 and 8 hold the UUID's version and variant.
    Mac([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
}

/// The port of a tenant's infrastructure that has this MAC, in words; `None`: none has it. `subnets`: their numbers.
pub fn infrastructure(
    cluster: ClusterId,
    incarnation: Incarnation,
    subnets: impl IntoIterator<Item = u32>,
    wanted: Mac,
) -> Option<String> {
    let is = |part: &NetworkPart| mac(object(cluster, incarnation, part)) == wanted;
    let of_tenant = [
        (NetworkPart::UplinkPort, "the tenant router's port to the provider".to_owned()),
        (NetworkPart::ProviderPort, "the provider router's port to the tenant".to_owned()),
    ];
    let of_subnet = |ordinal| {
        let nodes = format!("the port by which nodes reach their pods of subnet {ordinal}");
        let gateway = format!("the gateway of subnet {ordinal}");
        [(NetworkPart::GatewayPort(ordinal), gateway), (NetworkPart::HostToPodPort(ordinal), nodes)]
    };
    let mut all = of_tenant.into_iter().chain(subnets.into_iter().flat_map(of_subnet));
    all.find(|(part, _)| is(part)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(1));
    const INCARNATION: Incarnation = Incarnation(Uuid::from_u128(2));

    /// Written down once: a change would orphan every tenant of every cluster.
    #[test]
    fn ids_never_change() {
        for (part, id) in [
            (NetworkPart::Router, "9419cb4a-0cb0-5f29-9c62-6c4a311a1c08"),
            (NetworkPart::Subnet(1), "be79b81e-e4d6-5515-bcc6-29adf2d8856d"),
            (NetworkPart::GatewayPort(1), "7340f108-4d3d-5e1d-a2b7-83032decc974"),
            (NetworkPart::HostToPodPort(1), "72140c3a-c907-5efa-b61a-ae0075db7dd6"),
            (NetworkPart::UplinkPort, "3b0be1b7-1d9c-563e-a74f-1241b797322b"),
            (NetworkPart::ProviderPort, "611adbde-35f4-5446-9b05-8f4d1d981a65"),
            (NetworkPart::ProviderRouter, "4146429b-5993-55ed-bf70-f323360ffbfd"),
            (NetworkPart::ProviderUplink(1), "834794b6-bbfe-5b28-874f-35e46bd5a0b2"),
        ] {
            assert_eq!(object(CLUSTER, INCARNATION, &part).to_string(), id, "{part}");
        }
        assert_eq!(mac(object(CLUSTER, INCARNATION, &NetworkPart::Router)).to_string(), "96:19:cb:4a:0c:b0");
    }

    #[test]
    fn router_ports_are_known_by_their_macs() {
        let whose = |part, subnets: &[u32]| {
            infrastructure(CLUSTER, INCARNATION, subnets.iter().copied(), mac(object(CLUSTER, INCARNATION, &part)))
        };
        assert_eq!(whose(NetworkPart::GatewayPort(2), &[1, 2]).as_deref(), Some("the gateway of subnet 2"));
        assert_eq!(whose(NetworkPart::GatewayPort(3), &[1, 2]), None, "there is no such subnet");
        let nodes = whose(NetworkPart::HostToPodPort(1), &[1, 2]);
        assert_eq!(nodes.as_deref(), Some("the port by which nodes reach their pods of subnet 1"));
        assert!(
            [NetworkPart::UplinkPort, NetworkPart::ProviderPort].into_iter().all(|part| whose(part, &[]).is_some())
        );
    }

    #[test]
    fn another_incarnation_or_ordinal_has_other_ids() {
        let other = Incarnation(Uuid::from_u128(3));
        let id = |incarnation, part: NetworkPart| object(CLUSTER, incarnation, &part);
        assert_ne!(id(INCARNATION, NetworkPart::Router), id(other, NetworkPart::Router));
        assert_ne!(id(INCARNATION, NetworkPart::Subnet(1)), id(INCARNATION, NetworkPart::Subnet(2)));
    }
}
