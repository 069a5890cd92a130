//! Reserved addresses: the pod gets exactly its address and no other pod gets it, after any fault.

use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use atoll_records::{ClaimRecord, Key, MacRecord, NodeRecord, Phase, ReservationRecord, Versioned};

use atoll_ipam::{
    ClaimRequest, Claimed, IpamError, Lifted, Released, ReserveRequest, Reserved, claim, find, lift, release,
    reservations, reserve, reserved_for,
};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::derive::{self, NetworkPart};
use atoll_model::error::{Class, Classify};

use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::ids::{Incarnation, Namespace, NodeName, PodName};
use atoll_store::{Store, StoreChange};
use atoll_testkit::fixture::{Fixture, attachment, keys, put, subnet, tenant_name, write};

const COOL_DOWN: Duration = Duration::from_mins(1);

suite![
    only_the_pod_gets_its_reserved_address,
    a_pod_that_still_runs_elsewhere_is_named,
    reserving_is_refused_where_it_cannot_be_kept,
    reserving_and_lifting_twice_is_doing_it_once,
    a_mac_is_kept_with_the_address,
    an_address_request_must_agree_with_the_reservation,
    another_interface_of_the_pod_gets_another_address,
    a_reservation_elsewhere_is_no_address_here,
    half_a_reservation_is_reported_and_can_be_deleted,
];

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 128, 0, last])
}

fn pod_name(name: &str) -> PodName {
    PodName::new(name).expect("valid")
}

fn keep(last: u8, pod: &str) -> ReserveRequest {
    ReserveRequest {
        tenant: tenant_name(),
        address: ip(last),
        namespace: Namespace::new("red").expect("valid"),
        pod: pod_name(pod),
        mac: None,
    }
}

async fn kept(store: &impl Store, request: &ReserveRequest) -> ReservationRecord {
    match reserve(store, request, false).await {
        Ok(Reserved::New(record)) => record,
        other => panic!("{request:?}: {other:?}"),
    }
}

async fn ask(
    store: &impl Store,
    fixture: &Fixture,
    at: &Attachment,
    pod: &str,
    requested: &AddressRequest,
) -> Result<Claimed, IpamError> {
    claim(store, &ClaimRequest { pod: Some(pod), requested, ..fixture.request(at, None) }).await
}

async fn start(store: &impl Store, fixture: &Fixture, container: &str, pod: &str) -> Versioned<ClaimRecord> {
    match ask(store, fixture, &attachment(container), pod, &AddressRequest::default()).await {
        Ok(Claimed::New(claim)) => claim,
        other => panic!("{container}: {other:?}"),
    }
}

async fn stop(store: &impl Store, claim: &Versioned<ClaimRecord>) {
    assert_eq!(release(store, claim, None, COOL_DOWN).await.expect("released"), Released::Done);
}

fn last_byte(address: IpAddr) -> u8 {
    let IpAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
    address.octets()[3]
}

fn address(claim: &Versioned<ClaimRecord>) -> IpAddr {
    claim.record.addresses[0].address.ip()
}

async fn only_the_pod_gets_its_reserved_address(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    kept(&store, &keep(4, "web-0")).await;
    // Four of the five addresses are for any pod; the fifth only for its pod, however often that restarts.
    let mut others = BTreeSet::new();
    for n in 0..4 {
        others.insert(address(&start(&store, &fixture, &format!("c{n}"), &format!("other-{n}")).await));
    }
    assert_eq!(others, [2, 3, 5, 6].map(ip).into());
    let full = ask(&store, &fixture, &attachment("c4"), "other-4", &AddressRequest::default()).await;
    assert!(matches!(full, Err(IpamError::Exhausted { .. })), "{full:?}");
    for container in ["w0", "w1", "w2"] {
        let claimed = start(&store, &fixture, container, "web-0").await;
        assert_eq!(address(&claimed), ip(4));
        let again = ask(&store, &fixture, &attachment(container), "web-0", &AddressRequest::default()).await;
        assert_eq!(again.expect("an answer"), Claimed::Already(claimed.clone()));
        stop(&store, &claimed).await;
        // Not even during its cool-down, with everything else taken.
        let full = ask(&store, &fixture, &attachment("c4"), "other-4", &AddressRequest::default()).await;
        assert!(matches!(full, Err(IpamError::Exhausted { .. })), "{full:?}");
        let requested = AddressRequest { addresses: vec![ip(4)], ..AddressRequest::default() };
        let error = ask(&store, &fixture, &attachment("c4"), "other-4", &requested).await.expect_err("reserved");
        assert_eq!(error.to_string(), "10.128.0.4 of tenant red is reserved for pod red/web-0");
        assert_eq!(error.class(), Class::Denied);
    }
    // After the release of the reservation any pod may get it; it is still in cool-down.
    let there = reserved_for(&store, &Namespace::new("red").expect("valid"), &pod_name("web-0")).await;
    let there = there.expect("an answer").expect("reserved").record;
    assert_eq!(lift(&store, &there, false).await.expect("lifted"), Lifted::Done);
    assert_eq!(address(&start(&store, &fixture, "c4", "other-4").await), ip(4));
}

