//! Getting a token, one at a time: MidoNet REST API, section "Login", or Keystone ([`crate::keystone`]).

use http::HeaderValue;
use tokio::sync::MutexGuard;
use tokio::time::timeout_at;

use atoll_model::secret::Secret;

use crate::answer;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::dialect::Resource;
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::exchange::Pause;
use crate::keystone::{self, Identity};
use crate::request;
use crate::retry::{Outcome, Tries};
use crate::transport::{Response, Transport, TransportError};

/// Where tokens come from.
pub(crate) enum Login<T> {
    /// The controller needs none.
    None,
    /// The controller's own login.
    MidoNet(Credentials),
    /// Keystone, which is another server.
    Keystone { transport: T, identity: Identity },
}

/// Where a token came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// Another process or task had got it already. It may be refused as well.
    Found,
    /// From the server, just now.
    Fresh,
}

impl<T: Transport> Client<T> {
    /// The token to send; none when there is no login.
    pub(crate) async fn token(&self) -> Result<Option<Secret>, ClientError> {
        if matches!(self.shared.login, Login::None) {
            return Ok(None);
        }
        if let Some(token) = self.known().token {
            return Ok(Some(token));
        }
        let _one_at_a_time = self.gate().await?;
        match self.known().token {
            Some(token) => Ok(Some(token)),
            None => self.log_in().await.map(Some),
        }
    }

    /// Replaces a token that was refused. One that was found elsewhere is tried once; after that only a login counts,
    /// so that this ends.
    pub(crate) async fn renew(&self, refused: &Secret, earlier: Option<Renewed>) -> Result<Renewed, ClientError> {
        let _one_at_a_time = self.gate().await?;
        let other = |token: Option<Secret>| token.filter(|token| token != refused && earlier.is_none());
        if other(self.known().token).is_some() {
            return Ok(Renewed::Found);
        }
        if let Some(token) = other(self.shared.session_file.as_ref().and_then(|file| file.load().token)) {
            self.shared.session.borrow_mut().token = Some(token);
            return Ok(Renewed::Found);
        }
        self.log_in().await.map(|_| Renewed::Fresh)
    }

    /// Waits until nobody else logs in, but not past the deadline.
    async fn gate(&self) -> Result<MutexGuard<'_, ()>, ClientError> {
        let gate = self.shared.gate.lock();
        let Some(deadline) = self.deadline else { return Ok(gate.await) };
        let late = |_| self.login_attempt().failed(ErrorClass::Unreachable, "another login took until the deadline");
        timeout_at(deadline, gate).await.map_err(late)
    }

    fn login_attempt(&self) -> Attempt {
        let who = match &self.shared.login {
            Login::None => "nobody".to_owned(),
            Login::MidoNet(credentials) => format!("user {:?}", credentials.username),
            Login::Keystone { identity, .. } => identity.name(),
        };
        Attempt::new("log in", who)
    }

    /// Called with the gate held.
    async fn log_in(&self) -> Result<Secret, ClientError> {
        let attempt = self.login_attempt();
        let secret = match &self.shared.login {
            Login::None => Ok(Secret::default()),
            Login::MidoNet(credentials) => credentials.password(),
            Login::Keystone { identity, .. } => identity.secret(),
        };
        let secret = secret.map_err(|error| attempt.failed(ErrorClass::Settings, error.to_string()))?;
        let mut tries = Tries::default();
        loop {
            let failure = match self.ask_for_token(&attempt, &secret).await {
                Ok(token) => {
                    self.remember(|session| session.token = Some(token.clone()));
                    return Ok(token);
                }
                Err(failure) => failure,
            };
            tries.done += 1;
            // Logging in twice does no harm.
            let outcome = match failure.class {
                ErrorClass::Busy | ErrorClass::Unreachable => Outcome::Unknown,
                ErrorClass::NotApi => Outcome::NotApi,
                _ => return Err(failure),
            };
            let pause = Pause { outcome, repeatable: true, asked: failure.retry_after };
            let endpoints = match &self.shared.login {
                Login::Keystone { transport, .. } => transport.endpoints(),
                Login::None | Login::MidoNet(_) => self.shared.transport.endpoints(),
            };
            if !self.rest(&mut tries, pause, endpoints).await {
                return Err(failure);
            }
        }
    }

    async fn ask_for_token(&self, attempt: &Attempt, secret: &Secret) -> Result<Secret, ClientError> {
        let answered = |result: Result<Response, TransportError>| result.map_err(|error| attempt.unanswered(&error));
        match &self.shared.login {
            Login::None => Ok(Secret::default()),
            Login::MidoNet(credentials) => {
                if HeaderValue::from_str(&credentials.project).is_err() {
                    let problem =
                        "the name of the project has characters that no header can carry (`controller.project`)";
                    return Err(attempt.failed(ErrorClass::Settings, problem));
                }
                let request = request::login(&credentials.username, secret, &credentials.project);
                let response = answered(self.in_time(self.shared.transport.send(request.clone())).await)?;
                if answer::succeeded(&response) {
                    answer::token(attempt, &response)
                } else {
                    let secrets = [secret, &request::basic(&credentials.username, secret)];
                    Err(answer::refusal_hiding(&secrets, attempt, None, Resource::Token, &request, &response))
                }
            }
            Login::Keystone { transport, identity } => {
                let request = keystone::request(identity, secret);
                let response = answered(self.in_time(transport.send(request)).await)?;
                if answer::succeeded(&response) {
                    keystone::token(attempt, &response)
                } else {
                    Err(keystone::refusal_hiding(&[secret], attempt, &response))
                }
            }
        }
    }
}
