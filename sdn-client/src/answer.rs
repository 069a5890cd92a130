//! Reads answers. Pure: no I/O.
//!
//! # Guarantees
//!
//! MidoNet REST API, sections "Status codes", "Error bodies":
//! - Any 2xx is success. The error body is read whatever its content type, and may be empty.
//! - Of a `Location` only the last path segment is used, because servers in the field name the wrong host.
//! - Nothing here panics, whatever the body holds.
//! - An answer that is not the API's, such as the page of a proxy or of a wrong path, is never success or absence: an
//!   address is released because its port is absent. A 404 means absence only in the API's own words, which name what is
//!   missing ([`ErrorClass::Absent`]); a 404 that names nothing is [`ErrorClass::Vague`].

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::{DATE, LOCATION, RETRY_AFTER, SET_COOKIE};
use uuid::Uuid;

use atoll_model::clock;
use atoll_model::secret::Secret;

use crate::api::{self, ApiObject, ErrorBody};
use crate::dialect::Dialect;
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::not_api;
use crate::redact::{hide, tidy};
use crate::resource::Resource;
use crate::transport::{ApiRequest, ApiResponse};

/// Whether the server carried out the request.
pub fn succeeded(response: &ApiResponse) -> bool {
    (200..300).contains(&response.status) && !not_api::is_not_api(response)
}

/// Whether a refused request may have taken effect, or may take effect later: the answer is that of a gateway, or of a
/// server whose storage did not answer. A read-only server says so and does nothing. MidoNet REST API, sections
/// "system_state", "Error bodies".
pub fn may_have_happened(response: &ApiResponse) -> bool {
    match response.status {
        // A server that timed out reading a request has not carried it out; a gateway answers 408 for either side.
        408 | 502 | 504 => true,
        503 => !message_of(response).contains("restricted mode"),
        _ => not_api::is_not_api(response),
    }
}

/// Whether a 404 names, in the API's own words, a missing object that the request is about or refers to. MidoNet REST API,
/// section "Duplicates and absences": `There is no <Class> with ID <id>.`, `No <kind> with ID <id> exists.`; a few others
/// name the id in other words, and then the media type shows that they are the API's.
fn names_missing_object(request: &ApiRequest, response: &ApiResponse) -> bool {
    let message = message_of(response).to_ascii_lowercase();
    let sentence = (message.starts_with("there is no ") || message.starts_with("no ")) && message.contains(" with id ");
    let is_in_request = |id: Uuid| {
        let id = id.to_string();
        request.path.contains(&id) || String::from_utf8_lossy(&request.body).contains(&id)
    };
    (sentence || not_api::has_vendor_type(response, "error-")) && ids(&message).any(is_in_request)
}

/// Every UUID in a text, in its usual form.
fn ids(text: &str) -> impl Iterator<Item = Uuid> {
    const LENGTH: usize = 36;
    let at = 0..(text.len() + 1).saturating_sub(LENGTH);
    at.filter_map(|at| text.get(at..at + LENGTH)?.parse().ok())
}

/// The id of a new object: the server's, from `Location`, otherwise the one that was sent. MidoNet REST API, section
/// "Client-chosen ids": 1.9 gives routes ids of its own.
pub fn created_id(response: &ApiResponse, sent: Option<Uuid>) -> Option<Uuid> {
    location_id(response).or(sent)
}

