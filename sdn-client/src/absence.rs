//! Whether an object is really absent.
//!
//! An object is absent only if the API itself reports it: by a 404 that names the object, or by a list without it. A gateway between
//! client and API can write a 404 of its own; if that counted, the address of a port that still exists would be released.
//!
//! | first answer to a deletion | second request |
//! |---|---|
//! | 204; a 404 that names what is missing | none |
//! | another 2xx, a 404 that names nothing, an answer that is not the API's | reads the object |
//!
//! | first answer to a read | second request |
//! |---|---|
//! | a 404 that names what is missing | none |
//! | a 404 in the API's form that names nothing | the list that would hold the object |
//! | an answer that is not the API's | none: it remains an error |

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::answer;
use crate::api::{ApiObject, Incomplete};
use crate::client::Client;
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::request::{self, Scope};
use crate::resource::Resource;
use crate::transport::{ApiRequest, Transport};

/// The second request: whether the object still exists. On the heap, because it is rare and would make every future that
/// deletes larger.
pub(crate) type Recheck<'a> = Pin<Box<dyn Future<Output = Result<bool, ClientError>> + Send + 'a>>;

/// The id of an object of any resource.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Identified {
    id: Option<Uuid>,
}

impl ApiObject for Identified {
    // Never used: the callers of `ids` and `exists` name the resource.
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
    /// Sends a deletion. It is done when the API says so, or when `recheck` finds that the object does not exist.
    pub(crate) async fn delete_confirmed<'a>(
        &'a self,
        attempt: AttemptedOperation,
        resource: Resource,
        request: ApiRequest,
        recheck: impl FnOnce() -> Recheck<'a>,
    ) -> Result<(), ClientError> {
        let doubt = match self.call(attempt.clone(), resource, request).await {
            Ok(response) if response.status == 204 => return Ok(()),
            Ok(response) => answer::unusable(&attempt, &response, "the API answers a deletion with 204"),
            Err(error) => match error.class {
                ErrorClass::Absent => return Ok(()),
                ErrorClass::Vague | ErrorClass::NotApi => error,
                _ => return Err(error),
            },
        };
        tracing::debug!(%doubt, "the answer to a deletion is not conclusive; the object is read");
        match recheck().await {
            Ok(false) => Ok(()),
            Ok(true) => Err(doubt),
            // The first answer is reported, unless the second one says more.
            Err(error) if matches!(error.class, ErrorClass::Vague | ErrorClass::NotApi) => Err(doubt),
            Err(error) => Err(error),
        }
    }

    /// Whether the object of this id exists.
    pub(crate) async fn exists(&self, resource: Resource, id: Uuid) -> Result<bool, ClientError> {
        let attempt = AttemptedOperation::new("read", resource.with_id(Some(id)));
        let request = request::get(self.dialect().await?, resource, id);
        match self.call(attempt.clone(), resource, request).await {
            Ok(response) => answer::object_of::<Identified>(&attempt, &response, id).map(|_| true),
            Err(error) => self.decide_absence(resource, id, error).await.map(|()| false),
        }
    }

    /// Decides what a failed read means: `Ok` when the object does not exist, otherwise its error.
    pub(crate) async fn decide_absence(
        &self,
        resource: Resource,
        id: Uuid,
        error: ClientError,
    ) -> Result<(), ClientError> {
        match error.class {
            ErrorClass::Absent => Ok(()),
            // An object in the list exists, even if the first answer was 404; the first answer is reported then.
            ErrorClass::Vague if resource.has_list() && !Box::pin(self.ids(resource)).await?.contains(&id) => Ok(()),
            _ => Err(error),
        }
    }

    async fn ids(&self, resource: Resource) -> Result<Vec<Uuid>, ClientError> {
        let attempt = AttemptedOperation::new("list", format!("every {resource}"));
        let request = request::list(self.dialect().await?, resource, &Scope::All);
        let response = self.call(attempt.clone(), resource, request).await?;
        let found = answer::list::<Identified>(&attempt, &response, None)?;
        Ok(found.into_iter().filter_map(|found| found.id).collect())
    }
}
