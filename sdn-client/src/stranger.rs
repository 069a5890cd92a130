//! Answers that are not the API's: a gateway without a route, a proxy's page, a login form, a wrong path. Pure.
//!
//! Promises: such an answer is neither success nor absence; its error names what was seen (page, redirect, compression,
//! who served it) and holds nothing that an answer could hide in it: no query of a URL, no control character, no more
//! than a few dozen characters of a body.

use http::HeaderName;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, SERVER, VIA};

use crate::answer::tidy;
use crate::transport::Response;
use crate::wire::{self, ErrorBody};

/// How much of a foreign body is shown.
const SHOWN: usize = 60;

/// Whether somebody else than the API answered, as far as status and form tell.
///
/// MidoNet REST API, sections "Status codes", "Error bodies": bodies are JSON objects or lists, `null` or nothing; the
/// API never redirects; its 404 has an error document that repeats the status; it has no 407, 410 and 511.
pub(crate) fn answered(response: &Response) -> bool {
    match response.status {
        200..=299 => encoding(response).is_some() || !is_json_or_nothing(response),
        404 => !is_error_document(response),
        300..=399 | 407 | 410 | 511 => true,
        _ => false,
    }
}

/// Whether the answer is of a media type that only MidoNet has.
pub(crate) fn is_vendor(response: &Response, kind: &str) -> bool {
    header(response, &CONTENT_TYPE)
        .is_some_and(|found| found.to_ascii_lowercase().starts_with(&format!("application/vnd.org.midonet.{kind}")))
}

/// The API's error document: a JSON object that holds the status once more.
fn is_error_document(response: &Response) -> bool {
    wire::read::<ErrorBody>(&response.body).is_ok_and(|body| body.code == Some(i32::from(response.status)))
}

fn is_json_or_nothing(response: &Response) -> bool {
    let body = response.body.trim_ascii_start();
    body.is_empty() || body.starts_with(b"{") || body.starts_with(b"[") || body.starts_with(b"null")
}

/// What to say of a refusal without a message: nothing, or what answered, where that is not the API's error document.
pub(crate) fn instead_of_reasons(response: &Response, hide: impl Fn(&str) -> String) -> String {
    const NONE: &str = "the server gave no reason";
    if response.body.trim_ascii().is_empty() || wire::read::<ErrorBody>(&response.body).is_ok() {
        return NONE.to_owned();
    }
    format!("{NONE}, but {}", description(response, hide))
}

/// What was seen, for an error: "an HTML page \"Sign in\", served by nginx".
pub(crate) fn description(response: &Response, hide: impl Fn(&str) -> String) -> String {
    let what = match response.status {
        300..=399 => match header(response, &LOCATION) {
            Some(target) => format!("a redirect to {}", shown(&hide(without_query(target)))),
            None => "a redirect to nowhere".to_owned(),
        },
        407 => "a proxy that wants credentials; Atoll speaks to the controller without a proxy".to_owned(),
        511 => "a network that wants a login first (captive portal)".to_owned(),
        _ => content(response, &hide),
    };
    let by = [SERVER, VIA].iter().find_map(|name| header(response, name));
    match by {
        Some(by) => format!("{what}, served by {}", shown(&hide(by))),
        None => what,
    }
}

fn content(response: &Response, hide: &impl Fn(&str) -> String) -> String {
    let body = response.body.trim_ascii();
    if let Some(encoding) = encoding(response) {
        return format!("a compressed body ({}), although none was asked for", shown(&hide(encoding)));
    }
    if body.is_empty() {
        return "nothing".to_owned();
    }
    // Enough of a page to hold its title.
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

/// The title of a page, which may be empty; none when it is no page.
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

/// How the body is packed, unless it is not.
fn encoding(response: &Response) -> Option<&str> {
    header(response, &CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
}

fn header<'a>(response: &'a Response, name: &HeaderName) -> Option<&'a str> {
    response.headers.get(name)?.to_str().ok()
}

fn without_query(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

fn shown(text: &str) -> String {
    let short: String = tidy(text).chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
