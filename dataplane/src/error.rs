//! Errors of the data plane: what was to be done, with which object, and the kernel's explanation.

use std::io;
use std::path::PathBuf;

use atoll_model::error::{Class, Classify};
use atoll_node::files::lock::NotTaken;
use ipnetwork::Ipv4Network;

use crate::missing::Missing;

/// A request to the data plane failed.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The kernel or a tool lacks something that we need.
    #[error("this machine cannot carry the data plane:{}", lines(.0))]
    Missing(Vec<Missing>),
    /// A namespace could not be made, entered or removed.
    #[error("{what} network namespace {}", path.display())]
    Namespace {
        /// The verb.
        what: &'static str,
        /// Where it is pinned.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused a request about a link, address, route or neighbour.
    #[error("{what}")]
    Netlink {
        /// Verb and object.
        what: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("set {key} to {value}")]
    Sysctl {
        /// Its path under `/proc/sys`.
        key: String,
        /// The value.
        value: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// nftables refused a rule set or could not be run.
    #[error("load the packet filter: {0}")]
    Filter(String),
    /// The plane's thread could not be started.
    #[error("start the data plane's thread")]
    Thread(#[source] io::Error),
    /// The machine itself uses what host-to-pod addressing needs.
    #[error(
        "host-to-pod addressing needs the first addresses of {pool}, and this machine uses {network}: choose another nodeSideCidr"
    )]
    PoolInUse {
        /// The pool.
        pool: Ipv4Network,
        /// What is used.
        network: Ipv4Network,
    },
    /// Two data planes for one directory would undo each other's work.
    #[error("a data plane runs for {} already ({}): end it, or give this one a run directory of its own", directory.display(), NotTaken::holder(*process))]
    Running {
        /// Where namespaces are pinned.
        directory: PathBuf,
        /// The process id of the other one, if it is known.
        process: Option<u32>,
    },
    /// The lock that keeps a second one away could not be taken.
    #[error("lock {}", path.display())]
    Lock {
        /// Its file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An interface that a port is bound to is in use by the machine itself.
    #[error("interface {interface} cannot be taken: {why}")]
    InUse {
        /// The interface.
        interface: String,
        /// What uses it.
        why: &'static str,
    },
}

impl Classify for PlaneError {
    fn class(&self) -> Class {
        Class::Kernel
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => Some("run as root and install or load what is missing".to_owned()),
            Self::InUse { .. } => Some("bind the port to a spare interface".to_owned()),
            _ => None,
        }
    }
}

/// What is missing, a line each.
fn lines(missing: &[Missing]) -> String {
    missing.iter().flat_map(|missing| ["\n  ".to_owned(), missing.to_string()]).collect()
}

/// An error with its causes in one line.
pub(crate) fn line(error: &PlaneError) -> String {
    let mut line = error.to_string();
    for cause in atoll_model::error::causes(error) {
        line.push_str(": ");
        line.push_str(&cause);
    }
    line
}
