//! Events while a tenant is created: a change of its record, the expiry of the build lease, an object of another owner
//! in the place of one that is created again.

use atoll_testkit::controller::InProcess;
use atoll_testkit::store::MemoryStore;
use std::sync::Mutex;
use std::time::Duration;

use crate::fixture::graph;
use atoll_mock_controller::Dialect;
use atoll_model::ids::{Incarnation, TenantName};
use atoll_model::sync::locked;
use atoll_network::{Engine, EngineFailure};
use atoll_records::{BuildLeaseRecord, Entry, Key, Lease, Phase, TenantRecord, encode};
use atoll_sdn_client::Resource;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_sdn_client::{Client, ClientSettings, api};
use atoll_store::{Store, StoreChange, Txn};
use atoll_tenant::admin::{self, Admin};
use atoll_tenant::{Cache, TenantError};
use futures_util::future::{BoxFuture, join};
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, engine, namespace, provider};

/// A controller in front of which an event happens once: right before or after the first matching request.
struct Before<'a> {
    inner: InProcess,
    meant: fn(&ApiRequest) -> bool,
    /// It happens when the request was carried out, else before it.
    after: bool,
    happens: Mutex<Option<BoxFuture<'a, ()>>>,
}

impl<'a> Before<'a> {
    /// Right before the first object is created.
    fn creation(fixture: &Fixture, happens: impl Future<Output = ()> + Send + 'a) -> Self {
        let happens = Mutex::new(Some(Box::pin(happens) as BoxFuture<'a, ()>));
        Self { inner: fixture.mock.clone(), meant: creates, after: false, happens }
    }

    async fn happen(&self) {
        let happens = locked(&self.happens).take();
        if let Some(happens) = happens {
            happens.await;
        }
    }
}

impl Transport for Before<'_> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        let meant = (self.meant)(&request);
        if meant && !self.after {
            self.happen().await;
        }
        let response = self.inner.send(request).await;
        if meant && self.after {
            self.happen().await;
        }
        response
    }
}

fn red() -> TenantName {
    TenantName::new("red").expect("valid")
}

async fn write(store: &MemoryStore, change: StoreChange) {
    store.commit(Txn { then: vec![change], ..Txn::default() }).await.expect("memory does not fail");
}

fn build_lease(store: &MemoryStore) -> Option<Entry> {
    store.dump().into_iter().find(|entry| entry.key == Key::from(BuildLeaseRecord::at(&red())))
}

fn creates(request: &ApiRequest) -> bool {
    request.method.as_str() == "POST"
}

#[tokio::test(start_paused = true)]
async fn a_record_that_changes_while_its_tenant_is_built_is_kept_and_built_again() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        // A third party adds a subnet while the second is being built.
        let change = async {
            let mut record = fixture.records("red").1;
            let mut third = record.subnets[0].clone();
            (third.ordinal, third.phase) = (7, Phase::Building);
            third.prefixes[0].cidr = "10.250.0.0/24".parse().expect("valid");
            third.prefixes[0].gateway = [10, 250, 0, 1].into();
            record.subnets.push(third);
            record.quota.subnets = Some(9);
            write(
                &fixture.store,
                StoreChange::Put { key: Key::from(TenantRecord::at(&red())), value: encode(&record), lease: None },
            )
            .await;
        };
        let transport = Before::creation(&fixture, change);
        let engine = engine(transport);
        let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
        admin::add_subnet(&admin, &red(), &[], &[]).await.expect("added");
        let record = fixture.records("red").1;
        assert_eq!(record.quota.subnets, Some(9), "{dialect:?}: what was written meanwhile is kept");
        let ordinals: Vec<_> = record.subnets.iter().map(|subnet| (subnet.ordinal, subnet.phase)).collect();
        assert_eq!(ordinals, [(1, Phase::Active), (2, Phase::Active), (7, Phase::Active)], "{dialect:?}");
        fixture.assert_exactly(&["red"], "and built");
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_build_lease_expired_acquires_it_again() {
    let fixture = Fixture::new(Dialect::V5);
    // The controller does not answer for a minute.
    let transport = Before::creation(&fixture, tokio::time::sleep(Duration::from_mins(1)));
    let (engine, cache, who) = (engine(transport), Cache::none(), namespace("red"));
    let resolver = fixture.resolver(&engine, &cache);
    let watched = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = build_lease(&fixture.store).expect("it holds the lease");
        let lease: Lease = first.lease.expect("on a lease");
        // The holder keeps the build lease alive for longer than its time to live.
        tokio::time::sleep(Duration::from_secs(20)).await;
        let still = build_lease(&fixture.store).expect("it still holds the lease");
        assert_eq!(still.value, first.value);
        fixture.store.revoke(lease).await.expect("memory does not fail");
        tokio::time::sleep(Duration::from_secs(4)).await;
        if fixture.records("red").1.phase == Phase::Building {
            let second = build_lease(&fixture.store).expect("it acquired it again");
            assert_ne!(second.value, first.value, "another turn");
        }
    };
    let began = tokio::time::Instant::now();
    let (place, ()) = join(resolver.resolve(&who), watched).await;
    assert_eq!(place.expect("resolved").tenant.record.phase, Phase::Active);
    assert!(began.elapsed() < Duration::from_mins(1), "the request of the first turn was given up");
    assert!(build_lease(&fixture.store).is_none(), "the lease is released");
    fixture.assert_exactly(&["red"], "built in the second turn");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_failed_is_given_back_at_once() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&namespace("blue")).await.expect("resolved");
    // The provider router is gone: nothing can be linked to it.
    let client = Client::new(fixture.mock.clone(), ClientSettings::default());
    client.delete(Resource::Router, provider()).await.expect("deleted");
    fixture.resolve(&namespace("red")).await.expect_err("it cannot be built");
    assert_eq!(fixture.records("red").1.phase, Phase::Building);
    assert!(build_lease(&fixture.store).is_none(), "the next call need not wait");
}

