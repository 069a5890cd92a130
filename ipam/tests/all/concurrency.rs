//! Many claimers at once through a real etcd: the last address of a full subnet is given, and none twice.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use atoll_ipam::{Claimed, IpamError, Released, claim, claims_of, find, release};
use atoll_records::{AddressRecord, CoolDown, Key, Phase};
use atoll_store::{Etcd, Store as _};
use atoll_testkit::fixture::{Fixture, address, attachment, keys, node_name, subnet, tenant_name};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

#[tokio::test]
async fn many_claims_at_once_fill_a_subnet_and_release_it() {
    let server = atoll_testkit::etcd::EtcdServer::start().await;
    // Every claimer its own connections, as processes have.
    let stores: Vec<Etcd> = (0..16).map(|_| server.store()).collect();
    let fixture = Fixture::new(&stores[0], vec![subnet(0, "10.128.0.0/24", Phase::Active)]).await;
    // 253 addresses, three of which stay out of reach: 16 claim at a time, and each asks twice at once.
    let claimed: Vec<_> = stream::iter(0..250)
        .map(|n| {
            let (one, two) = (&stores[n % 16], &stores[(n + 5) % 16]);
            let fixture = &fixture;
            async move {
                let at = attachment(&format!("c{n}"));
                let request = fixture.request(&at, None);
                let (first, second) = tokio::join!(claim(one, &request), claim(two, &request));
                match (first.expect("an answer"), second.expect("an answer")) {
                    (Claimed::New(new), Claimed::Already(same)) | (Claimed::Already(same), Claimed::New(new)) => {
                        assert_eq!(new.record, same.record);
                        new
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let addresses: BTreeSet<_> = claimed.iter().map(address).collect();
    assert_eq!(addresses.len(), 250, "an address was given twice");
    assert_eq!(claims_of(&stores[0], &node_name()).await.expect("a list").len(), 250);

    // Ten more want the last three: three get one, seven are refused with the reason.
    let late: Vec<_> = (0..10).map(|n| attachment(&format!("late{n}"))).collect();
    let requests: Vec<_> = late.iter().map(|at| fixture.request(at, None)).collect();
    let outcomes = join_all(requests.iter().zip(&stores).map(|(request, store)| claim(store, request))).await;
    let won = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Claimed::New(_)))).count();
    let full = outcomes.iter().filter(|outcome| matches!(outcome, Err(IpamError::Exhausted { .. }))).count();
    assert_eq!((won, full), (3, 7), "{outcomes:?}");

    // All are released at once, each twice. Most addresses are in cool-down on one lease, the others are free.
    let all_claims = claims_of(&stores[0], &node_name()).await.expect("a list");
    let turn = Cell::new(0);
    stream::iter(&all_claims)
        .for_each_concurrent(16, |claim| {
            turn.set(turn.get() + 1);
            let (one, two) = (&stores[turn.get() % 16], &stores[(turn.get() + 7) % 16]);
            let cooldown = if turn.get().is_multiple_of(5) { Duration::ZERO } else { Duration::from_mins(1) };
            async move {
                let (first, second) =
                    tokio::join!(release(one, claim, None, cooldown), release(two, claim, None, cooldown));
                assert_eq!(first.expect("released"), Released::Done);
                assert_eq!(second.expect("released"), Released::Done);
            }
        })
        .await;
    assert_eq!(claims_of(&stores[0], &node_name()).await.expect("a list"), []);
    assert_eq!(keys(&stores[0], Key::from(CoolDown::of_subnet(&tenant_name(), 0))).await.len(), 253 - 50);
    assert_eq!(keys(&stores[0], Key::from(AddressRecord::of_tenant(&tenant_name()))).await.len(), 253 - 50);
    let leases = server.etcdctl(&["lease", "list"]).lines().filter(|line| !line.contains("found")).count();
    assert!((1..=2).contains(&leases), "one lease for a half-minute, not one for each release: {leases}");
    assert!(find(&stores[0], &late[0]).await.expect("an answer").claim.is_none());
    // Nothing was asked of the store that it had to refuse.
    assert!(stores[0].read(vec![]).await.is_ok());
}
