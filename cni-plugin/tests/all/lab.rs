//! One node with its surroundings, and checks that no objects of ours are left in them.

use atoll_testkit::cell::{SyncCell, SyncRefCell};
use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::FaultPlan;
use atoll_testkit::kernel::{FakeKernel, FaultyKernel};
use atoll_testkit::ovn::{Chassis, FaultyDatabase, MemoryDatabase};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use atoll_testkit::transport::FaultyTransport;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::call_trace::CallTrace;
use atoll_cni_plugin::del::DelCall;
use atoll_cni_plugin::error::CallError;
use atoll_cni_plugin::gc::GcCall;
use atoll_cni_plugin::in_flight::{InFlightRequests, Tracked};
use atoll_node::attachments::AttachmentStates;
use atoll_node::tombstones::LocalTombstones;

use atoll_cni_plugin::kernel::Netns;
use atoll_cni_plugin::plugin::{MachineIds, Plugin};
use atoll_mock_controller::MockSettings;
use atoll_model::attachment::Attachment;
use atoll_model::cni::request::Pod;
use atoll_model::cni::result::AddResult;
use atoll_model::config::{Config, DnsConfig};

use atoll_model::address_request::AddressRequest;
use atoll_model::ids::{ContainerId, IfName, Namespace, NetworkName, NodeName};
use atoll_model::port_security::PortSecurity;
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, Key, Lease, Query, ReservationRecord, Revision, Snapshot, TenantRecord,
    TombstoneRecord, decode,
};
use atoll_sdn_client::Client;
use atoll_sdn_client::dialect::Dialect;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};

use atoll_engines::AnyEngine;
use atoll_midonet::MidoNet;
use atoll_ovn::ovsdb::{
    Atom, Database, DatabaseError, Freshness, Monitor, Mutation, Outcome, Row, RowOperation, Value,
};
use atoll_ovn::{Ovn, Switch};
use atoll_store::{Choice, Chosen, Store, StoreError, Txn};
use atoll_tenant::admin::{Admin, Edit, Update, set};
use atoll_tenant::{Cache, Node};
use http::Method;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// It works.
    Fine,
    /// It refuses at once.
    Refusing,
    /// It never answers.
    Silent,
    /// The controller does not answer requests that create objects, and carries them out later.
    Slow,
    /// The same, and a gateway answers in its place.
    BadGateway,
    /// A gateway in front of the controller answers 404 by itself.
    Gateway,
}

/// A server that may be disturbed for a whole call, or for several.
#[derive(Clone)]
pub(crate) struct Disturbed<X>(pub(crate) X, pub(crate) Arc<SyncCell<ServerState>>);

impl<X> Disturbed<X> {
    async fn state<E>(&self, refused: impl FnOnce() -> E) -> Result<(), E> {
        match self.1.get() {
            ServerState::Fine | ServerState::Slow | ServerState::BadGateway => Ok(()),
            // etcd has no gateway before it.
            ServerState::Refusing | ServerState::Gateway => Err(refused()),
            ServerState::Silent => std::future::pending().await,
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { endpoints: "lab".to_owned(), reason: "connection refused".to_owned() }
}

thread_local! {
    /// What the role of the node's certificate does not cover: these keys and ranges; with a `*`, all that begin so.
    static DENIED: RefCell<Vec<&'static str>> = RefCell::default();
}

/// etcd does not let this node read what is asked.
fn is_denied(query: &Query) -> bool {
    let (Query::Key(key) | Query::Range { prefix: key, .. }) = query;
    DENIED.with_borrow(|denied| {
        denied.iter().any(|prefix| {
            key.as_str().starts_with(prefix.trim_end_matches('*')) && (prefix.ends_with('*') || key.as_str() == *prefix)
        })
    })
}

impl<S: Store> Store for Disturbed<S> {
    type Watch = S::Watch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.state(unavailable).await?;
        if queries.iter().any(is_denied) {
            return Err(StoreError::Denied("permission denied".to_owned()));
        }
        self.0.read(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        self.state(unavailable).await?;
        self.0.commit_first(choice).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<Self::Watch, StoreError> {
        self.state(unavailable).await?;
        self.0.watch(prefix, after).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.state(unavailable).await?;
        self.0.lease(ttl).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        self.state(unavailable).await?;
        self.0.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        self.state(unavailable).await?;
        self.0.keep_alive(lease).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        self.state(unavailable).await?;
        self.0.revoke(lease).await
    }
}

/// Which requests a gateway answers instead of the controller, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Detour {
    /// So many more reach the controller first.
    pub(crate) after: usize,
    /// So many do not.
    pub(crate) times: usize,
    /// The answer in its place.
    pub(crate) body: &'static str,
}

thread_local! {
    /// The detour that requests take from now on.
    static DETOUR: Cell<Option<Detour>> = const { Cell::new(None) };
}

fn gateway_answer(body: &'static str) -> ApiResponse {
    ApiResponse { status: 404, headers: http::HeaderMap::new(), body: body.into() }
}

/// One request passes the gateway: the gateway's own answer, if any.
fn at_the_gateway() -> Option<ApiResponse> {
    let detour = DETOUR.get()?;
    if let Some(after) = detour.after.checked_sub(1) {
        DETOUR.set(Some(Detour { after, ..detour }));
        return None;
    }
    DETOUR.set(detour.times.checked_sub(1).map(|times| Detour { times, ..detour }));
    (detour.times > 0).then(|| gateway_answer(detour.body))
}

thread_local! {
    /// What a slow controller has not done yet.
    static LATE: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>> = RefCell::default();
}

impl<T: Transport + Clone + 'static> Transport for Disturbed<T> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        let endpoint = "lab".to_owned();
        let state = self.1.get();
        if state == ServerState::Gateway {
            return Ok(gateway_answer(""));
        }
        if let Some(answer) = at_the_gateway() {
            return Ok(answer);
        }
        if matches!(state, ServerState::Slow | ServerState::BadGateway) && request.method == Method::POST {
            let inner = self.0.clone();
            LATE.with_borrow_mut(|late| late.push(Box::pin(async move { drop(inner.send(request).await) })));
            if state == ServerState::BadGateway {
                let headers = http::HeaderMap::new();
                return Ok(ApiResponse { status: 502, headers, body: "<html>Bad Gateway".into() });
            }
            return Err(TransportError::NoAnswer { endpoint, reason: "timed out".to_owned() });
        }
        let reason = "connection refused".to_owned();
        self.state(|| TransportError::NotSent { endpoint, reason }).await?;
        self.0.send(request).await
    }
}