async fn a_pod_that_still_runs_elsewhere_is_named(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    kept(&store, &keep(9, "web-0")).await;
    let old = start(&store, &fixture, "old", "web-0").await;
    // The node of the old one is dead; the pod starts on another.
    let n2 = Attachment { node: NodeName::new("n2").expect("valid"), ..attachment("new") };
    let revision = write(&store, vec![put(Key::from(NodeRecord::at(&n2.node)), &fixture.node)]).await;
    let mut there = fixture.clone();
    there.guards.node = revision;
    let error = ask(&store, &there, &n2, "web-0", &AddressRequest::default()).await.expect_err("taken");
    let text = "10.128.0.9 of tenant red is taken by pod red/web-0, attachment n1/atoll/old/eth0 on node n1";
    assert_eq!(error.to_string(), text);
    stop(&store, &old).await;
    let moved = ask(&store, &there, &n2, "web-0", &AddressRequest::default()).await.expect("claimed");
    assert!(matches!(moved, Claimed::New(claim) if address(&claim) == ip(9)));
}

async fn reserving_is_refused_where_it_cannot_be_kept(store: impl Store) {
    let mut fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    fixture.tenant.subnets[0].exclude = vec!["10.128.0.100-10.128.0.120".parse().expect("a range")];
    fixture.rewrite_tenant(&store).await;
    let refused = async |request: ReserveRequest, why: &str| {
        let before = keys(&store, Key::all()).await;
        let error = reserve(&store, &request, false).await.expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(keys(&store, Key::all()).await, before);
        assert_eq!(reserve(&store, &request, true).await.expect_err("refused").to_string(), error.to_string());
    };
    for (last, why) in [(0, "network address"), (1, "gateway"), (255, "broadcast"), (105, "is excluded")] {
        refused(keep(last, "web-0"), why).await;
    }
    refused(ReserveRequest { address: [10, 9, 9, 9].into(), ..keep(9, "web-0") }, "none of the tenant's subnets").await;
    refused(ReserveRequest { tenant: "blue".parse().expect("valid"), ..keep(9, "web-0") }, "no tenant blue").await;
    refused(ReserveRequest { mac: Some(Mac([1; 6])), ..keep(9, "web-0") }, "addresses a group").await;
    let taken = start(&store, &fixture, "a", "other").await;
    let ReserveRequest { namespace, pod, .. } = keep(9, "web-0");
    let last = last_byte(address(&taken));
    refused(keep(last, "web-0"), "is taken by pod red/other, attachment n1/atoll/a/eth0 on node n1").await;
    kept(&store, &keep(9, "web-0")).await;
    refused(keep(9, "web-1"), "10.128.0.9 of tenant red is reserved for pod red/web-0").await;
    refused(keep(10, "web-0"), "10.128.0.9 is reserved for pod red/web-0, but a pod has one reservation only").await;
    refused(ReserveRequest { mac: Some(Mac([2; 6])), ..keep(9, "web-0") }, "but without a MAC").await;
    assert!(reserved_for(&store, &namespace, &pod).await.expect("an answer").is_some());
    // A pod keeps its address; an address in cool-down has no owner.
    kept(&store, &keep(last, "other")).await;
    let released = start(&store, &fixture, "b", "yet-another").await;
    stop(&store, &released).await;
    kept(&store, &keep(last_byte(address(&released)), "web-1")).await;
    assert_eq!(reservations(&store, None).await.expect("a list").len(), 3);
    fixture.tenant.phase = Phase::Deleting;
    fixture.rewrite_tenant(&store).await;
    refused(keep(11, "web-2"), "is being deleted").await;
}

