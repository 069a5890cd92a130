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
use atoll_model::ids::{ClusterId, TenantName};
use atoll_records::{AddressRecord, AddressState, Listed, Query, TenantRecord};
use atoll_store::Store;
use ipnetwork::IpNetwork;

use crate::error::IpamError;
use crate::find::find;
use crate::holder::Holder;

/// How many addresses are listed at a time; their records are read as well.
const PAGE: usize = 4096;

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

/// Refuses a MAC that is the derived one of another attachment with an address of this subnet, which messages call `cidr`.
pub(crate) async fn refuse_derived<S: Store>(
    store: &S,
    (tenant, ordinal, cidr): (&TenantName, u32, IpNetwork),
    mac: Mac,
    own: Option<&Attachment>,
) -> Result<(), IpamError> {
    let mut from = None;
    loop {
        let prefix = AddressRecord::of_subnet(tenant, ordinal).into();
        let query = Query::Range { prefix, from: from.take(), until: None, limit: PAGE, keys_only: false };
        let object = format!("subnet {cidr} of tenant {tenant}");
        let snapshot = store.read(vec![query.clone()]).await.map_err(IpamError::store(object))?;
        let answer = snapshot.answer(&query)?;
        for address in Listed::<AddressRecord>::read(&answer.entries).readable() {
            let AddressState::Claimed { attachment, .. } = address.record.state else { continue };
            if attachment.mac() != mac || own == Some(&attachment) {
                continue;
            }
            // It may have asked for another itself.
            let claim = find(store, &attachment).await?.claim;
            if let Some(claim) = claim.filter(|claim| claim.record.mac == mac) {
                let by = Holder::of(&claim.record).to_string();
                return Err(IpamError::MacTaken { tenant: tenant.clone(), cidr, mac, by });
            }
        }
        match answer.entries.last().filter(|_| answer.more) {
            Some(last) => from = Some(last.key.next()),
            None => return Ok(()),
        }
    }
}
