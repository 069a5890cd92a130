//! Whether the server forwards packets itself, on its own machine.
//!
//! A MidoNet controller does not: its agents do, on every host. `mock-controller --dataplane` does, and adds a header to its
//! root document. MidoNet never sends it, and its clients ignore headers that they do not know.

use crate::answer;
use crate::client::Client;
use crate::error::{AttemptedOperation, ClientError};
use crate::request;
use crate::resource::Resource;
use crate::transport::Transport;

/// The header of the root document. Its value is [`LocalDataPlane::to_header`].
pub const HEADER: &str = "atoll-data-plane";

/// The data plane of the server's own machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalDataPlane {
    /// The machine reaches its own pods.
    pub host_to_pod: bool,
}

impl LocalDataPlane {
    /// The value of the header.
    pub fn to_header(self) -> &'static str {
        if self.host_to_pod { "local, host-to-pod" } else { "local" }
    }

    /// Reads the value of the header. Words that are not known are ignored.
    pub fn from_header(value: &str) -> Self {
        Self { host_to_pod: value.split(',').any(|word| word.trim() == "host-to-pod") }
    }
}

impl<T: Transport> Client<T> {
    /// The data plane of the server's own machine; none: the server has none, or is a MidoNet. Reads the root document.
    pub async fn local_data_plane(&self) -> Result<Option<LocalDataPlane>, ClientError> {
        let attempt = AttemptedOperation::new("read", Resource::Application.to_string());
        let response = self.call(attempt.clone(), Resource::Application, request::root()).await?;
        // A gateway's page has no header either: only the API's own document counts.
        answer::dialect(&attempt, &response)?;
        let header = response.headers.get(HEADER).map(|value| value.to_str().unwrap_or_default());
        Ok(header.map(LocalDataPlane::from_header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for host_to_pod in [false, true] {
            let plane = LocalDataPlane { host_to_pod };
            assert_eq!(LocalDataPlane::from_header(plane.to_header()), plane);
        }
        assert_eq!(LocalDataPlane::from_header("local,host-to-pod, new"), LocalDataPlane { host_to_pod: true });
        assert_eq!(LocalDataPlane::from_header(""), LocalDataPlane { host_to_pod: false });
    }
}
