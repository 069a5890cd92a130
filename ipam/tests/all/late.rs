//! A request that was taken for lost arrives while a later call of the same attachment reads: before the later call refuses,
//! it finds the attachment's own claim.

use atoll_testkit::cell::SyncCell;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{Deciding, FaultyStore, InterceptedStore, Interception, MemoryStore, StoreCall};
use std::sync::Arc;
use std::time::Duration;

use atoll_records::{ClaimRecord, Phase, Versioned};

use atoll_ipam::{ClaimRequest, Claimed, IpamError, claim, find, release};
use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_store::Store;
use atoll_testkit::fixture::{Fixture, attachment, subnet};

const COOL_DOWN: Duration = Duration::from_mins(1);

/// A store that delivers the late requests of a plan right before its call number `at` (0 is the first), and how often it
/// was called.
fn delivering(store: &MemoryStore, plan: &FaultPlan, at: usize) -> (impl Store, Arc<SyncCell<usize>>) {
    let calls = Arc::new(SyncCell::new(0));
    let (counted, plan) = (Arc::clone(&calls), plan.clone());
    let disturb = move |_: StoreCall<'_>| -> Deciding {
        let (delivers, plan) = (counted.replace(counted.get() + 1) == at, plan.clone());
        Box::pin(async move {
            if delivers {
                assert_eq!(plan.deliver_late().await, 1, "one request was on its way");
            }
            Interception::None
        })
    };
    (InterceptedStore::new(store.clone(), disturb), calls)
}

/// What is there before, and what happens when the first call of attachment `x` has died with its request on its way.
struct Scene {
    store: MemoryStore,
    fixture: Fixture,
    requested: AddressRequest,
    /// These go before the second call begins, and their addresses are free at once.
    going: Vec<Versioned<ClaimRecord>>,
}

impl Scene {
    async fn claim(&self, store: &impl Store) -> Result<Claimed, IpamError> {
        let at = attachment("x");
        claim(store, &ClaimRequest { requested: &self.requested, ..self.fixture.request(&at, None) }).await
    }
}

/// The second call finds the claim of the first, wherever that arrives. The number of places.
async fn wherever_it_arrives(scene: impl AsyncFn() -> Scene) -> usize {
    for at in 0.. {
        let there = scene().await;
        // The last commit of a first call that nothing disturbs is the one that gets an address.
        let (rehearsal, plan) = (scene().await, FaultPlan::none());
        let claimed = rehearsal.claim(&FaultyStore::new(rehearsal.store.clone(), plan.clone())).await;
        assert!(matches!(claimed, Ok(Claimed::New(_))), "{claimed:?}");
        let passed = plan.passed();
        let last = passed.iter().rposition(|call| call.starts_with("store: commit")).expect("it committed");
        plan.arm(last, Fault::CrashLate);
        let dying = FaultyStore::new(there.store.clone(), plan.clone());
        assert!(plan.run(there.claim(&dying)).await.is_none(), "it died");
        for gone in &there.going {
            release(&there.store, gone, None, Duration::ZERO).await.expect("released");
        }

        let (store, calls) = delivering(&there.store, &plan, at);
        let answer = there.claim(&store).await;
        if calls.get() <= at {
            return at;
        }
        let (Ok(Claimed::Already(claim) | Claimed::New(claim)), calls) = (&answer, calls.get()) else {
            panic!("it arrived before call {at} of {}: {answer:?}", calls.get());
        };
        let found = find(&there.store, &attachment("x")).await.expect("found").claim;
        assert_eq!(found.as_ref(), Some(claim), "it arrived before call {at} of {calls}");
    }
    unreachable!("a call comes to an end")
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_not_full_of_what_this_very_attachment_has() {
    for chosen in [None, Some(SubnetChoice::Ordinal(0))] {
        let places = wherever_it_arrives(async || {
            let store = MemoryStore::new();
            let fixture = Fixture::new(&store, vec![subnet(0, "10.128.0.0/29", Phase::Active)]).await;
            let mut claims = Vec::new();
            for n in 0..5 {
                claims.push(fixture.claim(&store, &format!("c{n}")).await);
            }
            // One address is in cool-down: the one that `x` requests in the end.
            release(&store, &claims[0], None, COOL_DOWN).await.expect("released");
            Scene {
                store,
                fixture,
                requested: AddressRequest { subnet: chosen, ..AddressRequest::default() },
                going: Vec::new(),
            }
        })
        .await;
        assert!(places >= 4, "a try, the addresses, those in cool-down, and another try: {places}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mac_is_not_refused_to_the_attachment_that_has_it_already() {
    let places = wherever_it_arrives(async || {
        let store = MemoryStore::new();
        let entries = vec![subnet(0, "10.128.0.0/29", Phase::Active), subnet(1, "10.128.1.0/30", Phase::Active)];
        let fixture = Fixture::new(&store, entries).await;
        let newest = fixture.claim(&store, "newest").await;
        let mut claims = Vec::new();
        for n in 0..5 {
            claims.push(fixture.claim(&store, &format!("c{n}")).await);
        }
        // The only address of the newer subnet is in cool-down, so the first call asks for that one. Then one of the older
        // becomes free, where the MAC is a pod's derived one.
        release(&store, &newest, None, COOL_DOWN).await.expect("released");
        let requested = AddressRequest { mac: Some(claims[4].record.mac), ..AddressRequest::default() };
        Scene { store, fixture, requested, going: vec![claims[0].clone()] }
    })
    .await;
    assert!(places >= 4, "a try, the addresses of two subnets, and the MACs of one: {places}");
}
