//! Entering a tenant: writing the namespace's record, or creating the tenant with everything that must be unique.
//!
//! # Guarantees
//! Namespace, tenant, transit link and subnet are created in one transaction that requires all of them to be absent. Of
//! any number of concurrent callers exactly one succeeds; the others use what it created.

use atoll_ipam::pool;
use atoll_model::config::Addressing;
use atoll_model::ids::{Incarnation, Namespace, TenantName};
use atoll_records::{
    Answer, ClusterRecord, Entry, NamespaceRecord, Origin, OwnerRecord, Phase, Prefix, Query, Quota, RecordKey,
    Revision, SCHEMA, Snapshot, SubnetEntry, TenantRecord, Unknown, Versioned,
};
use atoll_store::{Committed, Compare, Store, StoreChange, Txn};
use ipnetwork::{IpNetwork, Ipv4Network};
use uuid::Uuid;

use super::Registry;
use super::access::{Decision, TenantAccess};
use super::pools::{SubnetPool, free_part, pools, prefixes};
use crate::attempts::RecordChange;
use crate::binding::Who;
use crate::error::TenantError;
use atoll_network::Engine;

/// The ordinal of a tenant's first subnet; 0 stands for the transit link in records that own a part of a pool.
pub(crate) const FIRST_SUBNET: u32 = 1;

/// How many neighbours a lost attempt brings along.
const WINDOW: usize = 64;

/// The cluster as it is in the end, the namespace's revision, the tenant.
type Entered = (Versioned<ClusterRecord>, Option<(Namespace, Revision)>, Versioned<TenantRecord>);

