//! The port of an attachment of this node.

use atoll_network::PodPort;
use atoll_records::ClaimRecord;
use atoll_tenant::TenantBinding;
pub(crate) use atoll_tenant::pod_port::claimed_port;

/// The port of a claim.
pub(crate) fn pod_port(binding: &TenantBinding, claim: &ClaimRecord) -> PodPort {
    atoll_tenant::pod_port::pod_port(&binding.cluster.record, &binding.node.record, claim)
}