impl<D: Database> Database for Disturbed<D> {
    type Watch = D::Watch;

    async fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> Result<Vec<Outcome>, DatabaseError> {
        self.state(not_sent).await?;
        self.0.transact(operations, freshness).await
    }

    async fn watch(&self, monitor: Monitor) -> Result<D::Watch, DatabaseError> {
        self.state(not_sent).await?;
        self.0.watch(monitor).await
    }
}

fn not_sent() -> DatabaseError {
    DatabaseError::NotSent { endpoint: "lab".to_owned(), reason: "connection refused".to_owned() }
}

type LabStore = Tracked<Disturbed<FaultyStore<MemoryStore>>>;
type LabTransport = Tracked<Disturbed<FaultyTransport<InProcess>>>;
type LabDatabase = Tracked<Disturbed<FaultyDatabase<MemoryDatabase>>>;
pub(crate) type LabController = AnyEngine<LabTransport, LabDatabase>;

/// The engine of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabEngine {
    /// With a controller of either API.
    MidoNet(Dialect),
    Ovn,
}

impl From<Dialect> for LabEngine {
    fn from(dialect: Dialect) -> Self {
        Self::MidoNet(dialect)
    }
}

/// The bridge of the node's Open vSwitch.
const BRIDGE: &str = "br-int";
/// The provider router in Northbound.
const PROVIDER: Uuid = Uuid::from_u128(0xc0);

/// What one process sees.
pub(crate) type LabWorld = Plugin<LabStore, LabController, FaultyKernel<FakeKernel>>;

thread_local! {
    /// The node's clock.
    static NOW: Cell<u64> = const { Cell::new(1_000_000) };
}

/// One node with its surroundings.
pub(crate) struct Lab {
    pub(crate) plan: FaultPlan,
    pub(crate) etcd: MemoryStore,
    pub(crate) controller: InProcess,
    pub(crate) kernel: Arc<FakeKernel>,
    pub(crate) etcd_state: Arc<SyncCell<ServerState>>,
    pub(crate) controller_state: Arc<SyncCell<ServerState>>,
    /// The configuration has a route that the kernel refuses, after everything else is made.
    pub(crate) bad_route: SyncCell<bool>,
    /// The interface of the pod that the tests are about.
    pub(crate) interface: SyncCell<&'static str>,
    subnet_prefix: u8,
    engine: LabEngine,
    /// Northbound and the node's Open vSwitch. A lab with MidoNet has none.
    ovn: Option<Arc<Chassis>>,
    /// What the pod asks for.
    pub(crate) requested: SyncRefCell<AddressRequest>,
    directory: tempfile::TempDir,
    host: Uuid,
    /// What this machine is called.
    pub(crate) node: SyncRefCell<NodeName>,
    /// `etcd.prefix` of its configuration, and what is below each that it ever had.
    prefix: SyncRefCell<String>,
    etcds: Arc<SyncRefCell<BTreeMap<String, MemoryStore>>>,
    /// Another `runDir` than one of the lab's own.
    run_dir: Option<PathBuf>,
}

/// What a process of the lab is made of.
#[derive(Clone)]
struct Parts {
    plan: FaultPlan,
    etcds: Arc<SyncRefCell<BTreeMap<String, MemoryStore>>>,
    controller: InProcess,
    engine: LabEngine,
    ovn: Option<Arc<Chassis>>,
    kernel: Arc<FakeKernel>,
    /// Of etcd and of the controller.
    states: (Arc<SyncCell<ServerState>>, Arc<SyncCell<ServerState>>),
    node: NodeName,
    host: Uuid,
}

