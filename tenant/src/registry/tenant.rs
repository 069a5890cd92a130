//! Entering a tenant: writing the namespace's record, or creating the tenant with everything that must be unique.
//!
//! Promise: namespace, tenant, transit link and subnet come into being in one transaction that finds all of them
//! absent. Of any number of callers at once exactly one wins; the others enter what it made.

use atoll_ipam::Versioned;
use atoll_ipam::pool;
use atoll_model::ids::{Incarnation, Namespace, TenantName};
use atoll_model::record::{
    Addressing, ClusterRecord, NamespaceRecord, Origin, OwnerRecord, Phase, Quota, SCHEMA, SubnetEntry, TenantRecord,
};
use atoll_store::{Answer, Committed, Compare, Key, Query, Revision, Store, Txn};
use ipnetwork::Ipv4Network;
use serde_json::Map;
use uuid::Uuid;

use super::door::{Door, Step};
use super::{Attempts, Registry, one, put, unfit};
use crate::controller::Controller;
use crate::error::TenantError;
use crate::place::Who;

/// The ordinal of a tenant's first subnet; 0 stands for the transit link in records that own a part of a pool.
pub(crate) const FIRST_SUBNET: u32 = 1;

/// How many neighbours a lost attempt brings along.
const WINDOW: usize = 64;

/// The cluster as it is in the end, the namespace's revision, the tenant.
type Entered = (Versioned<ClusterRecord>, Option<(Namespace, Revision)>, Versioned<TenantRecord>);

