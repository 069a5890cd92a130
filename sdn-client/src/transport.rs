//! The seam to the controller: one request, one answer, as values.

use std::fmt;
use std::future::Future;
use std::rc::Rc;

use atoll_model::error::{Class, Classify};
use bytes::Bytes;
use http::{HeaderMap, Method};

/// A request below the base URL of the controller. `Debug` shows no body: that of a login holds a password.
#[derive(Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path below the base URL, with its query: `/routers/<id>/ports`.
    pub path: String,
    /// Headers. The token goes here too, marked sensitive, so that it is not printed.
    pub headers: HeaderMap,
    /// Body; empty means none.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, headers, body } = self;
        f.debug_struct("Request")
            .field("method", method)
            .field("path", path)
            .field("headers", headers)
            .field("body_length", &body.len())
            .finish()
    }
}

/// An answer, whatever its status. `Debug` shows neither body nor headers: those to a login hold a token.
#[derive(Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, complete.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request did not leave: nothing happened, another endpoint may be tried.
    #[error("the controller is not reachable ({endpoint}): {reason}")]
    NotSent {
        /// Where it was to go.
        endpoint: String,
        /// Why it did not.
        reason: String,
    },
    /// The request left and no complete answer came: it may or may not have happened.
    #[error("the controller did not answer ({endpoint}): {reason}")]
    NoAnswer {
        /// Where it went.
        endpoint: String,
        /// What happened instead of an answer.
        reason: String,
    },
    /// The server does not take our certificate: the request was not read, and another endpoint would say the same.
    #[error("the controller does not take this node's certificate ({endpoint}): {reason}")]
    Denied {
        /// Where the request was to go.
        endpoint: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// An answer came and cannot be taken, for instance because it never ends. Asking again would bring it again.
    #[error("the controller's answer cannot be used ({endpoint}): {reason}")]
    Unusable {
        /// Who gave it.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings are wrong: a URL, a certificate file.
    #[error("controller settings: {0}")]
    Settings(String),
}

impl Classify for TransportError {
    fn class(&self) -> Class {
        match self {
            Self::NotSent { .. } | Self::NoAnswer { .. } => Class::Unavailable,
            Self::Denied { .. } => Class::Denied,
            Self::Unusable { .. } => Class::Bug,
            Self::Settings(_) => Class::Config,
        }
    }
}

/// Sends one request and brings its answer. No retries, no login: those are the client's.
pub trait Transport {
    /// Sends `request`.
    fn send(&self, request: Request) -> impl Future<Output = Result<Response, TransportError>>;

    /// How many endpoints there are to ask in turn.
    fn endpoints(&self) -> usize {
        1
    }
}

impl<T: Transport> Transport for Rc<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        (**self).send(request).await
    }

    fn endpoints(&self) -> usize {
        (**self).endpoints()
    }
}
