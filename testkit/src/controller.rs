//! The mock controller as a transport: the client's requests reach it without a network.
//!
//! In this example the answer to a request that took effect is lost; the second request shows that it did.
//!
//! ```
//! use atoll_mock_controller::faults::{FaultKind, RequestFault};
//! use atoll_mock_controller::{Dialect, MockSettings};
//! use atoll_sdn_client::transport::{ApiRequest, Transport};
//! use atoll_testkit::controller::InProcess;
//! use http::{HeaderMap, Method, header::CONTENT_TYPE};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let controller = InProcess::new(MockSettings { dialect: Dialect::V5, ..MockSettings::default() });
//! assert_eq!(controller.dump().routers.len(), 1, "the provider router is there from the start");
//!
//! let fault = RequestFault { times: 1, ..RequestFault::always("/routers", FaultKind::Cut { after: true }) };
//! controller.controller().inject(fault).expect("some request matches it");
//! let mut headers = HeaderMap::new();
//! headers.insert(CONTENT_TYPE, "application/vnd.org.midonet.Router-v3+json".parse().expect("a value"));
//! let id = "aaaa0000-0000-4000-8000-000000000001";
//! let body = format!(r#"{{"id": "{id}", "tenantId": "t"}}"#).into();
//! let create = ApiRequest { method: Method::POST, path: "/routers".to_owned(), headers, body };
//!
//! assert!(controller.send(create.clone()).await.is_err(), "no answer");
//! assert_eq!(controller.dump().routers.len(), 2, "but a router");
//! assert_eq!(controller.send(create).await.expect("an answer").status, 409, "the id exists");
//! # }
//! ```

use std::sync::{Arc, Mutex, MutexGuard};

use atoll_mock_controller::delivery::Delivery;
use atoll_mock_controller::{MockController, MockSettings, Tables};
use atoll_model::sync::locked;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_sdn_client::{Client, ClientError, Resource, api};
use tokio::time::Instant;
use uuid::Uuid;

/// Deletes a router or bridge behind the back of an engine. False: there is none of this id.
pub async fn lose<T: Transport>(client: &Client<T>, id: Uuid) -> Result<bool, ClientError> {
    let resource = if client.get::<api::Router>(id).await?.is_some() {
        Resource::Router
    } else if client.get::<api::Bridge>(id).await?.is_some() {
        Resource::Bridge
    } else {
        return Ok(false);
    };
    client.delete(resource, id).await.map(|()| true)
}

/// A controller that several clients share. Clones are the same controller.
#[derive(Clone, Debug)]
pub struct InProcess {
    controller: Arc<Mutex<MockController>>,
    started: Instant,
    /// Requests in the order in which they arrived; none: they are not recorded.
    recorded: Arc<Mutex<Option<Vec<ApiRequest>>>>,
}

impl InProcess {
    /// Starts a controller. Its time is tokio's, so that a paused clock works.
    pub fn new(settings: MockSettings) -> Self {
        let controller = Arc::new(Mutex::new(MockController::new(settings)));
        Self { controller, started: Instant::now(), recorded: Arc::default() }
    }

    /// Records every request that arrives from now on.
    pub fn record(&self) {
        locked(&self.recorded).get_or_insert_default();
    }

    /// The requests that arrived since [`InProcess::record`] or since the last call of this function.
    pub fn take_recorded(&self) -> Vec<ApiRequest> {
        locked(&self.recorded).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Answers one request immediately, without faults.
    pub fn call(&self, request: &ApiRequest) -> ApiResponse {
        let mut controller = locked(&self.controller);
        controller.advance(self.started.elapsed());
        controller.begin();
        controller.handle(request)
    }

    /// Every object, to compare or to print.
    pub fn dump(&self) -> Tables {
        locked(&self.controller).tables().clone()
    }

    /// Sets whether a port's packets flow.
    pub fn set_active(&self, port: Uuid, active: bool) {
        locked(&self.controller).set_active(port, active);
    }

    /// Sets whether a host's agent is alive.
    pub fn set_host_alive(&self, host: Uuid, alive: bool) {
        locked(&self.controller).set_host_alive(host, alive);
    }

    /// The controller. Do not hold it across an await or a request.
    pub fn controller(&self) -> MutexGuard<'_, MockController> {
        locked(&self.controller)
    }
}

impl Transport for InProcess {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        if let Some(recorded) = locked(&self.recorded).as_mut() {
            recorded.push(request.clone());
        }
        let faults = {
            let mut controller = locked(&self.controller);
            controller.begin();
            controller.apply_faults(&request)
        };
        if !faults.delay().is_zero() {
            tokio::time::sleep(faults.delay()).await;
        }
        let mut controller = locked(&self.controller);
        controller.advance(self.started.elapsed());
        match controller.deliver(&request, &faults) {
            Delivery::Whole(answer) => Ok(answer.whole()),
            // Half an answer is no answer: the outcome is unknown.
            Delivery::Truncated(..) | Delivery::Cut => Err(TransportError::NoAnswer {
                endpoint: "mock controller".to_owned(),
                reason: "the connection was cut".to_owned(),
            }),
        }
    }
}
