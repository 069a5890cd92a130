//! Every comparison of every transaction decides alone once: the record that it names changes between the read and the
//! transaction, and no other does. The caller's result must be correct, and records of others must stay.

mod renew;

use atoll_testkit::cell::{SyncCell, SyncRefCell};
use atoll_testkit::store::{Deciding, InterceptedStore, Interception, MemoryStore, StoreCall};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_ipam::audit::{RepairOutcome, audit, observe, repair};
use atoll_ipam::{
    ClaimRequest, Claimed, Found, IpamError, Lifted, Released, ReserveRequest, Reserved, claim, find, lift,
    put_tombstone, release, reserve,
};
use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{ClaimId, ContainerId, IfName};
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, CoolDown, FIRST_ENGINE, IdleRecord, Key, Lease, MacOwner, MacRecord,
    NodeRecord, Phase, Query, ReleasedRecord, ReservationRecord, SCHEMA, TenantRecord, TombstoneKind, TombstoneRecord,
    Unknown, Versioned,
};
use atoll_store::{Store, StoreChange};
use atoll_testkit::fixture::{Fixture, address, attachment, keys, put, subnet, tenant_name, write};

const COOL_DOWN: Duration = Duration::from_mins(1);
const MAC: Mac = Mac([0, 0x1c, 0x42, 0, 0, 1]);

/// A store in which another client writes right before the first commit at or after call number `at` (0 is the first); and
/// whether it came to that commit.
fn meddling(store: &MemoryStore, at: usize, changes: Vec<StoreChange>) -> (impl Store, impl Fn() -> bool) {
    let (calls, changes) = (SyncCell::new(0), Arc::new(SyncRefCell::new(changes)));
    let (left, store, inner) = (Arc::clone(&changes), store.clone(), store.clone());
    let disturb = move |call: StoreCall<'_>| -> Deciding {
        let number = calls.replace(calls.get() + 1);
        let meddles = number >= at && matches!(call, StoreCall::Commit(_));
        let (changes, store) = (if meddles { changes.take() } else { Vec::new() }, store.clone());
        Box::pin(async move {
            if !changes.is_empty() {
                write(&store, changes).await;
            }
            Interception::None
        })
    };
    (InterceptedStore::new(inner, disturb), move || left.borrow().is_empty())
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 128, 0, last])
}

async fn scene() -> (MemoryStore, Fixture) {
    let store = MemoryStore::new();
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    (store, fixture)
}

fn tombstone(at: &Attachment, not_before: u64) -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment: at.clone(),
        port: None,
        not_before,
        since: 0,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

/// The lease of addresses in cool-down.
const ON_LEASE: Lease = Lease(1);

fn leased(change: StoreChange) -> StoreChange {
    match change {
        StoreChange::Put { key, value, .. } => StoreChange::Put { key, value, lease: Some(ON_LEASE) },
        delete @ StoreChange::Delete(_) => delete,
    }
}

fn owned(claim: ClaimId, at: &Attachment) -> AddressRecord {
    AddressRecord { v: SCHEMA, state: AddressState::Claimed { claim, attachment: at.clone() }, unknown: Unknown::new() }
}

fn mac_of(claim: ClaimId, at: &Attachment) -> MacRecord {
    MacRecord { v: SCHEMA, owner: MacOwner::Claimed { claim, attachment: at.clone() }, unknown: Unknown::new() }
}

async fn found(store: &MemoryStore, at: &Attachment) -> Found {
    find(store, at).await.expect("found")
}

async fn there(store: &MemoryStore, key: Key) -> bool {
    let snapshot = store.read(vec![Query::Key(key.clone())]).await.expect("a read");
    snapshot.entry(&key).expect("asked").is_some()
}

async fn ask(
    store: &impl Store,
    fixture: &Fixture,
    at: &Attachment,
    requested: &AddressRequest,
) -> Result<Claimed, IpamError> {
    claim(store, &ClaimRequest { requested, ..fixture.request(at, None) }).await
}

async fn get(
    store: &MemoryStore,
    fixture: &Fixture,
    at: &Attachment,
    requested: &AddressRequest,
) -> Versioned<ClaimRecord> {
    match ask(store, fixture, at, requested).await {
        Ok(Claimed::New(claim)) => claim,
        other => panic!("{at}: {other:?}"),
    }
}

