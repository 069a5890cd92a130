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

fn classify(server: &'static str, error: &DatabaseError) -> (EngineFailure, String) {
    let (failure, remedy) = match error {
        DatabaseError::NotSent { .. } if server == SWITCH => {
            (EngineFailure::Unreachable, "check that openvswitch-switch runs on this node, and `ovn.local`")
        }
        DatabaseError::NotSent { .. } => (EngineFailure::Unreachable, "check the servers, and `ovn.northbound`"),
        DatabaseError::NoAnswer { .. } => {
            (EngineFailure::Unreachable, "check that the servers run and that their cluster has a leader")
        }
        DatabaseError::Behind { .. } => {
            (EngineFailure::Busy, "check with `ovs-appctl cluster/status` that the cluster has a leader")
        }
        DatabaseError::Refused { refused, .. } => match refused.refusal {
            RefusalKind::Duplicate | RefusalKind::Constraint => {
                (EngineFailure::Conflict, "look for a row of another owner with this name or UUID")
            }
            RefusalKind::Unmet => (EngineFailure::Busy, "try again: the rows changed meanwhile"),
            RefusalKind::Reference => (EngineFailure::Absent, "run `atollctl tenant repair`"),
            RefusalKind::Denied => (EngineFailure::Denied, "check what the role of this certificate may do"),
            RefusalKind::Unknown => {
                (EngineFailure::Unsupported, "upgrade OVN: this version lacks a column that the request needs")
            }
            RefusalKind::Other => (EngineFailure::Invalid, "report this: Atoll sends no such operation"),
        },
        DatabaseError::Denied { .. } => {
            (EngineFailure::Denied, "check `ovn.ca`, `ovn.cert`, `ovn.key` and `ovn.serverName`")
        }
        DatabaseError::NotDatabase { .. } => {
            (EngineFailure::NotEngine, "check that `ovn.northbound` names servers of OVN Northbound")
        }
        DatabaseError::Unreadable { .. } => (EngineFailure::Broken, "report this, with the version of OVN"),
        DatabaseError::Settings(_) => (EngineFailure::Settings, "correct `ovn` in the configuration"),
    };
    (failure, remedy.to_owned())
}
