//! The port that a claim describes. Pure.

use atoll_model::config::Addressing;
use atoll_network::{NetworkId, PodPort, PortLocation};
use atoll_records::{ClaimRecord, ClusterRecord};

/// The port of a claim. A claim has all its addresses in one subnet.
pub(crate) fn pod_port(cluster: &ClusterRecord, claim: &ClaimRecord) -> PodPort {
    let network = NetworkId { cluster: cluster.id, incarnation: claim.incarnation };
    PodPort { unique: cluster.addressing == Addressing::Unique, ..claimed_port(network, claim) }
}

/// The same where only the cluster's id is known: enough to delete the port.
pub(crate) fn claimed_port(network: NetworkId, claim: &ClaimRecord) -> PodPort {
    PodPort {
        id: claim.port,
        subnet: network.subnet(claim.addresses.first().map_or(0, |address| address.ordinal)),
        location: PortLocation { host: claim.host_id.clone(), interface: claim.host_interface.clone() },
        mac: claim.mac,
        addresses: claim.addresses.iter().map(|address| address.address.ip().into()).collect(),
        unique: false,
    }
}
