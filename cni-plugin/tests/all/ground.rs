//! A directory for the real binary, and a call of which everything is right: no program listens at port 9.

use std::path::PathBuf;

use serde_json::{Value, json};

/// The directory; it goes with this.
pub(crate) struct Ground(tempfile::TempDir);

impl Ground {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The configuration.
    pub(crate) fn config(&self) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "atoll",
            "etcd": { "endpoints": ["http://127.0.0.1:9"] },
            "controller": { "endpoints": ["http://127.0.0.1:9/midonet-api"] },
            "tenant": { "default": "red" },
            "nodeName": "n1", "hostId": "3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11", "timeoutSeconds": 1,
            "runDir": self.path("run"), "stateDir": self.path("state"),
        })
    }
}

/// The variables of a call.
pub(crate) fn variables<'a>(command: &'a str, netns: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "3f9a"),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]
}
