//! Answers as values: what a response says, without asking anybody else.
//!
//! Promises (MidoNet REST API, sections "Status codes", "Error bodies"): any 2xx is success; the error body is read
//! whatever its content type says, and may as well be nothing; of a `Location` only the last path segment is used,
//! because servers in the field name the wrong host. Nothing here panics, whatever the body holds.
//!
//! What is not from the API, such as the page of a proxy or of a wrong path, is never taken for success or absence: an
//! address is given away on the word that its port is gone. A 404 says so only in the API's own words, which name what
//! is missing ([`ErrorClass::Absent`]); one that names nothing is [`ErrorClass::Vague`].

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::{DATE, LOCATION, RETRY_AFTER, SET_COOKIE};
use uuid::Uuid;

use atoll_model::record;
use atoll_model::secret::Secret;

use crate::dialect::{Dialect, Resource};
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::stranger;
use crate::transport::{Request, Response};
use crate::wire::{self, ErrorBody, Object};

/// How much of a server's own words is repeated.
const LONGEST_MESSAGE: usize = 400;

/// Whether the server did what it was asked.
pub fn succeeded(response: &Response) -> bool {
    (200..300).contains(&response.status) && !stranger::answered(response)
}

/// Whether a request that was refused like this may have been executed all the same, or still may be: the answer is that
/// of a gateway, or of a server whose storage did not answer it. A server that is read-only says so and does nothing.
/// MidoNet REST API, sections "system_state", "Error bodies".
pub fn may_have_happened(response: &Response) -> bool {
    match response.status {
        // A server that waited too long for the rest of a request has not read it; a gateway says 408 of either side.
        408 | 502 | 504 => true,
        503 => !words(response).contains("restricted mode"),
        _ => stranger::answered(response),
    }
}

/// Whether a 404 says in the API's own words that something is missing which the request is about, or refers to. MidoNet
/// REST API, section "Duplicates and absences": `There is no <Class> with ID <id>.`, `No <kind> with ID <id> exists.`;
/// a few others name the id in other words, and then their media type shows whose they are.
fn names_what_is_missing(request: &Request, response: &Response) -> bool {
    let said = words(response).to_ascii_lowercase();
    let sentence = (said.starts_with("there is no ") || said.starts_with("no ")) && said.contains(" with id ");
    let ours = |id: Uuid| {
        let id = id.to_string();
        request.path.contains(&id) || String::from_utf8_lossy(&request.body).contains(&id)
    };
    (sentence || stranger::is_vendor(response, "error-")) && ids(&said).any(ours)
}

/// Every UUID in a text, in its usual form.
fn ids(text: &str) -> impl Iterator<Item = Uuid> {
    const LENGTH: usize = 36;
    let at = 0..(text.len() + 1).saturating_sub(LENGTH);
    at.filter_map(|at| text.get(at..at + LENGTH)?.parse().ok())
}

/// The id of what was created: the server's, from `Location`, else the one that was sent. MidoNet REST API, section
/// "Client-chosen ids": 1.9 gives routes ids of its own.
pub fn created_id(response: &Response, sent: Option<Uuid>) -> Option<Uuid> {
    location_id(response).or(sent)
}

fn location_id(response: &Response) -> Option<Uuid> {
    let location = response.headers.get(LOCATION)?.to_str().ok()?;
    let path = location.split(['?', '#']).next()?;
    path.trim_end_matches('/').rsplit('/').next()?.parse().ok()
}

/// Reads the body of a successful answer.
pub fn object<O: Object>(attempt: &Attempt, response: &Response) -> Result<O, ClientError> {
    wire::read(&response.body).map_err(|error| garbage(attempt, response, &error))
}

/// Reads the answer to a request for the object of this id: that of another is no answer.
pub fn object_of<O: Object>(attempt: &Attempt, response: &Response, id: Uuid) -> Result<O, ClientError> {
    let found: O = object(attempt, response)?;
    match found.id() {
        Some(other) if other != id => Err(not_api(attempt, response, format!("the answer shows {other}"))),
        None if O::HAS_ID => Err(not_api(attempt, response, "the answer shows no object")),
        _ => Ok(found),
    }
}

/// Reads a successful answer's list of what `parent` has; none for a list that is not of one parent.
///
/// From a list follows what is not there. So an empty one counts only when its media type says that it is MidoNet's, and
/// what is in it must have an id, and belong where it was looked for.
pub fn list<O: Object>(attempt: &Attempt, response: &Response, parent: Option<Uuid>) -> Result<Vec<O>, ClientError> {
    let list = wire::read_list::<O>(&response.body).map_err(|error| garbage(attempt, response, &error))?;
    if list.is_empty() && !stranger::is_vendor(response, "") {
        return Err(not_api(attempt, response, "an empty list that does not say whose it is"));
    }
    for found in &list {
        if (O::HAS_ID && found.id().is_none()) || (O::HAS_KEY && found.key().is_none()) {
            return Err(not_api(attempt, response, "a list with something in it that has no name"));
        }
        if let (Some(parent), Ok(Some((_, other)))) = (parent, found.parent())
            && other != parent
        {
            return Err(not_api(attempt, response, format!("the list shows what belongs to {other}")));
        }
    }
    Ok(list)
}

/// An answer that has the API's form and cannot be its answer to this request.
pub(crate) fn not_api(attempt: &Attempt, response: &Response, problem: impl Into<String>) -> ClientError {
    ClientError { status: Some(response.status), ..attempt.failed(ErrorClass::NotApi, problem) }
}

