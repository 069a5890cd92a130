//! The session of a client, dialect and token, in a file with mode 0600, so that a short-lived process neither reads the
//! root document nor logs in.
//!
//! # Guarantees
//!
//! The file is replaced atomically and is never readable by others. A file that is missing, damaged, of another controller or
//! user, or readable by others counts as absent; that costs two requests.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use atoll_node::files::{TEXT, atomic, read};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use atoll_model::secret::Secret;

use crate::dialect::Dialect;

/// The format of the file.
const SCHEMA: u32 = 1;

/// Dialect and token, where they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The dialect of the controller.
    pub dialect: Option<Dialect>,
    /// The token of the last login.
    pub token: Option<Secret>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u32,
    scope: Uuid,
    dialect: Option<Dialect>,
    token: Option<String>,
}

/// The file of a session.
#[derive(Clone, Debug)]
pub struct SessionFile {
    path: PathBuf,
    scope: Uuid,
}

impl SessionFile {
    /// The file at `path`. `scope` names the controller and the user; a file of another scope counts as absent.
    pub fn new(path: impl Into<PathBuf>, scope: &[&str]) -> Self {
        let name = scope.join("\0");
        Self { path: path.into(), scope: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()) }
    }

    /// The session that was stored last, or an empty one.
    pub fn load(&self) -> Session {
        self.stored().map_or_else(Session::default, |stored| Session {
            dialect: stored.dialect,
            token: stored.token.filter(|t| !t.is_empty() && http::HeaderValue::from_str(t).is_ok()).map(Secret::new),
        })
    }

    fn stored(&self) -> Option<Stored> {
        let file = read::open_own(&self.path, OpenOptions::new().read(true)).ok()?;
        if file.metadata().ok()?.permissions().mode() & 0o077 != 0 {
            return None;
        }
        let text = read::contents(&file, TEXT).ok()?;
        let stored: Stored = serde_json::from_slice(&text).ok()?;
        (stored.schema == SCHEMA && stored.scope == self.scope).then_some(stored)
    }

    /// Stores the session. A failure is only logged: it costs the next process two requests.
    pub fn store(&self, session: &Session) {
        if let Err(error) = self.write(session) {
            tracing::debug!(path = %self.path.display(), %error, "the session was not stored");
        }
    }

    fn write(&self, session: &Session) -> std::io::Result<()> {
        let token = session.token.as_ref().map(|t| t.reveal().to_owned());
        let stored = Stored { schema: SCHEMA, scope: self.scope, dialect: session.dialect, token };
        atomic::replace(&self.path, &serde_json::to_vec(&stored)?, atomic::Durability::Lossy)
    }
}
