//! Errors of this engine: those of the client, and those about objects that are not as they should be.

use atoll_network::{EngineError, EngineFailure};
use atoll_sdn_client::{ClientError, ErrorClass};

/// What users call the server.
const SERVER: &str = "controller";

/// A request to the controller failed, or what is there cannot be used.
#[derive(Clone, Debug)]
pub(crate) struct MidoNetError {
    /// The operation and its object.
    pub(crate) object: String,
    /// The kind of failure.
    pub(crate) failure: EngineFailure,
    /// What the controller answered.
    pub(crate) message: String,
}

impl From<ClientError> for MidoNetError {
    fn from(error: ClientError) -> Self {
        let failure = match error.class {
            ErrorClass::Absent => EngineFailure::Absent,
            ErrorClass::Vague | ErrorClass::NotApi => EngineFailure::NotEngine,
            ErrorClass::SameExists | ErrorClass::OtherExists => EngineFailure::Conflict,
            ErrorClass::Invalid => EngineFailure::Invalid,
            ErrorClass::Denied => EngineFailure::Denied,
            ErrorClass::Busy => EngineFailure::Busy,
            ErrorClass::Unreachable => EngineFailure::Unreachable,
            ErrorClass::Broken => EngineFailure::Broken,
            ErrorClass::Settings => EngineFailure::Settings,
        };
        let object = format!("{} {}", error.operation, error.object);
        let whole = error.to_string();
        let message = whole.strip_prefix(&format!("{object}: ")).unwrap_or(&whole).to_owned();
        Self { object, failure, message }
    }
}

impl From<MidoNetError> for EngineError {
    fn from(error: MidoNetError) -> Self {
        let MidoNetError { object, failure, message } = error;
        Self { server: SERVER, object, failure, message, remedy: remedy(failure).map(str::to_owned) }
    }
}

/// What the operator can do.
fn remedy(failure: EngineFailure) -> Option<&'static str> {
    match failure {
        EngineFailure::Denied => Some("check `controller.username` and the password file"),
        EngineFailure::Busy | EngineFailure::Unreachable => {
            Some("check that the controller runs and is reachable from this node")
        }
        EngineFailure::NotEngine => Some(
            "check host, port and path in `controller.endpoints`, and what is between this node and the API: a gateway, a proxy, a login page",
        ),
        EngineFailure::Conflict => Some("inspect the object in the controller; it does not belong to Atoll"),
        EngineFailure::Unsupported => Some("use prefixes of IPv4, or an engine that forwards IPv6"),
        // The last one is of engines that know writer epochs.
        EngineFailure::Absent
        | EngineFailure::Invalid
        | EngineFailure::Broken
        | EngineFailure::Settings
        | EngineFailure::Overtaken => None,
    }
}
