//! Answers a text of requests: the function of the fuzz target, which the ordinary tests call as well.
//!
//! A request is a line `METHOD PATH`, lines of headers, an empty line and a body; a line `---` begins the next one. Invalid
//! headers and methods are left out, so any bytes are a sequence of requests.

use std::str::FromStr;

use atoll_mock_controller::{Dialect, MockController, MockSettings};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// The statuses that a controller may return. 500: 1.9 for a duplicate, 5.x for a link with a `portId`.
const KNOWN: [u16; 14] = [200, 201, 204, 400, 401, 403, 404, 405, 406, 409, 415, 500, 501, 503];

/// The fuzz target: sends the requests of any bytes to a controller of either dialect.
pub(crate) fn fuzz(input: &[u8]) {
    for dialect in [Dialect::V5, Dialect::V1] {
        answer(dialect, input);
    }
}

/// Sends every request to one controller. Only a panic, a hang, an unknown status or a broken answer fails.
pub(crate) fn answer(dialect: Dialect, input: &[u8]) -> Vec<(ApiRequest, ApiResponse)> {
    let mut controller = MockController::new(MockSettings { dialect, ..MockSettings::default() });
    drop(controller.follow());
    let mut answered = Vec::new();
    for text in requests(input) {
        let request = request(text);
        let response = match request.path.strip_prefix("/mock") {
            Some(path) => controller.admin(&ApiRequest { path: path.to_owned(), ..request.clone() }),
            None => controller.handle(&request),
        };
        assert!(KNOWN.contains(&response.status), "{request:?}: {response:?}");
        let json = || serde_json::from_slice::<serde_json::Value>(&response.body).is_ok();
        assert!(response.body.is_empty() || json(), "{request:?}: {response:?}");
        // What the data plane and the state file would be given.
        drop(controller.take_changes());
        answered.push((request, response));
    }
    answered
}

fn requests(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let whole = rest.take()?;
        let Some(end) = whole.windows(5).position(|window| window == b"\n---\n") else { return Some(whole) };
        rest = whole.get(end + 5..);
        whole.get(..end)
    })
}

fn request(text: &[u8]) -> ApiRequest {
    let end = text.windows(2).position(|window| window == b"\n\n").unwrap_or(text.len());
    let head = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
    let mut lines = head.lines();
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or(("GET", "/"));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let body = Bytes::copy_from_slice(text.get(end + 2..).unwrap_or_default());
    ApiRequest { method: Method::from_str(method).unwrap_or(Method::GET), path: path.to_owned(), headers, body }
}