impl Parts {
    fn plugin(&self, config: Config) -> LabWorld {
        let in_flight = InFlightRequests::new();
        let (etcd_state, _) = self.states.clone();
        let etcd = self.etcds.borrow_mut().entry(config.etcd.prefix.clone()).or_default().clone();
        let store = FaultyStore::new(etcd, self.plan.clone());
        let (parts, template) = (self.clone(), config.clone());
        let with_prefix = move |prefix: &str| {
            let mut config = template.clone();
            prefix.clone_into(&mut config.etcd.prefix);
            Ok(Plugin { earlier_prefixes: Vec::new(), ..parts.plugin(config) })
        };
        Plugin {
            store: Tracked::new(Disturbed(store, etcd_state), in_flight.clone()),
            engine: self.engine(&config, &in_flight),
            kernel: FaultyKernel::new(Arc::clone(&self.kernel), self.plan.clone()),
            in_flight,
            node: self.node.clone(),
            other_names: atoll_tenant::machine::other_names(&config, &self.node),
            earlier_prefixes: atoll_tenant::machine::earlier_prefixes(&config),
            with_prefix: Box::new(with_prefix),
            machine: MachineIds { host_id: Some(self.host.into()), machine_id: "m".to_owned() },
            cache: Cache::new(&config.state_dir, &config.etcd.prefix),
            attachment_states: AttachmentStates::new(&config.run_dir),
            local_tombstones: LocalTombstones::new(&config.state_dir, &config.etcd.prefix),
            clock: || NOW.get(),
            trace: CallTrace::new(),
            config,
        }
    }
}

impl Parts {
    fn engine(&self, config: &Config, in_flight: &InFlightRequests) -> LabController {
        let (_, state) = self.states.clone();
        if let Some(chassis) = &self.ovn {
            let database = |name, database: &MemoryDatabase, state| {
                let faulty = FaultyDatabase::new(name, database.clone(), self.plan.clone());
                Tracked::new(Disturbed(faulty, state), in_flight.clone())
            };
            let local = database("switch", &chassis.switch, Arc::new(SyncCell::new(ServerState::Fine)));
            let switch = Switch::new(local, BRIDGE.to_owned());
            return AnyEngine::Ovn(Ovn::new(database("northbound", &chassis.northbound, state), None, Some(switch)));
        }
        let dialect = match self.engine {
            LabEngine::MidoNet(dialect) => Some(dialect),
            LabEngine::Ovn => None,
        };
        let transport = FaultyTransport::new(self.controller.clone(), self.plan.clone());
        let transport = Tracked::new(Disturbed(transport, state), in_flight.clone());
        let settings = atoll_sdn_client::ClientSettings { dialect, ..Default::default() };
        let namespaces = atoll_node::paths::router_namespaces(&config.run_dir);
        AnyEngine::MidoNet(MidoNet::new(Client::new(transport, settings)).with_router_namespaces(namespaces))
    }
}

/// The namespace of the pod that the tests are about.
pub(crate) const NETNS: &str = "/netns/pod";

impl Lab {
    /// A node that has never seen a pod.
    pub(crate) fn cold() -> Self {
        Self::cold_with(Dialect::V5)
    }

    /// The same with this engine.
    pub(crate) fn cold_with(engine: impl Into<LabEngine>) -> Self {
        let engine = engine.into();
        // Claims have the wall-clock time, and GC compares with it.
        NOW.set(atoll_model::clock::now());
        DENIED.take();
        let dialect = match engine {
            LabEngine::MidoNet(dialect) => dialect,
            LabEngine::Ovn => Dialect::V5,
        };
        let settings = MockSettings { dialect, ..MockSettings::default() };
        let host = settings.host;
        let ovn = (engine == LabEngine::Ovn).then(|| Arc::new(chassis(host)));
        let kernel = Arc::new(FakeKernel::new());
        kernel.add_netns(NETNS);
        kernel.add_netns("/netns/other");
        let controller = InProcess::new(settings);
        let (prefix, etcd) = ("/atoll/default".to_owned(), MemoryStore::new());
        let etcds = Arc::new(SyncRefCell::new(BTreeMap::from([(prefix.clone(), etcd.clone())])));
        Self {
            plan: FaultPlan::none(),
            etcd,
            prefix: SyncRefCell::new(prefix),
            etcds,
            controller,
            kernel,
            etcd_state: Arc::new(SyncCell::new(ServerState::Fine)),
            controller_state: Arc::new(SyncCell::new(ServerState::Fine)),
            bad_route: SyncCell::new(false),
            interface: SyncCell::new("eth0"),
            requested: SyncRefCell::default(),
            subnet_prefix: 24,
            engine,
            ovn,
            // In memory: files are synchronized, and a sweep has hundreds of labs.
            directory: tempfile::tempdir_in("/dev/shm").expect("a directory"),
            host,
            node: SyncRefCell::new(node_name()),
            run_dir: None,
        }
    }

    /// A node on which the tenant is known: another pod of it came and went.
    pub(crate) async fn warm() -> Self {
        Self::cold().warmed().await
    }

