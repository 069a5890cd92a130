//! Requests that never arrive, of which the caller is told that they may have: each commit of each verb in turn. The verb
//! looks and goes on, or says that it could not; and then the same verb once more completes it. Nothing that was not done
//! counts as done.

use std::cell::Cell;
use std::time::Duration;

use atoll_ipam::{ClaimRequest, Claimed, claim};
use atoll_mock_controller::Dialect;
use atoll_model::attachment::Mac;
use atoll_model::ids::{Namespace, TenantName};
use atoll_model::record::{StaticRoute, Via};
use atoll_model::wish::Wish;
use atoll_store::memory::MemoryWatch;
use atoll_store::{Choice, Chosen, Key, Lease, Memory, Query, Revision, Snapshot, Store, StoreError};
use atoll_tenant::admin::{self, Admin, Deletion, Edit, Wanted};
use atoll_tenant::controller::Controller;
use atoll_tenant::{Cache, Resolver, TenantError};

use crate::world::{World, namespace, request};

const QUIET: Duration = Duration::from_secs(45);

/// A store whose commit number `at` (0 is the first) is lost on its way.
struct Lossy {
    store: Memory,
    at: usize,
    commits: Cell<usize>,
}

impl Store for Lossy {
    type Watch = MemoryWatch;

    async fn read(&self, queries: Vec<Query>) -> Result<Snapshot, StoreError> {
        self.store.read(queries).await
    }

    async fn commit_first(&self, choice: Choice) -> Result<Chosen, StoreError> {
        if self.commits.replace(self.commits.get() + 1) == self.at {
            return Err(StoreError::Unknown { endpoint: "test".to_owned(), reason: "lost on its way".to_owned() });
        }
        self.store.commit_first(choice).await
    }

    async fn watch(&self, prefix: Key, after: Revision) -> Result<MemoryWatch, StoreError> {
        self.store.watch(prefix, after).await
    }

    async fn lease(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.store.lease(ttl).await
    }

    async fn lease_as(&self, lease: Lease, ttl: Duration) -> Result<(), StoreError> {
        self.store.lease_as(lease, ttl).await
    }

    async fn keep_alive(&self, lease: Lease) -> Result<bool, StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }
}

/// What is done to tenant `red`, which has two subnets and a pod with a MAC of its choice; or to tenant `blue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    /// The first pod of namespace `blue` comes.
    Resolve,
    Create,
    AddSubnet,
    DeleteSubnet,
    Delete,
    Set,
    Join,
    Leave,
    /// A look that remembers which tenants are idle.
    Look,
    NewEpoch,
}

const VERBS: [Verb; 10] = [
    Verb::Resolve,
    Verb::Create,
    Verb::AddSubnet,
    Verb::DeleteSubnet,
    Verb::Delete,
    Verb::Set,
    Verb::Join,
    Verb::Leave,
    Verb::Look,
    Verb::NewEpoch,
];

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).expect("valid")
}

fn ns(name: &str) -> Namespace {
    Namespace::new(name).expect("valid")
}

async fn prepared() -> World {
    let world = World::new(Dialect::V5);
    let engine = world.engine();
    let admin = Admin { store: &world.store, controller: &engine, config: &world.config };
    let place = world.resolve(&namespace("red")).await.expect("resolved");
    let attachment = World::attachment(&world.node, "web-0");
    let wish = Wish { mac: Some(Mac([0, 0x1c, 0x42, 0, 0, 1])), ..Wish::default() };
    let asked = ClaimRequest { wish: &wish, ..request(&place, &world.node, &attachment, false) };
    assert!(matches!(claim(&world.store, &asked).await, Ok(Claimed::New(_))));
    admin::add_subnet(&admin, &tenant("red"), None, &[]).await.expect("added");
    admin::join(&admin, &tenant("red"), &ns("green"), false).await.expect("joined");
    admin::create(&admin, &tenant("lab")).await.expect("created");
    world
}

async fn run<S: Store, C: Controller>(world: &World, admin: &Admin<'_, S, C>, verb: Verb) -> Result<(), TenantError> {
    let red = tenant("red");
    match verb {
        Verb::Resolve => {
            let Admin { store, controller, config } = *admin;
            let cache = Cache::none();
            let resolver = Resolver { store, controller, config, node: &world.node, cache: &cache };
            resolver.resolve(&namespace("blue")).await.map(drop)
        }
        Verb::Create => admin::create(admin, &tenant("blue")).await.map(drop),
        Verb::AddSubnet => {
            // Once more only when it is not there: a subnet is added each time it is asked for.
            if world.records("red").1.subnets.len() == 2 {
                let cidr = "10.130.0.0/24".parse().expect("valid");
                admin::add_subnet(admin, &red, Some(cidr), &[]).await?;
            }
            admin::repair(admin, &red).await.map(drop)
        }
        Verb::DeleteSubnet => admin::delete_subnet(admin, &red, 2, QUIET, |_| {}).await,
        Verb::Delete => admin::delete(admin, &red, Deletion { quiet: QUIET, force: true }, |_| {}).await,
        Verb::Set => {
            let route = StaticRoute { destination: "10.9.0.0/16".parse().expect("valid"), via: Via::Reject };
            let edit = Edit { add_routes: vec![route], ..Edit::default() };
            admin::set(admin, &red, &edit).await.map(drop)
        }
        Verb::Join => admin::join(admin, &tenant("lab"), &ns("east"), false).await.map(drop),
        Verb::Leave => admin::leave(admin, &red, &ns("green"), false).await.map(drop),
        Verb::Look => admin::idle(admin, true).await.map(drop),
        Verb::NewEpoch => {
            let wanted = Wanted { new_epoch: true, ..Wanted::default() };
            admin::init(admin.store, admin.controller, admin.config, &wanted).await.map(drop)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_arrived_counts_as_done_nowhere() {
    let mut points = 0;
    for verb in VERBS {
        let undisturbed = {
            let world = prepared().await;
            let engine = world.engine();
            let admin = Admin { store: &world.store, controller: &engine, config: &world.config };
            run(&world, &admin, verb).await.unwrap_or_else(|error| panic!("{verb:?}: {error}"));
            world
        };
        for at in 0.. {
            let world = prepared().await;
            let engine = world.engine();
            let store = Lossy { store: world.store.clone(), at, commits: Cell::new(0) };
            let epoch = world.records("red").0.epoch;
            let lossy = Admin { store: &store, controller: &engine, config: &world.config };
            let outcome = run(&world, &lossy, verb).await;
            if store.commits.get() <= at {
                assert!(at > 0, "{verb:?} commits nothing");
                break;
            }
            points += 1;
            let context = format!("{verb:?}: commit {at} was lost");
            if outcome.is_err() {
                let admin = Admin { store: &world.store, controller: &engine, config: &world.config };
                match run(&world, &admin, verb).await {
                    Ok(()) | Err(TenantError::Exists { .. } | TenantError::Unknown { .. }) => {}
                    Err(error) => panic!("{context}: {error}"),
                }
            }
            assert_eq!(world.keys(), undisturbed.keys(), "{context}: {outcome:?}");
            let made = |world: &World| {
                let made = world.made();
                (made.routers.len(), made.bridges.len(), made.ports.len(), made.routes.len(), made.chains.len())
            };
            assert_eq!(made(&world), made(&undisturbed), "{context}: {outcome:?}");
            if verb == Verb::NewEpoch {
                assert_ne!(world.records("red").0.epoch, epoch, "{context}: {outcome:?}");
            }
        }
    }
    println!("lost requests: {points} points covered");
}
