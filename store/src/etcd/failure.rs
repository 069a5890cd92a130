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
        if causes.iter().any(|cause| ends_the_handshake(&cause.to_string())) {
            return Self::denied(&text(status, &causes));
        }
        let said = status.message();
        match status.code() {
            // Without a user's name etcd calls the request invalid, not denied.
            Code::InvalidArgument if said.contains("user name is empty") => Self::denied(said),
            Code::PermissionDenied | Code::Unauthenticated => Self::denied(said),
            Code::NotFound if said.contains("requested lease not found") => Self::Answer(Stopped::NoLease),
            Code::FailedPrecondition if said.contains("lease already exists") => Self::Answer(Stopped::LeaseExists),
            // These are said before a request is proposed to the cluster. "Space exceeded" is not among them: it is also
            // the answer to a transaction that was applied while others filled the quota.
            Code::Unavailable if said.contains("no leader") => Self::NotSent(said.to_owned()),
            Code::ResourceExhausted if said.contains("too many requests") => Self::NotSent(said.to_owned()),
            // A member that only learns serves nobody yet; the code differs between versions.
            Code::Unavailable | Code::FailedPrecondition if said.contains("not supported for learner") => {
                Self::NotSent(said.to_owned())
            }
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => Self::refused(said),
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

/// A TLS alert about our certificate, or about what we cannot agree on, ends the handshake: the server has read nothing
/// of what we sent behind it. Any other alert may come later, when a request has long been executed.
fn ends_the_handshake(cause: &str) -> bool {
    let alert = cause.split_once("received fatal alert: ").map(|(_, alert)| alert);
    let about = ["Certificate", "UnknownCA", "AccessDenied", "HandshakeFailure", "ProtocolVersion"];
    alert.is_some_and(|alert| about.iter().any(|about| alert.contains(about)))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a refusal of etcd is, and whether a commit that met it may be sent elsewhere.
    fn kind(code: Code, said: &str) -> &'static str {
        match Failure::of_status(&Status::new(code, said)) {
            Failure::NotSent(_) => "not sent",
            Failure::NoAnswer(_) => "no answer",
            Failure::Answer(Stopped::Error(StoreError::Denied(_))) => "denied",
            Failure::Answer(Stopped::Error(StoreError::Refused(_))) => "refused",
            Failure::Answer(_) => "answer",
        }
    }

    #[test]
    fn only_what_etcd_says_before_it_does_anything_counts_as_not_sent() {
        for (code, said, expected) in [
            (Code::Unavailable, "etcdserver: no leader", "not sent"),
            (Code::Unavailable, "etcdserver: leader changed", "no answer"),
            (Code::Unavailable, "etcdserver: request timed out", "no answer"),
            (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure", "no answer"),
            (Code::Unavailable, "etcdserver: server stopped", "no answer"),
            (Code::Unavailable, "error reading from server: EOF", "no answer"),
            (Code::ResourceExhausted, "etcdserver: too many requests", "not sent"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "no answer"),
            (Code::ResourceExhausted, "grpc: received message larger than max", "no answer"),
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
            assert_eq!(kind(code, said), expected, "{code:?} {said}");
        }
    }

    #[test]
    fn only_an_alert_of_the_handshake_says_that_nothing_was_read() {
        for alert in ["BadCertificate", "CertificateRequired", "CertificateExpired", "UnknownCA", "HandshakeFailure"] {
            assert!(ends_the_handshake(&format!("received fatal alert: {alert}")), "{alert}");
        }
        for later in
            ["received fatal alert: BadRecordMac", "received fatal alert: InternalError", "bad Certificate", ""]
        {
            assert!(!ends_the_handshake(later), "{later}");
        }
    }
}
