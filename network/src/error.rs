//! How an engine fails, by class, with the remedy.

use atoll_model::error::{Class, Classify};

/// The kind of failure, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineFailure {
    /// The object, or one that it refers to, does not exist.
    Absent,
    /// An object of that id or name exists and is not ours, or differs and cannot be updated.
    Conflict,
    /// The engine refuses the request as invalid.
    Invalid,
    /// The engine lacks a feature that the request needs.
    Unsupported,
    /// Our credentials do not allow it.
    Denied,
    /// The node was fenced since the claim was made: the request has an older writer epoch.
    Overtaken,
    /// The engine is busy, or read-only for now.
    Busy,
    /// No answer.
    Unreachable,
    /// The answer is not the engine's: a gateway, a proxy's page, a server at a wrong path. It says nothing about the object.
    NotEngine,
    /// The answer cannot be read.
    Broken,
    /// The settings are wrong.
    Settings,
}

/// A request to an engine failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{server}: {object}: {message}")]
pub struct EngineError {
    /// The server that was asked, as users know it, for instance `controller`.
    pub server: &'static str,
    /// The operation and its object, for instance `create port 6f…`.
    pub object: String,
    /// The kind of failure.
    pub failure: EngineFailure,
    /// What the server answered, or what happened instead of an answer.
    pub message: String,
    /// What the operator can do, as one imperative sentence.
    pub remedy: Option<String>,
}

impl Classify for EngineError {
    fn class(&self) -> Class {
        match self.failure {
            EngineFailure::Absent | EngineFailure::Conflict | EngineFailure::Invalid => Class::Rejected,
            EngineFailure::Unsupported => Class::Unsupported,
            EngineFailure::Denied => Class::Denied,
            EngineFailure::Overtaken | EngineFailure::Busy | EngineFailure::Unreachable | EngineFailure::NotEngine => {
                Class::Unavailable
            }
            EngineFailure::Broken => Class::Bug,
            EngineFailure::Settings => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        self.remedy.clone()
    }
}
