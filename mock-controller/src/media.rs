//! Negotiation: which version of which resource a request speaks, or 406/415.
//!
//! Headers are read as RFC 9110 has it (sections 8.3 and 12.5.1): names in any case, parameters do not count, `*/*` and
//! `application/*` match, the most specific range decides the weight of a type, and `q=0` excludes it. On 5.x a generic resource answers 406 for a header that is missing or cannot be read; endpoints with a
//! `@Consumes` of their own negotiate as JAX-RS does. 1.9 is lenient everywhere: `application/json` or no header means version 1
//! of the resource.
//!
//! Written by hand: crates for `Accept` choose by RFC 9110 alone and have no place for the differences between the dialects.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName};

use crate::refusal::Refusal;
use atoll_sdn_client::Dialect;

const JSON: &str = "application/json";

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Media {
    /// Name of the resource in its media types, for instance `Router`.
    pub name: &'static str,
    /// Another name that 1.9 takes too.
    pub old_name: Option<&'static str>,
    /// How 5.x checks the headers.
    pub policy: Policy,
}

/// How 5.x checks the headers of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// A type of an allow-list, or 406.
    Generic,
    /// JAX-RS negotiation with `application/json` allowed: 415 for a wrong Content-Type.
    Own,
    /// JAX-RS negotiation, vendor types only.
    Vendor,
}

/// The answer of a negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// Media type for the answer.
    pub media: String,
    /// Version of the resource.
    pub version: u8,
}

/// Versions of a resource that a dialect knows, the preferred one last.
pub(crate) fn versions(dialect: Dialect, name: &str) -> &'static [u8] {
    match (dialect, name) {
        (Dialect::V1, "Application") => &[4, 5],
        (Dialect::V1, "Router" | "Port" | "Rule" | "SystemState" | "MacPort" | "DhcpSubnet" | "VTEP") => &[1, 2],
        (Dialect::V1, "Bridge") => &[1, 2, 3, 4],
        (Dialect::V1, "Host") => &[2, 3],
        (Dialect::V5, "Application") => &[5],
        (Dialect::V5, "Router" | "Host") => &[3],
        (Dialect::V5, "Port") => &[4, 3],
        (Dialect::V5, "Bridge") => &[5, 4],
        (Dialect::V5, "Rule" | "Tenant" | "SystemState" | "MacPort" | "DhcpSubnet" | "VTEP") => &[2],
        _ => &[1],
    }
}

fn vendor(name: &str, version: u8, collection: bool) -> String {
    let collection = if collection { "collection." } else { "" };
    format!("application/vnd.org.midonet.{collection}{name}-v{version}+json")
}

/// Names of a resource in media types: a tunnel zone's host has an older alias.
fn names(dialect: Dialect, media: Media) -> impl Iterator<Item = &'static str> {
    let old = media.old_name.filter(|_| dialect == Dialect::V1);
    [media.name].into_iter().chain(old).chain((media.name == "TunnelZoneHost").then_some("GreTunnelZoneHost"))
}

fn offers(dialect: Dialect, media: Media, collection: bool) -> Vec<Negotiated> {
    let versions = versions(dialect, media.name);
    let mut offers: Vec<Negotiated> = names(dialect, media)
        .flat_map(|name| versions.iter().rev().map(move |v| (name, *v)))
        .map(|(name, version)| Negotiated { media: vendor(name, version, collection), version })
        .collect();
    let json = Negotiated { media: JSON.to_owned(), version: json_version(dialect, media.name) };
    match dialect {
        // No header and wildcards get the type that is declared first, which is plain JSON.
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

/// The media ranges of a header; none when it is missing. The error is one that cannot be read.
fn header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<Range>>, ()> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().map_err(drop)).collect();
    if values.is_empty() {
        return Ok(None);
    }
    let values: Vec<&str> = values.into_iter().collect::<Result<_, ()>>()?;
    ranges(&values.join(",")).map(Some).ok_or(())
}

/// Chooses how to answer a GET.
pub(crate) fn accept(
    dialect: Dialect,
    media: Media,
    collection: bool,
    headers: &HeaderMap,
) -> Result<Negotiated, Refusal> {
    let refuse = || Refusal::error(406, "Not Acceptable");
    let offers = offers(dialect, media, collection);
    let asked = match header(headers, &ACCEPT).map_err(|()| refuse())? {
        Some(ranges) => ranges,
        None if dialect == Dialect::V5 && media.policy == Policy::Generic => return Err(refuse()),
        None => vec![Range::any()],
    };
    let mut best: Option<(Wanted, &Negotiated)> = None;
    for offer in &offers {
        // Of equals the one that is declared first.
        if let Some(wanted) = wanted(&asked, &offer.media)
            && best.as_ref().is_none_or(|(most, _)| wanted > *most)
        {
            best = Some((wanted, offer));
        }
    }
    best.map(|(_, offer)| offer.clone()).ok_or_else(refuse)
}