    /// The same with this engine.
    pub(crate) async fn warm_with(engine: impl Into<LabEngine>) -> Self {
        Self::cold_with(engine).warmed().await
    }

    /// The same with its `runDir` elsewhere.
    pub(crate) async fn warm_at(run_dir: PathBuf) -> Self {
        Self { run_dir: Some(run_dir), ..Self::cold() }.warmed().await
    }

    async fn warmed(self) -> Self {
        let lab = self;
        let call = AddCall { attachment: attachment("first", "eth0"), ..lab.call() };
        Box::pin(lab.plugin().add(&call)).await.expect("the first pod");
        Box::pin(lab.plugin().del(&del(&call))).await.expect("the first pod goes");
        if lab.ovn.is_some() {
            // Names are a part of what may be left.
            let (plugin, config) = (lab.plugin(), lab.config());
            let admin = Admin { store: &plugin.store, engine: &plugin.engine, config: &config.cluster };
            let domain = Update::To("atoll.internal".parse().expect("a domain"));
            let edit = Edit { pod_domain: domain, ..Edit::default() };
            let tenant = "red".parse().expect("a name");
            Box::pin(set(&admin, &tenant, &edit, Duration::ZERO, |_| ())).await.expect("set");
            // The node knows it afterwards.
            Box::pin(lab.plugin().add(&call)).await.expect("the second pod");
            let at = lab.claims()[0].addresses[0].address.ip();
            assert_eq!(
                lab.names(),
                ["web.atoll.internal", "web.red.atoll.internal"].map(|name| format!("{name} {at}"))
            );
            Box::pin(lab.plugin().del(&del(&call))).await.expect("the second pod goes");
        }
        lab.assert_empty("warm");
        lab
    }

    /// The same with subnets of few addresses.
    pub(crate) async fn small() -> Self {
        Self::small_with(Dialect::V5).await
    }

    async fn small_with(engine: impl Into<LabEngine>) -> Self {
        Self { subnet_prefix: 28, ..Self::cold_with(engine) }.warmed().await
    }

    /// The same with a full subnet: each of its addresses is reserved.
    pub(crate) async fn full_with(engine: impl Into<LabEngine>) -> Self {
        let lab = Self::small_with(engine).await;
        let [tenant] = lab.records::<TenantRecord>("v2/tenants/").try_into().expect("one tenant");
        let subnet = &tenant.subnets[0];
        let reserve = |address| {
            let key = Key::from(ReservationRecord::at(&tenant.name, subnet.ordinal, address));
            atoll_store::StoreChange::Put { key, value: Vec::new(), lease: None }
        };
        let txn = Txn { then: subnet.prefixes[0].cidr.iter().map(reserve).collect(), ..Txn::default() };
        lab.etcd.commit(txn).await.expect("memory does not fail");
        lab
    }

    pub(crate) fn config(&self) -> Config {
        let (section, servers, provider) = match self.engine {
            LabEngine::MidoNet(_) => {
                ("controller", json!({ "endpoints": ["http://127.0.0.1:1/midonet-api"] }), "auto".to_owned())
            }
            LabEngine::Ovn => {
                ("ovn", json!({ "northbound": ["tcp:127.0.0.1:1"], "bridge": BRIDGE }), PROVIDER.to_string())
            }
        };
        Config::parse(&json!({
            "etcd": { "endpoints": ["http://127.0.0.1:1"], "prefix": *self.prefix.borrow() },
            section: servers,
            "cluster": { "subnetPrefix": self.subnet_prefix, "providerRouter": provider },
            "mtu": 1450,
            "runDir": self.run_dir.clone().unwrap_or_else(|| self.directory.path().join("run")),
            "stateDir": self.directory.path().join("state"),
            "routes": if self.bad_route.get() { json!([{ "dst": "10.0.0.0/8" }]) } else { json!([]) },
        }))
        .expect("valid")
    }

    /// The configuration names another prefix of etcd from now on.
    pub(crate) fn move_to(&self, prefix: &str) {
        prefix.clone_into(&mut self.prefix.borrow_mut());
    }

    /// A new process.
    pub(crate) fn plugin(&self) -> LabWorld {
        self.kernel.refuse_routes(self.bad_route.get());
        let parts = Parts {
            plan: self.plan.clone(),
            etcds: Arc::clone(&self.etcds),
            controller: self.controller.clone(),
            engine: self.engine,
            ovn: self.ovn.clone(),
            kernel: Arc::clone(&self.kernel),
            states: (Arc::clone(&self.etcd_state), Arc::clone(&self.controller_state)),
            node: self.node.borrow().clone(),
            host: self.host,
        };
        parts.plugin(self.config())
    }

    /// The pod that the tests are about.
    pub(crate) fn call(&self) -> AddCall {
        AddCall {
            attachment: Attachment { node: self.node.borrow().clone(), ..attachment("pod", self.interface.get()) },
            pod: Pod { namespace: Some(Namespace::new("red").expect("valid")), name: Some("web".into()), uid: None },
            requested: self.requested.borrow().clone(),
            sandbox: NETNS.to_owned(),
            dns: DnsConfig::default(),
            own_netns: false,
            node: Node { name: self.node.borrow().clone(), host_id: self.host.into(), machine_id: "m".to_owned() },
        }
    }

