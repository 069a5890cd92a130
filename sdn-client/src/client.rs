//! The client and what its clones share: transport, login, session, deadline. Its operations are in [`crate::operations`]
//! and [`crate::ensure`].
//!
//! # Guarantees
//!
//! - One login at a time; a refused token is renewed once.
//! - A request is repeated only if it is idempotent ([`crate::retry`]), and never past the deadline.
//! - No error holds a token or password, whatever the server echoes.

use std::sync::Arc;

use atoll_model::sync::locked;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::credentials::Credentials;
use crate::dialect::Dialect;
use crate::keystone::KeystoneCredentials;
use crate::session::{Session, SessionFile};
use crate::token_source::TokenSource;
use crate::transport::Transport;

/// Settings of a [`Client`].
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// The dialect; `None` reads it from the root document.
    pub dialect: Option<Dialect>,
    /// The user; `None` means that the controller needs no login.
    pub credentials: Option<Credentials>,
    /// The file that keeps dialect and token between processes.
    pub session_file: Option<SessionFile>,
}

/// A client. Clones share login and connections.
pub struct Client<T> {
    pub(crate) shared: Arc<Shared<T>>,
    pub(crate) deadline: Option<Instant>,
}

impl<T> Clone for Client<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: self.deadline }
    }
}

/// What clones share.
pub(crate) struct Shared<T> {
    pub(crate) transport: T,
    pub(crate) tokens: TokenSource<T>,
    pub(crate) session: std::sync::Mutex<Session>,
    pub(crate) session_file: Option<SessionFile>,
    /// Held during a login; other tasks wait for its result.
    pub(crate) login_lock: Mutex<()>,
}

impl<T: Transport> Client<T> {
    /// A client over `transport`. Sends nothing yet.
    pub fn new(transport: T, settings: ClientSettings) -> Self {
        let tokens = settings.credentials.map_or(TokenSource::None, TokenSource::MidoNet);
        Self::build(transport, settings.dialect, settings.session_file, tokens)
    }

    /// A client whose tokens come from Keystone, over a transport of its own ([`crate::keystone::base_url`]), instead of
    /// from the controller's login. The credentials in `settings` are not used.
    pub fn with_keystone(
        transport: T,
        settings: ClientSettings,
        keystone: T,
        credentials: KeystoneCredentials,
    ) -> Self {
        let tokens = TokenSource::Keystone { transport: keystone, credentials };
        Self::build(transport, settings.dialect, settings.session_file, tokens)
    }

    fn build(
        transport: T,
        dialect: Option<Dialect>,
        session_file: Option<SessionFile>,
        tokens: TokenSource<T>,
    ) -> Self {
        let mut session = session_file.as_ref().map(SessionFile::load).unwrap_or_default();
        session.dialect = dialect.or(session.dialect);
        let session = std::sync::Mutex::new(session);
        let shared = Shared { transport, tokens, session, session_file, login_lock: Mutex::new(()) };
        Self { shared: Arc::new(shared), deadline: None }
    }

    /// The same client with a deadline: its operations end at `deadline` at the latest.
    pub fn until(&self, deadline: Instant) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline: Some(deadline) }
    }

    /// The session as it is known now.
    pub(crate) fn session(&self) -> Session {
        locked(&self.shared.session).clone()
    }

    /// Changes the session and stores it.
    pub(crate) fn change_session(&self, change: impl FnOnce(&mut Session)) {
        let mut session = locked(&self.shared.session);
        change(&mut session);
        if let Some(file) = &self.shared.session_file {
            file.store(&session);
        }
    }
}
