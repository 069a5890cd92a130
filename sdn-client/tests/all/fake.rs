//! A controller that answers from a closure and records its requests.

use atoll_model::sync::locked;
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use atoll_testkit::cell::SyncRefCell;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};

/// The result of a transport.
pub(crate) type Outcome = Result<ApiResponse, TransportError>;

type Handler = dyn FnMut(&ApiRequest) -> Outcome + Send;

pub(crate) struct Fake {
    handler: Mutex<Box<Handler>>,
    log: SyncRefCell<Vec<ApiRequest>>,
}

impl Fake {
    pub(crate) fn new(handler: impl FnMut(&ApiRequest) -> Outcome + Send + 'static) -> Arc<Self> {
        Arc::new(Self { handler: Mutex::new(Box::new(handler)), log: SyncRefCell::default() })
    }

    /// `METHOD path` of every request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.borrow().iter().map(line).collect()
    }

    /// The number of requests of this kind.
    pub(crate) fn count(&self, line_start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(line_start)).count()
    }

    pub(crate) fn requests(&self) -> Vec<ApiRequest> {
        self.log.borrow().clone()
    }
}

impl Transport for Fake {
    async fn send(&self, request: ApiRequest) -> Outcome {
        // Other tasks run between request and answer, as on a network.
        tokio::task::yield_now().await;
        self.log.borrow_mut().push(request.clone());
        let answer = locked(&self.handler)(&request);
        tokio::task::yield_now().await;
        answer
    }
}

/// `METHOD path`
pub(crate) fn line(request: &ApiRequest) -> String {
    format!("{} {}", request.method, request.path)
}

/// An answer of the API, with the media type that it gives to JSON.
pub(crate) fn answer(status: u16, body: &str) -> Outcome {
    let kind = if status < 300 { "Thing" } else { "Error" };
    let media = if body.starts_with(['{', '[']) {
        format!("application/vnd.org.midonet.{kind}-v1+json")
    } else {
        String::new()
    };
    foreign(status, &[("content-type", media.as_str())], body)
}

/// An answer with this status, body and headers; empty headers are left out.
#[expect(clippy::unnecessary_wraps, reason = "handlers return it as it is")]
pub(crate) fn foreign(status: u16, headers: &[(&'static str, &str)], body: &str) -> Outcome {
    let given = headers.iter().filter(|(_, value)| !value.is_empty());
    let headers =
        given.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("header")));
    Ok(ApiResponse { status, headers: headers.collect(), body: Bytes::from(body.to_owned()) })
}

/// The same answer; an object that it shows gets the id that `request` asks for.
pub(crate) fn with_requested_id(request: &ApiRequest, outcome: Outcome) -> Outcome {
    let mut response = outcome?;
    let requested = request.path.rsplit('/').next().and_then(|id| id.parse::<uuid::Uuid>().ok());
    if let (200, Some(id), Ok(mut object)) =
        (response.status, requested, serde_json::from_slice::<Map<String, Value>>(&response.body))
        && object.contains_key("id")
    {
        object.insert("id".to_owned(), id.to_string().into());
        response.body = Value::Object(object).to_string().into();
    }
    Ok(response)
}

/// The 404 of 5.x for the object of `path`.
pub(crate) fn absent(path: &str) -> Outcome {
    let id = path.split('/').find(|part| part.len() == 36).unwrap_or("no id");
    answer(404, &format!(r#"{{"message":"There is no Thing with ID {id}.","code":404}}"#))
}

/// An answer with one header and no body.
#[expect(clippy::unnecessary_wraps, reason = "handlers return it as it is")]
pub(crate) fn answer_with(status: u16, header: &'static str, value: &str) -> Outcome {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(header), HeaderValue::from_str(value).expect("header"));
    Ok(ApiResponse { status, headers, body: Bytes::new() })
}

pub(crate) fn not_sent() -> Outcome {
    Err(TransportError::NotSent { endpoint: "fake".to_owned(), reason: "refused".to_owned() })
}

pub(crate) fn no_answer() -> Outcome {
    Err(TransportError::NoAnswer { endpoint: "fake".to_owned(), reason: "lost".to_owned() })
}
