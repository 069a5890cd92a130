//! The conformance suite of `atoll-network`, in either dialect.

use atoll_midonet::MidoNet;
use atoll_mock_controller::{Dialect, MockSettings, provider_router};
use atoll_model::ids::HostId;
use atoll_network::conformance::{CASES, EngineUnderTest, run};
use atoll_sdn_client::transport::ApiRequest;
use atoll_sdn_client::{Client, ClientSettings};
use atoll_testkit::controller::{InProcess, lose};
use http::Method;
use uuid::Uuid;

/// A second host; the mock controller begins with one.
const SECOND_HOST: Uuid = Uuid::from_u128(0x5ec0_4d00);

struct Mock {
    controller: InProcess,
    engine: MidoNet<InProcess>,
}

impl Mock {
    fn new(dialect: Dialect) -> Self {
        let controller = InProcess::new(MockSettings { dialect, ..MockSettings::default() });
        let host = format!(r#"{{"id":"{SECOND_HOST}","name":"second","address":"192.0.2.2"}}"#);
        let (method, path, headers) = (Method::POST, "/hosts".to_owned(), http::HeaderMap::new());
        let request = ApiRequest { method, path, headers, body: host.into() };
        assert_eq!(controller.controller().admin(&request).status, 200);
        let engine = MidoNet::new(Client::new(controller.clone(), ClientSettings::default()));
        Self { controller, engine }
    }
}

impl EngineUnderTest for Mock {
    type Engine = MidoNet<InProcess>;

    fn engine(&self) -> &Self::Engine {
        &self.engine
    }

    fn provider(&self) -> Uuid {
        provider_router()
    }

    fn hosts(&self) -> [HostId; 2] {
        [self.controller.controller().settings().host, SECOND_HOST].map(HostId::from)
    }

    async fn lose(&self, id: Uuid) -> bool {
        let client = Client::new(self.controller.clone(), ClientSettings::default());
        lose(&client, id).await.expect("answered")
    }
}

async fn conforms(dialect: Dialect) {
    let reports = run(async || Mock::new(dialect)).await;
    // Every case in IPv4, and the refusal of IPv6 alone and of both.
    assert_eq!(reports.len(), CASES.len() + 2);
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{dialect:?}:\n{}", failed.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn midonet_5_conforms() {
    conforms(Dialect::V5).await;
}

#[tokio::test(start_paused = true)]
async fn midonet_1_9_conforms() {
    conforms(Dialect::V1).await;
}
