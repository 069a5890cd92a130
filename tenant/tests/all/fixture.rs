//! A store, a controller, and views of them for tests.

use atoll_testkit::cell::SyncCell;
use atoll_testkit::controller::InProcess;
use atoll_testkit::fixture::cluster_config;
use atoll_testkit::store::MemoryStore;
use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_ipam::ClaimRequest;
use atoll_midonet::MidoNet;
use atoll_mock_controller::{Dialect, MockSettings, provider_router};
use atoll_model::attachment::Attachment;
use atoll_model::attachment::Mac;
use atoll_model::config::ClusterConfig;
use atoll_model::ids::{ClaimId, ContainerId, IfName, Namespace, NetworkName, NodeName, TenantName};
use atoll_model::topology::{Route, RouteAction, Topology};
use atoll_network::{Network, PodPort, PortLocation, WriterEpoch};
use atoll_records::Versioned;
use atoll_records::{ClusterRecord, Key, TenantRecord, decode};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_sdn_client::{Client, ClientSettings};
use atoll_tenant::network::network;
use atoll_tenant::{Cache, Node, Resolver, TenantBinding, TenantError, Who};
use uuid::Uuid;

pub(crate) const DIALECTS: [Dialect; 2] = [Dialect::V5, Dialect::V1];

pub(crate) struct Fixture {
    pub(crate) store: MemoryStore,
    pub(crate) mock: InProcess,
    /// Requests of [`Fixture::engine`] so far.
    pub(crate) requests: Arc<SyncCell<usize>>,
    pub(crate) config: ClusterConfig,
    pub(crate) node: Node,
    /// The objects of the controller before the first request.
    before: Topology,
}

