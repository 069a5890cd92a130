//! An operator's settings of a tenant: its quota, the static routes of its router, DNS of its pods, and their names in DNS.
//!
//! # Guarantees
//! - A setting that cannot work is refused before any change.
//! - The record is changed in one transaction, and the controller is updated as for a new tenant, so the next call
//!   completes an interrupted change.
//! - A quota removes nothing from a tenant that has more.
//! - Routes apply to running pods, DNS and names to new ones. A tenant without a domain has no names at once.

use std::net::Ipv4Addr;
use std::time::Duration;

use atoll_ipam::pool::{Block, number};
use atoll_model::config::{DnsConfig, UnusableDns};
use atoll_model::ids::{PodDomain, TenantName};
use atoll_records::{ClusterRecord, Phase, StaticRoute, SubnetEntry, TenantRecord, Via};
use atoll_store::Store;
use ipnetwork::IpNetwork;

use super::change::{changing, write};
use super::progress::{Deleted, wait_for_late_requests};
use super::{Admin, OPERATOR};
use crate::attempts::RecordChange;
use crate::error::TenantError;
use crate::network::{network, route, routes};
use atoll_network::{Engine, EngineError, EngineFailure};

/// The change of an optional value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Update<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is none any more.
    Clear,
    /// This.
    To(T),
}

impl<T: Clone> Update<T> {
    fn apply(&self, value: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *value = None,
            Self::To(new) => *value = Some(new.clone()),
        }
    }
}

/// The changes.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Most subnets.
    pub subnets: Update<u32>,
    /// Most addresses.
    pub addresses: Update<u32>,
    /// Routes to have; one to the same network is replaced.
    pub add_routes: Vec<StaticRoute>,
    /// Networks to have no route to.
    pub remove_routes: Vec<IpNetwork>,
    /// DNS.
    pub dns: Update<DnsConfig>,
    /// The domain in which the network answers for its pods' names.
    pub pod_domain: Update<PodDomain>,
}

/// Changes the settings of a tenant. Returns the tenant before and after.
///
/// A process that died may still make a route that was removed. So routes are deleted at once, and once more after `wait`,
/// the longest time that such a request may take; until then the record keeps them as `retired`, so that an interrupted call
/// is completed by the next one. `progress` receives each step.
pub async fn set<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    edit: &Edit,
    wait: Duration,
    mut progress: impl FnMut(Deleted),
) -> Result<(TenantRecord, TenantRecord), TenantError> {
    refuse_unsupported(admin.engine, name, edit).await?;
    let mut before = None;
    // The tenant may be changed at the same time: then what is to change is decided again.
    let mut change = RecordChange::repeated(changing(name));
    let (cluster, written) = loop {
        change.begin()?;
        let (cluster, tenant) = admin.known(name).await?;
        before.get_or_insert_with(|| tenant.record.clone());
        refuse_shared(&cluster.record, &tenant.record, edit)?;
        let wanted = edited(&tenant.record, edit)?;
        if let Some(written) = write(admin, tenant, |record| *record = wanted, Vec::new(), &mut change).await? {
            break (cluster, written);
        }
    };
    let was = before.unwrap_or_else(|| written.record.clone());
    let finished = Box::pin(admin.registry().finish(OPERATOR, &cluster, written, false)).await?;
    if finished.record.retired.is_empty() {
        return Ok((was, finished.record));
    }
    progress(Deleted::Objects(finished.record.retired.len()));
    wait_for_late_requests(admin.engine, wait, &mut progress).await;
    let after = Box::pin(forget_retired(admin, name, &finished.record.retired)).await?;
    progress(Deleted::All);
    Ok((was, after))
}

