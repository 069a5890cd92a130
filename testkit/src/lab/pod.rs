//! A pod: a network namespace with a container id, as a runtime creates it before it calls a plugin.

use anyhow::Result;
use uuid::Uuid;

use crate::lab::netns::LabNetns;

/// A pod before its ADD.
#[derive(Debug)]
pub struct LabPod {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// The id of its sandbox, 64 hexadecimal digits as Kubernetes runtimes have them.
    pub container: String,
    /// Its uid.
    pub uid: Uuid,
    /// Its network namespace.
    pub netns: LabNetns,
}

impl LabPod {
    /// A pod whose network namespace is deleted with this value.
    pub fn new(namespace: &str, name: &str) -> Result<Self> {
        Ok(Self::inside(namespace, name, LabNetns::new()?))
    }

    /// A pod in an existing network namespace.
    pub fn inside(namespace: &str, name: &str, netns: LabNetns) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            container: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()),
            uid: Uuid::new_v4(),
            netns,
        }
    }

    /// `CNI_ARGS` as containerd sends it.
    pub fn args(&self) -> String {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.namespace, self.name, self.container, self.uid
        )
    }
}