    pub(crate) async fn add(&self) -> Result<AddResult, CallError> {
        Box::pin(self.plugin().add(&self.call())).await
    }

    pub(crate) async fn del(&self) -> Result<(), CallError> {
        Box::pin(self.plugin().del(&del(&self.call()))).await
    }

    /// GC of a runtime that knows no container.
    pub(crate) async fn collect(&self) -> Result<(), CallError> {
        let call = GcCall { network: self.call().attachment.network, valid: std::collections::BTreeSet::new() };
        Box::pin(self.plugin().gc(&call)).await
    }

    /// GC of a runtime that knows the pod of [`Lab::call`] and no other.
    pub(crate) async fn collect_nothing(&self) {
        let Attachment { network, container, interface, .. } = self.call().attachment;
        let call = GcCall { network, valid: std::collections::BTreeSet::from([(container, interface)]) };
        Box::pin(self.plugin().gc(&call)).await.expect("works");
    }

    /// A later call's resolving of tombstones, with plenty of time.
    pub(crate) async fn retry_pending_cleanup(&self) {
        Box::pin(self.plugin().retry_pending_cleanup(Instant::now() + Duration::from_mins(1))).await;
    }

    /// Advances the node's clock and all others.
    pub(crate) async fn pass(&self, seconds: u64) {
        NOW.set(NOW.get() + seconds);
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    /// A slow controller does what it was asked. How much that was.
    pub(crate) async fn catch_up(&self) -> usize {
        let late = LATE.take();
        let count = late.len();
        for request in late {
            request.await;
        }
        count
    }

    /// The node's clock alone is set, by so many seconds.
    pub(crate) fn set_clock(ahead: i64) {
        NOW.set(NOW.get().saturating_add_signed(ahead));
    }

    /// The maximum request lifetime passes, and a little more.
    pub(crate) async fn pass_request_lifetime(&self) {
        self.pass(self.config().max_request_lifetime.as_secs() + 2).await;
    }

    pub(crate) fn claims(&self) -> Vec<ClaimRecord> {
        self.records("v2/claims/")
    }

    pub(crate) fn tombstones(&self) -> Vec<TombstoneRecord> {
        self.records("v2/tombstones/")
    }

    pub(crate) fn local_tombstones(&self) -> Vec<TombstoneRecord> {
        LocalTombstones::new(&self.config().state_dir, &self.config().etcd.prefix).list(100).expect("readable")
    }

    fn records<T: serde::de::DeserializeOwned>(&self, prefix: &str) -> Vec<T> {
        let entries = self.etcd.dump().into_iter().filter(|entry| entry.key.as_str().starts_with(prefix));
        entries.map(|entry| decode(&entry.value).expect("a record")).collect()
    }

    /// The first subnet of the pod's tenant.
    pub(crate) fn first_subnet(&self) -> ipnetwork::Ipv4Network {
        let tenants: Vec<atoll_records::TenantRecord> = self.records("v2/tenants/");
        match tenants[0].subnets[0].prefixes[0].cidr {
            ipnetwork::IpNetwork::V4(cidr) => cidr,
            other @ ipnetwork::IpNetwork::V6(_) => panic!("{other} is not of IPv4"),
        }
    }

    /// Requests take this detour from now on; none: the direct way.
    #[expect(clippy::unused_self, reason = "the gateway is in front of this lab's controller")]
    pub(crate) fn detour(&self, detour: Option<Detour>) {
        DETOUR.set(detour);
    }

    /// The role of this node's certificate does not cover these keys from now on.
    #[expect(clippy::unused_self, reason = "it is this lab's etcd that asks for the role")]
    pub(crate) fn deny(&self, prefixes: &[&'static str]) {
        DENIED.set(prefixes.to_vec());
    }

    /// Pods' ports in the controller: those with port security.
    pub(crate) fn pod_ports(&self) -> Vec<Uuid> {
        if self.ovn.is_some() {
            return self.ovn_ports().into_iter().map(|port| port.id).collect();
        }
        self.controller.dump().ports.into_iter().filter(|(_, port)| port.vif_id.is_some()).map(|(id, _)| id).collect()
    }

    /// The addresses that may be used besides the one in a port's `vifId`, each with its MAC.
    pub(crate) fn seeds(&self) -> Vec<(std::net::IpAddr, atoll_model::attachment::Mac)> {
        if self.ovn.is_some() {
            let further = |port: OvnPort| port.addresses.into_iter().skip(1).map(move |address| (address, port.mac));
            return self.ovn_ports().into_iter().flat_map(further).collect();
        }
        let arp = self.controller.dump().bridges.into_iter().flat_map(|(_, bridge)| bridge.arp);
        arp.map(|(address, mac)| (address.into(), mac)).collect()
    }

    /// Names of pods in Northbound, with their addresses.
    pub(crate) fn names(&self) -> Vec<String> {
        let rows = self.ovn.iter().flat_map(|chassis| chassis.northbound.rows("DNS").into_values());
        let records = rows.filter_map(|row| match row.get("records") {
            Some(Value::Map(records)) => Some(records.clone()),
            _ => None,
        });
        let text = |atom: &Atom| if let Atom::Text(text) = atom { text.clone() } else { format!("{atom:?}") };
        records.flatten().map(|(name, addresses)| format!("{} {}", text(&name), text(&addresses))).collect()
    }

    /// Pods' ports in Northbound.
    fn ovn_ports(&self) -> Vec<OvnPort> {
        let rows = self.ovn.iter().flat_map(|chassis| chassis.northbound.rows("Logical_Switch_Port"));
        rows.filter_map(|(id, row)| OvnPort::read(id, &row)).collect()
    }

    /// Every Interface of Open vSwitch.
    pub(crate) fn interfaces(&self) -> Vec<Row> {
        self.ovn.iter().flat_map(|chassis| chassis.switch.rows("Interface").into_values()).collect()
    }

    /// The Interfaces of pods on the bridge: name, port, and whether its packets flow. Those of host-to-pod sides are no pods'.
    pub(crate) fn connected(&self) -> Vec<(String, String, bool)> {
        let is_pods = |row: &Row| row.get("external_ids").and_then(|ids| ids.get("atoll")) == Some("pod");
        let pods = self.interfaces().into_iter().filter(is_pods);
        pods.map(|row| {
            let id = |key| row.get("external_ids").and_then(|ids| ids.get(key)).unwrap_or_default().to_owned();
            let name = row.get("name").and_then(Value::text).unwrap_or_default().to_owned();
            (name, id("iface-id"), id("ovn-installed") == "true")
        })
        .collect()
    }

    /// What ovn-controller is told of this chassis' tunnels.
    pub(crate) fn record_tunnel(&self, kind: &str, address: &str) {
        let ids = Value::map([("ovn-encap-type", kind), ("ovn-encap-ip", address)]);
        let mutation = Mutation::Insert(ids);
        let record =
            RowOperation::Mutate { table: "Open_vSwitch", condition: Vec::new(), column: "external_ids", mutation };
        let chassis = self.ovn.as_ref().expect("a lab with OVN");
        chassis.switch.execute(&[record]).expect("the row is there");
    }

    /// With OVN: the host end of this claim is on the bridge, and its packets flow.
    #[track_caller]
    pub(crate) fn assert_connected(&self, claim: &ClaimRecord, when: &str) {
        if self.ovn.is_some() {
            let connected = (claim.host_interface.to_string(), claim.port.to_string(), true);
            assert!(self.connected().contains(&connected), "{when}: {connected:?} is not in {:?}", self.connected());
            let addresses: Vec<_> = claim.addresses.iter().map(|address| address.address.ip().to_string()).collect();
            for name in claim.names.iter().map(|name| format!("{name} {}", addresses.join(" "))) {
                assert!(self.names().contains(&name), "{when}: {name} is not in {:?}", self.names());
            }
        }
    }

    /// With OVN: the node has exactly one way to a pod, which is that to this claim's.
    #[track_caller]
    pub(crate) fn assert_reached(&self, claim: &ClaimRecord, when: &str) {
        let reached = self.kernel.host_to_pod_reached();
        let wanted = self.ovn.is_some().then(|| (claim.addresses[0].address.ip(), claim.host_interface.clone()));
        let pods: Vec<_> = reached.iter().map(|entry| (entry.pod, entry.interface.clone())).collect();
        assert_eq!(pods, Vec::from_iter(wanted), "{when}: the node reaches {reached:?}");
    }

    /// Nothing is left of what the pods of a subnet share on the node.
    #[track_caller]
    pub(crate) fn assert_no_sides(&self, when: &str) {
        assert_eq!(self.kernel.host_to_pod_sides(), 0, "{when}: host-to-pod sides");
        assert_eq!(self.interfaces(), Vec::<Row>::new(), "{when}");
        let files = std::fs::read_dir(atoll_node::paths::host_to_pod(&self.config().run_dir));
        assert_eq!(files.map_or(0, Iterator::count), 0, "{when}: files of host-to-pod sides");
    }

    /// The number of entries for ports in the MAC table.
    pub(crate) fn seeded_macs(&self) -> usize {
        if self.ovn.is_some() {
            return self.seeds().len();
        }
        self.controller.dump().bridges.values().map(|bridge| bridge.macs.len()).sum()
    }

    /// What is left of us, in words; nothing: as before the first pod.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in self.etcds.borrow().values().flat_map(MemoryStore::dump) {
            let key = entry.key.as_str();
            let is_claimed = || {
                let record: AddressRecord = decode(&entry.value).expect("a record");
                matches!(record.state, AddressState::Claimed { .. })
            };
            if key.starts_with("v2/claims/")
                || key.starts_with("v2/tombstones/")
                || (key.starts_with("v2/addresses/") && is_claimed())
            {
                left.push(format!("etcd: {key}"));
            }
        }
        left.extend(self.pod_ports().iter().map(|port| format!("controller: port {port}")));
        left.extend(self.seeds().iter().map(|(address, mac)| format!("controller: seed of {address} at {mac}")));
        if self.seeded_macs() > 0 {
            left.push("controller: seed of a MAC".to_owned());
        }
        left.extend(self.names().iter().map(|name| format!("controller: name {name}")));
        left.extend(self.connected().iter().map(|(name, port, _)| format!("switch: {name} of port {port}")));
        let links = self.kernel.everything();
        left.extend(links.iter().map(|(netns, link)| format!("kernel: {} in {netns}", link.link.name)));
        let rules = self.kernel.all_rules();
        left.extend(self.kernel.host_to_pod_pods().iter().map(|pod| format!("kernel: host to pod: {pod}")));
        left.extend(rules.iter().map(|(netns, rule)| format!("kernel: {rule:?} in {}", netns.display())));
        let config = self.config();
        for directory in [config.run_dir.join("attachments"), config.state_dir.join("tombstones")] {
            let Ok(files) = std::fs::read_dir(directory) else { continue };
            // An empty lock file has no state; only a process that dies with the lock leaves one.
            let has_state = |file: &std::fs::DirEntry| file.metadata().is_ok_and(|metadata| metadata.len() > 0);
            left.extend(files.flatten().filter(has_state).map(|file| format!("file: {}", file.path().display())));
        }
        left
    }

