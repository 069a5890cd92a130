//! Ids of hosts: a host of MidoNet is identified by the UUID of its agent, which the agent records in a file.

use std::path::Path;

use atoll_model::ids::HostId;
use atoll_network::{EngineError, EngineFailure};
use atoll_node::files::{TEXT, read as files};
use uuid::Uuid;

use crate::error::MidoNetError;

/// The file in which the agent records its id (MidoNet, `HostIdGenerator`).
pub(crate) const FILE: &str = "/etc/midonet_host_id.properties";

/// The UUID of a host.
///
/// # Errors
/// The text is not a UUID.
pub(crate) fn read(id: &HostId) -> Result<Uuid, MidoNetError> {
    id.as_str().parse().map_err(|_| MidoNetError {
        object: format!("host {id}"),
        failure: EngineFailure::Settings,
        message: "the id of a MidoNet host is a UUID".to_owned(),
    })
}

/// The same id as the API writes it, in lower case and with hyphens.
///
/// # Errors
/// As [`read`], with the remedy.
pub(crate) fn given(id: &HostId) -> Result<HostId, EngineError> {
    let remedy = Some(format!("set the host's id to the one that MidoNet's agent has written to {FILE} on it"));
    read(id).map(HostId::from).map_err(|error| EngineError { remedy, ..error.into() })
}

/// The id in the agent's file, which has `host_uuid=…` in the format of Java properties.
///
/// # Errors
/// There is no such file, or no UUID in it.
pub(crate) fn recorded(path: &Path) -> Result<HostId, EngineError> {
    uuid_in(path).map(HostId::from).map_err(|problem| {
        let object = "id of the agent on this machine".to_owned();
        let message = format!("{}: {problem}", path.display());
        let remedy = Some("set `hostId` in the configuration".to_owned());
        EngineError { remedy, ..MidoNetError { object, failure: EngineFailure::Settings, message }.into() }
    })
}

fn uuid_in(path: &Path) -> Result<Uuid, String> {
    let text = files::text(path, TEXT).map_err(|error| error.to_string())?;
    let pairs = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| line.split_once('='));
    let mut ids = pairs.filter(|(key, _)| key.trim() == "host_uuid").map(|(_, value)| value.trim());
    let id = ids.next().ok_or("it has no line host_uuid=…")?;
    id.parse().map_err(|_| format!("{id:?} is no UUID"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use atoll_model::error::{Class, Classify as _};

    use super::*;

    fn host(text: &str) -> HostId {
        HostId::new(text).expect("valid")
    }

    #[test]
    fn the_host_id_is_read_from_the_agents_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("id");
        let id = Uuid::from_u128(7);
        fs::write(&path, format!("#Thu Jan 01\n#host_uuid=x\nhost_uuid = {id}\n")).expect("works");
        assert_eq!(recorded(&path).expect("there"), HostId::from(id));
        for (bad, problem) in [
            ("", "it has no line host_uuid=…"),
            ("host_uuid=7\n", "\"7\" is no UUID"),
            ("host_uuid=node-1.example\n", "\"node-1.example\" is no UUID"),
            ("uuid=x\n", "it has no line host_uuid=…"),
        ] {
            fs::write(&path, bad).expect("works");
            let error = recorded(&path).expect_err(bad);
            let expected = format!("controller: id of the agent on this machine: {}: {problem}", path.display());
            assert_eq!((error.to_string(), error.class()), (expected, Class::Config), "{bad:?}");
            assert_eq!(error.hint().as_deref(), Some("set `hostId` in the configuration"));
        }
        assert!(recorded(&directory.path().join("none")).is_err());
    }

    /// Records and configurations of before may have a UUID in another form than the one that is compared.
    #[test]
    fn every_form_of_a_uuid_is_the_same_host_and_another_text_is_refused_by_name() {
        let canonical = "3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11";
        for form in [canonical, "3F5E1B9A-0C5B-4F1E-9D2A-6A1F5E0C7B11", "3f5e1b9a0c5b4f1e9d2a6a1f5e0c7b11"] {
            assert_eq!(given(&host(form)).expect("a UUID").as_str(), canonical);
        }
        for other in ["node-1.example", "7", "3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b1g"] {
            let error = given(&host(other)).expect_err(other);
            let expected = format!("controller: host {other}: the id of a MidoNet host is a UUID");
            assert_eq!((error.to_string(), error.class()), (expected, Class::Config));
            assert_eq!(
                error.hint().as_deref(),
                Some(
                    "set the host's id to the one that MidoNet's agent has written to /etc/midonet_host_id.properties on it"
                )
            );
        }
    }
}