/// The token of a successful login: the key in the body, else the session cookie.
pub fn token(attempt: &Attempt, response: &Response) -> Result<Secret, ClientError> {
    let key = wire::read::<wire::Token>(&response.body).ok().and_then(|token| token.key);
    let token = key.filter(|key| !key.is_empty()).or_else(|| cookie(response));
    let token = token.ok_or_else(|| attempt.failed(ErrorClass::Broken, "the answer has no token"))?;
    // It would leave as an empty header, and every request would be refused for another reason than this.
    if HeaderValue::from_str(&token).is_err() {
        return Err(attempt.failed(ErrorClass::Broken, "the token has characters that no header can carry"));
    }
    Ok(Secret::new(token))
}

/// `Set-Cookie: sessionId=<token>; Expires=…`
fn cookie(response: &Response) -> Option<String> {
    let cookies = response.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let tokens = cookies.filter_map(|c| c.split(';').next()?.trim().strip_prefix("sessionId="));
    tokens.map(str::to_owned).find(|token| !token.is_empty())
}

/// The dialect that the root document names.
pub fn dialect(attempt: &Attempt, response: &Response) -> Result<Dialect, ClientError> {
    let root: wire::Application = object(attempt, response)?;
    let version = root.version.unwrap_or_default();
    Dialect::from_version(&version).ok_or_else(|| {
        let shown = tidy(&version);
        attempt.failed(ErrorClass::Broken, format!("version {shown:?} of the API is not known; v1.x and v5.x are"))
    })
}

/// Whether the server says, by status and text, that it cannot now but may later. MidoNet REST API, section "Error
/// bodies": 503, and 409 for a transaction that lost against others. What limits rates before it says 429 (RFC 6585) and
/// 408. See [`may_have_happened`].
pub fn is_busy(response: &Response) -> bool {
    match response.status {
        408 | 429 | 503 => true,
        409 => words(response).contains("concurrent modification"),
        _ => false,
    }
}

/// How long the server asks to wait: `Retry-After` in seconds, or as a time, which counts from the server's own `Date` if
/// there is one (RFC 9110, section 10.2.3). `now`: our clock, seconds since 1970. A time that has passed is no wait.
pub fn retry_after(response: &Response, now: u64) -> Option<Duration> {
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
    attempt: &Attempt,
    dialect: Option<Dialect>,
    resource: Resource,
    request: &Request,
    response: &Response,
) -> ClientError {
    refusal_hiding(&[], attempt, dialect, resource, request, response)
}

/// The same without these secrets: a server may echo what it was sent.
pub(crate) fn refusal_hiding(
    secrets: &[&Secret],
    attempt: &Attempt,
    dialect: Option<Dialect>,
    resource: Resource,
    request: &Request,
    response: &Response,
) -> ClientError {
    if stranger::answered(response) {
        let seen = stranger::description(response, |text| hide(secrets, text));
        return not_api(attempt, response, format!("not the controller's API answered, but {seen}"));
    }
    let shown = |text: &str| tidy(&hide(secrets, text));
    let body = wire::read::<ErrorBody>(&response.body).unwrap_or_default();
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
        message: message.unwrap_or_else(|| stranger::instead_of_reasons(response, |text| hide(secrets, text))),
        violations,
        retry_after: if class == ErrorClass::Busy { retry_after(response, record::now()) } else { None },
    }
}

fn class(
    dialect: Option<Dialect>,
    resource: Resource,
    request: &Request,
    response: &Response,
    message: &str,
) -> ErrorClass {
    if is_busy(response) {
        return ErrorClass::Busy;
    }
    match response.status {
        401 | 403 => ErrorClass::Denied,
        404 if names_what_is_missing(request, response) => ErrorClass::Absent,
        404 => ErrorClass::Vague,
        // "A(n) <Class> with ID <id> already exists." is about the id; all other conflicts are about something else.
        409 if message.contains("with ID") && message.contains("already exists") => ErrorClass::SameExists,
        409 => ErrorClass::OtherExists,
        // 1.9 answers links and bindings that conflict like invalid ones.
        400 if dialect.is_some_and(|d| d.may_exist_already(resource, 400)) => ErrorClass::OtherExists,
        502 | 504 => ErrorClass::Unreachable,
        400..=499 => ErrorClass::Invalid,
        _ => ErrorClass::Broken,
    }
}

fn words(response: &Response) -> String {
    wire::read::<ErrorBody>(&response.body).ok().and_then(|body| body.message).unwrap_or_default()
}

fn garbage(attempt: &Attempt, response: &Response, error: &serde_json::Error) -> ClientError {
    let size = response.body.len();
    let text = error.to_string();
    let problem = match text.rsplit_once("expected ") {
        // What stands before it repeats the value, which may be anything, also what we sent.
        Some((_, expected)) if error.is_data() => format!("expected is {expected}"),
        _ if error.is_data() => "a field has no value of its kind".to_owned(),
        _ => text,
    };
    let message = format!("an answer of {size} bytes: {}", tidy(&problem));
    // MidoNet's media type on what MidoNet never wrote is a defect; anything else is somebody else's.
    let class = if stranger::is_vendor(response, "") { ErrorClass::Broken } else { ErrorClass::NotApi };
    ClientError { status: Some(response.status), ..attempt.failed(class, message) }
}

/// A text without these secrets. Before it is cut: half a secret would not be found.
pub(crate) fn hide(secrets: &[&Secret], text: &str) -> String {
    let secrets = secrets.iter().map(|secret| secret.reveal()).filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
}

/// One line of bounded length.
pub(crate) fn tidy(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