    /// No pod may send from an address that another pod could get: the owner of a port has the claim.
    #[track_caller]
    pub(crate) fn assert_ports_have_claims(&self, when: &str) {
        let claimed: Vec<_> = self.claims().iter().flat_map(|claim| claim.addresses.clone()).collect();
        for (address, _) in self.seeds() {
            let is_claimed = claimed.iter().any(|claimed| claimed.address.ip() == address);
            assert!(is_claimed, "{when}: a port may send from {address}, which is not claimed");
        }
        for port in self.ovn_ports() {
            let is_claimed = self.claims().iter().any(|claim| {
                let ours: Vec<_> = claim.addresses.iter().map(|address| address.address.ip()).collect();
                (claim.port, claim.claim.to_string(), ours) == (port.id, port.claim.clone(), port.addresses.clone())
            });
            assert!(is_claimed, "{when}: no claim describes {port:?}");
        }
        for (id, port) in self.controller.dump().ports {
            let Some(vif) = port.vif_id.and_then(PortSecurity::from_vif_id) else { continue };
            let is_claimed = claimed.iter().any(|address| address.address.ip() == vif.address);
            assert!(is_claimed, "{when}: port {id} may send from {}, which is not claimed", vif.address);
        }
    }

    /// The same, but for Interfaces on the bridge and ways of the node to its pods, which GC collects.
    #[track_caller]
    pub(crate) fn assert_empty_but_what_gc_collects(&self, when: &str) {
        let is_gcs = |left: &String| left.starts_with("switch: ") || left.starts_with("kernel: host to pod: ");
        let left: Vec<_> = self.leftovers().into_iter().filter(|left| !is_gcs(left)).collect();
        assert_eq!(left, Vec::<String>::new(), "{when}");
    }