/// Deletes removed routes once more, and their entries in the record. Returns the tenant afterwards.
async fn forget_retired<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    name: &TenantName,
    gone: &[StaticRoute],
) -> Result<TenantRecord, TenantError> {
    let mut removed = Vec::new();
    let mut change = RecordChange::repeated(changing(name));
    loop {
        change.begin()?;
        let (cluster, tenant) = admin.known(name).await?;
        // One of them may be wanted again, and may have been deleted just now.
        if removed.iter().any(|route| tenant.record.routes.contains(route)) {
            Box::pin(admin.registry().finish(OPERATOR, &cluster, tenant.clone(), true)).await?;
        }
        // Routes that another call has removed since then are left to that call.
        let mut retired = tenant.record.clone();
        retired.retired.retain(|route| gone.contains(route));
        let network = network(&cluster.record, &tenant);
        let what = format!("delete routes of tenant {name} once more");
        admin.engine.delete_routes(&network, &routes(&retired.retired)).await.map_err(TenantError::engine(what))?;
        removed.clone_from(&retired.retired);
        let remove_retired = |record: &mut TenantRecord| record.retired.retain(|route| !gone.contains(route));
        if let Some(written) = write(admin, tenant, remove_retired, Vec::new(), &mut change).await? {
            return Ok(written.record);
        }
    }
}

/// Refuses what the engine cannot do.
///
/// # Errors
/// It cannot, or it cannot be asked.
pub async fn refuse_unsupported<E: Engine>(engine: &E, name: &TenantName, edit: &Edit) -> Result<(), TenantError> {
    let what = format!("set tenant {name}");
    if !matches!(edit.pod_domain, Update::To(_))
        || engine.capabilities().await.map_err(TenantError::engine(&what))?.pod_names
    {
        return Ok(());
    }
    let object = "answer queries for the names of pods".to_owned();
    let message = "this engine has no DNS of its own".to_owned();
    let remedy = Some("run a name server in the tenant, and set it with `--nameserver`".to_owned());
    let source = EngineError { server: engine.name(), object, failure: EngineFailure::Unsupported, message, remedy };
    Err(TenantError::Engine { what, source })
}

/// Refuses routes into what all tenants share: links of other tenants, addresses by which nodes reach their pods. Pure.
pub fn refuse_shared(cluster: &ClusterRecord, tenant: &TenantRecord, edit: &Edit) -> Result<(), TenantError> {
    for StaticRoute { destination, .. } in &edit.add_routes {
        let inside = |pool: IpNetwork| contains(pool, *destination);
        let pools = [
            ("transitCidr", Some(cluster.transit_cidr.into()), None),
            ("transitCidr6", cluster.ipv6.map(|pools| pools.transit_cidr.into()), None),
            // A pod of a cloud's machine may be kept from its metadata.
            ("nodeSideCidr", Some(cluster.node_side_cidr.into()), Some(clouds())),
        ];
        for (setting, pool, spared) in pools {
            let Some(pool) = pool else { continue };
            if inside(pool) && !spared.is_some_and(inside) {
                let problem = format!("it is inside `cluster.{setting}`, {pool}, which all tenants share");
                return Err(refused(tenant, *destination, problem));
            }
        }
    }
    Ok(())
}

/// Clouds have services of each machine here (169.254.169.254). Host-to-pod addressing gives none of these addresses to a
/// pod, whatever its pool, so that a route can block a tenant's pods from them.
fn clouds() -> IpNetwork {
    IpNetwork::new(Ipv4Addr::new(169, 254, 168, 0).into(), 22).expect("22 is a prefix length")
}

/// Whether `inner` is `outer` or a part of it.
fn contains(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.ip())
}