fn location_id(response: &ApiResponse) -> Option<Uuid> {
    let location = response.headers.get(LOCATION)?.to_str().ok()?;
    let path = location.split(['?', '#']).next()?;
    path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

/// Reads the body of a successful answer.
pub fn object<O: ApiObject>(attempt: &AttemptedOperation, response: &ApiResponse) -> Result<O, ClientError> {
    api::read(&response.body).map_err(|error| unreadable(attempt, response, &error))
}

/// Reads the answer to a request for the object of this id. An object with another id is an error.
pub fn object_of<O: ApiObject>(
    attempt: &AttemptedOperation,
    response: &ApiResponse,
    id: Uuid,
) -> Result<O, ClientError> {
    let found: O = object(attempt, response)?;
    match found.id() {
        Some(other) if other != id => Err(unusable(attempt, response, format!("the answer shows {other}"))),
        None if O::HAS_ID => Err(unusable(attempt, response, "the answer shows no object")),
        _ => Ok(found),
    }
}

/// Reads the list of a successful answer. `parent` is the object that all elements must belong to, if there is one.
///
/// A list shows what is absent. So an empty list counts only with MidoNet's media type, and every element must have an id
/// and belong to `parent`.
pub fn list<O: ApiObject>(
    attempt: &AttemptedOperation,
    response: &ApiResponse,
    parent: Option<Uuid>,
) -> Result<Vec<O>, ClientError> {
    let list = api::read_list::<O>(&response.body).map_err(|error| unreadable(attempt, response, &error))?;
    if list.is_empty() && !not_api::has_vendor_type(response, "") {
        return Err(unusable(attempt, response, "an empty list without the media type of the API"));
    }
    for found in &list {
        if (O::HAS_ID && found.id().is_none()) || (O::HAS_KEY && found.key().is_none()) {
            return Err(unusable(attempt, response, "a list with an element that has no id"));
        }
        if let (Some(parent), Ok(Some((_, other)))) = (parent, found.parent())
            && other != parent
        {
            return Err(unusable(attempt, response, format!("the list shows an object of {other}")));
        }
    }
    Ok(list)
}

/// The error for an answer that has the API's form and cannot be its answer to this request.
pub(crate) fn unusable(
    attempt: &AttemptedOperation,
    response: &ApiResponse,
    problem: impl Into<String>,
) -> ClientError {
    ClientError { status: Some(response.status), ..attempt.failed(ErrorClass::NotApi, problem) }
}

/// The token of a successful login: the key in the body, else the session cookie.
pub fn token(attempt: &AttemptedOperation, response: &ApiResponse) -> Result<Secret, ClientError> {
    let key = api::read::<api::Token>(&response.body).ok().and_then(|token| token.key);
    let token = key.filter(|key| !key.is_empty()).or_else(|| cookie(response));
    let token = token.ok_or_else(|| attempt.failed(ErrorClass::Broken, "the answer has no token"))?;
    // It would be sent as an empty header, and every request would be refused for a misleading reason.
    if HeaderValue::from_str(&token).is_err() {
        return Err(attempt.failed(ErrorClass::Broken, "the token has characters that no header can carry"));
    }
    Ok(Secret::new(token))
}

/// `Set-Cookie: sessionId=<token>; Expires=…`
fn cookie(response: &ApiResponse) -> Option<String> {
    let cookies = response.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let tokens = cookies.filter_map(|c| c.split(';').next()?.trim().strip_prefix("sessionId="));
    tokens.map(str::to_owned).find(|token| !token.is_empty())
}

/// The dialect named by the root document.
pub fn dialect(attempt: &AttemptedOperation, response: &ApiResponse) -> Result<Dialect, ClientError> {
    let root: api::Application = object(attempt, response)?;
    let version = root.version.unwrap_or_default();
    Dialect::from_version(&version).ok_or_else(|| {
        let shown = tidy(&version);
        attempt.failed(ErrorClass::Broken, format!("version {shown:?} of the API is not known; v1.x and v5.x are"))
    })
}

/// Whether the server says, by status and text, that the request may succeed later. MidoNet REST API, section "Error
/// bodies": 503, and 409 for a transaction that lost against others. A rate limiter in front of it answers 429 (RFC 6585)
/// or 408. See [`may_have_happened`].
pub fn is_busy(response: &ApiResponse) -> bool {
    match response.status {
        408 | 429 | 503 => true,
        409 => message_of(response).contains("concurrent modification"),
        _ => false,
    }
}

/// How long the server asks to wait: `Retry-After` in seconds, or as a date, which is relative to the server's own `Date`
/// if there is one (RFC 9110, section 10.2.3). `now`: our clock, seconds since 1970. A date in the past is no wait.
pub fn retry_after(response: &ApiResponse, now: u64) -> Option<Duration> {
    let header = |name| response.headers.get(name)?.to_str().ok().map(str::trim);
    let text = header(RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    let theirs = header(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let now = theirs.unwrap_or(SystemTime::UNIX_EPOCH + Duration::from_secs(now));
    Some(then.duration_since(now).unwrap_or_default())
}

/// Reads an unsuccessful answer to `request`.
pub fn refusal(
    attempt: &AttemptedOperation,
    dialect: Option<Dialect>,
    resource: Resource,
    request: &ApiRequest,
    response: &ApiResponse,
) -> ClientError {
    refusal_hiding(&[], attempt, dialect, resource, request, response)
}

/// As [`refusal`], without these secrets: a server may echo the request.
pub(crate) fn refusal_hiding(
    secrets: &[&Secret],
    attempt: &AttemptedOperation,
    dialect: Option<Dialect>,
    resource: Resource,
    request: &ApiRequest,
    response: &ApiResponse,
) -> ClientError {
    if not_api::is_not_api(response) {
        let description = not_api::describe(response, |text| hide(secrets, text));
        return unusable(attempt, response, format!("not the controller's API answered, but {description}"));
    }
    let shown = |text: &str| tidy(&hide(secrets, text));
    let body = api::read::<ErrorBody>(&response.body).unwrap_or_default();
    let message = body.message.as_deref().map(shown).filter(|text| !text.is_empty());
    let mut violations = body.violations.unwrap_or_default();
    violations.truncate(20);
    for violation in &mut violations {
        violation.message = violation.message.as_deref().map(shown);
        violation.property = violation.property.as_deref().map(shown);
    }
    let class = class(dialect, resource, request, response, message.as_deref().unwrap_or_default());
    ClientError {
        operation: attempt.operation,
        object: attempt.object.clone(),
        class,
        status: Some(response.status),
        message: message.unwrap_or_else(|| not_api::missing_reason(response, |text| hide(secrets, text))),
        violations,
        retry_after: if class == ErrorClass::Busy { retry_after(response, clock::now()) } else { None },
    }
}

fn class(
    dialect: Option<Dialect>,
    resource: Resource,
    request: &ApiRequest,
    response: &ApiResponse,
    message: &str,
) -> ErrorClass {
    if is_busy(response) {
        return ErrorClass::Busy;
    }
    match response.status {
        401 | 403 => ErrorClass::Denied,
        404 if names_missing_object(request, response) => ErrorClass::Absent,
        404 => ErrorClass::Vague,
        // "A(n) <Class> with ID <id> already exists." is about the id; all other conflicts are about something else.
        409 if message.contains("with ID") && message.contains("already exists") => ErrorClass::SameExists,
        409 => ErrorClass::OtherExists,
        // 1.9 answers links and bindings that conflict like invalid ones.
        400 if dialect.is_some_and(|dialect| resource.may_exist_already(dialect, 400)) => ErrorClass::OtherExists,
        502 | 504 => ErrorClass::Unreachable,
        400..=499 => ErrorClass::Invalid,
        _ => ErrorClass::Broken,
    }
}

/// The message of an error document, or an empty text.
fn message_of(response: &ApiResponse) -> String {
    api::read::<ErrorBody>(&response.body).ok().and_then(|body| body.message).unwrap_or_default()
}

fn unreadable(attempt: &AttemptedOperation, response: &ApiResponse, error: &serde_json::Error) -> ClientError {
    let size = response.body.len();
    let text = error.to_string();
    let problem = match text.rsplit_once("expected ") {
        // The text before it repeats the value, which may be anything, also what we sent.
        Some((_, expected)) if error.is_data() => format!("expected is {expected}"),
        _ if error.is_data() => "a field has no value of its kind".to_owned(),
        _ => text,
    };
    let message = format!("an answer of {size} bytes: {}", tidy(&problem));
    // Unreadable content with MidoNet's media type is a defect of the server; other content is not the API's.
    let class = if not_api::has_vendor_type(response, "") { ErrorClass::Broken } else { ErrorClass::NotApi };
    ClientError { status: Some(response.status), ..attempt.failed(class, message) }
}
