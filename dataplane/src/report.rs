//! The report of a data plane.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use crate::compile::{HostToPod, Unsupported};

/// What could not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlaneReport {
    /// Parts of the topology that cannot be expressed.
    pub unsupported: BTreeSet<Unsupported>,
    /// The last error of each namespace or port that is not as it should be.
    pub errors: BTreeMap<Uuid, String>,
    /// Changes made to the kernel since the start, ports of pods aside.
    pub changes: usize,
    /// Namespaces that the topology did not have at the start, and that were not removed.
    pub preserved: BTreeSet<Uuid>,
    /// How this machine reaches the pod of each port.
    pub host_to_pod: BTreeMap<Uuid, HostToPod>,
}
