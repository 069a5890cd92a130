//! Everything there is, read at one revision and joined: tenants with their namespaces, subnets and pods.
//!
//! For operators and their tools, never for the path of a pod. A damaged record is listed as such and hides no other. The
//! shape of its JSON is stable: fields are added, never renamed.

use std::collections::BTreeMap;

use atoll_network::{NetworkId, provider_object};
use atoll_records::{
    ClaimRecord, ClusterRecord, Key, NamespaceRecord, NodeRecord, Origin, Phase, Prefix, PrefixEntry, Query, Quota,
    ReadError, Snapshot, StaticRoute, TenantRecord, TombstoneRecord, Uplink, Versioned, prefixes,
};

use atoll_model::config::{Addressing, DnsConfig, Ipv6Pools};
use atoll_model::derive::NetworkPart;
use atoll_model::ids::{ClaimId, ClusterId, HostId, Namespace, NodeName, PodDomain, TenantName};
use atoll_model::range::AddressRange;
use atoll_store::Store;
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::TenantError;
use crate::network::Transit;

/// All records of a cluster, at one revision.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The store's revision at which all of this was true.
    pub revision: i64,
    /// The cluster's settings; `None` before the first pod or `init`.
    pub cluster: Option<Cluster>,
    /// The machines.
    pub nodes: Vec<ListedNode>,
    /// The tenants, by name.
    pub tenants: Vec<ListedTenant>,
    /// Pending cleanup of attachments.
    pub tombstones: Vec<PendingCleanup>,
    /// Keys whose records cannot be read.
    pub damaged: Vec<String>,
    /// Pods whose tenant or subnet has no record.
    pub orphaned: Vec<ListedPod>,
}

/// The cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// The name of the engine that makes its networks.
    pub engine: String,
    /// How subnets are given to tenants.
    pub addressing: Addressing,
    /// The pool of pod subnets.
    pub pod_cidr: Ipv4Network,
    /// The prefix length of a subnet.
    pub subnet_prefix: u8,
    /// The pool of transit links.
    pub transit_cidr: Ipv4Network,
    /// Pods have an address of IPv4.
    #[serde(skip_serializing_if = "is_true")]
    pub ipv4: bool,
    /// Pods have an address of IPv6, from these pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Pools>,
    /// Addresses by which a node reaches its own pods.
    pub node_side_cidr: Ipv4Network,
    /// Addresses of services; none: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<Ipv4Network>,
    /// The provider router.
    pub provider_router: Uuid,
    /// Its uplinks, if `init` made it; `None`: it was adopted.
    pub provider: Option<Provider>,
}

/// A provider router of our own.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Its uplinks.
    pub uplinks: Vec<ListedUplink>,
}

/// An uplink.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedUplink {
    /// Its address and interface.
    #[serde(flatten)]
    pub uplink: Uplink,
    /// The port in the controller.
    pub port: Uuid,
    /// The state that the controller reports of the port; `None` if it was not read. Where hosts take turns: whether this one
    /// carries the uplink.
    pub state: Option<PodState>,
    /// Where hosts take turns: of those that are up, the one with the highest priority carries the uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedNode {
    /// Its name.
    pub name: NodeName,
    /// The id of its host in the engine.
    pub host_id: HostId,
    /// How many pods it has.
    pub pods: usize,
}

/// A tenant.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedTenant {
    /// Its name.
    pub name: TenantName,
    /// Its incarnation.
    pub incarnation: Uuid,
    /// Why it was created.
    pub origin: Origin,
    /// Its lifecycle phase.
    pub phase: Phase,
    /// The namespaces that belong to it.
    pub namespaces: Vec<Namespace>,
    /// Its router in the controller.
    pub router: Uuid,
    /// The transit link.
    pub transit: Transit,
    /// Limits set by an operator.
    pub quota: Quota,
    /// Static routes of its router.
    pub routes: Vec<StaticRoute>,
    /// DNS settings of its pods, if neither the pod nor its node has any.
    pub dns: Option<DnsConfig>,
    /// The domain in which the network answers for its pods' names; none: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_domain: Option<PodDomain>,
    /// Its subnets.
    pub subnets: Vec<ListedSubnet>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_true(it: &bool) -> bool {
    *it
}

/// A subnet.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedSubnet {
    /// Its number within the tenant.
    pub ordinal: u32,
    /// Its prefixes, IPv4 first.
    #[serde(flatten, serialize_with = "prefixes::serialize")]
    pub prefixes: Vec<PrefixEntry>,
    /// Its lifecycle phase.
    pub phase: Phase,
    /// Addresses that no pod gets.
    pub exclude: Vec<AddressRange>,
    /// Its bridge in the controller.
    pub bridge: Uuid,
    /// Its pods, by address.
    pub pods: Vec<ListedPod>,
}

impl ListedSubnet {
    /// Its networks as text, IPv4 first.
    pub fn cidrs(&self) -> String {
        atoll_records::cidrs(&self.prefixes)
    }

