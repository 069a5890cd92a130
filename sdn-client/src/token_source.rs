//! Where tokens come from: MidoNet's own login, or Keystone ([`crate::keystone`]). MidoNet REST API, section "Login".

use http::HeaderValue;

use atoll_model::secret::Secret;

use crate::credentials::{Credentials, PasswordError};
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::keystone::{self, KeystoneCredentials};
use crate::resource::Resource;
use crate::transport::{ApiRequest, ApiResponse, TransportError};
use crate::{answer, request};

/// The source of a client's tokens.
pub(crate) enum TokenSource<T> {
    /// The controller needs no token.
    None,
    /// The controller's own login.
    MidoNet(Credentials),
    /// Keystone, which is another server.
    Keystone { transport: T, credentials: KeystoneCredentials },
}

impl<T> TokenSource<T> {
    /// The login as errors name it.
    pub(crate) fn attempt(&self) -> AttemptedOperation {
        let user = match self {
            Self::None => "without a user".to_owned(),
            Self::MidoNet(credentials) => format!("user {:?}", credentials.username),
            Self::Keystone { credentials, .. } => credentials.name(),
        };
        AttemptedOperation::new("log in", user)
    }

    /// Reads the password or secret from its file.
    pub(crate) fn secret(&self) -> Result<Secret, PasswordError> {
        match self {
            Self::None => Ok(Secret::default()),
            Self::MidoNet(credentials) => credentials.password(),
            Self::Keystone { credentials, .. } => credentials.secret(),
        }
    }

    /// The request for a token.
    pub(crate) fn request(&self, attempt: &AttemptedOperation, secret: &Secret) -> Result<ApiRequest, ClientError> {
        match self {
            Self::MidoNet(credentials) if HeaderValue::from_str(&credentials.project).is_err() => {
                let problem = "the name of the project has characters that no header can carry (`controller.project`)";
                Err(attempt.failed(ErrorClass::Settings, problem))
            }
            Self::MidoNet(credentials) => Ok(request::login(&credentials.username, secret, &credentials.project)),
            Self::Keystone { credentials, .. } => Ok(keystone::request(credentials, secret)),
            Self::None => Err(attempt.failed(ErrorClass::Settings, "no credentials are configured")),
        }
    }

    /// Reads the token from the answer to `request`.
    pub(crate) fn token(
        &self,
        attempt: &AttemptedOperation,
        secret: &Secret,
        request: &ApiRequest,
        answer: Result<ApiResponse, TransportError>,
    ) -> Result<Secret, ClientError> {
        let response = answer.map_err(|error| attempt.unanswered(&error))?;
        let is_success = answer::succeeded(&response);
        match self {
            Self::Keystone { .. } if is_success => keystone::token(attempt, &response),
            Self::Keystone { .. } => Err(keystone::refusal_hiding(&[secret], attempt, &response)),
            Self::MidoNet(_) | Self::None if is_success => answer::token(attempt, &response),
            Self::MidoNet(_) | Self::None => {
                let basic = match self {
                    Self::MidoNet(credentials) => request::basic(&credentials.username, secret),
                    _ => Secret::default(),
                };
                Err(answer::refusal_hiding(&[secret, &basic], attempt, None, Resource::Token, request, &response))
            }
        }
    }
}
