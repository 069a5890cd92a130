//! Answering with faults: what was injected for a request is applied to its answer.

use std::time::Duration;

use atoll_sdn_client::transport::ApiRequest;
use http::header::CONTENT_TYPE;

use crate::answer::{Content, HttpAnswer, allow_origins, answer};
use crate::controller::MockController;
use crate::faults::{FaultKind, RequestFault};
use crate::refusal::{ERROR_MEDIA, Refusal};

/// How an answer reaches its client.
#[derive(Debug)]
pub enum Delivery {
    /// Unchanged.
    Whole(HttpAnswer),
    /// The connection is closed after this many bytes of its body.
    Truncated(HttpAnswer, usize),
    /// The connection is closed without an answer.
    Cut,
}

/// The faults that apply to one request.
#[derive(Debug)]
pub struct RequestFaults(Vec<FaultKind>);

impl RequestFaults {
    /// How long the request waits first.
    pub fn delay(&self) -> Duration {
        let delays = self.0.iter().map(|fault| match fault {
            FaultKind::Delay { milliseconds } => *milliseconds,
            _ => 0,
        });
        Duration::from_millis(delays.fold(0, u64::saturating_add))
    }

    fn status(&self, wanted: bool) -> Option<HttpAnswer> {
        self.0.iter().find_map(|fault| match fault {
            FaultKind::Status { status, message, after } if *after == wanted => Some(error(*status, message.clone())),
            _ => None,
        })
    }
}

impl MockController {
    /// Injects a fault, which waits for its requests.
    pub fn inject(&mut self, fault: RequestFault) -> Result<(), String> {
        self.faults.add(fault).map_err(|refusal| refusal.to_string())
    }

    /// The faults that apply to a request. To be called once for each, before [`MockController::deliver`].
    pub fn apply_faults(&mut self, request: &ApiRequest) -> RequestFaults {
        RequestFaults(self.faults.take(&request.method, &request.path))
    }

    /// Answers a request as [`MockController::handle`], with the faults that apply to it.
    pub fn deliver(&mut self, request: &ApiRequest, faults: &RequestFaults) -> Delivery {
        if faults.0.contains(&FaultKind::ExpireTokens) {
            self.tokens.expire();
        }
        if faults.0.contains(&FaultKind::Cut { after: false }) {
            return Delivery::Cut;
        }
        if let Some(error) = faults.status(false) {
            return Delivery::Whole(error);
        }
        let mut response = self.answer(request);
        if faults.0.contains(&FaultKind::Cut { after: true }) {
            return Delivery::Cut;
        }
        if let Some(error) = faults.status(true) {
            response = error;
        }
        for fault in &faults.0 {
            match fault {
                FaultKind::Body { text } => response.content = Content::Whole(text.clone().into()),
                FaultKind::Truncate { bytes } => return Delivery::Truncated(response, *bytes),
                _ => {}
            }
        }
        Delivery::Whole(response)
    }
}

fn error(status: u16, message: Option<String>) -> HttpAnswer {
    let refusal = Refusal::Error { status, message };
    let media = (CONTENT_TYPE, ERROR_MEDIA.to_owned());
    let mut error = answer(status, vec![media], refusal.body().as_ref());
    allow_origins(&mut error.headers);
    error
}
