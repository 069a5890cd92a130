//! Networks and ports for the cases, the same in every run.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_model::attachment::Mac;
use atoll_model::ids::{ClaimId, ClusterId, HostId, IfName, Incarnation, NodeName, TenantName};
use ipnetwork::IpNetwork;
use uuid::Uuid;

use crate::network::{EngineMemory, Network, NetworkId, NetworkSubnet, SubnetPrefix, TransitLink};
use crate::port::{PodPort, PortLocation, WriterEpoch};

/// The address families of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Both,
}

impl Families {
    /// All combinations.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Both];

    /// One value for each family.
    pub fn of<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Both => vec![v4, v6],
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
            Self::Both => "IPv4 and IPv6",
        })
    }
}

/// An address with a prefix length.
pub fn prefix(address: impl Into<IpAddr>, length: u8) -> IpNetwork {
    let address = address.into();
    IpNetwork::new(address, length).unwrap_or_else(|_| IpNetwork::from(address))
}

/// The network of tenant number `number`, with subnets 1 to `subnets`. Prefixes of different tenants do not overlap.
pub fn network(provider: Uuid, number: u8, subnets: u8, families: Families) -> Network {
    let incarnation = Incarnation(Uuid::from_u128(0x10 + u128::from(number)));
    let link = |far: IpNetwork, near: IpNetwork| TransitLink { provider: far, tenant: near };
    let transit = families.of(
        link(prefix(Ipv4Addr::new(100, 64, number, 1), 30), prefix(Ipv4Addr::new(100, 64, number, 2), 30)),
        link(
            prefix(Ipv6Addr::new(0xfd64, u16::from(number), 0, 0, 0, 0, 0, 1), 126),
            prefix(Ipv6Addr::new(0xfd64, u16::from(number), 0, 0, 0, 0, 0, 2), 126),
        ),
    );
    Network {
        id: NetworkId { cluster: ClusterId(Uuid::from_u128(0xc)), incarnation },
        // A number is a valid part of a name.
        tenant: TenantName::new(format!("tenant-{number}")).expect("a valid name"),
        revision: 1,
        provider,
        transit,
        subnets: (1..=subnets).map(|ordinal| subnet(number, ordinal, families)).collect(),
        routes: Vec::new(),
        removed_routes: Vec::new(),
        services: Vec::new(),
        names: false,
        memory: EngineMemory::default(),
    }
}

/// Subnet `ordinal` of tenant number `number`.
pub fn subnet(number: u8, ordinal: u8, families: Families) -> NetworkSubnet {
    let (v4, v6) = (v4(number, ordinal, 0), v6(number, ordinal, 0));
    let prefixes = families.of(
        SubnetPrefix { prefix: prefix(v4, 24), gateway: self::v4(number, ordinal, 1).into() },
        SubnetPrefix { prefix: prefix(v6, 64), gateway: self::v6(number, ordinal, 1).into() },
    );
    NetworkSubnet { ordinal: u32::from(ordinal), prefixes }
}

/// Port number `port` (2 to 254) of a subnet, with `addresses` addresses of each family.
pub fn port(network: &Network, ordinal: u8, port: u8, addresses: u8, host: &HostId, families: Families) -> PodPort {
    let number = u8::try_from(network.id.incarnation.0.as_u128() & 0xf).unwrap_or_default();
    let hosts = (0..addresses).map(|further| port.wrapping_add(further));
    let id = Uuid::from_u128((u128::from(number) << 64) | (u128::from(ordinal) << 32) | u128::from(port));
    PodPort {
        id,
        claim: ClaimId(id),
        // Valid names.
        writer: WriterEpoch { node: NodeName::new("node-1").expect("a valid name"), epoch: 1 },
        subnet: network.id.subnet(u32::from(ordinal)),
        location: PortLocation {
            host: host.clone(),
            // The form of a host end of ours: `at` and twelve hexadecimal digits.
            interface: IfName::new(format!("at{number:04x}{ordinal:04x}{port:04x}")).expect("a valid name"),
        },
        mac: Mac([2, 0, 0, number, ordinal, port]),
        addresses: hosts
            .flat_map(|host| families.of(v4(number, ordinal, host).into(), v6(number, ordinal, host).into()))
            .collect(),
        unique: true,
        names: Vec::new(),
    }
}

fn v4(number: u8, ordinal: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, number, ordinal, host)
}

fn v6(number: u8, ordinal: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, u16::from(number), u16::from(ordinal), 0, 0, 0, 0, u16::from(host))
}
