//! A controller that runs for long spawns the verbs on a runtime with several threads: their futures are `Send`.

use std::time::Duration;

use atoll_ipam::{
    ReserveRequest, audit, claim, claims_of, find, lift, observe, put_tombstone, records_of, release, release_beside,
    remove_tombstone, renew, repair, reservations, reserve, reserved_for, tombstones_of,
};
use atoll_model::ids::PodName;
use atoll_records::{FIRST_ENGINE, Phase, SCHEMA, TombstoneKind, TombstoneRecord, Unknown};
use atoll_store::Store;
use atoll_testkit::fixture::{Fixture, attachment, node_name, subnet, tenant_name};
use atoll_testkit::send::sent;
use uuid::Uuid;

suite![the_futures_of_the_verbs_are_send];

async fn the_futures_of_the_verbs_are_send(store: impl Store) {
    let store = &store;
    let fixture = Fixture::new(store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let (node, cooldown) = (node_name(), Duration::from_secs(1));

    let request = ReserveRequest {
        tenant: tenant_name(),
        address: [10, 128, 0, 9].into(),
        namespace: fixture.namespace.clone(),
        pod: PodName::new("web-0").expect("valid"),
        mac: None,
    };
    sent(reserve(store, &request, false)).await.expect("reserved");
    let reserved = sent(reserved_for(store, &fixture.namespace, &request.pod)).await.expect("read");
    assert_eq!(reserved.map(|reserved| reserved.record.address), Some(request.address));
    for reservation in sent(reservations(store, None)).await.expect("listed") {
        sent(lift(store, &reservation.record, false)).await.expect("lifted");
    }

    let (first, second) = (attachment("a"), attachment("b"));
    sent(claim(store, &fixture.request(&first, None))).await.expect("claimed");
    sent(claim(store, &fixture.request(&second, None))).await.expect("claimed");
    let claims = sent(claims_of(store, &node)).await.expect("listed");
    let renewed = sent(renew(store, &claims[0], fixture.guards.node, Uuid::from_u128(9), 0)).await.expect("an answer");
    sent(release(store, &renewed.expect("renewed"), None, cooldown)).await.expect("released");
    sent(release_beside(store, &claims[1], None, cooldown, None)).await.expect("released");

    let tombstone = TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment: first.clone(),
        port: None,
        not_before: 0,
        since: 1,
        note: "a test".to_owned(),
        deletion_sent: false,
        unknown: Unknown::new(),
    };
    sent(put_tombstone(store, &tombstone, None)).await.expect("written");
    let seen = sent(find(store, &first)).await.expect("found").tombstone.expect("a tombstone").mod_revision;
    assert_eq!(sent(tombstones_of(store, &node, 9)).await.expect("listed").len(), 1);
    assert!(sent(remove_tombstone(store, &first, seen)).await.expect("removed"));
    assert_eq!(sent(records_of(store, &node)).await.expect("read").claims, []);

    let findings = audit(&sent(observe(store)).await.expect("observed"));
    sent(repair(store, &findings, findings.clone(), cooldown)).await.expect("repaired");
}
