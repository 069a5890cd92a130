//! The addresses that request and reservation allow: any address of these subnets, or exactly these addresses. Pure.
//!
//! A reservation comes before everything: its pod gets that address and no other, and an address request that does not agree with it
//! is refused. What no pod can have is refused with the reason.

use std::net::IpAddr;

use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::attachment::Mac;
use atoll_records::{ClaimRecord, Phase, PrefixEntry, ReservationRecord, SubnetEntry, TenantRecord};

use super::mac::{of_no_router, unicast};
use super::request::ClaimRequest;
use crate::error::IpamError;
use crate::pool::{Block, number};
use crate::search::{self, ActiveSubnet, Draw, Target};

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
    /// Any free ones of one of these subnets; the first one first.
    Any(Vec<ActiveSubnet>),
    /// All of these, which are at least one and of one subnet, and no others.
    Exactly(Vec<Target>),
    /// All of these, and any free one of the subnet's other family.
    Beside(Vec<Target>, Draw),
}

/// The addresses and MAC for a request if this is reserved for its pod.
pub(super) fn want(request: &ClaimRequest<'_>, reserved: Option<&ReservationRecord>) -> Result<Want, IpamError> {
    let ClaimRequest { tenant, requested, attachment, .. } = request;
    let subnets = chosen(tenant, search::subnets(tenant)?, requested.subnet)?;
    let addresses = match reserved {
        Some(reserved) => {
            agree(tenant, requested, reserved)?;
            let others = requested.addresses.iter().filter(|address| **address != reserved.address);
            others.chain([&reserved.address]).copied().collect()
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
    let targets = together(tenant, &subnets, &addresses)?;
    let subnet = subnets.iter().find(|subnet| targets.first().is_some_and(|target| target.ordinal == subnet.ordinal));
    let addresses = match subnet.and_then(|subnet| subnet.draw_beside(&targets)) {
        Some(draw) => WantedAddresses::Beside(targets, draw),
        None => WantedAddresses::Exactly(targets),
    };
    Ok(Want { addresses, mac, own_mac })
}

/// The subnets that an address request leaves.
fn chosen(
    tenant: &TenantRecord,
    mut subnets: Vec<ActiveSubnet>,
    choice: Option<SubnetChoice>,
) -> Result<Vec<ActiveSubnet>, IpamError> {
    let Some(choice) = choice else { return Ok(subnets) };
    let is_meant = |entry: &&SubnetEntry| match choice {
        SubnetChoice::Ordinal(number) => number == entry.ordinal,
        SubnetChoice::Cidr(network) => entry.prefixes.iter().any(|prefix| prefix.cidr == network),
    };
    let meant = tenant.subnets.iter().find(is_meant);
    subnets.retain(|subnet| meant.is_some_and(|entry| entry.ordinal == subnet.ordinal));
    if !subnets.is_empty() {
        return Ok(subnets);
    }
    if let Some(entry) = meant {
        return Err(not_ready(tenant, entry));
    }
    let there = tenant.subnets.iter().flat_map(|entry| entry.prefixes.iter().map(|prefix| prefix.cidr)).collect();
    Err(IpamError::NoSuchSubnet { tenant: tenant.name.clone(), choice, there })
}

/// All addresses of one attachment: one interface sits on one bridge, so all are of one subnet.
fn together(tenant: &TenantRecord, subnets: &[ActiveSubnet], addresses: &[IpAddr]) -> Result<Vec<Target>, IpamError> {
    let mut targets: Vec<Target> = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let impossible = |why: String| IpamError::Impossible { tenant: tenant.name.clone(), address: *address, why };
        if index >= MOST_ADDRESSES {
            return Err(impossible(format!("more than {MOST_ADDRESSES} addresses for one interface are asked for")));
        }
        let target = place(tenant, subnets, *address)?;
        if let Some(first) = targets.first().filter(|first| first.ordinal != target.ordinal) {
            let (here, there) = (target.range.cidr, first.range.cidr);
            let why = format!("it is of {here}, {} is of {there}, and one interface has one subnet", first.address());
            return Err(impossible(why));
        }
        if targets.iter().any(|other| other.address() == target.address()) {
            return Err(impossible("it is asked for twice".to_owned()));
        }
        targets.push(target);
    }
    // As everywhere: IPv4 first.
    targets.sort_by_key(|target| target.range.cidr.is_ipv6());
    Ok(targets)
}

/// An address of one of the subnets, or why no pod can have it.
pub(crate) fn place(tenant: &TenantRecord, subnets: &[ActiveSubnet], address: IpAddr) -> Result<Target, IpamError> {
    if let Some(target) = subnets.iter().find_map(|subnet| subnet.target(address)) {
        return Ok(target);
    }
    let impossible = |why: String| Err(IpamError::Impossible { tenant: tenant.name.clone(), address, why });
    let found = tenant.subnets.iter().find_map(|entry| {
        let prefix = entry.prefix_for(address).filter(|prefix| prefix.cidr.contains(address))?;
        Some((entry, prefix))
    });
    let Some((entry, PrefixEntry { cidr, gateway })) = found else {
        let all: Vec<_> = tenant.subnets.iter().map(SubnetEntry::cidrs).collect();
        return impossible(format!("it lies in none of the tenant's subnets ({})", all.join(", ")));
    };
    let SubnetEntry { phase, exclude, .. } = entry;
    if *gateway == address {
        return impossible(format!("it is the gateway of {cidr}"));
    }
    let is_host = Block::from(*cidr).hosts().is_some_and(|hosts| hosts.contains(number(address)));
    if !is_host {
        // RFC 4291, 2.6.1: the first address of a prefix is every router's of it.
        let which = match address == cidr.network() {
            true if cidr.is_ipv6() => "subnet-router anycast",
            true => "network",
            false => "broadcast",
        };
        return impossible(format!("it is the {which} address of {cidr}"));
    }
    if let Some(range) = exclude.iter().find(|range| range.contains(address)) {
        return impossible(format!("{range} of {cidr} is excluded"));
    }
    if *phase != Phase::Active {
        return Err(not_ready(tenant, entry));
    }
    if subnets.iter().any(|subnet| subnet.ordinal == entry.ordinal) || subnets.is_empty() {
        let most = tenant.quota.addresses.unwrap_or(0);
        return impossible(format!("the tenant's quota of {most} addresses ends before it"));
    }
    impossible(format!("it is of {cidr}, and another subnet is asked for"))
}

fn not_ready(tenant: &TenantRecord, SubnetEntry { prefixes, phase, .. }: &SubnetEntry) -> IpamError {
    IpamError::NotReady { tenant: tenant.name.clone(), cidr: prefixes[0].cidr, phase: *phase }
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
    let same_family = |requested: &&IpAddr| requested.is_ipv4() == address.is_ipv4();
    if requested.addresses.iter().filter(same_family).any(|requested| requested != address) {
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
    let has = |requested: &IpAddr| addresses.iter().any(|address| address.address.ip() == *requested);
    // Of a family in which none is requested, it has any.
    let of_family = |v4: bool| {
        let requested = requested.addresses.iter().filter(|address| address.is_ipv4() == v4).count();
        requested == 0 || requested == addresses.iter().filter(|address| address.address.is_ipv4() == v4).count()
    };
    let all = requested.addresses.iter().all(has) && of_family(true) && of_family(false);
    let subnet = requested.subnet.is_none_or(|choice| match choice {
        SubnetChoice::Ordinal(ordinal) => addresses.iter().all(|claimed| claimed.ordinal == ordinal),
        SubnetChoice::Cidr(cidr) => addresses
            .iter()
            .any(|claimed| claimed.address.network() == cidr.network() && claimed.address.prefix() == cidr.prefix()),
    });
    all && subnet && requested.mac.is_none_or(|requested| requested == *mac)
}
