//! Another subnet for a tenant.
//!
//! # Guarantees
//! - Of any number of callers that find the tenant full, one adds a subnet; the others find its record changed and read
//!   again.
//! - An ordinal is never used twice in one incarnation of the tenant.

use atoll_ipam::pool::{self, Block, PodRange};
use atoll_model::config::Addressing;
use atoll_model::range::AddressRange;
use atoll_records::{ClusterRecord, OwnerRecord, Phase, Query, SCHEMA, SubnetEntry, TenantRecord, Unknown, Versioned};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};
use ipnetwork::IpNetwork;
use uuid::Uuid;

use super::Registry;
use super::pools::{SubnetPool, free_part, pools, prefixes};
use super::tenant::{FIRST_SUBNET, networks};
use crate::attempts::RecordChange;
use crate::error::TenantError;
use atoll_network::Engine;

/// The field of the tenant's record that remembers numbers whose subnets are gone.
const NEXT: &str = "nextOrdinal";

/// Most ranges that one subnet leaves out: every node has the tenant's record in its cache.
const MOST_EXCLUSIONS: usize = 64;

/// A subnet that covers more parts of the pool than this would not fit into one transaction.
const MOST_PARTS: u128 = 64;

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// Adds a subnet to the record, to be built: the prefixes that are `wanted`, and for each other family of the cluster a
    /// free part of its pool. A tenant that changed meanwhile is given back as it is now, without a new subnet.
    pub(crate) async fn extend(
        &self,
        cluster: &ClusterRecord,
        tenant: &Versioned<TenantRecord>,
        wanted: &[IpNetwork],
        exclude: &[AddressRange],
    ) -> Result<Versioned<TenantRecord>, TenantError> {
        let record = &tenant.record;
        if let Some(most) = record.quota.subnets.filter(|most| room(record) >= *most) {
            return Err(TenantError::Quota { tenant: record.name.clone(), what: "subnets", most });
        }
        let mut change = RecordChange::repeated(format!("add a subnet to tenant {}", record.name));
        let mut taken: Vec<IpNetwork> = Vec::new();
        loop {
            change.begin()?;
            let cidrs = choose(cluster, record, wanted, &taken)?;
            let next = with_subnet(record, &cidrs, exclude)?;
            let ordinal = next.subnets.last().map_or(FIRST_SUBNET, |subnet| subnet.ordinal);
            let owner = OwnerRecord {
                v: SCHEMA,
                tenant: record.name.clone(),
                incarnation: record.incarnation,
                ordinal,
                unknown: Unknown::new(),
            };
            let parts = cidrs.iter().flat_map(|cidr| parts(cluster, *cidr));
            let keys: Vec<_> = parts.map(OwnerRecord::subnet).collect();
            let key = TenantRecord::at(&record.name);
            let mut compare = vec![Compare::modified(&key, tenant.mod_revision)];
            compare.extend(keys.iter().map(Compare::absent));
            let mut then = vec![StoreChange::put(&key, &next)];
            then.extend(keys.iter().map(|key| StoreChange::put(key, &owner)));
            let subnets = Query::keys(OwnerRecord::subnets());
            let txn = Txn { compare, then, read: Vec::new(), otherwise: vec![Query::key(&key), subnets.clone()] };
            match change.commit(self.store, txn).await? {
                Committed::Yes(done) => return Ok(tenant.updated(next, done.revision)),
                Committed::Lost(snapshot) => {
                    let now = snapshot.get(&key)?;
                    let now = now.ok_or_else(|| TenantError::Unknown { tenant: record.name.clone() })?;
                    if now.mod_revision != tenant.mod_revision {
                        return Ok(now);
                    }
                    taken = networks(snapshot.answer(&subnets)?);
                }
            }
        }
    }
}

/// How many subnets count against the quota.
fn room(tenant: &TenantRecord) -> u32 {
    let living = tenant.subnets.iter().filter(|subnet| subnet.phase != Phase::Deleting).count();
    u32::try_from(living).unwrap_or(u32::MAX)
}

/// The prefixes of the next subnet. `taken`: parts of the cluster's pools that others have.
pub(crate) fn choose(
    cluster: &ClusterRecord,
    tenant: &TenantRecord,
    wanted: &[IpNetwork],
    taken: &[IpNetwork],
) -> Result<Vec<IpNetwork>, TenantError> {
    let pools = pools(cluster);
    let of = |v4: bool| wanted.iter().filter(move |wanted| wanted.is_ipv4() == v4);
    // Each one that is wanted is the only one of its family, for which there is a pool.
    let is_met = |one: &&IpNetwork| {
        of(one.is_ipv4()).count() == 1 && pools.iter().any(|pool| pool.cidr.is_ipv4() == one.is_ipv4())
    };
    if let Some(unmet) = wanted.iter().find(|wanted| !is_met(wanted)) {
        let keys: Vec<_> = pools.iter().map(|pool| format!("`cluster.{}`", pool.setting)).collect();
        let problem = format!("a subnet has one prefix of each pool of the cluster: {}", keys.join(" and "));
        return Err(TenantError::Subnet { cidr: *unmet, problem });
    }
    pools.iter().map(|pool| choose_one(cluster, pool, tenant, of(pool.cidr.is_ipv4()).next().copied(), taken)).collect()
}