/// Checks what a POST or PUT brings; the version of its resource.
pub(crate) fn content(dialect: Dialect, media: Media, headers: &HeaderMap) -> Result<u8, Refusal> {
    let offers = offers(dialect, media, false);
    let refuse = || match (dialect, media.policy) {
        (Dialect::V5, Policy::Generic) => Refusal::error(406, "Not Acceptable"),
        _ => Refusal::error(415, "Unsupported Media Type"),
    };
    let Some(sent) = header(headers, &CONTENT_TYPE).map_err(|()| refuse())? else {
        return if dialect == Dialect::V1 { Ok(1) } else { Err(refuse()) };
    };
    // A body is of one type.
    let [sent] = sent.as_slice() else { return Err(refuse()) };
    let found = offers.iter().find(|offer| sent.fit(&offer.media).is_some());
    found.map(|offer| offer.version).ok_or_else(refuse)
}

// ---- RFC 9110 ----------------------------------------------------------------------------------------------------

/// A media range with how much it is wanted, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    kind: String,
    subtype: String,
    weight: u16,
}

/// How much a type is wanted: by weight, then by how exactly it was named, then by how early.
type Wanted = (u16, u8, std::cmp::Reverse<usize>);

impl Range {
    fn any() -> Self {
        Self { kind: "*".to_owned(), subtype: "*".to_owned(), weight: 1000 }
    }

    /// How exactly this range names a type; none when it does not.
    fn fit(&self, media: &str) -> Option<u8> {
        let (kind, subtype) = media.split_once('/')?;
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, sub) if own.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

/// How much a type is wanted: the weight of the most specific range that names it.
fn wanted(ranges: &[Range], media: &str) -> Option<Wanted> {
    let fits = ranges.iter().enumerate();
    let fits = fits.filter_map(|(place, range)| Some((range.fit(media)?, std::cmp::Reverse(place), range.weight)));
    let (exact, place, weight) = fits.max()?;
    (weight > 0).then_some((weight, exact, place))
}

/// Reads a list of media ranges; none when it is not one.
fn ranges(text: &str) -> Option<Vec<Range>> {
    let ranges: Option<Vec<Range>> = split(text, b',')?
        .into_iter()
        .map(|part| part.trim_matches([' ', '\t']))
        // A list may have empty elements (section 5.6.1.2).
        .filter(|part| !part.is_empty())
        .map(range)
        .collect();
    ranges.filter(|ranges| !ranges.is_empty())
}

fn range(text: &str) -> Option<Range> {
    let mut parts = split(text, b';')?.into_iter().map(|part| part.trim_matches([' ', '\t']));
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let well = is_token(kind) && is_token(subtype) && (kind != "*" || subtype == "*");
    let mut weight = 1000;
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=')?;
        if !is_token(name) || !(is_token(value) || is_quoted(value)) {
            return None;
        }
        if name.eq_ignore_ascii_case("q") {
            weight = quality(value)?;
        }
    }
    well.then(|| Range { kind: kind.to_owned(), subtype: subtype.to_owned(), weight })
}

/// Splits at a mark outside of quoted strings; none when one does not end.
fn split(text: &str, mark: u8) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == mark && !quoted => {
                parts.push(text.get(begin..place)?);
                begin = place + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..)?);
    (!quoted).then_some(parts)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_quoted(text: &str) -> bool {
    text.len() >= 2 && text.starts_with('"') && text.ends_with('"')
}

/// A quality value in thousandths: `0` to `1` with up to three decimals.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_ranges() {
        for text in [
            "",
            " ",
            ",",
            "json",
            "application",
            "application/",
            "/json",
            "*/json",
            "a/b;q",
            "a/b;q=",
            "a/b;q=2",
            "a/b;q=1.001",
            "a/b;q=0.1234",
            "a/b;q=-1",
            "a/b;x=\"",
            "a b/c",
            "a/b c",
            "a/b;x=y z",
            "a/b/c",
        ] {
            assert_eq!(ranges(text), None, "{text:?}");
        }
        for text in [
            "a/b",
            "a/*",
            "*/*",
            " a/b , c/d ",
            "a/b;",
            "a/b;q=0",
            "a/b;q=1.000",
            "a/b;Q=0.5;x=1",
            "a/b;x=\"a,b;c\"",
            ",a/b",
        ] {
            assert!(ranges(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn the_most_specific_range_says_how_much() {
        let list = ranges("a/*;q=0.5, a/b;q=0, */*;q=0.1").expect("a list");
        let weight = |media| wanted(&list, media).map(|(weight, ..)| weight);
        assert_eq!((weight("a/b"), weight("A/C"), weight("x/y")), (None, Some(500), Some(100)));
    }
}