fn with_mac() -> AddressRequest {
    AddressRequest { mac: Some(MAC), ..AddressRequest::default() }
}

/// A claim under a fence that the caller has seen: the fence goes, if node, claim and fence are still the ones seen.
#[tokio::test(start_paused = true)]
async fn a_claim_is_taken_over_from_a_fence_only_as_both_were_seen() {
    let at = attachment("a");
    let fenced = async || {
        let (store, fixture) = scene().await;
        fixture.claim(&store, "a").await;
        put_tombstone(&store, &tombstone(&at, 7), None).await.expect("the tombstone is written");
        let seen = found(&store, &at).await.tombstone.expect("the tombstone is written").mod_revision;
        (store, fixture, seen)
    };
    let (store, fixture, seen) = fenced().await;
    let node = put(Key::from(NodeRecord::at(&at.node)), &fixture.node);
    let (meddled, happened) = meddling(&store, 1, vec![node]);
    let answer = claim(&meddled, &fixture.request(&at, Some(seen))).await;
    assert!(happened() && matches!(answer, Ok(Claimed::Stale(_))), "the node's record changed: {answer:?}");
    assert!(found(&store, &at).await.tombstone.is_some(), "an eviction still finds what is pending");

    let (store, fixture, seen) = fenced().await;
    let (meddled, happened) = meddling(&store, 1, vec![put(Key::from(TombstoneRecord::at(&at)), &tombstone(&at, 99))]);
    let answer = claim(&meddled, &fixture.request(&at, Some(seen))).await;
    assert!(happened(), "it came to the transaction");
    assert!(matches!(&answer, Ok(Claimed::Blocked(now)) if now.record.not_before == 99), "another fence: {answer:?}");

    let (store, fixture, seen) = fenced().await;
    let record = found(&store, &at).await.claim.expect("claimed").record;
    let other = ClaimRecord { claim: ClaimId::random(), ..record };
    // The claim is released, and another call of the same attachment claims: a key that was made anew.
    write(&store, vec![StoreChange::delete(ClaimRecord::at(&at))]).await;
    write(&store, vec![put(Key::from(ClaimRecord::at(&at)), &other)]).await;
    let gone = vec![StoreChange::delete(ClaimRecord::at(&at))];
    let (meddled, happened) = meddling(&store, 1, gone);
    let answer = claim(&meddled, &fixture.request(&at, Some(seen))).await;
    let now = found(&store, &at).await.claim;
    let (Ok(Claimed::New(returned) | Claimed::Already(returned)), true) = (&answer, happened()) else {
        panic!("the claim is gone: {answer:?}")
    };
    assert_eq!(Some(returned), now.as_ref(), "the returned claim exists");
    assert_ne!(returned.record.claim, other.claim, "and it is not the deleted one");
}

#[tokio::test(start_paused = true)]
async fn a_claim_takes_the_marks_away_that_it_has_compared() {
    let (store, fixture) = scene().await;
    let idle = IdleRecord {
        v: SCHEMA,
        incarnation: fixture.tenant.incarnation,
        since: 1,
        lasting: true,
        unknown: Unknown::new(),
    };
    write(&store, vec![put(Key::from(IdleRecord::at(&tenant_name())), &idle)]).await;
    let first = fixture.claim(&store, "a").await;
    assert!(!there(&store, Key::from(IdleRecord::at(&tenant_name()))).await, "the tenant is used");
    release(&store, &first, None, COOL_DOWN).await.expect("released");
    let mark = Key::from(ReleasedRecord::at(&attachment("a")));
    assert!(there(&store, mark.clone()).await, "for requests that are still on their way");
    fixture.claim(&store, "a").await;
    assert!(!there(&store, mark).await, "the next release leaves another");
}