impl<S: Store, E: Engine> Registry<'_, S, E> {
    /// Enters the tenant that `who` belongs to, which is created if need be.
    pub(super) async fn enter(
        &self,
        who: &Who,
        cluster: Versioned<ClusterRecord>,
        access: TenantAccess,
    ) -> Result<Entered, TenantError> {
        self.enter_as(who, cluster, access, None).await
    }

    /// The same; a tenant that is created gets `origin`, if given.
    pub(crate) async fn enter_as(
        &self,
        who: &Who,
        mut cluster: Versioned<ClusterRecord>,
        mut access: TenantAccess,
        origin: Option<Origin>,
    ) -> Result<Entered, TenantError> {
        let mut parts = None;
        let mut change = RecordChange::repeated(format!("enter tenant {}", access.name));
        loop {
            if let Some(entered) = entered(who, &cluster, &access)? {
                return Ok(entered);
            }
            change.begin()?;
            access = match access.decide(who)? {
                // `entered` has returned.
                Decision::Allowed => continue,
                Decision::Redirect(name) => self.read_access(who, name).await?,
                Decision::Register(namespace) => self.register(who, &namespace, &access, &mut change).await?,
                Decision::Create(usual) => {
                    let origin = origin.clone().unwrap_or(usual);
                    let parts = match &mut parts {
                        Some(parts) => parts,
                        none => none.insert(Parts::first(&cluster.record, &access.name)?),
                    };
                    let tenant = parts.tenant(&access.name, origin)?;
                    match self.create(who, &cluster, tenant, parts, &mut change).await? {
                        Created::Yes(access) => *access,
                        Created::Lost(snapshot) => {
                            cluster = self.ensure_cluster(snapshot.get(&ClusterRecord::at())?).await?;
                            let access = TenantAccess::read(who, access.name.clone(), &snapshot)?;
                            parts.lost(&cluster.record, &access.name, &snapshot)?;
                            access
                        }
                    }
                }
            };
        }
    }

    /// Reads a caller's access to a tenant.
    pub(crate) async fn read_access(&self, who: &Who, name: TenantName) -> Result<TenantAccess, TenantError> {
        let read = self.store.read(TenantAccess::queries(who, &name)).await;
        let snapshot = read.map_err(TenantError::store(format!("look up tenant {name}")))?;
        Ok(TenantAccess::read(who, name, &snapshot)?)
    }

    /// Writes the record of a namespace whose tenant is there.
    async fn register(
        &self,
        who: &Who,
        namespace: &Namespace,
        access: &TenantAccess,
        change: &mut RecordChange,
    ) -> Result<TenantAccess, TenantError> {
        let TenantAccess { name, tenant, .. } = access;
        let tenant = tenant.as_ref().ok_or_else(|| TenantError::Unknown { tenant: name.clone() })?;
        let key = NamespaceRecord::at(namespace);
        let record = NamespaceRecord {
            v: SCHEMA,
            tenant: name.clone(),
            incarnation: tenant.record.incarnation,
            unknown: Unknown::new(),
        };
        let txn = Txn {
            compare: vec![Compare::absent(&key), Compare::modified(TenantRecord::at(name), tenant.mod_revision)],
            then: vec![StoreChange::put(&key, &record)],
            read: Vec::new(),
            otherwise: TenantAccess::queries(who, name),
        };
        match change.commit(self.store, txn).await? {
            Committed::Yes(done) => {
                let revision = done.revision;
                Ok(TenantAccess { namespace: Some(Versioned::created(record, revision)), ..access.clone() })
            }
            Committed::Lost(snapshot) => Ok(TenantAccess::read(who, name.clone(), &snapshot)?),
        }
    }

    /// One attempt to create a tenant with the parts of the pools that were chosen for it.
    async fn create(
        &self,
        who: &Who,
        cluster: &Versioned<ClusterRecord>,
        tenant: TenantRecord,
        parts: &Parts,
        change: &mut RecordChange,
    ) -> Result<Created, TenantError> {
        let (name, incarnation) = (&tenant.name, tenant.incarnation);
        let owner =
            |ordinal| OwnerRecord { v: SCHEMA, tenant: name.clone(), incarnation, ordinal, unknown: Unknown::new() };
        let namespace = who.namespace.as_ref().map(|namespace| {
            let record = NamespaceRecord { v: SCHEMA, tenant: name.clone(), incarnation, unknown: Unknown::new() };
            (NamespaceRecord::at(namespace), record)
        });

        let mut then = vec![
            StoreChange::put(&TenantRecord::at(name), &tenant),
            StoreChange::put(&OwnerRecord::transit(parts.transit), &owner(0)),
        ];
        if cluster.record.addressing == Addressing::Unique {
            let subnet = parts.subnet.iter().map(|cidr| OwnerRecord::subnet(*cidr));
            then.extend(subnet.map(|key| StoreChange::put(&key, &owner(FIRST_SUBNET))));
        }
        then.extend(namespace.iter().map(|(key, record)| StoreChange::put(key, record)));

        // All of it is new.
        let mut compare = vec![Compare::modified(ClusterRecord::at(), cluster.mod_revision)];
        compare.extend(then.iter().map(|change| Compare::absent(change.key())));
        let mut otherwise = vec![Query::key(ClusterRecord::at())];
        otherwise.extend(parts.windows());
        otherwise.extend(TenantAccess::queries(who, name));
        match change.commit(self.store, Txn { compare, then, read: Vec::new(), otherwise }).await? {
            Committed::Yes(Snapshot { revision, .. }) => Ok(Created::Yes(Box::new(TenantAccess {
                name: name.clone(),
                namespace: namespace.map(|(_, record)| Versioned::created(record, revision)),
                tenant: Some(Versioned::created(tenant, revision)),
            }))),
            Committed::Lost(snapshot) => Ok(Created::Lost(snapshot)),
        }
    }
}

/// The tenant, if the caller may enter it.
fn entered(
    who: &Who,
    cluster: &Versioned<ClusterRecord>,
    access: &TenantAccess,
) -> Result<Option<Entered>, TenantError> {
    let Decision::Allowed = access.decide(who)? else { return Ok(None) };
    let Some(tenant) = access.tenant.clone() else { return Ok(None) };
    let revision = access.namespace.as_ref().map(|record| record.mod_revision);
    Ok(Some((cluster.clone(), who.namespace.clone().zip(revision), tenant)))
}

/// How an attempt to create a tenant ended.
enum Created {
    /// The tenant is ours to enter.
    Yes(Box<TenantAccess>),
    /// A key existed already: the cluster, windows of transit links and subnets, and the caller's access, as they are.
    Lost(Snapshot),
}

