//! A controller that runs for long spawns operators' verbs on a runtime with several threads: their futures are `Send`.
//! The checks are generic: they hold for every store and every engine.

use std::time::Duration;

use atoll_model::address_request::NOTHING;
use atoll_model::ids::{Namespace, TenantName};
use atoll_network::{Engine, Network, PodPort, PortLocation, PortRemoval, ProviderNetwork};
use atoll_store::Store;
use atoll_tenant::admin::{self, Admin, Deletion, Edit, Eviction, InitRequest, ProviderChoice};
use atoll_tenant::inventory::Inventory;
use atoll_tenant::{Admission, Applicant, Cache, Resolver};
use atoll_testkit::send::sent;

use crate::fixture::{DIALECTS, Fixture, built, namespace, pod_port};

const LIFETIME: Duration = Duration::from_millis(1);

/// What an operator does with tenant `red`, which is there.
async fn tenants<S: Store, E: Engine>(admin: &Admin<'_, S, E>) {
    let (red, blue) = (TenantName::new("red").expect("valid"), TenantName::new("blue").expect("valid"));
    let guests = Namespace::new("guests").expect("valid");
    sent(admin::create(admin, &blue)).await.expect("created");
    sent(admin::join(admin, &blue, &guests, false)).await.expect("joined");
    sent(admin::leave(admin, &blue, &guests, false)).await.expect("left");
    sent(admin::set(admin, &red, &Edit::default(), LIFETIME, |_| {})).await.expect("set");
    sent(admin::next_subnet(admin, &red, &[], &[])).await.expect("free");
    sent(admin::add_subnet(admin, &red, &[], &[])).await.expect("added");
    sent(admin::delete_subnet(admin, &red, 2, LIFETIME, |_| {})).await.expect("deleted");
    sent(admin::plan(admin, &red)).await.expect("planned");
    sent(admin::repair(admin, &red, Duration::from_secs(45))).await.expect("repaired");
    assert_eq!(sent(admin::idle(admin, true)).await.expect("observed").len(), 2);
    let gently = Deletion { request_lifetime: LIFETIME, force: false };
    sent(admin::delete(admin, &red, gently, |_| {})).await.expect("deleted");
    for (tenant, pruned) in sent(admin::prune(admin, &[blue], LIFETIME)).await {
        pruned.unwrap_or_else(|error| panic!("{tenant}: {error}"));
    }
}

/// What an operator does with a cluster, and with a node that has a pod.
async fn cluster<S: Store, E: Engine>(admin: &Admin<'_, S, E>, resolver: Resolver<'_, S, E>) {
    let Admin { store, engine, config } = admin;
    sent(admin::choose_provider(*engine, config, &ProviderChoice::Configured, None)).await.expect("a choice");
    sent(admin::init(*store, *engine, config, &InitRequest::default())).await.expect("there");
    let node = &resolver.node.name;
    sent(admin::candidate(admin, node)).await.expect("read");
    let how = Eviction { force: true, forget: true, wait: LIFETIME, cooldown: LIFETIME };
    assert_eq!(sent(admin::evict(admin, node, how, |_| {})).await.expect("evicted").len(), 1);
    sent(Inventory::read(*store)).await.expect("read");
}

/// What the plugin does for a pod.
async fn pods<S: Store, E: Engine>(resolver: Resolver<'_, S, E>) {
    let (red, attachment) = (namespace("red"), Fixture::attachment(resolver.node, "a"));
    sent(resolver.resolve(&red)).await.expect("resolved");
    let binding = sent(resolver.rebuild(&red)).await.expect("rebuilt");
    sent(resolver.grow(&red, binding)).await.expect("grown");
    let mut admission = sent(Admission::begin(resolver, red)).await.expect("begun");
    let applicant = Applicant {
        attachment: &attachment,
        pod: None,
        pod_uid: None,
        requested: &NOTHING,
        fence: None,
        deletions_until: 0,
    };
    sent(admission.claim(applicant)).await.expect("an answer");
}

/// Every method of an engine, on a network that is there.
async fn methods<E: Engine>(engine: &E, network: &Network, port: &PodPort) {
    sent(engine.capabilities()).await.expect("an answer");
    let own = ProviderNetwork { cluster: network.id.cluster, uplinks: Vec::new() };
    sent(engine.ensure_provider(&own)).await.expect("made");
    sent(engine.routers()).await.expect("listed");
    sent(engine.provider_candidates()).await.expect("listed");
    sent(engine.ensure_network(network)).await.expect("made");
    assert_eq!(sent(engine.diff_network(network)).await.expect("compared"), []);
    let seen = sent(engine.ensure_port(port)).await.expect("made");
    sent(engine.wait_for_port(port, seen, LIFETIME)).await.expect("an answer");
    sent(engine.port(port.id)).await.expect("read");
    sent(engine.ports(port.subnet)).await.expect("listed");
    let PortLocation { host, .. } = &port.location;
    sent(engine.host(host)).await.expect("read");
    sent(engine.delete_port(&PortRemoval::by_id(port.id))).await.expect("deleted");
    sent(engine.delete_routes(network, &[])).await.expect("deleted");
    sent(engine.withdraw_network(network, Some(network))).await.expect("withdrawn");
    sent(engine.delete_subnet(network, 1)).await.expect("deleted");
    sent(engine.delete_network(network)).await.expect("deleted");
}

#[tokio::test(start_paused = true)]
async fn the_futures_of_an_operators_verbs_are_send() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let (engine, cache) = (fixture.engine(), Cache::none());
        let resolver = fixture.resolver(&engine, &cache);
        let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
        pods(resolver).await;
        cluster(&admin, resolver).await;
        tenants(&admin).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_futures_of_an_engine_are_send() {
    for dialect in DIALECTS {
        let (fixture, graph) = built(dialect).await;
        let port = pod_port(&fixture, &graph, 9, "ap0");
        methods(&fixture.engine(), &graph.network, &port).await;
    }
}