#[tokio::test(start_paused = true)]
async fn a_build_does_not_change_a_later_incarnation_of_its_tenant() {
    let fixture = Fixture::new(Dialect::V5);
    let recreated = async {
        let mut record = fixture.records("red").1;
        record.incarnation = Incarnation::random();
        write(
            &fixture.store,
            StoreChange::Put { key: Key::from(TenantRecord::at(&red())), value: encode(&record), lease: None },
        )
        .await;
    };
    let transport = Before::creation(&fixture, recreated);
    let (engine, cache) = (engine(transport), Cache::none());
    let error = fixture.resolver(&engine, &cache).resolve(&namespace("red")).await.expect_err("another tenant by now");
    assert!(matches!(error, TenantError::Deleting { .. }), "{error}");
    assert_eq!(fixture.records("red").1.phase, Phase::Building, "this build must not activate it");
}

#[tokio::test(start_paused = true)]
async fn a_port_is_reported_if_a_foreign_one_is_created_before_it_is_created_again() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, record) = fixture.records("red");
        let graph = graph(&cluster, &record);
        let client = Client::new(fixture.mock.clone(), ClientSettings::default());
        let on_router = |id: &Uuid| graph.objects.routers.contains_key(&graph.objects.ports[id].device.id());
        let id = *graph.objects.ports.keys().find(|id| on_router(id)).expect("a router's port");
        // The port has another address: it is deleted and made again.
        let mut found: api::Port = client.get(id).await.expect("answered").expect("there");
        client.delete(Resource::Port, id).await.expect("deleted");
        (found.network_address, found.port_address) = (Some("192.0.2.0".to_owned()), Some("192.0.2.9".to_owned()));
        found.peer_id = None;
        client.create(&found).await.expect("created");
        let router = api::Router {
            id: Some(Uuid::new_v4()),
            tenant_id: Some("another-owner".to_owned()),
            name: Some("theirs".to_owned()),
            ..api::Router::default()
        };
        client.create(&router).await.expect("created");
        let theirs = api::Port { device_id: router.id, ..found };
        let come = async {
            let _ = client.create(&theirs).await.expect("created");
        };
        let transport = Before {
            inner: fixture.mock.clone(),
            meant: |request| request.method.as_str() == "DELETE",
            after: true,
            happens: Mutex::new(Some(Box::pin(come))),
        };
        let error = engine(transport).ensure_network(&graph.network).await.expect_err("not ours");
        assert_eq!(error.failure, EngineFailure::Conflict, "{dialect:?}: {error}");
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        let there: api::Port = client.get(id).await.expect("answered").expect("there");
        assert_eq!(there.device_id, router.id, "{dialect:?}: it stays");
    }
}
