//! Evicting a node: what is taken away, when, from whom not, and what the node meets when it is not so dead.

use atoll_testkit::cell::SyncCell;
use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::FaultyStore;
use atoll_testkit::transport::FaultyTransport;
use std::sync::Mutex;
use std::time::Duration;

use atoll_ipam::{Claimed, Released, find, put_tombstone, release};
use atoll_mock_controller::Dialect;
use atoll_model::attachment::Attachment;
use atoll_model::error::{Class, Classify};
use atoll_model::sync::locked;

use atoll_network::{Engine, PodPort, PortLocation, WriterEpoch};
use atoll_records::{
    ClaimRecord, FIRST_ENGINE, Key, NodeRecord, ReleasedRecord, SCHEMA, TombstoneKind, TombstoneRecord, Unknown, encode,
};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_store::{Store, StoreChange, Txn};
use atoll_tenant::admin::{self, Admin, Deleted, Eviction};
use atoll_tenant::{Cache, Resolver, TenantBinding, TenantError};
use futures_util::FutureExt as _;
use futures_util::future::join;

use crate::fixture::{DIALECTS, Fixture, Gateway, engine, namespace, node, request};
use crate::resolve::put;

const WAIT: Duration = Duration::from_secs(105);

fn gently() -> Eviction {
    Eviction { force: false, forget: false, wait: WAIT, cooldown: Duration::from_secs(30) }
}

fn set_alive(fixture: &Fixture, alive: bool) {
    let host = fixture.node.host_id.as_str().parse().expect("a host of MidoNet");
    fixture.mock.set_host_alive(host, alive);
}

/// A fixture with two nodes on one host; node n1 has pods `a` and `b`, node n2 has `c`, all with their ports.
async fn two_nodes(dialect: Dialect) -> (Fixture, TenantBinding) {
    let mut fixture = Fixture::new(dialect);
    fixture.node.host_id = fixture.mock.controller().settings().host.into();
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    for name in ["a", "b"] {
        attach(&fixture, &binding, name).await;
    }
    let other = second(&fixture);
    // A second name of one host is refused: its record is from before that was so.
    put(&fixture, Key::from(NodeRecord::at(&other.name)), record(&other)).await;
    let first = std::mem::replace(&mut fixture.node, other);
    let other = fixture.resolve(&namespace("red")).await.expect("resolved");
    attach(&fixture, &other, "c").await;
    fixture.node = first;
    (fixture, binding)
}

fn second(fixture: &Fixture) -> atoll_tenant::Node {
    atoll_tenant::Node { host_id: fixture.node.host_id.clone(), ..node("n2") }
}

/// The record of a node as it registers.
fn record(node: &atoll_tenant::Node) -> Vec<u8> {
    encode(&NodeRecord {
        v: SCHEMA,
        host_id: node.host_id.clone(),
        machine_id: node.machine_id.clone(),
        epoch: 0,
        writer: 0,
        evicting: None,
        unknown: Unknown::new(),
    })
}

fn fence(attachment: &Attachment) -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment: attachment.clone(),
        port: None,
        not_before: u64::MAX,
        since: 0,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

async fn attach(fixture: &Fixture, binding: &TenantBinding, name: &str) -> ClaimRecord {
    let attachment = Fixture::attachment(&fixture.node, name);
    let claimed = atoll_ipam::claim(&fixture.store, &request(binding, &fixture.node, &attachment, false)).await;
    let Ok(Claimed::New(claim)) = claimed else { panic!("{name}: {claimed:?}") };
    fixture.engine().ensure_port(&port(binding, &claim.record)).await.expect("made");
    claim.record
}

fn port(binding: &TenantBinding, claim: &ClaimRecord) -> PodPort {
    PodPort {
        id: claim.port,
        claim: claim.claim,
        writer: WriterEpoch { node: claim.attachment.node.clone(), epoch: binding.node.record.writer },
        subnet: binding.network().subnet(claim.addresses[0].ordinal),
        location: PortLocation { host: claim.host_id.clone(), interface: claim.host_interface.clone() },
        mac: claim.mac,
        addresses: vec![claim.addresses[0].address.ip()],
        unique: false,
        names: Vec::new(),
    }
}

