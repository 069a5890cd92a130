//! The audit finds each kind of damage, reports no sound record, and repairs only findings of two observations.

use atoll_testkit::store::MemoryStore;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use atoll_ipam::audit::{AuditFinding, AuditProblem, Observation, RepairOutcome, agreed};
use atoll_ipam::{
    ClaimRequest, Claimed, ReserveRequest, audit, claim, observe, put_tombstone, release, repair, reserve,
};
use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{ClaimId, Incarnation, PodName};
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, ClusterRecord, CoolDown, FIRST_ENGINE, Key, MacOwner, MacRecord, Phase,
    Query, ReservationRecord, SCHEMA, TenantRecord, TombstoneKind, TombstoneRecord, Unknown, Versioned,
};
use atoll_store::{Store, StoreChange};
use atoll_testkit::fixture::{Fixture, address, attachment, keys, put, subnet, tenant_name, write};
use uuid::Uuid;

const COOL_DOWN: Duration = Duration::from_mins(1);

/// A tenant with pods, an address in cool-down, a reserved one and a fence: all of them consistent.
async fn sound(store: &impl Store) -> (Fixture, Vec<Versioned<ClaimRecord>>) {
    let fixture = Fixture::new(store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let mut claims = Vec::new();
    for name in ["a", "b", "c"] {
        claims.push(fixture.claim(store, name).await);
    }
    let gone = fixture.claim(store, "gone").await;
    release(store, &gone, None, COOL_DOWN).await.expect("released");
    put_tombstone(store, &tombstone(attachment("fenced")), None).await.expect("the tombstone is written");
    // A pod with a MAC of its choice, and one with a reservation, which runs.
    let chosen = AddressRequest { mac: Some(Mac([0, 0x1c, 0x42, 0, 0, 1])), ..AddressRequest::default() };
    let at = attachment("d");
    let Ok(Claimed::New(claim_d)) =
        claim(store, &ClaimRequest { requested: &chosen, ..fixture.request(&at, None) }).await
    else {
        panic!("not claimed")
    };
    claims.push(claim_d);
    let request = ReserveRequest {
        tenant: tenant_name(),
        address: unused(store).await,
        namespace: fixture.namespace.clone(),
        pod: "web-0".parse().expect("valid"),
        mac: Some(Mac([0, 0x1c, 0x42, 0, 0, 2])),
    };
    reserve(store, &request, false).await.expect("reserved");
    let at = attachment("e");
    let web = ClaimRequest { pod: Some("web-0"), ..fixture.request(&at, None) };
    let Ok(Claimed::New(claim_e)) = claim(store, &web).await else { panic!("not claimed") };
    assert_eq!(address(&claim_e), request.address);
    claims.push(claim_e);
    (fixture, claims)
}

fn tombstone(attachment: Attachment) -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment,
        port: Some(Uuid::from_u128(77)),
        not_before: 0,
        since: 0,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

fn owned(claim: ClaimId, attachment: &Attachment) -> AddressRecord {
    let state = AddressState::Claimed { claim, attachment: attachment.clone() };
    AddressRecord { v: SCHEMA, state, unknown: Unknown::new() }
}

fn at(last: u8) -> IpAddr {
    IpAddr::from([10, 128, 0, last])
}

fn place(address: IpAddr) -> Key {
    Key::from(AddressRecord::at(&tenant_name(), 0, address))
}

async fn findings(store: &impl Store) -> Vec<AuditFinding> {
    let seen = observe(store).await.expect("an observation");
    assert!(seen.steady);
    audit(&seen)
}

fn problems(findings: &[AuditFinding]) -> Vec<(AuditProblem, bool)> {
    findings.iter().map(|finding| (finding.problem, finding.fix.is_some())).collect()
}

/// An address that no claim has by chance.
async fn unused(store: &impl Store) -> IpAddr {
    let taken = keys(store, Key::from(AddressRecord::of_tenant(&tenant_name()))).await;
    (2..255).map(at).find(|a| !taken.contains(&place(*a).to_string())).expect("a free one")
}

/// Each kind of damage, the expected finding, and whether it has a repair; in one tenant each.
#[tokio::test(start_paused = true)]
async fn each_kind_of_damage_is_found_and_nothing_else() {
    type Spoil = fn(&Fixture, &[Versioned<ClaimRecord>], IpAddr) -> Vec<StoreChange>;
    type Case = (&'static str, Spoil, Vec<(AuditProblem, bool)>);
    let cases: Vec<Case> = vec![
        ("nothing", |_, _, _| vec![], vec![]),
        (
            "a claim cannot be read, and its address is not freed",
            |_, claims, _| vec![raw(Key::from(ClaimRecord::at(&claims[0].record.attachment)), b"{")],
            vec![(AuditProblem::Damaged, false)],
        ),
        (
            "an address cannot be read, and its claim does not get it",
            |_, claims, _| vec![raw(place(address(&claims[0])), b"{\"v\":9}")],
            vec![(AuditProblem::Damaged, false)],
        ),
        (
            "a tenant cannot be read, and its addresses are not stray",
            |_, _, _| vec![raw(Key::from(TenantRecord::at(&tenant_name())), b"{}")],
            vec![(AuditProblem::Damaged, false)],
        ),
        (
            "a key that names no address",
            |_, _, _| vec![raw(Key::raw("v2/addresses/red/0/4/0a800007"), br#"{"v":1,"state":"cool-down","since":1}"#)],
            vec![(AuditProblem::Damaged, false)],
        ),
        (
            "a claim under a foreign key",
            |_, claims, _| vec![put(Key::from(ClaimRecord::at(&attachment("other"))), &claims[0].record)],
            vec![(AuditProblem::Misplaced, false), (AuditProblem::Duplicate, false)],
        ),
        (
            "two claims of one address",
            |_, claims, _| {
                let mut second = claims[1].record.clone();
                second.addresses.clone_from(&claims[0].record.addresses);
                vec![put(Key::from(ClaimRecord::at(&second.attachment)), &second)]
            },
            vec![(AuditProblem::Duplicate, false), (AuditProblem::OrphanedAddress, true)],
        ),
        (
            "a claim whose address is free",
            |_, claims, _| vec![StoreChange::Delete(place(address(&claims[0])))],
            vec![(AuditProblem::MissingAddressRecord, true)],
        ),
        (
            "a claim whose address names another claim",
            |_, claims, _| {
                let other = owned(ClaimId::random(), &attachment("unknown"));
                vec![put(place(address(&claims[0])), &other)]
            },
            vec![(AuditProblem::MissingAddressRecord, true)],
        ),
        (
            "an address without a claim",
            |_, claims, _| vec![StoreChange::delete(ClaimRecord::at(&claims[0].record.attachment))],
            vec![(AuditProblem::OrphanedAddress, true)],
        ),
        (
            "an address that the claim of its attachment does not list",
            |_, claims, free| vec![put(place(free), &owned(claims[0].record.claim, &claims[0].record.attachment))],
            vec![(AuditProblem::OrphanedAddress, true)],
        ),
        (
            "an address without a claim, whose port has a tombstone",
            |_, _, free| vec![put(place(free), &owned(ClaimId::random(), &attachment("fenced")))],
            vec![(AuditProblem::OrphanedAddress, false)],
        ),
        (
            "a tenant that was deleted without its pods and its reservation",
            |_, _, _| vec![StoreChange::delete(TenantRecord::at(&tenant_name()))],
            vec![(AuditProblem::Orphaned, false); 6],
        ),
        (
            "a pod of an earlier incarnation of its tenant",
            |_, claims, _| {
                let mut old = claims[0].record.clone();
                old.incarnation = atoll_model::ids::Incarnation::random();
                vec![put(Key::from(ClaimRecord::at(&old.attachment)), &old)]
            },
            vec![(AuditProblem::Orphaned, false)],
        ),
        (
            "pods with the address of the gateway, the network and another network",
            |_, claims, _| {
                let mut changes = Vec::new();
                for (claim, wrong) in claims.iter().zip([at(1), at(0), IpAddr::from([10, 128, 1, 7])]) {
                    let mut record = claim.record.clone();
                    record.addresses[0].address = ipnetwork::IpNetwork::new(wrong, 24).expect("valid");
                    changes.push(StoreChange::Delete(place(address(claim))));
                    changes.push(put(place(wrong), &owned(record.claim, &record.attachment)));
                    changes.push(put(Key::from(ClaimRecord::at(&record.attachment)), &record));
                }
                changes
            },
            vec![(AuditProblem::OutOfRange, false); 3],
        ),
        (
            "an address in cool-down without a lease",
            |_, _, free| {
                let state = AddressState::CoolDown { since: 1, namespace: None };
                let record = AddressRecord { v: SCHEMA, state, unknown: Unknown::new() };
                vec![put(place(free), &record), raw(Key::from(CoolDown::at(&tenant_name(), 0, free)), b"")]
            },
            vec![(AuditProblem::Expired, true)],
        ),
        (
            "a mark of a free address",
            |_, _, free| vec![raw(Key::from(CoolDown::at(&tenant_name(), 0, free)), b"")],
            vec![(AuditProblem::StaleCoolDown, true)],
        ),
        (
            "a mark of an address in use",
            |_, claims, _| vec![raw(Key::from(CoolDown::at(&tenant_name(), 0, address(&claims[2]))), b"")],
            vec![(AuditProblem::StaleCoolDown, true)],
        ),
        (
            "reservations: of the gateway, in no subnet, of no tenant, and a good one",
            |fixture, _, free| {
                let unknown = atoll_model::ids::TenantName::new("missing").expect("valid");
                [(tenant_name(), 0, at(1)), (tenant_name(), 5, at(9)), (unknown, 0, at(9)), (tenant_name(), 0, free)]
                    .into_iter()
                    .enumerate()
                    .flat_map(|(n, (tenant, ordinal, address))| {
                        let pod = format!("pod-{n}").parse().expect("valid");
                        let incarnation = fixture.tenant.incarnation;
                        both(&ReservationRecord { tenant, ordinal, address, incarnation, ..reservation(free, pod) })
                    })
                    .collect()
            },
            vec![(AuditProblem::Orphaned, false), (AuditProblem::OutOfRange, false), (AuditProblem::Orphaned, false)],
        ),
        (
            "halves of reservations, one that names another place, one of an earlier incarnation, and one that cannot be read",
            |fixture, _, free| {
                let incarnation = fixture.tenant.incarnation;
                let of = |n: u8| ReservationRecord {
                    address: at(100 + n),
                    incarnation,
                    ..reservation(free, format!("pod-{n}").parse().expect("valid"))
                };
                let [forth, _] = both(&of(0));
                let [_, back] = both(&of(1));
                let key = |n: u8| Key::from(ReservationRecord::at(&tenant_name(), 0, at(100 + n)));
                let [_, elsewhere] = both(&of(2));
                let early = ReservationRecord { incarnation: Incarnation::random(), ..of(3) };
                let [_, unread] = both(&of(4));
                let mut changes = vec![forth, back, put(key(2), &of(5)), elsewhere, raw(key(4), b"{}"), unread];
                changes.extend(both(&early));
                changes
            },
            vec![
                (AuditProblem::Damaged, false),
                (AuditProblem::HalfReserved, false),
                (AuditProblem::Misplaced, false),
                (AuditProblem::Orphaned, false),
                (AuditProblem::HalfReserved, false),
            ],
        ),
        (
            "MACs: without a claim, of a claim with another, of no reservation; and two claims with one without a record",
            |_, claims, _| {
                let key = |last| Key::from(MacRecord::at(&tenant_name(), 0, Mac([0, 0, 0, 0, 0, last])));
                let held = |claim, of: &Attachment| {
                    let owner = MacOwner::Claimed { claim, attachment: of.clone() };
                    MacRecord { v: SCHEMA, owner, unknown: Unknown::new() }
                };
                let first = &claims[0].record;
                let kept =
                    MacOwner::Reserved { namespace: "red".parse().expect("valid"), pod: "x".parse().expect("valid") };
                let chosen = |n: usize| ClaimRecord { mac: Mac([0, 0, 0, 0, 0, 9]), ..claims[n].record.clone() };
                vec![
                    put(key(1), &held(ClaimId::random(), &attachment("unknown"))),
                    put(key(2), &held(first.claim, &first.attachment)),
                    put(key(3), &MacRecord { v: SCHEMA, owner: kept, unknown: Unknown::new() }),
                    raw(key(4), b"{}"),
                    put(Key::from(ClaimRecord::at(&chosen(1).attachment)), &chosen(1)),
                ]
            },
            vec![
                (AuditProblem::Damaged, false),
                (AuditProblem::MissingAddressRecord, true),
                (AuditProblem::OrphanedAddress, true),
                (AuditProblem::OrphanedAddress, true),
                (AuditProblem::OrphanedAddress, true),
            ],
        ),
        (
            "a MAC without a claim, with a tombstone for its attachment",
            |_, _, _| {
                let owner = MacOwner::Claimed { claim: ClaimId::random(), attachment: attachment("fenced") };
                let key = Key::from(MacRecord::at(&tenant_name(), 0, Mac([0, 0, 0, 0, 0, 5])));
                vec![put(key, &MacRecord { v: SCHEMA, owner, unknown: Unknown::new() })]
            },
            vec![(AuditProblem::OrphanedAddress, false)],
        ),
        (
            "a reservation that was lost while its pod runs with its MAC",
            |fixture, claims, _| {
                let web = "web-0".parse().expect("valid");
                let kept = Key::from(ReservationRecord::at(&tenant_name(), 0, address(&claims[4])));
                vec![
                    StoreChange::Delete(kept),
                    StoreChange::delete(ReservationRecord::for_pod(&fixture.namespace, &web)),
                ]
            },
            vec![(AuditProblem::OrphanedAddress, false)],
        ),
        (
            "two claims with one MAC",
            |_, claims, _| {
                let mut second = claims[1].record.clone();
                second.mac = claims[0].record.mac;
                vec![put(Key::from(ClaimRecord::at(&second.attachment)), &second)]
            },
            vec![(AuditProblem::MissingAddressRecord, true), (AuditProblem::Duplicate, false)],
        ),
        (
            "a tombstone of an unknown node",
            |_, _, _| {
                let mut far = attachment("fenced");
                far.node = atoll_model::ids::NodeName::new("n9").expect("valid");
                vec![put(Key::from(TombstoneRecord::at(&far)), &tombstone(far.clone()))]
            },
            vec![(AuditProblem::OrphanedNodeRecord, false)],
        ),
        (
            "a tombstone under a foreign key",
            |_, _, _| vec![put(Key::from(TombstoneRecord::at(&attachment("x"))), &tombstone(attachment("y")))],
            vec![(AuditProblem::Misplaced, false)],
        ),
    ];
    for (name, spoil, expected) in cases {
        let store = MemoryStore::new();
        let (fixture, claims) = sound(&store).await;
        let free = unused(&store).await;
        let changes = spoil(&fixture, &claims, free);
        if !changes.is_empty() {
            write(&store, changes).await;
        }
        let first = findings(&store).await;
        assert_eq!(problems(&first), expected, "{name}: {first:#?}");
        // A repair leaves the findings that have none, and no others.
        let before = store.dump().len();
        let repaired = repair(&store, &first, findings(&store).await, COOL_DOWN).await.expect("repaired");
        assert!(repaired.iter().all(|one| one.outcome == RepairOutcome::Done), "{name}: {repaired:?}");
        let after: Vec<_> = findings(&store).await;
        let rest: Vec<_> = first.into_iter().filter(|finding| finding.fix.is_none()).collect();
        assert_eq!(after, rest, "{name}");
        if rest.is_empty() && repaired.is_empty() {
            assert_eq!(store.dump().len(), before, "{name}");
        }
    }
}

fn reservation(address: IpAddr, pod: PodName) -> ReservationRecord {
    ReservationRecord {
        v: SCHEMA,
        tenant: tenant_name(),
        incarnation: Incarnation::random(),
        ordinal: 0,
        address,
        namespace: "red".parse().expect("valid"),
        pod,
        mac: None,
        since: 1,
        unknown: Unknown::new(),
    }
}

/// Under the key of the address, and under that of the pod.
fn both(record: &ReservationRecord) -> [StoreChange; 2] {
    let forth = Key::from(ReservationRecord::at(&record.tenant, record.ordinal, record.address));
    [forth, Key::from(ReservationRecord::for_pod(&record.namespace, &record.pod))].map(|key| put(key, record))
}

fn raw(key: Key, value: &[u8]) -> StoreChange {
    StoreChange::Put { key, value: value.to_vec(), lease: None }
}

#[tokio::test(start_paused = true)]
async fn subnets_that_must_not_overlap_are_reported() {
    let store = MemoryStore::new();
    let (mut fixture, claims) = sound(&store).await;
    fixture.tenant.subnets.push(subnet(1, "10.128.0.0/24", Phase::Active));
    fixture.rewrite_tenant(&store).await;
    let mut second = claims[1].record.clone();
    let old = place(address(&claims[1]));
    second.addresses.clone_from(&claims[0].record.addresses);
    second.addresses[0].ordinal = 1;
    let key = Key::from(AddressRecord::at(&tenant_name(), 1, address(&claims[0])));
    let address = owned(second.claim, &second.attachment);
    write(
        &store,
        vec![
            put(Key::from(ClaimRecord::at(&second.attachment)), &second),
            put(key, &address),
            StoreChange::Delete(old),
        ],
    )
    .await;
    assert_eq!(problems(&findings(&store).await), [(AuditProblem::Duplicate, false)]);
    let mut cluster = fixture.cluster.clone();
    cluster.addressing = atoll_model::config::Addressing::Overlapping;
    write(&store, vec![put(Key::from(ClusterRecord::at()), &cluster)]).await;
    assert_eq!(findings(&store).await, []);
}

#[tokio::test(start_paused = true)]
async fn ports_are_compared_when_they_are_known() {
    let store = MemoryStore::new();
    let (fixture, claims) = sound(&store).await;
    let mut seen = observe(&store).await.expect("an observation");
    let with = |seen: &mut Observation, ports: Vec<Uuid>| {
        seen.ports = Some(ports.into_iter().map(|port| (port, "bridge of red".to_owned())).collect::<BTreeMap<_, _>>());
        problems(&audit(seen))
    };
    let ports: Vec<_> = claims.iter().map(|claim| claim.record.port).collect();
    assert_eq!(with(&mut seen, ports.clone()), []);
    // The port of a tombstone is known.
    let pending = Uuid::from_u128(77);
    assert_eq!(with(&mut seen, [ports.clone(), vec![pending]].concat()), []);
    assert_eq!(with(&mut seen, ports[1..].to_vec()), [(AuditProblem::NoPort, false)]);
    let foreign = [ports.clone(), vec![Uuid::from_u128(8)]].concat();
    assert_eq!(with(&mut seen, foreign.clone()), [(AuditProblem::OrphanedPort, false)]);
    // If a claim is unreadable, the owner of the port is unknown.
    write(&store, vec![raw(Key::from(ClaimRecord::at(&attachment("a"))), b"?")]).await;
    let mut blind = observe(&store).await.expect("an observation");
    assert_eq!(with(&mut blind, foreign), [(AuditProblem::Damaged, false)]);
    // An address without a claim is not freed while its port exists.
    write(&store, vec![StoreChange::delete(ClaimRecord::at(&attachment("a")))]).await;
    let mut orphan = observe(&store).await.expect("an observation");
    assert_eq!(with(&mut orphan, ports[1..].to_vec()), [(AuditProblem::OrphanedAddress, true)]);
    let port = attachment("a").port(fixture.cluster.id);
    let both = [ports[1..].to_vec(), vec![port]].concat();
    assert_eq!(with(&mut orphan, both), [(AuditProblem::OrphanedAddress, false), (AuditProblem::OrphanedPort, false)]);
}

/// A change between two observations, or after the second, is not touched.
#[tokio::test(start_paused = true)]
async fn only_findings_of_two_observations_are_repaired_and_only_as_read() {
    let store = MemoryStore::new();
    let (fixture, claims) = sound(&store).await;
    let key = Key::from(ClaimRecord::at(&claims[0].record.attachment));
    write(&store, vec![StoreChange::Delete(key.clone())]).await;
    let first = findings(&store).await;
    assert_eq!(problems(&first), [(AuditProblem::OrphanedAddress, true)]);

    // Not in the first observation: not repaired.
    assert!(repair(&store, &[], findings(&store).await, COOL_DOWN).await.expect("repaired").is_empty());
    // Seen, but written since: another finding.
    let held = place(address(&claims[0]));
    write(&store, vec![put(held.clone(), &owned(ClaimId::random(), &claims[0].record.attachment))]).await;
    let second = findings(&store).await;
    assert_eq!(agreed(&first, second.clone()), []);
    // The claim comes back after the second observation, as if a late request had put it: the address stays.
    let third = findings(&store).await;
    assert_eq!(agreed(&second, third.clone()), third);
    write(&store, vec![put(key, &claims[0].record)]).await;
    let repaired = repair(&store, &second, third, COOL_DOWN).await.expect("repaired");
    assert_eq!(repaired.iter().map(|one| one.outcome).collect::<Vec<_>>(), [RepairOutcome::Changed]);
    assert!(keys(&store, held.clone()).await.len() == 1);
    // Now the claim does not hold it, and gets it back.
    let fourth = findings(&store).await;
    assert_eq!(problems(&fourth), [(AuditProblem::MissingAddressRecord, true)]);
    repair(&store, &fourth, findings(&store).await, COOL_DOWN).await.expect("repaired");
    assert_eq!(findings(&store).await, []);
    // What it was given back is released like any other.
    let found = atoll_ipam::find(&store, &claims[0].record.attachment).await.expect("found").claim.expect("a claim");
    release(&store, &found, None, Duration::ZERO).await.expect("released");
    assert_eq!(keys(&store, held).await, Vec::<String>::new());
    drop(fixture);
}

/// In a real etcd: a freed address is in cool-down on a lease, then it is free.
#[tokio::test]
async fn a_freed_address_is_free_after_its_cool_down() {
    let server = atoll_testkit::etcd::EtcdServer::start().await;
    let store = server.store();
    let (_, claims) = sound(&store).await;
    write(&store, vec![StoreChange::delete(ClaimRecord::at(&claims[0].record.attachment))]).await;
    let first = findings(&store).await;
    let cooldown = Duration::from_secs(2);
    let repaired = repair(&store, &first, findings(&store).await, cooldown).await.expect("repaired");
    assert_eq!(repaired.len(), 1);
    assert_eq!(findings(&store).await, []);
    let held = place(address(&claims[0]));
    let snapshot = store.read(vec![Query::Key(held.clone())]).await.expect("a read");
    assert!(snapshot.entry(&held).expect("asked").is_some_and(|entry| entry.lease.is_some()), "it is in cool-down");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while !keys(&store, held.clone()).await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it never became free");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
