//! The resources as they travel, both dialects.
//!
//! | module | what |
//! |---|---|
//! | [`system`] | root document, token, error body, system state, tenant |
//! | [`device`] | router, bridge, and the bridge's MAC and ARP tables |
//! | [`port`] | port of either kind, link, binding |
//! | [`route`] | route |
//! | [`rule`] | chain, rule |
//! | [`group`] | port group, group of addresses, and their members |
//! | [`host`] | host, interface, tunnel zone and its members |
//!
//! These structs hold what is on the wire and give it no meaning: addresses and kinds are text, sentinels are still
//! numbers. Meaning is in [`crate::convert`], what the dialects disagree about in [`crate::dialect`].
//!
//! Promises (MidoNet REST API, section "JSON quirks"): a key that occurs twice is read like Jackson reads it, the last
//! one wins; unknown keys survive in `other`, which is also where the read-only URIs of sub-resources are; absent keys
//! and nulls have the server's defaults; numbers and flags may be text. Written with [`full`], every key is there as in
//! an answer; written with [`sparse`], only what a request has to say.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserializer as _, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub mod device;
pub mod group;
pub mod host;
pub mod lenient;
pub mod port;
pub mod route;
pub mod rule;
pub mod system;

pub use device::{Bridge, Ip4Mac, MacPort, Router};
pub use group::{IpAddrGroup, IpAddrGroupAddr, PortGroup, PortGroupPort};
pub use host::{Host, Interface, TunnelZone, TunnelZoneHost};
pub use port::{HostInterfacePort, Port, PortLink};
pub use route::Route;
pub use rule::{Chain, NatTarget, Range, Rule};
pub use system::{Application, ErrorBody, SystemState, Tenant, Token, Violation};

use crate::dialect::Resource;
use crate::request::Incomplete;

/// Keys that a struct has no field for.
pub type Extra = Map<String, Value>;

/// A resource that can be written and read.
pub trait Object: Default + Serialize + DeserializeOwned {
    /// Which resource it is.
    const RESOURCE: Resource;

    /// Whether it has an id of its own.
    const HAS_ID: bool;

    /// Whether it is known by a path below what it belongs to instead.
    const HAS_KEY: bool = false;

    /// Its id, where it has one of its own.
    fn id(&self) -> Option<Uuid>;

    /// What it belongs to, and is created under; none for what belongs to nothing.
    fn parent(&self) -> Result<Option<(Resource, Uuid)>, Incomplete>;

    /// Its path below what it belongs to, where it has no id of its own.
    fn key(&self) -> Option<String> {
        None
    }
}

/// Implements [`Object`]: which field holds the id, what it belongs to by which field, and its path below that.
macro_rules! object {
    ($type:ident
        $(, id $id:ident)?
        $(, in $parent:ident by $field:ident $name:literal)?
        $(, key |$object:ident| $key:expr)?
    ) => {
        impl $crate::wire::Object for $type {
            const RESOURCE: $crate::dialect::Resource = $crate::dialect::Resource::$type;
            const HAS_ID: bool = !stringify!($($id)?).is_empty();
            const HAS_KEY: bool = !stringify!($($object)?).is_empty();

            fn id(&self) -> Option<uuid::Uuid> {
                None$(.or(self.$id))?
            }

            fn parent(
                &self,
            ) -> Result<Option<($crate::dialect::Resource, uuid::Uuid)>, $crate::request::Incomplete> {
                $(
                    let missing = $crate::request::Incomplete { resource: Self::RESOURCE, field: $name };
                    let parent = self.$field.ok_or(missing)?;
                    return Ok(Some(($crate::dialect::Resource::$parent, parent)));
                )?
                #[allow(unreachable_code, reason = "what belongs to something has returned")]
                Ok(None)
            }

            $(fn key(&self) -> Option<String> {
                let $object = self;
                $key
            })?
        }
    };
}
pub(crate) use object;

/// Reads a body. Duplicate keys are allowed (the last one wins), so it goes through [`Value`].
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::from_slice::<Value>(body)?)
}

/// Reads a list, or null, one element after the other: only one of them is in memory in its general form at a time.
pub fn read_list<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, serde_json::Error> {
    struct List<T>(std::marker::PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut read = Vec::new();
            while let Some(value) = list.next_element::<Value>()? {
                read.push(serde_json::from_value(value).map_err(A::Error::custom)?);
            }
            Ok(read)
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = reader.deserialize_any(List(std::marker::PhantomData))?;
    reader.end()?;
    Ok(read)
}

/// Every key, as answers have them: unset fields are null.
pub fn full<T: Serialize>(object: &T) -> Map<String, Value> {
    match serde_json::to_value(object) {
        Ok(Value::Object(map)) => map,
        // All of this module's types are structs with text keys, which cannot fail to serialise.
        _ => Map::new(),
    }
}

/// Only the keys that say something: no nulls, no empty lists, and no `false` where that is the server's default.
/// `adminStateUp` is the other way round: the server's default is `true`.
pub fn sparse<T: Serialize>(object: &T) -> Map<String, Value> {
    let mut map = full(object);
    map.retain(|key, value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag != (key == "adminStateUp"),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    map
}