    #[track_caller]
    pub(crate) fn assert_empty(&self, when: &str) {
        assert_eq!(self.leftovers(), Vec::<String>::new(), "{when}");
    }

    /// Sends a request of another client to the controller; returns its status.
    pub(crate) fn ask(&self, method: Method, path: &str, body: &serde_json::Value) -> u16 {
        let mut headers = http::HeaderMap::new();
        let binding = "application/vnd.org.midonet.HostInterfacePort-v1+json".parse().expect("a value");
        headers.insert(http::header::CONTENT_TYPE, binding);
        let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
        self.controller.call(&ApiRequest { method, path: path.to_owned(), headers, body: body.into() }).status
    }

    /// This node forgets its attachments, as after a reboot.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.config().run_dir.join("attachments"));
    }

    /// The files of attachments were written so many seconds ago.
    pub(crate) fn age_files(&self, seconds: u64) {
        self.date_files(NOW.get() - seconds);
    }

    /// The files of attachments were written so many seconds after now.
    pub(crate) fn forward_files(&self, seconds: u64) {
        self.date_files(NOW.get() + seconds);
    }

    fn date_files(&self, seconds: u64) {
        let then = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        for entry in std::fs::read_dir(self.config().run_dir.join("attachments")).into_iter().flatten().flatten() {
            let file = std::fs::File::options().write(true).open(entry.path()).expect("there");
            file.set_modified(then).expect("works");
        }
    }

    /// The controller sees the agent of this host, or not.
    pub(crate) fn set_alive(&self, alive: bool) {
        let body = json!({ "alive": alive }).to_string();
        let path = format!("/hosts/{}/alive", self.host);
        let request = ApiRequest { method: Method::PUT, path, headers: http::HeaderMap::new(), body: body.into() };
        assert_eq!(self.controller.controller().admin(&request).status, 204);
    }

    /// How many files there are for attachments.
    pub(crate) fn lock_files(&self) -> usize {
        std::fs::read_dir(self.config().run_dir.join("attachments")).map_or(0, Iterator::count)
    }

    /// The pod's claim is lost, as after a restore of etcd, and its address is in cool-down. This node has lost it as well.
    pub(crate) async fn lose_claim(&self) {
        let [claim] = self.claims().try_into().expect("one pod");
        let address = &claim.addresses[0];
        let state = AddressState::CoolDown { since: 0, namespace: None };
        let record = AddressRecord { v: atoll_records::SCHEMA, state, unknown: atoll_records::Unknown::new() };
        let key = Key::from(AddressRecord::at(&claim.tenant, address.ordinal, address.address.ip()));
        let put = atoll_store::StoreChange::Put { key, value: atoll_records::encode(&record), lease: None };
        let then = vec![atoll_store::StoreChange::delete(ClaimRecord::at(&claim.attachment)), put];
        self.etcd.commit(Txn { then, ..Txn::default() }).await.expect("memory does not fail");
        self.forget();
    }

    /// The engine loses a port.
    pub(crate) fn lose_port(&self, port: Uuid) {
        match &self.ovn {
            Some(chassis) => {
                let (members, condition) = (Value::one(port), Vec::new());
                let (table, mutation) = ("Logical_Switch", Mutation::Delete(members));
                let drop = RowOperation::Mutate { table, condition, column: "ports", mutation };
                chassis.northbound.execute(&[drop]).expect("the schema has it");
            }
            None => assert_eq!(self.ask(Method::DELETE, &format!("/ports/{port}"), &serde_json::Value::Null), 204),
        }
    }

    /// Northbound is emptied, and only the provider router is there again.
    pub(crate) fn lose_northbound(&self) {
        let chassis = self.ovn.as_ref().expect("a lab with OVN");
        for table in ["Logical_Router", "Logical_Switch", "DNS"] {
            for uuid in chassis.northbound.rows(table).into_keys() {
                chassis.northbound.lose(table, uuid);
            }
        }
        make_provider(chassis);
    }

    /// Another call writes a tombstone for the pod.
    pub(crate) async fn put_tombstone(&self) {
        let tombstone = TombstoneRecord {
            v: atoll_records::SCHEMA,
            engine: atoll_records::FIRST_ENGINE.to_owned(),
            kind: atoll_records::TombstoneKind::Delete,
            attachment: self.call().attachment,
            port: None,
            not_before: 0,
            since: 0,
            note: String::new(),
            deletion_sent: false,
            unknown: atoll_records::Unknown::new(),
        };
        atoll_ipam::put_tombstone(&self.etcd, &tombstone, None).await.expect("works");
    }

    /// The local data plane makes a namespace for every router.
    pub(crate) fn make_routers(&self) {
        for router in self.controller.dump().routers.keys() {
            let path = self.router_path(&router.to_string());
            std::fs::create_dir_all(path.parent().expect("has one")).expect("works");
            std::fs::write(&path, "").expect("works");
            self.kernel.add_netns(path);
        }
    }

    /// Where the data plane would keep a router.
    pub(crate) fn router_path(&self, router: &str) -> PathBuf {
        self.config().run_dir.join("dataplane").join(router)
    }

    /// The links of the pod, with their place.
    pub(crate) fn links(&self) -> Vec<(Netns, String)> {
        self.kernel.everything().into_iter().map(|(netns, link)| (netns, link.link.name)).collect()
    }
}

