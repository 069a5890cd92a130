//! Capabilities are those of the server: a mock with a data plane is not a MidoNet.

use atoll_midonet::MidoNet;
use atoll_mock_controller::faults::{FaultKind, RequestFault};
use atoll_mock_controller::{Dialect, MockSettings};
use atoll_network::{Capabilities, Engine, EngineFailure};
use atoll_sdn_client::{Client, ClientSettings};
use atoll_testkit::controller::InProcess;

/// A controller that is asked for its capabilities, and the requests for them.
async fn asked(settings: MockSettings, with_data_plane: bool) -> (Capabilities, usize) {
    let controller = InProcess::new(settings);
    if with_data_plane {
        controller.controller().leave_activation_to_data_plane();
    }
    let engine = MidoNet::new(Client::new(controller.clone(), ClientSettings::default()));
    controller.record();
    let found = engine.capabilities().await.expect("answered");
    (found, controller.take_recorded().len())
}

#[tokio::test]
async fn the_server_is_asked_once_and_says_whether_it_forwards_itself() {
    let midonet = Capabilities {
        overlapping: true,
        several_uplinks: true,
        several_hosts: true,
        checks_hosts: true,
        host_to_pod: false,
        ..Capabilities::default()
    };
    for dialect in [Dialect::V1, Dialect::V5] {
        let settings = || MockSettings { dialect, ..MockSettings::default() };
        assert_eq!(asked(settings(), false).await, (midonet, 1), "{dialect:?}");
        let local = Capabilities { several_uplinks: false, several_hosts: false, host_to_pod: true, ..midonet };
        assert_eq!(asked(settings(), true).await, (local, 1), "{dialect:?} with a data plane");
        let without = MockSettings { host_to_pod: None, ..settings() };
        let local = Capabilities { host_to_pod: false, ..local };
        assert_eq!(asked(without, true).await, (local, 1), "{dialect:?} without host-to-pod addresses");
    }
}

#[tokio::test]
async fn without_the_api_there_are_no_capabilities() {
    let controller = InProcess::new(MockSettings::default());
    let status = FaultKind::Status { status: 404, message: None, after: false };
    controller.controller().inject(RequestFault::always("/", status)).expect("it matches");
    let engine = MidoNet::new(Client::new(controller, ClientSettings::default()));
    let error = engine.capabilities().await.expect_err("no answer of the API");
    assert!(matches!(error.failure, EngineFailure::Absent | EngineFailure::NotEngine), "{error}");
}
