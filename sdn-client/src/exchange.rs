//! One operation from its request to its answer: token, renewal, retries, deadline.
//!
//! Promise: no token in any error, whatever the server echoes.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use atoll_model::secret::Secret;

use crate::answer;
use crate::client::Client;
use crate::dialect::Resource;
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::login::Renewed;
use crate::request;
use crate::retry::{Outcome, Tries};
use crate::session::Session;
use crate::transport::{Request, Response, Transport, TransportError};

/// One operation on the way: what it is, and whether repeating it does harm.
pub(crate) struct Operation {
    pub(crate) attempt: Attempt,
    pub(crate) repeatable: bool,
}

/// What came of an attempt, as far as the next one depends on it.
pub(crate) struct Pause {
    pub(crate) outcome: Outcome,
    pub(crate) repeatable: bool,
    pub(crate) asked: Option<Duration>,
}

impl<T: Transport> Client<T> {
    /// Sends a request that may be repeated.
    pub(crate) async fn call(
        &self,
        attempt: Attempt,
        resource: Resource,
        request: Request,
    ) -> Result<Response, ClientError> {
        self.perform(Operation { attempt, repeatable: true }, resource, request).await
    }

    /// Sends a request with its token until there is an answer, a reason to give up, or the deadline.
    pub(crate) async fn perform(
        &self,
        operation: Operation,
        resource: Resource,
        request: Request,
    ) -> Result<Response, ClientError> {
        let mut renewed = None;
        let mut tries = Tries::default();
        loop {
            let token = self.token().await?;
            let sent = self.send(request.clone(), token.as_ref()).await;
            if let (Ok(response), Some(token)) = (&sent, &token)
                && response.status == 401
                && renewed != Some(Renewed::Fresh)
            {
                renewed = Some(self.renew(token, renewed).await?);
                continue;
            }
            tries.done += 1;
            let (outcome, failure) = match sent {
                Ok(response) if answer::succeeded(&response) => return Ok(response),
                Ok(response) => {
                    let secrets: Vec<_> = token.iter().collect();
                    let dialect = self.known().dialect;
                    let refusal =
                        answer::refusal_hiding(&secrets, &operation.attempt, dialect, resource, &request, &response);
                    match refusal.class {
                        ErrorClass::NotApi => (Outcome::NotApi, refusal),
                        _ if answer::may_have_happened(&response) => (Outcome::Unknown, refusal),
                        ErrorClass::Busy => (Outcome::Busy, refusal),
                        _ => return Err(refusal),
                    }
                }
                Err(error) => {
                    let failure = operation.attempt.unanswered(&error);
                    match error {
                        TransportError::NotSent { .. } => (Outcome::NotSent, failure),
                        TransportError::NoAnswer { .. } => (Outcome::Unknown, failure),
                        TransportError::Denied { .. }
                        | TransportError::Unusable { .. }
                        | TransportError::Settings(_) => {
                            return Err(failure);
                        }
                    }
                }
            };
            let pause = Pause { outcome, repeatable: operation.repeatable, asked: failure.retry_after };
            if !self.rest(&mut tries, pause, self.shared.transport.endpoints()).await {
                return Err(failure);
            }
        }
    }

    /// One exchange, cut off at the deadline.
    async fn send(&self, mut request: Request, token: Option<&Secret>) -> Result<Response, TransportError> {
        if let Some(token) = token {
            request::authorize(&mut request, token);
        }
        self.in_time(self.shared.transport.send(request)).await
    }

    pub(crate) async fn in_time(
        &self,
        exchange: impl Future<Output = Result<Response, TransportError>>,
    ) -> Result<Response, TransportError> {
        let Some(deadline) = self.deadline else { return exchange.await };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let (endpoint, reason) = ("any".to_owned(), "the deadline of the whole call passed".to_owned());
            Err(TransportError::NoAnswer { endpoint, reason })
        })
    }

    /// Waits before the next attempt; false when there is none.
    pub(crate) async fn rest(&self, tries: &mut Tries, pause: Pause, endpoints: usize) -> bool {
        let Pause { outcome, repeatable, asked } = pause;
        // The wish of one endpoint is not that of the next one.
        let asked = asked.filter(|_| usize::try_from(tries.done).unwrap_or(usize::MAX) >= endpoints);
        let Some(pause) = tries.pause(outcome, repeatable, asked, self.deadline.is_some()) else { return false };
        // A time that no clock can hold is after every deadline.
        let Some(again) = Instant::now().checked_add(pause) else { return false };
        let in_time = self.deadline.is_none_or(|deadline| again < deadline);
        if in_time {
            sleep_until(again).await;
        }
        in_time
    }

    pub(crate) fn known(&self) -> Session {
        self.shared.session.borrow().clone()
    }

    pub(crate) fn remember(&self, change: impl FnOnce(&mut Session)) {
        let mut session = self.shared.session.borrow_mut();
        change(&mut session);
        if let Some(file) = &self.shared.session_file {
            file.store(&session);
        }
    }
}
