//! Requests that never arrive, and whose outcome is reported as unknown: each commit of each verb in turn. The verb reads
//! and goes on, or reports that it could not; and then the same verb once more completes it. A commit that was not made
//! never counts as made. If every commit ends so, the cause of the store reaches the caller, and ends the attempts if it
//! would be given again.

use atoll_records::{StaticRoute, Via};
use atoll_testkit::cell::SyncCell;
use atoll_testkit::store::{InterceptedStore, Interception, MemoryStore, StoreCall, at_once, unknown_commits};
use std::sync::Arc;
use std::time::Duration;

use atoll_ipam::{ClaimRequest, Claimed, claim};
use atoll_mock_controller::Dialect;
use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::Mac;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{Namespace, TenantName};
use atoll_network::Engine;
use atoll_store::{Store, StoreError};
use atoll_tenant::admin::{self, Admin, Deletion, Edit, InitRequest};
use atoll_tenant::{Cache, Resolver, TenantError};

use crate::fixture::{Fixture, namespace, request};

const REQUEST_LIFETIME: Duration = Duration::from_secs(45);

/// A store whose commit number `at` (0 is the first) is lost on its way, and how many there were.
fn lossy(inner: &MemoryStore, at: usize) -> (impl Store, Arc<SyncCell<usize>>) {
    let commits = Arc::new(SyncCell::new(0));
    let counted = Arc::clone(&commits);
    let disturb = at_once(move |call| match call {
        StoreCall::Commit(_) if counted.replace(counted.get() + 1) == at => {
            let (endpoint, reason) = ("test".to_owned(), "lost on its way".to_owned());
            Interception::Instead(StoreError::Unknown { endpoint, reason })
        }
        _ => Interception::None,
    });
    (InterceptedStore::new(inner.clone(), disturb), commits)
}

/// What is done to tenant `red`, which has two subnets and a pod with a MAC of its choice; or to tenant `blue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    /// The first pod of namespace `blue` comes.
    Resolve,
    Create,
    /// `blue` and `pink` together.
    CreateTogether,
    AddSubnet,
    DeleteSubnet,
    Delete,
    Set,
    Join,
    Leave,
    /// An observation that records which tenants are idle.
    Observe,
    NewEpoch,
}

const VERBS: [Verb; 11] = [
    Verb::Resolve,
    Verb::Create,
    Verb::CreateTogether,
    Verb::AddSubnet,
    Verb::DeleteSubnet,
    Verb::Delete,
    Verb::Set,
    Verb::Join,
    Verb::Leave,
    Verb::Observe,
    Verb::NewEpoch,
];

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).expect("valid")
}

fn ns(name: &str) -> Namespace {
    Namespace::new(name).expect("valid")
}

async fn prepared() -> Fixture {
    let mut fixture = Fixture::new(Dialect::V5);
    fixture.node.host_id = fixture.mock.controller().settings().host.into();
    let engine = fixture.engine();
    let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
    let place = fixture.resolve(&namespace("red")).await.expect("resolved");
    let attachment = Fixture::attachment(&fixture.node, "web-0");
    let requested = AddressRequest { mac: Some(Mac([0, 0x1c, 0x42, 0, 0, 1])), ..AddressRequest::default() };
    let asked = ClaimRequest { requested: &requested, ..request(&place, &fixture.node, &attachment, false) };
    assert!(matches!(claim(&fixture.store, &asked).await, Ok(Claimed::New(_))));
    admin::add_subnet(&admin, &tenant("red"), &[], &[]).await.expect("added");
    admin::join(&admin, &tenant("red"), &ns("green"), false).await.expect("joined");
    admin::create(&admin, &tenant("lab")).await.expect("created");
    fixture
}