impl<S: Store, C: Controller> Registry<'_, S, C> {
    /// Enters the tenant that `who` belongs to, which is created if need be.
    pub(super) async fn enter(
        &self,
        who: &Who,
        cluster: Versioned<ClusterRecord>,
        door: Door,
    ) -> Result<Entered, TenantError> {
        self.enter_as(who, cluster, door, None).await
    }

    /// The same; a tenant that is created is said to be made for `origin`, if given.
    pub(crate) async fn enter_as(
        &self,
        who: &Who,
        mut cluster: Versioned<ClusterRecord>,
        mut door: Door,
        origin: Option<Origin>,
    ) -> Result<Entered, TenantError> {
        let mut parts = None;
        let mut attempts = Attempts::at(format!("enter tenant {}", door.name));
        loop {
            door = match door.step(who)? {
                Step::In => {
                    let Some(tenant) = door.tenant else { return Err(unfit()) };
                    let revision = door.namespace.map(|record| record.mod_revision);
                    return Ok((cluster, who.namespace.clone().zip(revision), tenant));
                }
                Step::Look(name) => self.look(who, name).await?,
                Step::Register(namespace) => self.register(who, &namespace, door, &mut attempts).await?,
                Step::Create(usual) => {
                    let origin = origin.clone().unwrap_or(usual);
                    let parts = match &mut parts {
                        Some(parts) => parts,
                        none => none.insert(Parts::first(&cluster.record, &door.name)?),
                    };
                    match self.create(who, &cluster, &door.name, origin, parts, &mut attempts).await? {
                        Created::Yes(door) => *door,
                        Created::Lost(answers) => {
                            let [now, transit, subnets, rest @ ..] = answers.as_slice() else { return Err(unfit()) };
                            cluster = self.ensure_cluster(one(now)?).await?;
                            parts.lost(&cluster.record, &door.name, transit, subnets)?;
                            Door::read(who, door.name, rest)?
                        }
                    }
                }
            };
            if door.step(who).is_ok_and(|step| !matches!(step, Step::In)) {
                attempts.again()?;
            }
        }
    }

    /// Reads a caller's way into a tenant.
    pub(crate) async fn look(&self, who: &Who, name: TenantName) -> Result<Door, TenantError> {
        let snapshot = self
            .store
            .read(Door::queries(who, &name))
            .await
            .map_err(TenantError::store(format!("look up tenant {name}")))?;
        Door::read(who, name, &snapshot.answers)
    }

    /// Writes the record of a namespace whose tenant is there.
    async fn register(
        &self,
        who: &Who,
        namespace: &Namespace,
        door: Door,
        attempts: &mut Attempts,
    ) -> Result<Door, TenantError> {
        let Door { name, tenant: Some(tenant), .. } = door else { return Err(unfit()) };
        let key = Key::namespace(namespace);
        let record = NamespaceRecord {
            v: SCHEMA,
            tenant: name.clone(),
            incarnation: tenant.record.incarnation,
            unknown: Map::new(),
        };
        let txn = Txn {
            compare: vec![Compare::Absent(key.clone()), Compare::Modified(Key::tenant(&name), tenant.mod_revision)],
            then: vec![put(key, &record)],
            otherwise: Door::queries(who, &name),
        };
        match attempts.commit(self.store, txn).await? {
            Committed::Yes(revision) => {
                let namespace = Versioned { record, create_revision: revision, mod_revision: revision };
                Ok(Door { name, namespace: Some(namespace), tenant: Some(tenant) })
            }
            Committed::Lost(snapshot) => Door::read(who, name, &snapshot.answers),
        }
    }

    /// One attempt to create a tenant with the parts of the pools that were chosen for it.
    async fn create(
        &self,
        who: &Who,
        cluster: &Versioned<ClusterRecord>,
        name: &TenantName,
        origin: Origin,
        parts: &Parts,
        attempts: &mut Attempts,
    ) -> Result<Created, TenantError> {
        let tenant = parts.tenant(name, origin)?;
        let incarnation = tenant.incarnation;
        let owner =
            |ordinal| OwnerRecord { v: SCHEMA, tenant: name.clone(), incarnation, ordinal, unknown: Map::new() };
        let namespace = who.namespace.as_ref().map(|namespace| {
            let record = NamespaceRecord { v: SCHEMA, tenant: name.clone(), incarnation, unknown: Map::new() };
            (Key::namespace(namespace), record)
        });

        let mut new = vec![
            (Key::tenant(name), put(Key::tenant(name), &tenant)),
            (Key::transit(parts.transit), put(Key::transit(parts.transit), &owner(0))),
        ];
        if cluster.record.addressing == Addressing::Unique {
            let key = Key::subnet(parts.subnet);
            new.push((key.clone(), put(key, &owner(FIRST_SUBNET))));
        }
        new.extend(namespace.iter().map(|(key, record)| (key.clone(), put(key.clone(), record))));

        let mut compare = vec![Compare::Modified(Key::cluster(), cluster.mod_revision)];
        let (keys, then): (Vec<_>, Vec<_>) = new.into_iter().unzip();
        compare.extend(keys.into_iter().map(Compare::Absent));
        let mut otherwise = vec![Query::Key(Key::cluster())];
        otherwise.extend(parts.windows());
        otherwise.extend(Door::queries(who, name));
        match attempts.commit(self.store, Txn { compare, then, otherwise }).await? {
            Committed::Yes(revision) => Ok(Created::Yes(Box::new(Door {
                name: name.clone(),
                namespace: namespace.map(|(_, record)| fresh(record, revision)),
                tenant: Some(fresh(tenant, revision)),
            }))),
            Committed::Lost(snapshot) => Ok(Created::Lost(snapshot.answers)),
        }
    }
}

/// How an attempt to create a tenant ended.
enum Created {
    /// The tenant is ours to enter.
    Yes(Box<Door>),
    /// Something was there: the cluster, windows of transit links and subnets, and the caller's way in, as they are.
    Lost(Vec<Answer>),
}

fn fresh<T>(record: T, revision: Revision) -> Versioned<T> {
    Versioned { record, create_revision: revision, mod_revision: revision }
}

/// The parts of the cluster's pools that a new tenant tries to get. The first choice derives from the tenant's name, so
/// that tenants created at once seldom want the same; after a lost race the next free part of the window is tried, and
/// after another the whole pool is looked at: then the pool is known to be full, or the choice is the best there is.
struct Parts {
    transit: Ipv4Network,
    subnet: Ipv4Network,
    attempts: u32,
}

