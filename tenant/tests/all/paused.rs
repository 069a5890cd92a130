//! A writer that is paused between reading a record and applying it, for longer than its build lease and the maximum request
//! lifetime. It brings nothing back that was removed meanwhile.

use atoll_testkit::cell::SyncCell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_mock_controller::Dialect;
use atoll_model::ids::TenantName;
use atoll_network::Engine;
use atoll_records::{BuildLeaseRecord, Key, Phase, StaticRoute, TenantRecord, Via};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_store::{Store, StoreChange, Txn};
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, Admin, Deletion, Edit};
use atoll_tenant::network::network_id;
use atoll_testkit::controller::InProcess;
use atoll_testkit::store::{Deciding, InterceptedStore, Interception, StoreCall};
use futures_util::future::{Either, select};
use tokio::sync::Notify;

use crate::fixture::{Fixture, engine, graph, namespace};

const REQUEST_LIFETIME: Duration = Duration::from_millis(500);

/// What another process does completely while the writer is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    RouteRemoved,
    RouteReplaced,
    SubnetDeleted,
    /// A deletion has closed the subnet, and will find pods and put it back.
    SubnetClosed,
    /// The route was removed, and a deletion has closed the tenant, and will find pods and put it back.
    TenantClosed,
    /// The route was removed, and a deletion has closed the tenant and deleted its objects.
    TenantEmptied,
    TenantDeleted,
    TenantCreatedAgain,
}

const EVENTS: [Event; 8] = [
    Event::RouteRemoved,
    Event::RouteReplaced,
    Event::SubnetDeleted,
    Event::SubnetClosed,
    Event::TenantClosed,
    Event::TenantEmptied,
    Event::TenantDeleted,
    Event::TenantCreatedAgain,
];

/// What the paused process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// It repairs a tenant in use.
    Repair,
    /// It builds another subnet, with the build lease.
    AddSubnet,
}

fn red() -> TenantName {
    TenantName::new("red").expect("valid")
}

fn admin<'a, S: Store, E: Engine>(fixture: &'a Fixture, store: &'a S, engine: &'a E) -> Admin<'a, S, E> {
    Admin { store, engine, config: &fixture.config }
}

fn route(via: Via) -> StaticRoute {
    StaticRoute { destination: "10.9.0.0/16".parse().expect("valid"), via }
}

/// Changes the tenant's record.
async fn change(fixture: &Fixture, edit: impl FnOnce(&mut TenantRecord)) {
    let mut record = fixture.records("red").1;
    edit(&mut record);
    let then = vec![StoreChange::put(&TenantRecord::at(&red()), &record)];
    fixture.store.commit(Txn { then, ..Txn::default() }).await.expect("memory does not fail");
}

/// Sets the phase of subnet 2 in the record.
async fn set_phase(fixture: &Fixture, phase: Phase) {
    change(fixture, |record| {
        for subnet in record.subnets.iter_mut().filter(|subnet| subnet.ordinal == 2) {
            subnet.phase = phase;
        }
    })
    .await;
}

async fn happen(fixture: &Fixture, event: Event) {
    // The build lease of a process that does not run expires.
    let holder = fixture.store.dump().into_iter().find(|entry| entry.key == Key::from(BuildLeaseRecord::at(&red())));
    if let Some(lease) = holder.and_then(|holder| holder.lease) {
        fixture.store.revoke(lease).await.expect("memory does not fail");
    }
    let engine = fixture.engine();
    let admin = admin(fixture, &fixture.store, &engine);
    let deletion = Deletion { request_lifetime: REQUEST_LIFETIME, force: false };
    match event {
        Event::RouteRemoved | Event::TenantClosed | Event::TenantEmptied => {
            let edit = Edit { remove_routes: vec![route(Via::Reject).destination], ..Edit::default() };
            admin::set(&admin, &red(), &edit, REQUEST_LIFETIME, |_| {}).await.map(drop)
        }
        Event::RouteReplaced => {
            let edit = Edit { add_routes: vec![route(Via::Blackhole)], ..Edit::default() };
            admin::set(&admin, &red(), &edit, REQUEST_LIFETIME, |_| {}).await.map(drop)
        }
        Event::SubnetClosed => {
            set_phase(fixture, Phase::Deleting).await;
            Ok(())
        }
        Event::SubnetDeleted => admin::delete_subnet(&admin, &red(), 2, REQUEST_LIFETIME, |_| {}).await,
        Event::TenantDeleted => admin::delete(&admin, &red(), deletion, |_| {}).await,
        Event::TenantCreatedAgain => match admin::delete(&admin, &red(), deletion, |_| {}).await {
            Ok(()) => fixture.resolve(&namespace("red")).await.map(drop),
            Err(error) => Err(error),
        },
    }
    .unwrap_or_else(|error| panic!("{event:?}: {error}"));
    if [Event::TenantClosed, Event::TenantEmptied].contains(&event) {
        change(fixture, |record| record.phase = Phase::Deleting).await;
    }
    if event == Event::TenantEmptied {
        let (cluster, tenant) = fixture.records("red");
        engine.delete_network(&graph(&cluster, &tenant).network).await.expect("deleted");
    }
}

/// The state of the writer's process.
#[derive(Clone, Default)]
struct Process {
    is_paused: Arc<SyncCell<bool>>,
    sent: Arc<SyncCell<usize>>,
    pause: Arc<Notify>,
}