/// The record as `edit` wants it, or why that cannot be. Pure.
pub fn edited(tenant: &TenantRecord, edit: &Edit) -> Result<TenantRecord, TenantError> {
    if tenant.phase == Phase::Deleting {
        return Err(TenantError::Deleting { tenant: tenant.name.clone() });
    }
    let mut next = tenant.clone();
    edit.subnets.apply(&mut next.quota.subnets);
    edit.addresses.apply(&mut next.quota.addresses);
    edit.dns.apply(&mut next.dns);
    edit.pod_domain.apply(&mut next.pod_domain);
    if let Update::To(dns) = &edit.dns {
        dns.refuse_unusable().map_err(|UnusableDns { what, given, expected }| {
            let tenant = tenant.name.clone();
            TenantError::Dns { tenant, what, given, expected }
        })?;
    }
    let missing = edit.remove_routes.iter().find(|gone| next.routes.iter().all(|route| route.destination != **gone));
    if let Some(destination) = missing {
        return Err(refused(tenant, *destination, "there is none to take away".to_owned()));
    }
    next.routes.retain(|route| !edit.remove_routes.contains(&route.destination));
    for route in &edit.add_routes {
        possible(tenant, route)?;
        next.routes.retain(|other| other.destination != route.destination);
        next.routes.push(route.clone());
    }
    if next.pod_domain.is_some() != tenant.pod_domain.is_some() {
        next.phase = Phase::Building;
    }
    if next.routes != tenant.routes {
        let gone = tenant.routes.iter().filter(|route| !next.routes.contains(route)).cloned();
        next.retired.extend(gone);
        next.retired.retain(|route| !next.routes.contains(route));
        // The next call ensures that the controller has them.
        next.phase = Phase::Building;
    }
    Ok(next)
}

fn possible(tenant: &TenantRecord, route: &StaticRoute) -> Result<(), TenantError> {
    let refuse = |problem: String| Err(refused(tenant, route.destination, problem));
    let StaticRoute { destination, via } = route;
    if destination.ip() != destination.network() {
        return refuse(format!("it has host bits; {}/{} is meant", destination.network(), destination.prefix()));
    }
    if destination.prefix() == 0 {
        return refuse("the default route leads to the tenant's uplink".to_owned());
    }
    if destination.network().is_loopback() || destination.network().is_multicast() {
        return refuse("it is no network of hosts".to_owned());
    }
    let inside = |network: IpNetwork| contains(network, *destination);
    let living = || tenant.subnets.iter().filter(|subnet| subnet.phase != Phase::Deleting);
    if let Some(subnet) = living().find(|subnet| subnet.prefixes.iter().any(|prefix| inside(prefix.cidr))) {
        return refuse(format!("it is inside subnet {}, {}", subnet.ordinal, subnet.cidrs()));
    }
    if inside(tenant.transit.into()) {
        return refuse(format!("it is inside the transit link {}", tenant.transit));
    }
    if let Via::Gateway(address) = via {
        if address.is_ipv4() != destination.is_ipv4() {
            return refuse(format!("its next hop {address} is not of its family"));
        }
        let prefix = |subnet: &SubnetEntry| subnet.prefix_for(*address).copied();
        let Some(prefix) = living().filter_map(prefix).find(|prefix| prefix.cidr.contains(*address)) else {
            return refuse(format!("its next hop {address} is in none of the tenant's subnets"));
        };
        let hosts = Block::from(prefix.cidr).hosts();
        if prefix.gateway == *address || !hosts.is_some_and(|hosts| hosts.contains(number(*address))) {
            return refuse(format!("its next hop {address} can be no pod"));
        }
    }
    let number = |route: &StaticRoute| self::route(route).number();
    let same = |other: &&StaticRoute| number(other) == number(route) && *other != route;
    match tenant.routes.iter().chain(&tenant.retired).find(same) {
        Some(other) => refuse(format!("it cannot be distinguished from the route to {}", other.destination)),
        None => Ok(()),
    }
}

