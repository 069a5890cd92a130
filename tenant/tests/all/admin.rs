//! What operators do.

use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use atoll_testkit::transport::FaultyTransport;
use std::time::Duration;

use atoll_ipam::{ClaimRequest, Claimed, ReserveRequest, reservations, reserve};
use atoll_mock_controller::Dialect;
use atoll_model::attachment::Mac;
use atoll_model::error::Classify;

use atoll_model::ids::{Namespace, TenantName};
use atoll_model::topology::Topology;
use atoll_sdn_client::Resource;

use crate::fixture::graph;
use atoll_network::Engine;
use atoll_records::{ClaimRecord, Key, Origin, Phase, TenantRecord};
use atoll_sdn_client::{Client, ClientSettings};
use atoll_store::{Store, StoreChange, Txn};
use atoll_tenant::admin::{self, Admin, Deleted, Deletion};
use atoll_tenant::inventory::Inventory;
use atoll_tenant::{TenantBinding, TenantError};
use futures_util::future::join;

use crate::fixture::{DIALECTS, Fixture, engine, namespace, request};

const REQUEST_LIFETIME: Duration = Duration::from_secs(45);

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).expect("valid")
}

fn ns(name: &str) -> Namespace {
    Namespace::new(name).expect("valid")
}

fn admin<'a, E: Engine>(fixture: &'a Fixture, controller: &'a E) -> Admin<'a, MemoryStore, E> {
    Admin { store: &fixture.store, engine: controller, config: &fixture.config }
}

fn gently() -> Deletion {
    Deletion { request_lifetime: REQUEST_LIFETIME, force: false }
}

/// A pod with an address in `place`.
async fn pod(fixture: &Fixture, binding: &TenantBinding, name: &str) -> Result<Claimed, atoll_ipam::IpamError> {
    let attachment = Fixture::attachment(&fixture.node, name);
    atoll_ipam::claim(
        &fixture.store,
        &ClaimRequest { pod: Some(name), ..request(binding, &fixture.node, &attachment, false) },
    )
    .await
}

/// Keeps an address of red's first subnet, with a MAC, for a pod of that name.
async fn keep(fixture: &Fixture, last: u8) {
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    let address = binding.tenant.record.subnets[0].prefixes[0].cidr.iter().nth(last.into()).expect("large");
    let request = ReserveRequest {
        tenant: tenant("red"),
        address,
        namespace: ns("red"),
        pod: format!("pod-{last}").parse().expect("valid"),
        mac: Some(Mac([0, 0x1c, 0x42, 0, 0, last])),
    };
    reserve(&fixture.store, &request, false).await.expect("reserved");
}

#[tokio::test]
async fn an_inventory_shows_everything_and_a_damaged_record_hides_nothing() {
    let fixture = Fixture::new(Dialect::V5);
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    let Claimed::New(claim) = pod(&fixture, &binding, "web-0").await.expect("claimed") else { panic!("it is new") };
    fixture.resolve(&namespace("blue")).await.expect("resolved");
    for (key, value) in [("v2/tenants/broken", "{\"v\": 1}"), ("v2/claims/n1/x/y/eth0", "not JSON")] {
        let change = StoreChange::Put { key: Key::raw(key), value: value.into(), lease: None };
        fixture.store.commit(Txn { then: vec![change], ..Txn::default() }).await.expect("memory does not fail");
    }
    let inventory = Inventory::read(&fixture.store).await.expect("read");
    let names: Vec<_> = inventory.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["blue", "red"]);
    assert_eq!(inventory.damaged, ["v2/tenants/broken", "v2/claims/n1/x/y/eth0"]);
    let red = &inventory.tenants[1];
    assert_eq!((red.router, red.subnets[0].bridge), (binding.network().router(), binding.network().subnet(1).object()));
    assert_eq!(red.namespaces, [ns("red")]);
    let pods: Vec<_> = inventory.pods().map(|pod| (pod.pod.as_deref(), pod.address, pod.port)).collect();
    assert_eq!(pods, [(Some("web-0"), claim.record.addresses[0].address, claim.record.port)]);
    assert_eq!((inventory.nodes.len(), inventory.nodes[0].pods), (1, 1));
    assert!(inventory.orphaned.is_empty());
}

