//! A cluster with one node, one namespace and one tenant, as far as addresses need them.

use std::net::IpAddr;

use atoll_ipam::pool;

use atoll_records::{
    ClaimRecord, ClusterRecord, FIRST_ENGINE, Key, NamespaceRecord, NodeRecord, Origin, Phase, PrefixEntry, Query,
    Quota, Revision, SCHEMA, SubnetEntry, TenantRecord, Unknown, Versioned, encode,
};

use atoll_model::config::{Addressing, ClusterConfig};

use atoll_ipam::{ClaimRequest, Claimed, Guards};
use atoll_model::address_request;
use atoll_model::attachment::Attachment;
use atoll_model::ids::{
    ClusterId, ContainerId, Epoch, HostId, IfName, Incarnation, Namespace, NetworkName, NodeName, TenantName,
};
use atoll_store::{Committed, Store, StoreChange, Txn};
use ipnetwork::IpNetwork;
use uuid::Uuid;

/// The records that a node caches.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Record of the cluster.
    pub cluster: ClusterRecord,
    /// Record of the node.
    pub node: NodeRecord,
    /// Record of the tenant.
    pub tenant: TenantRecord,
    /// The namespace that belongs to the tenant.
    pub namespace: Namespace,
    /// The revisions of these records.
    pub guards: Guards,
}

/// The settings of a cluster.
pub fn cluster_config() -> ClusterConfig {
    ClusterConfig {
        addressing: Addressing::Unique,
        pod_cidr: "10.128.0.0/9".parse().expect("a network"),
        subnet_prefix: 24,
        transit_cidr: "100.64.0.0/16".parse().expect("a network"),
        ipv4: true,
        ipv6: None,
        node_side_cidr: "169.254.128.0/17".parse().expect("a network"),
        service_cidr: None,
        provider_router: None,
    }
}

/// The record of the cluster with these settings.
pub fn cluster_record() -> ClusterRecord {
    let config = cluster_config();
    ClusterRecord {
        v: SCHEMA,
        id: ClusterId(Uuid::from_u128(1)),
        epoch: Epoch(Uuid::from_u128(2)),
        engine: FIRST_ENGINE.to_owned(),
        addressing: config.addressing,
        pod_cidr: config.pod_cidr,
        subnet_prefix: config.subnet_prefix,
        transit_cidr: config.transit_cidr,
        ipv4: config.ipv4,
        ipv6: config.ipv6,
        node_side_cidr: config.node_side_cidr,
        service_cidr: config.service_cidr,
        provider: None,
        provider_router: Uuid::from_u128(3),
        unknown: Unknown::new(),
    }
}

/// Name of the tenant.
pub fn tenant_name() -> TenantName {
    TenantName::new("red").expect("valid")
}

/// Name of the node.
pub fn node_name() -> NodeName {
    NodeName::new("n1").expect("valid")
}

/// The attachment of a container on the node.
pub fn attachment(container: &str) -> Attachment {
    Attachment {
        node: node_name(),
        network: NetworkName::new("atoll").expect("valid"),
        container: ContainerId::new(container).expect("valid"),
        interface: IfName::new("eth0").expect("valid"),
    }
}

/// An entry of a tenant's list of subnets with these networks (`10.0.0.0/24`, or `10.0.0.0/24 fd00::/64`); the gateway is the
/// first address.
pub fn subnet(ordinal: u32, cidrs: &str, phase: Phase) -> SubnetEntry {
    let prefix = |cidr: &str| {
        let cidr: IpNetwork = cidr.parse().expect("a network");
        let family = pool::Block::from(cidr).family();
        PrefixEntry { cidr, gateway: family.address(pool::number(cidr.network()) + 1) }
    };
    let prefixes = cidrs.split_whitespace().map(prefix).collect();
    SubnetEntry { ordinal, prefixes, phase, exclude: Vec::new(), unknown: Unknown::new() }
}

