//! One request as its resource handles it, and the reply.

use crate::wording::Wording as _;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use http::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answer::List;
use crate::body::{Body, parse_uuid};
use crate::refusal::Refusal;
use crate::settings::MockSettings;
use crate::state::ControllerState;
use crate::tokens::Tokens;
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

/// The request with everything that a resource needs to handle it.
pub(crate) struct Call<'a> {
    pub state: &'a mut ControllerState,
    pub tokens: &'a mut Tokens,
    pub settings: &'a MockSettings,
    pub ids: &'a mut IdGenerator,
    /// The variable segments of the path, decoded.
    pub args: Vec<String>,
    pub query: BTreeMap<String, String>,
    pub headers: &'a HeaderMap,
    pub body: Body,
    pub view: Rendering,
}

/// How an answer is rendered.
#[derive(Clone, Debug)]
pub(crate) struct Rendering {
    pub dialect: Dialect,
    /// Version of the resource that was negotiated.
    pub version: u8,
    /// Base URL for links.
    pub base: String,
}

/// A success.
#[derive(Debug)]
pub(crate) enum Reply {
    /// 201, with the path of the new object below the base.
    Created(Option<String>),
    /// 200 with a body of the negotiated type.
    Show(Value),
    /// 200 with a list of the negotiated type.
    List(List),
    /// 200 with a body of a type of its own and a cookie: the login.
    Token { value: Value, cookie: String },
    /// 200 without a body.
    Done,
    /// 204.
    Gone,
}

impl Reply {
    /// A list of `items`. It owns its elements, so that it can be written while the objects change.
    pub(crate) fn items(count: usize, items: impl Iterator<Item = Value> + 'static) -> Self {
        Self::List(List { count, items: Box::new(items) })
    }
}

pub(crate) type ReplyResult = Result<Reply, Refusal>;

impl Call<'_> {
    pub(crate) fn dialect(&self) -> Dialect {
        self.view.dialect
    }

    /// A variable segment that must be an id. What is no UUID names nothing: 404, as JAX-RS has it.
    pub(crate) fn id(&self, place: usize) -> Result<Uuid, Refusal> {
        parse_uuid(self.arg(place)).ok_or_else(|| Refusal::error(404, "Not RouteMatch"))
    }

    /// A variable segment.
    pub(crate) fn arg(&self, place: usize) -> &str {
        self.args.get(place).map_or("", String::as_str)
    }

    /// The id of the body, or a new one; an id that is taken is refused.
    pub(crate) fn new_id(&mut self, class: ObjectClass) -> Result<Uuid, Refusal> {
        match self.body.uuid("id")? {
            Some(id) if exists(self.state, class, id) => Err(self.dialect().duplicate(class, id)),
            Some(id) => Ok(id),
            None => Ok(self.unused_id(class)),
        }
    }

    /// A generated id. A controller that starts from a file may generate ids that are in use.
    pub(crate) fn unused_id(&mut self, class: ObjectClass) -> Uuid {
        loop {
            let id = self.ids.uuid();
            if !exists(self.state, class, id) {
                return id;
            }
        }
    }

    /// An id of the path that must exist.
    pub(crate) fn existing(&self, class: ObjectClass, place: usize) -> Result<Uuid, Refusal> {
        let id = self.id(place)?;
        if exists(self.state, class, id) { Ok(id) } else { Err(self.dialect().absent(class, id)) }
    }

    /// A reference in the body that must exist where it is given.
    pub(crate) fn reference(&self, field: &str, class: ObjectClass) -> Result<Option<Uuid>, Refusal> {
        match self.body.uuid(field)? {
            Some(id) if !exists(self.state, class, id) => Err(self.dialect().dangling(field, class, id)),
            id => Ok(id),
        }
    }

    /// As [`Call::reference`], for a list.
    pub(crate) fn references(&self, field: &str, class: ObjectClass) -> Result<Vec<Uuid>, Refusal> {
        let ids = self.body.uuids(field)?;
        match ids.iter().find(|id| !exists(self.state, class, **id)) {
            Some(id) => Err(self.dialect().dangling(field, class, *id)),
            None => Ok(ids),
        }
    }

    /// A list of objects, as they are now.
    pub(crate) fn list(&self, ids: Vec<Uuid>, show: fn(&Rendering, &ControllerState, Uuid) -> Option<Value>) -> Reply {
        let (view, state) = (self.view.clone(), self.state.clone());
        Reply::items(ids.len(), ids.into_iter().filter_map(move |id| show(&view, &state, id)))
    }

    /// The reply to a DELETE; `there`: an object was deleted.
    pub(crate) fn gone(&self, class: ObjectClass, id: Uuid, there: bool) -> ReplyResult {
        if !there && self.dialect().misses_deleted(class) {
            return Err(self.dialect().absent(class, id));
        }
        Ok(Reply::Gone)
    }
}

