//! Keystone v3 as the source of tokens, instead of MidoNet's own `/login`: OpenStack Identity API v3, "Password
//! authentication with scoped authorization", "Authenticating with an Application Credential".
//!
//! A controller that trusts the same Keystone takes these tokens as `X-Auth-Token` (MidoNet REST API, section "Identity
//! back-ends"). The `/login` of MidoNet knows neither domains nor application credentials, and no password with a `:`.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use atoll_model::clock;
use atoll_model::config::KeystoneDomain;
use atoll_model::secret::Secret;

use crate::answer::{retry_after, unusable};
use crate::credentials::{PasswordError, read_secret};
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::not_api;
use crate::redact::{hide, tidy};
use crate::transport::{ApiRequest, ApiResponse};

/// Header of an answer that carries the new token.
const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// Credentials for Keystone. Secrets stay in their files, mode 0600, and are read again for every token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeystoneCredentials {
    /// A user with a password, in a project.
    Password {
        /// User name.
        user: String,
        /// The user's domain.
        user_domain: KeystoneDomain,
        /// File with the password.
        password_file: std::path::PathBuf,
        /// Project name.
        project: String,
        /// The project's domain.
        project_domain: KeystoneDomain,
    },
    /// An application credential, which knows its project itself.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// File with its secret.
        secret_file: std::path::PathBuf,
    },
}

impl KeystoneCredentials {
    /// The user as errors name it.
    pub fn name(&self) -> String {
        match self {
            Self::Password { user, .. } => format!("user {user:?} at Keystone"),
            Self::ApplicationCredential { id, .. } => format!("application credential {id:?} at Keystone"),
        }
    }

    /// Reads the password or the secret.
    pub fn secret(&self) -> Result<Secret, PasswordError> {
        match self {
            Self::Password { password_file: file, .. } | Self::ApplicationCredential { secret_file: file, .. } => {
                read_secret(file)
            }
        }
    }
}

fn domain_json(domain: &KeystoneDomain) -> Value {
    match domain {
        KeystoneDomain::Id(id) => json!({ "id": id }),
        KeystoneDomain::Name(name) => json!({ "name": name }),
    }
}

/// The base URL of version 3 of the API. `url` may end in `/v3` or not.
pub fn base_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/v3") { url.to_owned() } else { format!("{url}/v3") }
}

/// `POST` for a token.
pub fn request(credentials: &KeystoneCredentials, secret: &Secret) -> ApiRequest {
    let auth = match credentials {
        KeystoneCredentials::Password { user, user_domain, project, project_domain, .. } => json!({
            "identity": { "methods": ["password"], "password": { "user": {
                "name": user, "domain": domain_json(user_domain), "password": secret.reveal(),
            } } },
            "scope": { "project": { "name": project, "domain": domain_json(project_domain) } },
        }),
        KeystoneCredentials::ApplicationCredential { id, .. } => json!({
            "identity": {
                "methods": ["application_credential"],
                "application_credential": { "id": id, "secret": secret.reveal() },
            },
        }),
    };
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    let body = Bytes::from(json!({ "auth": auth }).to_string());
    // Without the catalogue of services the answer is a few hundred bytes.
    ApiRequest { method: Method::POST, path: "/auth/tokens?nocatalog".to_owned(), headers, body }
}

/// The token of a successful answer.
pub fn token(attempt: &AttemptedOperation, response: &ApiResponse) -> Result<Secret, ClientError> {
    let token = response.headers.get(SUBJECT_TOKEN).and_then(|value| value.to_str().ok()).filter(|t| !t.is_empty());
    token.map(Secret::new).ok_or_else(|| attempt.failed(ErrorClass::Broken, "Keystone's answer has no token"))
}

/// The error of an unsuccessful one: `{"error": {"message": …}}`.
pub fn refusal(attempt: &AttemptedOperation, response: &ApiResponse) -> ClientError {
    refusal_hiding(&[], attempt, response)
}

/// As [`refusal`], without these secrets.
pub(crate) fn refusal_hiding(secrets: &[&Secret], attempt: &AttemptedOperation, response: &ApiResponse) -> ClientError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        error: Inner,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        message: Option<String>,
    }
    let message = serde_json::from_slice::<Body>(&response.body).ok().and_then(|body| body.error.message);
    if message.is_none() && not_api::is_not_api(response) {
        let description = not_api::describe(response, |text| hide(secrets, text));
        return unusable(
            attempt,
            response,
            format!("not Keystone answered (`controller.keystone.endpoints`), but {description}"),
        );
    }
    let class = match response.status {
        401 | 403 => ErrorClass::Denied,
        // Keystone's refusal of an application credential that was deleted.
        404 if message.as_deref().is_some_and(|text| text.starts_with("Could not find")) => ErrorClass::Denied,
        408 | 429 | 503 => ErrorClass::Busy,
        502 | 504 => ErrorClass::Unreachable,
        // The URL is not that of an identity service.
        404 => ErrorClass::Broken,
        400..=499 => ErrorClass::Invalid,
        _ => ErrorClass::Broken,
    };
    let message = message.map_or_else(|| "Keystone gave no reason".to_owned(), |text| tidy(&hide(secrets, &text)));
    let mut error = attempt.failed(class, message);
    error.status = Some(response.status);
    error.retry_after = if class == ErrorClass::Busy { retry_after(response, clock::now()) } else { None };
    error
}
