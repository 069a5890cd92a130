//! Negotiation: which version of which resource a request speaks, or 406/415.
//!
//! 5.x compares the header with a list, exactly; endpoints with a `@Consumes` of their own negotiate as JAX-RS does.
//! 1.9 is lenient everywhere, and takes `application/json` or silence for version 1 of the resource.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName};

use crate::dialect::Dialect;
use crate::failure::Failure;

const JSON: &str = "application/json";

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Media {
    /// Name of the resource in its media types, for instance `Router`.
    pub name: &'static str,
    /// How 5.x checks the headers.
    pub policy: Policy,
}

/// How 5.x checks the headers of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// One exact type of an allow-list, or 406.
    Generic,
    /// JAX-RS negotiation with `application/json` allowed: 415 for a wrong Content-Type.
    Own,
    /// JAX-RS negotiation, vendor types only.
    Vendor,
}

/// The answer of a negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Media type for the answer.
    pub media: String,
    /// Version of the resource.
    pub version: u8,
}

/// Versions of a resource that a dialect knows, the preferred one last.
pub(crate) fn versions(dialect: Dialect, name: &str) -> &'static [u8] {
    match (dialect, name) {
        (Dialect::V1, "Application") => &[4, 5],
        (Dialect::V1, "Router" | "Port" | "Rule" | "SystemState" | "MacPort") => &[1, 2],
        (Dialect::V1, "Bridge") => &[1, 2, 3, 4],
        (Dialect::V1, "Host") => &[2, 3],
        (Dialect::V5, "Application") => &[5],
        (Dialect::V5, "Router" | "Host") => &[3],
        (Dialect::V5, "Port") => &[4, 3],
        (Dialect::V5, "Bridge") => &[5, 4],
        (Dialect::V5, "Rule" | "Tenant" | "SystemState" | "MacPort") => &[2],
        _ => &[1],
    }
}

fn vendor(name: &str, version: u8, collection: bool) -> String {
    let collection = if collection { "collection." } else { "" };
    format!("application/vnd.org.midonet.{collection}{name}-v{version}+json")
}

/// Names under which a resource travels: a tunnel zone's host has an older alias.
fn names(name: &'static str) -> impl Iterator<Item = &'static str> {
    [name].into_iter().chain((name == "TunnelZoneHost").then_some("GreTunnelZoneHost"))
}

fn offers(dialect: Dialect, media: Media, collection: bool) -> Vec<Chosen> {
    let versions = versions(dialect, media.name);
    let mut offers: Vec<Chosen> = names(media.name)
        .flat_map(|name| versions.iter().rev().map(move |v| (name, *v)))
        .map(|(name, version)| Chosen { media: vendor(name, version, collection), version })
        .collect();
    let json = Chosen { media: JSON.to_owned(), version: json_version(dialect, media.name) };
    match dialect {
        // Silence and wildcards get the type that is declared first, which is plain JSON.
        Dialect::V1 => offers.insert(0, json),
        Dialect::V5 if media.policy != Policy::Vendor => offers.push(json),
        Dialect::V5 => {}
    }
    offers
}

/// Plain JSON means the oldest version on 1.9, the only one on 5.x.
fn json_version(dialect: Dialect, name: &str) -> u8 {
    match dialect {
        Dialect::V1 => versions(dialect, name).first().copied().unwrap_or(1),
        Dialect::V5 => versions(dialect, name).last().copied().unwrap_or(1),
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    if values.is_empty() { None } else { Some(values.join(",")) }
}

/// Chooses how to answer a GET.
pub(crate) fn accept(dialect: Dialect, media: Media, collection: bool, headers: &HeaderMap) -> Result<Chosen, Failure> {
    let refuse = || Failure::error(406, "Not Acceptable");
    let offers = offers(dialect, media, collection);
    let asked = header(headers, &ACCEPT);
    if dialect == Dialect::V5 && media.policy == Policy::Generic {
        let asked = asked.ok_or_else(refuse)?;
        return offers.into_iter().find(|offer| offer.media == asked.trim()).ok_or_else(refuse);
    }
    let asked = asked.unwrap_or_else(|| "*/*".to_owned());
    // Quality values are not weighed: the first acceptable type wins, which is what clients of this API mean.
    for wanted in asked.split(',').map(|part| part.split(';').next().unwrap_or_default().trim()) {
        let found = offers
            .iter()
            .find(|offer| wanted == "*/*" || wanted == "application/*" || offer.media.eq_ignore_ascii_case(wanted));
        if let Some(found) = found {
            return Ok(found.clone());
        }
    }
    Err(refuse())
}

/// Checks what a POST or PUT brings; the version of its resource.
pub(crate) fn content(dialect: Dialect, media: Media, headers: &HeaderMap) -> Result<u8, Failure> {
    let offers = offers(dialect, media, false);
    let sent = header(headers, &CONTENT_TYPE);
    let generic = dialect == Dialect::V5 && media.policy == Policy::Generic;
    let refuse = || {
        if generic { Failure::error(406, "Not Acceptable") } else { Failure::error(415, "Unsupported Media Type") }
    };
    let Some(sent) = sent else {
        return if dialect == Dialect::V1 { Ok(1) } else { Err(refuse()) };
    };
    let kind = if generic { sent.trim() } else { sent.split(';').next().unwrap_or_default().trim() };
    let found = offers.iter().find(|offer| offer.media.eq_ignore_ascii_case(kind));
    found.map(|offer| offer.version).ok_or_else(refuse)
}
