//! The client: operations on resources, over any [`Transport`].
//!
//! Promises: one login at a time, renewed once when a token is refused; retries only where a repetition does no harm
//! ([`crate::retry`]) and never past the deadline; no token or password in any error, whatever the server echoes.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::answer;
use crate::credentials::Credentials;
use crate::dialect::{Dialect, Resource};
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::exchange::Operation;
use crate::keystone::Identity;
use crate::login::Login;
use crate::request::{self, Incomplete, Scope};
use crate::session::{Session, SessionFile};
use crate::settle::Look;
use crate::transport::Transport;
use crate::wire::{Object, SystemState};

/// How a client behaves.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which dialect; none asks the root document.
    pub dialect: Option<Dialect>,
    /// Who we are; none means that the controller needs no login.
    pub credentials: Option<Credentials>,
    /// Where dialect and token are kept between processes.
    pub session_file: Option<SessionFile>,
}

/// A client. Clones share login and connections.
pub struct Client<T> {
    pub(crate) shared: Rc<Shared<T>>,
    pub(crate) deadline: Option<Instant>,
}

impl<T> Clone for Client<T> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), deadline: self.deadline }
    }
}

/// What clones share.
pub(crate) struct Shared<T> {
    pub(crate) transport: T,
    pub(crate) login: Login<T>,
    pub(crate) session: RefCell<Session>,
    pub(crate) session_file: Option<SessionFile>,
    /// Held while somebody logs in; the others wait for the result.
    pub(crate) gate: Mutex<()>,
}

impl<T: Transport> Client<T> {
    /// A client over `transport`. Sends nothing yet.
    pub fn new(transport: T, settings: Settings) -> Self {
        let login = settings.credentials.map_or(Login::None, Login::MidoNet);
        Self::build(transport, settings.dialect, settings.session_file, login)
    }

    /// A client whose tokens come from Keystone, over a transport of its own ([`crate::keystone::base_url`]) instead of
    /// from the controller's login. The credentials in `settings` are not used.
    pub fn with_keystone(transport: T, settings: Settings, keystone: T, identity: Identity) -> Self {
        let login = Login::Keystone { transport: keystone, identity };
        Self::build(transport, settings.dialect, settings.session_file, login)
    }

    fn build(transport: T, dialect: Option<Dialect>, session_file: Option<SessionFile>, login: Login<T>) -> Self {
        let mut session = session_file.as_ref().map(SessionFile::load).unwrap_or_default();
        session.dialect = dialect.or(session.dialect);
        let session = RefCell::new(session);
        let shared = Shared { transport, login, session, session_file, gate: Mutex::new(()) };
        Self { shared: Rc::new(shared), deadline: None }
    }

    /// The same client, whose operations end at `deadline` at the latest.
    pub fn until(&self, deadline: Instant) -> Self {
        Self { shared: Rc::clone(&self.shared), deadline: Some(deadline) }
    }

    /// What the controller speaks.
    pub async fn dialect(&self) -> Result<Dialect, ClientError> {
        if let Some(dialect) = self.known().dialect {
            return Ok(dialect);
        }
        let attempt = Attempt::new("read", Resource::Application.to_string());
        let response = self.call(attempt.clone(), Resource::Application, request::root()).await?;
        let dialect = answer::dialect(&attempt, &response)?;
        self.remember(|session| session.dialect = Some(dialect));
        Ok(dialect)
    }

