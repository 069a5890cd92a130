//! What a process needs to know before its first real request: dialect and token. Kept in a file with mode 0600, so that
//! a short-lived process neither reads the root document nor logs in.
//!
//! Promises: the file is replaced atomically and never readable by others; a file that is missing, damaged, of another
//! controller or user, or readable by others counts as absent. Losing it costs two requests.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use atoll_model::secret::Secret;

use crate::dialect::Dialect;

/// The format of the file.
const SCHEMA: u32 = 1;
/// A session file is far smaller; a larger one is not ours.
const LARGEST: u64 = 64 * 1024;

/// Dialect and token, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// What the controller speaks.
    pub dialect: Option<Dialect>,
    /// Who we are.
    pub token: Option<Secret>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u32,
    scope: Uuid,
    dialect: Option<Dialect>,
    token: Option<String>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct SessionFile {
    path: PathBuf,
    scope: Uuid,
}

impl SessionFile {
    /// The file at `path`. `scope` says for which controller and user it is: a change of either makes it absent.
    pub fn new(path: impl Into<PathBuf>, scope: &[&str]) -> Self {
        let name = scope.join("\0");
        Self { path: path.into(), scope: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()) }
    }

    /// What was stored last, or nothing.
    pub fn load(&self) -> Session {
        self.stored().map_or_else(Session::default, |stored| Session {
            dialect: stored.dialect,
            token: stored.token.filter(|t| !t.is_empty()).map(Secret::new),
        })
    }

    fn stored(&self) -> Option<Stored> {
        let file = fs::File::open(&self.path).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.permissions().mode() & 0o077 != 0 {
            return None;
        }
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text).ok()?;
        let stored: Stored = serde_json::from_slice(&text).ok()?;
        (stored.schema == SCHEMA && stored.scope == self.scope).then_some(stored)
    }

    /// Stores it. A failure costs the next process two requests and nothing else, so it is only logged.
    pub fn store(&self, session: &Session) {
        if let Err(error) = self.write(session) {
            tracing::debug!(path = %self.path.display(), %error, "the session was not stored");
        }
    }

    fn write(&self, session: &Session) -> std::io::Result<()> {
        let token = session.token.as_ref().map(|t| t.reveal().to_owned());
        let stored = Stored { schema: SCHEMA, scope: self.scope, dialect: session.dialect, token };
        let text = serde_json::to_vec(&stored)?;
        // A name of its own for each writer: two processes may store at the same time.
        let temporary = self.path.with_extension(format!("{}.tmp", Uuid::new_v4().simple()));
        let written = write_private(&temporary, &text).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)
}