fn choose_one(
    cluster: &ClusterRecord,
    pool: &SubnetPool,
    tenant: &TenantRecord,
    wanted: Option<IpNetwork>,
    taken: &[IpNetwork],
) -> Result<IpNetwork, TenantError> {
    let SubnetPool { setting, cidr: pool, prefix, longest } = *pool;
    let own = tenant.subnets.iter().flat_map(|subnet| subnet.prefixes.iter().map(|prefix| prefix.cidr));
    let taken: Vec<IpNetwork> = taken.iter().copied().chain(own).collect();
    // A route into a subnet would take its traffic away; one to a larger network gives way to it.
    let routes = || tenant.routes.iter().chain(&tenant.retired).map(|route| route.destination);
    if let Some(wanted) = wanted {
        let refuse = |problem: String| Err(TenantError::Subnet { cidr: wanted, problem });
        let block = Block::from(wanted);
        if wanted.ip() != wanted.network() {
            return refuse(format!("it has host bits; {}/{} is meant", wanted.network(), wanted.prefix()));
        }
        if Block::from(pool).index_of(block).is_none() || wanted.prefix() > longest {
            return refuse(format!(
                "it must be a part of `cluster.{setting}`, {pool}, with a prefix length of at most {longest}"
            ));
        }
        if block.count(prefix).is_some_and(|parts| parts > MOST_PARTS) {
            return refuse(format!("it is larger than {MOST_PARTS} usual subnets"));
        }
        if let Some(other) = taken.iter().find(|other| Block::from(**other).overlaps(block)) {
            return refuse(format!("it overlaps {other}, which is in use"));
        }
        if let Some(route) = routes().find(|route| block.index_of(Block::from(*route)).is_some()) {
            return refuse(format!("tenant {} has a static route to {route} inside it", tenant.name));
        }
        return Ok(wanted);
    }
    let seed = match cluster.addressing {
        Addressing::Unique => {
            Uuid::new_v5(&cluster.id.0, format!("subnet/{}/{}", tenant.name, next_ordinal(tenant)).as_bytes()).as_u128()
        }
        Addressing::Overlapping => 0,
    };
    let inside = routes().filter(|route| route.prefix() >= prefix);
    let taken: Vec<IpNetwork> = taken.into_iter().chain(inside).collect();
    free_part(&tenant.name, "subnets", pool, prefix, &taken, seed)
}

/// The record with one subnet more.
pub(crate) fn with_subnet(
    tenant: &TenantRecord,
    cidrs: &[IpNetwork],
    exclude: &[AddressRange],
) -> Result<TenantRecord, TenantError> {
    let prefixes = prefixes(cidrs)?;
    let mut tenant = tenant.clone();
    let ordinal = next_ordinal(&tenant);
    let exclude = exclude.to_vec();
    let entry = SubnetEntry { ordinal, prefixes, phase: Phase::Building, exclude, unknown: Unknown::new() };
    refuse_exclusions(&entry)?;
    tenant.subnets.push(entry);
    tenant.unknown.insert(NEXT.to_owned(), (ordinal + 1).into());
    Ok(tenant)
}

/// Excluded addresses must be in the subnet, and leave room for a pod.
fn refuse_exclusions(entry: &SubnetEntry) -> Result<(), TenantError> {
    let SubnetEntry { prefixes, exclude, .. } = entry;
    let refuse = |problem: String| Err(TenantError::Subnet { cidr: prefixes[0].cidr, problem });
    if exclude.len() > MOST_EXCLUSIONS {
        return refuse(format!("more than {MOST_EXCLUSIONS} ranges are excluded"));
    }
    if let Some(range) = exclude.iter().find(|range| !entry.contains(range.first()) || !entry.contains(range.last())) {
        return refuse(format!("the excluded range {range} is not of it"));
    }
    if !exclude.is_empty() && prefixes.iter().any(|prefix| PodRange::of(prefix, exclude).is_none()) {
        return refuse("what is excluded leaves no room for a pod".to_owned());
    }
    Ok(())
}