    /// Reads one object; none when it is not there, by the API's own word ([`crate::settle`]).
    pub async fn get<O: Object>(&self, id: Uuid) -> Result<Option<O>, ClientError> {
        let request = request::get(self.dialect().await?, O::RESOURCE, id);
        let attempt = Attempt::new("read", named(O::RESOURCE, Some(id)));
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::object_of(&attempt, &response, id).map(Some),
            Err(error) => self.decide(O::RESOURCE, id, error).await.map(|()| None),
        }
    }

    /// Reads what this object should be, also where it has no id of its own; none when it is not there.
    pub async fn look<O: Object>(&self, object: &O) -> Result<Option<O>, ClientError> {
        if let Some(id) = object.id() {
            return self.get(id).await;
        }
        let attempt = Attempt::new("read", named(O::RESOURCE, None));
        let request = request::look(self.dialect().await?, object).map_err(|error| incomplete(&attempt, &error))?;
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::object(&attempt, &response).map(Some),
            Err(error) if error.class == ErrorClass::Absent => Ok(None),
            Err(error) if error.class == ErrorClass::Vague && !Box::pin(self.is_listed(object)).await? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a list.
    pub async fn list<O: Object>(&self, scope: &Scope) -> Result<Vec<O>, ClientError> {
        let request = request::list(self.dialect().await?, O::RESOURCE, scope);
        let attempt = Attempt::new("list", scope_name(O::RESOURCE, scope));
        let parent = match scope {
            Scope::Of(_, id) => Some(*id),
            Scope::All | Scope::Tenant(_) | Scope::PeersOf(..) => None,
        };
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::list(&attempt, &response, parent),
            Err(error) => Err(self.with_parent(scope, error).await?),
        }
    }

    /// A list may be missing because what it belongs to is: that is asked for, where the refusal does not say.
    async fn with_parent(&self, scope: &Scope, error: ClientError) -> Result<ClientError, ClientError> {
        let (Scope::Of(parent, id) | Scope::PeersOf(parent, id)) = *scope else { return Ok(error) };
        if error.class == ErrorClass::Vague && !Box::pin(self.is_there(parent, id)).await? {
            return Ok(ClientError { class: ErrorClass::Absent, ..error });
        }
        Ok(error)
    }

    /// Reads the state of the controller.
    pub async fn system_state(&self) -> Result<SystemState, ClientError> {
        let request = request::system_state(self.dialect().await?);
        let attempt = Attempt::new("read", Resource::SystemState.to_string());
        let response = self.call(attempt.clone(), Resource::SystemState, request).await?;
        answer::object(&attempt, &response)
    }

    /// Creates an object, once: one that is there already is an error. See [`crate::ensure`] for the other way. Returns
    /// its id, which on 1.9 is the server's for a route.
    pub async fn create<O: Object>(&self, object: &O) -> Result<Option<Uuid>, ClientError> {
        let dialect = self.dialect().await?;
        let attempt = Attempt::new("create", named(O::RESOURCE, object.id()));
        let request = request::create(dialect, object).map_err(|error| incomplete(&attempt, &error))?;
        // Repeating a creation whose answer was lost shows as "already there"; where the server chooses the id it would
        // make a second one.
        let operation = Operation { attempt, repeatable: !dialect.chooses_id(O::RESOURCE) };
        let response = self.perform(operation, O::RESOURCE, request).await?;
        Ok(answer::created_id(&response, object.id()))
    }

    /// Replaces an object by the whole of `object`. Chains, rules and routes cannot be replaced.
    pub async fn update<O: Object>(&self, object: &O) -> Result<(), ClientError> {
        let attempt = Attempt::new("update", named(O::RESOURCE, object.id()));
        let request = request::update(self.dialect().await?, object).map_err(|error| incomplete(&attempt, &error))?;
        self.call(attempt, O::RESOURCE, request).await.map(drop)
    }

    /// Deletes an object; one that is not there counts as deleted. See [`crate::settle`].
    pub async fn delete(&self, resource: Resource, id: Uuid) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", named(resource, Some(id)));
        let look = || -> Look<'_> { Box::pin(self.is_there(resource, id)) };
        self.gone(attempt, resource, request::delete(resource, id), look).await
    }

    /// Deletes this object, also where it has no id of its own; one that is not there counts as deleted.
    pub async fn remove<O: Object>(&self, object: &O) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", named(O::RESOURCE, object.id()));
        let request = request::remove(object).map_err(|error| incomplete(&attempt, &error))?;
        let look = || -> Look<'_> { Box::pin(self.is_listed(object)) };
        self.gone(attempt, O::RESOURCE, request, look).await
    }

    /// Takes a port's link away, at both ends; one that is not there counts as taken away.
    pub async fn unlink(&self, port: Uuid) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", format!("{} of port {port}", Resource::PortLink));
        let look = || -> Look<'_> { Box::pin(self.port_is(port, |port| port.peer_id.is_some())) };
        self.gone(attempt, Resource::PortLink, request::unlink(port), look).await
    }

    /// Takes a binding away, whatever the port is bound to on a 5.x server: see [`Client::unbind`].
    pub(crate) async fn unbind_unchecked(&self, host: Uuid, port: Uuid) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", format!("{} of port {port}", Resource::HostInterfacePort));
        let look = || -> Look<'_> { Box::pin(self.port_is(port, move |port| port.host_id == Some(host))) };
        self.gone(attempt, Resource::HostInterfacePort, request::unbind(host, port), look).await
    }
}

/// `port 6f…`
pub(crate) fn named(resource: Resource, id: Option<Uuid>) -> String {
    id.map_or_else(|| resource.to_string(), |id| format!("{resource} {id}"))
}

fn scope_name(resource: Resource, scope: &Scope) -> String {
    match scope {
        Scope::All => format!("every {resource}"),
        Scope::Tenant(tenant) => format!("every {resource} of tenant {tenant:?}"),
        Scope::Of(parent, id) => format!("every {resource} of {parent} {id}"),
        Scope::PeersOf(device, id) => format!("every peer of {device} {id}"),
    }
}

pub(crate) fn incomplete(attempt: &Attempt, error: &Incomplete) -> ClientError {
    attempt.failed(ErrorClass::Invalid, error.to_string())
}