/// The change that writes a record.
pub fn put<T: serde::Serialize>(key: Key, record: &T) -> StoreChange {
    StoreChange::Put { key, value: encode(record), lease: None }
}

/// Commits changes; answers their revision.
pub async fn write(store: &impl Store, then: Vec<StoreChange>) -> Revision {
    match store.commit(Txn { then, ..Txn::default() }).await {
        Ok(Committed::Yes(done)) => done.revision,
        other => panic!("{other:?}"),
    }
}

/// The keys below a prefix.
pub async fn keys(store: &impl Store, prefix: Key) -> Vec<String> {
    let query = Query::keys(prefix);
    let snapshot = store.read(vec![query.clone()]).await.expect("a read");
    snapshot.answer(&query).expect("asked").entries.iter().map(|entry| entry.key.to_string()).collect()
}

impl Fixture {
    /// Writes the records; the tenant has these subnets.
    pub async fn new(store: &impl Store, subnets: Vec<SubnetEntry>) -> Self {
        let cluster = cluster_record();
        let host_id = HostId::from(Uuid::from_u128(3));
        let node = NodeRecord {
            v: SCHEMA,
            host_id,
            machine_id: String::new(),
            epoch: 0,
            writer: 0,
            evicting: None,
            unknown: Unknown::new(),
        };
        let namespace = Namespace::new("red").expect("valid");
        let tenant = TenantRecord {
            v: SCHEMA,
            name: tenant_name(),
            incarnation: Incarnation::random(),
            origin: Origin::Namespace(namespace.clone()),
            phase: Phase::Active,
            engine: serde_json::Map::new(),
            transit: "100.64.0.0/30".parse().expect("a network"),
            subnets,
            quota: Quota::default(),
            routes: Vec::new(),
            retired: Vec::new(),
            dns: None,
            pod_domain: None,
            unknown: Unknown::new(),
        };
        let belongs = NamespaceRecord {
            v: SCHEMA,
            tenant: tenant_name(),
            incarnation: tenant.incarnation,
            unknown: Unknown::new(),
        };
        let revision = write(
            store,
            vec![
                put(Key::from(ClusterRecord::at()), &cluster),
                put(Key::from(NodeRecord::at(&node_name())), &node),
                put(Key::from(NamespaceRecord::at(&namespace)), &belongs),
                put(Key::from(TenantRecord::at(&tenant_name())), &tenant),
            ],
        )
        .await;
        let guards = Guards { cluster: revision, node: revision, namespace: Some(revision), tenant: revision };
        Self { cluster, node, tenant, namespace, guards }
    }

    /// Writes the tenant again as it is here.
    pub async fn rewrite_tenant(&mut self, store: &impl Store) {
        self.guards.tenant = write(store, vec![put(Key::from(TenantRecord::at(&tenant_name())), &self.tenant)]).await;
    }

    /// A request for any address, without an address request of the pod.
    pub fn request<'a>(&'a self, attachment: &'a Attachment, fence: Option<Revision>) -> ClaimRequest<'a> {
        ClaimRequest {
            attachment,
            cluster: &self.cluster,
            tenant: &self.tenant,
            guards: self.guards.clone(),
            namespace: Some(&self.namespace),
            pod: Some("pod"),
            pod_uid: None,
            host_id: &self.node.host_id,
            fence,
            deletions_until: 0,
            was_evicted: false,
            can_grow: false,
            requested: &address_request::NOTHING,
        }
    }

    /// Claims, and expects a new address.
    pub async fn claim(&self, store: &impl Store, container: &str) -> Versioned<ClaimRecord> {
        match atoll_ipam::claim(store, &self.request(&attachment(container), None)).await {
            Ok(Claimed::New(claim)) => claim,
            other => panic!("{container}: {other:?}"),
        }
    }
}

/// The first address of a claim.
pub fn address(claim: &Versioned<ClaimRecord>) -> IpAddr {
    claim.record.addresses[0].address.ip()
}