async fn reserving_and_lifting_twice_is_doing_it_once(store: impl Store) {
    Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let request = ReserveRequest { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..keep(9, "web-0") };
    let before = keys(&store, Key::all()).await;
    assert!(matches!(reserve(&store, &request, true).await, Ok(Reserved::New(_))));
    assert_eq!(keys(&store, Key::all()).await, before, "a dry run writes nothing");
    let record = kept(&store, &request).await;
    assert_eq!(reserve(&store, &request, false).await.expect("again"), Reserved::Already(record.clone()));
    assert_eq!(reserve(&store, &request, true).await.expect("again"), Reserved::Already(record.clone()));
    let listed = reservations(&store, Some(&tenant_name())).await.expect("a list");
    assert_eq!(listed.into_iter().map(|there| there.record).collect::<Vec<_>>(), vec![record.clone()]);
    assert_eq!(lift(&store, &record, true).await.expect("would be"), Lifted::Done);
    assert_eq!(reservations(&store, None).await.expect("a list").len(), 1, "a dry run deletes nothing");
    assert_eq!(lift(&store, &record, false).await.expect("lifted"), Lifted::Done);
    assert_eq!(lift(&store, &record, false).await.expect("lifted"), Lifted::Already);
    assert_eq!(keys(&store, Key::all()).await, before, "nothing is left of it");
    // The present record has another owner.
    kept(&store, &keep(9, "web-1")).await;
    kept(&store, &keep(10, "web-0")).await;
    assert_eq!(lift(&store, &record, false).await.expect("an answer"), Lifted::Already);
    assert_eq!(reservations(&store, None).await.expect("a list").len(), 2);
}

async fn a_mac_is_kept_with_the_address(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let record = kept(&store, &ReserveRequest { mac: Some(mac), ..keep(9, "web-0") }).await;
    let requested = AddressRequest { mac: Some(mac), ..AddressRequest::default() };
    let error = ask(&store, &fixture, &attachment("thief"), "other", &requested).await.expect_err("used");
    assert!(error.to_string().ends_with("by the reservation for pod red/web-0"), "{error}");
    let second = reserve(&store, &ReserveRequest { mac: Some(mac), ..keep(10, "web-1") }, false).await;
    assert!(matches!(second, Err(IpamError::MacTaken { .. })), "{second:?}");
    for container in ["w0", "w1"] {
        let claimed = start(&store, &fixture, container, "web-0").await;
        assert_eq!((claimed.record.mac, address(&claimed)), (mac, ip(9)));
        // Its MAC would have no record.
        let error = lift(&store, &record, false).await.expect_err("in use");
        assert!(error.to_string().contains("which pod red/web-0, attachment n1/atoll/w"), "{error}");
        stop(&store, &claimed).await;
        assert_eq!(
            keys(&store, Key::from(MacRecord::of_tenant(&tenant_name()))).await.len(),
            1,
            "it is the reservation's"
        );
    }
    assert_eq!(lift(&store, &record, false).await.expect("lifted"), Lifted::Done);
    assert_eq!(keys(&store, Key::from(MacRecord::of_tenant(&tenant_name()))).await.len(), 0);
    // The address of a gateway cannot be reserved.
    let gateway = derive::object(fixture.cluster.id, fixture.tenant.incarnation, &NetworkPart::GatewayPort(0));
    let gateway = ReserveRequest { mac: Some(derive::mac(gateway)), ..keep(11, "web-2") };
    let error = reserve(&store, &gateway, true).await.expect_err("it is the gateway's");
    assert!(error.to_string().contains("the gateway of subnet 0"), "{error}");
    // A pod that runs with a MAC, chosen or derived, may keep it.
    for (pod, requested) in [("chosen", requested), ("derived", AddressRequest::default())] {
        let answer = ask(&store, &fixture, &attachment(pod), pod, &requested).await;
        let Ok(Claimed::New(claimed)) = answer else { panic!("{answer:?}") };
        let last = last_byte(address(&claimed));
        let own = ReserveRequest { mac: Some(claimed.record.mac), ..keep(last, pod) };
        let other = ReserveRequest { mac: Some(claimed.record.mac), ..keep(200, "other") };
        let refused = reserve(&store, &other, false).await;
        assert!(matches!(refused, Err(IpamError::MacTaken { .. })), "{refused:?}");
        let record = kept(&store, &own).await;
        stop(&store, &claimed).await;
        let again = start(&store, &fixture, &format!("{pod}-again"), pod).await;
        assert_eq!((again.record.mac, address(&again)), (claimed.record.mac, address(&claimed)));
        stop(&store, &again).await;
        assert_eq!(lift(&store, &record, false).await.expect("lifted"), Lifted::Done);
        assert_eq!(keys(&store, Key::from(MacRecord::of_tenant(&tenant_name()))).await.len(), 0);
    }
}

