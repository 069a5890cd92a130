//! A cluster and the engine that it began with: records name it, every other engine is refused before any effect, and an
//! engine whose hosts have names instead of UUIDs works as any other.

use std::time::Duration;

use atoll_ipam::{Claimed, find, put_tombstone};
use atoll_mock_controller::Dialect;
use atoll_model::error::{Class, Classify as _};
use atoll_model::ids::{HostId, Namespace, TenantName};
use atoll_network::{Engine as _, PodPort, PortLocation, WriterEpoch};
use atoll_records::{ClusterRecord, Key, NodeRecord, SCHEMA, TombstoneKind, TombstoneRecord, Unknown, Versioned};
use atoll_store::{Store as _, StoreChange, Txn};
use atoll_tenant::admin::{self, Admin, Deletion, Edit, Eviction, InitRequest, Initialised, ProviderChoice};
use atoll_tenant::{Cache, Resolver, TenantError};
use atoll_testkit::recorder::Recorder;
use serde_json::Value;
use uuid::Uuid;

use crate::fixture::{Fixture, namespace, node, request};

const WAIT: Duration = Duration::from_secs(105);

/// Changes the cluster's record in etcd.
async fn edit_cluster(fixture: &Fixture, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let key = Key::from(ClusterRecord::at());
    let mut record = json_at(fixture, &key);
    edit(record.as_object_mut().expect("an object"));
    let put = StoreChange::Put { key, value: record.to_string().into_bytes(), lease: None };
    fixture.store.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("memory does not fail");
}

fn json_at(fixture: &Fixture, key: &Key) -> Value {
    let entry = fixture.store.dump().into_iter().find(|entry| entry.key == *key).expect("there");
    serde_json::from_slice(&entry.value).expect("JSON")
}

fn eviction() -> Eviction {
    Eviction { force: true, forget: false, wait: WAIT, cooldown: Duration::ZERO }
}

