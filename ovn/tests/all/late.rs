//! Requests that a server executes late: one that stood still, and a cluster that had no quorum.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atoll_model::ids::{ClusterId, HostId};
use atoll_network::conformance::samples::{Families, network, port};
use atoll_network::{Engine as _, EngineFailure, Network, PodPort, PortRemoval, ProviderNetwork, WriterEpoch};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::Remote;
use atoll_testkit::ovn::{OvsdbServer, Schema};
use serde_json::{Value as Json, json};

use crate::remote::remote_within;

/// Passes requests on to a server, also after the client has given up, and keeps what the server answers.
struct Relay {
    endpoint: String,
    answers: Arc<Mutex<String>>,
}

impl Relay {
    fn to(server: &OvsdbServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let endpoint = format!("tcp:127.0.0.1:{}", listener.local_addr().expect("bound").port());
        let (port, answers) = (server.port, Arc::new(Mutex::new(String::new())));
        let kept = answers.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
                let (from, to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                std::thread::spawn(move || copy(from, to, |_| {}));
                let kept = kept.clone();
                std::thread::spawn(move || {
                    copy(server, client, |answer| {
                        kept.lock().expect("no panic").push_str(&String::from_utf8_lossy(answer));
                    });
                });
            }
        });
        Self { endpoint, answers }
    }

    /// Waits until the server has answered with this.
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.answers.lock().expect("no panic").contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.answers.lock().expect("no panic"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Copies until `from` ends. `to` may be gone: what it would get is only seen.
fn copy(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        see(&piece[..read]);
        let _ = to.write_all(&piece[..read]);
    }
}

fn engine(endpoints: &[String], request: Duration) -> Ovn<Remote> {
    let northbound = remote_within(Schema::Northbound, endpoints, None, request);
    Ovn::new(northbound.expect("the settings are right"), None, None)
}

/// A network with one subnet, on a provider router without uplinks.
async fn made(engine: &Ovn<Remote>) -> Network {
    let cluster = ClusterId(uuid::Uuid::from_u128(0xc));
    engine.ensure_provider(&ProviderNetwork { cluster, uplinks: Vec::new() }).await.expect("made");
    let provider = engine.routers().await.expect("listed")[0].id;
    let network = network(provider, 1, 1, Families::Both);
    engine.ensure_network(&network).await.expect("made");
    network
}

fn pod(network: &Network, number: u8, epoch: u64) -> PodPort {
    let host = HostId::new("node-1.example").expect("a host");
    let mut port = port(network, 1, number, 1, &host, Families::Both);
    port.writer.epoch = epoch;
    port
}

/// The addresses of all pods' ports, as another client sees them.
fn addresses(server: &OvsdbServer) -> Vec<Json> {
    let select = json!([{"op": "select", "table": "Logical_Switch_Port", "columns": ["name", "addresses"],
        "where": [["external_ids", "includes", ["map", [["atoll-role", "pod-port"]]]]]}]);
    let mut found = server.transact(&select)[0]["rows"].as_array().cloned().unwrap_or_default();
    found.sort_by_key(ToString::to_string);
    found.into_iter().map(|row| row["name"].clone()).collect()
}

#[tokio::test]
async fn a_creation_that_is_executed_after_its_node_was_fenced_fails() {
    let servers = OvsdbServer::cluster(Schema::Northbound, 3);
    let follower = servers.iter().position(|server| !server.is_leader()).expect("a follower");
    let rest: Vec<_> = (0..3).filter(|member| *member != follower).map(|member| servers[member].tcp()).collect();
    let others = engine(&rest, Duration::from_secs(20));
    let network = made(&others).await;
    let relay = Relay::to(&servers[follower]);
    let late = engine(std::slice::from_ref(&relay.endpoint), Duration::from_secs(1));
    let first = pod(&network, 2, 1);
    late.ensure_port(&first).await.expect("made");

    // Its member stands still while the second pod's port is being made: nothing answers.
    servers[follower].signal("STOP");
    let second = pod(&network, 3, 1);
    let error = late.ensure_port(&second).await.expect_err("no answer");
    assert_eq!(error.failure, EngineFailure::Unreachable, "{error}");

    // The node is fenced by the others, and the address goes to another pod.
    let writer = WriterEpoch { node: second.writer.node.clone(), epoch: 2 };
    let removal = PortRemoval { id: second.id, port: Some(second.clone()), verified: true };
    others.fence(network.id.cluster, &writer, &[removal]).await.expect("fenced");
    let successor = PodPort { addresses: second.addresses.clone(), mac: second.mac, ..pod(&network, 4, 2) };
    others.ensure_port(&successor).await.expect("made");

    // The member goes on, and executes what it has received.
    servers[follower].signal("CONT");
    relay.wait_for("timed out");
    let expected: Vec<_> = [first.id, successor.id].map(|id| Json::from(id.to_string())).into();
    for server in &servers {
        assert_eq!(addresses(server), expected);
    }
    // The late process itself learns why.
    let error = others.ensure_port(&second).await.expect_err("fenced");
    assert_eq!(error.failure, EngineFailure::Overtaken, "{error}");
}

#[tokio::test]
async fn a_creation_that_waited_for_a_quorum_is_deleted_by_the_fence() {
    let servers = OvsdbServer::cluster(Schema::Northbound, 3);
    let one = servers.iter().position(|server| !server.is_leader()).expect("a follower");
    let others: Vec<_> = (0..3).filter(|member| *member != one).collect();
    let relay = Relay::to(&servers[one]);
    let all = engine(&servers.iter().map(OvsdbServer::tcp).collect::<Vec<_>>(), Duration::from_secs(20));
    let network = made(&all).await;
    let late = engine(std::slice::from_ref(&relay.endpoint), Duration::from_secs(2));
    late.ensure_port(&pod(&network, 2, 1)).await.expect("made");
    for member in &others {
        servers[*member].signal("STOP");
    }
    let second = pod(&network, 3, 1);
    let error = late.ensure_port(&second).await.expect_err("no quorum");
    assert_eq!(error.failure, EngineFailure::Unreachable, "{error}");
    // Its absence cannot be concluded from this member.
    let removal = PortRemoval { id: second.id, port: Some(second.clone()), verified: true };
    let impatient = engine(&[servers[one].tcp()], Duration::from_secs(2));
    impatient.delete_port(&removal).await.expect_err("no quorum");
    impatient.port(second.id).await.expect_err("no quorum");
    for member in &others {
        servers[*member].signal("CONT");
    }
    // The server itself repeats the request, and makes the port now, before or after the fence.
    let writer = WriterEpoch { node: second.writer.node.clone(), epoch: 2 };
    all.fence(network.id.cluster, &writer, &[removal]).await.expect("fenced");
    // A change through the same member is executed behind the late request.
    engine(&[servers[one].tcp()], Duration::from_secs(20)).ensure_port(&pod(&network, 5, 2)).await.expect("made");
    let expected: Vec<_> = [pod(&network, 2, 1).id, pod(&network, 5, 2).id].map(|id| Json::from(id.to_string())).into();
    assert_eq!(addresses(&servers[one]), expected);
}
