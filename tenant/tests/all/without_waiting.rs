//! With an engine that fences, `tenant delete`, `subnet delete`, `tenant set --remove-route` and `evict-node` wait for nothing:
//! whatever another process has sent, and whatever it still does when it goes on, leaves nothing that no record has.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_ipam::Claimed;
use atoll_model::config::ClusterConfig;
use atoll_model::ids::{HostId, TenantName};
use atoll_network::{Engine as _, Network, NetworkNextHop};
use atoll_ovn::ovsdb::{Mutation, Row, RowOperation, Value};
use atoll_ovn::{Ovn, ProviderRows, network_rows};
use atoll_records::{ClaimRecord, ClusterRecord, StaticRoute, TenantRecord, Versioned, Via};
use atoll_tenant::admin::{self, Admin, Deletion, Edit, Eviction};
use atoll_tenant::network::network;
use atoll_tenant::pod_port::pod_port;
use atoll_tenant::{Cache, Node, Resolver, TenantError};
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::fixture::cluster_config;
use atoll_testkit::ovn::{FaultyDatabase, MemoryDatabase, Schema, agents};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::fixture::{Fixture, default_tenant, node, request};

const PROVIDER: Uuid = Uuid::from_u128(0xf0);
const LIFETIME: Duration = Duration::from_secs(45);

/// What must not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    RemoveRoute,
    DeleteSubnet,
    DeleteTenant,
    Evict,
}

const VERBS: [Verb; 4] = [Verb::RemoveRoute, Verb::DeleteSubnet, Verb::DeleteTenant, Verb::Evict];

/// What another process does at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// It repairs the tenant, whose pod has lost its port.
    Repair,
    /// It adds a route.
    AddRoute,
    /// It adds a subnet.
    AddSubnet,
    /// It adds a pod on the node that is evicted.
    AddPod,
}

const OTHERS: [Other; 4] = [Other::Repair, Other::AddRoute, Other::AddSubnet, Other::AddPod];

type FaultyEngine = Ovn<FaultyDatabase<MemoryDatabase>>;

fn red() -> TenantName {
    TenantName::new("red").expect("valid")
}

fn route(destination: &str) -> StaticRoute {
    StaticRoute { destination: destination.parse().expect("valid"), via: Via::Reject }
}

/// Tenant `red` with two subnets and a route, and a pod on node n1, whose host is dead.
struct Lab {
    store: MemoryStore,
    northbound: MemoryDatabase,
    southbound: MemoryDatabase,
    config: ClusterConfig,
    node: Node,
    /// Of the process that goes wrong.
    plan: FaultPlan,
    _agents: JoinSet<()>,
}

impl Lab {
    async fn new() -> Self {
        let (northbound, southbound) =
            (MemoryDatabase::new(Schema::Northbound), MemoryDatabase::new(Schema::Southbound));
        agents::init(&northbound, &southbound, &["c1", "c2"]).await;
        let row = Row::from([("name", Value::one("provider"))]);
        let provider = RowOperation::Insert { table: "Logical_Router", uuid: PROVIDER, row };
        northbound.execute(&[provider]).expect("the schema has it");
        let mut chassis = JoinSet::new();
        chassis.spawn(agents::confirm(northbound.clone(), southbound.clone(), vec!["c1".to_owned()]));
        let lab = Self {
            store: MemoryStore::new(),
            northbound,
            southbound,
            config: ClusterConfig { provider_router: Some(PROVIDER), ..cluster_config() },
            node: Node { host_id: HostId::new("c1").expect("a host"), ..node("n1") },
            plan: FaultPlan::none(),
            _agents: chassis,
        };
        lab.with(&FaultPlan::none(), async |admin| admin::create(admin, &red()).await.map(drop))
            .await
            .expect("memory does not fail");
        // The pod is in the first subnet.
        lab.add_pod(&FaultPlan::none(), "a").await.expect("memory does not fail");
        lab.with(&FaultPlan::none(), async |admin| {
            admin::add_subnet(admin, &red(), &[], &[]).await?;
            let add = Edit { add_routes: vec![route("10.9.0.0/16")], ..Edit::default() };
            admin::set(admin, &red(), &add, LIFETIME, |_| {}).await.map(drop)
        })
        .await
        .expect("memory does not fail");
        lab
    }

    fn engine(&self, plan: &FaultPlan) -> FaultyEngine {
        let database = |name, inner: &MemoryDatabase| FaultyDatabase::new(name, inner.clone(), plan.clone());
        Ovn::new(database("northbound", &self.northbound), Some(database("southbound", &self.southbound)), None)
    }

