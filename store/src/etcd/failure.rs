//! The meaning of an error of the library: whether the request may have taken effect. In doubt, it may.

use std::error::Error;

use atoll_model::certificate;
use etcd_client as wire;
use tonic::{Code, Status};

use crate::StoreError;

/// Why there is no answer that a caller could use.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The lease is not there.
    NoLease,
    /// A lease of that id is there.
    LeaseExists,
    /// Any other error.
    Error(StoreError),
}

impl From<Stopped> for StoreError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::NoLease => Self::Refused("the lease is not there".to_owned()),
            Stopped::LeaseExists => Self::Refused("a lease of that id is there".to_owned()),
            Stopped::Error(error) => error,
        }
    }
}

pub(super) type RequestResult<T> = Result<T, Stopped>;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum EtcdFailure {
    /// It was not sent, or was rejected before it had an effect.
    NotSent(String),
    /// It left, and what became of it is not known.
    NoAnswer(String),
    /// etcd answered, and another endpoint would give the same answer.
    Answer(Stopped),
}

impl EtcdFailure {
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
        if causes.iter().any(|cause| certificate::refusal(&cause.to_string()).is_some()) {
            return Self::denied(&format!("this node's certificate (`etcd.cert`): {}", text(status, &causes)));
        }
        let message = status.message();
        match status.code() {
            // Without a user's name etcd calls the request invalid, not denied.
            Code::InvalidArgument if message.contains("user name is empty") => Self::denied(message),
            Code::PermissionDenied | Code::Unauthenticated => Self::denied(message),
            Code::NotFound if message.contains("requested lease not found") => Self::Answer(Stopped::NoLease),
            Code::FailedPrecondition if message.contains("lease already exists") => Self::Answer(Stopped::LeaseExists),
            // etcd gives these before it proposes a request to the cluster. "Space exceeded" is not among them: it is also
            // the answer to a transaction that was applied while others filled the quota.
            Code::Unavailable if message.contains("no leader") => Self::NotSent(message.to_owned()),
            Code::ResourceExhausted if message.contains("too many requests") => Self::NotSent(message.to_owned()),
            // Rejected for its size, by the server's gRPC or by etcd, before it had an effect. An answer that exceeds our
            // limit is another case: the library reports it with another code.
            Code::ResourceExhausted if message.contains("received message larger than max") => Self::too_large(message),
            Code::InvalidArgument
                if message.contains("request is too large") || message.contains("too many operations") =>
            {
                Self::too_large(message)
            }
            // A learner serves no requests yet; its error code differs between versions.
            Code::Unavailable | Code::FailedPrecondition if message.contains("not supported for learner") => {
                Self::NotSent(message.to_owned())
            }
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Self::refused(message),
            _ => Self::NoAnswer(text(status, &causes)),
        }
    }

    fn denied(reason: &str) -> Self {
        Self::Answer(Stopped::Error(StoreError::Denied(reason.to_owned())))
    }

    fn too_large(reason: &str) -> Self {
        Self::Answer(Stopped::Error(StoreError::TooLarge(reason.to_owned())))
    }

    fn refused(reason: &str) -> Self {
        Self::Answer(Stopped::Error(StoreError::Refused(reason.to_owned())))
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| error.source()).collect()
}

/// A status and its causes on one line, each once.
fn text(status: &Status, causes: &[&(dyn Error + 'static)]) -> String {
    join(status.message().to_owned(), causes)
}

/// An error and its causes on one line, each once.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of a refusal of etcd, and whether a commit with this answer may be sent elsewhere.
    fn kind(code: Code, message: &str) -> &'static str {
        match EtcdFailure::of_status(&Status::new(code, message)) {
            EtcdFailure::NotSent(_) => "not sent",
            EtcdFailure::NoAnswer(_) => "no answer",
            EtcdFailure::Answer(Stopped::Error(StoreError::Denied(_))) => "denied",
            EtcdFailure::Answer(Stopped::Error(StoreError::Refused(_))) => "refused",
            EtcdFailure::Answer(Stopped::Error(StoreError::TooLarge(_))) => "too large",
            EtcdFailure::Answer(_) => "answer",
        }
    }

    #[test]
    fn a_connection_that_is_made_again_and_fails_has_sent_nothing() {
        let refused = Status::from_error(Box::new(tonic::ConnectError("connection refused".into())));
        let EtcdFailure::NotSent(reason) = EtcdFailure::of_status(&refused) else { panic!("{refused:?}") };
        assert!(reason.contains("connection refused"), "{reason}");
        assert_eq!(reason.matches("refused").count(), 1, "each cause is there once: {reason}");
    }

    #[test]
    fn only_a_refusal_before_any_effect_counts_as_not_sent() {
        for (code, message, expected) in [
            (Code::Unavailable, "etcdserver: no leader", "not sent"),
            (Code::Unavailable, "etcdserver: leader changed", "no answer"),
            (Code::Unavailable, "etcdserver: request timed out", "no answer"),
            (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure", "no answer"),
            (Code::Unavailable, "etcdserver: server stopped", "no answer"),
            (Code::Unavailable, "error reading from server: EOF", "no answer"),
            (Code::ResourceExhausted, "etcdserver: too many requests", "not sent"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "no answer"),
            (Code::ResourceExhausted, "grpc: received message larger than max (2099000 vs. 2097152)", "too large"),
            (Code::InvalidArgument, "etcdserver: request is too large", "too large"),
            (Code::InvalidArgument, "etcdserver: too many operations in txn request", "too large"),
            (Code::OutOfRange, "Error, decoded message length too large", "no answer"),
            (Code::Unavailable, "etcdserver: rpc not supported for learner", "not sent"),
            (Code::FailedPrecondition, "etcdserver: rpc not supported for learner", "not sent"),
            (Code::Unknown, "raft proposal dropped", "no answer"),
            (Code::DataLoss, "etcdserver: corrupt cluster", "no answer"),
            (Code::Cancelled, "", "no answer"),
            (Code::DeadlineExceeded, "context deadline exceeded", "no answer"),
            (Code::Internal, "stream terminated by RST_STREAM", "no answer"),
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request", "refused"),
            (Code::InvalidArgument, "etcdserver: user name is empty", "denied"),
            (Code::Unauthenticated, "etcdserver: invalid auth token", "denied"),
            (Code::PermissionDenied, "etcdserver: permission denied", "denied"),
            (Code::NotFound, "etcdserver: requested lease not found", "answer"),
            (Code::FailedPrecondition, "etcdserver: lease already exists", "answer"),
        ] {
            assert_eq!(kind(code, message), expected, "{code:?} {message}");
        }
    }
}