impl Process {
    /// Returns when the process runs.
    async fn runs(&self) {
        while self.is_paused.get() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The controller of a process that is paused before its request number `at` (0 is the first).
struct Pausing {
    inner: InProcess,
    process: Process,
    at: usize,
}

impl Transport for Pausing {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        let Process { is_paused, sent, pause } = &self.process;
        if sent.replace(sent.get() + 1) == self.at {
            is_paused.set(true);
            pause.notify_one();
        }
        self.process.runs().await;
        self.inner.send(request).await
    }
}

/// The writer with a pause before its request number `at`. `None`: it sends fewer requests.
async fn paused(fixture: &Fixture, writer: Writer, event: Event, at: usize) -> Option<Result<(), TenantError>> {
    let process = Process::default();
    let stopped = process.clone();
    // A process that does not run keeps no lease alive.
    let intercept = move |_: StoreCall<'_>| -> Deciding {
        let process = stopped.clone();
        Box::pin(async move {
            process.runs().await;
            Interception::None
        })
    };
    let store = InterceptedStore::new(fixture.store.clone(), intercept);
    let engine = engine(Pausing { inner: fixture.mock.clone(), process: process.clone(), at });
    let admin = admin(fixture, &store, &engine);
    let write = async {
        match writer {
            Writer::Repair => admin::repair(&admin, &red(), Duration::from_secs(45)).await.map(drop),
            Writer::AddSubnet => admin::add_subnet(&admin, &red(), &[], &[]).await.map(drop),
        }
    };
    let meanwhile = async {
        process.pause.notified().await;
        happen(fixture, event).await;
        process.is_paused.set(false);
        std::future::pending::<()>().await;
    };
    let done = match select(pin!(write), pin!(meanwhile)).await {
        Either::Left((done, _)) => done,
        Either::Right(((), _)) => unreachable!("it never ends"),
    };
    (process.sent.get() > at).then_some(done)
}

/// A tenant with a route and two subnets.
async fn prepared(dialect: Dialect) -> Fixture {
    let fixture = Fixture::new(dialect);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    let engine = fixture.engine();
    let admin = admin(&fixture, &fixture.store, &engine);
    admin::add_subnet(&admin, &red(), &[], &[]).await.expect("added");
    let edit = Edit { add_routes: vec![route(Via::Reject)], ..Edit::default() };
    admin::set(&admin, &red(), &edit, REQUEST_LIFETIME, |_| {}).await.expect("set");
    fixture
}

/// The writer paused before each of its requests, with each event. Returns the number of points.
async fn brings_nothing_back(dialect: Dialect, writer: Writer) -> usize {
    let mut points = 0;
    for event in EVENTS {
        let mut has_router = false;
        for at in 0.. {
            let context = format!("{dialect:?}: {writer:?} paused before request {at}, {event:?}");
            let fixture = prepared(dialect).await;
            let Some(done) = paused(&fixture, writer, event, at).await else { break };
            points += 1;
            if event == Event::SubnetClosed {
                let (cluster, tenant) = fixture.records("red");
                let subnet = network_id(&cluster, &tenant).subnet(2).object();
                assert!(fixture.made().bridges.contains_key(&subnet), "{context}: its pods keep their network");
                set_phase(&fixture, Phase::Building).await;
            }
            match event {
                Event::TenantClosed => change(&fixture, |record| record.phase = Phase::Active).await,
                Event::TenantEmptied => {
                    has_router = !fixture.made().routers.is_empty();
                    change(&fixture, |record| record.phase = Phase::Building).await;
                }
                _ => {}
            }
            let tenants: &[&str] = if event == Event::TenantDeleted { &[] } else { &["red"] };
            let is_refused = matches!(
                event,
                Event::TenantClosed | Event::TenantEmptied | Event::TenantDeleted | Event::TenantCreatedAgain
            );
            assert!(!is_refused || done.is_err(), "{context}: what it applied is not the tenant's network any more");
            if !tenants.is_empty() {
                // What it did not complete, the next call completes.
                fixture.resolve(&namespace("red")).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(fixture.records("red").1.phase, Phase::Active, "{context}");
            }
            fixture.assert_exactly_or_routes_twice(tenants, &context);
        }
        // Of the last point. The writer had made sure of the router long before.
        assert!(
            !has_router,
            "{dialect:?}: {writer:?}, {event:?}: objects were made for a tenant that is being deleted"
        );
    }
    points
}

#[tokio::test(start_paused = true)]
async fn a_paused_repair_brings_nothing_back_on_5() {
    let points = brings_nothing_back(Dialect::V5, Writer::Repair).await;
    println!("paused writer: {points} points covered");
}

#[tokio::test(start_paused = true)]
async fn a_paused_repair_brings_nothing_back_on_1_9() {
    let points = brings_nothing_back(Dialect::V1, Writer::Repair).await;
    println!("paused writer: {points} points covered");
}

#[tokio::test(start_paused = true)]
async fn a_paused_build_brings_nothing_back_on_5() {
    let points = brings_nothing_back(Dialect::V5, Writer::AddSubnet).await;
    println!("paused writer: {points} points covered");
}

#[tokio::test(start_paused = true)]
async fn a_paused_build_brings_nothing_back_on_1_9() {
    let points = brings_nothing_back(Dialect::V1, Writer::AddSubnet).await;
    println!("paused writer: {points} points covered");
}
