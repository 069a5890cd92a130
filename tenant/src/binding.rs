//! The tenant binding of a pod: its records, and the caller.

use atoll_ipam::Guards;
use atoll_model::ids::{HostId, Namespace, NodeName, TenantName};
use atoll_network::NetworkId;
use atoll_records::{ClusterRecord, NodeRecord, Revision, TenantRecord, Versioned};
use serde::{Deserialize, Serialize};

use crate::network::network_id;

/// The records that decide to which tenant a pod belongs, each with the revision at which it was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantBinding {
    /// The cluster's settings.
    pub cluster: Versioned<ClusterRecord>,
    /// This machine.
    pub node: Versioned<NodeRecord>,
    /// The pod's namespace and the revision of its record; none for the default tenant.
    pub namespace: Option<(Namespace, Revision)>,
    /// The tenant.
    pub tenant: Versioned<TenantRecord>,
}

impl TenantBinding {
    /// The revisions that a claim compares.
    pub fn guards(&self) -> Guards {
        Guards {
            cluster: self.cluster.mod_revision,
            node: self.node.mod_revision,
            namespace: self.namespace.as_ref().map(|(_, revision)| *revision),
            tenant: self.tenant.mod_revision,
        }
    }

    /// This machine was evicted once: a deletion of a port that it had then may arrive at any time, however late.
    pub fn was_evicted(&self) -> bool {
        self.node.record.epoch > 0
    }

    /// The identity of the tenant's network.
    pub fn network(&self) -> NetworkId {
        network_id(&self.cluster.record, &self.tenant.record)
    }
}

/// This machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The id of its host in the engine.
    pub host_id: HostId,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
}

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The pod's namespace, where the runtime names one.
    pub namespace: Option<Namespace>,
    /// `tenant.default` of this node's configuration: for calls that name no namespace.
    pub default_tenant: Option<TenantName>,
}
