//! The addresses that request and reservation allow: any address of these subnets, or exactly these addresses. Pure.
//!
//! A reservation comes before everything: its pod gets that address and no other, and an address request that does not agree with it
//! is refused. What no pod can have is refused with the reason.

use std::net::Ipv4Addr;

use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::attachment::Mac;
use atoll_records::{ClaimRecord, Phase, ReservationRecord, SubnetEntry, TenantRecord};
use ipnetwork::Ipv4Network;

use super::mac::{of_no_router, unicast};
use super::request::ClaimRequest;
use crate::error::IpamError;
use crate::search::{self, ActiveSubnet, Target};

/// Most addresses of one attachment: more would not fit into one transaction beside everything else.
const MOST_ADDRESSES: usize = 16;

/// The addresses and the MAC that an attachment is to get.
pub(super) struct Want {
    /// Its addresses.
    pub(super) addresses: WantedAddresses,
    /// Its MAC.
    pub(super) mac: Mac,
    /// The MAC was chosen for this claim, and must be its own: neither the derived one nor that of a reservation.
    pub(super) own_mac: bool,
}

/// The addresses.
pub(super) enum WantedAddresses {
    /// Any free one of these subnets; the first one first.
    Any(Vec<ActiveSubnet>),
    /// All of these, and no others. One subnet, at least one address.
    Exactly(Vec<Target>),
}

/// The addresses and MAC for a request if this is reserved for its pod.
pub(super) fn want(request: &ClaimRequest<'_>, reserved: Option<&ReservationRecord>) -> Result<Want, IpamError> {
    let ClaimRequest { tenant, requested, attachment, .. } = request;
    let subnets = chosen(tenant, search::subnets(tenant)?, requested.subnet)?;
    let addresses = match reserved {
        Some(reserved) => {
            agree(tenant, requested, reserved)?;
            vec![reserved.address]
        }
        None => requested.addresses.clone(),
    };
    let kept = reserved.and_then(|reserved| reserved.mac);
    let mac = kept.or(requested.mac).unwrap_or_else(|| attachment.mac());
    unicast(mac)?;
    of_no_router(request.cluster.id, tenant, mac)?;
    let own_mac = kept.is_none() && mac != attachment.mac();
    if addresses.is_empty() {
        return Ok(Want { addresses: WantedAddresses::Any(subnets), mac, own_mac });
    }
    Ok(Want { addresses: WantedAddresses::Exactly(together(tenant, &subnets, &addresses)?), mac, own_mac })
}

/// The subnets that an address request leaves.
fn chosen(
    tenant: &TenantRecord,
    mut subnets: Vec<ActiveSubnet>,
    choice: Option<SubnetChoice>,
) -> Result<Vec<ActiveSubnet>, IpamError> {
    let Some(choice) = choice else { return Ok(subnets) };
    let is_meant = |ordinal: u32, cidr: Ipv4Network| match choice {
        SubnetChoice::Ordinal(number) => number == ordinal,
        SubnetChoice::Cidr(network) => network == cidr,
    };
    subnets.retain(|subnet| is_meant(subnet.ordinal, subnet.cidr));
    if !subnets.is_empty() {
        return Ok(subnets);
    }
    let name = tenant.name.clone();
    Err(match tenant.subnets.iter().find(|entry| is_meant(entry.ordinal, entry.cidr)) {
        Some(SubnetEntry { cidr, phase, .. }) => IpamError::NotReady { tenant: name, cidr: *cidr, phase: *phase },
        None => IpamError::NoSuchSubnet {
            tenant: name,
            choice,
            there: tenant.subnets.iter().map(|entry| entry.cidr).collect(),
        },
    })
}

/// All addresses of one attachment: one interface sits on one bridge, so all are of one subnet.
fn together(tenant: &TenantRecord, subnets: &[ActiveSubnet], addresses: &[Ipv4Addr]) -> Result<Vec<Target>, IpamError> {
    let mut targets: Vec<Target> = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let impossible = |why: String| IpamError::Impossible { tenant: tenant.name.clone(), address: *address, why };
        if index >= MOST_ADDRESSES {
            return Err(impossible(format!("more than {MOST_ADDRESSES} addresses for one interface are asked for")));
        }
        let target = place(tenant, subnets, *address)?;
        if let Some(first) = targets.first().filter(|first| first.subnet.ordinal != target.subnet.ordinal) {
            let (here, there) = (target.subnet.cidr, first.subnet.cidr);
            let why = format!("it is of {here}, {} is of {there}, and one interface has one subnet", first.address());
            return Err(impossible(why));
        }
        if targets.iter().any(|other| other.position == target.position) {
            return Err(impossible("it is asked for twice".to_owned()));
        }
        targets.push(target);
    }
    Ok(targets)
}

