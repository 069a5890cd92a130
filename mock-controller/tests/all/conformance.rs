//! The conformance suite of `atoll-network` against the program with its data plane, in either dialect: first what the server
//! shows, then packets. Needs root.

use std::net::IpAddr;

use atoll_midonet::MidoNet;
use atoll_mock_controller::provider_router;
use atoll_model::ids::{HostId, IfName};
use atoll_network::conformance::packets::{self, ForwardsPackets};
use atoll_network::conformance::samples::Families;
use atoll_network::conformance::{self, CaseReport, EngineUnderTest};
use atoll_network::{Engine, NetworkSubnet, PodPort, ProviderUplink};
use atoll_sdn_client::{Client, ClientSettings, Http, HttpSettings};
use atoll_testkit::controller::lose;
use atoll_testkit::lab::station::LabStation;
use serde_json::json;
use uuid::Uuid;

use crate::http_life::Running;
use crate::plane::{HOST, JSON, Netns, Traces};

/// A host without a data plane.
const SECOND_HOST: Uuid = Uuid::from_u128(0x5ec0_4d00);

/// A server with a data plane. Its namespace is the machine.
struct Machine {
    engine: MidoNet<Http>,
    client: Client<Http>,
    // Dropped in this order: the server ends, its traces are removed, then its namespace and directory.
    _server: Running,
    _traces: Traces,
    netns: Netns,
    directory: tempfile::TempDir,
}

impl Machine {
    /// Starts a server and moves the calling thread into its namespace.
    fn start(args: &[&str]) -> Self {
        let (netns, directory) = (Netns::new(), tempfile::tempdir().expect("a directory"));
        let run_dir = directory.path().to_str().expect("a path");
        let common = ["--dataplane", "--run-dir", run_dir, "--host-id", HOST];
        let server = Running::start_in(Some(&netns.path()), &[&common, args].concat());
        let second = json!({ "id": SECOND_HOST, "name": "second", "address": "192.0.2.2" });
        assert_eq!(server.send("POST", "/mock/hosts", JSON, &second).0, 200);
        let own = std::fs::File::open(netns.path()).expect("the namespace exists");
        nix::sched::setns(&own, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        let endpoints = vec![format!("http://{}/midonet-api", server.address)];
        let http = Http::new(&HttpSettings { endpoints, ..HttpSettings::default() }).expect("an endpoint");
        let client = Client::new(http, ClientSettings::default());
        let engine = MidoNet::new(client.clone()).with_router_namespaces(directory.path().join("dataplane"));
        let traces = Traces(directory.path().to_owned());
        Self { engine, client, _server: server, _traces: traces, netns, directory }
    }
}

impl EngineUnderTest for Machine {
    type Engine = MidoNet<Http>;

    fn engine(&self) -> &Self::Engine {
        &self.engine
    }

    fn provider(&self) -> Uuid {
        provider_router()
    }

    fn hosts(&self) -> [HostId; 2] {
        [HOST.parse().expect("an id"), SECOND_HOST].map(HostId::from)
    }

    async fn lose(&self, id: Uuid) -> bool {
        lose(&self.client, id).await.expect("answered")
    }
}

impl ForwardsPackets for Machine {
    type Station = LabStation;

    async fn attach(&self, port: &PodPort, subnet: &NetworkSubnet) -> Result<LabStation, String> {
        let side = self.engine.host_side(port.subnet.network);
        LabStation::pod(&self.netns.path(), &side, port, subnet).map_err(|error| format!("{error:#}"))
    }

    fn external(&self) -> Result<LabStation, String> {
        Ok(LabStation::at(&self.directory.path().join("dataplane/outside")))
    }

    fn external_addresses(&self) -> Vec<IpAddr> {
        // The next hop of the initial objects' default route, which the data plane provides.
        vec![IpAddr::from([203, 0, 113, 1])]
    }

    fn uplinks(&self, _: Families) -> Vec<ProviderUplink> {
        let uplink = |number: u8| ProviderUplink {
            address: format!("198.51.100.{}/28", number * 16 + 2).parse().expect("an address"),
            gateway: IpAddr::from([198, 51, 100, number * 16 + 1]),
            host: HostId::from(HOST.parse::<Uuid>().expect("an id")),
            interface: IfName::new(format!("uplink{number}")).expect("a name"),
        };
        [1, 2].map(uplink).into()
    }

    fn node(&self) -> Result<LabStation, String> {
        Ok(LabStation::at(&self.netns.path()))
    }
}

/// Runs `suite` in a thread, which ends in the namespace of its last server. `count` cases pass.
fn passes(count: usize, suite: impl AsyncFnOnce() -> Vec<CaseReport> + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(suite())
    });
    let reports = thread.join().expect("no panic");
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).map(CaseReport::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(reports.len(), count, "{reports:?}");
}

/// Every case in IPv4, and the refusal of IPv6 alone and of both.
fn conforms(args: &'static [&'static str]) {
    passes(conformance::CASES.len() + 2, async || conformance::run(async || Machine::start(args)).await);
}

fn forwards(args: &'static [&'static str]) {
    passes(packets::CASES.len(), async || Box::pin(packets::run(async || Machine::start(args))).await);
}

#[test]
fn midonet_5_with_a_data_plane_conforms() {
    conforms(&["--dialect", "5"]);
}

#[test]
fn midonet_1_9_with_a_data_plane_conforms() {
    conforms(&["--dialect", "1.9"]);
}

#[test]
fn midonet_5_with_a_data_plane_forwards() {
    forwards(&["--dialect", "5"]);
}

#[test]
fn midonet_1_9_with_a_data_plane_forwards() {
    forwards(&["--dialect", "1.9"]);
}

#[test]
fn without_host_to_pod_addresses_the_server_says_so_and_no_node_reaches_a_pod() {
    let is_wanted = |case: &str, _: Families| case == "a_node_reaches_its_pods_if_the_engine_says_so";
    passes(1, async move || {
        Box::pin(packets::run_only(async || Machine::start(&["--node-side-cidr", "none"]), is_wanted)).await
    });
}
