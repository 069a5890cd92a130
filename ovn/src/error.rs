//! A database's failure as an engine's failure, with the remedy.

use atoll_network::{EngineError, EngineFailure};

use crate::ovsdb::{DatabaseError, RefusalKind};

/// A server, as users know it.
pub(crate) const NORTHBOUND: &str = "OVN Northbound";
/// The chassis of the cluster.
pub(crate) const SOUTHBOUND: &str = "OVN Southbound";
/// This machine's Open vSwitch.
pub(crate) const SWITCH: &str = "Open vSwitch";

/// Names the operation and its object.
pub(crate) fn failed(server: &'static str, object: impl Into<String>) -> impl FnOnce(DatabaseError) -> EngineError {
    move |error| {
        let (failure, remedy) = classify(server, &error);
        EngineError { server, object: object.into(), failure, message: error.to_string(), remedy: Some(remedy) }
    }
}

/// The settings of a database cannot be used. `database`: its name.
pub fn unusable(database: &'static str, error: DatabaseError) -> EngineError {
    failed(database, "connect")(error)
}

/// A failure that no database reported.
pub(crate) fn engine_error(
    server: &'static str,
    object: impl Into<String>,
    failure: EngineFailure,
    message: impl Into<String>,
    remedy: &str,
) -> EngineError {
    EngineError { server, object: object.into(), failure, message: message.into(), remedy: Some(remedy.to_owned()) }
}

/// What remedies name of a server.
#[derive(Clone, Copy, Debug)]
struct ServerTerms {
    /// The server, for people.
    name: &'static str,
    /// The key of the configuration that names it.
    key: &'static str,
    /// What to check if it does not answer.
    down: &'static str,
    /// What to do if what it was asked to change has changed, or refers to nothing.
    repair: &'static str,
    /// What its schema is part of.
    program: &'static str,
    /// Who may change it.
    rights: &'static str,
}

/// `server`: its name for people, or that of its database.
fn terms(server: &str) -> ServerTerms {
    match server {
        SWITCH | "Open_vSwitch" => ServerTerms {
            name: SWITCH,
            key: "ovn.local",
            down: "check that openvswitch-switch runs on this node (`systemctl status openvswitch-switch`), and `ovn.local`",
            repair: "try again",
            program: "Open vSwitch",
            rights: "check the permissions of the socket in `ovn.local`",
        },
        SOUTHBOUND | "OVN_Southbound" => ServerTerms {
            name: SOUTHBOUND,
            key: "ovn.southbound",
            down: "check that its servers run and have a leader (`ovs-appctl -t …/ovnsb_db.ctl cluster/status OVN_Southbound`), \
                   and `ovn.southbound`",
            repair: "try again",
            program: "OVN",
            rights: "check what the role of this certificate may do in Southbound",
        },
        _ => ServerTerms {
            name: NORTHBOUND,
            key: "ovn.northbound",
            down: "check that its servers run and have a leader (`ovs-appctl -t …/ovnnb_db.ctl cluster/status OVN_Northbound`), \
                   and `ovn.northbound`",
            repair: "run `atollctl tenant repair`",
            program: "OVN",
            rights: "check what the role of this certificate may do in Northbound",
        },
    }
}

