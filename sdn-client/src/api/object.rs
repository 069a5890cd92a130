//! What every resource has in common: how it is named, read and written.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserializer as _, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::resource::Resource;

/// An object without the id of its parent, or without its own where one is needed. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {resource} needs {field:?} to be addressed")]
pub struct Incomplete {
    /// The resource of the object.
    pub resource: Resource,
    /// The missing field.
    pub field: &'static str,
}

/// Keys for which a struct has no field.
pub type Extra = Map<String, Value>;

/// An object of the API that can be written and read.
pub trait ApiObject: Default + Serialize + DeserializeOwned + Send + Sync {
    /// Which resource it is.
    const RESOURCE: Resource;

    /// Whether it has an id of its own.
    const HAS_ID: bool;

    /// Whether a path below its parent identifies it instead.
    const HAS_KEY: bool = false;

    /// Its id, where it has one of its own.
    fn id(&self) -> Option<Uuid>;

    /// Its parent, under which it is created; `None` for a resource of the top level.
    fn parent(&self) -> Result<Option<(Resource, Uuid)>, Incomplete>;

    /// Its path below its parent, where it has no id of its own.
    fn key(&self) -> Option<String> {
        None
    }
}

/// Implements [`ApiObject`]: the field that holds the id, the parent with the field that names it, and the path below it.
macro_rules! object {
    ($type:ident
        $(, id $id:ident)?
        $(, in $parent:ident by $field:ident $name:literal)?
        $(, key |$object:ident| $key:expr)?
    ) => {
        impl $crate::api::ApiObject for $type {
            const RESOURCE: $crate::resource::Resource = $crate::resource::Resource::$type;
            const HAS_ID: bool = !stringify!($($id)?).is_empty();
            const HAS_KEY: bool = !stringify!($($object)?).is_empty();

            fn id(&self) -> Option<uuid::Uuid> {
                None$(.or(self.$id))?
            }

            fn parent(
                &self,
            ) -> Result<Option<($crate::resource::Resource, uuid::Uuid)>, $crate::api::Incomplete> {
                $(
                    let missing = $crate::api::Incomplete { resource: Self::RESOURCE, field: $name };
                    let parent = self.$field.ok_or(missing)?;
                    return Ok(Some(($crate::resource::Resource::$parent, parent)));
                )?
                #[allow(unreachable_code, reason = "an object with a parent has returned")]
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

/// Reads a body by way of [`Value`], because a key may occur twice: the last one wins.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::from_slice::<Value>(body)?)
}

/// Reads a list, or null. One element at a time is in memory as a [`Value`].
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
        // The types of this module are structs with text keys, which always serialise.
        _ => Map::new(),
    }
}

/// Only the keys that differ from the server's defaults: no nulls, no empty lists, no `false`. For `adminStateUp` the
/// server's default is `true`.
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
