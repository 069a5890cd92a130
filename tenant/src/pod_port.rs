//! The port that a claim describes. Pure.

use atoll_model::config::Addressing;
use atoll_network::{NetworkId, PodPort, PortLocation, WriterEpoch};
use atoll_records::{ClaimRecord, ClusterRecord, NodeRecord};

/// The port of a claim, as its node makes it.
pub fn pod_port(cluster: &ClusterRecord, node: &NodeRecord, claim: &ClaimRecord) -> PodPort {
    let network = NetworkId { cluster: cluster.id, incarnation: claim.incarnation };
    let writer = WriterEpoch { node: claim.attachment.node.clone(), epoch: node.writer };
    PodPort { unique: cluster.addressing == Addressing::Unique, writer, ..claimed_port(network, claim) }
}

/// The same where only the cluster's id is known: enough to delete the port. A claim has all its addresses in one subnet.
pub fn claimed_port(network: NetworkId, claim: &ClaimRecord) -> PodPort {
    PodPort {
        id: claim.port,
        claim: claim.claim,
        // A deletion has no epoch.
        writer: WriterEpoch { node: claim.attachment.node.clone(), epoch: 0 },
        subnet: network.subnet(claim.addresses.first().map_or(0, |address| address.ordinal)),
        location: PortLocation { host: claim.host_id.clone(), interface: claim.host_interface.clone() },
        mac: claim.mac,
        addresses: claim.addresses.iter().map(|address| address.address.ip()).collect(),
        unique: false,
        names: claim.names.clone(),
    }
}
