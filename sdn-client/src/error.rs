//! Errors of the client, by what a caller can do about them.
//!
//! # Guarantees
//!
//! An error names the operation, the object, and the message of the server with the field. It holds no token and no
//! password, even where the server echoed one.

use std::fmt;
use std::time::Duration;

use atoll_model::error::{Class, Classify};

use crate::api::Violation;
use crate::transport::TransportError;

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The object, its parent, or one it refers to does not exist: the API's answer names it.
    Absent,
    /// A 404 in the form of the API that does not say what is missing. It may be about the path: a second request decides,
    /// see [`crate::absence`].
    Vague,
    /// The answer is not the API's: a gateway, a proxy's page, a server at a wrong path. It shows nothing about the object.
    NotApi,
    /// An object of this id exists already. Only reading it shows whether it is as wanted: see [`crate::ensure`].
    SameExists,
    /// Another object conflicts: the interface or the port is taken, or another object refers to this one.
    OtherExists,
    /// The server refuses the request as invalid; the violations name the fields.
    Invalid,
    /// Our credentials are wrong, or do not allow it.
    Denied,
    /// The server is busy, lost a race, is read-only for now, or limits our rate. A gateway gives the same answer for a
    /// server that is down.
    Busy,
    /// There was no answer. Unless the request was not sent at all, it may have taken effect.
    Unreachable,
    /// The answer cannot be read.
    Broken,
    /// Our own settings are wrong: a URL, a certificate, a password file. No request was sent.
    Settings,
}

/// A request failed, or its answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ClientError {
    /// The operation: `create`, `read`, `list`, `delete`, `log in`.
    pub operation: &'static str,
    /// Its object: `port 6f…`.
    pub object: String,
    /// The kind of failure.
    pub class: ErrorClass,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The message of the server, or why there is no answer.
    pub message: String,
    /// The server's messages about single fields.
    pub violations: Vec<Violation>,
    /// How long the server asks to wait before the next attempt (RFC 9110, section 10.2.3).
    pub retry_after: Option<Duration>,
}

impl ClientError {
    /// Whether the request may have taken effect, or may take effect later. The caller has to read the object.
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
            ErrorClass::Busy => "try again; if it stays so, check whether the controller is read-only",
            ErrorClass::Unreachable => "check that the controller runs and is reachable from this node",
            ErrorClass::Vague | ErrorClass::NotApi => {
                "check host, port and path in `controller.endpoints`, and what is between this node and the API: a gateway, a proxy, a login page"
            }
            ErrorClass::Broken => "check that the address is that of the REST API, and which version it has",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// An operation on an object, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptedOperation {
    /// `create`, `read`, `list`, `delete`, `log in`.
    pub operation: &'static str,
    /// `port 6f…`.
    pub object: String,
}

impl AttemptedOperation {
    /// Names an operation.
    pub fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self { operation, object: object.into() }
    }

    /// A failure without an answer of the server.
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

    /// The failure of a request without an answer.
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
