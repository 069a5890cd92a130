//! Who gets into which tenant, once and at once, with and without a cache.

use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::fixture::cluster_config;
use atoll_testkit::transport::FaultyTransport;
use std::os::unix::fs::PermissionsExt as _;

use atoll_ipam::Current;
use atoll_mock_controller::Dialect;
use atoll_model::config::Addressing;
use atoll_model::error::{Class, Classify};

use atoll_model::ids::Epoch;
use atoll_records::{ClusterRecord, Key, Origin, Phase, TenantRecord, encode};

use atoll_store::{Store, StoreChange, Txn};
use atoll_tenant::{Cache, Resolver, TenantError, Who};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, Slow, default_tenant, engine, namespace, node, provider};

pub(crate) async fn put(fixture: &Fixture, key: Key, value: Vec<u8>) {
    let txn = Txn { then: vec![StoreChange::Put { key, value, lease: None }], ..Txn::default() };
    fixture.store.commit(txn).await.expect("memory does not fail");
}

#[tokio::test]
async fn the_first_pod_of_a_namespace_brings_its_tenant_up() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let place = fixture.resolve(&namespace("red")).await.expect("resolved");
        assert_eq!(place.cluster.record.provider_router, provider(), "the only candidate");
        assert_eq!(place.tenant.record.phase, Phase::Active);
        assert_eq!(place.tenant.record.subnets.len(), 1);
        assert_eq!(place.tenant.record.subnets[0].phase, Phase::Active);
        fixture.assert_exactly(&["red"], "one tenant");

        let again = fixture.resolve(&namespace("red")).await.expect("resolved");
        assert_eq!(again.guards(), place.guards(), "nothing is written for a tenant that is there");
        assert_eq!(again.network(), place.network());
    }
}

#[tokio::test]
async fn tenants_share_no_address_unless_configured() {
    let fixture = Fixture::new(Dialect::V5);
    let mut subnets = std::collections::BTreeSet::new();
    let mut transits = std::collections::BTreeSet::new();
    for n in 0..40 {
        let record = fixture.resolve(&namespace(&format!("t{n}"))).await.expect("resolved").tenant.record;
        subnets.insert(record.subnets[0].prefixes[0].cidr);
        transits.insert(record.transit);
    }
    assert_eq!((subnets.len(), transits.len()), (40, 40));

    let mut fixture = Fixture::new(Dialect::V5);
    fixture.config.addressing = Addressing::Overlapping;
    let red = fixture.resolve(&namespace("red")).await.expect("resolved").tenant.record;
    let blue = fixture.resolve(&namespace("blue")).await.expect("resolved").tenant.record;
    assert_eq!(red.subnets[0].prefixes[0].cidr, blue.subnets[0].prefixes[0].cidr);
    assert_eq!(red.subnets[0].prefixes[0].cidr.to_string(), "10.128.0.0/24", "the first of the pool");
    assert_ne!(red.transit, blue.transit, "transit links are unique in any case");
    assert!(!fixture.keys().contains_key("subnets"));
}

#[tokio::test]
async fn a_pool_is_used_to_its_last_part_and_then_reported_as_full() {
    let mut fixture = Fixture::new(Dialect::V5);
    fixture.config.transit_cidr = "100.64.0.0/28".parse().expect("valid");
    for n in 0..4 {
        fixture.resolve(&namespace(&format!("t{n}"))).await.expect("there is room for four");
    }
    let error = fixture.resolve(&namespace("t4")).await.expect_err("and for no more");
    assert_eq!(error.class(), Class::Exhausted);
    assert_eq!(error.to_string(), "no room for tenant t4: all 4 transit links of 100.64.0.0/28 are taken");
    assert_eq!(fixture.keys()["tenants"], 4, "a tenant without a network leaves no record");
}

#[tokio::test]
async fn a_name_alone_opens_no_door() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&default_tenant("red")).await.expect("the default tenant is made");
    assert_eq!(fixture.records("red").1.origin, Origin::Default);
    let error = fixture.resolve(&namespace("red")).await.expect_err("of the same name, but another");
    assert_eq!(error.class().cni_code(), 101);
    assert!(error.hint().expect("a hint").contains("`atollctl tenant join red red`"), "{error}");

    fixture.resolve(&namespace("blue")).await.expect("resolved");
    let error = fixture.resolve(&default_tenant("blue")).await.expect_err("made for namespace blue");
    assert_eq!(error.class().cni_code(), 101);

    let unnamed = Who { namespace: None, default_tenant: None };
    assert_eq!(fixture.resolve(&unnamed).await.expect_err("names nothing").class(), Class::Config);
}

