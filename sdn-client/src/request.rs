//! Requests as values: no I/O, no token, no base URL.
//!
//! # Guarantees
//!
//! MidoNet REST API, sections "Media types and negotiation", "Client-chosen ids":
//! - A request with a body has exactly one vendor `Content-Type`, a read has exactly one vendor `Accept`, DELETE has neither.
//! - A body holds what differs from the server's defaults.
//! - Every path is built here from ids: nothing that a server sent becomes a path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use uuid::Uuid;

use atoll_model::secret::Secret;

use crate::api::{self, ApiObject, Incomplete};
use crate::dialect::Dialect;
use crate::resource::Resource;
use crate::transport::ApiRequest;

/// All characters but the unreserved ones of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Header that carries the token.
pub const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Header that names the project of a login.
pub const PROJECT: HeaderName = HeaderName::from_static("x-auth-project");

/// The scope of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All objects.
    All,
    /// The objects of this tenant.
    Tenant(String),
    /// The objects below this parent.
    Of(Resource, Uuid),
    /// The ports at the other end of this device's links.
    PeersOf(Resource, Uuid),
}

/// `GET` the root document.
pub fn root() -> ApiRequest {
    // Version 5 of it is the one that both dialects know.
    read("/".to_owned(), &Resource::Application.media(Dialect::V5))
}

/// `GET` the system state.
pub fn system_state(dialect: Dialect) -> ApiRequest {
    read("/system_state".to_owned(), &Resource::SystemState.media(dialect))
}

/// `POST` a login. The user's name must not contain `:`, and MidoNet takes no password that does.
pub fn login(username: &str, password: &Secret, project: &str) -> ApiRequest {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, secret_value(&format!("Basic {}", basic(username, password).reveal())));
    if let Ok(project) = HeaderValue::from_str(project) {
        headers.insert(PROJECT, project);
    }
    ApiRequest { method: Method::POST, path: "/login".to_owned(), headers, body: Bytes::new() }
}

/// User and password in the encoding of the `Authorization` header: as secret as the password.
pub(crate) fn basic(username: &str, password: &Secret) -> Secret {
    Secret::new(BASE64.encode(format!("{username}:{}", password.reveal())))
}

/// Adds the token.
pub fn authorize(request: &mut ApiRequest, token: &Secret) {
    request.headers.insert(TOKEN, secret_value(token.reveal()));
}

/// `GET` one object.
pub fn get(dialect: Dialect, resource: Resource, id: Uuid) -> ApiRequest {
    read(format!("/{}/{id}", resource.segment()), &resource.media(dialect))
}

/// `GET` a list.
pub fn list(dialect: Dialect, resource: Resource, scope: &Scope) -> ApiRequest {
    let segment = resource.segment();
    let path = match scope {
        Scope::All => format!("/{segment}"),
        Scope::Tenant(tenant) => format!("/{segment}?tenant_id={}", utf8_percent_encode(tenant, RESERVED)),
        Scope::Of(parent, id) => format!("/{}/{id}/{segment}", parent.segment()),
        Scope::PeersOf(device, id) => format!("/{}/{id}/peer_ports", device.segment()),
    };
    read(path, &resource.media_list(dialect))
}

/// `POST` an object below its parent.
pub fn create<O: ApiObject>(dialect: Dialect, object: &O) -> Result<ApiRequest, Incomplete> {
    let segment = O::RESOURCE.segment();
    let path = match object.parent()? {
        Some((parent, id)) => format!("/{}/{id}/{segment}", parent.segment()),
        None => format!("/{segment}"),
    };
    let mut body = api::sparse(object);
    if O::RESOURCE == Resource::Port && !dialect.binds_on_create() {
        // 1.9 would store them without the other half of the link or binding.
        for key in ["hostId", "interfaceName", "peerId"] {
            body.remove(key);
        }
    }
    Ok(write(Method::POST, path, &O::RESOURCE.media(dialect), body))
}

/// `PUT` an object. It replaces the whole object.
pub fn update<O: ApiObject>(dialect: Dialect, object: &O) -> Result<ApiRequest, Incomplete> {
    Ok(write(Method::PUT, item(object)?, &O::RESOURCE.media(dialect), api::sparse(object)))
}

/// `POST` a link. Its body has the peer alone: a 5.x server answers a `portId` with status 500.
pub fn link(dialect: Dialect, port: Uuid, peer: Uuid) -> ApiRequest {
    let body = api::sparse(&api::PortLink { peer_id: Some(peer), ..api::PortLink::default() });
    write(Method::POST, format!("/ports/{port}/link"), &Resource::PortLink.media(dialect), body)
}

/// `DELETE` a port's link; both ends are free then.
pub fn unlink(port: Uuid) -> ApiRequest {
    plain(Method::DELETE, format!("/ports/{port}/link"))
}

/// `DELETE` one object.
pub fn delete(resource: Resource, id: Uuid) -> ApiRequest {
    plain(Method::DELETE, format!("/{}/{id}", resource.segment()))
}

/// `DELETE` a binding. A 5.x server ignores the host, so the caller reads the port first.
pub fn unbind(host: Uuid, port: Uuid) -> ApiRequest {
    plain(Method::DELETE, format!("/hosts/{host}/ports/{port}"))
}

/// `GET` the object with the identity of `object`.
pub fn find<O: ApiObject>(dialect: Dialect, object: &O) -> Result<ApiRequest, Incomplete> {
    Ok(read(item(object)?, &O::RESOURCE.media(dialect)))
}

/// `DELETE` this object.
pub fn remove<O: ApiObject>(object: &O) -> Result<ApiRequest, Incomplete> {
    Ok(plain(Method::DELETE, item(object)?))
}

/// The path of an object: by its id, or by its key below its parent.
fn item<O: ApiObject>(object: &O) -> Result<String, Incomplete> {
    if let Some(id) = object.id() {
        return Ok(format!("/{}/{id}", O::RESOURCE.segment()));
    }
    match (object.parent()?, object.key()) {
        (Some((parent, id)), Some(key)) => Ok(format!("/{}/{id}/{key}", parent.segment())),
        _ => Err(Incomplete { resource: O::RESOURCE, field: "id" }),
    }
}

fn plain(method: Method, path: String) -> ApiRequest {
    ApiRequest { method, path, headers: HeaderMap::new(), body: Bytes::new() }
}

fn read(path: String, accept: &str) -> ApiRequest {
    let mut request = plain(Method::GET, path);
    request.headers.insert(ACCEPT, header(accept));
    request
}

fn write(method: Method, path: String, content_type: &str, body: Map<String, Value>) -> ApiRequest {
    let mut request = plain(method, path);
    request.headers.insert(CONTENT_TYPE, header(content_type));
    request.body = Bytes::from(Value::Object(body).to_string());
    request
}

/// Media types consist of letters, digits and `./+-`.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Marked as sensitive, so that no `Debug` shows it. A text that no header can carry becomes an empty one, which the server
/// refuses.
fn secret_value(text: &str) -> HeaderValue {
    let mut value = header(text);
    value.set_sensitive(true);
    value
}