/// The containers that have claims, and how many pods' ports there are.
fn left(fixture: &Fixture) -> (Vec<String>, usize) {
    let entries = fixture.store.dump();
    let claims = entries.iter().filter(|entry| entry.key.as_str().starts_with("v2/claims/"));
    let names = claims.filter_map(|entry| entry.key.as_str().split('/').nth(4).map(str::to_owned));
    (names.collect(), fixture.made().ports.values().filter(|port| port.vif_id.is_some()).count())
}

async fn evict<S: Store, E: Engine>(admin: &Admin<'_, S, E>, how: Eviction) -> Result<Vec<ClaimRecord>, TenantError> {
    admin::evict(admin, &node("n1").name, how, |_| {}).await
}

async fn evict_here(fixture: &Fixture, how: Eviction) -> Result<Vec<ClaimRecord>, TenantError> {
    let engine = fixture.engine();
    evict(&Admin { store: &fixture.store, engine: &engine, config: &fixture.config }, how).await
}

/// "Deleted" and "no such host" are the controller's words, not those of a gateway before it.
#[tokio::test(start_paused = true)]
async fn no_node_is_evicted_because_of_a_gateways_answer() {
    for dialect in DIALECTS {
        for body in ["", r#"{"message":"no route matched"}"#, r#"{"message":"Not Found","code":404}"#] {
            let (fixture, _) = two_nodes(dialect).await;
            let answer: fn(&ApiRequest) -> _ = match body {
                "" => |request| (request.path != "/").then_some((404, "")),
                _ if body.contains("code") => {
                    |request| (request.path != "/").then_some((404, r#"{"message":"Not Found","code":404}"#))
                }
                _ => |request| (request.path != "/").then_some((404, r#"{"message":"no route matched"}"#)),
            };
            let engine = engine(Gateway { inner: fixture.mock.clone(), answer });
            let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
            let candidate = admin::candidate(&admin, &node("n1").name).await;
            assert!(
                matches!(candidate, Err(TenantError::Engine { .. })),
                "{body}: the controller did not report it as dead"
            );
            let error = evict(&admin, gently()).await.expect_err("the controller did not report it as dead");
            assert_eq!(error.class(), Class::Unavailable, "{body}: {error}");
            let forced = Eviction { force: true, ..gently() };
            let error = evict(&admin, forced).await.expect_err("the controller did not report its ports as gone");
            assert_eq!(error.class(), Class::Unavailable, "{body}: {error}");
            assert_eq!((left(&fixture).0.len(), left(&fixture).1), (3, 3), "{dialect:?}: {body}: every claim and port");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_pods_are_evicted_and_no_others() {
    for dialect in DIALECTS {
        let (fixture, _) = two_nodes(dialect).await;
        let engine = fixture.engine();
        let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
        let name = node("n1").name;
        assert!(!admin::candidate(&admin, &name).await.expect("known").is_dead());
        let error = evict(&admin, gently()).await.expect_err("its host is alive");
        assert!(matches!(error, TenantError::Alive { .. }), "{error}");
        assert_eq!((left(&fixture).0.len(), left(&fixture).1), (3, 3), "nothing was touched");
        assert!(matches!(
            admin::evict(&admin, &node("n9").name, gently(), |_| {}).await,
            Err(TenantError::NoNode { .. })
        ));

        set_alive(&fixture, false);
        let seen = admin::candidate(&admin, &name).await.expect("known");
        assert_eq!((seen.is_dead(), seen.claims.len(), seen.tombstones), (true, 2, 0));
        let (began, mut steps) = (tokio::time::Instant::now(), Vec::new());
        let released = admin::evict(&admin, &name, gently(), |step| {
            if step == Deleted::Objects(2) {
                assert_eq!(
                    left(&fixture),
                    (vec!["c-a".into(), "c-b".into(), "c-c".into()], 1),
                    "ports first, claims last"
                );
            }
            steps.push(step);
        });
        assert_eq!(released.await.expect("evicted").len(), 2);
        assert!(began.elapsed() >= WAIT, "late requests had their time");
        assert_eq!((steps.first(), steps.last()), (Some(&Deleted::Closed), Some(&Deleted::All)));
        assert_eq!(left(&fixture), (vec!["c-c".to_owned()], 1), "the pod of the other node is there");
        assert_eq!(fixture.keys()["cool-down"], 2, "the addresses cool");

        let record = admin::candidate(&admin, &name).await.expect("known").record;
        assert_eq!((record.epoch, record.evicting), (1, None));
        // No pod is left; a second eviction succeeds, and deletes the node's record on request.
        assert_eq!(evict(&admin, Eviction { forget: true, ..gently() }).await.expect("evicted"), []);
        assert!(matches!(admin::candidate(&admin, &name).await, Err(TenantError::NoNode { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_node_is_evicted_only_by_force() {
    let (fixture, _) = two_nodes(Dialect::V5).await;
    assert_eq!(evict_here(&fixture, Eviction { force: true, ..gently() }).await.expect("reported").len(), 2);
    assert_eq!(left(&fixture), (vec!["c-c".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn whatever_the_node_still_tries_loses_and_afterwards_it_is_welcome() {
    for dialect in DIALECTS {
        let (fixture, binding) = two_nodes(dialect).await;
        set_alive(&fixture, false);
        let claim =
            find(&fixture.store, &Fixture::attachment(&fixture.node, "a")).await.expect("found").claim.expect("there");
        let meanwhile = async {
            tokio::time::sleep(WAIT / 2).await;
            // A new pod, and a pod that exists: the error of both is only that the node changed.
            for name in ["new", "a"] {
                let attachment = Fixture::attachment(&fixture.node, name);
                let request = request(&binding, &fixture.node, &attachment, false);
                let answer = atoll_ipam::claim(&fixture.store, &request).await.expect("answered");
                let Claimed::Stale(current) = answer else { panic!("{dialect:?}: {name}: {answer:?}") };
                let (engine, cache) = (fixture.engine(), Cache::none());
                let error =
                    fixture.resolver(&engine, &cache).refresh(&namespace("red"), current).await.expect_err("wait");
                assert!(matches!(error, TenantError::Evicting { .. }), "{error}");
                assert_eq!(error.class(), Class::Unavailable);
                assert!(error.hint().expect("a hint").contains("is then admitted again"));
            }
            // An ADD that had its claim before goes on to make its port, and one that died leaves a tombstone.
            fixture
                .engine()
                .ensure_port(&port(&binding, &claim.record))
                .await
                .expect("the controller knows no fencing");
            let tombstone = fence(&Fixture::attachment(&fixture.node, "b"));
            put_tombstone(&fixture.store, &tombstone, None).await.expect("the tombstone is written");
        };
        let (evicted, ()) = join(evict_here(&fixture, gently()), meanwhile).await;
        assert_eq!(evicted.expect("evicted").len(), 2, "{dialect:?}");
        assert_eq!(left(&fixture), (vec!["c-c".to_owned()], 1), "{dialect:?}");
        assert_eq!(fixture.keys().get("tombstones"), None);

        // The node returns: its DELs find none of their records, even if the address has a new owner.
        let released = release(&fixture.store, &claim, None, Duration::ZERO).await.expect("answered");
        assert_eq!(released, Released::Done, "there is nothing to release");
        assert_eq!(fixture.keys()["cool-down"], 2, "and nothing was");
        let binding = fixture.resolve(&namespace("red")).await.expect("it is welcome");
        attach(&fixture, &binding, "a").await;
        assert_eq!(left(&fixture).0.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn two_evictions_at_once_do_the_same_work() {
    let (fixture, _) = two_nodes(Dialect::V5).await;
    set_alive(&fixture, false);
    let (one, two) = join(evict_here(&fixture, gently()), evict_here(&fixture, gently())).await;
    let done = [one, two].into_iter().filter_map(Result::ok).map(|released| released.len()).sum::<usize>();
    assert_eq!(done, 2, "each claim was released once, and at least one of them saw it through");
    assert_eq!(left(&fixture), (vec!["c-c".to_owned()], 1));
    fixture.resolve(&namespace("red")).await.expect("the mark is gone");
}

#[tokio::test(start_paused = true)]
async fn wherever_an_eviction_fails_the_next_completes_it() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let ((fixture, _), plan) = (two_nodes(dialect).await, FaultPlan::none());
            set_alive(&fixture, false);
            assert_eq!(Box::pin(disturbed(&fixture, &plan)).await, Some(true), "nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let ((fixture, binding), plan) = (two_nodes(dialect).await, FaultPlan::none());
                set_alive(&fixture, false);
                plan.arm(at, fault);
                Box::pin(disturbed(&fixture, &plan)).await;
                plan.reset();
                points += 1;
                // No pod may send from an address that another pod could get: the owner of a port has the claim.
                assert!(left(&fixture).0.len() >= left(&fixture).1, "{context}");
                // The host comes back: an eviction that has begun is finished all the same.
                let begun = fixture.store.dump().iter().any(|entry| {
                    entry.key.as_str() == "v2/nodes/n1" && String::from_utf8_lossy(&entry.value).contains("evicting")
                });
                set_alive(&fixture, begun);
                evict_here(&fixture, gently()).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(left(&fixture), (vec!["c-c".to_owned()], 1), "{context}");
                plan.deliver_late().await;
                // The requests of the dead process may close the node once more; then the error names the next command.
                if let Err(error) = fixture.resolve(&namespace("red")).await {
                    assert!(matches!(error, TenantError::Evicting { .. }), "late: {context}: {error}");
                    evict_here(&fixture, gently()).await.unwrap_or_else(|error| panic!("late: {context}: {error}"));
                }
                assert_eq!(left(&fixture), (vec!["c-c".to_owned()], 1), "late: {context}");
                let binding =
                    TenantBinding { node: fixture.resolve(&namespace("red")).await.expect("welcome").node, ..binding };
                attach(&fixture, &binding, "a").await;
            }
        }
        println!("{dialect:?}: {} effects", effects.len());
    }
    println!("eviction: {points} points covered");
}

/// Another eviction finishes and the node comes back, at each step of this one: what the node has made since is not taken.
#[tokio::test(start_paused = true)]
async fn an_eviction_that_is_behind_takes_nothing_from_a_node_that_is_back() {
    for dialect in DIALECTS {
        for at in ["closed", "objects"] {
            let (fixture, _) = two_nodes(dialect).await;
            let engine = fixture.engine();
            let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
            let at_once = Eviction { force: true, wait: Duration::ZERO, ..gently() };
            let (name, mut is_back) = (node("n1").name, false);
            let behind = admin::evict(&admin, &name, at_once, |step| {
                let is_here = matches!((at, step), ("closed", Deleted::Closed) | ("objects", Deleted::Objects(_)));
                if is_here && !std::mem::replace(&mut is_back, true) {
                    let meanwhile = async {
                        evict_here(&fixture, at_once).await.expect("the other one finishes");
                        let binding = fixture.resolve(&namespace("red")).await.expect("welcome");
                        attach(&fixture, &binding, "a").await;
                    };
                    meanwhile.now_or_never().expect("nothing waits in memory");
                }
            });
            let error = Box::pin(behind).await.expect_err("it is behind");
            assert!(matches!(error, TenantError::Contended { .. }), "{at}: {error}");
            assert!(is_back);
            let expected = (vec!["c-a".to_owned(), "c-c".to_owned()], 2);
            assert_eq!(left(&fixture), expected, "{dialect:?} {at}: the pod of the node that is back keeps its port");
        }
    }
}

/// A transport in which an event happens before one of the deletions.
struct Interrupted<F> {
    inner: InProcess,
    /// So many pass before.
    after: SyncCell<usize>,
    then: Mutex<Option<F>>,
}

impl<F: FnOnce() + Send> Transport for Interrupted<F> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        if request.method == http::Method::DELETE {
            if let Some(after) = self.after.get().checked_sub(1) {
                self.after.set(after);
            } else if let Some(then) = locked(&self.then).take() {
                then();
            }
        }
        self.inner.send(request).await
    }
}

/// The same with a deletion in flight: the eviction has read the node's record, and its deletion arrives after the node has
/// returned with the same attachments. Also with a node that was forgotten and registers again.
#[tokio::test(start_paused = true)]
async fn a_deletion_on_its_way_does_not_hit_the_port_of_a_node_that_is_back() {
    for dialect in DIALECTS {
        for (forget, is_fenced) in [(false, false), (true, false), (false, true)] {
            for after in 0..4 {
                let context = format!("{dialect:?}, deletion {after}, forgotten: {forget}, fenced: {is_fenced}");
                let (fixture, binding) = two_nodes(dialect).await;
                let forced = Eviction { force: true, wait: Duration::from_secs(1), ..gently() };
                let before = atoll_ipam::claims_of(&fixture.store, &fixture.node.name).await.expect("listed");
                let is_back = SyncCell::new(false);
                let then = || {
                    let other = Eviction { wait: Duration::ZERO, ..forced };
                    let meanwhile = async {
                        evict_here(&fixture, Eviction { forget, ..other }).await.expect("the other one finishes");
                        if forget {
                            // Registering would refuse a second name of n2's host.
                            put(&fixture, Key::from(NodeRecord::at(&node("n1").name)), record(&fixture.node)).await;
                        } else {
                            // It was away for so long that the marks of the releases are gone: the epoch decides alone.
                            let mark = |name| {
                                StoreChange::delete(ReleasedRecord::at(&Fixture::attachment(&fixture.node, name)))
                            };
                            let txn = Txn { then: vec![mark("a"), mark("b")], ..Txn::default() };
                            fixture.store.commit(txn).await.expect("memory does not fail");
                        }
                        let binding = fixture.resolve(&namespace("red")).await.expect("welcome");
                        attach(&fixture, &binding, "a").await;
                        if is_fenced {
                            let tombstone = fence(&Fixture::attachment(&fixture.node, "b"));
                            put_tombstone(&fixture.store, &tombstone, None).await.expect("the tombstone is written");
                        } else {
                            attach(&fixture, &binding, "b").await;
                        }
                    };
                    meanwhile.now_or_never().expect("nothing waits in memory");
                    is_back.set(true);
                };
                let inner = fixture.mock.clone();
                let then = Mutex::new(Some(then));
                let engine = engine(Interrupted { inner, after: SyncCell::new(after), then });
                let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
                let behind = admin::evict(&admin, &fixture.node.name, forced, |step| {
                    // Calls that began before the eviction make their ports late: there is a port to delete again.
                    if matches!(step, Deleted::Objects(_)) && !is_back.get() {
                        for claim in &before {
                            let made = async { fixture.engine().ensure_port(&port(&binding, &claim.record)).await };
                            made.now_or_never().expect("nothing waits in memory").expect("made");
                        }
                    }
                });
                // Whether it reports that it was behind depends on its state.
                drop(Box::pin(behind).await);
                assert!(is_back.get(), "{context}");
                let names: &[&str] = if is_fenced { &["c-a", "c-c"] } else { &["c-a", "c-b", "c-c"] };
                let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
                let ports = names.len();
                assert_eq!(left(&fixture), (names, ports), "{context}: the pods keep their ports");
                let tombstones = fixture.keys().get("tombstones").copied();
                assert_eq!(tombstones, is_fenced.then_some(1), "{context}: and the node what it wrote down");
                for claim in atoll_ipam::claims_of(&fixture.store, &fixture.node.name).await.expect("listed") {
                    let port = fixture.engine().port(claim.record.port).await.expect("answered");
                    assert!(port.is_some(), "{context}: a claim names the port that is there");
                }
            }
        }
    }
}

/// One eviction that the plan may disturb. None: its process died. True: it succeeded.
async fn disturbed(fixture: &Fixture, plan: &FaultPlan) -> Option<bool> {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(fixture.mock.clone(), plan.clone()));
    let admin = Admin { store: &store, engine: &controller, config: &fixture.config };
    Box::pin(plan.run(evict(&admin, gently()))).await.map(|evicted| evicted.is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_remembered_place_of_an_evicted_node_is_renewed() {
    let (fixture, _) = two_nodes(Dialect::V5).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (cache, engine) = (Cache::new(directory.path(), "/atoll/test"), fixture.engine());
    let resolver: Resolver<'_, _, _> = fixture.resolver(&engine, &cache);
    let binding = resolver.resolve(&namespace("red")).await.expect("resolved");
    evict_here(&fixture, Eviction { force: true, ..gently() }).await.expect("reported");
    let remembered = resolver.resolve(&namespace("red")).await.expect("remembered");
    assert_eq!(remembered.guards(), binding.guards());
    let attachment = Fixture::attachment(&fixture.node, "x");
    let answer = atoll_ipam::claim(&fixture.store, &request(&remembered, &fixture.node, &attachment, false)).await;
    let Ok(Claimed::Stale(current)) = answer else { panic!("{answer:?}") };
    let renewed = resolver.refresh(&namespace("red"), current).await.expect("it may come back");
    assert_eq!(renewed.node.record.epoch, 1);
    attach(&fixture, &renewed, "x").await;
}

/// What cannot be read is no reason to call the rest done, nor to leave the rest undone.
#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_reported_and_the_eviction_does_not_complete() {
    for is_tombstone in [false, true] {
        let (fixture, _) = two_nodes(Dialect::V5).await;
        set_alive(&fixture, false);
        let b = Fixture::attachment(&fixture.node, "b");
        let key = if is_tombstone { Key::from(TombstoneRecord::at(&b)) } else { Key::from(ClaimRecord::at(&b)) };
        put(&fixture, key.clone(), b"{".to_vec()).await;

        let engine = fixture.engine();
        let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
        let seen = admin::candidate(&admin, &fixture.node.name).await.expect("read");
        assert_eq!(seen.damaged, std::slice::from_ref(&key));

        for released in [1, 0] {
            let error = evict_here(&fixture, gently()).await.expect_err("b cannot be read");
            let TenantError::Unreadable { keys, released: reported, .. } = &error else { panic!("{error:?}") };
            assert_eq!((keys.as_slice(), *reported), ([key.to_string()].as_slice(), released), "{error}");
            assert!(error.to_string().contains(key.as_str()), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("evict-node n1")), "{:?}", error.hint());
            assert_eq!(left(&fixture), (vec!["c-b".to_owned(), "c-c".to_owned()], 1), "every port of n1 is gone");
        }
        let seen = admin::candidate(&admin, &fixture.node.name).await.expect("read");
        assert!(seen.record.evicting.is_some(), "the node does not come back before it is done");

        let gone =
            atoll_store::Txn { then: vec![atoll_store::StoreChange::Delete(key)], ..atoll_store::Txn::default() };
        fixture.store.commit(gone).await.expect("works");
        let released = evict_here(&fixture, gently()).await.expect("it can end now");
        assert_eq!(released.len(), usize::from(is_tombstone), "a claim that was behind a damaged tombstone");
    }
}
