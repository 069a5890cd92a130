//! The second look: is something really not there?
//!
//! An object is absent only in the API's own words: a 404 that names it, or a list of the API without it. Anybody between
//! us and the API can write another 404, and the address of a port that is not gone would be given away.
//!
//! | first answer to a deletion | second look |
//! |---|---|
//! | 204; a 404 that names what is missing | none |
//! | another 2xx, a 404 that names nothing, an answer that is not the API's | the object itself |
//!
//! | first answer to a look | second look |
//! |---|---|
//! | a 404 that names what is missing | none |
//! | a 404 in the API's form that names nothing | the list that would hold it |
//! | an answer that is not the API's | none: it stays an error |

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::answer;
use crate::client::{Client, named};
use crate::dialect::Resource;
use crate::error::{Attempt, ClientError, ErrorClass};
use crate::request::{self, Incomplete, Scope};
use crate::transport::{Request, Transport};
use crate::wire::{Object, Port};

/// On the heap: it is rare, and would make every future that deletes larger.
pub(crate) type Look<'a> = Pin<Box<dyn Future<Output = Result<bool, ClientError>> + 'a>>;

/// Of any resource with an id, what a list must show to be one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Identified {
    id: Option<Uuid>,
}

impl Object for Identified {
    // Never asked for: the caller of `ids` names the resource.
    const RESOURCE: Resource = Resource::Application;
    const HAS_ID: bool = true;

    fn id(&self) -> Option<Uuid> {
        self.id
    }

    fn parent(&self) -> Result<Option<(Resource, Uuid)>, Incomplete> {
        Ok(None)
    }
}

impl<T: Transport> Client<T> {
    /// Sends a deletion. Done means: the API says so, or `look` finds that the thing is not there.
    pub(crate) async fn gone<'a>(
        &'a self,
        attempt: Attempt,
        resource: Resource,
        request: Request,
        look: impl FnOnce() -> Look<'a>,
    ) -> Result<(), ClientError> {
        let doubt = match self.call(attempt.clone(), resource, request).await {
            Ok(response) if response.status == 204 => return Ok(()),
            Ok(response) => answer::not_api(&attempt, &response, "the API answers a deletion with 204"),
            Err(error) => match error.class {
                ErrorClass::Absent => return Ok(()),
                ErrorClass::Vague | ErrorClass::NotApi => error,
                _ => return Err(error),
            },
        };
        tracing::debug!(%doubt, "is it gone?");
        match look().await {
            Ok(false) => Ok(()),
            Ok(true) => Err(doubt),
            // The first answer is the one to be told of, unless the second says more.
            Err(error) if matches!(error.class, ErrorClass::Vague | ErrorClass::NotApi) => Err(doubt),
            Err(error) => Err(error),
        }
    }

    /// Whether the object of this id is there.
    pub(crate) async fn is_there(&self, resource: Resource, id: Uuid) -> Result<bool, ClientError> {
        let attempt = Attempt::new("read", named(resource, Some(id)));
        let request = request::get(self.dialect().await?, resource, id);
        match self.call(attempt.clone(), resource, request).await {
            Ok(response) => answer::object_of::<Identified>(&attempt, &response, id).map(|_| true),
            Err(error) => self.decide(resource, id, error).await.map(|()| false),
        }
    }

    /// What follows from a look that failed: the object is not there, or its error.
    pub(crate) async fn decide(&self, resource: Resource, id: Uuid, error: ClientError) -> Result<(), ClientError> {
        match error.class {
            ErrorClass::Absent => Ok(()),
            // What a list shows is there, whatever the first answer said: that one stays the answer.
            ErrorClass::Vague if resource.has_list() && !Box::pin(self.ids(resource)).await?.contains(&id) => Ok(()),
            _ => Err(error),
        }
    }

    async fn ids(&self, resource: Resource) -> Result<Vec<Uuid>, ClientError> {
        let attempt = Attempt::new("list", format!("every {resource}"));
        let request = request::list(self.dialect().await?, resource, &Scope::All);
        let response = self.call(attempt.clone(), resource, request).await?;
        let found = answer::list::<Identified>(&attempt, &response, None)?;
        Ok(found.into_iter().filter_map(|found| found.id).collect())
    }

    /// Whether this object is there, also where it has no id of its own: then the list of what it belongs to tells.
    pub(crate) async fn is_listed<O: Object>(&self, object: &O) -> Result<bool, ClientError> {
        if let Some(id) = object.id() {
            return self.is_there(O::RESOURCE, id).await;
        }
        let attempt = Attempt::new("read", O::RESOURCE.to_string());
        let parent = object.parent().map_err(|error| crate::client::incomplete(&attempt, &error))?;
        let (Some((parent, id)), Some(key)) = (parent, object.key()) else {
            return Err(attempt.failed(ErrorClass::Vague, "it cannot be looked for in a list"));
        };
        match self.list::<O>(&Scope::Of(parent, id)).await {
            Ok(list) => Ok(list.iter().any(|found| found.key().as_ref() == Some(&key))),
            Err(error) if error.class == ErrorClass::Absent => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a port is there and `is_so`.
    pub(crate) async fn port_is(&self, port: Uuid, is_so: impl FnOnce(&Port) -> bool) -> Result<bool, ClientError> {
        Ok(self.get::<Port>(port).await?.as_ref().is_some_and(is_so))
    }
}
