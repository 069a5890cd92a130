//! Logging in, one login at a time.

use tokio::sync::MutexGuard;
use tokio::time::timeout_at;

use atoll_model::secret::Secret;
use atoll_model::sync::locked;

use crate::client::Client;
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::exchange::{FailedTry, Renewed};
use crate::retry::{RetryReason, Tries};
use crate::token_source::TokenSource;
use crate::transport::Transport;

impl<T: Transport> Client<T> {
    /// The token to send; `None` when the controller needs no login.
    pub(crate) async fn token(&self) -> Result<Option<Secret>, ClientError> {
        if matches!(self.shared.tokens, TokenSource::None) {
            return Ok(None);
        }
        if let Some(token) = self.session().token {
            return Ok(Some(token));
        }
        let _one_at_a_time = self.lock_login().await?;
        match self.session().token {
            Some(token) => Ok(Some(token)),
            None => self.log_in().await.map(Some),
        }
    }

    /// Replaces a refused token. A token that another task or process has fetched is tried once; after that only a login
    /// counts, so that this ends.
    pub(crate) async fn renew(&self, refused: &Secret, earlier: Option<Renewed>) -> Result<Renewed, ClientError> {
        let _one_at_a_time = self.lock_login().await?;
        let other = |token: Option<Secret>| token.filter(|token| token != refused && earlier.is_none());
        if other(self.session().token).is_some() {
            return Ok(Renewed::Found);
        }
        if let Some(token) = other(self.shared.session_file.as_ref().and_then(|file| file.load().token)) {
            locked(&self.shared.session).token = Some(token);
            return Ok(Renewed::Found);
        }
        self.log_in().await.map(|_| Renewed::FromServer)
    }

    /// Waits for the login of another task, but not past the deadline.
    async fn lock_login(&self) -> Result<MutexGuard<'_, ()>, ClientError> {
        let lock = self.shared.login_lock.lock();
        let Some(deadline) = self.deadline else { return Ok(lock.await) };
        let attempt = || self.shared.tokens.attempt();
        let late = |_| attempt().failed(ErrorClass::Unreachable, "another login took until the deadline");
        timeout_at(deadline, lock).await.map_err(late)
    }

    /// To be called with the login lock held.
    async fn log_in(&self) -> Result<Secret, ClientError> {
        let attempt = self.shared.tokens.attempt();
        let secret = self.shared.tokens.secret();
        let secret = secret.map_err(|error| attempt.failed(ErrorClass::Settings, error.to_string()))?;
        let transport = match &self.shared.tokens {
            TokenSource::Keystone { transport, .. } => transport,
            TokenSource::None | TokenSource::MidoNet(_) => &self.shared.transport,
        };
        let mut tries = Tries::default();
        loop {
            let failure = match self.ask_for_token(transport, &attempt, &secret).await {
                Ok(token) => {
                    self.change_session(|session| session.token = Some(token.clone()));
                    return Ok(token);
                }
                Err(failure) => failure,
            };
            tries.done += 1;
            // A login is idempotent.
            let reason = match failure.class {
                ErrorClass::Busy | ErrorClass::Unreachable => RetryReason::Unknown,
                ErrorClass::NotApi => RetryReason::NotApi,
                _ => return Err(failure),
            };
            let failed = FailedTry { reason, is_repeatable: true, retry_after: failure.retry_after };
            if !self.wait_to_retry(&mut tries, failed, transport.endpoints()).await {
                return Err(failure);
            }
        }
    }

    async fn ask_for_token(
        &self,
        transport: &T,
        attempt: &AttemptedOperation,
        secret: &Secret,
    ) -> Result<Secret, ClientError> {
        let tokens = &self.shared.tokens;
        let request = tokens.request(attempt, secret)?;
        let answer = self.in_time(transport.send(request.clone())).await;
        tokens.token(attempt, secret, &request, answer)
    }
}