async fn an_address_request_must_agree_with_the_reservation(store: impl Store) {
    let entries = vec![subnet(0, "10.128.0.0/24", Phase::Active), subnet(1, "10.128.1.0/24", Phase::Active)];
    let fixture = Fixture::new(&store, entries).await;
    let (mac, at) = (Mac([2, 0, 0, 0, 0, 1]), attachment("w"));
    kept(&store, &ReserveRequest { mac: Some(mac), ..keep(9, "web-0") }).await;
    let requests = [
        (AddressRequest { addresses: vec![ip(10)], ..AddressRequest::default() }, "but the pod asks for 10.128.0.10"),
        (
            AddressRequest { addresses: vec![ip(9), ip(10)], ..AddressRequest::default() },
            "but the pod asks for 10.128.0.9, 10.128.0.10",
        ),
        (
            AddressRequest { mac: Some(Mac([2; 6])), ..AddressRequest::default() },
            "and the pod asks for 02:02:02:02:02:02",
        ),
        (
            AddressRequest { subnet: Some(SubnetChoice::Ordinal(1)), ..AddressRequest::default() },
            "another subnet is asked for",
        ),
    ];
    for (requested, why) in requests {
        let error = ask(&store, &fixture, &at, "web-0", &requested).await.expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(find(&store, &at).await.expect("found").claim, None);
    let same = AddressRequest { addresses: vec![ip(9)], mac: Some(mac), subnet: Some(SubnetChoice::Ordinal(0)) };
    let claimed = ask(&store, &fixture, &at, "web-0", &same).await;
    assert!(matches!(&claimed, Ok(Claimed::New(claim)) if address(claim) == ip(9)), "{claimed:?}");
}

async fn another_interface_of_the_pod_gets_another_address(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
    kept(&store, &ReserveRequest { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..keep(4, "web-0") }).await;
    let (first, mut second) = (attachment("w"), attachment("w"));
    second.interface = "net1".parse().expect("valid");
    let nothing = AddressRequest::default();
    let one = ask(&store, &fixture, &first, "web-0", &nothing).await.expect("claimed");
    let Claimed::New(one) = one else { panic!("{one:?}") };
    let two = ask(&store, &fixture, &second, "web-0", &nothing).await.expect("claimed");
    let Claimed::New(two) = two else { panic!("{two:?}") };
    assert_eq!(address(&one), ip(4));
    assert_ne!(address(&two), ip(4));
    assert_eq!(two.record.mac, second.mac(), "the MAC goes with the address");
    assert_eq!(ask(&store, &fixture, &second, "web-0", &nothing).await.expect("again"), Claimed::Already(two.clone()));
    stop(&store, &two).await;
    stop(&store, &one).await;
}

async fn a_reservation_elsewhere_is_no_address_here(store: impl Store) {
    let mut fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let record = kept(&store, &keep(9, "web-0")).await;
    let back = Key::from(ReservationRecord::for_pod(&record.namespace, &record.pod));
    let elsewhere = ReservationRecord { tenant: "blue".parse().expect("valid"), ..record.clone() };
    write(&store, vec![put(back.clone(), &elsewhere)]).await;
    let nothing = AddressRequest::default();
    let error = ask(&store, &fixture, &attachment("w"), "web-0", &nothing).await.expect_err("elsewhere");
    let text = "10.128.0.9 is reserved for pod red/web-0, but in tenant blue, and the pod is of tenant red";
    assert_eq!((error.to_string().as_str(), error.class()), (text, Class::Denied));
    // Lifting what is here leaves what is there.
    assert_eq!(lift(&store, &record, false).await.expect("lifted"), Lifted::Done);
    assert_eq!(keys(&store, back.clone()).await.len(), 1);
    assert_eq!(lift(&store, &elsewhere, false).await.expect("lifted"), Lifted::Done);
    assert_eq!(keys(&store, back).await.len(), 0);
    // The tenant was made anew.
    kept(&store, &keep(9, "web-0")).await;
    fixture.tenant.incarnation = Incarnation::random();
    fixture.rewrite_tenant(&store).await;
    let error = ask(&store, &fixture, &attachment("w"), "web-0", &nothing).await.expect_err("an earlier incarnation");
    assert!(error.to_string().ends_with("but in an earlier incarnation of tenant red"), "{error}");
}

async fn half_a_reservation_is_reported_and_can_be_deleted(store: impl Store) {
    let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    let nothing = AddressRequest::default();
    for half in 0..2 {
        let record = kept(&store, &keep(9, "web-0")).await;
        let two = [
            Key::from(ReservationRecord::at(&tenant_name(), 0, ip(9))),
            Key::from(ReservationRecord::for_pod(&record.namespace, &record.pod)),
        ];
        write(&store, vec![StoreChange::Delete(two[half].clone())]).await;
        let error = reserve(&store, &keep(9, "web-0"), false).await.expect_err("half");
        assert!(error.to_string().contains(&format!("{} is missing", two[half])), "{error}");
        let answer = ask(&store, &fixture, &attachment(&format!("w{half}")), "web-0", &nothing).await;
        match answer {
            Err(error) if half == 0 => assert!(error.to_string().contains("is missing"), "{error}"),
            // The address cannot be assigned.
            Ok(Claimed::New(claim)) if half == 1 => assert_ne!(address(&claim), ip(9)),
            other => panic!("{other:?}"),
        }
        assert_eq!(lift(&store, &record, false).await.expect("lifted"), Lifted::Done);
        assert_eq!(reservations(&store, None).await.expect("a list").len(), 0);
    }
}

/// Every way in which a single call of the store can fail, at every call: the same command again brings it to its end.
#[tokio::test]
async fn reserving_and_lifting_survive_every_fault() {
    for mac in [None, Some(Mac([2, 0, 0, 0, 0, 1]))] {
        for fault in Fault::ALL {
            for at in 0..4 {
                let (memory, plan) = (MemoryStore::new(), FaultPlan::none());
                let store = FaultyStore::new(memory.clone(), plan.clone());
                Fixture::new(&memory, vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
                let before = keys(&memory, Key::all()).await;
                let request = ReserveRequest { mac, ..keep(9, "web-0") };
                plan.arm(at, fault);
                drop(plan.run(reserve(&store, &request, false)).await);
                plan.reset();
                let (Reserved::New(record) | Reserved::Already(record)) =
                    reserve(&store, &request, false).await.expect("reserved");
                plan.deliver_late().await;
                let there = reservations(&memory, None).await.expect("a list");
                assert_eq!(there.into_iter().map(|there| there.record).collect::<Vec<_>>(), vec![record.clone()]);
                assert_eq!(keys(&memory, Key::all()).await.len(), before.len() + 2 + usize::from(mac.is_some()));
                plan.arm(at, fault);
                drop(plan.run(lift(&store, &record, false)).await);
                plan.reset();
                lift(&store, &record, false).await.expect("lifted");
                plan.deliver_late().await;
                assert_eq!(keys(&memory, Key::all()).await, before, "{fault:?} at {at}");
            }
        }
    }
}

/// The cost of a reservation for a claim: one read of the reservation, and one of the cool-down.
#[tokio::test]
async fn a_reserved_address_costs_two_more_round_trips_at_most() {
    let (memory, plan) = (MemoryStore::new(), FaultPlan::none());
    let store = FaultyStore::new(memory.clone(), plan.clone());
    let fixture = Fixture::new(&memory, vec![subnet(0, "10.128.0.0/16", Phase::Active)]).await;
    kept(&memory, &keep(9, "web-0")).await;
    for (container, expected) in [("w0", 2), ("w1", 3)] {
        plan.reset();
        let claimed = start(&store, &fixture, container, "web-0").await;
        assert_eq!(plan.passed().len(), expected, "{:?}", plan.passed());
        stop(&memory, &claimed).await;
    }
}
