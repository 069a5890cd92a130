//! Everything that can go wrong at every transaction of every operation of the engine: the process dies before it, after it, or
//! with the request on its way; the answer is lost; it is refused. Then the caller does it again, or undoes it; the late
//! request arrives before that or after everything; and nothing may be left, missing or brought back.

use std::collections::BTreeMap;

use atoll_model::ids::{ClaimId, ClusterId, HostId};
use atoll_network::conformance::samples::{Families, network, port};
use atoll_network::{
    DriftKind, Engine as _, EngineError, Network, NetworkNextHop, NetworkRoute, PodPort, PortRemoval, ProviderNetwork,
    WriterEpoch,
};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::{Mutation, Row, RowOperation, Value};
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::ovn::{FaultyDatabase, MemoryDatabase, Schema};
use uuid::Uuid;

type FaultyEngine = Ovn<FaultyDatabase<MemoryDatabase>>;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    /// The first network of a cluster.
    FirstNetwork,
    /// A further network.
    Network,
    /// Two networks together.
    Together,
    /// A newer record of a network: a route comes, another goes.
    Route,
    /// A route to a pod comes, whose port is there.
    NextHop,
    /// The port of a pod to which a route leads.
    PortOfNextHop,
    /// A subnet goes.
    DeleteSubnet,
    /// What only an older record had goes.
    Withdraw,
    /// A newer record without names of pods.
    Nameless,
    /// A network goes.
    DeleteNetwork,
    /// The first port of a node.
    FirstPort,
    /// A further port.
    Port,
    /// A port goes, as its claim describes it.
    DeletePort,
    /// A port goes, of which only the id is known.
    DeletePortById,
    /// A node is fenced.
    Fence,
}

const VERBS: [Verb; 15] = [
    Verb::FirstNetwork,
    Verb::Network,
    Verb::Together,
    Verb::Route,
    Verb::NextHop,
    Verb::PortOfNextHop,
    Verb::DeleteSubnet,
    Verb::Withdraw,
    Verb::Nameless,
    Verb::DeleteNetwork,
    Verb::FirstPort,
    Verb::Port,
    Verb::DeletePort,
    Verb::DeletePortById,
    Verb::Fence,
];

const NO_NAMES: Value = Value::Map(BTreeMap::new());

/// What the caller does afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The same once more.
    Again,
    /// The network is deleted, or the node is fenced.
    Undo,
    /// A still newer record is applied, which takes the change back.
    Newest,
}

/// When the late request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    Before,
    After,
}

/// One run.
struct Lab {
    database: MemoryDatabase,
    plan: FaultPlan,
    network: Network,
    /// The record that the verb applies.
    newer: Network,
    /// A record after that, which takes its change back.
    newest: Network,
    port: PodPort,
    /// Another tenant's network.
    other: Network,
}

/// What a route leads to the port.
const LED: &str = "192.0.2.0/24";

fn led_to(port: &PodPort) -> NetworkRoute {
    NetworkRoute { destination: LED.parse().expect("a network"), next_hop: NetworkNextHop::Gateway(port.addresses[0]) }
}

fn is_of_port(verb: Verb) -> bool {
    let is_made = matches!(verb, Verb::FirstPort | Verb::Port | Verb::PortOfNextHop);
    is_made || matches!(verb, Verb::DeletePort | Verb::DeletePortById | Verb::Fence)
}

fn blackhole(destination: &str) -> NetworkRoute {
    NetworkRoute { destination: destination.parse().expect("a network"), next_hop: NetworkNextHop::Blackhole }
}

