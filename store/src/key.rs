//! Every key there is, below the prefix of the installation (`/atoll/<name>`), and how names and addresses are encoded.
//!
//! | key | value (`model::record`) |
//! |---|---|
//! | `v1/cluster` | `ClusterRecord` |
//! | `v1/nodes/<node>` | `NodeRecord` |
//! | `v1/tenants/<tenant>` | `TenantRecord` |
//! | `v1/namespaces/<namespace>` | `NamespaceRecord` |
//! | `v1/transit/<address of the /30>` | `OwnerRecord` |
//! | `v1/subnets/<address>_<length>` | `OwnerRecord` (addressing `unique`) |
//! | `v1/addresses/<tenant>/<ordinal>/<address>` | `AddressRecord` |
//! | `v1/cooling/<tenant>/<ordinal>/<address>` | empty; same lease as the address |
//! | `v1/reservations/<tenant>/<ordinal>/<address>` | `ReservationRecord` |
//! | `v1/reserved-for/<namespace>/<pod>` | the same record: points back |
//! | `v1/macs/<tenant>/<ordinal>/<mac>` | `MacRecord`, for MACs that were chosen |
//! | `v1/attachments/<node>/<network>/<container>/<ifname>` | `ClaimRecord` |
//! | `v1/tombstones/<node>/<network>/<container>/<ifname>` | `TombstoneRecord` |
//! | `v1/released/<node>/<network>/<container>/<ifname>` | empty; on the lease of the cooling addresses |
//! | `v1/builders/<tenant>` | who is building, on a lease |
//! | `v1/idle/<tenant>` | `IdleRecord`: since when nobody has claimed anything; every claim deletes it |
//!
//! Names are safe as they are (`model::ids` checked them): none may hold `/`. An interface name is the only one that may
//! hold `%`, which is written `%25`. IPv4 addresses are 8 lower-case hexadecimal digits, ordinals 8, MACs 12: all sort as numbers, so that a window of keys is a window of addresses.

use std::fmt;
use std::net::Ipv4Addr;

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{ContainerId, IfName, Namespace, NetworkName, NodeName, PodName, TenantName};
use ipnetwork::Ipv4Network;