    /// What a process of an operator does.
    async fn with<T>(
        &self,
        plan: &FaultPlan,
        work: impl AsyncFnOnce(&Admin<'_, FaultyStore<MemoryStore>, FaultyEngine>) -> Result<T, TenantError>,
    ) -> Result<T, TenantError> {
        let (store, engine) = (FaultyStore::new(self.store.clone(), plan.clone()), self.engine(plan));
        Box::pin(work(&Admin { store: &store, engine: &engine, config: &self.config })).await
    }

    /// The claim and the port of a pod, as its node makes them.
    async fn add_pod(&self, plan: &FaultPlan, name: &str) -> Result<(), TenantError> {
        let (store, engine) = (FaultyStore::new(self.store.clone(), plan.clone()), self.engine(plan));
        let cache = Cache::none();
        let resolver =
            Resolver { store: &store, engine: &engine, config: &self.config, node: &self.node, cache: &cache };
        let binding = Box::pin(resolver.resolve(&default_tenant("red"))).await?;
        let attachment = Fixture::attachment(&self.node, name);
        let claimed = atoll_ipam::claim(&store, &request(&binding, &self.node, &attachment, false)).await?;
        let Claimed::New(claim) = claimed else { return Ok(()) };
        let port = pod_port(&binding.cluster.record, &binding.node.record, &claim.record);
        let made = engine.ensure_port(&port).await;
        made.map(drop).map_err(|source| TenantError::Engine { what: "make a port".to_owned(), source })
    }

    async fn run(&self, verb: Verb, plan: &FaultPlan) -> Result<(), TenantError> {
        let gone = "10.9.0.0/16".parse().expect("valid");
        let without = Edit { remove_routes: vec![gone], ..Edit::default() };
        let cooldown = Duration::from_secs(30);
        let eviction = Eviction { force: false, forget: false, wait: LIFETIME, cooldown };
        let deletion = Deletion { request_lifetime: LIFETIME, force: true };
        self.with(plan, async |admin| match verb {
            Verb::RemoveRoute => admin::set(admin, &red(), &without, LIFETIME, |_| {}).await.map(drop),
            Verb::DeleteSubnet => admin::delete_subnet(admin, &red(), 2, LIFETIME, |_| {}).await,
            Verb::DeleteTenant => admin::delete(admin, &red(), deletion, |_| {}).await,
            Verb::Evict => admin::evict(admin, &self.node.name, eviction, |_| {}).await.map(drop),
        })
        .await
    }

    /// The same call again completes it, or finds it done. It waits for no request, at most for the build lease of a process that
    /// died. False: there are pods in the subnet.
    async fn complete(&self, verb: Verb, when: &str) -> bool {
        let began = tokio::time::Instant::now();
        let plan = FaultPlan::none();
        match self.run(verb, &plan).await {
            Ok(()) | Err(TenantError::Unknown { .. } | TenantError::NoSubnet { .. }) => {}
            Err(TenantError::Route { .. }) => {
                let rest =
                    self.with(&plan, async |admin| admin::set(admin, &red(), &Edit::default(), LIFETIME, |_| {}).await);
                drop(rest.await.unwrap_or_else(|error| panic!("{when}: {error}")));
            }
            Err(TenantError::InUse { .. }) if verb == Verb::DeleteSubnet => return false,
            Err(error) => panic!("{when}: {error}"),
        }
        assert!(began.elapsed() < LIFETIME, "{when}: it waited");
        true
    }

    async fn other(&self, other: Other) -> Result<(), TenantError> {
        let add = Edit { add_routes: vec![route("10.10.0.0/16")], ..Edit::default() };
        match other {
            Other::AddPod => self.add_pod(&self.plan, "b").await,
            _ => {
                self.with(&self.plan, async |admin| match other {
                    Other::Repair => admin::repair(admin, &red(), LIFETIME).await.map(drop),
                    Other::AddRoute => admin::set(admin, &red(), &add, LIFETIME, |_| {}).await.map(drop),
                    _ => admin::add_subnet(admin, &red(), &[], &[]).await.map(drop),
                })
                .await
            }
        }
    }

    /// The engine loses the port of the pod.
    fn lose_port(&self) {
        let port = self.records::<ClaimRecord>("v2/claims/")[0].record.port;
        let mutation = Mutation::Delete(Value::one(port));
        let drop = RowOperation::Mutate { table: "Logical_Switch", condition: Vec::new(), column: "ports", mutation };
        self.northbound.execute(&[drop]).expect("the schema has it");
    }

    fn records<T: serde::de::DeserializeOwned>(&self, prefix: &str) -> Vec<Versioned<T>> {
        let entries = self.store.dump().into_iter().filter(|entry| entry.key.as_str().starts_with(prefix));
        entries.map(|entry| Versioned::read(&entry).expect("a record")).collect()
    }

    /// Every row of a tenant is one that its record has, and every pod's port one that a claim has.
    fn assert_recorded(&self, when: &str) {
        let cluster = self.records::<ClusterRecord>("v2/cluster").remove(0).record;
        let mut wanted = BTreeSet::new();
        for tenant in self.records::<TenantRecord>("v2/tenants/") {
            let mut network: Network = network(&cluster, &tenant);
            network.routes.extend(network.removed_routes.clone());
            assert!(network.routes.iter().all(|route| route.next_hop == NetworkNextHop::Reject));
            let rows = network_rows(&network, ProviderRows { chassis_group: None });
            wanted.extend(rows.into_iter().map(|row| row.uuid));
        }
        let claims = self.records::<ClaimRecord>("v2/claims/");
        let mut ports = Vec::new();
        for table in
            ["Logical_Router", "Logical_Router_Port", "Logical_Router_Static_Route", "NAT", "Logical_Switch", "ACL"]
        {
            self.assert_rows(table, when, |uuid, _| wanted.contains(&uuid));
        }
        self.assert_rows("Logical_Switch_Port", when, |uuid, row| {
            let claim = row.get("external_ids").and_then(|ids| ids.get("atoll-claim"));
            let has = |record: &ClaimRecord| record.port == uuid && claim == Some(record.claim.to_string().as_str());
            ports.extend(claim.map(|_| uuid));
            wanted.contains(&uuid) || claims.iter().any(|claim| has(&claim.record))
        });
        assert!(ports.len() <= claims.len(), "{when}: {ports:?}");
    }

    fn assert_rows(&self, table: &'static str, when: &str, mut is_recorded: impl FnMut(Uuid, &Row) -> bool) {
        for (uuid, row) in self.northbound.rows(table) {
            let is_tenants = row.get("external_ids").is_some_and(|ids| ids.get("atoll-incarnation").is_some());
            assert!(!is_tenants || is_recorded(uuid, &row), "{when}: no record has {table} {row:?}");
        }
    }

    /// The verb has done what it is for.
    fn assert_done(&self, verb: Verb, when: &str) {
        let tenants = self.records::<TenantRecord>("v2/tenants/");
        match verb {
            Verb::DeleteTenant => assert!(tenants.is_empty(), "{when}"),
            Verb::RemoveRoute => {
                let record = &tenants[0].record;
                assert!(record.routes.iter().chain(&record.retired).all(|it| *it != route("10.9.0.0/16")), "{when}");
            }
            Verb::DeleteSubnet => assert!(tenants[0].record.subnets.iter().all(|it| it.ordinal != 2), "{when}"),
            Verb::Evict => assert!(self.records::<ClaimRecord>("v2/claims/").is_empty(), "{when}"),
        }
        self.assert_recorded(when);
    }
}

async fn late_requests(others: &[Other]) -> usize {
    let mut points = 0;
    for verb in VERBS {
        for &other in others {
            for at in 0.. {
                let lab = Lab::new().await;
                if other == Other::Repair {
                    lab.lose_port();
                }
                lab.plan.arm(at, Fault::CrashLate);
                if let Some(done) = lab.plan.run(lab.other(other)).await {
                    done.expect("nothing went wrong");
                    break;
                }
                let effect = lab.plan.passed().pop().unwrap_or_default();
                lab.plan.reset();
                let when = format!("{verb:?}, beside {other:?} that died at {at} ({effect})");
                let is_done = lab.complete(verb, &when).await;
                for late in ["", ", late"] {
                    lab.assert_recorded(&format!("{when}{late}"));
                    if is_done {
                        lab.assert_done(verb, &format!("{when}{late}"));
                    }
                    lab.plan.deliver_late().await;
                }
                points += 1;
            }
        }
    }
    points
}

#[tokio::test(start_paused = true)]
async fn what_another_process_sent_arrives_later_and_leaves_nothing() {
    let points = late_requests(&[Other::Repair, Other::AddPod]).await;
    println!("{points} points covered");
    assert!(points >= 50, "{points}");
}

#[tokio::test(start_paused = true)]
#[ignore = "long: every other process"]
async fn whatever_another_process_sent_arrives_later_and_leaves_nothing() {
    let points = late_requests(&OTHERS).await;
    println!("{points} points covered");
    assert!(points >= 100, "{points}");
}

/// `dies`: so many effects after it went on.
async fn paused(verb: Verb, other: Other, at: usize, dies: Option<usize>) -> bool {
    let lab = Lab::new().await;
    if other == Other::Repair {
        lab.lose_port();
    }
    lab.plan.pause_at(at);
    let mut process = Box::pin(lab.other(other));
    if lab.plan.run_until_paused(process.as_mut()).await.is_some() {
        return false;
    }
    let effect = lab.plan.passed().pop().unwrap_or_default();
    let when = format!("{verb:?}, while {other:?} is paused at {at} ({effect}), dies: {dies:?}");
    if lab.complete(verb, &when).await {
        lab.assert_done(verb, &when);
    }
    match dies {
        Some(later) => lab.plan.arm(later, Fault::CrashAfter),
        None => lab.plan.reset(),
    }
    lab.plan.resume();
    // Whether it succeeds or reports that it was overtaken, is its own matter.
    let died = lab.plan.run(process).await.is_none();
    lab.assert_recorded(&format!("{when}, and went on"));
    dies.is_none() || died
}

async fn paused_processes(others: &[Other]) -> usize {
    let mut points = 0;
    for verb in VERBS {
        for &other in others {
            for at in 0.. {
                if !paused(verb, other, at, None).await {
                    break;
                }
                points += 1;
            }
        }
    }
    points
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_and_goes_on_leaves_nothing() {
    let points = paused_processes(&[Other::Repair, Other::AddPod]).await;
    println!("{points} points covered");
    assert!(points >= 50, "{points}");
}

#[tokio::test(start_paused = true)]
#[ignore = "long: every other process"]
async fn every_process_that_was_paused_and_goes_on_leaves_nothing() {
    let points = paused_processes(&OTHERS).await;
    println!("{points} points covered");
    assert!(points >= 100, "{points}");
}

/// The record that it has applied is not the current one any more, and it dies before it reads that.
#[tokio::test(start_paused = true)]
#[ignore = "long: it dies after each of its effects"]
async fn a_repair_that_was_paused_goes_on_and_dies_leaves_nothing() {
    let mut points = 0;
    for verb in [Verb::DeleteTenant, Verb::DeleteSubnet, Verb::RemoveRoute] {
        for at in 0.. {
            if !paused(verb, Other::Repair, at, None).await {
                break;
            }
            for dies in 0.. {
                if !paused(verb, Other::Repair, at, Some(dies)).await {
                    break;
                }
                points += 1;
            }
        }
    }
    println!("paused and dead: {points} points covered");
    assert!(points >= 30, "{points}");
}

async fn again(faults: &[Fault]) -> usize {
    let mut points = 0;
    for verb in VERBS {
        for &fault in faults {
            for at in 0.. {
                let lab = Lab::new().await;
                lab.plan.arm(at, fault);
                let outcome = lab.plan.run(lab.run(verb, &lab.plan)).await;
                let passed = lab.plan.passed();
                if passed.len() <= at {
                    outcome.expect("it did not die").expect("nothing went wrong");
                    break;
                }
                lab.plan.reset();
                let when = format!("{verb:?}, {fault:?} at {at} ({})", passed[at]);
                assert!(lab.complete(verb, &when).await, "{when}");
                lab.assert_done(verb, &when);
                lab.plan.deliver_late().await;
                lab.assert_done(verb, &format!("{when}, late"));
                points += 1;
            }
        }
    }
    points
}

#[tokio::test(start_paused = true)]
async fn a_verb_that_died_is_completed_without_waiting() {
    let points = again(&[Fault::CrashLate]).await;
    println!("{points} points covered");
    assert!(points >= 50, "{points}");
}

#[tokio::test(start_paused = true)]
#[ignore = "long: every fault"]
async fn whatever_goes_wrong_the_same_verb_again_completes_it_without_waiting() {
    let points = again(&Fault::ALL).await;
    println!("{points} points covered");
    assert!(points >= 300, "{points}");
}

/// What dies after it went on: where the network is deleted, nothing that it relies on is left but that.
#[tokio::test(start_paused = true)]
async fn a_repair_that_goes_on_after_its_tenant_was_deleted_and_dies_leaves_nothing() {
    let mut points = 0;
    for at in 0.. {
        if !paused(Verb::DeleteTenant, Other::Repair, at, None).await {
            break;
        }
        for dies in 0..4 {
            points += usize::from(paused(Verb::DeleteTenant, Other::Repair, at, Some(dies)).await);
        }
    }
    assert!(points >= 10, "{points}");
}
