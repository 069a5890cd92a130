//! Addresses, subnets and MACs that are asked for: met as they stand, or refused with the reason and nothing changed.

use atoll_testkit::fault::FaultPlan;
use atoll_testkit::store::{FaultyStore, MemoryStore};
use std::net::IpAddr;
use std::time::Duration;

use atoll_records::{
    AddressRecord, ClaimRecord, CoolDown, FIRST_ENGINE, Key, MacRecord, Phase, SCHEMA, TombstoneKind, TombstoneRecord,
    Unknown, Versioned,
};

use atoll_ipam::{ClaimRequest, Claimed, IpamError, Released, claim, find, put_tombstone, release};
use atoll_model::attachment::Mac;
use atoll_model::derive::{self, NetworkPart};
use atoll_model::error::{Class, Classify};

use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::ids::Namespace;
use atoll_store::{Store, StoreChange};
use atoll_testkit::fixture::{Fixture, attachment, keys, subnet, tenant_name, write};

const COOL_DOWN: Duration = Duration::from_mins(1);

suite![
    what_is_asked_for_is_given,
    several_addresses_are_all_or_nothing,
    what_no_pod_can_have_is_refused,
    a_taken_address_names_its_holder,
    a_claim_that_is_there_must_be_what_is_asked_for,
    an_address_in_cool_down_is_for_its_own_namespace,
    a_chosen_subnet_and_no_other,
    a_chosen_mac_is_its_owners_alone,
    a_refusal_rests_on_what_is_true_now,
];

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 128, 0, last])
}

fn requested(addresses: &[IpAddr]) -> AddressRequest {
    AddressRequest { addresses: addresses.to_vec(), ..AddressRequest::default() }
}

fn mac(mac: [u8; 6]) -> AddressRequest {
    AddressRequest { mac: Some(Mac(mac)), ..AddressRequest::default() }
}

async fn ask(
    store: &impl Store,
    fixture: &Fixture,
    container: &str,
    requested: &AddressRequest,
) -> Result<Claimed, IpamError> {
    let at = attachment(container);
    claim(store, &ClaimRequest { requested, ..fixture.request(&at, None) }).await
}

async fn get(
    store: &impl Store,
    fixture: &Fixture,
    container: &str,
    requested: &AddressRequest,
) -> Versioned<ClaimRecord> {
    match ask(store, fixture, container, requested).await {
        Ok(Claimed::New(claim)) => claim,
        other => panic!("{container}, {requested}: {other:?}"),
    }
}

async fn refused(store: &impl Store, fixture: &Fixture, container: &str, requested: &AddressRequest) -> IpamError {
    let before = keys(store, Key::all()).await;
    let error = ask(store, fixture, container, requested).await.expect_err("refused");
    assert_eq!(keys(store, Key::all()).await, before, "a refusal changes nothing");
    error
}

fn addresses(claim: &Versioned<ClaimRecord>) -> Vec<IpAddr> {
    claim.record.addresses.iter().map(|address| address.address.ip()).collect()
}

async fn what_is_asked_for_is_given(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    for last in [2, 77, 254] {
        let claimed = get(&store, &fixture, &format!("c{last}"), &requested(&[ip(last)])).await;
        assert_eq!(addresses(&claimed), [ip(last)]);
        assert_eq!(find(&store, &attachment(&format!("c{last}"))).await.expect("found").claim, Some(claimed));
    }
    // Others do not get them, and it is released as any other.
    let other = fixture.claim(&store, "other").await;
    assert!(![2, 77, 254].map(ip).contains(&addresses(&other)[0]));
    let claimed = find(&store, &attachment("c77")).await.expect("found").claim.expect("claimed");
    assert_eq!(release(&store, &claimed, None, Duration::ZERO).await.expect("released"), Released::Done);
    assert_eq!(addresses(&get(&store, &fixture, "again", &requested(&[ip(77)])).await), [ip(77)]);
}