#[tokio::test(start_paused = true)]
async fn only_another_interface_of_the_same_container_gets_another_address_than_the_reserved_one() {
    let (store, fixture) = scene().await;
    let request = ReserveRequest {
        tenant: tenant_name(),
        address: ip(9),
        namespace: fixture.namespace.clone(),
        pod: "pod".parse().expect("valid"),
        mac: None,
    };
    reserve(&store, &request, false).await.expect("reserved");
    let (at, nothing) = (attachment("a"), AddressRequest::default());
    let first = get(&store, &fixture, &at, &nothing).await;
    assert_eq!(address(&first), ip(9));
    let eth1 = IfName::new("eth1").expect("valid");
    let container = ContainerId::new("b").expect("valid");
    let other_container = Attachment { interface: eth1.clone(), container, ..at.clone() };
    let error = ask(&store, &fixture, &other_container, &nothing).await.expect_err("another container");
    assert!(matches!(error, IpamError::Taken { .. }), "{error}");
    let sibling = Attachment { interface: eth1, ..at.clone() };
    assert_ne!(address(&get(&store, &fixture, &sibling, &nothing).await), ip(9));
    // An address that names this attachment, which has no claim: for the audit.
    write(&store, vec![StoreChange::delete(ClaimRecord::at(&at))]).await;
    let error = ask(&store, &fixture, &at, &nothing).await.expect_err("for an unknown reason");
    assert!(matches!(error, IpamError::Taken { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_taken_mac_is_reported_also_with_an_address_that_is_free() {
    let (store, fixture) = scene().await;
    get(&store, &fixture, &attachment("a"), &with_mac()).await;
    let requested = AddressRequest { addresses: vec![ip(9)], ..with_mac() };
    let error = ask(&store, &fixture, &attachment("b"), &requested).await.expect_err("taken");
    assert!(matches!(error, IpamError::MacTaken { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_grows_when_pods_have_exactly_half_and_never_for_a_chosen_subnet() {
    let store = MemoryStore::new();
    let mut entry = subnet(0, "10.128.0.0/29", Phase::Active);
    entry.exclude = vec!["10.128.0.6".parse().expect("an address")];
    let fixture = Fixture::new(&store, vec![entry]).await;
    for n in 0..4 {
        let claimed = fixture.claim(&store, &format!("c{n}")).await;
        if n < 2 {
            release(&store, &claimed, None, COOL_DOWN).await.expect("released");
        }
    }
    let at = attachment("x");
    let growing = ClaimRequest { can_grow: true, ..fixture.request(&at, None) };
    let answer = claim(&store, &growing).await;
    assert!(matches!(answer, Err(IpamError::Exhausted { .. })), "two of four are in use: {answer:?}");
    let requested = AddressRequest { subnet: Some(SubnetChoice::Ordinal(0)), ..AddressRequest::default() };
    let chosen = claim(&store, &ClaimRequest { requested: &requested, ..growing }).await;
    assert!(matches!(chosen, Ok(Claimed::New(_))), "another subnet would not help: {chosen:?}");
}

/// What a release must not touch, although the addresses are as the claim wrote them.
#[tokio::test(start_paused = true)]
async fn a_release_goes_by_the_claim_and_the_tombstone_that_were_seen() {
    let at = attachment("a");
    // The claim is another one by now: made anew, of the same id or not, with the address as it was.
    for id in [None, Some(ClaimId::random())] {
        let (store, fixture) = scene().await;
        let old = fixture.claim(&store, "a").await;
        let record = ClaimRecord { claim: id.unwrap_or(old.record.claim), ..old.record.clone() };
        write(&store, vec![StoreChange::delete(ClaimRecord::at(&at))]).await;
        write(&store, vec![put(Key::from(ClaimRecord::at(&at)), &record)]).await;
        let answer = release(&store, &old, None, COOL_DOWN).await.expect("an answer");
        assert!(matches!(&answer, Released::Changed(now) if now.claim.is_some()), "{answer:?}");
        assert_eq!(found(&store, &at).await.claim.map(|claim| claim.record), Some(record));
    }
    // Written over in place: the key is as old, the claim is another.
    let (store, fixture) = scene().await;
    let old = fixture.claim(&store, "a").await;
    let record = ClaimRecord { claim: ClaimId::random(), ..old.record.clone() };
    let held = Key::from(AddressRecord::at(&tenant_name(), 0, address(&old)));
    write(&store, vec![put(Key::from(ClaimRecord::at(&at)), &record), put(held, &owned(record.claim, &at))]).await;
    let answer = release(&store, &old, None, COOL_DOWN).await.expect("an answer");
    assert!(matches!(&answer, Released::Changed(now) if now.claim.is_some()), "{answer:?}");

    // The tombstone was written again since it was seen.
    let (store, fixture) = scene().await;
    let old = fixture.claim(&store, "a").await;
    put_tombstone(&store, &tombstone(&at, 1), None).await.expect("the tombstone is written");
    let seen = found(&store, &at).await.tombstone.expect("the tombstone is written").mod_revision;
    put_tombstone(&store, &tombstone(&at, 2), Some(seen)).await.expect("the tombstone is written");
    let answer = release(&store, &old, Some(seen), COOL_DOWN).await.expect("an answer");
    assert!(matches!(&answer, Released::Changed(now) if now.tombstone.is_some()), "{answer:?}");
    assert!(found(&store, &at).await.claim.is_some(), "nothing was released");

    // Only the tombstone was left, and then there is a claim again.
    let (store, fixture) = scene().await;
    let old = fixture.claim(&store, "a").await;
    put_tombstone(&store, &tombstone(&at, 1), None).await.expect("the tombstone is written");
    let seen = found(&store, &at).await.tombstone.expect("the tombstone is written").mod_revision;
    write(&store, vec![StoreChange::delete(ClaimRecord::at(&at))]).await;
    let new = ClaimRecord { claim: ClaimId::random(), ..old.record.clone() };
    let (meddled, happened) = meddling(&store, 1, vec![put(Key::from(ClaimRecord::at(&at)), &new)]);
    let answer = release(&meddled, &old, Some(seen), COOL_DOWN).await.expect("an answer");
    assert!(happened() && matches!(answer, Released::Changed(_)), "{answer:?}");
    assert!(found(&store, &at).await.tombstone.is_some(), "it stands for the claim that is there");
}

#[tokio::test(start_paused = true)]
async fn a_release_leaves_a_mac_that_is_another_claims() {
    let (store, fixture) = scene().await;
    let old = get(&store, &fixture, &attachment("a"), &with_mac()).await;
    let key = Key::from(MacRecord::at(&tenant_name(), 0, MAC));
    write(&store, vec![put(key.clone(), &mac_of(ClaimId::random(), &attachment("b")))]).await;
    assert_eq!(release(&store, &old, None, COOL_DOWN).await.expect("released"), Released::Done);
    assert!(there(&store, key).await);
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_a_release_outlives_requests_and_each_cool_down_its_own_lease() {
    let (store, fixture) = scene().await;
    let claims = [fixture.claim(&store, "a").await, fixture.claim(&store, "b").await, fixture.claim(&store, "c").await];
    for (claim, cooldown) in claims.iter().zip([Duration::ZERO, Duration::from_secs(5), Duration::from_mins(5)]) {
        assert_eq!(release(&store, claim, None, cooldown).await.expect("released"), Released::Done);
    }
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(
        there(&store, Key::from(ReleasedRecord::at(&attachment("a")))).await,
        "a request may be on its way for so long"
    );
    let in_cool_down = |claim: &Versioned<ClaimRecord>| Key::from(AddressRecord::at(&tenant_name(), 0, address(claim)));
    assert!(!there(&store, in_cool_down(&claims[1])).await, "five seconds and a half-minute are over");
    assert!(
        there(&store, in_cool_down(&claims[2])).await,
        "five minutes are not, even if another release happened on this node"
    );
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(!there(&store, Key::from(ReleasedRecord::at(&attachment("a")))).await, "and it goes");
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_keeps_the_port_that_it_knows() {
    let (store, _) = scene().await;
    let (at, port) = (attachment("a"), Some(uuid::Uuid::from_u128(9)));
    put_tombstone(&store, &TombstoneRecord { port, ..tombstone(&at, 1) }, None)
        .await
        .expect("the tombstone is written");
    put_tombstone(&store, &tombstone(&at, 2), None).await.expect("the tombstone is written");
    let now = found(&store, &at).await.tombstone.expect("the tombstone is written").record;
    assert_eq!((now.port, now.not_before), (port, 2));
    let other = Some(uuid::Uuid::from_u128(10));
    put_tombstone(&store, &TombstoneRecord { port: other, ..tombstone(&at, 3) }, None)
        .await
        .expect("the tombstone is written");
    assert_eq!(
        found(&store, &at).await.tombstone.expect("the tombstone is written").record.port,
        port,
        "the first pending one"
    );
}

fn keep(fixture: &Fixture, last: u8, pod: &str, mac: Option<Mac>) -> ReserveRequest {
    let (namespace, pod) = (fixture.namespace.clone(), pod.parse().expect("valid"));
    ReserveRequest { tenant: tenant_name(), address: ip(last), namespace, pod, mac }
}

fn both(record: &ReservationRecord) -> Vec<StoreChange> {
    let forth = Key::from(ReservationRecord::at(&record.tenant, record.ordinal, record.address));
    vec![put(forth, record), put(Key::from(ReservationRecord::for_pod(&record.namespace, &record.pod)), record)]
}

/// The changes between the reads of a reservation and its transaction. Each is refused or reported, and no record of ours
/// overwrites it.
#[tokio::test(start_paused = true)]
async fn a_reservation_compares_everything_that_it_has_read() {
    type Come = fn(&Fixture, &ReservationRecord) -> Vec<StoreChange>;
    let cases: [(&str, Come); 5] = [
        ("the tenant goes", |fixture, _| {
            let mut tenant = fixture.tenant.clone();
            tenant.phase = Phase::Deleting;
            vec![put(Key::from(TenantRecord::at(&tenant_name())), &tenant)]
        }),
        ("the address is kept for another pod", |_, ours| {
            both(&ReservationRecord { pod: "other".parse().expect("valid"), ..ours.clone() })
        }),
        ("the pod gets another reservation", |_, ours| both(&ReservationRecord { address: ip(10), ..ours.clone() })),
        ("a pod claims the address", |_, ours| {
            let at = attachment("a");
            vec![put(Key::from(AddressRecord::at(&tenant_name(), 0, ours.address)), &owned(ClaimId::random(), &at))]
        }),
        ("a pod claims the MAC", |_, _| {
            vec![put(Key::from(MacRecord::at(&tenant_name(), 0, MAC)), &mac_of(ClaimId::random(), &attachment("a")))]
        }),
    ];
    for (what, come) in cases {
        let (rehearsal, fixture) = scene().await;
        let request = keep(&fixture, 9, "web-0", Some(MAC));
        let Ok(Reserved::New(ours)) = reserve(&rehearsal, &request, false).await else { panic!("not reserved") };
        let (store, fixture) = scene().await;
        let changes = come(&fixture, &ours);
        let written: Vec<_> = changes.clone();
        let (meddled, happened) = meddling(&store, 0, changes);
        let answer = reserve(&meddled, &request, false).await;
        assert!(happened() && answer.is_err(), "{what}: {answer:?}");
        for change in written {
            let StoreChange::Put { key, value, .. } = change else { continue };
            let snapshot = store.read(vec![Query::Key(key.clone())]).await.expect("a read");
            assert_eq!(snapshot.entry(&key).expect("asked").map(|entry| &entry.value), Some(&value), "{what}: {key}");
        }
        let kept = keys(&store, Key::from(ReservationRecord::all())).await.len();
        assert_eq!(kept, usize::from(what.contains("another")), "{what}: nothing of ours is left");
    }
}

/// The same for lifting one.
#[tokio::test(start_paused = true)]
async fn deleting_a_reservation_compares_everything_that_it_has_read() {
    let kept = async || {
        let (store, fixture) = scene().await;
        let Ok(Reserved::New(ours)) = reserve(&store, &keep(&fixture, 9, "web-0", Some(MAC)), false).await else {
            panic!("not reserved")
        };
        (store, fixture, ours)
    };
    // Another reservation took the keys: it stays.
    for key in [0, 1] {
        let (store, _, ours) = kept().await;
        let other = ReservationRecord { incarnation: atoll_model::ids::Incarnation::random(), ..ours.clone() };
        let change = both(&other).swap_remove(key);
        let StoreChange::Put { key, .. } = change.clone() else { panic!("it is a put") };
        let (meddled, happened) = meddling(&store, 0, vec![change]);
        assert_eq!(lift(&meddled, &ours, false).await.expect("an answer"), Lifted::Done);
        assert!(happened() && there(&store, key.clone()).await, "{key} is another's");
    }
    // The pod starts with the MAC: this is reported, and the MAC stays the reservation's.
    let (store, fixture, ours) = kept().await;
    let at = attachment("w");
    let rehearsal = {
        let (store, fixture, _) = kept().await;
        let web = ClaimRequest { pod: Some("web-0"), ..fixture.request(&at, None) };
        let Ok(Claimed::New(claim)) = claim(&store, &web).await else { panic!("not claimed") };
        claim.record
    };
    let record = ClaimRecord { incarnation: fixture.tenant.incarnation, ..rehearsal };
    let started = vec![
        put(Key::from(ClaimRecord::at(&at)), &record),
        put(Key::from(AddressRecord::at(&tenant_name(), 0, ip(9))), &owned(record.claim, &at)),
    ];
    let (meddled, happened) = meddling(&store, 0, started);
    let answer = lift(&meddled, &ours, false).await;
    assert!(happened() && matches!(answer, Err(IpamError::Reservation { .. })), "{answer:?}");
    assert!(there(&store, Key::from(MacRecord::at(&tenant_name(), 0, MAC))).await);
    // The MAC is a claim's by now, or was written again by another reservation.
    for owner in [
        MacOwner::Claimed { claim: ClaimId::random(), attachment: attachment("a") },
        MacOwner::Reserved { namespace: ours.namespace.clone(), pod: "other".parse().expect("valid") },
    ] {
        let (store, _, ours) = kept().await;
        let key = Key::from(MacRecord::at(&tenant_name(), 0, MAC));
        let record = MacRecord { v: SCHEMA, owner, unknown: Unknown::new() };
        let (meddled, happened) = meddling(&store, 0, vec![put(key.clone(), &record)]);
        assert_eq!(lift(&meddled, &ours, false).await.expect("an answer"), Lifted::Done);
        assert!(happened() && there(&store, key).await, "the MAC is another's");
        assert_eq!(keys(&store, Key::from(ReservationRecord::all())).await, Vec::<String>::new());
    }
}

/// Each finding with a repair, and each record whose change prevents the repair.
#[tokio::test(start_paused = true)]
async fn a_repair_rests_on_everything_that_was_seen() {
    struct Case {
        what: &'static str,
        spoil: Vec<StoreChange>,
        /// The changes between the second observation and the repair, one at a time.
        comes: Vec<StoreChange>,
    }
    let (sample, fixture) = scene().await;
    let (a, b) = (attachment("a"), attachment("b"));
    let claimed = get(&sample, &fixture, &a, &with_mac()).await;
    let (record, free) = (claimed.record.clone(), ip(if address(&claimed) == ip(77) { 78 } else { 77 }));
    let place = |address| Key::from(AddressRecord::at(&tenant_name(), 0, address));
    let mark = |address| StoreChange::Put {
        key: Key::from(CoolDown::at(&tenant_name(), 0, address)),
        value: vec![],
        lease: None,
    };
    let mac = Key::from(MacRecord::at(&tenant_name(), 0, MAC));
    let other_mac = Key::from(MacRecord::at(&tenant_name(), 0, Mac([0, 0, 0, 0, 0, 2])));
    let in_cool_down = AddressRecord {
        v: SCHEMA,
        state: AddressState::CoolDown { since: 1, namespace: None },
        unknown: Unknown::new(),
    };
    let held = address(&claimed);
    let own = put(Key::from(ClaimRecord::at(&a)), &record);
    let of_b = owned(ClaimId::random(), &b);
    let claim_of_b = ClaimRecord { attachment: b.clone(), claim: ClaimId::random(), mac: b.mac(), ..record.clone() };
    let claim_of_b = ClaimRecord {
        addresses: vec![atoll_records::ClaimedAddress {
            address: ipnetwork::IpNetwork::new(ip(99), 24).expect("valid"),
            ..record.addresses[0].clone()
        }],
        ..claim_of_b
    };
    let kept = ReservationRecord {
        v: SCHEMA,
        tenant: tenant_name(),
        incarnation: fixture.tenant.incarnation,
        ordinal: 0,
        address: ip(200),
        namespace: fixture.namespace.clone(),
        pod: "web".parse().expect("valid"),
        mac: None,
        since: 1,
        unknown: Unknown::new(),
    };
    let mac_kept = MacRecord {
        v: SCHEMA,
        owner: MacOwner::Reserved { namespace: kept.namespace.clone(), pod: kept.pod.clone() },
        unknown: Unknown::new(),
    };
    let cases = vec![
        Case {
            what: "an address without a claim",
            spoil: vec![put(place(free), &of_b)],
            comes: vec![
                put(place(free), &of_b),
                put(Key::from(ClaimRecord::at(&b)), &claim_of_b),
                put(Key::from(TombstoneRecord::at(&b)), &tombstone(&b, 0)),
            ],
        },
        Case {
            what: "an address that the claim of its attachment does not list",
            spoil: vec![put(place(free), &owned(record.claim, &a))],
            comes: vec![own.clone()],
        },
        Case {
            what: "a claim whose address is free",
            spoil: vec![StoreChange::Delete(place(held))],
            comes: vec![own.clone(), put(place(held), &of_b)],
        },
        Case {
            what: "a claim whose address names another attachment",
            spoil: vec![put(place(held), &of_b)],
            comes: vec![own.clone(), put(place(held), &of_b), put(Key::from(ClaimRecord::at(&b)), &claim_of_b)],
        },
        Case {
            what: "a claim whose address is in cool-down",
            spoil: [put(place(held), &in_cool_down), mark(held)].map(leased).into(),
            comes: vec![own.clone(), leased(put(place(held), &in_cool_down)), leased(mark(held))],
        },
        Case {
            what: "an address in cool-down without a lease",
            spoil: vec![put(place(free), &in_cool_down), mark(free)],
            comes: vec![put(place(free), &in_cool_down), mark(free)],
        },
        Case {
            what: "an address in cool-down without a lease and a mark",
            spoil: vec![put(place(free), &in_cool_down)],
            comes: vec![mark(free)],
        },
        Case {
            what: "a mark of a free address",
            spoil: vec![mark(free)],
            comes: vec![mark(free), put(place(free), &of_b)],
        },
        Case {
            what: "a mark of an address in use",
            spoil: vec![mark(held)],
            comes: vec![mark(held), put(place(held), &owned(record.claim, &a))],
        },
        Case {
            what: "a claim whose MAC has no record",
            spoil: vec![StoreChange::Delete(mac.clone())],
            comes: vec![own.clone(), put(mac.clone(), &mac_of(ClaimId::random(), &b))],
        },
        Case {
            what: "a MAC of a claim that is not there",
            spoil: vec![put(other_mac.clone(), &mac_of(ClaimId::random(), &b))],
            comes: vec![
                put(other_mac.clone(), &mac_of(ClaimId::random(), &b)),
                put(Key::from(ClaimRecord::at(&b)), &claim_of_b),
                put(Key::from(TombstoneRecord::at(&b)), &tombstone(&b, 0)),
            ],
        },
        Case {
            what: "a MAC of no reservation",
            spoil: vec![put(other_mac.clone(), &mac_kept)],
            comes: vec![
                put(other_mac.clone(), &mac_kept),
                put(Key::from(ReservationRecord::for_pod(&kept.namespace, &kept.pod)), &kept),
            ],
        },
        Case {
            what: "a MAC of a reservation without one",
            spoil: [both(&kept), vec![put(other_mac.clone(), &mac_kept)]].concat(),
            comes: vec![put(Key::from(ReservationRecord::for_pod(&kept.namespace, &kept.pod)), &kept)],
        },
    ];
    for Case { what, spoil, comes } in cases {
        for come in comes {
            let (store, mut fixture) = scene().await;
            store.lease_as(ON_LEASE, COOL_DOWN).await.expect("memory does not fail");
            fixture.tenant.incarnation = record.incarnation;
            fixture.rewrite_tenant(&store).await;
            let sound = vec![
                own.clone(),
                put(place(held), &owned(record.claim, &a)),
                put(mac.clone(), &mac_of(record.claim, &a)),
            ];
            write(&store, sound).await;
            write(&store, spoil.clone()).await;
            let context = format!("{what}, and then {} is written", come.key());
            let first = audit(&observe(&store).await.expect("observed"));
            let second = audit(&observe(&store).await.expect("observed"));
            let mendable: Vec<_> = first.iter().filter(|finding| finding.fix.is_some()).collect();
            assert_eq!(mendable.len(), 1, "{context}: {first:#?}");
            write(&store, vec![come]).await;
            let before = store.dump();
            let repaired = repair(&store, &first, second, COOL_DOWN).await.expect("repaired");
            let outcomes: Vec<_> = repaired.iter().map(|one| one.outcome).collect();
            assert_eq!(outcomes, [RepairOutcome::Changed], "{context}");
            assert_eq!(store.dump(), before, "{context}: nothing is touched");
        }
    }
}
