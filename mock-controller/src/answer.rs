//! Answers: whole, or in pieces where they show more than a few hundred objects.
//!
//! # Guarantees
//!
//! - A long answer shows the objects as they were when the request arrived, whatever changes meanwhile.
//! - No piece has more than [`PIECE`] objects, and other tasks run between two pieces.
//! - A client that does not read its answer keeps one piece in memory.

use std::fmt;

use atoll_sdn_client::transport::ApiResponse;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::state::{ObjectMap, Tables};

/// The most objects in one piece. An answer with no more is whole.
pub(crate) const PIECE: usize = 256;

/// An answer.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) content: Content,
}

/// The body of an answer.
pub(crate) enum Content {
    /// At once.
    Whole(Bytes),
    /// In pieces.
    Long(Box<dyn Iterator<Item = Bytes>>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(body) => f.debug_tuple("Whole").field(body).finish(),
            Self::Long(_) => f.debug_tuple("Long").finish_non_exhaustive(),
        }
    }
}

impl HttpAnswer {
    /// The answer with all of its body.
    pub fn whole(self) -> ApiResponse {
        let Self { status, headers, content } = self;
        let body = match content {
            Content::Whole(body) => body,
            Content::Long(pieces) => pieces
                .fold(Vec::new(), |mut all, piece| {
                    all.extend_from_slice(&piece);
                    all
                })
                .into(),
        };
        ApiResponse { status, headers, body }
    }
}

impl From<ApiResponse> for HttpAnswer {
    fn from(ApiResponse { status, headers, body }: ApiResponse) -> Self {
        Self { status, headers, content: Content::Whole(body) }
    }
}

/// The list of an answer. It owns its elements.
pub(crate) struct List {
    /// Their number, or a little more.
    pub(crate) count: usize,
    pub(crate) items: Box<dyn Iterator<Item = Value>>,
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("count", &self.count).finish_non_exhaustive()
    }
}

impl List {
    /// The list as JSON; `text` writes one object.
    pub(crate) fn content(self, text: fn(&Value) -> String) -> Content {
        let Self { count, items } = self;
        let pieces = json_of("[", items.map(move |item| text(&item)), "]");
        whole_if(count <= PIECE, pieces)
    }
}

/// Every object, as `Tables` serialises.
pub(crate) fn dump(tables: Tables) -> Content {
    let count = tables.ports.len() + tables.routes.len() + tables.rules.len() + tables.chains.len();
    // The pattern names every field, so that no table is left out.
    let Tables {
        routers,
        bridges,
        ports,
        routes,
        chains,
        rules,
        port_groups,
        address_groups,
        hosts,
        tunnel_zones,
        read_only,
    } = tables;
    let pieces = table("{\"routers\":{", routers)
        .chain(table(",\"bridges\":{", bridges))
        .chain(table(",\"ports\":{", ports))
        .chain(table(",\"routes\":{", routes))
        .chain(table(",\"chains\":{", chains))
        .chain(table(",\"rules\":{", rules))
        .chain(table(",\"port_groups\":{", port_groups))
        .chain(table(",\"address_groups\":{", address_groups))
        .chain(table(",\"hosts\":{", hosts))
        .chain(table(",\"tunnel_zones\":{", tunnel_zones))
        .chain(std::iter::once(format!(",\"read_only\":{read_only}}}").into()));
    whole_if(count <= PIECE, pieces)
}

fn table<V: Serialize + Clone + 'static>(
    begin: &'static str,
    rows: ObjectMap<V>,
) -> impl Iterator<Item = Bytes> + 'static {
    // Plain data with text keys always serialises.
    let row = |(id, row): (Uuid, V)| format!("\"{id}\":{}", serde_json::to_string(&row).unwrap_or_default());
    json_of(begin, rows.into_iter().map(row), "}")
}

fn whole_if(whole: bool, pieces: impl Iterator<Item = Bytes> + 'static) -> Content {
    let long = Content::Long(Box::new(pieces));
    if whole {
        Content::Whole(HttpAnswer { status: 0, headers: HeaderMap::new(), content: long }.whole().body)
    } else {
        long
    }
}

/// Items with commas between two delimiters, in pieces.
fn json_of(
    begin: &'static str,
    mut items: impl Iterator<Item = String> + 'static,
    end: &'static str,
) -> impl Iterator<Item = Bytes> + 'static {
    let (mut before, mut ended) = (begin, false);
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut piece = String::new();
        for _ in 0..PIECE {
            piece.push_str(before);
            let Some(item) = items.next() else {
                // Removes the comma before the end.
                piece.truncate(piece.len() - usize::from(before == ","));
                piece.push_str(end);
                ended = true;
                break;
            };
            piece.push_str(&item);
            before = ",";
        }
        Some(piece.into())
    })
}

/// Builds an answer. A header value with characters that a header cannot carry is left out.
pub(crate) fn answer(status: u16, headers: Vec<(HeaderName, String)>, body: Option<&Value>) -> HttpAnswer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(name, value);
        }
    }
    let body = body.map_or_else(Bytes::new, |value| Bytes::from(value.to_string()));
    HttpAnswer { status, headers: map, content: Content::Whole(body) }
}

/// Builds an answer with a body of one type.
pub(crate) fn with_content(status: u16, media: &str, content: Content) -> HttpAnswer {
    HttpAnswer { content, ..answer(status, vec![(CONTENT_TYPE, media.to_owned())], None) }
}

/// Adds the CORS headers that the real server adds to every answer of its API, errors included.
pub(crate) fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-headers", "Origin, X-Auth-Token, Content-Type, Accept, Authorization"),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-expose-headers", "Location"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(count: usize) -> List {
        List { count, items: Box::new((0..count).map(|n| json!({ "n": n }))) }
    }

    #[test]
    fn a_list_is_json_whatever_its_length() {
        for count in [0, 1, 2, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1] {
            let content = list(count).content(Value::to_string);
            assert_eq!(matches!(content, Content::Whole(_)), count <= PIECE, "{count}");
            let body = HttpAnswer { status: 200, headers: HeaderMap::new(), content }.whole().body;
            let read: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{count}: {error}"));
            assert_eq!(read, (0..count).map(|n| json!({ "n": n })).collect::<Value>(), "{count}");
        }
    }

    #[test]
    fn no_chunk_exceeds_its_limit() {
        let Content::Long(pieces) = list(10 * PIECE).content(Value::to_string) else { panic!("it is long") };
        let sizes: Vec<usize> = pieces.map(|piece| String::from_utf8_lossy(&piece).matches('{').count()).collect();
        assert!(sizes.iter().all(|size| *size <= PIECE), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 10 * PIECE);
    }
}
