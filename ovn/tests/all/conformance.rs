//! The conformance suite of `atoll-network`, against real database servers and against databases in memory.

use std::sync::Arc;

use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_network::conformance::{CASES, EngineUnderTest, run};
use atoll_network::{Engine as _, ProviderNetwork, ProviderUplink};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::Database;
use atoll_testkit::ovn::{MemoryDatabase, OvsdbServer, Schema, agents};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::remote::remote;

/// An engine over databases with a provider router and two chassis.
struct Subject<D, L> {
    engine: Ovn<D>,
    provider: Uuid,
    lose: L,
    /// They end with the subject.
    _chassis: JoinSet<()>,
}

const HOSTS: [&str; 2] = ["node-1.example", "5f2a9c1e-chassis"];

impl<D: Database + Clone + 'static, L: Fn(Uuid) -> bool> Subject<D, L>
where
    D::Watch: 'static,
{
    async fn new(northbound: D, southbound: D, lose: L) -> Self {
        agents::init(&northbound, &southbound, &HOSTS).await;
        let mut chassis = JoinSet::new();
        chassis.spawn(agents::confirm(northbound.clone(), southbound.clone(), Vec::new()));
        let engine = Ovn::new(northbound, Some(southbound), None);
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
        Self { engine, provider: candidates[0].id, lose, _chassis: chassis }
    }
}

impl<D: Database, L: Fn(Uuid) -> bool> EngineUnderTest for Subject<D, L> {
    type Engine = Ovn<D>;

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
        (self.lose)(id)
    }
}

async fn conforms<D: Database, L: Fn(Uuid) -> bool>(fresh: impl AsyncFn() -> Subject<D, L>) {
    let reports = Box::pin(run(fresh)).await;
    // Every case in IPv4, in IPv6 and in both.
    assert_eq!(reports.len(), 3 * CASES.len());
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn ovn_conforms_over_real_servers() {
    let fresh = async || {
        let (northbound, southbound) = (OvsdbServer::start(Schema::Northbound), OvsdbServer::start(Schema::Southbound));
        let nb = Arc::new(remote(Schema::Northbound, &[northbound.unix()], None).expect("right"));
        let sb = Arc::new(remote(Schema::Southbound, &[southbound.unix()], None).expect("right"));
        // Both servers live as long as the subject.
        let lose = move |id: Uuid| {
            let _ = &southbound;
            let is = json!([["_uuid", "==", ["uuid", id.to_string()]]]);
            let delete = |table| json!({"op": "delete", "table": table, "where": is});
            let deleted = northbound.transact(&json!([delete("Logical_Router"), delete("Logical_Switch")]));
            deleted.as_array().is_some_and(|counts| counts.contains(&json!({"count": 1})))
        };
        Subject::new(nb, sb, lose).await
    };
    conforms(fresh).await;
}

#[tokio::test]
async fn ovn_conforms_over_databases_in_memory() {
    let fresh = async || {
        let (northbound, southbound) =
            (MemoryDatabase::new(Schema::Northbound), MemoryDatabase::new(Schema::Southbound));
        let database = northbound.clone();
        let lose = move |id| database.lose("Logical_Router", id) || database.lose("Logical_Switch", id);
        Subject::new(northbound, southbound, lose).await
    };
    conforms(fresh).await;
}