async fn run<S: Store, E: Engine>(fixture: &Fixture, admin: &Admin<'_, S, E>, verb: Verb) -> Result<(), TenantError> {
    let red = tenant("red");
    match verb {
        Verb::Resolve => {
            let Admin { store, engine, config } = *admin;
            let cache = Cache::none();
            let resolver = Resolver { store, engine, config, node: &fixture.node, cache: &cache };
            resolver.resolve(&namespace("blue")).await.map(drop)
        }
        Verb::Create => admin::create(admin, &tenant("blue")).await.map(drop),
        Verb::CreateTogether => {
            let names = [tenant("blue"), tenant("pink")];
            for (name, created) in names.iter().zip(admin::create_together(admin, &names).await?) {
                match created {
                    // Of an earlier call, which may not have come to its end.
                    Err(TenantError::Exists { .. }) => drop(admin::repair(admin, name, Duration::from_secs(45)).await?),
                    created => drop(created?),
                }
            }
            Ok(())
        }
        Verb::AddSubnet => {
            // Once more only when it is not there: a subnet is added each time it is asked for.
            if fixture.records("red").1.subnets.len() == 2 {
                let cidr = "10.130.0.0/24".parse().expect("valid");
                admin::add_subnet(admin, &red, &[cidr], &[]).await?;
            }
            admin::repair(admin, &red, Duration::from_secs(45)).await.map(drop)
        }
        Verb::DeleteSubnet => admin::delete_subnet(admin, &red, 2, REQUEST_LIFETIME, |_| {}).await,
        Verb::Delete => {
            admin::delete(admin, &red, Deletion { request_lifetime: REQUEST_LIFETIME, force: true }, |_| {}).await
        }
        Verb::Set => {
            let route = StaticRoute { destination: "10.9.0.0/16".parse().expect("valid"), via: Via::Reject };
            let edit = Edit { add_routes: vec![route], ..Edit::default() };
            admin::set(admin, &red, &edit, REQUEST_LIFETIME, |_| {}).await.map(drop)
        }
        Verb::Join => admin::join(admin, &tenant("lab"), &ns("east"), false).await.map(drop),
        Verb::Leave => admin::leave(admin, &red, &ns("green"), false).await.map(drop),
        Verb::Observe => admin::idle(admin, true).await.map(drop),
        Verb::NewEpoch => {
            let wanted = InitRequest { new_epoch: true, ..InitRequest::default() };
            admin::init(admin.store, admin.engine, admin.config, &wanted).await.map(drop)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_arrived_counts_as_done_nowhere() {
    let mut points = 0;
    for verb in VERBS {
        let undisturbed = {
            let fixture = prepared().await;
            let engine = fixture.engine();
            let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
            run(&fixture, &admin, verb).await.unwrap_or_else(|error| panic!("{verb:?}: {error}"));
            fixture
        };
        for at in 0.. {
            let fixture = prepared().await;
            let engine = fixture.engine();
            let (store, commits) = lossy(&fixture.store, at);
            let epoch = fixture.records("red").0.epoch;
            let lossy = Admin { store: &store, engine: &engine, config: &fixture.config };
            let outcome = run(&fixture, &lossy, verb).await;
            if commits.get() <= at {
                assert!(at > 0, "{verb:?} commits nothing");
                break;
            }
            points += 1;
            let context = format!("{verb:?}: commit {at} was lost");
            if outcome.is_err() {
                let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
                match run(&fixture, &admin, verb).await {
                    Ok(()) | Err(TenantError::Exists { .. } | TenantError::Unknown { .. }) => {}
                    Err(error) => panic!("{context}: {error}"),
                }
            }
            assert_eq!(fixture.keys(), undisturbed.keys(), "{context}: {outcome:?}");
            let made = |fixture: &Fixture| {
                let made = fixture.made();
                (made.routers.len(), made.bridges.len(), made.ports.len(), made.routes.len(), made.chains.len())
            };
            assert_eq!(made(&fixture), made(&undisturbed), "{context}: {outcome:?}");
            if verb == Verb::NewEpoch {
                assert_ne!(fixture.records("red").0.epoch, epoch, "{context}: {outcome:?}");
            }
        }
    }
    println!("lost requests: {points} points covered");
}

const FULL: &str = "etcdserver: mvcc: database space exceeded";

#[tokio::test(start_paused = true)]
async fn a_cause_of_the_store_is_reported_and_ends_attempts_that_cannot_succeed() {
    for verb in VERBS {
        for (cause, most) in [(FULL, 1), ("etcdserver: leader changed", 16)] {
            let fixture = prepared().await;
            let engine = fixture.engine();
            let (store, commits) = unknown_commits(&fixture.store, cause, false);
            let admin = Admin { store: &store, engine: &engine, config: &fixture.config };
            let error = run(&fixture, &admin, verb).await.expect_err("nothing can be written");
            let context = format!("{verb:?}, {cause}, {} commits: {error:?}", commits.get());
            let source = match &error {
                TenantError::Store { source, .. } => source.to_string(),
                other => panic!("{context}: {other}"),
            };
            assert!(source.contains(cause), "{context}");
            assert_eq!(error.class(), Class::Unavailable, "{context}");
            // Of two tenants each is tried.
            let most = if verb == Verb::CreateTogether { 2 * most } else { most };
            assert!((1..=most).contains(&commits.get()), "{context}");
            if cause == FULL {
                assert!(error.hint().is_some_and(|hint| hint.contains("etcd is full")), "{context}");
            }
        }
    }
}

/// The outcome of every commit is unknown for a cause that lasts, and all of them happened: that is found.
#[tokio::test(start_paused = true)]
async fn what_happened_is_found_whatever_the_cause() {
    for verb in [Verb::Create, Verb::CreateTogether, Verb::Join, Verb::Leave, Verb::Set, Verb::NewEpoch] {
        let fixture = prepared().await;
        let engine = fixture.engine();
        let (store, _) = unknown_commits(&fixture.store, FULL, true);
        let admin = Admin { store: &store, engine: &engine, config: &fixture.config };
        run(&fixture, &admin, verb).await.unwrap_or_else(|error| panic!("{verb:?}: {error:?}"));
    }
}
