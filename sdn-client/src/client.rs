//! The client: operations on resources, over any [`Transport`].
//!
//! Promises: one login at a time, renewed once when a token is refused; retries only where a repetition does no harm
//! ([`crate::retry`]) and never past the deadline; no token or password in any error, whatever the server echoes.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use atoll_model::secret::Secret;

use crate::answer;
use crate::credentials::Credentials;
use crate::dialect::{Dialect, Resource};
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::request::{self, Incomplete, Scope};
use crate::retry::{self, Outcome};
use crate::session::{Session, SessionFile};
use crate::transport::{Request, Response, Transport, TransportError};
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
    shared: Rc<Shared<T>>,
    deadline: Option<Instant>,
}

impl<T> Clone for Client<T> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), deadline: self.deadline }
    }
}

struct Shared<T> {
    transport: T,
    settings: Settings,
    session: RefCell<Session>,
    /// Held while somebody logs in or reads the root document; the others wait for the result.
    gate: Mutex<()>,
}

/// Where a token came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewed {
    /// Another process or task had got it already. It may be refused as well.
    Found,
    /// From the controller, just now.
    Fresh,
}

/// One operation on the way: what it is, and whether repeating it does harm.
struct Operation {
    attempt: Attempt,
    repeatable: bool,
}

impl<T: Transport> Client<T> {
    /// A client over `transport`. Sends nothing yet.
    pub fn new(transport: T, settings: Settings) -> Self {
        let mut session = settings.session_file.as_ref().map(SessionFile::load).unwrap_or_default();
        if settings.dialect.is_some() {
            session.dialect = settings.dialect;
        }
        let shared = Shared { transport, settings, session: RefCell::new(session), gate: Mutex::new(()) };
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

    /// Reads one object; none when it is not there.
    pub async fn get<O: Object>(&self, id: Uuid) -> Result<Option<O>, ClientError> {
        let request = request::get(self.dialect().await?, O::RESOURCE, id);
        let attempt = Attempt::new("read", named(O::RESOURCE, Some(id)));
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::object(&attempt, &response).map(Some),
            Err(error) if error.class == ErrorClass::Absent => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a list.
    pub async fn list<O: Object>(&self, scope: &Scope) -> Result<Vec<O>, ClientError> {
        let request = request::list(self.dialect().await?, O::RESOURCE, scope);
        let attempt = Attempt::new("list", scope_name(O::RESOURCE, scope));
        let response = self.call(attempt.clone(), O::RESOURCE, request).await?;
        answer::list(&attempt, &response)
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

    /// Deletes an object; one that is not there counts as deleted.
    pub async fn delete(&self, resource: Resource, id: Uuid) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", named(resource, Some(id)));
        self.gone(attempt, resource, request::delete(resource, id)).await
    }

    /// Takes a port's link away, at both ends; one that is not there counts as taken away.
    pub async fn unlink(&self, port: Uuid) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", format!("{} of port {port}", Resource::PortLink));
        self.gone(attempt, Resource::PortLink, request::unlink(port)).await
    }

    /// Takes a binding away, whatever the port is bound to on a 5.x server: see [`Client::unbind`].
    pub(crate) async fn unbind_unchecked(&self, host: Uuid, port: Uuid) -> Result<(), ClientError> {
        let attempt = Attempt::new("delete", format!("{} of port {port}", Resource::HostInterfacePort));
        self.gone(attempt, Resource::HostInterfacePort, request::unbind(host, port)).await
    }

    async fn gone(&self, attempt: Attempt, resource: Resource, request: Request) -> Result<(), ClientError> {
        match self.call(attempt, resource, request).await {
            Ok(_) => Ok(()),
            Err(error) if error.class == ErrorClass::Absent => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a request that may be repeated.
    pub(crate) async fn call(
        &self,
        attempt: Attempt,
        resource: Resource,
        request: Request,
    ) -> Result<Response, ClientError> {
        self.perform(Operation { attempt, repeatable: true }, resource, request).await
    }

    /// Sends a request with its token until there is an answer, a reason to give up, or the deadline.
    async fn perform(
        &self,
        operation: Operation,
        resource: Resource,
        request: Request,
    ) -> Result<Response, ClientError> {
        let mut renewed = None;
        let mut done = 0;
        loop {
            let token = self.token().await?;
            let sent = self.send(request.clone(), token.as_ref()).await;
            if let (Ok(response), Some(token)) = (&sent, &token)
                && response.status == 401
                && renewed != Some(Renewed::Fresh)
            {
                renewed = Some(self.renew(token).await?);
                continue;
            }
            done += 1;
            let (outcome, failure) = match sent {
                Ok(response) if answer::succeeded(&response) => return Ok(response),
                Ok(response) => {
                    let refusal = answer::refusal(&operation.attempt, self.known().dialect, resource, &response);
                    let refusal = self.without_secrets(refusal);
                    match refusal.class {
                        ErrorClass::Busy => (Outcome::Busy, refusal),
                        ErrorClass::Unreachable => (Outcome::Unknown, refusal),
                        _ => return Err(refusal),
                    }
                }
                Err(error) => {
                    let failure = operation.attempt.unanswered(&error);
                    match error {
                        TransportError::NotSent { .. } => (Outcome::NotSent, failure),
                        TransportError::NoAnswer { .. } => (Outcome::Unknown, failure),
                        TransportError::Unusable { .. } | TransportError::Settings(_) => return Err(failure),
                    }
                }
            };
            match retry::pause(outcome, operation.repeatable, done).map(|pause| Instant::now() + retry::jitter(pause)) {
                Some(again) if self.deadline.is_none_or(|deadline| again < deadline) => sleep_until(again).await,
                _ => return Err(failure),
            }
        }
    }

    /// One exchange, cut off at the deadline.
    async fn send(&self, mut request: Request, token: Option<&Secret>) -> Result<Response, TransportError> {
        if let Some(token) = token {
            request::authorize(&mut request, token);
        }
        self.in_time(self.shared.transport.send(request)).await
    }

    async fn in_time(
        &self,
        exchange: impl Future<Output = Result<Response, TransportError>>,
    ) -> Result<Response, TransportError> {
        let Some(deadline) = self.deadline else { return exchange.await };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let (endpoint, reason) = ("any".to_owned(), "the deadline of the whole call passed".to_owned());
            Err(TransportError::NoAnswer { endpoint, reason })
        })
    }

    /// The token to send; none when there is no login.
    async fn token(&self) -> Result<Option<Secret>, ClientError> {
        let Some(credentials) = &self.shared.settings.credentials else { return Ok(None) };
        if let Some(token) = self.known().token {
            return Ok(Some(token));
        }
        let _one_at_a_time = self.shared.gate.lock().await;
        match self.known().token {
            Some(token) => Ok(Some(token)),
            None => self.login(credentials).await.map(Some),
        }
    }

    /// Replaces a token that was refused.
    async fn renew(&self, refused: &Secret) -> Result<Renewed, ClientError> {
        let Some(credentials) = &self.shared.settings.credentials else { return Ok(Renewed::Fresh) };
        let _one_at_a_time = self.shared.gate.lock().await;
        let other = |token: Option<Secret>| token.filter(|token| token != refused);
        if other(self.known().token).is_some() {
            return Ok(Renewed::Found);
        }
        if let Some(token) = other(self.shared.settings.session_file.as_ref().and_then(|file| file.load().token)) {
            self.shared.session.borrow_mut().token = Some(token);
            return Ok(Renewed::Found);
        }
        self.login(credentials).await.map(|_| Renewed::Fresh)
    }

    /// MidoNet REST API, section "Login". Called with the gate held.
    async fn login(&self, credentials: &Credentials) -> Result<Secret, ClientError> {
        let attempt = Attempt::new("log in", format!("user {:?}", credentials.username));
        let password =
            credentials.password().map_err(|error| attempt.failed(ErrorClass::Settings, error.to_string()))?;
        let mut done = 0;
        loop {
            let request = request::login(&credentials.username, &password, &credentials.project);
            done += 1;
            let failure = match self.in_time(self.shared.transport.send(request)).await {
                Ok(response) if answer::succeeded(&response) => {
                    let token = answer::token(&attempt, &response)?;
                    self.remember(|session| session.token = Some(token.clone()));
                    return Ok(token);
                }
                Ok(response) => {
                    let mut refusal = answer::refusal(&attempt, None, Resource::Token, &response);
                    refusal.message = redact(&refusal.message, &[password.reveal()]);
                    if !matches!(refusal.class, ErrorClass::Busy | ErrorClass::Unreachable) {
                        return Err(refusal);
                    }
                    refusal
                }
                Err(error) => attempt.unanswered(&error),
            };
            let retryable = matches!(failure.class, ErrorClass::Busy | ErrorClass::Unreachable);
            let pause = retry::pause(Outcome::Busy, true, done).filter(|_| retryable);
            match pause.map(|pause| Instant::now() + retry::jitter(pause)) {
                Some(again) if self.deadline.is_none_or(|deadline| again < deadline) => sleep_until(again).await,
                _ => return Err(failure),
            }
        }
    }

    fn known(&self) -> Session {
        self.shared.session.borrow().clone()
    }

    fn remember(&self, change: impl FnOnce(&mut Session)) {
        let mut session = self.shared.session.borrow_mut();
        change(&mut session);
        if let Some(file) = &self.shared.settings.session_file {
            file.store(&session);
        }
    }

    /// A server may echo what it was sent.
    fn without_secrets(&self, mut error: ClientError) -> ClientError {
        if let Some(token) = self.known().token {
            error.message = redact(&error.message, &[token.reveal()]);
            for message in error.violations.iter_mut().filter_map(|v| v.message.as_mut()) {
                *message = redact(message, &[token.reveal()]);
            }
        }
        error
    }
}

fn redact(text: &str, secrets: &[&str]) -> String {
    secrets.iter().filter(|s| !s.is_empty()).fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
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