/// An address of one of the subnets, or why no pod can have it.
pub(crate) fn place(tenant: &TenantRecord, subnets: &[ActiveSubnet], address: Ipv4Addr) -> Result<Target, IpamError> {
    let position =
        |subnet: &ActiveSubnet| Some(Target::free(subnet.clone(), subnet.pods.position(u32::from(address).into())?));
    if let Some(target) = subnets.iter().find_map(position) {
        return Ok(target);
    }
    let impossible = |why: String| Err(IpamError::Impossible { tenant: tenant.name.clone(), address, why });
    let Some(entry) = tenant.subnets.iter().find(|entry| entry.cidr.contains(address)) else {
        let all: Vec<_> = tenant.subnets.iter().map(|entry| entry.cidr.to_string()).collect();
        return impossible(format!("it lies in none of the tenant's subnets ({})", all.join(", ")));
    };
    let SubnetEntry { cidr, gateway, phase, exclude, .. } = entry;
    if *gateway == address {
        return impossible(format!("it is the gateway of {cidr}"));
    }
    if cidr.prefix() < 31 && (address == cidr.network() || address == cidr.broadcast()) {
        let which = if address == cidr.network() { "network" } else { "broadcast" };
        return impossible(format!("it is the {which} address of {cidr}"));
    }
    if let Some(range) = exclude.iter().find(|range| range.contains(address)) {
        return impossible(format!("{range} of {cidr} is excluded"));
    }
    if *phase != Phase::Active {
        return Err(IpamError::NotReady { tenant: tenant.name.clone(), cidr: *cidr, phase: *phase });
    }
    if subnets.iter().any(|subnet| subnet.ordinal == entry.ordinal) || subnets.is_empty() {
        let most = tenant.quota.addresses.unwrap_or(0);
        return impossible(format!("the tenant's quota of {most} addresses ends before it"));
    }
    impossible(format!("it is of {cidr}, and another subnet is asked for"))
}

/// The pod is where its reservation is, and asks for nothing else.
fn agree(tenant: &TenantRecord, requested: &AddressRequest, reserved: &ReservationRecord) -> Result<(), IpamError> {
    let ReservationRecord { address, namespace, pod, .. } = reserved;
    let but = |why: String| {
        let (namespace, pod) = (namespace.clone(), pod.clone());
        Err(IpamError::Reservation { address: *address, namespace, pod, why })
    };
    if reserved.tenant != tenant.name {
        return but(format!("in tenant {}, and the pod is of tenant {}", reserved.tenant, tenant.name));
    }
    if reserved.incarnation != tenant.incarnation {
        return but(format!("in an earlier incarnation of tenant {}", tenant.name));
    }
    if !requested.addresses.is_empty() && requested.addresses != [*address] {
        return but(format!("the pod asks for {requested}"));
    }
    match (requested.mac, reserved.mac) {
        (Some(requested), Some(kept)) if requested != kept => {
            but(format!("with MAC {kept}, and the pod asks for {requested}"))
        }
        _ => Ok(()),
    }
}

/// Whether a claim meets a request.
pub(super) fn is_met(requested: &AddressRequest, claim: &ClaimRecord) -> bool {
    let ClaimRecord { addresses, mac, .. } = claim;
    let has = |requested: &Ipv4Addr| addresses.iter().any(|address| address.address.ip() == *requested);
    let all = requested.addresses.is_empty()
        || (requested.addresses.len() == addresses.len() && requested.addresses.iter().all(has));
    let subnet = requested.subnet.is_none_or(|choice| {
        addresses.iter().all(|claimed| match choice {
            SubnetChoice::Ordinal(ordinal) => claimed.ordinal == ordinal,
            SubnetChoice::Cidr(cidr) => {
                claimed.address.network() == cidr.network() && claimed.address.prefix() == cidr.prefix()
            }
        })
    });
    all && subnet && requested.mac.is_none_or(|requested| requested == *mac)
}
