//! One operation from its request to its answer: token, renewal, retries, deadline.
//!
//! # Guarantees
//!
//! No error holds the token, whatever the server echoes.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use atoll_model::secret::Secret;

use crate::answer;
use crate::client::Client;
use crate::dialect::Dialect;
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::request;
use crate::resource::Resource;
use crate::retry::{RetryReason, Tries};
use crate::transport::{ApiRequest, ApiResponse, Transport, TransportError};

/// An operation, and whether it is idempotent.
pub(crate) struct Operation {
    pub(crate) attempt: AttemptedOperation,
    pub(crate) is_repeatable: bool,
}

/// Why an attempt failed, as far as the next one depends on it.
pub(crate) struct FailedTry {
    pub(crate) reason: RetryReason,
    pub(crate) is_repeatable: bool,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// Where a renewed token came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// Another process or task had fetched it before. It may be refused as well.
    Found,
    /// From the server, just now.
    FromServer,
}

impl<T: Transport> Client<T> {
    /// The dialect of the controller.
    pub async fn dialect(&self) -> Result<Dialect, ClientError> {
        if let Some(dialect) = self.session().dialect {
            return Ok(dialect);
        }
        let attempt = AttemptedOperation::new("read", Resource::Application.to_string());
        let response = self.call(attempt.clone(), Resource::Application, request::root()).await?;
        let dialect = answer::dialect(&attempt, &response)?;
        self.change_session(|session| session.dialect = Some(dialect));
        Ok(dialect)
    }

    /// Sends a request that may be repeated.
    pub(crate) async fn call(
        &self,
        attempt: AttemptedOperation,
        resource: Resource,
        request: ApiRequest,
    ) -> Result<ApiResponse, ClientError> {
        self.perform(Operation { attempt, is_repeatable: true }, resource, request).await
    }

    /// Sends a request with its token until there is an answer, a reason to give up, or the deadline.
    pub(crate) async fn perform(
        &self,
        operation: Operation,
        resource: Resource,
        request: ApiRequest,
    ) -> Result<ApiResponse, ClientError> {
        let mut renewed = None;
        let mut tries = Tries::default();
        loop {
            let token = self.token().await?;
            let sent = self.send(request.clone(), token.as_ref()).await;
            if let (Ok(response), Some(token)) = (&sent, &token)
                && response.status == 401
                && renewed != Some(Renewed::FromServer)
            {
                renewed = Some(self.renew(token, renewed).await?);
                continue;
            }
            tries.done += 1;
            let (reason, failure) = match sent {
                Ok(response) if answer::succeeded(&response) => return Ok(response),
                Ok(response) => {
                    let secrets: Vec<_> = token.iter().collect();
                    let dialect = self.session().dialect;
                    let refusal =
                        answer::refusal_hiding(&secrets, &operation.attempt, dialect, resource, &request, &response);
                    match refusal.class {
                        ErrorClass::NotApi => (RetryReason::NotApi, refusal),
                        _ if answer::may_have_happened(&response) => (RetryReason::Unknown, refusal),
                        ErrorClass::Busy => (RetryReason::Busy, refusal),
                        _ => return Err(refusal),
                    }
                }
                Err(error) => {
                    let failure = operation.attempt.unanswered(&error);
                    match error {
                        TransportError::NotSent { .. } => (RetryReason::NotSent, failure),
                        TransportError::NoAnswer { .. } => (RetryReason::Unknown, failure),
                        TransportError::Denied { .. }
                        | TransportError::Unusable { .. }
                        | TransportError::Settings(_) => {
                            return Err(failure);
                        }
                    }
                }
            };
            let failed = FailedTry { reason, is_repeatable: operation.is_repeatable, retry_after: failure.retry_after };
            if !self.wait_to_retry(&mut tries, failed, self.shared.transport.endpoints()).await {
                return Err(failure);
            }
        }
    }

    /// One exchange, cut off at the deadline.
    async fn send(&self, mut request: ApiRequest, token: Option<&Secret>) -> Result<ApiResponse, TransportError> {
        if let Some(token) = token {
            request::authorize(&mut request, token);
        }
        self.in_time(self.shared.transport.send(request)).await
    }

    pub(crate) async fn in_time(
        &self,
        exchange: impl Future<Output = Result<ApiResponse, TransportError>>,
    ) -> Result<ApiResponse, TransportError> {
        let Some(deadline) = self.deadline else { return exchange.await };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let (endpoint, reason) = ("any".to_owned(), "the deadline of the whole call passed".to_owned());
            Err(TransportError::NoAnswer { endpoint, reason })
        })
    }

    /// Waits before the next attempt; false when there is none.
    pub(crate) async fn wait_to_retry(&self, tries: &mut Tries, failed: FailedTry, endpoints: usize) -> bool {
        let FailedTry { reason, is_repeatable, retry_after } = failed;
        // One endpoint's `Retry-After` says nothing about the next endpoint.
        let retry_after = retry_after.filter(|_| usize::try_from(tries.done).unwrap_or(usize::MAX) >= endpoints);
        let Some(pause) = tries.pause(reason, is_repeatable, retry_after, self.deadline.is_some()) else {
            return false;
        };
        // A time that no clock can hold is after every deadline.
        let Some(again) = Instant::now().checked_add(pause) else { return false };
        let is_in_time = self.deadline.is_none_or(|deadline| again < deadline);
        if is_in_time {
            sleep_until(again).await;
        }
        is_in_time
    }
}