impl Fixture {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let mock = InProcess::new(MockSettings { dialect, ..MockSettings::default() });
        let before = mock.controller().follow();
        Self {
            store: MemoryStore::new(),
            mock,
            requests: Arc::default(),
            config: cluster_config(),
            node: node("n1"),
            before,
        }
    }

    pub(crate) fn engine(&self) -> MidoNet<Counted> {
        engine(Counted { inner: self.mock.clone(), requests: Arc::clone(&self.requests) })
    }

    /// One resolution through these seams, as a process without a cache does it.
    pub(crate) async fn resolve(&self, who: &Who) -> Result<TenantBinding, TenantError> {
        let (engine, cache) = (self.engine(), Cache::none());
        self.resolver(&engine, &cache).resolve(who).await
    }

    /// `eth0` of a container on a node.
    pub(crate) fn attachment(node: &Node, container: &str) -> Attachment {
        Attachment {
            node: node.name.clone(),
            network: NetworkName::new("atoll").expect("valid"),
            container: ContainerId::new(format!("c-{container}")).expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        }
    }

    pub(crate) fn resolver<'a, E>(&'a self, controller: &'a E, cache: &'a Cache) -> Resolver<'a, MemoryStore, E> {
        Resolver { store: &self.store, engine: controller, config: &self.config, node: &self.node, cache }
    }

    /// What the controller holds now beyond what it began with, without the routes it adds by itself.
    pub(crate) fn made(&self) -> Topology {
        let mut now = self.mock.controller().follow();
        now.routers.retain(|id, _| !self.before.routers.contains_key(id));
        now.bridges.retain(|id, _| !self.before.bridges.contains_key(id));
        now.ports.retain(|id, _| !self.before.ports.contains_key(id));
        now.chains.retain(|id, _| !self.before.chains.contains_key(id));
        now.routes.retain(|id, _| !self.before.routes.contains_key(id));
        now.routes.retain(|_, route| {
            let own = |port: &Uuid| matches!(
                now.ports.get(port).map(|port| &port.device),
                Some(atoll_model::topology::Device::Router { address, .. }) if address.ip() == route.destination.ip() && route.destination.prefix() == 32
            );
            !match &route.action {
                RouteAction::Local { .. } => true,
                RouteAction::Forward { port, gateway: None } => own(port),
                _ => false,
            }
        });
        now
    }

    /// The records of a tenant and its cluster.
    pub(crate) fn records(&self, tenant: &str) -> (ClusterRecord, TenantRecord) {
        let entries: BTreeMap<_, _> = self.store.dump().into_iter().map(|entry| (entry.key, entry.value)).collect();
        let tenant = Key::from(TenantRecord::at(&TenantName::new(tenant).expect("valid")));
        (
            decode(&entries[&Key::from(ClusterRecord::at())]).expect("readable"),
            decode(&entries[&tenant]).expect("readable"),
        )
    }

    /// The kinds of keys there are, each with how many: what an undisturbed run leaves must be what any run leaves.
    pub(crate) fn keys(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for entry in self.store.dump() {
            let kind = entry.key.as_str().split('/').nth(1).unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// The controller holds exactly the objects of these tenants, and nothing else that is ours.
    pub(crate) fn assert_exactly(&self, tenants: &[&str], context: &str) {
        self.assert_objects(tenants, context, false);
    }

    /// The same. Two writers at once may each have made a route of which 1.9 chooses the id: such a route may exist twice,
    /// which changes nothing.
    pub(crate) fn assert_exactly_or_routes_twice(&self, tenants: &[&str], context: &str) {
        self.assert_objects(tenants, context, true);
    }

    fn assert_objects(&self, tenants: &[&str], context: &str, routes_twice: bool) {
        let mut wanted = Topology::default();
        for tenant in tenants {
            let (cluster, record) = self.records(tenant);
            let objects = graph(&cluster, &record).objects;
            wanted.routers.extend(objects.routers);
            wanted.bridges.extend(objects.bridges);
            wanted.ports.extend(objects.ports);
            wanted.routes.extend(objects.routes);
            wanted.chains.extend(objects.chains);
        }
        let (mut made, by_fields) = (self.made(), self.mock.controller().settings().dialect == Dialect::V1);
        assert_eq!(made.routers, wanted.routers, "routers: {context}");
        assert_eq!(made.bridges, wanted.bridges, "bridges: {context}");
        assert_eq!(made.ports, wanted.ports, "ports: {context}");
        assert_eq!(made.chains, wanted.chains, "chains: {context}");
        if by_fields {
            // 1.9 gives routes its own ids.
            let fields = |routes: &BTreeMap<Uuid, Route>| {
                let mut fields: Vec<_> = routes.values().map(|route| format!("{route:?}")).collect();
                fields.sort();
                if routes_twice {
                    fields.dedup();
                }
                fields
            };
            assert_eq!(fields(&made.routes), fields(&wanted.routes), "routes: {context}");
            made.routes.clear();
        } else {
            assert_eq!(made.routes, wanted.routes, "routes: {context}");
        }
    }
}

/// What the plugin asks for a pod in `place`.
pub(crate) fn request<'a>(
    binding: &'a TenantBinding,
    node: &'a Node,
    attachment: &'a Attachment,
    can_grow: bool,
) -> ClaimRequest<'a> {
    ClaimRequest {
        attachment,
        cluster: &binding.cluster.record,
        tenant: &binding.tenant.record,
        guards: binding.guards(),
        namespace: binding.namespace.as_ref().map(|(namespace, _)| namespace),
        pod: None,
        pod_uid: None,
        host_id: &node.host_id,
        fence: None,
        deletions_until: 0,
        was_evicted: binding.was_evicted(),
        can_grow,
        requested: &atoll_model::address_request::NOTHING,
    }
}

pub(crate) fn engine<T: Transport>(transport: T) -> MidoNet<T> {
    MidoNet::new(Client::new(transport, ClientSettings::default()))
}

pub(crate) fn node(name: &str) -> Node {
    Node {
        name: NodeName::new(name).expect("valid"),
        host_id: Uuid::from_u128(7).into(),
        machine_id: format!("machine-{name}"),
    }
}

pub(crate) fn namespace(name: &str) -> Who {
    Who { namespace: Some(Namespace::new(name).expect("valid")), default_tenant: None }
}

pub(crate) fn default_tenant(name: &str) -> Who {
    Who { namespace: None, default_tenant: Some(TenantName::new(name).expect("valid")) }
}

pub(crate) fn provider() -> Uuid {
    provider_router()
}

/// The mock, with a counter before it.
pub(crate) struct Counted {
    inner: InProcess,
    requests: Arc<SyncCell<usize>>,
}

impl Transport for Counted {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        self.requests.set(self.requests.get() + 1);
        self.inner.send(request).await
    }
}