impl Lab {
    /// A lab before `verb`.
    async fn new(verb: Verb) -> Self {
        let (database, plan) = (MemoryDatabase::new(Schema::Northbound), FaultPlan::none());
        let cluster = ClusterId(Uuid::from_u128(0xc));
        let engine = Ovn::new(FaultyDatabase::new("northbound", database.clone(), plan.clone()), None, None);
        engine.ensure_provider(&ProviderNetwork { cluster, uplinks: Vec::new() }).await.expect("made");
        let provider = engine.routers().await.expect("listed")[0].id;
        let network = network(provider, 1, 2, Families::Both);
        let network = Network { routes: vec![blackhole("10.98.0.0/16")], names: true, ..network };
        let newer = Network {
            routes: vec![blackhole("10.99.0.0/16")],
            removed_routes: network.routes.clone(),
            revision: network.revision + 1,
            ..network.clone()
        };
        let port = port(&network, 1, 9, 2, &HostId::new("node-1.example").expect("a host"), Families::Both);
        let port = PodPort { names: vec!["web.example".to_owned(), "web.red.example".to_owned()], ..port };
        let newer = match verb {
            Verb::NextHop | Verb::PortOfNextHop => Network { routes: vec![led_to(&port)], ..newer },
            _ => newer,
        };
        let newest = Network {
            routes: network.routes.clone(),
            removed_routes: newer.routes.clone(),
            revision: newer.revision + 1,
            ..network.clone()
        };
        let other = atoll_network::conformance::samples::network(provider, 2, 1, Families::V4);
        let lab = Self { database, plan, network, newer, newest, port, other };
        match verb {
            Verb::FirstNetwork | Verb::Together => {}
            Verb::Network => drop(engine.ensure_network(&lab.other).await.expect("made")),
            _ => drop(engine.ensure_network(&lab.network).await.expect("made")),
        }
        if verb == Verb::PortOfNextHop {
            engine.ensure_network(&lab.newer).await.expect("made");
        }
        if !matches!(verb, Verb::FirstPort) {
            let other = PodPort { id: Uuid::from_u128(0xbb), names: Vec::new(), ..lab.port.clone() };
            if lab.is_made(&lab.network) {
                engine.ensure_port(&other).await.expect("made");
                engine.delete_port(&PortRemoval::by_id(other.id)).await.expect("deleted");
            }
        }
        if matches!(verb, Verb::NextHop | Verb::DeletePort | Verb::DeletePortById | Verb::Fence) {
            engine.ensure_port(&lab.port).await.expect("made");
        }
        lab
    }

    /// Another process.
    fn engine(&self) -> FaultyEngine {
        Ovn::new(FaultyDatabase::new("northbound", self.database.clone(), self.plan.clone()), None, None)
    }

    async fn run(&self, verb: Verb) -> Result<(), EngineError> {
        let (engine, network) = (self.engine(), &self.network);
        let described = PortRemoval { id: self.port.id, port: Some(self.port.clone()), verified: true };
        match verb {
            Verb::FirstNetwork | Verb::Network => engine.ensure_network(network).await.map(drop),
            Verb::Together => {
                let made = engine.ensure_networks(&[network.clone(), self.other.clone()]).await;
                made.into_iter().try_for_each(|made| made.map(drop))
            }
            Verb::Route | Verb::NextHop => engine.ensure_network(&self.newer).await.map(drop),
            Verb::DeleteSubnet => engine.delete_subnet(&self.newer, 2).await.map(drop),
            Verb::Withdraw => engine.withdraw_network(network, Some(&self.newer)).await.map(drop),
            Verb::Nameless => engine.ensure_network(&self.nameless()).await.map(drop),
            Verb::DeleteNetwork => engine.delete_network(network).await.map(drop),
            Verb::FirstPort | Verb::Port | Verb::PortOfNextHop => engine.ensure_port(&self.port).await.map(drop),
            Verb::DeletePort => engine.delete_port(&described).await,
            Verb::DeletePortById => engine.delete_port(&PortRemoval::by_id(self.port.id)).await,
            Verb::Fence => self.fence(2).await,
        }
    }

    async fn fence(&self, epoch: u64) -> Result<(), EngineError> {
        let writer = WriterEpoch { node: self.port.writer.node.clone(), epoch };
        let described = PortRemoval { id: self.port.id, port: Some(self.port.clone()), verified: true };
        self.engine().fence(self.network.id.cluster, &writer, &[described]).await
    }

    async fn undo(&self, verb: Verb) -> Result<(), EngineError> {
        match verb {
            _ if is_of_port(verb) => self.fence(7).await,
            _ => self.engine().delete_network(&self.newer).await.map(drop),
        }
    }

    fn nameless(&self) -> Network {
        Network { names: false, revision: self.network.revision + 1, ..self.network.clone() }
    }

    fn is_made(&self, network: &Network) -> bool {
        self.database.rows("Logical_Router").contains_key(&network.id.router())
    }

