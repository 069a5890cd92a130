//! An error of a command: what failed, why, and what to do.
use atoll_records::ReadError;
use std::fmt;
use std::path::Path;

use atoll_ipam::IpamError;
use atoll_model::config::ConfigError;
use atoll_model::error::{Class, Classify, ExhaustedResource, causes, class_of, hint_of};
use atoll_node::files::trouble;
use atoll_sdn_client::transport::TransportError;
use atoll_store::StoreError;
use atoll_tenant::TenantError;

/// An error of a command, with its class and advice.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    exit_code: u8,
}

impl Failure {
    /// An error that has a class.
    pub(crate) fn classified(error: &impl Classify) -> Self {
        Self {
            message: error.to_string(),
            causes: causes(error),
            hint: hint_of(error),
            exit_code: match class_of(error) {
                Class::Config => 3,
                Class::Unavailable | Class::Resources => 5,
                Class::Denied | Class::Rejected | Class::Exhausted => 6,
                _ => 1,
            },
        }
    }

    /// The configuration cannot be used.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None, exit_code: 3 }
    }

    /// Refused for a reason that only this program knows.
    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: Some(hint.into()), exit_code: 6 }
    }

    /// A fault of this program or of the machine, such as exhausted memory or descriptors.
    pub(crate) fn local(what: &str, error: &impl std::error::Error) -> Self {
        let message = format!("{what}: {error}");
        match ExhaustedResource::lacking(&std::io::Error::other(message.clone())) {
            Some(resource) => Self::unavailable(message, resource.advice()),
            None => Self::other(message),
        }
    }

    /// The object does not exist.
    pub(crate) fn absent(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: Some(hint.into()), exit_code: 4 }
    }

    /// A server that the command needs does not answer.
    pub(crate) fn unavailable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: Some(hint.into()), exit_code: 5 }
    }

    /// A file or something else of this machine failed: what was tried, and the error of the system.
    pub(crate) fn file(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let message = format!("{what}: {error}");
        match (ExhaustedResource::lacking(error), trouble::advice(error)) {
            (Some(resource), _) => Self::unavailable(message, resource.advice()),
            (None, advice) => Self { hint: advice.map(str::to_owned), ..Self::other(message) },
        }
    }

    /// A file that the command line or the configuration names cannot be read.
    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self { exit_code: 3, ..Self::file(path.display(), error) }
    }

    /// Adds a fact to the advice.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.hint = Some(self.hint.map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}")));
        self
    }

    /// Anything else.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None, exit_code: 1 }
    }

    /// What failed and why, on one line.
    pub(crate) fn message(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        self.hint.clone()
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            writeln!(f, "  because: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  try: {hint}")?;
        }
        Ok(())
    }
}

impl From<TenantError> for Failure {
    fn from(error: TenantError) -> Self {
        let failure = Self::classified(&error);
        match error {
            TenantError::Unknown { .. } | TenantError::NoNode { .. } => Self { exit_code: 4, ..failure },
            _ => failure,
        }
    }
}

impl From<IpamError> for Failure {
    fn from(error: IpamError) -> Self {
        let failure = Self::classified(&error);
        match error {
            IpamError::NoTenant { .. } => Self { exit_code: 4, ..failure },
            // For a pod the address may become free later; for a command it is a conflict.
            IpamError::Taken { .. } | IpamError::MacTaken { .. } => Self { exit_code: 6, ..failure },
            _ => failure,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::classified(&error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::classified(&error)
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::classified(&error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::classified(&error)
    }
}