async fn several_addresses_are_all_or_nothing(store: impl Store) {
    let entries = vec![subnet(0, "10.128.0.0/24", Phase::Active), subnet(1, "10.128.1.0/24", Phase::Active)];
    let fixture = Fixture::new(&store, entries).await;
    let three = requested(&[ip(9), ip(3), ip(200)]);
    let claimed = get(&store, &fixture, "a", &three).await;
    assert_eq!(addresses(&claimed), three.addresses, "in the order in which they were asked for");
    for overlapping in [[ip(4), ip(9)], [ip(200), ip(201)]] {
        let error = refused(&store, &fixture, "b", &requested(&overlapping)).await;
        assert!(matches!(&error, IpamError::Taken { .. }), "{error}");
    }
    let across = requested(&[ip(4), IpAddr::from([10, 128, 1, 4])]);
    let error = refused(&store, &fixture, "b", &across).await;
    assert!(error.to_string().contains("one interface has one subnet"), "{error}");
    let error = refused(&store, &fixture, "b", &requested(&[ip(4), ip(4)])).await;
    assert!(error.to_string().contains("asked for twice"), "{error}");
    let many: Vec<_> = (10..27).map(ip).collect();
    let error = refused(&store, &fixture, "b", &requested(&many)).await;
    assert!(error.to_string().contains("more than 16 addresses"), "{error}");
    let most = get(&store, &fixture, "b", &requested(&many[..16])).await;
    // All of them are in cool-down together, and become free together.
    assert_eq!(release(&store, &most, None, COOL_DOWN).await.expect("released"), Released::Done);
    assert_eq!(keys(&store, Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await.len(), 16);
    assert_eq!(addresses(&get(&store, &fixture, "c", &requested(&many[..16])).await), many[..16]);
    assert_eq!(keys(&store, Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await.len(), 0);
}

async fn what_no_pod_can_have_is_refused(store: impl Store) {
    let mut entries = vec![
        subnet(0, "10.128.0.0/24", Phase::Active),
        subnet(1, "10.128.1.0/24", Phase::Building),
        subnet(2, "10.128.2.0/31", Phase::Active),
    ];
    entries[0].exclude = vec!["10.128.0.8/29".parse().expect("a range")];
    let mut fixture = Fixture::new(&store, entries).await;
    for (address, class, why) in [
        ("10.128.0.0", Class::Rejected, "network address of 10.128.0.0/24"),
        ("10.128.0.1", Class::Rejected, "gateway of 10.128.0.0/24"),
        ("10.128.0.255", Class::Rejected, "broadcast address of 10.128.0.0/24"),
        ("10.128.0.8", Class::Rejected, "10.128.0.8-10.128.0.15 of 10.128.0.0/24 is excluded"),
        ("10.128.0.15", Class::Rejected, "is excluded"),
        ("10.128.2.1", Class::Rejected, "gateway of 10.128.2.0/31"),
        ("10.128.9.9", Class::Rejected, "none of the tenant's subnets (10.128.0.0/24, 10.128.1.0/24, 10.128.2.0/31)"),
        ("255.255.255.255", Class::Rejected, "none of the tenant's subnets"),
        ("10.128.1.5", Class::Unavailable, "subnet 10.128.1.0/24 of tenant red is being built"),
    ] {
        let error = refused(&store, &fixture, "a", &requested(&[address.parse().expect("an address")])).await;
        assert!(error.to_string().contains(why), "{address}: {error}");
        assert_eq!(error.class(), class, "{error}");
    }
    let beside = get(&store, &fixture, "beside", &requested(&[ip(7), ip(16), ip(254)])).await;
    assert_eq!(addresses(&beside).len(), 3);
    assert_eq!(addresses(&get(&store, &fixture, "b", &requested(&[IpAddr::from([10, 128, 2, 0])])).await).len(), 1);
    fixture.tenant.quota.addresses = Some(10);
    fixture.rewrite_tenant(&store).await;
    let error = refused(&store, &fixture, "a", &requested(&[ip(200)])).await;
    assert!(error.to_string().contains("quota of 10 addresses ends before it"), "{error}");
    for (bytes, why) in [([1, 0, 0, 0, 0, 1], "a group"), ([255; 6], "a group"), ([0; 6], "all zeros")] {
        let error = refused(&store, &fixture, "a", &mac(bytes)).await;
        assert_eq!(error.class(), Class::Rejected);
        assert!(error.to_string().contains(why), "{error}");
    }
    // Those of router ports: a pod with one of them would receive the packets that its neighbours send through the gateway.
    for (part, why) in [
        (NetworkPart::GatewayPort(0), "the gateway of subnet 0"),
        (NetworkPart::GatewayPort(2), "the gateway of subnet 2"),
        (NetworkPart::HostToPodPort(2), "the port by which nodes reach their pods of subnet 2"),
        (NetworkPart::UplinkPort, "the tenant router's port"),
        (NetworkPart::ProviderPort, "the provider router's port"),
    ] {
        let bytes = derive::mac(derive::object(fixture.cluster.id, fixture.tenant.incarnation, &part)).0;
        let error = refused(&store, &fixture, "a", &mac(bytes)).await;
        assert_eq!(error.class(), Class::Rejected);
        assert!(error.to_string().contains(why), "{error}");
    }
}

async fn a_taken_address_names_its_holder(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    get(&store, &fixture, "first", &requested(&[ip(9)])).await;
    let error = refused(&store, &fixture, "second", &requested(&[ip(9)])).await;
    let text = "10.128.0.9 of tenant red is taken by pod red/pod, attachment n1/atoll/first/eth0 on node n1";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.class(), Class::Unavailable);
    // A claim that cannot be read does not hide who has it; a record of an address that cannot is named.
    let damage = |key| StoreChange::Put { key, value: b"damaged".to_vec(), lease: None };
    write(&store, vec![damage(Key::from(ClaimRecord::at(&attachment("first"))))]).await;
    let error = refused(&store, &fixture, "second", &requested(&[ip(9)])).await;
    assert!(error.to_string().ends_with("is taken by attachment n1/atoll/first/eth0 on node n1"), "{error}");
    write(&store, vec![damage(Key::from(AddressRecord::at(&tenant_name(), 0, ip(9))))]).await;
    let error = refused(&store, &fixture, "second", &requested(&[ip(9)])).await;
    assert!(error.to_string().contains("v2/addresses/red/00000000/4/0a800009"), "{error}");
}

async fn a_claim_that_is_there_must_be_what_is_asked_for(store: impl Store) {
    let entries = vec![subnet(0, "10.128.0.0/24", Phase::Active), subnet(1, "10.128.1.0/24", Phase::Active)];
    let fixture = Fixture::new(&store, entries).await;
    let all = AddressRequest {
        addresses: vec![ip(9), ip(3)],
        mac: Some(Mac([2, 0, 0, 0, 0, 9])),
        subnet: Some(SubnetChoice::Ordinal(0)),
    };
    let claimed = get(&store, &fixture, "a", &all).await;
    let same = [
        all.clone(),
        AddressRequest::default(),
        requested(&[ip(3), ip(9)]),
        mac([2, 0, 0, 0, 0, 9]),
        AddressRequest { subnet: "10.128.0.0/24".parse().ok(), ..AddressRequest::default() },
    ];
    for requested in &same {
        assert_eq!(ask(&store, &fixture, "a", requested).await.expect("an answer"), Claimed::Already(claimed.clone()));
    }
    let others = [
        requested(&[ip(9)]),
        requested(&[ip(9), ip(4)]),
        requested(&[ip(3), ip(9), ip(4)]),
        mac([2, 0, 0, 0, 0, 8]),
        AddressRequest { subnet: Some(SubnetChoice::Ordinal(1)), ..AddressRequest::default() },
        AddressRequest { subnet: "10.128.1.0/24".parse().ok(), ..AddressRequest::default() },
    ];
    for requested in &others {
        let error = refused(&store, &fixture, "a", requested).await;
        assert_eq!(error.class(), Class::Drift);
        let text = "n1/atoll/a/eth0 has 10.128.0.9, 10.128.0.3 with MAC 02:00:00:00:00:09 already, and asks for ";
        assert!(error.to_string().starts_with(text), "{error}");
    }
    // Not even a tombstone is superseded by another address request.
    let tombstone = TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Fence,
        attachment: attachment("a"),
        port: None,
        not_before: 0,
        since: 1,
        note: String::new(),
        deletion_sent: false,
        unknown: Unknown::new(),
    };
    put_tombstone(&store, &tombstone, None).await.expect("the tombstone is written");
    let at = attachment("a");
    let seen = find(&store, &at).await.expect("found").tombstone.expect("the tombstone is written").mod_revision;
    let request = ClaimRequest { requested: &others[0], ..fixture.request(&at, Some(seen)) };
    assert!(matches!(claim(&store, &request).await, Err(IpamError::OtherRequest { .. })));
    let request = ClaimRequest { requested: &same[2], ..fixture.request(&at, Some(seen)) };
    assert!(matches!(claim(&store, &request).await, Ok(Claimed::Already(there)) if there == claimed));
}