/// The number of the next subnet: greater than all numbers that were ever used.
fn next_ordinal(tenant: &TenantRecord) -> u32 {
    let remembered = tenant.unknown.get(NEXT).and_then(serde_json::Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let present = tenant.subnets.iter().map(|subnet| subnet.ordinal + 1).max();
    remembered.max(present).unwrap_or(FIRST_SUBNET)
}

/// The parts of a pool of the cluster that a network takes: all that it touches, so that the free parts follow from keys
/// alone. None where tenants may overlap.
pub(crate) fn parts(cluster: &ClusterRecord, cidr: IpNetwork) -> Vec<IpNetwork> {
    if cluster.addressing == Addressing::Overlapping {
        return Vec::new();
    }
    let pool = pools(cluster).into_iter().find(|pool| pool.cidr.is_ipv4() == cidr.is_ipv4());
    // Also for a cluster that has no pool of this family any more: the keys of an existing subnet.
    let prefix = pool.map_or(cidr.prefix(), |pool| pool.prefix);
    match Block::from(cidr).count(prefix) {
        Some(count) => (0..count.min(MOST_PARTS)).filter_map(|index| pool::subnet(cidr, prefix, index)).collect(),
        // Smaller than a part: the part around it.
        None => Block::new(cidr.network(), prefix).map(Block::network).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::network::tests::tenant;
    use atoll_records::{StaticRoute, Via};
    use atoll_testkit::fixture::cluster_record as cluster;

    fn net(text: &str) -> IpNetwork {
        text.parse().expect("valid")
    }

    #[test]
    fn a_network_takes_every_part_of_the_pool_that_it_touches() {
        let cluster = cluster();
        assert_eq!(parts(&cluster, net("10.128.4.0/24")), [net("10.128.4.0/24")]);
        assert_eq!(parts(&cluster, net("10.128.4.64/26")), [net("10.128.4.0/24")]);
        assert_eq!(parts(&cluster, net("10.128.4.0/23")), [net("10.128.4.0/24"), net("10.128.5.0/24")]);
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let mut record = tenant(1);
        for expected in 2..5 {
            record = with_subnet(&record, &[net("10.200.0.0/24")], &[]).expect("room");
            assert_eq!(record.subnets.last().map(|subnet| subnet.ordinal), Some(expected));
            record.subnets.truncate(1);
        }
    }

    #[test]
    fn what_is_excluded_is_of_the_subnet_and_leaves_room() {
        let tenant = tenant(1);
        let with = |ranges: &[&str]| {
            let exclude: Vec<_> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
            with_subnet(&tenant, &[net("10.200.0.0/29")], &exclude)
        };
        let record = with(&["10.200.0.2", "10.200.0.4-10.200.0.5"]).expect("fine");
        let entry = record.subnets.last().expect("added");
        assert_eq!(PodRange::of(&entry.prefixes[0], &entry.exclude).map(|pods| pods.capacity()), Some(2));
        for (ranges, why) in [
            (&["10.200.0.8"][..], "10.200.0.8 is not of it"),
            (&["10.200.0.6-10.200.0.9"], "is not of it"),
            (&["10.200.0.0/30", "10.200.0.4/30"], "leaves no room"),
            (&["10.200.0.2"; 65], "more than 64 ranges"),
        ] {
            let error = with(ranges).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn an_address_request_that_cannot_be_met_is_reported_with_the_reason() {
        let (cluster, tenant) = (cluster(), tenant(1));
        for (requested, why) in [
            ("10.128.1.0/24", "overlaps 10.128.1.0/24"),
            ("10.128.0.0/16", "larger than 64 usual subnets"),
            ("192.168.0.0/24", "a part of `cluster.podCidr`"),
            ("10.128.9.0/31", "at most 30"),
            ("10.128.9.7/24", "10.128.9.0/24 is meant"),
            ("10.129.0.0/24", "overlaps 10.129.0.0/23"),
        ] {
            let error = choose(&cluster, &tenant, &[net(requested)], &[net("10.129.0.0/23")]).expect_err(requested);
            assert!(error.to_string().contains(why), "{requested}: {error}");
        }
        let mut routed = tenant.clone();
        let reject = |to: &str| StaticRoute { destination: net(to), via: Via::Reject };
        routed.routes = vec![reject("10.130.4.0/25"), reject("10.130.0.0/16")];
        let error = choose(&cluster, &routed, &[net("10.130.4.0/24")], &[]).expect_err("the route takes its traffic");
        assert!(error.to_string().contains("static route to 10.130.4.0/25"), "{error}");
        assert!(choose(&cluster, &routed, &[net("10.130.5.0/24")], &[]).is_ok(), "it goes before the larger network");
        let chosen = choose(&cluster, &tenant, &[], &[]).expect("free");
        routed.routes = vec![reject(&chosen[0].to_string())];
        assert_ne!(choose(&cluster, &routed, &[], &[]).expect("another one is free"), chosen);
        assert_eq!(choose(&cluster, &tenant, &[net("10.130.0.0/20")], &[]).expect("free"), [net("10.130.0.0/20")]);
    }
}
