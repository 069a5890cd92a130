//! How long a call may take, and how large an answer may be.

use std::time::Duration;

/// How long to wait for what. The caller has the overall deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a connection to one endpoint.
    pub connect: Duration,
    /// For the answer to one request.
    pub request: Duration,
    /// For how long an endpoint that failed is tried last.
    pub penalty: Duration,
    /// Largest answer that is accepted, bytes.
    pub answer: usize,
}

impl Default for Limits {
    /// A request may wait for an election, which takes etcd a second or two.
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(1500),
            request: Duration::from_secs(5),
            penalty: Duration::from_secs(10),
            answer: 64 << 20,
        }
    }
}
