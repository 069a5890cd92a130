//! What kind of failure an error is. Every error type of the workspace has a [`Class`]; the class, and nothing else,
//! decides the CNI error code, whether a retry makes sense and what `doctor` says about it.

use std::error::Error;

/// The kinds of failure, by what the caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The runtime speaks a CNI version that we do not.
    Version,
    /// A field has a value that we do not support; the message names both.
    Unsupported,
    /// The container is unknown: nothing was done, no DEL is owed.
    NoContainer,
    /// An environment variable is missing or malformed; the message names it.
    Environment,
    /// Reading standard input or writing standard output failed.
    Io,
    /// The input is not JSON, or not of the expected shape.
    Decode,
    /// The configuration is wrong; the message names the key.
    Config,
    /// The network namespace is not one we may touch.
    Netns,
    /// Something we need did not answer in time or is busy; the same request may work later.
    Unavailable,
    /// No ADD can work on this node now: what STATUS says.
    NotReady,
    /// No ADD can work on this node now, and pods that run may be cut off: what STATUS says.
    Limited,
    /// No free address, subnet or transit link; the message has the figures.
    Exhausted,
    /// The caller may not do this: a foreign tenant, wrong credentials.
    Denied,
    /// The other side refused the request as invalid.
    Rejected,
    /// The kernel refused an operation.
    Kernel,
    /// What is there differs from what should be there.
    Drift,
    /// A defect of ours, or a damaged record.
    Bug,
}

impl Class {
    /// The CNI error code of this class: CNI SPEC 1.1.0 "Error", with our own codes from 100 up. 8 is the code
    /// that the reference implementation uses for an invalid network namespace.
    pub const fn cni_code(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Unsupported => 2,
            Self::NoContainer => 3,
            Self::Environment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::Config => 7,
            Self::Netns => 8,
            Self::Unavailable => 11,
            Self::NotReady => 50,
            Self::Limited => 51,
            Self::Exhausted => 100,
            Self::Denied => 101,
            Self::Rejected => 102,
            Self::Kernel => 103,
            Self::Drift => 104,
            Self::Bug => 199,
        }
    }
}

/// An error that knows its class and can say what to do.
pub trait Classify: Error {
    /// Which kind of failure this is.
    fn class(&self) -> Class;

    /// What the reader can do about it, as one imperative sentence, where there is something to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The chain of causes below `error`, outermost first, without repeating the error itself.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}