#[tokio::test]
async fn a_namespace_belongs_to_the_tenant_of_its_record() {
    let fixture = Fixture::new(Dialect::V5);
    let red = fixture.resolve(&namespace("red")).await.expect("resolved");
    let record = serde_json::json!({"v": 1, "tenant": "red", "incarnation": red.tenant.record.incarnation});
    put(&fixture, Key::raw("v2/namespaces/green"), record.to_string().into_bytes()).await;
    let green = fixture.resolve(&namespace("green")).await.expect("joined");
    assert_eq!(green.tenant, red.tenant);
    assert_eq!(fixture.keys()["tenants"], 1);

    let other = serde_json::json!({"v": 1, "tenant": "red", "incarnation": Uuid::from_u128(9)});
    put(&fixture, Key::raw("v2/namespaces/green"), other.to_string().into_bytes()).await;
    let error = fixture.resolve(&namespace("green")).await.expect_err("of an earlier incarnation");
    assert!(matches!(error, TenantError::Orphan { .. }), "{error}");
}

#[tokio::test]
async fn a_tenant_that_is_being_deleted_admits_no_pod() {
    let fixture = Fixture::new(Dialect::V5);
    let mut record = fixture.resolve(&namespace("red")).await.expect("resolved").tenant.record;
    record.phase = Phase::Deleting;
    put(&fixture, Key::from(TenantRecord::at(&record.name)), encode(&record)).await;
    let error = fixture.resolve(&namespace("red")).await.expect_err("going");
    assert_eq!(error.class(), Class::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn eight_first_pods_at_once_make_one_tenant() {
    for dialect in DIALECTS {
        for seed in 0..40 {
            println!("dialect {dialect:?}, seed {seed}");
            let fixture = Fixture::new(dialect);
            let (store, cache) = (Slow::new(fixture.store.clone(), seed), Cache::none());
            let controllers: Vec<_> = (0..8).map(|n| engine(Slow::new(fixture.mock.clone(), seed * 8 + n))).collect();
            let who = namespace("red");
            let resolvers = controllers.iter().map(|controller| Resolver {
                store: &store,
                engine: controller,
                config: &fixture.config,
                node: &fixture.node,
                cache: &cache,
            });
            let places = join_all(resolvers.map(|resolver| {
                let who = &who;
                async move { resolver.resolve(who).await }
            }))
            .await;
            let tenants: Vec<_> = places.into_iter().map(|place| place.expect("all get in").tenant).collect();
            assert!(tenants.iter().all(|tenant| tenant.record == tenants[0].record), "one tenant for all");
            let keys: Vec<_> = fixture.keys().into_iter().collect();
            assert_eq!(
                format!("{keys:?}"),
                r#"[("cluster", 1), ("namespaces", 1), ("nodes", 1), ("subnets", 1), ("tenants", 1), ("transit", 1)]"#
            );
            fixture.assert_exactly(&["red"], "eight pods at once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_takes_the_build_lease_of_one_that_died() {
    let fixture = Fixture::new(Dialect::V5);
    let plan = FaultPlan::none();
    // The holder of the build lease dies at its third request; no other process is notified.
    let dying = engine(FaultyTransport::new(fixture.mock.clone(), plan.clone()));
    plan.arm(3, Fault::CrashBefore);
    let cache = Cache::none();
    assert!(plan.run(fixture.resolver(&dying, &cache).resolve(&namespace("red"))).await.is_none(), "it died");
    assert_eq!(fixture.keys()["build-leases"], 1);

    let began = tokio::time::Instant::now();
    let who = namespace("red");
    let controllers: Vec<_> = (0..5).map(|n| engine(Slow::new(fixture.mock.clone(), n))).collect();
    let resolvers: Vec<_> = controllers.iter().map(|controller| fixture.resolver(controller, &cache)).collect();
    for place in join_all(resolvers.iter().map(|resolver| resolver.resolve(&who))).await {
        assert_eq!(place.expect("resolved").tenant.record.phase, Phase::Active);
    }
    let waited = began.elapsed().as_secs();
    assert!((1..=11).contains(&waited), "until the dead one's lease ended, and no longer: {waited} s");
    fixture.assert_exactly(&["red"], "completed by another");
}

#[tokio::test]
async fn a_node_that_disagrees_or_has_anothers_name_is_refused() {
    let mut fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    fixture.config.subnet_prefix = 25;
    let error = fixture.resolve(&namespace("red")).await.expect_err("another file");
    assert_eq!(error.class(), Class::Config);
    assert!(error.to_string().contains("subnetPrefix"), "{error}");

    fixture.config = cluster_config();
    fixture.node.machine_id = "another".to_owned();
    let error = fixture.resolve(&namespace("red")).await.expect_err("another machine");
    assert!(error.to_string().contains("machine-n1") && error.to_string().contains("another"), "{error}");
    // Another name of the same host is refused, in words that have both; another host may have it.
    fixture.node = node("n2");
    let error = fixture.resolve(&namespace("red")).await.expect_err("a second name");
    assert_eq!(error.class(), Class::Config);
    assert!(error.to_string().contains("node n1,") && error.to_string().contains("itself n2"), "{error}");
    fixture.node.host_id = uuid::Uuid::from_u128(8).into();
    fixture.resolve(&namespace("red")).await.expect("another machine with another name is fine");
}

#[tokio::test]
async fn a_remembered_place_costs_nothing_and_a_stale_one_is_renewed() {
    let fixture = Fixture::new(Dialect::V5);
    let directory = tempfile::tempdir().expect("a directory");
    let cache = Cache::new(directory.path(), "/atoll/test");
    assert_eq!(cache.cluster_id(), None);
    let (engine, who) = (fixture.engine(), namespace("red"));
    let first = fixture.resolver(&engine, &cache).resolve(&who).await.expect("resolved");
    assert_eq!(cache.cluster_id(), Some(first.cluster.record.id));
    for entry in walk(directory.path()) {
        assert_eq!(
            std::fs::metadata(&entry).expect("there").permissions().mode() & 0o777,
            0o600,
            "{}",
            entry.display()
        );
    }

    let (requests, revision) = (fixture.requests.get(), fixture.store.dump());
    let again = fixture.resolver(&engine, &cache).resolve(&who).await.expect("remembered");
    assert_eq!(again.guards(), first.guards());
    assert_eq!((fixture.requests.get(), fixture.store.dump()), (requests, revision));

    // The tenant changes from outside: the answer of the lost claim has its present record.
    let mut record = first.tenant.record.clone();
    record.quota.subnets = Some(3);
    put(&fixture, Key::from(TenantRecord::at(&record.name)), encode(&record)).await;
    let now = Fixture::resolve(&fixture, &who).await.expect("without a cache");
    let stale = Current {
        cluster: Some(now.cluster.clone()),
        node: Some(now.node.clone()),
        namespace: None,
        tenant: Some(now.tenant.clone()),
    };
    let renewed = fixture.resolver(&engine, &cache).refresh(&who, stale).await.expect("renewed");
    assert_eq!(renewed.tenant, now.tenant);
    assert_eq!(fixture.resolver(&engine, &cache).resolve(&who).await.expect("remembered").tenant, now.tenant);

    // Another epoch: everything that was remembered under the old one is gone.
    let blue = namespace("blue");
    fixture.resolver(&engine, &cache).resolve(&blue).await.expect("resolved");
    let remembered = walk(directory.path());
    let blue_file = remembered.iter().find(|file| file.ends_with("namespace-blue")).expect("remembered");
    let old = std::fs::read(blue_file).expect("readable");
    let mut cluster = first.cluster.record.clone();
    cluster.epoch = Epoch::random();
    put(&fixture, Key::from(ClusterRecord::at()), encode(&cluster)).await;
    fixture.resolver(&engine, &cache).refresh(&who, Current::default()).await.expect("renewed");
    // A slow process still writes its old entry: it has the old epoch, so it is ignored.
    std::fs::write(blue_file, old).expect("writable");
    let before = fixture.requests.get();
    let place = fixture.resolver(&engine, &cache).resolve(&blue).await.expect("read again");
    assert_eq!(place.cluster.record.epoch, cluster.epoch);
    assert_eq!(fixture.requests.get(), before, "blue is there: nothing to build");

    // A damaged file is as good as none.
    for entry in walk(directory.path()) {
        std::fs::write(&entry, b"{\"cluster\": tru").expect("writable");
    }
    assert_eq!(cache.cluster_id(), None);
    fixture.resolver(&engine, &cache).resolve(&who).await.expect("read again");
}

#[tokio::test]
async fn a_place_whose_bridge_is_gone_is_rebuilt() {
    let fixture = Fixture::new(Dialect::V5);
    let (engine, cache, who) = (fixture.engine(), Cache::none(), namespace("red"));
    let place = fixture.resolve(&who).await.expect("resolved");
    let client = atoll_sdn_client::Client::new(fixture.mock.clone(), atoll_sdn_client::ClientSettings::default());
    client.delete(atoll_sdn_client::Resource::Bridge, place.network().subnet(1).object()).await.expect("deleted");
    fixture.resolver(&engine, &cache).rebuild(&who).await.expect("rebuilt");
    fixture.assert_exactly(&["red"], "rebuilt");
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() { files.extend(walk(&entry)) } else { files.push(entry) }
    }
    files
}