fn classify(server: &str, error: &DatabaseError) -> (EngineFailure, String) {
    let ServerTerms { name, key, down, repair, program, rights } = terms(server);
    match error {
        DatabaseError::NotSent { .. } | DatabaseError::NoAnswer { .. } => (EngineFailure::Unreachable, down.to_owned()),
        DatabaseError::Behind { .. } => (EngineFailure::Busy, down.to_owned()),
        DatabaseError::Refused { refused, .. } => match refused.refusal {
            RefusalKind::Duplicate | RefusalKind::Constraint => {
                (EngineFailure::Conflict, "look for a row of another owner with this name or UUID".to_owned())
            }
            RefusalKind::Unmet => (EngineFailure::Busy, "try again: the rows changed meanwhile".to_owned()),
            RefusalKind::Reference => (EngineFailure::Absent, repair.to_owned()),
            RefusalKind::Denied => (EngineFailure::Denied, rights.to_owned()),
            RefusalKind::Unknown => (
                EngineFailure::Unsupported,
                format!("upgrade {program}: this version lacks a column that the request needs"),
            ),
            RefusalKind::Other => (EngineFailure::Invalid, "report this: Atoll sends no such operation".to_owned()),
        },
        DatabaseError::Denied { .. } if key == "ovn.local" => (EngineFailure::Denied, rights.to_owned()),
        DatabaseError::Denied { .. } => {
            (EngineFailure::Denied, "check `ovn.ca`, `ovn.cert`, `ovn.key` and `ovn.serverName`".to_owned())
        }
        DatabaseError::NotDatabase { .. } => {
            (EngineFailure::NotEngine, format!("check that `{key}` names servers of {name}"))
        }
        DatabaseError::Unreadable { .. } => {
            (EngineFailure::Broken, format!("report this, with the version of {program}"))
        }
        DatabaseError::Settings(_) => {
            (EngineFailure::Settings, format!("correct `{key}`, or `ovn.ca`, `ovn.cert` and `ovn.key`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovsdb::RefusedOperation;

    fn all() -> Vec<DatabaseError> {
        let (endpoint, reason) = ("ssl:10.0.0.1:6641".to_owned(), "it is away".to_owned());
        let refused = |refusal| DatabaseError::Refused {
            endpoint: endpoint.clone(),
            refused: RefusedOperation { operation: None, table: None, refusal, message: String::new() },
        };
        let mut all: Vec<_> = [
            RefusalKind::Duplicate,
            RefusalKind::Constraint,
            RefusalKind::Reference,
            RefusalKind::Unmet,
            RefusalKind::Unknown,
            RefusalKind::Denied,
            RefusalKind::Other,
        ]
        .into_iter()
        .map(refused)
        .collect();
        all.extend([
            DatabaseError::NotSent { endpoint: endpoint.clone(), reason: reason.clone() },
            DatabaseError::NoAnswer { endpoint: endpoint.clone(), reason: reason.clone() },
            DatabaseError::Behind { endpoint: endpoint.clone(), reason: reason.clone() },
            DatabaseError::Denied { endpoint: endpoint.clone(), reason: reason.clone() },
            DatabaseError::NotDatabase { endpoint: endpoint.clone(), reason: reason.clone() },
            DatabaseError::Unreadable { endpoint, reason: reason.clone() },
            DatabaseError::Settings(reason),
        ]);
        all
    }

    /// Whatever fails, no remedy names the key, the database or the program of another server.
    #[test]
    fn each_remedy_names_its_own_server() {
        let own = [
            (&[NORTHBOUND, "OVN_Northbound"], ["ovn.northbound", "Northbound", "ovnnb_db"], "ovn.northbound"),
            (&[SOUTHBOUND, "OVN_Southbound"], ["ovn.southbound", "Southbound", "ovnsb_db"], "ovn.southbound"),
            (&[SWITCH, "Open_vSwitch"], ["ovn.local", "Open vSwitch", "openvswitch"], "ovn.local"),
        ];
        for (servers, _, key) in own {
            let others = own.iter().filter(|(others, ..)| *others != servers).flat_map(|(_, words, _)| words);
            for (server, error) in servers.iter().flat_map(|server| all().into_iter().map(move |it| (server, it))) {
                let (_, remedy) = classify(server, &error);
                for word in others.clone() {
                    assert!(!remedy.contains(word), "{server}, {error:?}: {word:?} in {remedy:?}");
                }
                if matches!(error, DatabaseError::NotSent { .. } | DatabaseError::NotDatabase { .. }) {
                    assert!(remedy.contains(key), "{server}, {error:?}: {remedy:?}");
                }
            }
        }
    }
}