    /// The router's addresses in it as text, IPv4 first.
    pub fn gateways(&self) -> String {
        let gateways: Vec<_> = self.prefixes.iter().map(|prefix| prefix.gateway.to_string()).collect();
        gateways.join(", ")
    }
}

/// One address of one pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedPod {
    /// The address.
    pub address: IpNetwork,
    /// The tenant.
    pub tenant: TenantName,
    /// The subnet's ordinal.
    pub subnet: u32,
    /// The pod's namespace, where the runtime named one.
    pub namespace: Option<Namespace>,
    /// The pod's name, where the runtime named one.
    pub pod: Option<String>,
    /// The node.
    pub node: NodeName,
    /// The CNI network.
    pub network: String,
    /// The container.
    pub container: String,
    /// The interface in the pod.
    pub interface: String,
    /// The interface on the node.
    pub host_interface: String,
    /// The pod's MAC.
    pub mac: String,
    /// The port in the controller.
    pub port: Uuid,
    /// The claim.
    pub claim: ClaimId,
    /// When it was claimed, seconds since 1970.
    pub since: u64,
    /// The state that the controller reports of the port; `None` if it was not read.
    pub state: Option<PodState>,
}

/// The state that the controller reports of a pod's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PodState {
    /// Its packets flow.
    Active,
    /// It is bound, and its packets do not flow.
    Inactive,
    /// It is there and not bound.
    Unbound,
    /// It is not there.
    Missing,
    /// The controller did not report it.
    Unknown,
}

/// The pending cleanup of an attachment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingCleanup {
    /// The attachment.
    pub attachment: String,
    /// The node that has to pay it.
    pub node: NodeName,
    /// What failed, for messages.
    pub note: String,
    /// When it was written, seconds since 1970.
    pub since: u64,
}

impl Inventory {
    /// Reads everything at one revision.
    pub async fn read<S: Store>(store: &S) -> Result<Self, TenantError> {
        let (cluster, nodes, tenants) = (ClusterRecord::at(), NodeRecord::all(), TenantRecord::all());
        let (namespaces, claims, tombstones) = (NamespaceRecord::all(), ClaimRecord::all(), TombstoneRecord::all());
        let queries = vec![
            Query::key(&cluster),
            Query::all(&nodes),
            Query::all(&tenants),
            Query::all(&namespaces),
            Query::all(&claims),
            Query::all(&tombstones),
        ];
        let snapshot = store.read(queries).await.map_err(TenantError::store("read the cluster's records"))?;
        let mut reader = Reader { snapshot: &snapshot, damaged: vec![] };
        let cluster: Option<ClusterRecord> = reader.read(&Query::key(cluster))?.pop().map(|(_, cluster)| cluster);
        let nodes = reader.list(nodes)?;
        let tenants = reader.list(tenants)?;
        let namespaces = reader.list(namespaces)?;
        let claims = reader.list(claims)?;
        let tombstones = reader.list(tombstones)?;
        Ok(Self::join(
            snapshot.revision,
            cluster.as_ref(),
            &nodes,
            tenants,
            namespaces,
            claims,
            tombstones,
            reader.damaged,
        ))
    }

    #[expect(clippy::too_many_arguments, reason = "one list for each kind of record, used once")]
    fn join(
        revision: i64,
        cluster: Option<&ClusterRecord>,
        nodes: &[(Key, NodeRecord)],
        tenants: Vec<(Key, TenantRecord)>,
        namespaces: Vec<(Key, NamespaceRecord)>,
        claims: Vec<(Key, ClaimRecord)>,
        tombstones: Vec<(Key, TombstoneRecord)>,
        damaged: Vec<String>,
    ) -> Self {
        let mut belongs: BTreeMap<TenantName, Vec<Namespace>> = BTreeMap::new();
        for (key, record) in namespaces {
            if let Ok(name) = Namespace::new(last(&key)) {
                belongs.entry(record.tenant).or_default().push(name);
            }
        }
        let mut per_node: BTreeMap<NodeName, usize> = BTreeMap::new();
        let mut per_subnet: BTreeMap<(TenantName, u32), Vec<ListedPod>> = BTreeMap::new();
        for (_, claim) in claims {
            *per_node.entry(claim.attachment.node.clone()).or_default() += 1;
            for pod in pods(&claim) {
                per_subnet.entry((pod.tenant.clone(), pod.subnet)).or_default().push(pod);
            }
        }
        let id = cluster.map_or(ClusterId(Uuid::nil()), |cluster| cluster.id);
        let tenants = tenants
            .into_iter()
            .map(|(_, record)| {
                let namespaces = belongs.remove(&record.name).unwrap_or_default();
                let network = NetworkId { cluster: id, incarnation: record.incarnation };
                let subnets = record
                    .subnets
                    .iter()
                    .map(|subnet| {
                        let mut pods = per_subnet.remove(&(record.name.clone(), subnet.ordinal)).unwrap_or_default();
                        pods.sort_by_key(|pod| pod.address.ip());
                        ListedSubnet {
                            ordinal: subnet.ordinal,
                            prefixes: subnet.prefixes.clone(),
                            phase: subnet.phase,
                            exclude: subnet.exclude.clone(),
                            bridge: network.subnet(subnet.ordinal).object(),
                            pods,
                        }
                    })
                    .collect();
                let transit = Transit::of(record.transit);
                ListedTenant {
                    router: network.router(),
                    name: record.name,
                    incarnation: record.incarnation.0,
                    origin: record.origin,
                    phase: record.phase,
                    namespaces,
                    transit,
                    routes: record.routes,
                    dns: record.dns,
                    pod_domain: record.pod_domain,
                    quota: record.quota,
                    subnets,
                }
            })
            .collect();
        Self {
            revision,
            cluster: cluster.map(Cluster::of),
            nodes: nodes
                .iter()
                .filter_map(|(key, record)| {
                    let name = NodeName::new(last(key)).ok()?;
                    let pods = per_node.get(&name).copied().unwrap_or(0);
                    Some(ListedNode { name, host_id: record.host_id.clone(), pods })
                })
                .collect(),
            tenants,
            tombstones: tombstones
                .into_iter()
                .map(|(_, record)| PendingCleanup {
                    attachment: record.attachment.to_string(),
                    node: record.attachment.node,
                    note: record.note,
                    since: record.since,
                })
                .collect(),
            damaged,
            orphaned: per_subnet.into_values().flatten().collect(),
        }
    }

