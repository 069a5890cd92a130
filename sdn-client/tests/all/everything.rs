//! Reads one body as every type: the function of the fuzz target, which the ordinary tests call as well.

use atoll_sdn_client::api::{Application, Bridge, Chain, Host, Port, Route, Router, Rule, SystemState};
use atoll_sdn_client::error::AttemptedOperation;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse};
use atoll_sdn_client::{Dialect, Resource};
use atoll_sdn_client::{answer, keystone};
use bytes::Bytes;
use http::HeaderMap;

use crate::reading::{ToTopology as _, rule_to_topology};

/// The fuzz target: reads the bytes as an answer of any status.
pub(crate) fn fuzz((status, body): (u16, &[u8])) {
    read(200 + status % 400, body);
}

/// Reads `body`; only a panic, a hang or an error text without bound fails.
pub(crate) fn read(status: u16, body: &[u8]) {
    let response = ApiResponse { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body) };
    let attempt = AttemptedOperation::new("create", "port 1");
    let (method, path) = (http::Method::POST, "/routers/1/ports".to_owned());
    let request = ApiRequest { method, path, headers: HeaderMap::new(), body: Bytes::new() };
    drop(answer::object::<Application>(&attempt, &response));
    drop(answer::object::<SystemState>(&attempt, &response));
    drop(answer::object::<Router>(&attempt, &response).map(|o| o.to_topology()));
    drop(answer::object::<Bridge>(&attempt, &response).map(|o| o.to_topology()));
    drop(answer::object::<Port>(&attempt, &response).map(|o| o.to_topology()));
    drop(answer::object::<Route>(&attempt, &response).map(|o| o.to_topology()));
    drop(answer::object::<Chain>(&attempt, &response));
    drop(answer::object::<Host>(&attempt, &response));
    drop(answer::list::<Router>(&attempt, &response, None));
    drop(answer::token(&attempt, &response));
    drop(answer::dialect(&attempt, &response));
    for dialect in [Dialect::V1, Dialect::V5] {
        drop(answer::object::<Rule>(&attempt, &response).map(|o| rule_to_topology(&o, dialect)));
        let refusal = answer::refusal(&attempt, Some(dialect), Resource::Port, &request, &response);
        assert!(refusal.to_string().len() < 100_000, "an error text of bounded length");
    }
    assert!(keystone::refusal(&attempt, &response).to_string().len() < 10_000, "an error text of bounded length");
}
