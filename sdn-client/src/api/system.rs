//! Resources that are not virtual devices: MidoNet REST API, sections "Root document", "Login", "system_state", "Tenants" and
//! "Error bodies".

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lenient;
use super::object::{Extra, object};

/// The root document. Its many URIs and templates are in `other`; this client builds its own paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Application {
    /// `v1.9`, `v5.0`.
    pub version: Option<String>,
    /// The document's own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// The answer to a login. The key is not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Token {
    /// The token.
    pub key: Option<String>,
    /// Until when, in a layout that differs between releases; nothing here relies on it.
    pub expires: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("key", &"[secret]").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The body of most errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ErrorBody {
    /// The server's message; null for some refusals.
    pub message: Option<String>,
    /// The HTTP status once more.
    #[serde(deserialize_with = "lenient::integer")]
    pub code: Option<i32>,
    /// What is wrong with which field; only validation errors have the key at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<Vec<Violation>>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// One field that the server refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Violation {
    /// The field; null or empty when it is the whole object.
    pub property: Option<String>,
    /// What is wrong.
    pub message: Option<String>,
}

/// The state of the whole controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SystemState {
    /// `ACTIVE` or, on 1.9, `UPGRADE`.
    pub state: Option<String>,
    /// `READWRITE` or, on 1.9, `READONLY`.
    pub availability: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else: `writeVersion` on 1.9, `version` and `information` on 5.x.
    #[serde(flatten)]
    pub other: Extra,
}

/// A tenant as the controller's identity service knows it. Its id is free text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tenant {
    /// The id.
    pub id: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else: `description` and `enabled` on 5.x.
    #[serde(flatten)]
    pub other: Extra,
}

object!(Application);
object!(SystemState);
object!(Tenant);
object!(Token);