#[tokio::test]
async fn a_plan_lists_what_a_repair_does() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let (engine, red) = (fixture.engine(), tenant("red"));
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let admin = admin(&fixture, &engine);
        assert_eq!(admin::plan(&admin, &red).await.expect("planned"), []);

        let (cluster, record) = fixture.records("red");
        let graph = graph(&cluster, &record);
        let bridge = *graph.objects.bridges.keys().next().expect("one");
        Client::new(fixture.mock.clone(), ClientSettings::default())
            .delete(Resource::Bridge, bridge)
            .await
            .expect("deleted");
        let plan = admin::plan(&admin, &red).await.expect("planned");
        let steps: Vec<_> = plan.iter().map(|step| format!("{} {} {}", step.action, step.kind, step.role)).collect();
        for expected in ["create bridge bridge/1", "create port bridge-port/1", "create link gateway-port/1"] {
            assert!(steps.contains(&expected.to_owned()), "{dialect:?}: {expected} is in {steps:?}");
        }
        assert_eq!(steps.len(), 3, "{dialect:?}: {steps:?}");
        admin::repair(&admin, &red, Duration::from_secs(45)).await.expect("repaired");
        assert_eq!(admin::plan(&admin, &red).await.expect("planned"), []);
    }
}

#[tokio::test]
async fn an_operators_tenant_lets_in_whom_he_names() {
    let fixture = Fixture::new(Dialect::V5);
    let (engine, lab) = (fixture.engine(), tenant("lab"));
    let admin = admin(&fixture, &engine);
    let record = admin::create(&admin, &lab).await.expect("created").record;
    assert_eq!((record.origin, record.phase), (Origin::Operator, Phase::Active));
    assert!(matches!(admin::create(&admin, &lab).await, Err(TenantError::Exists { .. })));
    assert_eq!(fixture.resolve(&namespace("lab")).await.expect_err("a name alone").class().cni_code(), 101);

    for name in ["lab", "east", "west"] {
        assert!(admin::join(&admin, &lab, &ns(name), false).await.expect("joined").changed);
        assert!(!admin::join(&admin, &lab, &ns(name), false).await.expect("again").changed);
        let binding = fixture.resolve(&namespace(name)).await.expect("in");
        assert_eq!(binding.tenant.record.incarnation, record.incarnation);
    }
    let moved = admin::leave(&admin, &lab, &ns("east"), false).await.expect("out");
    assert_eq!((moved.changed, moved.before), (true, Some(lab.clone())));
    let binding = fixture.resolve(&namespace("east")).await.expect("on its own");
    assert_eq!(binding.tenant.record.name, tenant("east"));
    let error = admin::leave(&admin, &lab, &ns("east"), false).await.expect_err("elsewhere now");
    assert!(matches!(error, TenantError::Elsewhere { .. }), "{error}");
}

#[tokio::test]
async fn a_namespace_with_pods_moves_only_on_request_and_the_pods_are_named() {
    let fixture = Fixture::new(Dialect::V5);
    let engine = fixture.engine();
    let admin = admin(&fixture, &engine);
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    pod(&fixture, &binding, "web-0").await.expect("claimed");
    admin::create(&admin, &tenant("lab")).await.expect("created");

    let error = admin::join(&admin, &tenant("lab"), &ns("red"), false).await.expect_err("it has a pod");
    assert!(error.to_string().contains("red/web-0 on n1"), "{error}");
    let moved = admin::join(&admin, &tenant("lab"), &ns("red"), true).await.expect("reported");
    assert_eq!(moved.left_behind.len(), 1);
    // The pod's cached binding from before the move is out of date.
    assert!(matches!(pod(&fixture, &binding, "web-1").await.expect("answered"), Claimed::Stale(_)));
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    assert_eq!(binding.tenant.record.name, tenant("lab"));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_pods_is_not_deleted_and_goes_on_living() {
    let fixture = Fixture::new(Dialect::V5);
    let (engine, red) = (fixture.engine(), tenant("red"));
    let admin = admin(&fixture, &engine);
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    pod(&fixture, &binding, "web-0").await.expect("claimed");
    let error = admin::delete(&admin, &red, gently(), |_| {}).await.expect_err("it has a pod");
    assert_eq!(error.to_string(), "tenant red has 1 pod: red/web-0 on n1");
    fixture.assert_exactly(&["red"], "untouched");
    let binding = fixture.resolve(&namespace("red")).await.expect("as before");
    assert_eq!(binding.tenant.record.phase, Phase::Active);
    pod(&fixture, &binding, "web-1").await.expect("claimed");

    let forced = Deletion { request_lifetime: REQUEST_LIFETIME, force: true };
    admin::delete(&admin, &red, forced, |_| {}).await.expect("reported");
    assert_eq!(fixture.made(), Topology::default());
    assert_eq!(format!("{:?}", fixture.keys()), r#"{"cluster": 1, "nodes": 1}"#);
}

#[tokio::test(start_paused = true)]
async fn deleting_leaves_nothing_and_a_recreated_tenant_is_another() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let (engine, red) = (fixture.engine(), tenant("red"));
        let admin = admin(&fixture, &engine);
        let first = fixture.resolve(&namespace("red")).await.expect("resolved");
        fixture.resolve(&namespace("blue")).await.expect("resolved");
        let mut steps = Vec::new();
        let began = tokio::time::Instant::now();
        admin::delete(&admin, &red, gently(), |step| steps.push(step)).await.expect("deleted");
        assert!(began.elapsed() >= REQUEST_LIFETIME, "the maximum request lifetime passed");
        assert_eq!((steps.first(), steps.last()), (Some(&Deleted::Closed), Some(&Deleted::All)));
        fixture.assert_exactly(&["blue"], "red is gone, blue is not");
        assert!(matches!(admin::delete(&admin, &red, gently(), |_| {}).await, Err(TenantError::Unknown { .. })));

        let second = fixture.resolve(&namespace("red")).await.expect("recreated");
        assert_ne!(first.tenant.record.incarnation, second.tenant.record.incarnation);
        assert_ne!(first.network().subnet(1), second.network().subnet(1));
        fixture.assert_exactly(&["red", "blue"], "recreated");
    }
}

