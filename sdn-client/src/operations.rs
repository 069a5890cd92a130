//! Operations on objects: read, list, create, update, delete.

use uuid::Uuid;

use crate::absence::Recheck;
use crate::answer;
use crate::api::{ApiObject, Incomplete, Port, SystemState};
use crate::client::Client;
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::exchange::Operation;
use crate::request::{self, Scope};
use crate::resource::Resource;
use crate::transport::Transport;

impl<T: Transport> Client<T> {
    /// Reads one object; `None` when the API reports that it does not exist ([`crate::absence`]).
    pub async fn get<O: ApiObject>(&self, id: Uuid) -> Result<Option<O>, ClientError> {
        let request = request::get(self.dialect().await?, O::RESOURCE, id);
        let attempt = AttemptedOperation::new("read", O::RESOURCE.with_id(Some(id)));
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::object_of(&attempt, &response, id).map(Some),
            Err(error) => self.decide_absence(O::RESOURCE, id, error).await.map(|()| None),
        }
    }

    /// Reads the object with the identity of `object`, also where it has no id of its own; `None` when it does not exist.
    pub async fn find<O: ApiObject>(&self, object: &O) -> Result<Option<O>, ClientError> {
        if let Some(id) = object.id() {
            return self.get(id).await;
        }
        let attempt = AttemptedOperation::new("read", O::RESOURCE.with_id(None));
        let request = request::find(self.dialect().await?, object).map_err(|error| incomplete(&attempt, &error))?;
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::object(&attempt, &response).map(Some),
            Err(error) if error.class == ErrorClass::Absent => Ok(None),
            Err(error) if error.class == ErrorClass::Vague && !Box::pin(self.is_listed(object)).await? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a list.
    pub async fn list<O: ApiObject>(&self, scope: &Scope) -> Result<Vec<O>, ClientError> {
        let request = request::list(self.dialect().await?, O::RESOURCE, scope);
        let attempt = AttemptedOperation::new("list", scope_name(O::RESOURCE, scope));
        let parent = match scope {
            Scope::Of(_, id) => Some(*id),
            Scope::All | Scope::Tenant(_) | Scope::PeersOf(..) => None,
        };
        match self.call(attempt.clone(), O::RESOURCE, request).await {
            Ok(response) => answer::list(&attempt, &response, parent),
            Err(error) => Err(self.with_parent(scope, error).await?),
        }
    }

    /// The error of a list. Where the refusal does not name the missing object, a second request determines whether it is
    /// the parent.
    async fn with_parent(&self, scope: &Scope, error: ClientError) -> Result<ClientError, ClientError> {
        let (Scope::Of(parent, id) | Scope::PeersOf(parent, id)) = *scope else { return Ok(error) };
        if error.class == ErrorClass::Vague && !Box::pin(self.exists(parent, id)).await? {
            return Ok(ClientError { class: ErrorClass::Absent, ..error });
        }
        Ok(error)
    }

    /// Reads the state of the controller.
    pub async fn system_state(&self) -> Result<SystemState, ClientError> {
        let request = request::system_state(self.dialect().await?);
        let attempt = AttemptedOperation::new("read", Resource::SystemState.to_string());
        let response = self.call(attempt.clone(), Resource::SystemState, request).await?;
        answer::object(&attempt, &response)
    }

    /// Creates an object; one that exists already is an error, unlike in [`Client::ensure`]. Returns its id, which the
    /// server chooses for a route on 1.9.
    pub async fn create<O: ApiObject>(&self, object: &O) -> Result<Option<Uuid>, ClientError> {
        let dialect = self.dialect().await?;
        let attempt = AttemptedOperation::new("create", O::RESOURCE.with_id(object.id()));
        let request = request::create(dialect, object).map_err(|error| incomplete(&attempt, &error))?;
        // A repeated creation shows as "already exists"; where the server chooses the id it would make a second object.
        let operation = Operation { attempt, is_repeatable: !O::RESOURCE.has_server_id(dialect) };
        let response = self.perform(operation, O::RESOURCE, request).await?;
        Ok(answer::created_id(&response, object.id()))
    }

    /// Replaces an object by the whole of `object`. Chains, rules and routes cannot be replaced.
    pub async fn update<O: ApiObject>(&self, object: &O) -> Result<(), ClientError> {
        let attempt = AttemptedOperation::new("update", O::RESOURCE.with_id(object.id()));
        let request = request::update(self.dialect().await?, object).map_err(|error| incomplete(&attempt, &error))?;
        self.call(attempt, O::RESOURCE, request).await.map(drop)
    }

    /// Deletes an object; one that does not exist counts as deleted ([`crate::absence`]).
    pub async fn delete(&self, resource: Resource, id: Uuid) -> Result<(), ClientError> {
        let attempt = AttemptedOperation::new("delete", resource.with_id(Some(id)));
        let recheck = || -> Recheck<'_> { Box::pin(self.exists(resource, id)) };
        self.delete_confirmed(attempt, resource, request::delete(resource, id), recheck).await
    }

    /// Deletes the object with the identity of `object`, also where it has no id of its own; one that does not exist counts
    /// as deleted.
    pub async fn remove<O: ApiObject>(&self, object: &O) -> Result<(), ClientError> {
        let attempt = AttemptedOperation::new("delete", O::RESOURCE.with_id(object.id()));
        let request = request::remove(object).map_err(|error| incomplete(&attempt, &error))?;
        let recheck = || -> Recheck<'_> { Box::pin(self.is_listed(object)) };
        self.delete_confirmed(attempt, O::RESOURCE, request, recheck).await
    }

    /// Removes a port's link, at both ends; a port without a link counts as done.
    pub async fn unlink(&self, port: Uuid) -> Result<(), ClientError> {
        let attempt = AttemptedOperation::new("delete", format!("{} of port {port}", Resource::PortLink));
        let recheck = || -> Recheck<'_> { Box::pin(self.port_is(port, |port| port.peer_id.is_some())) };
        self.delete_confirmed(attempt, Resource::PortLink, request::unlink(port), recheck).await
    }

    /// Removes a binding. A 5.x server removes it whatever host the port is bound to: see [`Client::unbind`].
    pub(crate) async fn unbind_unchecked(&self, host: Uuid, port: Uuid) -> Result<(), ClientError> {
        let attempt = AttemptedOperation::new("delete", format!("{} of port {port}", Resource::HostInterfacePort));
        let recheck = || -> Recheck<'_> { Box::pin(self.port_is(port, move |port| port.host_id == Some(host))) };
        self.delete_confirmed(attempt, Resource::HostInterfacePort, request::unbind(host, port), recheck).await
    }

    /// Whether this object exists. Where it has no id of its own, the list of its parent shows it.
    async fn is_listed<O: ApiObject>(&self, object: &O) -> Result<bool, ClientError> {
        if let Some(id) = object.id() {
            return self.exists(O::RESOURCE, id).await;
        }
        let attempt = AttemptedOperation::new("read", O::RESOURCE.to_string());
        let parent = object.parent().map_err(|error| incomplete(&attempt, &error))?;
        let (Some((parent, id)), Some(key)) = (parent, object.key()) else {
            return Err(attempt.failed(ErrorClass::Vague, "it cannot be looked for in a list"));
        };
        match self.list::<O>(&Scope::Of(parent, id)).await {
            Ok(list) => Ok(list.iter().any(|found| found.key().as_ref() == Some(&key))),
            Err(error) if error.class == ErrorClass::Absent => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a port exists and `is_so`.
    async fn port_is(&self, port: Uuid, is_so: impl FnOnce(&Port) -> bool) -> Result<bool, ClientError> {
        Ok(self.get::<Port>(port).await?.as_ref().is_some_and(is_so))
    }
}

fn scope_name(resource: Resource, scope: &Scope) -> String {
    match scope {
        Scope::All => format!("every {resource}"),
        Scope::Tenant(tenant) => format!("every {resource} of tenant {tenant:?}"),
        Scope::Of(parent, id) => format!("every {resource} of {parent} {id}"),
        Scope::PeersOf(device, id) => format!("every peer of {device} {id}"),
    }
}

fn incomplete(attempt: &AttemptedOperation, error: &Incomplete) -> ClientError {
    attempt.failed(ErrorClass::Invalid, error.to_string())
}
