//! Makes ports of pods again that the engine has lost, for instance because its database was restored from an old backup.
//!
//! # Guarantees
//! - A port is made as the pod's node makes it: by its claim, with the writer epoch of the node.
//! - **No port is left without a claim**, wherever this call ends. Before the creation is sent, the claim records that one may
//!   arrive (`creations_until`), compared with the node's record. A DEL that has read the claim before loses its release, reads
//!   that, and fences the node first; with an engine that does not fence it waits for the maximum request lifetime. An eviction
//!   raises the node's writer epoch before it lists the claims, and no port is made for a node that is being evicted.
//! - The port of a pod that a tombstone names is not made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_ipam::{creations_answered, expect_creation};
use atoll_model::clock::now;
use atoll_model::ids::NodeName;
use atoll_network::{Engine, EngineFailure};
use atoll_records::{ClaimRecord, ClusterRecord, NodeRecord, Query, TenantRecord, TombstoneRecord, Versioned};
use atoll_store::Store;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::Admin;
use crate::error::TenantError;
use crate::network::network_id;
use crate::pod_port::pod_port;

/// Ports that are made at once.
const AT_ONCE: usize = 8;

/// How often what is lost is read again, because a claim or a node changed while its port was made.
const ROUNDS: u32 = 4;

/// A claim whose port is lost, and its node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LostPort {
    pub(super) claim: Versioned<ClaimRecord>,
    pub(super) node: Versioned<NodeRecord>,
}

/// What etcd has of pods.
struct PodRecords {
    claims: Vec<Versioned<ClaimRecord>>,
    nodes: BTreeMap<NodeName, Versioned<NodeRecord>>,
    /// The names of attachments with pending cleanup.
    tombstones: BTreeSet<String>,
}

/// The claims of a tenant whose ports the engine does not have.
pub(super) async fn lost_ports<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    cluster: &ClusterRecord,
    tenant: &TenantRecord,
) -> Result<Vec<LostPort>, TenantError> {
    let mut records = pod_records(admin).await?;
    records.claims.retain(|claim| is_restorable(&claim.record, tenant, admin.engine.name()));
    // The ports are read after the claims: one that an ADD makes meanwhile is there.
    let ordinals: BTreeSet<u32> =
        records.claims.iter().filter_map(|claim| Some(claim.record.addresses.first()?.ordinal)).collect();
    let mut ports = BTreeSet::new();
    for ordinal in ordinals {
        let subnet = network_id(cluster, tenant).subnet(ordinal);
        let what = format!("list the ports of subnet {ordinal} of tenant {}", tenant.name);
        ports.extend(admin.engine.ports(subnet).await.map_err(TenantError::engine(what))?);
    }
    Ok(lost(records, &ports))
}

/// The claim is of this tenant as it is now, and its port is of this engine.
fn is_restorable(claim: &ClaimRecord, tenant: &TenantRecord, engine: &str) -> bool {
    let has_subnet = |ordinal| tenant.subnets.iter().any(|subnet| subnet.ordinal == ordinal);
    claim.tenant == tenant.name
        && claim.incarnation == tenant.incarnation
        && claim.engine == engine
        && claim.addresses.first().is_some_and(|address| has_subnet(address.ordinal))
}

/// Decides whose ports are to be made. Pure.
fn lost(records: PodRecords, ports: &BTreeSet<Uuid>) -> Vec<LostPort> {
    let PodRecords { claims, nodes, tombstones } = records;
    let lost = claims.into_iter().filter_map(|claim| {
        let attachment = &claim.record.attachment;
        let is_lost = !ports.contains(&claim.record.port) && !tombstones.contains(&attachment.to_string());
        // Without a record, or while it is evicted, the node may have no port.
        let node = nodes.get(&attachment.node).filter(|node| is_lost && node.record.evicting.is_none())?.clone();
        Some(LostPort { claim, node })
    });
    lost.collect()
}

async fn pod_records<S: Store, E: Engine>(admin: &Admin<'_, S, E>) -> Result<PodRecords, TenantError> {
    let claims = ClaimRecord::all();
    let (nodes, tombstones) = (Query::all(NodeRecord::all()), Query::keys(TombstoneRecord::all()));
    let queries = vec![Query::all(&claims), nodes.clone(), tombstones.clone()];
    let snapshot = admin.store.read(queries).await.map_err(TenantError::store("read the claims and the nodes"))?;
    let nodes = snapshot.answer(&nodes)?.entries.iter().filter_map(|entry| {
        let name = NodeRecord::name_in(&entry.key)?;
        Some((name, Versioned::<NodeRecord>::read(entry).ok()?))
    });
    let tombstones = snapshot.answer(&tombstones)?.entries.iter().filter_map(|entry| entry.key.attachment_part());
    Ok(PodRecords {
        claims: snapshot.list(&claims)?.readable(),
        nodes: nodes.collect(),
        tombstones: tombstones.map(|attachment| attachment.to_string()).collect(),
    })
}

/// Makes the lost ports of a tenant.
pub(super) async fn restore_ports<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    cluster: &ClusterRecord,
    tenant: &TenantRecord,
    request_lifetime: Duration,
) -> Result<(), TenantError> {
    for _ in 0..ROUNDS {
        let lost = lost_ports(admin, cluster, tenant).await?;
        let restored: Vec<_> = lost.iter().map(|lost| restore(admin, cluster, lost, request_lifetime)).collect();
        let restored: Vec<bool> = stream::iter(restored).buffered(AT_ONCE).try_collect().await?;
        if restored.iter().all(|is_made| *is_made) {
            return Ok(());
        }
    }
    Err(TenantError::Contended { what: format!("make the ports of tenant {} again", tenant.name), attempts: ROUNDS })
}

/// Makes one port. False: the claim or its node has changed, and it is decided on again.
async fn restore<S: Store, E: Engine>(
    admin: &Admin<'_, S, E>,
    cluster: &ClusterRecord,
    lost: &LostPort,
    request_lifetime: Duration,
) -> Result<bool, TenantError> {
    let LostPort { claim, node } = lost;
    let until = now() + request_lifetime.as_secs().max(1);
    let expected = expect_creation(admin.store, claim, node.mod_revision, until).await?;
    let Some(expected) = expected else { return Ok(false) };
    let port = pod_port(cluster, &node.record, &claim.record);
    let what = format!("make port {} of {} again", port.id, claim.record.attachment);
    match admin.engine.ensure_port(&port).await {
        Ok(_) => {}
        Err(error) if error.failure == EngineFailure::Overtaken => return Ok(false),
        Err(error) => return Err(TenantError::engine(what)(error)),
    }
    tracing::info!(port = %port.id, attachment = %claim.record.attachment, "made again");
    // It was answered. What an earlier repair sent may still arrive; without a fence, time ends that.
    if admin.engine.fences() && claim.record.creations_until == 0 {
        creations_answered(admin.store, &expected).await?;
    }
    Ok(true)
}