    /// Every pod there is.
    pub fn pods(&self) -> impl Iterator<Item = &ListedPod> {
        let placed = self.tenants.iter().flat_map(|tenant| tenant.subnets.iter().flat_map(|subnet| &subnet.pods));
        placed.chain(&self.orphaned)
    }

    /// The same, to fill in the states of the ports.
    pub fn pods_mut(&mut self) -> impl Iterator<Item = &mut ListedPod> {
        let placed =
            self.tenants.iter_mut().flat_map(|tenant| tenant.subnets.iter_mut().flat_map(|subnet| &mut subnet.pods));
        placed.chain(&mut self.orphaned)
    }
}

impl Cluster {
    /// The parts of the record that are listed.
    pub fn of(record: &ClusterRecord) -> Self {
        Self {
            id: record.id,
            engine: record.engine.clone(),
            addressing: record.addressing,
            pod_cidr: record.pod_cidr,
            subnet_prefix: record.subnet_prefix,
            transit_cidr: record.transit_cidr,
            ipv4: record.ipv4,
            ipv6: record.ipv6,
            node_side_cidr: record.node_side_cidr,
            service_cidr: record.service_cidr,
            provider_router: record.provider_router,
            provider: record.provider.as_ref().map(|provider| Provider {
                uplinks: (1..)
                    .zip(&provider.uplinks)
                    .map(|(place, uplink)| ListedUplink {
                        uplink: uplink.clone(),
                        port: provider_object(record.id, &NetworkPart::ProviderUplink(place)),
                        state: None,
                        priority: None,
                    })
                    .collect(),
            }),
        }
    }
}

fn pods(claim: &ClaimRecord) -> impl Iterator<Item = ListedPod> {
    claim.addresses.iter().map(|address| ListedPod {
        address: address.address,
        tenant: claim.tenant.clone(),
        subnet: address.ordinal,
        namespace: claim.namespace.clone(),
        pod: claim.pod.clone(),
        node: claim.attachment.node.clone(),
        network: claim.attachment.network.to_string(),
        container: claim.attachment.container.to_string(),
        interface: claim.attachment.interface.to_string(),
        host_interface: claim.host_interface.to_string(),
        mac: claim.mac.to_string(),
        port: claim.port,
        claim: claim.claim,
        since: claim.since,
        state: None,
    })
}

/// Reads lists, and keeps the keys of what cannot be read.
struct Reader<'a> {
    snapshot: &'a Snapshot,
    damaged: Vec<String>,
}

impl Reader<'_> {
    fn list<R: DeserializeOwned>(&mut self, prefix: Prefix<R>) -> Result<Vec<(Key, R)>, ReadError> {
        self.read(&Query::all(prefix))
    }

    fn read<R: DeserializeOwned>(&mut self, query: &Query) -> Result<Vec<(Key, R)>, ReadError> {
        let entries = &self.snapshot.answer(query)?.entries;
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            match Versioned::<R>::read(entry) {
                Ok(versioned) => records.push((entry.key.clone(), versioned.record)),
                Err(_) => self.damaged.push(entry.key.to_string()),
            }
        }
        Ok(records)
    }
}

/// The name at the end of a key.
fn last(key: &Key) -> &str {
    key.as_str().rsplit('/').next().unwrap_or_default()
}
