//! The transport to the controller: sends one request and returns its answer.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use atoll_model::error::{Class, Classify};
use bytes::Bytes;
use http::{HeaderMap, Method};

/// A request below the base URL of the controller. `Debug` shows no body: that of a login holds a password.
#[derive(Clone)]
pub struct ApiRequest {
    /// Method.
    pub method: Method,
    /// Path below the base URL, with its query: `/routers/<id>/ports`.
    pub path: String,
    /// Headers. The token goes here too, marked sensitive, so that it is not printed.
    pub headers: HeaderMap,
    /// Body; empty means none.
    pub body: Bytes,
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, headers, body } = self;
        f.debug_struct("ApiRequest")
            .field("method", method)
            .field("path", path)
            .field("headers", headers)
            .field("body_length", &body.len())
            .finish()
    }
}

/// An answer, whatever its status. `Debug` shows neither body nor headers: those to a login hold a token.
#[derive(Clone)]
pub struct ApiResponse {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, complete.
    pub body: Bytes,
}

impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiResponse")
            .field("status", &self.status)
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why a request has no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request was not sent. It had no effect, and another endpoint may be tried.
    #[error("the controller is not reachable ({endpoint}): {reason}")]
    NotSent {
        /// The endpoint.
        endpoint: String,
        /// Why it was not sent.
        reason: String,
    },
    /// The request was sent and no complete answer came. It may have taken effect.
    #[error("the controller did not answer ({endpoint}): {reason}")]
    NoAnswer {
        /// The endpoint.
        endpoint: String,
        /// What happened instead.
        reason: String,
    },
    /// The server refuses our certificate. The request was not read, and another endpoint would refuse it as well.
    #[error("the controller refuses this node's certificate ({endpoint}): {reason}")]
    Denied {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The answer cannot be used, for instance because it never ends. A repetition would not help.
    #[error("the controller's answer cannot be used ({endpoint}): {reason}")]
    Unusable {
        /// The endpoint.
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

/// Sends one request and returns its answer. Retries and login are the client's.
pub trait Transport: Send + Sync {
    /// Sends `request`.
    fn send(&self, request: ApiRequest) -> impl Future<Output = Result<ApiResponse, TransportError>> + Send;

    /// The number of endpoints that it tries in turn.
    fn endpoints(&self) -> usize {
        1
    }
}

impl<T: Transport> Transport for Arc<T> {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, TransportError> {
        (**self).send(request).await
    }

    fn endpoints(&self) -> usize {
        (**self).endpoints()
    }
}