/// The parts of the cluster's pools that a new tenant tries to get. The first choice derives from the tenant's name, so that
/// tenants created at once seldom choose the same; after a lost race the next free part of the window is tried, and after
/// another the whole pool is read: then the pool is known to be full, or the choice is the best there is.
struct Parts {
    transit: Ipv4Network,
    /// The prefixes of its first subnet, one for each family.
    subnet: Vec<IpNetwork>,
    attempts: u32,
}

impl Parts {
    fn first(cluster: &ClusterRecord, tenant: &TenantName) -> Result<Self, TenantError> {
        Self::choose(cluster, tenant, &[], &[])
    }

    /// Chooses again. `snapshot`: the answers to [`Parts::windows`].
    fn lost(&mut self, cluster: &ClusterRecord, tenant: &TenantName, snapshot: &Snapshot) -> Result<(), TenantError> {
        let mut seen = self.windows().into_iter().map(|window| Ok(networks(snapshot.answer(&window)?)));
        let transits = seen.next().transpose()?.unwrap_or_default();
        let subnets: Vec<_> = seen.collect::<Result<Vec<_>, TenantError>>()?.concat();
        let attempts = self.attempts + 1;
        *self = Self { attempts, ..Self::choose(cluster, tenant, &transits, &subnets)? };
        Ok(())
    }

    fn choose(
        cluster: &ClusterRecord,
        tenant: &TenantName,
        transits: &[IpNetwork],
        subnets: &[IpNetwork],
    ) -> Result<Self, TenantError> {
        let seed = |what: &str| Uuid::new_v5(&cluster.id.0, format!("{what}/{tenant}").as_bytes()).as_u128();
        let pool = cluster.transit_cidr.into();
        let transit = free_part(tenant, "transit links", pool, pool::TRANSIT_PREFIX, transits, seed("transit"))?;
        let IpNetwork::V4(transit) = transit else { unreachable!("a part of a pool of IPv4") };
        let (taken, seed) = match cluster.addressing {
            Addressing::Unique => (subnets, seed("subnet")),
            // Every tenant starts at the first.
            Addressing::Overlapping => (&[][..], 0),
        };
        let free = |pool: SubnetPool| free_part(tenant, "subnets", pool.cidr, pool.prefix, taken, seed);
        let subnet = pools(cluster).into_iter().map(free).collect::<Result<_, _>>()?;
        Ok(Self { transit, subnet, attempts: 0 })
    }

    /// The records that the next attempt needs if this one loses: the neighbouring keys, and from the second loss on, all.
    /// First those of transit links, then those of subnets for each family.
    fn windows(&self) -> Vec<Query> {
        let window = |prefix: Prefix<OwnerRecord>, from: RecordKey<OwnerRecord>| {
            let all = self.attempts > 0;
            let (from, limit) = if all { (None, 0) } else { (Some(from.into()), WINDOW) };
            Query::Range { prefix: prefix.into(), from, until: None, limit, keys_only: true }
        };
        let subnets = self.subnet.iter().map(|cidr| window(OwnerRecord::subnets(), OwnerRecord::subnet(*cidr)));
        [window(OwnerRecord::transits(), OwnerRecord::transit(self.transit))].into_iter().chain(subnets).collect()
    }

    fn tenant(&self, name: &TenantName, origin: Origin) -> Result<TenantRecord, TenantError> {
        let prefixes = prefixes(&self.subnet)?;
        Ok(TenantRecord {
            v: SCHEMA,
            name: name.clone(),
            incarnation: Incarnation::random(),
            origin,
            phase: Phase::Building,
            engine: serde_json::Map::new(),
            transit: self.transit,
            subnets: vec![SubnetEntry {
                ordinal: FIRST_SUBNET,
                prefixes,
                phase: Phase::Building,
                exclude: Vec::new(),
                unknown: Unknown::new(),
            }],
            quota: Quota::default(),
            routes: Vec::new(),
            retired: Vec::new(),
            dns: None,
            pod_domain: None,
            unknown: Unknown::new(),
        })
    }
}

/// The networks of a list of owners' keys.
pub(crate) fn networks(owners: &Answer) -> Vec<IpNetwork> {
    let network = |entry: &Entry| OwnerRecord::network_in(&entry.key, pool::TRANSIT_PREFIX);
    owners.entries.iter().filter_map(network).collect()
}