#[tokio::test(start_paused = true)]
async fn subnets_come_and_go_and_their_numbers_never_come_back() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let (engine, red) = (fixture.engine(), tenant("red"));
        let admin = admin(&fixture, &engine);
        let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
        pod(&fixture, &binding, "web-0").await.expect("claimed");

        let second = admin::add_subnet(&admin, &red, &[], &[]).await.expect("added");
        assert_eq!((second.ordinal, second.phase), (2, Phase::Active));
        let third =
            admin::add_subnet(&admin, &red, &["10.130.0.0/23".parse().expect("valid")], &[]).await.expect("added");
        assert_eq!(third.prefixes[0].gateway.to_string(), "10.130.0.1");
        assert_eq!(fixture.keys()["subnets"], 4, "the third takes two parts of the pool");
        fixture.assert_exactly(&["red"], "three subnets");
        let error = admin::add_subnet(&admin, &red, &["10.130.1.0/24".parse().expect("valid")], &[]).await;
        assert!(error.expect_err("taken").to_string().contains("overlaps"));

        let delete = |ordinal| admin::delete_subnet(&admin, &red, ordinal, REQUEST_LIFETIME, |_| {});
        let error = delete(1).await.expect_err("it has a pod");
        assert!(error.to_string().contains("red/web-0 on n1"), "{error}");
        fixture.resolve(&namespace("red")).await.expect("the next call reads the records");
        fixture.assert_exactly(&["red"], "untouched");
        delete(3).await.expect("deleted");
        delete(2).await.expect("deleted");
        assert!(matches!(delete(2).await, Err(TenantError::NoSubnet { .. })));
        assert!(matches!(delete(1).await, Err(TenantError::OnlySubnet { .. })));
        assert_eq!(fixture.keys()["subnets"], 1, "what they had is free");
        fixture.assert_exactly(&["red"], "one subnet again");
        let fourth = admin::add_subnet(&admin, &red, &[], &[]).await.expect("added");
        assert_eq!(fourth.ordinal, 4);
        admin::delete(&admin, &red, Deletion { request_lifetime: REQUEST_LIFETIME, force: true }, |_| {})
            .await
            .expect("deleted");
        assert_eq!(format!("{:?}", fixture.keys()), r#"{"cluster": 1, "nodes": 1}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subnet_of_another_tenant_is_not_added() {
    let fixture = Fixture::new(Dialect::V5);
    let engine = fixture.engine();
    let admin = admin(&fixture, &engine);
    for name in ["red", "blue"] {
        fixture.resolve(&namespace(name)).await.expect("resolved");
    }
    let add = async |name: &str, cidr: &str| {
        admin::add_subnet(&admin, &tenant(name), &[cidr.parse().expect("valid")], &[]).await
    };
    add("red", "10.130.0.0/23").await.expect("free");
    let error = add("blue", "10.130.1.0/24").await.expect_err("red has it");
    assert!(error.to_string().contains("overlaps 10.130.1.0/24"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_subnet_with_a_reservation_stays_and_a_tenant_goes_with_all_of_them() {
    let fixture = Fixture::new(Dialect::V5);
    let (engine, red) = (fixture.engine(), tenant("red"));
    let admin = admin(&fixture, &engine);
    keep(&fixture, 77).await;
    let exclude = ["10.130.0.2-10.130.0.9".parse().expect("a range")];
    let cidr = "10.130.0.0/24".parse().expect("valid");
    let second = admin::add_subnet(&admin, &red, &[cidr], &exclude).await.expect("added");
    assert_eq!(second.exclude, exclude);
    let error =
        admin::delete_subnet(&admin, &red, 1, REQUEST_LIFETIME, |_| {}).await.expect_err("it has a reservation");
    let binding = fixture.resolve(&namespace("red")).await.expect("the next call reads the records");
    let address = binding.tenant.record.subnets[0].prefixes[0].cidr.iter().nth(77).expect("large");
    let text = format!("subnet 1 of tenant red has reserved addresses: {address} for red/pod-77");
    assert_eq!(error.to_string(), text);
    assert_eq!(binding.tenant.record.subnets[0].phase, Phase::Active);
    keep(&fixture, 78).await;
    let pod_78 = pod(&fixture, &binding, "pod-78").await.expect("claimed");
    assert!(matches!(pod_78, Claimed::New(claim) if claim.record.mac == Mac([0, 0x1c, 0x42, 0, 0, 78])));
    let forced = Deletion { request_lifetime: REQUEST_LIFETIME, force: true };
    admin::delete(&admin, &red, forced, |_| {}).await.expect("deleted");
    assert_eq!(reservations(&fixture.store, None).await.expect("a list").len(), 0);
    assert_eq!(format!("{:?}", fixture.keys()), r#"{"cluster": 1, "nodes": 1}"#);
}

#[tokio::test(start_paused = true)]
async fn late_requests_of_a_dead_build_are_deleted_after_the_request_lifetime() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let engine = fixture.engine();
        let admin = admin(&fixture, &engine);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, record) = fixture.records("red");
        let late = async {
            tokio::time::sleep(REQUEST_LIFETIME / 2).await;
            assert_eq!(fixture.made(), Topology::default(), "everything is gone by now");
            fixture
                .engine()
                .ensure_network(&graph(&cluster, &record).network)
                .await
                .expect("the controller knows no fencing");
        };
        let red = tenant("red");
        let (deleted, ()) = join(admin::delete(&admin, &red, gently(), |_| {}), late).await;
        deleted.expect("deleted");
        assert_eq!(fixture.made(), Topology::default(), "{dialect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn late_requests_of_a_dead_build_for_a_subnet_are_deleted_after_the_request_lifetime() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let (engine, red) = (fixture.engine(), tenant("red"));
        let admin = admin(&fixture, &engine);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        admin::add_subnet(&admin, &red, &[], &[]).await.expect("added");
        let (cluster, record) = fixture.records("red");
        let (whole, without) = (fixture.made(), graph(&cluster, &tenant_without(&record, 2)));
        let late = async {
            tokio::time::sleep(REQUEST_LIFETIME / 2).await;
            assert_eq!(fixture.made().bridges.len(), without.objects.bridges.len(), "the subnet is gone by now");
            fixture
                .engine()
                .ensure_network(&graph(&cluster, &record).network)
                .await
                .expect("the controller knows no fencing");
            assert_eq!(fixture.made().bridges, whole.bridges, "and there again");
        };
        let (deleted, ()) = join(admin::delete_subnet(&admin, &red, 2, REQUEST_LIFETIME, |_| {}), late).await;
        deleted.expect("deleted");
        fixture.assert_exactly(&["red"], &format!("{dialect:?}: one subnet"));
    }
}

fn tenant_without(record: &TenantRecord, ordinal: u32) -> TenantRecord {
    let mut record = record.clone();
    record.subnets.retain(|subnet| subnet.ordinal != ordinal);
    record
}

#[tokio::test(start_paused = true)]
async fn an_address_whose_claim_cannot_be_read_is_a_pods() {
    let fixture = Fixture::new(Dialect::V5);
    let (engine, red) = (fixture.engine(), tenant("red"));
    let admin = admin(&fixture, &engine);
    let binding = fixture.resolve(&namespace("red")).await.expect("resolved");
    let Claimed::New(claim) = pod(&fixture, &binding, "web-0").await.expect("claimed") else { panic!("it is new") };
    let key = Key::from(ClaimRecord::at(&claim.record.attachment));
    let damaged = vec![StoreChange::Put { key: key.clone(), value: b"{".to_vec(), lease: None }];
    fixture.store.commit(Txn { then: damaged, ..Txn::default() }).await.expect("memory does not fail");
    admin::add_subnet(&admin, &red, &[], &[]).await.expect("added");

    let address = claim.record.addresses[0].address.ip();
    let text = format!(
        "tenant red has 1 pod: {address} of attachment {}, whose claim cannot be read",
        claim.record.attachment
    );
    let error = admin::delete(&admin, &red, gently(), |_| {}).await.expect_err("a pod may run");
    assert_eq!(error.to_string(), text);
    let error = admin::delete_subnet(&admin, &red, 1, REQUEST_LIFETIME, |_| {}).await.expect_err("a pod may run");
    assert_eq!(error.to_string(), text);
    fixture.resolve(&namespace("red")).await.expect("the next call reads the records");
    fixture.assert_exactly(&["red"], "untouched");

    let forced = Deletion { request_lifetime: REQUEST_LIFETIME, force: true };
    admin::delete(&admin, &red, forced, |_| {}).await.expect("reported");
    assert_eq!(fixture.made(), Topology::default());
    // An unreadable record is never overwritten, and its address is not assigned.
    assert_eq!(format!("{:?}", fixture.keys()), r#"{"claims": 1, "cluster": 1, "nodes": 1}"#);
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_a_subnets_deletion_is_completed_by_the_next() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (fixture, plan) = (with_two_subnets(dialect).await, FaultPlan::none());
            assert!(Box::pin(without_second(&fixture, &plan)).await, "nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (fixture, plan) = (with_two_subnets(dialect).await, FaultPlan::none());
                plan.arm(at, fault);
                Box::pin(without_second(&fixture, &plan)).await;
                plan.reset();
                points += 1;
                // A pod comes by, and gets no address of a subnet that is going.
                fixture.resolve(&namespace("red")).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                let engine = fixture.engine();
                match admin::delete_subnet(&admin(&fixture, &engine), &tenant("red"), 2, REQUEST_LIFETIME, |_| {}).await
                {
                    Ok(()) | Err(TenantError::NoSubnet { .. }) => {}
                    Err(error) => panic!("{context}: {error}"),
                }
                plan.deliver_late().await;
                fixture.assert_exactly(&["red"], &context);
                assert_eq!(fixture.keys()["subnets"], 1, "{context}");
            }
        }
    }
    println!("subnet deletion: {points} points covered");
}

async fn with_two_subnets(dialect: Dialect) -> Fixture {
    let fixture = Fixture::new(dialect);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    let engine = fixture.engine();
    admin::add_subnet(&admin(&fixture, &engine), &tenant("red"), &[], &[]).await.expect("added");
    fixture
}

/// Deletes the second subnet while the plan may disturb it. False: its process died.
async fn without_second(fixture: &Fixture, plan: &FaultPlan) -> bool {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(fixture.mock.clone(), plan.clone()));
    let admin = Admin { store: &store, engine: &controller, config: &fixture.config };
    // The error of a disturbed deletion is what the next one has to make good.
    let delete = async { drop(admin::delete_subnet(&admin, &tenant("red"), 2, REQUEST_LIFETIME, |_| {}).await) };
    plan.run(delete).await.is_some()
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_a_deletion_is_completed_by_the_next() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (fixture, plan) = (Fixture::new(dialect), FaultPlan::none());
            keep(&fixture, 77).await;
            assert!(Box::pin(disturbed(&fixture, &plan)).await, "nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (fixture, plan) = (Fixture::new(dialect), FaultPlan::none());
                keep(&fixture, 77).await;
                plan.arm(at, fault);
                Box::pin(disturbed(&fixture, &plan)).await;
                plan.reset();
                points += 1;
                let engine = fixture.engine();
                match admin::delete(&admin(&fixture, &engine), &tenant("red"), gently(), |_| {}).await {
                    Ok(()) | Err(TenantError::Unknown { .. }) => {}
                    Err(error) => panic!("{context}: {error}"),
                }
                plan.deliver_late().await;
                assert_eq!(fixture.made(), Topology::default(), "{context}");
                assert_eq!(format!("{:?}", fixture.keys()), r#"{"cluster": 1, "nodes": 1}"#, "{context}");
            }
        }
    }
    println!("tenant deletion: {points} points covered");
}

async fn disturbed(fixture: &Fixture, plan: &FaultPlan) -> bool {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(fixture.mock.clone(), plan.clone()));
    let admin = Admin { store: &store, engine: &controller, config: &fixture.config };
    plan.run(delete_red(&admin)).await.is_some()
}

async fn delete_red<S: Store, E: Engine>(admin: &Admin<'_, S, E>) {
    // The error of a disturbed deletion is what the next one has to make good.
    drop(admin::delete(admin, &tenant("red"), gently(), |_| {}).await);
}
