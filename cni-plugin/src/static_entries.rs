//! Static entries of the controller that a claim needs besides its port: the addresses after the first.

use atoll_records::ClaimRecord;
use atoll_tenant::controller::StaticEntries;
use uuid::Uuid;

/// The static entries of a claim in its bridge; none: it has one address, which the port itself has.
pub(crate) fn static_entries(bridge: Uuid, claim: &ClaimRecord) -> Option<StaticEntries> {
    let addresses: Vec<_> = claim.addresses.iter().skip(1).map(|address| address.address.ip()).collect();
    (!addresses.is_empty()).then_some(StaticEntries { bridge, port: claim.port, mac: claim.mac, addresses })
}
