//! What can go wrong between us and the controller, as far as a caller can act on it.
//!
//! Promises: the error names the operation, the object and what the server said about which field. It never holds a
//! token or a password: they are taken out of whatever a server echoes.

use std::fmt;
use std::time::Duration;

use atoll_model::error::{Class, Classify};

use crate::transport::TransportError;
use crate::wire::Violation;

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The object, its parent, or one it refers to is not there: the API says so and names it.
    Absent,
    /// A 404 in the form of the API that does not say what is missing. It may be about the path: a second look decides,
    /// see [`crate::settle`].
    Vague,
    /// Somebody else than the API answered: a gateway, a proxy's page, a server at a wrong path. Nothing follows from it.
    NotApi,
    /// An object of this id is there already. Whether it is as wanted, only a look can tell: see [`crate::ensure`].
    SameExists,
    /// Something else stands in the way: the interface or the port is taken, or another object refers to this one.
    OtherExists,
    /// The server refuses the request as invalid; the violations name the fields.
    Invalid,
    /// Our credentials are wrong, or do not allow it.
    Denied,
    /// The server is busy, lost a race, is read-only for now, or has had enough of our requests. A gateway says the same of
    /// a server that is not there.
    Busy,
    /// There was no answer. Unless the request was not sent at all, it may have taken effect.
    Unreachable,
    /// The answer makes no sense.
    Broken,
    /// Our own settings are wrong: a URL, a certificate, a password file. No server was asked.
    Settings,
}

/// The controller did not do what it was asked, or its answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ClientError {
    /// What was tried: `create`, `read`, `list`, `delete`, `log in`.
    pub operation: &'static str,
    /// With which object: `port 6f…`.
    pub object: String,
    /// Of which kind the failure is.
    pub class: ErrorClass,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What the server said, or why there is nothing to tell.
    pub message: String,
    /// What the server says about single fields.
    pub violations: Vec<Violation>,
    /// How long the server asks to wait before the next attempt (RFC 9110, section 10.2.3).
    pub retry_after: Option<Duration>,
}

impl ClientError {
    /// The request may have been carried out all the same, or may be yet: whoever must know looks.
    pub fn is_uncertain(&self) -> bool {
        use ErrorClass::{Busy, NotApi, Unreachable, Vague};
        matches!(self.class, Unreachable | Busy | NotApi | Vague)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.operation, self.object)?;
        if let Some(status) = self.status {
            write!(f, "status {status}: ")?;
        }
        f.write_str(&self.message)?;
        for violation in &self.violations {
            let property = violation.property.as_deref().filter(|p| !p.is_empty()).unwrap_or("the object");
            write!(f, "; {property}: {}", violation.message.as_deref().unwrap_or("refused"))?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, "; it asks to wait {} s", wait.as_secs())?;
        }
        Ok(())
    }
}

impl Classify for ClientError {
    fn class(&self) -> Class {
        match self.class {
            ErrorClass::Absent | ErrorClass::SameExists | ErrorClass::OtherExists | ErrorClass::Invalid => {
                Class::Rejected
            }
            ErrorClass::Denied => Class::Denied,
            ErrorClass::Busy | ErrorClass::Unreachable | ErrorClass::Vague | ErrorClass::NotApi => Class::Unavailable,
            ErrorClass::Broken => Class::Bug,
            ErrorClass::Settings => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self.class {
            ErrorClass::Denied if self.status.is_none() => {
                "give this node a certificate that the controller takes (`controller.cert`; `atollctl doctor`, check `certificate`)"
            }
            ErrorClass::Denied => "check the controller's user name, project and password file",
            ErrorClass::Busy => "try again; if it stays so, look whether the controller is read-only",
            ErrorClass::Unreachable => "check that the controller runs and is reachable from this node",
            ErrorClass::Vague | ErrorClass::NotApi => {
                "check host, port and path in `controller.endpoints`, and what stands between this node and the API: a gateway, a proxy, a login page"
            }
            ErrorClass::Broken => "check that the address is that of the REST API, and which version it has",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What is being done with which object; makes the errors about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `create`, `read`, `list`, `delete`, `log in`.
    pub operation: &'static str,
    /// `port 6f…`.
    pub object: String,
}

impl Attempt {
    /// Names it.
    pub fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self { operation, object: object.into() }
    }

    /// A failure that no server told us about.
    pub fn failed(&self, class: ErrorClass, message: impl Into<String>) -> ClientError {
        ClientError {
            operation: self.operation,
            object: self.object.clone(),
            class,
            status: None,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// No answer came.
    pub fn unanswered(&self, error: &TransportError) -> ClientError {
        let class = match error {
            TransportError::NotSent { .. } | TransportError::NoAnswer { .. } => ErrorClass::Unreachable,
            TransportError::Denied { .. } => ErrorClass::Denied,
            TransportError::Unusable { .. } => ErrorClass::Broken,
            TransportError::Settings(_) => ErrorClass::Settings,
        };
        self.failed(class, error.to_string())
    }
}
