//! Recognises answers that are not the API's (a gateway without a route, a proxy's page, a login form, a wrong path) and
//! describes them. Pure.
//!
//! # Guarantees
//!
//! - Such an answer is neither success nor absence.
//! - Its description names the page, the redirect or the compression, and the server. It holds no query of a URL, no control
//!   character, and a few dozen characters of the body at most.

use http::HeaderName;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, SERVER, VIA};

use crate::api::{self, ErrorBody};
use crate::redact::tidy;
use crate::transport::ApiResponse;

/// How much of such a body is shown.
const SHOWN: usize = 60;

/// Whether an answer is not the API's, as far as status and form show it.
///
/// MidoNet REST API, sections "Status codes", "Error bodies": bodies are JSON objects or lists, `null` or nothing; the
/// API never redirects; its 404 has an error document that repeats the status; it has no 407, 410 and 511.
pub(crate) fn is_not_api(response: &ApiResponse) -> bool {
    match response.status {
        200..=299 => encoding(response).is_some() || !is_json_or_nothing(response),
        404 => !is_error_document(response),
        300..=399 | 407 | 410 | 511 => true,
        _ => false,
    }
}

/// Whether the answer has a media type of MidoNet.
pub(crate) fn has_vendor_type(response: &ApiResponse, kind: &str) -> bool {
    header(response, &CONTENT_TYPE)
        .is_some_and(|found| found.to_ascii_lowercase().starts_with(&format!("application/vnd.org.midonet.{kind}")))
}

/// The API's error document: a JSON object that repeats the status.
fn is_error_document(response: &ApiResponse) -> bool {
    api::read::<ErrorBody>(&response.body).is_ok_and(|body| body.code == Some(i32::from(response.status)))
}

fn is_json_or_nothing(response: &ApiResponse) -> bool {
    let body = response.body.trim_ascii_start();
    body.is_empty() || body.starts_with(b"{") || body.starts_with(b"[") || body.starts_with(b"null")
}

/// The message for a refusal without one. It describes the answer where that is not the API's error document.
pub(crate) fn missing_reason(response: &ApiResponse, hide: impl Fn(&str) -> String) -> String {
    const NONE: &str = "the server gave no reason";
    if response.body.trim_ascii().is_empty() || api::read::<ErrorBody>(&response.body).is_ok() {
        return NONE.to_owned();
    }
    format!("{NONE}, but {}", describe(response, hide))
}

/// The answer in words, for an error: "an HTML page \"Sign in\", served by nginx".
pub(crate) fn describe(response: &ApiResponse, hide: impl Fn(&str) -> String) -> String {
    let what = match response.status {
        300..=399 => match header(response, &LOCATION) {
            Some(target) => format!("a redirect to {}", shown(&hide(without_query(target)))),
            None => "a redirect to nowhere".to_owned(),
        },
        407 => "a proxy that wants credentials; Atoll connects to the controller without a proxy".to_owned(),
        511 => "a network that wants a login first (captive portal)".to_owned(),
        _ => content(response, &hide),
    };
    let by = [SERVER, VIA].iter().find_map(|name| header(response, name));
    match by {
        Some(by) => format!("{what}, served by {}", shown(&hide(by))),
        None => what,
    }
}

fn content(response: &ApiResponse, hide: &impl Fn(&str) -> String) -> String {
    let body = response.body.trim_ascii();
    if let Some(encoding) = encoding(response) {
        return format!("a compressed body ({}), although none was asked for", shown(&hide(encoding)));
    }
    if body.is_empty() {
        return "nothing".to_owned();
    }
    // A page has its title within the first kilobytes.
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    if let Some(page) = page(&text) {
        return match page {
            "" => "an HTML page".to_owned(),
            title => format!("an HTML page {:?}", shown(&hide(title))),
        };
    }
    let kind = if is_json_or_nothing(response) { "JSON that is not the API's" } else { "a text" };
    format!("{kind}: {:?}", shown(&hide(&text)))
}

/// The title of an HTML page, which may be empty; `None` for another text.
fn page(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let start = lower.trim_start_matches('\u{feff}').trim_start();
    if !start.starts_with("<!doctype html") && !start.starts_with("<html") && !lower.contains("<title") {
        return None;
    }
    let title = lower.find("<title").and_then(|at| {
        let from = at + lower[at..].find('>')? + 1;
        let to = from + lower[from..].find("</")?;
        // ASCII lowering keeps every position.
        text.get(from..to)
    });
    Some(title.unwrap_or_default().trim())
}

/// The content coding of the body, unless it is the identity.
fn encoding(response: &ApiResponse) -> Option<&str> {
    header(response, &CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
}

fn header<'a>(response: &'a ApiResponse, name: &HeaderName) -> Option<&'a str> {
    response.headers.get(name)?.to_str().ok()
}

fn without_query(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

fn shown(text: &str) -> String {
    let short: String = tidy(text).chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