async fn an_address_in_cool_down_is_for_its_own_namespace(store: impl Store) {
    let mut fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let claimed = get(&store, &fixture, "a", &requested(&[ip(9)])).await;
    release(&store, &claimed, None, COOL_DOWN).await.expect("released");
    let (red, guard) = (fixture.namespace.clone(), fixture.guards.namespace);
    fixture.namespace = Namespace::new("blue").expect("valid");
    fixture.guards.namespace = None;
    let error = refused(&store, &fixture, "b", &requested(&[ip(9)])).await;
    assert!(matches!(error, IpamError::InCoolDown { .. }), "{error}");
    assert_eq!(error.class(), Class::Unavailable);
    (fixture.namespace, fixture.guards.namespace) = (red, guard);
    let claimed = get(&store, &fixture, "c", &requested(&[ip(9)])).await;
    assert_eq!(keys(&store, Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await, Vec::<String>::new());
    release(&store, &claimed, None, Duration::ZERO).await.expect("released");
}

async fn a_chosen_subnet_and_no_other(store: impl Store) {
    let entries = vec![
        subnet(0, "10.128.0.0/30", Phase::Active),
        subnet(1, "10.128.1.0/24", Phase::Active),
        subnet(2, "10.128.2.0/24", Phase::Deleting),
        subnet(3, "10.128.3.0/32", Phase::Active),
    ];
    let fixture = Fixture::new(&store, entries).await;
    let choose = |text: &str| AddressRequest { subnet: text.parse().ok(), ..AddressRequest::default() };
    let claimed = get(&store, &fixture, "a", &choose("0")).await;
    assert_eq!((addresses(&claimed), claimed.record.addresses[0].ordinal), (vec![ip(2)], 0));
    // A full subnet is refused even if the tenant has room in another one; the error differs from that of a full tenant.
    for choice in ["0", "10.128.0.0/30"] {
        let error = refused(&store, &fixture, "b", &choose(choice)).await;
        assert!(matches!(&error, IpamError::SubnetFull { fill, .. } if fill.capacity == 1), "{error}");
        assert_eq!(error.class(), Class::Exhausted);
    }
    assert_eq!(get(&store, &fixture, "b", &choose("10.128.1.0/24")).await.record.addresses[0].ordinal, 1);
    for (choice, why) in [
        ("7", "tenant red has no subnet 7 (it has 10.128.0.0/30; 10.128.1.0/24; 10.128.2.0/24; 10.128.3.0/32)"),
        ("10.128.0.0/16", "tenant red has no subnet 10.128.0.0/16"),
        ("2", "subnet 10.128.2.0/24 of tenant red is being deleted"),
        ("3", "no room for a pod"),
    ] {
        let error = refused(&store, &fixture, "c", &choose(choice)).await;
        assert!(error.to_string().contains(why), "{choice}: {error}");
    }
    let error = refused(&store, &fixture, "c", &AddressRequest { addresses: vec![ip(2)], ..choose("1") }).await;
    assert!(error.to_string().contains("it is of 10.128.0.0/30, and another subnet is asked for"), "{error}");
}

async fn a_chosen_mac_is_its_owners_alone(store: impl Store) {
    let entries = vec![subnet(0, "10.128.0.0/24", Phase::Active), subnet(1, "10.128.1.0/24", Phase::Active)];
    let fixture = Fixture::new(&store, entries).await;
    let here = |bytes| AddressRequest { subnet: Some(SubnetChoice::Ordinal(0)), ..mac(bytes) };
    let (global, local) = ([0, 0x1c, 0x42, 0, 0, 1], [2, 0, 0, 0, 0, 1]);
    for (container, bytes) in [("global", global), ("local", local)] {
        let claimed = get(&store, &fixture, container, &here(bytes)).await;
        assert_eq!(claimed.record.mac, Mac(bytes));
        let error = refused(&store, &fixture, "second", &here(bytes)).await;
        let text = format!(
            "the MAC {} is used in subnet 10.128.0.0/24 of tenant red by attachment n1/atoll/{container}/eth0",
            Mac(bytes)
        );
        assert_eq!((error.to_string(), error.class()), (text, Class::Unavailable));
        // With a requested address as well; in another subnet it is permitted.
        refused(&store, &fixture, "second", &AddressRequest { addresses: vec![ip(33)], ..here(bytes) }).await;
        let there = AddressRequest { subnet: Some(SubnetChoice::Ordinal(1)), ..mac(bytes) };
        get(&store, &fixture, &format!("there-{container}"), &there).await;
    }
    // A request copies the derived MAC of a running pod.
    let victim = get(&store, &fixture, "victim", &AddressRequest { mac: None, ..here(global) }).await;
    let error = refused(&store, &fixture, "thief", &here(victim.record.mac.0)).await;
    assert!(error.to_string().contains("by pod red/pod, attachment n1/atoll/victim/eth0"), "{error}");
    // One's own derived MAC is no address request at all.
    let own = attachment("own").mac();
    assert_eq!(get(&store, &fixture, "own", &here(own.0)).await.record.mac, own);
    assert_eq!(keys(&store, Key::from(MacRecord::of_tenant(&tenant_name()))).await.len(), 4);
    // Released with its claim, even when it was written again meanwhile; and free for the next.
    for container in ["global", "local"] {
        let claimed = find(&store, &attachment(container)).await.expect("found").claim.expect("claimed");
        assert_eq!(release(&store, &claimed, None, Duration::ZERO).await.expect("released"), Released::Done);
    }
    assert_eq!(keys(&store, Key::from(MacRecord::of_tenant(&tenant_name()))).await.len(), 2);
    get(&store, &fixture, "second", &here(global)).await;
    // A derived MAC that its owner does not use may be had.
    let other = get(&store, &fixture, "other", &here([2, 0, 0, 0, 0, 7])).await;
    assert_ne!(other.record.mac, attachment("other").mac());
    get(&store, &fixture, "third", &here(attachment("other").mac().0)).await;
}

/// A caller with an outdated cache gets that error, and not that its request is impossible.
async fn a_refusal_rests_on_what_is_true_now(store: impl Store) {
    let mut fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let old = fixture.clone();
    fixture.tenant.subnets.push(subnet(1, "10.128.1.0/24", Phase::Active));
    fixture.rewrite_tenant(&store).await;
    let there = requested(&[IpAddr::from([10, 128, 1, 7])]);
    let answer = ask(&store, &old, "a", &there).await;
    let Ok(Claimed::Stale(current)) = answer else { panic!("{answer:?}") };
    assert_eq!(current.tenant.map(|tenant| tenant.record), Some(fixture.tenant.clone()));
    let claimed = get(&store, &fixture, "a", &there).await;
    // A caller that has its claim already gets it, with any cache.
    assert_eq!(ask(&store, &old, "a", &there).await.expect("an answer"), Claimed::Already(claimed));
}

/// What an address request costs.
#[tokio::test]
async fn an_address_request_is_one_transaction() {
    let (memory, plan) = (MemoryStore::new(), FaultPlan::none());
    let store = FaultyStore::new(memory.clone(), plan.clone());
    let fixture = Fixture::new(&memory, vec![subnet(0, "10.128.0.0/16", Phase::Active)]).await;
    for (number, (requested, expected)) in [
        (requested(&[ip(9)]), 1),
        (requested(&[ip(10), ip(11), ip(12)]), 1),
        (AddressRequest { subnet: Some(SubnetChoice::Ordinal(0)), ..AddressRequest::default() }, 1),
        (mac([0, 0x1c, 0x42, 0, 0, 1]), 1),
        // It might be a derived one: the records of the subnet are read, 4096 at a time.
        (mac([2, 0, 0, 0, 0, 1]), 1 + 1),
    ]
    .into_iter()
    .enumerate()
    {
        plan.reset();
        get(&store, &fixture, &format!("c{number}"), &requested).await;
        assert_eq!(plan.passed().len(), expected, "{requested}");
    }
}
