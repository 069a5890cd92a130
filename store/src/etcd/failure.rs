//! What an error of the library means. The one question: may the request have taken effect? When in doubt, it may.

use std::error::Error;

use etcd_client as wire;
use tonic::{Code, Status};

use super::endpoints::Stopped;
use crate::StoreError;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not leave, or was turned away before it did anything.
    NotSent(String),
    /// It left, and what became of it is not known.
    NoAnswer(String),
    /// etcd answered, and another endpoint would say the same.
    Answer(Stopped),
}

impl Failure {
    pub(super) fn of(error: wire::Error) -> Self {
        match error {
            wire::Error::GRpcStatus(status) => Self::of_status(&status),
            wire::Error::LeaseKeepAliveError(text) if text == "lease not found" => Self::Answer(Stopped::NoLease),
            wire::Error::InvalidArgs(text) => Self::refused(&text),
            error => Self::NoAnswer(chain(&error)),
        }
    }

    fn of_status(status: &Status) -> Self {
        let causes = causes(status);
        if causes.iter().any(|cause| cause.is::<tonic::ConnectError>()) {
            return Self::NotSent(text(status, &causes));
        }
        // A TLS alert ends the handshake: the server has read nothing of what we sent behind it.
        if causes.iter().any(|cause| cause.to_string().contains("received fatal alert")) {
            return Self::denied(&text(status, &causes));
        }
        let said = status.message();
        match status.code() {
            // Without a user's name etcd calls the request invalid, not denied.
            Code::InvalidArgument if said.contains("user name is empty") => Self::denied(said),
            Code::PermissionDenied | Code::Unauthenticated => Self::denied(said),
            Code::NotFound if said.contains("requested lease not found") => Self::Answer(Stopped::NoLease),
            Code::FailedPrecondition if said.contains("lease already exists") => Self::Answer(Stopped::LeaseExists),
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Self::refused(said),
            // These three are said before a request is proposed to the cluster, or when it was found not to fit.
            Code::Unavailable if said.contains("no leader") => Self::NotSent(said.to_owned()),
            Code::ResourceExhausted if said.contains("too many requests") || said.contains("space exceeded") => {
                Self::NotSent(said.to_owned())
            }
            _ => Self::NoAnswer(text(status, &causes)),
        }
    }

    fn denied(reason: &str) -> Self {
        Self::Answer(Stopped::Error(StoreError::Denied(reason.to_owned())))
    }

    fn refused(reason: &str) -> Self {
        Self::Answer(Stopped::Error(StoreError::Refused(reason.to_owned())))
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| error.source()).collect()
}

/// A status and its causes on one line, each said once.
fn text(status: &Status, causes: &[&(dyn Error + 'static)]) -> String {
    join(status.message().to_owned(), causes)
}

/// An error and its causes on one line, each said once.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    join(error.to_string(), &causes(error))
}

fn join(mut text: String, causes: &[&(dyn Error + 'static)]) -> String {
    for cause in causes.iter().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