/// A gateway in front of a controller: what it does not let through it answers by itself.
pub(crate) struct Gateway {
    pub(crate) inner: InProcess,
    /// Status and body; none: it lets the request through.
    pub(crate) answer: fn(&ApiRequest) -> Option<(u16, &'static str)>,
}

impl Transport for Gateway {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        match (self.answer)(&request) {
            Some((status, body)) => Ok(ApiResponse { status, headers: http::HeaderMap::new(), body: body.into() }),
            None => self.inner.send(request).await,
        }
    }
}

/// A transport on which every request takes a while, which a seed decides: requests of several clients interleave.
#[derive(Clone)]
pub(crate) struct Slow<T> {
    inner: T,
    seed: Arc<SyncCell<u64>>,
}

impl<T> Slow<T> {
    pub(crate) fn new(inner: T, seed: u64) -> Self {
        Self { inner, seed: Arc::new(SyncCell::new(seed)) }
    }

    /// Lets others go first, up to seven times (Knuth, MMIX's linear congruential generator).
    async fn pause(&self) {
        let next = self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(next);
        for _ in 0..next >> 61 {
            tokio::task::yield_now().await;
        }
    }
}

impl<T: Transport> Transport for Slow<T> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        self.pause().await;
        let response = self.inner.send(request).await;
        self.pause().await;
        response
    }
}

impl<S: atoll_store::Store> atoll_store::Store for Slow<S> {
    type Watch = S::Watch;

    async fn read(
        &self,
        queries: Vec<atoll_records::Query>,
    ) -> Result<atoll_records::Snapshot, atoll_store::StoreError> {
        self.pause().await;
        let answer = self.inner.read(queries).await;
        self.pause().await;
        answer
    }

    async fn commit_first(&self, choice: atoll_store::Choice) -> Result<atoll_store::Chosen, atoll_store::StoreError> {
        self.pause().await;
        let answer = self.inner.commit_first(choice).await;
        self.pause().await;
        answer
    }

    async fn watch(&self, prefix: Key, after: atoll_records::Revision) -> Result<Self::Watch, atoll_store::StoreError> {
        self.inner.watch(prefix, after).await
    }

    async fn lease(&self, ttl: std::time::Duration) -> Result<atoll_records::Lease, atoll_store::StoreError> {
        self.inner.lease(ttl).await
    }

    async fn lease_as(
        &self,
        lease: atoll_records::Lease,
        ttl: std::time::Duration,
    ) -> Result<(), atoll_store::StoreError> {
        self.inner.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: atoll_records::Lease) -> Result<bool, atoll_store::StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: atoll_records::Lease) -> Result<(), atoll_store::StoreError> {
        self.inner.revoke(lease).await
    }
}

/// A tenant's network, and the objects of the controller that it becomes.
#[derive(Clone)]
pub(crate) struct Graph {
    pub(crate) network: Network,
    pub(crate) objects: Topology,
}

/// The graph of a tenant.
pub(crate) fn graph(cluster: &ClusterRecord, tenant: &TenantRecord) -> Graph {
    let tenant = Versioned { record: tenant.clone(), create_revision: 1, mod_revision: 1 };
    let network = network(cluster, &tenant);
    let objects = atoll_midonet::objects(&network).expect("it is of IPv4");
    Graph { network, objects }
}

/// A port of a pod in the first subnet of a tenant's network.
pub(crate) fn pod_port(fixture: &Fixture, graph: &Graph, id: u128, interface: &str) -> PodPort {
    let host = fixture.mock.controller().settings().host.into();
    PodPort {
        id: Uuid::from_u128(id),
        claim: ClaimId(Uuid::from_u128(id)),
        writer: WriterEpoch { node: "node-1".parse().expect("a name"), epoch: 1 },
        subnet: graph.network.id.subnet(graph.network.subnets[0].ordinal),
        location: PortLocation { host, interface: IfName::new(interface).expect("valid") },
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addresses: vec![[10, 128, 0, 9].into()],
        unique: false,
        names: Vec::new(),
    }
}

/// A fixture in which tenant `red` is built, and that tenant's graph.
pub(crate) async fn built(dialect: Dialect) -> (Fixture, Graph) {
    let fixture = Fixture::new(dialect);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    let (cluster, tenant) = fixture.records("red");
    (fixture, graph(&cluster, &tenant))
}

/// A client of the fixture's controller.
pub(crate) fn client(fixture: &Fixture) -> Client<InProcess> {
    Client::new(fixture.mock.clone(), ClientSettings::default())
}
