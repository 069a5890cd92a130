//! The conformance suite of `atoll-network`, against real database servers.

use std::time::Duration;

use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_network::conformance::{CASES, EngineUnderTest, run};
use atoll_network::{Engine as _, ProviderNetwork, ProviderUplink};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::{Remote, RemoteSettings};
use atoll_testkit::ovn::{OvsdbServer, Schema};
use serde_json::json;
use uuid::Uuid;

/// Northbound and Southbound, with a provider router and two chassis.
struct Databases {
    northbound: OvsdbServer,
    engine: Ovn<Remote>,
    provider: Uuid,
    // Kept until the test ends.
    _southbound: OvsdbServer,
}

const HOSTS: [&str; 2] = ["node-1.example", "5f2a9c1e-chassis"];

fn remote(server: &OvsdbServer, schema: Schema) -> Remote {
    Remote::new(RemoteSettings {
        database: schema.database(),
        endpoints: vec![server.unix().parse().expect("an endpoint")],
        tls: None,
        connect: Duration::from_secs(10),
        request: Duration::from_secs(10),
        memory: None,
    })
    .expect("the settings are right")
}

impl Databases {
    async fn new() -> Self {
        let northbound = OvsdbServer::start(Schema::Northbound);
        let southbound = OvsdbServer::start(Schema::Southbound);
        let chassis = HOSTS.iter().enumerate().flat_map(|(place, name)| {
            let encap = format!("encap{place}");
            [
                json!({"op": "insert", "table": "Encap", "uuid-name": encap,
                       "row": {"type": "geneve", "ip": format!("192.0.2.{place}"), "chassis_name": name}}),
                json!({"op": "insert", "table": "Chassis",
                       "row": {"name": name, "hostname": name, "encaps": ["named-uuid", encap]}}),
            ]
        });
        let made = southbound.transact(&chassis.collect());
        assert!(!made.to_string().contains("error"), "{made}");
        let engine =
            Ovn::new(remote(&northbound, Schema::Northbound), Some(remote(&southbound, Schema::Southbound)), None);
        let uplink = |host: &str| ProviderUplink {
            address: "192.0.2.2/24".parse().expect("an address"),
            gateway: "192.0.2.1".parse().expect("an address"),
            host: HostId::new(host).expect("a host"),
            interface: IfName::new("ext").expect("a name"),
        };
        let cluster = ClusterId(Uuid::from_u128(0xc));
        let provider = ProviderNetwork { cluster, uplinks: HOSTS.map(uplink).into() };
        engine.ensure_provider(&provider).await.expect("made");
        let again = engine.ensure_provider(&provider).await.expect("again");
        assert_eq!((again.created, again.updated), (0, 0));
        let candidates = engine.provider_candidates().await.expect("listed");
        assert_eq!(candidates.len(), 1, "{candidates:?}");
        Self { northbound, engine, provider: candidates[0].id, _southbound: southbound }
    }
}

impl EngineUnderTest for Databases {
    type Engine = Ovn<Remote>;

    fn engine(&self) -> &Self::Engine {
        &self.engine
    }

    fn provider(&self) -> Uuid {
        self.provider
    }

    fn hosts(&self) -> [HostId; 2] {
        HOSTS.map(|host| HostId::new(host).expect("a host"))
    }

    async fn lose(&self, id: Uuid) -> bool {
        let delete =
            |table| json!({"op": "delete", "table": table, "where": [["_uuid", "==", ["uuid", id.to_string()]]]});
        let deleted = self.northbound.transact(&json!([delete("Logical_Router"), delete("Logical_Switch")]));
        deleted.as_array().is_some_and(|counts| counts.contains(&json!({"count": 1})))
    }
}

#[tokio::test]
async fn ovn_conforms() {
    let reports = Box::pin(run(async || Databases::new().await)).await;
    // Every case in IPv4, in IPv6 and in both.
    assert_eq!(reports.len(), 3 * CASES.len());
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
