//! Requests as values: no I/O, no token, no base URL.
//!
//! Promises (MidoNet REST API, sections "Media types and negotiation", "Client-chosen ids"): a request with a body has
//! exactly one vendor `Content-Type`; one that reads has exactly one vendor `Accept`; DELETE has neither. A body says
//! what there is to say and leaves the rest to the server's defaults. Every path is built here from ids, so that
//! nothing a server sent ever becomes a path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};
use uuid::Uuid;

use atoll_model::secret::Secret;

use crate::dialect::{Dialect, Resource};
use crate::transport::Request;
use crate::wire::{self, Object};

/// Header that carries the token.
pub const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Header that names the project of a login.
pub const PROJECT: HeaderName = HeaderName::from_static("x-auth-project");

/// An object without the id of what it belongs to, or without its own where one is needed. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {resource} needs {field:?} to be addressed")]
pub struct Incomplete {
    /// What was to be sent.
    pub resource: Resource,
    /// What is missing in it.
    pub field: &'static str,
}

/// What a list is limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What this tenant owns.
    Tenant(String),
    /// What belongs to this object.
    Of(Resource, Uuid),
    /// The ports at the other end of this device's links.
    PeersOf(Resource, Uuid),
}

/// `GET` the root document.
pub fn root() -> Request {
    // Version 5 of it is the one that both dialects know.
    read("/".to_owned(), &Resource::Application.media(Dialect::V5))
}

/// `GET` the system state.
pub fn system_state(dialect: Dialect) -> Request {
    read("/system_state".to_owned(), &Resource::SystemState.media(dialect))
}

/// `POST` a login. The user's name must not contain `:`, and MidoNet takes no password that does.
pub fn login(username: &str, password: &Secret, project: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, secret_value(&format!("Basic {}", basic(username, password).reveal())));
    if let Ok(project) = HeaderValue::from_str(project) {
        headers.insert(PROJECT, project);
    }
    Request { method: Method::POST, path: "/login".to_owned(), headers, body: Bytes::new() }
}

/// User and password as they travel: as secret as the password.
pub(crate) fn basic(username: &str, password: &Secret) -> Secret {
    Secret::new(BASE64.encode(format!("{username}:{}", password.reveal())))
}

/// Puts the token in.
pub fn authorize(request: &mut Request, token: &Secret) {
    request.headers.insert(TOKEN, secret_value(token.reveal()));
}

/// `GET` one object.
pub fn get(dialect: Dialect, resource: Resource, id: Uuid) -> Request {
    read(format!("/{}/{id}", resource.segment()), &resource.media(dialect))
}

/// `GET` a list.
pub fn list(dialect: Dialect, resource: Resource, scope: &Scope) -> Request {
    let segment = resource.segment();
    let path = match scope {
        Scope::All => format!("/{segment}"),
        Scope::Tenant(tenant) => format!("/{segment}?tenant_id={}", query_text(tenant)),
        Scope::Of(parent, id) => format!("/{}/{id}/{segment}", parent.segment()),
        Scope::PeersOf(device, id) => format!("/{}/{id}/peer_ports", device.segment()),
    };
    read(path, &resource.media_list(dialect))
}

/// `POST` an object to where it belongs.
pub fn create<O: Object>(dialect: Dialect, object: &O) -> Result<Request, Incomplete> {
    let segment = O::RESOURCE.segment();
    let path = match object.parent()? {
        Some((parent, id)) => format!("/{}/{id}/{segment}", parent.segment()),
        None => format!("/{segment}"),
    };
    let mut body = wire::sparse(object);
    if O::RESOURCE == Resource::Port && !dialect.binds_on_create() {
        // 1.9 would store them without the other half of the link or binding.
        for key in ["hostId", "interfaceName", "peerId"] {
            body.remove(key);
        }
    }
    Ok(write(Method::POST, path, &O::RESOURCE.media(dialect), body))
}

/// `PUT` an object: replaces it, so it has to be the whole of it.
pub fn update<O: Object>(dialect: Dialect, object: &O) -> Result<Request, Incomplete> {
    Ok(write(Method::PUT, item(object)?, &O::RESOURCE.media(dialect), wire::sparse(object)))
}

/// `POST` a link. Its body has the peer alone: a 5.x server answers a `portId` with status 500.
pub fn link(dialect: Dialect, port: Uuid, peer: Uuid) -> Request {
    let body = wire::sparse(&wire::PortLink { peer_id: Some(peer), ..wire::PortLink::default() });
    write(Method::POST, format!("/ports/{port}/link"), &Resource::PortLink.media(dialect), body)
}

/// `DELETE` a port's link; both ends are free then.
pub fn unlink(port: Uuid) -> Request {
    plain(Method::DELETE, format!("/ports/{port}/link"))
}

/// `DELETE` one object.
pub fn delete(resource: Resource, id: Uuid) -> Request {
    plain(Method::DELETE, format!("/{}/{id}", resource.segment()))
}

/// `DELETE` a binding. A 5.x server does not look at the host, so look at the port first.
pub fn unbind(host: Uuid, port: Uuid) -> Request {
    plain(Method::DELETE, format!("/hosts/{host}/ports/{port}"))
}

/// `GET` what this object should be.
pub fn look<O: Object>(dialect: Dialect, object: &O) -> Result<Request, Incomplete> {
    Ok(read(item(object)?, &O::RESOURCE.media(dialect)))
}

/// `DELETE` this object.
pub fn remove<O: Object>(object: &O) -> Result<Request, Incomplete> {
    Ok(plain(Method::DELETE, item(object)?))
}

/// By its id, or by its path below what it belongs to.
fn item<O: Object>(object: &O) -> Result<String, Incomplete> {
    if let Some(id) = object.id() {
        return Ok(format!("/{}/{id}", O::RESOURCE.segment()));
    }
    match (object.parent()?, object.key()) {
        (Some((parent, id)), Some(key)) => Ok(format!("/{}/{id}/{key}", parent.segment())),
        _ => Err(Incomplete { resource: O::RESOURCE, field: "id" }),
    }
}

fn plain(method: Method, path: String) -> Request {
    Request { method, path, headers: HeaderMap::new(), body: Bytes::new() }
}

fn read(path: String, accept: &str) -> Request {
    let mut request = plain(Method::GET, path);
    request.headers.insert(ACCEPT, header(accept));
    request
}

fn write(method: Method, path: String, content_type: &str, body: Map<String, Value>) -> Request {
    let mut request = plain(method, path);
    request.headers.insert(CONTENT_TYPE, header(content_type));
    request.body = Bytes::from(Value::Object(body).to_string());
    request
}

/// Media types are made of letters, digits and `./+-`.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Marked, so that no `Debug` shows it. A text that cannot stand in a header becomes an empty one, which is refused.
fn secret_value(text: &str) -> HeaderValue {
    let mut value = header(text);
    value.set_sensitive(true);
    value
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, section 2.3).
fn query_text(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)].into());
            out.push(DIGITS[usize::from(byte & 15)].into());
        }
        out
    })
}