/// Every verb that calls the engine or reads what it would delete, with its refusal.
async fn refusals(fixture: &Fixture) -> Vec<(&'static str, TenantError)> {
    fn refused<T>(outcome: Result<T, TenantError>) -> TenantError {
        outcome.err().unwrap_or(TenantError::NoTenant)
    }
    let engine = fixture.engine();
    let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
    let (red, new) = ["red", "new"].map(|name| TenantName::new(name).expect("valid")).into();
    let (store, config, n1) = (&fixture.store, &fixture.config, node("n1").name);
    let green = Namespace::new("green").expect("valid");
    let deletion = Deletion { request_lifetime: WAIT, force: true };
    let init = |new_epoch, provider| InitRequest { new_epoch, provider };
    let adopted = || ProviderChoice::Adopted("Edge".to_owned());
    let repair = Box::pin(admin::repair(&admin, &red, Duration::from_secs(45))).await;
    let set = Box::pin(admin::set(&admin, &red, &Edit::default(), WAIT, |_| {})).await;
    let subnet = Box::pin(admin::delete_subnet(&admin, &red, 1, WAIT, |_| {})).await;
    let pruned = admin::prune(&admin, std::slice::from_ref(&red), WAIT).await.remove(0).1;
    vec![
        ("ADD", refused(fixture.resolve(&namespace("red")).await)),
        ("ADD of a new tenant", refused(fixture.resolve(&namespace("blue")).await)),
        ("init", refused(admin::init(store, &engine, config, &init(false, ProviderChoice::Configured)).await)),
        (
            "init --new-epoch",
            refused(admin::init(store, &engine, config, &init(true, ProviderChoice::Configured)).await),
        ),
        ("init --provider-router", refused(admin::init(store, &engine, config, &init(false, adopted())).await)),
        (
            "init --dry-run",
            refused({
                let there = atoll_records::decode(json_at(fixture, &ClusterRecord::at().into()).to_string().as_bytes());
                admin::choose_provider(&engine, config, &ProviderChoice::Configured, there.ok().as_ref()).await
            }),
        ),
        ("tenant create", refused(Box::pin(admin::create(&admin, &new)).await)),
        ("tenant plan", refused(admin::plan(&admin, &red).await)),
        ("tenant repair", refused(repair)),
        ("tenant set", refused(set)),
        ("tenant join", refused(admin::join(&admin, &red, &green, false).await)),
        ("tenant delete", refused(admin::delete(&admin, &red, deletion, |_| {}).await)),
        ("tenant prune", refused(pruned)),
        ("subnet add", refused(Box::pin(admin::add_subnet(&admin, &red, &[], &[])).await)),
        ("subnet add --dry-run", refused(admin::next_subnet(&admin, &red, &[], &[]).await)),
        ("subnet delete", refused(subnet)),
        ("attachment evict-node", refused(Box::pin(admin::evict(&admin, &n1, eviction(), |_| {})).await)),
        ("attachment evict-node --dry-run", refused(admin::candidate(&admin, &n1).await)),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_verb_refuses_a_cluster_of_another_engine_before_any_effect() {
    let fixture = Fixture::new(Dialect::V5);
    let binding = fixture.resolve(&namespace("red")).await.expect("made");
    let attachment = Fixture::attachment(&fixture.node, "a");
    let claim = atoll_ipam::claim(&fixture.store, &request(&binding, &fixture.node, &attachment, false)).await;
    assert!(matches!(claim, Ok(Claimed::New(_))), "{claim:?}");
    edit_cluster(&fixture, |record| drop(record.insert("engine".to_owned(), "ovn".into()))).await;
    let (before, requests) = (fixture.store.dump(), fixture.requests.get());
    for (verb, error) in refusals(&fixture).await {
        let expected = "`engine` is midonet in this node's configuration, but ovn in the cluster";
        assert_eq!((error.to_string().as_str(), error.class()), (expected, Class::Config), "{verb}");
    }
    assert_eq!(fixture.store.dump(), before, "no record changes");
    assert_eq!(fixture.requests.get(), requests, "no request is sent");
}

#[tokio::test]
async fn a_new_cluster_names_its_engine_and_one_that_names_none_is_midonets() {
    for by_init in [true, false] {
        let fixture = Fixture::new(Dialect::V5);
        let engine = fixture.engine();
        let init = async || admin::init(&fixture.store, &engine, &fixture.config, &InitRequest::default()).await;
        if by_init {
            init().await.expect("made");
        } else {
            fixture.resolve(&namespace("red")).await.expect("made");
        }
        assert_eq!(json_at(&fixture, &ClusterRecord::at().into())["engine"], "midonet", "init {by_init}");
        // As a version wrote it that knew one engine.
        edit_cluster(&fixture, |record| drop(record.remove("engine"))).await;
        fixture.resolve(&namespace("red")).await.expect("it is MidoNet's");
        let (initialised, _) = init().await.expect("it is MidoNet's");
        assert!(matches!(&initialised, Initialised::There(record) if record.engine == atoll_midonet::NAME));
        assert_eq!(atoll_records::FIRST_ENGINE, atoll_midonet::NAME);
    }
}

/// Claim, tombstone and eviction of a node whose host id is a name.
#[tokio::test(start_paused = true)]
async fn a_host_id_that_is_a_name_goes_through_every_record() {
    let mut fixture = Fixture::new(Dialect::V5);
    let host = HostId::new("node-1.example").expect("valid");
    fixture.node.host_id = host.clone();
    fixture.config.provider_router = Some(Uuid::from_u128(1));
    let (engine, cache) = (Recorder::default(), Cache::none());
    let resolver = Resolver {
        store: &fixture.store,
        engine: &engine,
        config: &fixture.config,
        node: &fixture.node,
        cache: &cache,
    };
    let binding = resolver.resolve(&namespace("red")).await.expect("made");
    let attachment = Fixture::attachment(&fixture.node, "a");
    let claim = atoll_ipam::claim(&fixture.store, &request(&binding, &fixture.node, &attachment, false)).await;
    let Ok(Claimed::New(Versioned { record: claim, .. })) = claim else { panic!("{claim:?}") };
    assert_eq!((&claim.host_id, claim.engine.as_str()), (&host, "recorder"));
    let location = PortLocation { host: claim.host_id.clone(), interface: claim.host_interface.clone() };
    let port = PodPort {
        id: claim.port,
        claim: claim.claim,
        writer: WriterEpoch { node: attachment.node.clone(), epoch: binding.node.record.writer },
        subnet: binding.network().subnet(claim.addresses[0].ordinal),
        location,
        mac: claim.mac,
        addresses: vec![claim.addresses[0].address.ip()],
        unique: false,
        names: Vec::new(),
    };
    let state = engine.ensure_port(&port).await.expect("made");
    assert_eq!(port.difference(&state), None, "it is at its host");
    let node_record = json_at(&fixture, &NodeRecord::at(&fixture.node.name).into());
    assert_eq!(node_record["host_id"], "node-1.example");
    let tombstone = TombstoneRecord {
        v: SCHEMA,
        kind: TombstoneKind::Delete,
        attachment: attachment.clone(),
        port: Some(claim.port),
        engine: claim.engine.clone(),
        not_before: 0,
        since: 0,
        note: String::new(),
        deletion_sent: true,
        unknown: Unknown::new(),
    };
    put_tombstone(&fixture.store, &tombstone, None).await.expect("written");

    // Another name of the same host is found, and another host under this name is refused.
    let renamed = atoll_tenant::Node { name: node("n2").name, ..fixture.node.clone() };
    let second = Resolver { node: &renamed, ..resolver }.resolve(&namespace("red")).await;
    let second = second.expect_err("a second name").to_string();
    assert_eq!(second, "this machine (host id node-1.example) is registered as node n1, and calls itself n2 now");
    let other = HostId::new("node-2.example").expect("valid");
    let other = atoll_tenant::Node { host_id: other, ..fixture.node.clone() };
    let taken = Resolver { node: &other, ..resolver }.resolve(&namespace("red")).await;
    let taken = taken.expect_err("another host").to_string();
    assert_eq!(taken, "node n1 is registered with host id node-1.example, this machine has node-2.example");

    let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
    let seen = admin::candidate(&admin, &node("n1").name).await.expect("read");
    assert_eq!((seen.claims.len(), seen.tombstones, seen.alive), (1, 1, None));
    let released = Box::pin(admin::evict(&admin, &node("n1").name, eviction(), |_| {})).await.expect("evicted");
    assert_eq!(released, std::slice::from_ref(&claim));
    let found = find(&fixture.store, &attachment).await.expect("read");
    assert!(found.claim.is_none() && found.tombstone.is_none());
    assert!(engine.changes().contains(&format!("delete port {}", claim.port)), "{:?}", engine.changes());
}