/// The node's chassis, and a Northbound that has a provider router.
fn chassis(host: Uuid) -> Chassis {
    let chassis = Chassis::start(&host.to_string(), BRIDGE);
    make_provider(&chassis);
    chassis
}

fn make_provider(chassis: &Chassis) {
    let row = Row::from([("name", Value::one("provider"))]);
    let provider = RowOperation::Insert { table: "Logical_Router", uuid: PROVIDER, row };
    chassis.northbound.execute(&[provider]).expect("the schema has it");
}

/// A pod's port in Northbound.
#[derive(Debug)]
struct OvnPort {
    id: Uuid,
    /// The claim that it was made for.
    claim: String,
    mac: atoll_model::attachment::Mac,
    addresses: Vec<std::net::IpAddr>,
}

impl OvnPort {
    /// None: it is not a pod's.
    fn read(id: Uuid, row: &Row) -> Option<Self> {
        let claim = row.get("external_ids")?.get("atoll-claim")?.to_owned();
        let mut words = row.get("port_security")?.text()?.split(' ');
        let mac = words.next()?.parse().expect("a MAC");
        let addresses = words.map(|address| address.parse().expect("an address")).collect();
        Some(Self { id, claim, mac, addresses })
    }
}

fn node_name() -> NodeName {
    NodeName::new("n1").expect("valid")
}

pub(crate) fn attachment(container: &str, interface: &str) -> Attachment {
    Attachment {
        node: node_name(),
        network: NetworkName::new("atoll").expect("valid"),
        container: ContainerId::new(container).expect("valid"),
        interface: IfName::new(interface).expect("valid"),
    }
}

/// The DEL of an ADD.
pub(crate) fn del(call: &AddCall) -> DelCall {
    DelCall { attachment: call.attachment.clone(), sandbox: Some(call.sandbox.clone()), own_netns: false }
}