fn refused(tenant: &TenantRecord, destination: IpNetwork, problem: String) -> TenantError {
    TenantError::Route { tenant: tenant.name.clone(), destination, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::tenant;
    use atoll_testkit::fixture::cluster_record as cluster;

    fn route(destination: &str, via: Via) -> StaticRoute {
        StaticRoute { destination: destination.parse().expect("valid"), via }
    }

    fn by(address: [u8; 4]) -> Via {
        Via::Gateway(address.into())
    }

    #[test]
    fn a_route_that_cannot_be_is_refused_with_the_reason() {
        for (destination, via, why) in [
            ("10.9.0.1/16", Via::Reject, "10.9.0.0/16 is meant"),
            ("0.0.0.0/0", Via::Reject, "the tenant's uplink"),
            ("127.0.0.0/8", Via::Reject, "no network of hosts"),
            ("224.0.0.0/4", Via::Reject, "no network of hosts"),
            ("10.128.1.64/26", Via::Reject, "inside subnet 1, 10.128.1.0/24"),
            ("100.64.1.4/30", Via::Reject, "inside the transit link"),
            ("10.9.0.0/16", by([10, 128, 7, 7]), "in none of the tenant's subnets"),
            ("10.9.0.0/16", by([10, 128, 1, 1]), "can be no pod"),
        ] {
            let edit = Edit { add_routes: vec![route(destination, via)], ..Edit::default() };
            let error = edited(&tenant(1), &edit).expect_err(destination);
            assert!(error.to_string().contains(why), "{destination}: {error}");
        }
        for (destination, why) in
            [("100.64.9.0/30", "`cluster.transitCidr`"), ("169.254.200.1/32", "`cluster.nodeSideCidr`")]
        {
            let edit = Edit { add_routes: vec![route(destination, Via::Reject)], ..Edit::default() };
            let error = refuse_shared(&cluster(), &tenant(1), &edit).expect_err(destination);
            assert!(error.to_string().contains(why), "{destination}: {error}");
        }
        let edit = Edit { remove_routes: vec!["10.9.0.0/16".parse().expect("valid")], ..Edit::default() };
        assert!(edited(&tenant(1), &edit).is_err());
    }

    #[test]
    fn a_route_that_goes_is_remembered_until_it_is_gone_and_one_that_comes_back_is_not() {
        let add = |route| Edit { add_routes: vec![route], ..Edit::default() };
        let (first, second) = (route("10.9.0.0/16", by([10, 128, 1, 5])), route("10.9.0.0/16", Via::Reject));
        let one = edited(&tenant(1), &add(first.clone())).expect("fine");
        assert_eq!((&one.routes[..], &one.retired[..], one.phase), (&[first.clone()][..], &[][..], Phase::Building));
        let two = edited(&one, &add(second.clone())).expect("replaced");
        assert_eq!((&two.routes[..], &two.retired[..]), (&[second.clone()][..], &[first.clone()][..]));
        let three = edited(&two, &add(first.clone())).expect("back");
        assert_eq!((&three.routes[..], &three.retired[..]), (&[first][..], &[second][..]));
    }

    #[test]
    fn what_is_not_given_stays_and_a_quota_needs_no_building() {
        let edit = Edit { subnets: Update::To(4), ..Edit::default() };
        let next = edited(&tenant(1), &edit).expect("fine");
        assert_eq!((next.quota.subnets, next.quota.addresses, next.phase), (Some(4), None, Phase::Active));
        let dns = DnsConfig { nameservers: vec!["10.0.0.1".to_owned()], ..DnsConfig::default() };
        let next = edited(&next, &Edit { dns: Update::To(dns.clone()), ..Edit::default() }).expect("fine");
        assert_eq!((next.quota.subnets, &next.dns), (Some(4), &Some(dns)));
        let named = |domain| edited(&next, &Edit { pod_domain: domain, ..Edit::default() }).expect("fine");
        let (one, other) = ("red.internal".parse().expect("valid"), "blue.internal".parse().expect("valid"));
        let (with, without) = (named(Update::To(one)), named(Update::Clear));
        assert_eq!((with.phase, without.phase), (Phase::Building, Phase::Active), "the network gets a row for names");
        let with = TenantRecord { phase: Phase::Active, ..with };
        let renamed = edited(&with, &Edit { pod_domain: Update::To(other), ..Edit::default() }).expect("fine");
        let cleared = edited(&with, &Edit { pod_domain: Update::Clear, ..Edit::default() }).expect("fine");
        assert_eq!((renamed.phase, cleared.phase), (Phase::Active, Phase::Building));
        let words = DnsConfig { search: vec!["a b".to_owned()], ..DnsConfig::default() };
        let error = edited(&next, &Edit { dns: Update::To(words), ..Edit::default() }).expect_err("two words");
        assert!(error.to_string().contains("\"a b\""), "{error}");
    }
}
