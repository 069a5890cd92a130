//! What a request is answered: whole, or, where it tells of more than a few hundred objects, piece by piece.
//!
//! Promises: a long answer is read from a copy of the objects as they were when it was asked for, whatever changes
//! meanwhile; no piece has more than [`PIECE`] objects, and between two of them others have their turn; a client that
//! does not take its answer keeps one piece in memory, and not all of them.

use std::fmt;

use atoll_sdn_client::transport::Response;
use bytes::Bytes;
use http::HeaderMap;
use imbl::OrdMap;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::state::Tables;

/// How many objects a piece of an answer has at most. An answer of no more is whole.
pub(crate) const PIECE: usize = 256;

/// An answer.
#[derive(Debug)]
pub struct Answer {
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

impl Answer {
    /// The answer with all of its body.
    pub fn whole(self) -> Response {
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
        Response { status, headers, body }
    }
}

impl From<Response> for Answer {
    fn from(Response { status, headers, body }: Response) -> Self {
        Self { status, headers, content: Content::Whole(body) }
    }
}

/// A list to answer with. It owns what it shows.
pub(crate) struct List {
    /// How many there are, or a few more.
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
    // No table may be forgotten here.
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
    rows: OrdMap<Uuid, V>,
) -> impl Iterator<Item = Bytes> + 'static {
    // Plain data under text keys always serialises.
    let row = |(id, row): (Uuid, V)| format!("\"{id}\":{}", serde_json::to_string(&row).unwrap_or_default());
    json_of(begin, rows.into_iter().map(row), "}")
}

fn whole_if(whole: bool, pieces: impl Iterator<Item = Bytes> + 'static) -> Content {
    let long = Content::Long(Box::new(pieces));
    if whole {
        Content::Whole(Answer { status: 0, headers: HeaderMap::new(), content: long }.whole().body)
    } else {
        long
    }
}

/// Items between two marks, with commas, in pieces.
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
                // A comma was written for an item that there is not.
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
            let body = Answer { status: 200, headers: HeaderMap::new(), content }.whole().body;
            let read: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{count}: {error}"));
            assert_eq!(read, (0..count).map(|n| json!({ "n": n })).collect::<Value>(), "{count}");
        }
    }

    #[test]
    fn no_piece_has_more_than_it_may() {
        let Content::Long(pieces) = list(10 * PIECE).content(Value::to_string) else { panic!("it is long") };
        let sizes: Vec<usize> = pieces.map(|piece| String::from_utf8_lossy(&piece).matches('{').count()).collect();
        assert!(sizes.iter().all(|size| *size <= PIECE), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 10 * PIECE);
    }
}
