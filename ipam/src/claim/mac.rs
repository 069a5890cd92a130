//! A requested MAC is not in use in the subnet.
//!
//! Derived MACs need no record: they are unique because attachments are. A requested one gets the key
//! `macs/<tenant>/<ordinal>/<mac>`, put by the transaction that claims and deleted by the one that releases, so two
//! requests for one MAC never both succeed. The remaining case is a requested MAC that is the derived MAC of another
//! pod. A derived MAC is locally administered, and follows from the attachment in the record of each address; so only
//! for a locally administered MAC are the records of the subnet searched before the claim. A later attachment derives a
//! requested MAC with probability 2^-46.

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::derive;
use atoll_model::ids::ClusterId;
use atoll_records::{AddressRecord, AddressState, Listed, Query, TenantRecord};
use atoll_store::Store;

use crate::error::IpamError;
use crate::find::find;
use crate::holder::Holder;
use crate::search::ActiveSubnet;

/// How many addresses are listed at a time; their records are read as well.
const PAGE: u128 = 4096;

/// An interface can have it: an individual address (IEEE 802, figure 8-2), and not all zeros.
pub(crate) fn unicast(mac: Mac) -> Result<(), IpamError> {
    let why = if mac.0[0] & 1 == 1 {
        "it addresses a group; the first byte of an interface's MAC is even"
    } else if mac.0 == [0; 6] {
        "it is all zeros"
    } else {
        return Ok(());
    };
    Err(IpamError::BadMac { mac, why: why.to_owned() })
}

/// The MAC is not that of a router port of the tenant: a pod with the gateway's MAC would receive the packets that its
/// neighbours send through the gateway.
pub(crate) fn of_no_router(cluster: ClusterId, tenant: &TenantRecord, mac: Mac) -> Result<(), IpamError> {
    let subnets = tenant.subnets.iter().map(|subnet| subnet.ordinal);
    match derive::infrastructure(cluster, tenant.incarnation, subnets, mac) {
        Some(whose) => Err(IpamError::BadMac { mac, why: format!("it is that of {whose} of tenant {}", tenant.name) }),
        None => Ok(()),
    }
}

/// Whether it could be a derived one.
pub(crate) fn is_local(mac: Mac) -> bool {
    mac.0[0] & 2 == 2
}

/// Refuses a MAC that is the derived one of another attachment with an address of this subnet.
pub(crate) async fn refuse_derived<S: Store>(
    store: &S,
    subnet: &ActiveSubnet,
    mac: Mac,
    own: Option<&Attachment>,
) -> Result<(), IpamError> {
    let mut from = 0;
    while from < subnet.pods.capacity() {
        let end = (from + PAGE).min(subnet.pods.capacity());
        let [Query::Range { prefix, from: first, until, limit, .. }, _] = subnet.part(from, end) else { return Ok(()) };
        let query = Query::Range { prefix, from: first, until, limit, keys_only: false };
        let object = format!("subnet {} of tenant {}", subnet.cidr, subnet.tenant);
        let snapshot = store.read(vec![query.clone()]).await.map_err(IpamError::store(object))?;
        for address in Listed::<AddressRecord>::read(&snapshot.answer(&query)?.entries).readable() {
            let AddressState::Claimed { attachment, .. } = address.record.state else { continue };
            if attachment.mac() != mac || own == Some(&attachment) {
                continue;
            }
            // It may have asked for another itself.
            let claim = find(store, &attachment).await?.claim;
            if let Some(claim) = claim.filter(|claim| claim.record.mac == mac) {
                let by = Holder::of(&claim.record).to_string();
                let (tenant, cidr) = (subnet.tenant.clone(), subnet.cidr);
                return Err(IpamError::MacTaken { tenant, cidr, mac, by });
            }
        }
        from = end;
    }
    Ok(())
}