    /// The port is there, and its names with it; or neither.
    fn has_port(&self) -> bool {
        let has_port = self.database.rows("Logical_Switch_Port").contains_key(&self.port.id);
        let addresses: Vec<_> = self.port.addresses.iter().map(ToString::to_string).collect();
        let names = has_port.then(|| self.port.names.iter().map(|name| (name.clone(), addresses.join(" "))));
        let expected = Value::map(names.into_iter().flatten());
        let rows = self.database.rows("DNS");
        let found: Vec<_> = rows.values().filter_map(|row| row.get("records")).filter(|it| **it != NO_NAMES).collect();
        let expected: Vec<_> = [&expected].into_iter().filter(|it| **it != NO_NAMES).collect();
        assert_eq!(found, expected, "names of a port that is there: {has_port}");
        has_port
    }

    /// Rows of the network, by table.
    fn left(&self) -> BTreeMap<&'static str, usize> {
        let mine = self.network.id.incarnation.to_string();
        let of = |table: &'static str| {
            let rows = self.database.rows(table);
            let id = |row: &Row, key: &str| row.get("external_ids").and_then(|ids| ids.get(key)).map(str::to_owned);
            // What remembers a deletion stays.
            let mine = rows.values().filter(|row| {
                id(row, "atoll-incarnation").as_deref() == Some(mine.as_str())
                    && id(row, "atoll-role").as_deref() != Some("removed")
            });
            (table, mine.count())
        };
        let tables = [
            "Logical_Router",
            "Logical_Router_Port",
            "Logical_Router_Static_Route",
            "NAT",
            "Logical_Switch",
            "Logical_Switch_Port",
            "DNS",
        ];
        tables.map(of).into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// A port accepts what a route leads to it, if there is such a route.
    fn assert_routes_and_ports_agree(&self, context: &str) {
        let is_led = self.database.rows("Logical_Router_Static_Route").values().any(|row| {
            row.get("ip_prefix").and_then(Value::text) == Some(LED)
                && row.get("nexthop").and_then(Value::text) != Some("discard")
        });
        if let Some(row) = self.database.rows("Logical_Switch_Port").get(&self.port.id) {
            let security = row.get("port_security").and_then(Value::text).unwrap_or_default();
            assert_eq!(security.contains(LED), is_led, "{context}: the port accepts {security}");
        }
    }

    async fn check(&self, verb: Verb, then: Then, context: &str) {
        self.assert_routes_and_ports_agree(context);
        let engine = self.engine();
        if then == Then::Newest {
            let drift = engine.diff_network(&self.newest).await.expect("compared");
            assert!(drift.is_empty(), "{context}: {drift:?}");
            let mut drift = engine.diff_network(&self.newer).await.expect("compared");
            drift.retain(|drift| drift.difference == DriftKind::Missing);
            assert_eq!(drift.len(), 1, "{context}: the route that was taken back: {drift:?}");
            return;
        }
        if then == Then::Undo {
            if is_of_port(verb) {
                assert!(!self.has_port(), "{context}: the port of a fenced node is there");
            } else {
                assert_eq!(self.left(), BTreeMap::new(), "{context}: rows of a deleted network");
            }
            return;
        }
        let complete = async |network: &Network| {
            let drift = engine.diff_network(network).await.expect("compared");
            assert!(drift.is_empty(), "{context}: {drift:?}");
        };
        match verb {
            Verb::FirstNetwork | Verb::Network => complete(&self.network).await,
            Verb::Together => {
                complete(&self.network).await;
                complete(&self.other).await;
            }
            Verb::Route | Verb::Withdraw => {
                if verb == Verb::Route {
                    complete(&self.newer).await;
                }
                let old = Network { routes: self.network.routes.clone(), ..self.newer.clone() };
                let drift = engine.diff_network(&old).await.expect("compared");
                assert_eq!(drift.len(), 1, "{context}: the removed route: {drift:?}");
            }
            Verb::Nameless => {
                complete(&self.nameless()).await;
                assert!(!self.left().contains_key("DNS"), "{context}: the row of names");
                let drift = engine.diff_network(&self.network).await.expect("compared");
                assert_eq!(drift.len(), 3, "{context}: the row, and a reference of each switch: {drift:?}");
            }
            Verb::DeleteSubnet => {
                let switch = self.network.id.subnet(2).object();
                assert!(!self.database.rows("Logical_Switch").contains_key(&switch), "{context}: subnet 2");
                let switch = self.network.id.subnet(1).object();
                assert!(self.database.rows("Logical_Switch").contains_key(&switch), "{context}: subnet 1");
            }
            Verb::NextHop => complete(&self.newer).await,
            Verb::DeleteNetwork => assert_eq!(self.left(), BTreeMap::new(), "{context}"),
            Verb::FirstPort | Verb::Port | Verb::PortOfNextHop => {
                assert!(self.has_port(), "{context}: there is no port");
            }
            Verb::DeletePort | Verb::DeletePortById | Verb::Fence => {
                assert!(!self.has_port(), "{context}: the port is there");
            }
        }
    }
}

