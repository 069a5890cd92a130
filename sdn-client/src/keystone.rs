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

use atoll_model::record;
use atoll_model::secret::Secret;

use crate::answer::{hide, not_api, retry_after, tidy};
use crate::credentials::{PasswordError, read_secret};
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::stranger;
use crate::transport::{Request, Response};

/// Header of an answer that carries the new token.
const SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");

/// How to get a token. Secrets stay in their files, mode 0600, and are read anew for every token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A user with a password, in a project.
    Password {
        /// User name.
        user: String,
        /// The user's domain.
        user_domain: Domain,
        /// File with the password.
        password_file: std::path::PathBuf,
        /// Project name.
        project: String,
        /// The project's domain.
        project_domain: Domain,
    },
    /// An application credential, which knows its project itself.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// File with its secret.
        secret_file: std::path::PathBuf,
    },
}

/// A domain of Keystone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// By its id; that of the first one is `default`.
    Id(String),
    /// By its name.
    Name(String),
}

impl Default for Domain {
    fn default() -> Self {
        Self::Id("default".to_owned())
    }
}

impl Domain {
    fn json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "id": id }),
            Self::Name(name) => json!({ "name": name }),
        }
    }
}

impl Identity {
    /// For people.
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

/// The base URL of the API's version 3, given with or without it.
pub fn base_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.ends_with("/v3") { url.to_owned() } else { format!("{url}/v3") }
}

/// `POST` for a token.
pub fn request(identity: &Identity, secret: &Secret) -> Request {
    let auth = match identity {
        Identity::Password { user, user_domain, project, project_domain, .. } => json!({
            "identity": { "methods": ["password"], "password": { "user": {
                "name": user, "domain": user_domain.json(), "password": secret.reveal(),
            } } },
            "scope": { "project": { "name": project, "domain": project_domain.json() } },
        }),
        Identity::ApplicationCredential { id, .. } => json!({
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
    // Without the catalogue the answer is a few hundred bytes.
    Request { method: Method::POST, path: "/auth/tokens?nocatalog".to_owned(), headers, body }
}

/// The token of a successful answer.
pub fn token(attempt: &Attempt, response: &Response) -> Result<Secret, ClientError> {
    let token = response.headers.get(SUBJECT_TOKEN).and_then(|value| value.to_str().ok()).filter(|t| !t.is_empty());
    token.map(Secret::new).ok_or_else(|| attempt.failed(ErrorClass::Broken, "Keystone's answer has no token"))
}

/// The error of an unsuccessful one: `{"error": {"message": …}}`.
pub fn refusal(attempt: &Attempt, response: &Response) -> ClientError {
    refusal_hiding(&[], attempt, response)
}

/// The same without these secrets.
pub(crate) fn refusal_hiding(secrets: &[&Secret], attempt: &Attempt, response: &Response) -> ClientError {
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
    if message.is_none() && stranger::answered(response) {
        let seen = stranger::description(response, |text| hide(secrets, text));
        return not_api(
            attempt,
            response,
            format!("not Keystone answered (`controller.keystone.endpoints`), but {seen}"),
        );
    }
    let class = match response.status {
        401 | 403 => ErrorClass::Denied,
        // This is how it refuses an application credential that was deleted.
        404 if message.as_deref().is_some_and(|text| text.starts_with("Could not find")) => ErrorClass::Denied,
        408 | 429 | 503 => ErrorClass::Busy,
        502 | 504 => ErrorClass::Unreachable,
        // The address is not that of an identity service.
        404 => ErrorClass::Broken,
        400..=499 => ErrorClass::Invalid,
        _ => ErrorClass::Broken,
    };
    let message = message.map_or_else(|| "Keystone gave no reason".to_owned(), |text| tidy(&hide(secrets, &text)));
    let mut error = attempt.failed(class, message);
    error.status = Some(response.status);
    error.retry_after = if class == ErrorClass::Busy { retry_after(response, record::now()) } else { None };
    error
}