/// Whether an object of this class and id exists. Objects of classes that this server does not have never exist.
pub(crate) fn exists(state: &ControllerState, class: ObjectClass, id: Uuid) -> bool {
    let t = state.tables();
    match class {
        ObjectClass::Router => t.routers.contains_key(&id),
        ObjectClass::Bridge => t.bridges.contains_key(&id),
        ObjectClass::Port => t.ports.contains_key(&id),
        ObjectClass::Route => t.routes.contains_key(&id),
        ObjectClass::Chain => t.chains.contains_key(&id),
        ObjectClass::Rule => t.rules.contains_key(&id),
        ObjectClass::PortGroup => t.port_groups.contains_key(&id),
        ObjectClass::IpAddrGroup => t.address_groups.contains_key(&id),
        ObjectClass::Host => t.hosts.contains_key(&id),
        ObjectClass::TunnelZone => t.tunnel_zones.contains_key(&id),
        ObjectClass::LoadBalancer
        | ObjectClass::Mirror
        | ObjectClass::QosPolicy
        | ObjectClass::Insertion
        | ObjectClass::ServiceContainer => false,
    }
}

impl Rendering {
    /// The absolute URI of a path.
    pub(crate) fn uri(&self, path: &str) -> Value {
        json!(format!("{}{path}", self.base))
    }

    /// The absolute URI of an object that may be absent.
    pub(crate) fn link(&self, prefix: &str, id: Option<Uuid>) -> Value {
        id.map_or(Value::Null, |id| self.uri(&format!("{prefix}/{id}")))
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.dialect == Dialect::V5
    }
}

/// Adds the fields of one JSON object to another.
pub(crate) fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more);
    }
}

/// Generates ids, keys and MACs: a counter with a seed, so that a run can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct IdGenerator {
    seed: Uuid,
    count: u64,
    tunnel_key: u32,
}

impl IdGenerator {
    pub(crate) fn new(seed: Uuid) -> Self {
        Self { seed, count: 0, tunnel_key: 0 }
    }

    /// Continues after the keys that are in use.
    pub(crate) fn skip_keys(&mut self, highest: u32) {
        self.tunnel_key = self.tunnel_key.max(highest);
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        self.count += 1;
        Uuid::new_v5(&self.seed, &self.count.to_be_bytes())
    }

    /// A MAC as the real server makes them: `ac:ca:ba` and three bytes.
    pub(crate) fn mac(&mut self) -> atoll_model::attachment::Mac {
        let id = self.uuid();
        let b = id.as_bytes();
        atoll_model::attachment::Mac([0xac, 0xca, 0xba, b[0], b[1], b[2]])
    }

    /// A tunnel key: 24 bits, never 0. After 16 million ports it starts again.
    pub(crate) fn tunnel_key(&mut self) -> u32 {
        self.tunnel_key = self.tunnel_key % 0x00ff_ffff + 1;
        self.tunnel_key
    }
}

/// Whether `length` is the length of an IPv4 network.
pub(crate) fn prefix_length(length: i64) -> Option<u8> {
    u8::try_from(length).ok().filter(|length| *length <= 32)
}

/// The message for an invalid address.
pub(crate) const BAD_ADDRESS: &str = "is an invalid IP format";

/// An address and a length as one network.
pub(crate) type RouteNetwork = (Ipv4Addr, u8);