#[tokio::test]
async fn a_sweep_over_every_transaction_of_the_engine() {
    let mut points = BTreeMap::new();
    for verb in VERBS {
        for fault in Fault::ALL {
            let changes_routes = matches!(verb, Verb::Route | Verb::NextHop | Verb::Withdraw);
            for then in
                if changes_routes { &[Then::Again, Then::Undo, Then::Newest][..] } else { &[Then::Again, Then::Undo] }
            {
                for late in if fault == Fault::CrashLate { &[Late::Before, Late::After][..] } else { &[Late::After] } {
                    for at in 0.. {
                        let lab = Lab::new(verb).await;
                        lab.plan.arm(at, fault);
                        let outcome = lab.plan.run(lab.run(verb)).await;
                        let passed = lab.plan.passed();
                        if passed.len() <= at {
                            outcome.expect("it did not die").expect("nothing went wrong");
                            break;
                        }
                        lab.plan.reset();
                        let context = format!("{verb:?}, {fault:?} at {at} ({}), {then:?}, {late:?}", passed[at]);
                        if *late == Late::Before {
                            lab.plan.deliver_late().await;
                        }
                        let done = match then {
                            Then::Again => lab.run(verb).await,
                            Then::Undo => lab.undo(verb).await,
                            Then::Newest => lab.engine().ensure_network(&lab.newest).await.map(drop),
                        };
                        done.unwrap_or_else(|error| panic!("{context}: {error}"));
                        lab.check(verb, *then, &context).await;
                        lab.plan.deliver_late().await;
                        lab.check(verb, *then, &format!("{context}, late")).await;
                        *points.entry(verb).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    let all: usize = points.values().sum();
    println!("{all} points: {points:?}");
    assert!(all >= 378, "{points:?}");
}

#[tokio::test]
async fn a_late_deletion_spares_the_port_of_a_later_claim() {
    for verb in [Verb::DeletePort, Verb::DeletePortById] {
        let lab = Lab::new(verb).await;
        lab.plan.arm_named("write", Fault::CrashLate);
        assert!(lab.plan.run(lab.run(verb)).await.is_none(), "{verb:?} dies");
        lab.plan.reset();
        lab.run(verb).await.expect("deleted");
        let later = PodPort { claim: ClaimId(Uuid::from_u128(0xcc)), ..lab.port.clone() };
        lab.engine().ensure_port(&later).await.expect("made");
        assert_eq!(lab.plan.deliver_late().await, 1, "{verb:?}");
        assert!(lab.has_port(), "{verb:?}: the port of the later claim");
    }
}

/// One of them stops before each of its transactions in turn, and the other one runs as a whole meanwhile.
#[tokio::test]
async fn a_route_to_a_pod_and_its_port_agree_whoever_is_first() {
    let mut points = 0;
    for (verb, first) in [(Verb::Port, "the port"), (Verb::Port, "the route"), (Verb::NextHop, "the route goes")] {
        for at in 0.. {
            let lab = Lab::new(verb).await;
            let led = Network { routes: vec![led_to(&lab.port)], ..lab.newer.clone() };
            let back = Network { removed_routes: led.routes.clone(), ..lab.newest.clone() };
            if first == "the route goes" {
                lab.engine().ensure_network(&led).await.expect("made");
                lab.fence(2).await.expect("the port goes");
            }
            let port = PodPort { writer: WriterEpoch { epoch: 3, ..lab.port.writer.clone() }, ..lab.port.clone() };
            let (paused, engine) = (lab.engine(), lab.engine());
            let network = if first == "the route goes" { &back } else { &led };
            lab.plan.pause_at(at);
            let mut call = Box::pin(async {
                if first == "the route" {
                    paused.ensure_network(network).await.map(drop)
                } else {
                    paused.ensure_port(&port).await.map(drop)
                }
            });
            if let Some(done) = lab.plan.run_until_paused(call.as_mut()).await {
                done.expect("nothing went wrong");
                break;
            }
            let when = format!("{first} is paused at {at}");
            if first == "the route" {
                engine.ensure_port(&port).await.expect("made");
            } else {
                engine.ensure_network(network).await.expect("made");
            }
            lab.assert_routes_and_ports_agree(&when);
            lab.plan.resume();
            call.await.unwrap_or_else(|error| panic!("{when}: {error}"));
            assert!(lab.has_port(), "{when}");
            lab.assert_routes_and_ports_agree(&when);
            points += 1;
        }
    }
    println!("{points} points");
    assert!(points >= 5, "{points}");
}

#[tokio::test]
async fn the_last_port_has_a_name_and_each_takes_only_its_own_along() {
    let lab = Lab::new(Verb::DeletePort).await;
    let engine = lab.engine();
    let names = || {
        let rows = lab.database.rows("DNS").into_values();
        let records = rows.filter_map(|row| match row.get("records") {
            Some(Value::Map(records)) => Some(records.clone()),
            _ => None,
        });
        records.flatten().map(|(name, addresses)| format!("{name:?} {addresses:?}")).collect::<Vec<_>>()
    };
    let first = names();
    let (_, shared) = (&first[1], &first[0]);
    assert!(shared.contains("web.example"), "{first:?}");
    let second = PodPort {
        id: Uuid::from_u128(0xcc),
        claim: ClaimId(Uuid::from_u128(0xcc)),
        addresses: vec!["10.1.1.77".parse().expect("an address")],
        names: vec!["web.example".to_owned(), "web.green.example".to_owned()],
        ..lab.port.clone()
    };
    engine.ensure_port(&second).await.expect("made");
    // Done again, for instance by a repeated ADD: it does not take the name back.
    engine.ensure_port(&lab.port).await.expect("there");
    let both = names();
    assert_eq!(both.iter().filter(|name| name.contains("10.1.1.77")).count(), 2, "{both:?}");
    lab.run(Verb::DeletePort).await.expect("deleted");
    let left = names();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| name.contains("10.1.1.77")), "{left:?}");
    engine.delete_port(&PortRemoval::by_id(second.id)).await.expect("deleted");
    assert_eq!(names(), Vec::<String>::new());

    // An eviction knows the ids of ports alone.
    engine.ensure_port(&second).await.expect("made");
    let writer = WriterEpoch { node: second.writer.node.clone(), epoch: 9 };
    engine.fence(lab.network.id.cluster, &writer, &[PortRemoval::by_id(second.id)]).await.expect("fenced");
    assert_eq!(names(), Vec::<String>::new());

    // A port that was lost leaves its names, until its pod goes.
    let lost = PodPort { writer: WriterEpoch { epoch: 9, ..second.writer.clone() }, ..second.clone() };
    engine.ensure_port(&lost).await.expect("made");
    let take = RowOperation::Mutate {
        table: "Logical_Switch",
        condition: Vec::new(),
        column: "ports",
        mutation: Mutation::Delete(Value::one(lost.id)),
    };
    lab.database.execute(&[take]).expect("taken");
    assert_eq!(names().len(), 2);
    let described = PortRemoval { id: lost.id, port: Some(lost), verified: false };
    engine.delete_port(&described).await.expect("deleted");
    assert_eq!(names(), Vec::<String>::new());

    // The row was lost and made again: a port that is there gets its names back.
    let third = PodPort { writer, ..second };
    engine.ensure_port(&third).await.expect("made");
    let rows = lab.database.rows("DNS");
    let (row, _) = rows.iter().find(|(_, row)| row.get("records") != Some(&NO_NAMES)).expect("a row with names");
    assert!(lab.database.lose("DNS", *row));
    let drift = engine.diff_network(&lab.network).await.expect("compared");
    assert_eq!(drift.len(), 3, "the row, and a reference of each switch: {drift:?}");
    engine.ensure_network(&lab.network).await.expect("made");
    assert_eq!(names(), Vec::<String>::new());
    engine.ensure_port(&third).await.expect("there");
    assert_eq!(names().len(), 2);
}
