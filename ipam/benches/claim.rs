//! Claims per second, in memory and through a real etcd, at 0, 50, 95 and 100 % of a /24 and a /16. With each, the
//! number of transactions and round trips of one claim. At 100 % a claim finds that no address is free.
//!
//! `cargo bench -p atoll-ipam` runs it; it needs etcd and an idle machine.

use atoll_testkit::cell::{SyncCell, SyncRefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_ipam::{Claimed, IpamError, claim};
use atoll_records::{AddressRecord, AddressState, ClaimRecord, Key, Phase, SCHEMA, Unknown, encode};
use atoll_store::{Store, StoreChange, Txn};
use atoll_testkit::fixture::{Fixture, attachment, subnet, tenant_name};
use atoll_testkit::store::{InterceptedStore, Interception, MemoryStore, StoreCall, at_once};
use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::runtime::{Builder, Runtime};

/// How many keys one transaction of etcd may write.
const BATCH: usize = 100;

/// The calls of a store so far.
#[derive(Default)]
struct Counts {
    transactions: SyncCell<u64>,
    round_trips: SyncCell<u64>,
}

/// A store whose reads and transactions are counted.
fn counted<S: Store>(inner: S, counts: Arc<Counts>) -> impl Store {
    let count = at_once(move |call| {
        let is_transaction = matches!(call, StoreCall::Commit(_));
        if is_transaction || matches!(call, StoreCall::Read(_)) {
            counts.round_trips.set(counts.round_trips.get() + 1);
            counts.transactions.set(counts.transactions.get() + u64::from(is_transaction));
        }
        Interception::None
    });
    InterceptedStore::new(inner, count)
}

/// How many pods a subnet can hold.
fn pods(cidr: &str) -> usize {
    let network: ipnetwork::Ipv4Network = cidr.parse().expect("a network");
    usize::try_from(network.size()).expect("small") - 3
}

/// A tenant with so many addresses in use, with the records of pods of another node.
async fn filled(store: &impl Store, cidr: &str, taken: usize) -> Fixture {
    let fixture = Fixture::new(store, vec![subnet(0, cidr, Phase::Active)]).await;
    let network: ipnetwork::Ipv4Network = cidr.parse().expect("a network");
    let other = attachment("another-0123456789abcdef0123456789abcdef");
    let state = AddressState::Claimed { claim: atoll_model::ids::ClaimId::random(), attachment: other };
    let value = encode(&AddressRecord { v: SCHEMA, state, unknown: Unknown::new() });
    let mut addresses: Vec<Ipv4Addr> = network.iter().skip(2).take(pods(cidr)).collect();
    // Spread over the subnet, and the same in each run.
    addresses.sort_by_key(|address| u64::from(u32::from(*address)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    addresses.truncate(taken);
    let put = |address: Ipv4Addr| StoreChange::Put {
        key: Key::from(AddressRecord::at(&tenant_name(), 0, IpAddr::V4(address))),
        value: value.clone(),
        lease: None,
    };
    let changes: Vec<_> = addresses.into_iter().map(put).collect();
    for batch in changes.chunks(BATCH) {
        store.commit(Txn { then: batch.to_vec(), ..Txn::default() }).await.expect("filled");
    }
    fixture
}

/// Measures claims; each is released again between the measurements.
async fn claims(store: &impl Store, fixture: &Fixture, serial: &SyncCell<u64>, iterations: u64) -> Duration {
    let mut taken = Duration::ZERO;
    for _ in 0..iterations {
        let at = attachment(&format!("c{}", serial.replace(serial.get() + 1)));
        let request = fixture.request(&at, None);
        let began = Instant::now();
        let outcome = claim(store, &request).await;
        taken += began.elapsed();
        match outcome {
            Ok(Claimed::New(claim)) => {
                let address = claim.record.addresses[0].address.ip();
                let keys = [Key::from(ClaimRecord::at(&at)), Key::from(AddressRecord::at(&tenant_name(), 0, address))];
                let then = keys.into_iter().map(StoreChange::Delete).collect();
                store.commit(Txn { then, ..Txn::default() }).await.expect("undone");
            }
            Err(IpamError::Exhausted { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    taken
}

fn bench<S: Store>(criterion: &mut Criterion, runtime: &Runtime, name: &str, new: impl Fn() -> S) {
    let mut group = criterion.benchmark_group(format!("claim/{name}"));
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(3));
    for cidr in ["10.128.0.0/24", "10.128.0.0/16"] {
        for percent in [0, 50, 95, 100] {
            let (_, length) = cidr.split_once('/').expect("a network");
            let serial = SyncCell::new(0);
            // Made when it is needed: a filter on the command line may leave it out.
            let mut prepared = None;
            group.bench_function(BenchmarkId::new(format!("of a {length}"), format!("{percent} %")), |bencher| {
                let (store, fixture, _) = prepared.get_or_insert_with(|| {
                    let counts = Arc::new(Counts::default());
                    let store = counted(new(), Arc::clone(&counts));
                    let fixture = runtime.block_on(filled(&store, cidr, pods(cidr) * percent / 100));
                    counts.transactions.set(0);
                    counts.round_trips.set(0);
                    (store, fixture, counts)
                });
                bencher.iter_custom(|count| runtime.block_on(claims(store, fixture, &serial, count)));
            });
            if let Some((.., counts)) = prepared {
                // Each claim that was given was undone by one more transaction.
                let undone = if percent == 100 { 0 } else { serial.get() };
                let mean = |count: &SyncCell<u64>| shown((count.get() - undone) * 1000 / serial.get().max(1));
                let (transactions, round_trips) = (mean(&counts.transactions), mean(&counts.round_trips));
                print(&format!("        per claim: {transactions} transactions, {round_trips} round trips"));
            }
        }
    }
    group.finish();
}

/// The numbers with a bound: medians of claims that alternate, so that other load of the machine affects all of them alike.
fn in_turn(runtime: &Runtime) {
    const ROUNDS: u64 = 400;
    const CIDR: &str = "10.128.0.0/16";
    let sites: Vec<_> = [0, 1_000, 32_000, 60_000]
        .into_iter()
        .map(|taken| {
            let server = runtime.block_on(atoll_testkit::etcd::EtcdServer::start());
            let store = server.store();
            let fixture = runtime.block_on(filled(&store, CIDR, taken));
            (server, store, fixture, taken, SyncCell::new(0), SyncRefCell::new(Vec::new()))
        })
        .collect();
    for _ in 0..ROUNDS {
        for (_, store, fixture, _, serial, times) in &sites {
            times.borrow_mut().push(runtime.block_on(claims(store, fixture, serial, 1)));
        }
    }
    let median = |times: &SyncRefCell<Vec<Duration>>| {
        times.borrow_mut().sort_unstable();
        times.borrow()[times.borrow().len() / 2]
    };
    let empty = median(&sites[0].5);
    for (.., taken, _, times) in &sites {
        let median = median(times);
        let ratio = shown(u64::try_from(median.as_nanos() * 1000 / empty.as_nanos().max(1)).unwrap_or(u64::MAX));
        print(&format!("{taken} in use of a /16, through etcd, in turn: median {median:?}, {ratio} of empty"));
    }
}

fn shown(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

#[expect(clippy::print_stdout, reason = "beside the times that criterion prints")]
fn print(line: &str) {
    println!("{line}");
}

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, &runtime, "memory", MemoryStore::new);
    // One server for each amount: what others left would cost too.
    let servers = std::cell::RefCell::new(Vec::new());
    bench(&mut criterion, &runtime, "etcd", || {
        let server = runtime.block_on(atoll_testkit::etcd::EtcdServer::start());
        let store = server.store();
        servers.replace(vec![server]);
        store
    });
    if std::env::args().any(|argument| argument == "--bench") {
        in_turn(&runtime);
    }
    criterion.final_summary();
}