/// A key, or the beginning of keys, without the prefix of the installation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// What the cluster agreed on.
    pub fn cluster() -> Self {
        Self("v1/cluster".to_owned())
    }

    /// One machine.
    pub fn node(node: &NodeName) -> Self {
        Self(format!("v1/nodes/{node}"))
    }

    /// All machines.
    pub fn nodes() -> Self {
        Self("v1/nodes/".to_owned())
    }

    /// One tenant.
    pub fn tenant(tenant: &TenantName) -> Self {
        Self(format!("v1/tenants/{tenant}"))
    }

    /// All tenants.
    pub fn tenants() -> Self {
        Self("v1/tenants/".to_owned())
    }

    /// The tenant a namespace belongs to.
    pub fn namespace(namespace: &Namespace) -> Self {
        Self(format!("v1/namespaces/{namespace}"))
    }

    /// All namespaces.
    pub fn namespaces() -> Self {
        Self("v1/namespaces/".to_owned())
    }

    /// One transit link, by the address of its /30.
    pub fn transit(pair: Ipv4Network) -> Self {
        Self(format!("v1/transit/{}", hex(pair.network())))
    }

    /// All transit links.
    pub fn transits() -> Self {
        Self("v1/transit/".to_owned())
    }

    /// One subnet of the cluster's pool.
    pub fn subnet(cidr: Ipv4Network) -> Self {
        Self(format!("v1/subnets/{}_{}", hex(cidr.network()), cidr.prefix()))
    }

    /// All subnets of the cluster's pool.
    pub fn subnets() -> Self {
        Self("v1/subnets/".to_owned())
    }

    /// One address of a tenant's subnet.
    pub fn address(tenant: &TenantName, ordinal: u32, address: Ipv4Addr) -> Self {
        Self(format!("v1/addresses/{tenant}/{ordinal:08x}/{}", hex(address)))
    }

    /// All addresses of a tenant's subnet.
    pub fn addresses(tenant: &TenantName, ordinal: u32) -> Self {
        Self(format!("v1/addresses/{tenant}/{ordinal:08x}/"))
    }

    /// All addresses of a tenant.
    pub fn addresses_of(tenant: &TenantName) -> Self {
        Self(format!("v1/addresses/{tenant}/"))
    }

    /// The mark of an address that cools down.
    pub fn cooling(tenant: &TenantName, ordinal: u32, address: Ipv4Addr) -> Self {
        Self(format!("v1/cooling/{tenant}/{ordinal:08x}/{}", hex(address)))
    }

    /// All addresses of a subnet that cool down.
    pub fn coolings(tenant: &TenantName, ordinal: u32) -> Self {
        Self(format!("v1/cooling/{tenant}/{ordinal:08x}/"))
    }

    /// The reservation of an address.
    pub fn reservation(tenant: &TenantName, ordinal: u32, address: Ipv4Addr) -> Self {
        Self(format!("v1/reservations/{tenant}/{ordinal:08x}/{}", hex(address)))
    }

    /// All reservations of a subnet.
    pub fn reservations(tenant: &TenantName, ordinal: u32) -> Self {
        Self(format!("v1/reservations/{tenant}/{ordinal:08x}/"))
    }

    /// All reservations.
    pub fn all_reservations() -> Self {
        Self("v1/reservations/".to_owned())
    }

    /// All reservations of a tenant.
    pub fn reservations_of(tenant: &TenantName) -> Self {
        Self(format!("v1/reservations/{tenant}/"))
    }

    /// The address that is kept for a pod.
    pub fn reserved_for(namespace: &Namespace, pod: &PodName) -> Self {
        Self(format!("v1/reserved-for/{namespace}/{pod}"))
    }

    /// A MAC of a tenant's subnet that was chosen.
    pub fn mac(tenant: &TenantName, ordinal: u32, mac: Mac) -> Self {
        Self(format!("v1/macs/{tenant}/{ordinal:08x}/{}", mac.to_string().replace(':', "")))
    }

    /// All MACs of a tenant that were chosen.
    pub fn macs_of(tenant: &TenantName) -> Self {
        Self(format!("v1/macs/{tenant}/"))
    }

    /// The claim of an attachment.
    pub fn attachment(attachment: &Attachment) -> Self {
        Self(format!("v1/attachments/{}", path(attachment)))
    }

    /// All claims of a node.
    pub fn attachments_of(node: &NodeName) -> Self {
        Self(format!("v1/attachments/{node}/"))
    }

    /// All claims.
    pub fn attachments() -> Self {
        Self("v1/attachments/".to_owned())
    }

    /// What is still owed for an attachment.
    pub fn tombstone(attachment: &Attachment) -> Self {
        Self(format!("v1/tombstones/{}", path(attachment)))
    }

    /// The mark that the claim of an attachment was released a short while ago.
    pub fn released(attachment: &Attachment) -> Self {
        Self(format!("v1/released/{}", path(attachment)))
    }

    /// All that a node still owes.
    pub fn tombstones_of(node: &NodeName) -> Self {
        Self(format!("v1/tombstones/{node}/"))
    }

    /// All that is still owed.
    pub fn tombstones() -> Self {
        Self("v1/tombstones/".to_owned())
    }

    /// Who builds a tenant.
    pub fn builder(tenant: &TenantName) -> Self {
        Self(format!("v1/builders/{tenant}"))
    }

    /// The mark that nobody has used a tenant since it was written.
    pub fn idle(tenant: &TenantName) -> Self {
        Self(format!("v1/idle/{tenant}"))
    }

    /// All such marks.
    pub fn idles() -> Self {
        Self("v1/idle/".to_owned())
    }

    /// Everything.
    pub fn all() -> Self {
        Self("v1/".to_owned())
    }

    /// A key as it came from the store, without the prefix of the installation.
    pub fn raw(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The first key behind this one, whatever keys there are.
    pub fn next(&self) -> Self {
        Self(format!("{}\0", self.0))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does it lie below `prefix`?
    pub fn begins_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// Whose a key of `attachments/` or `tombstones/` is: `v1/<kind>/<node>/<network>/<container>/<ifname>`.
    pub fn attachment_part(&self) -> Option<Attachment> {
        let mut parts = self.0.split('/').skip(2);
        let (node, network, container) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Attachment {
            node: NodeName::new(node).ok()?,
            network: NetworkName::new(network).ok()?,
            container: ContainerId::new(container).ok()?,
            // The only name that may hold a `%`, which the key writes `%25`.
            interface: IfName::new(parts.next()?.replace("%25", "%")).ok()?,
        })
    }

    /// The address at the end of a key of `addresses/`, `cooling/` or `reservations/`.
    pub fn address_part(&self) -> Option<Ipv4Addr> {
        let last = self.0.rsplit('/').next()?;
        (last.len() == 8).then(|| u32::from_str_radix(last, 16).ok()).flatten().map(Ipv4Addr::from)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hex(address: Ipv4Addr) -> String {
    format!("{:08x}", u32::from(address))
}

fn path(attachment: &Attachment) -> String {
    let Attachment { node, network, container, interface } = attachment;
    format!("{node}/{network}/{container}/{}", interface.as_str().replace('%', "%25"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_sort_as_numbers() {
        let tenant = TenantName::new("red").expect("valid");
        let mut keys: Vec<_> = [[10, 0, 0, 9], [9, 255, 0, 1], [10, 0, 0, 10], [192, 168, 0, 1]]
            .map(|a| Key::address(&tenant, 1, a.into()))
            .into();
        keys.sort();
        let order: Vec<_> = keys.iter().filter_map(Key::address_part).map(|a| a.to_string()).collect();
        assert_eq!(order, ["9.255.0.1", "10.0.0.9", "10.0.0.10", "192.168.0.1"]);
    }

    #[test]
    fn an_attachment_is_found_again_in_its_keys() {
        for interface in ["eth0", "eth%d", "%25"] {
            let attachment = Attachment {
                node: NodeName::new("node-1").expect("valid"),
                network: NetworkName::new("net").expect("valid"),
                container: ContainerId::new("c0ffee").expect("valid"),
                interface: IfName::new(interface).expect("valid"),
            };
            for key in [Key::attachment(&attachment), Key::tombstone(&attachment), Key::released(&attachment)] {
                assert_eq!(key.attachment_part(), Some(attachment.clone()), "{key}");
            }
        }
        let written = |interface: &str| {
            let [node, network, container] = ["node-1", "net", "c0ffee"];
            Key::raw(format!("v1/attachments/{node}/{network}/{container}/{interface}"))
        };
        let parts = written("eth%25d").attachment_part().expect("an attachment");
        assert_eq!((parts.interface.as_str(), Key::attachment(&parts)), ("eth%d", written("eth%25d")));
    }

    #[test]
    fn only_eight_digits_are_an_address() {
        let part = |last: &str| Key::raw(format!("v1/addresses/red/00000001/{last}")).address_part();
        assert_eq!(part("0a000001"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        for other in ["a000001", "00a000001", "", "0a00000g"] {
            assert_eq!(part(other), None, "{other:?}");
        }
    }
}