impl Parts {
    fn first(cluster: &ClusterRecord, tenant: &TenantName) -> Result<Self, TenantError> {
        Self::choose(cluster, tenant, &[], &[])
    }

    fn lost(
        &mut self,
        cluster: &ClusterRecord,
        tenant: &TenantName,
        transit: &Answer,
        subnets: &Answer,
    ) -> Result<(), TenantError> {
        let networks = |answer: &Answer| -> Vec<Ipv4Network> {
            answer.entries.iter().filter_map(|entry| network(&entry.key)).collect()
        };
        let attempts = self.attempts + 1;
        *self = Self { attempts, ..Self::choose(cluster, tenant, &networks(transit), &networks(subnets))? };
        Ok(())
    }

    fn choose(
        cluster: &ClusterRecord,
        tenant: &TenantName,
        transits: &[Ipv4Network],
        subnets: &[Ipv4Network],
    ) -> Result<Self, TenantError> {
        let free = |what, pool: Ipv4Network, prefix, taken: &[Ipv4Network], seed| {
            pool::free_part(pool, prefix, taken, seed).ok_or_else(|| TenantError::Exhausted {
                tenant: tenant.clone(),
                what,
                pool,
                capacity: pool::subnet_count(pool, prefix).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            })
        };
        let seed = |what: &str| Uuid::new_v5(&cluster.id.0, format!("{what}/{tenant}").as_bytes()).as_u128();
        let transit = free("transit links", cluster.transit_cidr, pool::TRANSIT_PREFIX, transits, seed("transit"))?;
        let subnet = match cluster.addressing {
            Addressing::Unique => free("subnets", cluster.pod_cidr, cluster.subnet_prefix, subnets, seed("subnet"))?,
            // Every tenant starts at the first.
            Addressing::Overlapping => free("subnets", cluster.pod_cidr, cluster.subnet_prefix, &[], 0)?,
        };
        Ok(Self { transit, subnet, attempts: 0 })
    }

    /// What the next attempt needs to know if this one loses: the neighbours, and from the second loss on, all.
    fn windows(&self) -> [Query; 2] {
        let window = |prefix: Key, from: Key| {
            let all = self.attempts > 0;
            let (from, limit) = if all { (None, 0) } else { (Some(from), WINDOW) };
            Query::Range { prefix, from, until: None, limit, keys_only: true }
        };
        [window(Key::transits(), Key::transit(self.transit)), window(Key::subnets(), Key::subnet(self.subnet))]
    }

    fn tenant(&self, name: &TenantName, origin: Origin) -> Result<TenantRecord, TenantError> {
        let gateway = pool::gateway(self.subnet).ok_or_else(|| TenantError::Setting {
            setting: "subnetPrefix",
            value: self.subnet.prefix().to_string(),
            problem: "a subnet needs room for a gateway",
        })?;
        Ok(TenantRecord {
            v: SCHEMA,
            name: name.clone(),
            incarnation: Incarnation::random(),
            origin,
            phase: Phase::Building,
            generation: 1,
            transit: self.transit,
            subnets: vec![SubnetEntry {
                ordinal: FIRST_SUBNET,
                cidr: self.subnet,
                gateway,
                phase: Phase::Building,
                exclude: Vec::new(),
                unknown: Map::new(),
            }],
            quota: Quota::default(),
            routes: Vec::new(),
            retired: Vec::new(),
            dns: None,
            unknown: Map::new(),
        })
    }
}

/// The network that a key of `transit/` or `subnets/` stands for.
pub(crate) fn network(key: &Key) -> Option<Ipv4Network> {
    let last = key.as_str().rsplit('/').next()?;
    let (address, prefix) = match last.split_once('_') {
        Some((address, prefix)) => (address, prefix.parse().ok()?),
        None => (last, pool::TRANSIT_PREFIX),
    };
    let address = u32::from_str_radix(address, 16).ok()?;
    Ipv4Network::new(address.into(), prefix).ok()
}
