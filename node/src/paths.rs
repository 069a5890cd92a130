//! Every path below `runDir` and `stateDir`, and what the file there is.
//!
//! `runDir` may be lost (a reboot empties `/run`); `stateDir` survives. Modes are in `docs/operations.md`, section "Files and
//! their modes".

use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Names the files of one installation; a constant of this project.
const INSTALLATION: Uuid = Uuid::from_u128(0x5e0f_9a11_7f9b_4c52_8d35_a701_1ca0_c4e1);

/// The directory of attachment states, below `runDir`.
pub const ATTACHMENTS: &str = "attachments";
/// The directory of [`host_to_pod`], below `runDir`.
pub const HOST_TO_POD: &str = "host-to-pod";
/// The directory of local tombstones, below `stateDir`.
pub const TOMBSTONES: &str = "tombstones";
/// The directory of what saves requests and may be lost, below `stateDir`.
pub const CACHE: &str = "cache";

/// The extension of a lock beside what it is for.
pub const LOCK: &str = "lock";

/// `<runDir>/attachments`: a file for each attachment, its lock and its state.
pub fn attachments(run_dir: &Path) -> PathBuf {
    run_dir.join(ATTACHMENTS)
}

/// `<runDir>/pending-cleanup`: exists while this node may have cleanup to do. Without it the next ADD does not ask etcd.
pub fn pending_cleanup(run_dir: &Path) -> PathBuf {
    run_dir.join("pending-cleanup")
}

/// `<runDir>/status.json`: the last probes of `"status": "strict"`.
pub fn status(run_dir: &Path) -> PathBuf {
    run_dir.join("status.json")
}

/// `<runDir>/dataplane`: where the local data plane pins the namespaces of its routers, each under the router's id.
pub fn router_namespaces(run_dir: &Path) -> PathBuf {
    run_dir.join("dataplane")
}

/// `<runDir>/host-to-pod`: what stands behind the ports by which this node reaches its pods, each under the port's id: its
/// namespace, and its lock with the extension [`LOCK`].
pub fn host_to_pod(run_dir: &Path) -> PathBuf {
    run_dir.join(HOST_TO_POD)
}

/// `<runDir>/dataplane.lock`: one data plane at a time works in `namespaces`, a path of [`router_namespaces`]. The lock is
/// beside the directory, which goes with the last namespace.
pub fn data_plane_lock(namespaces: &Path) -> PathBuf {
    namespaces.with_extension(LOCK)
}

/// `<stateDir>/node`: the node's name and its earlier ones, and every `etcd.prefix` under which it has worked.
pub fn node_identity(state_dir: &Path) -> PathBuf {
    state_dir.join("node")
}

/// `<stateDir>/tombstones`: cleanup that could not be recorded in etcd.
pub fn tombstones(state_dir: &Path) -> PathBuf {
    state_dir.join(TOMBSTONES)
}

/// `<stateDir>/cache`: what saves requests and may be lost.
pub fn cache(state_dir: &Path) -> PathBuf {
    state_dir.join(CACHE)
}

/// `<stateDir>/cache/<installation>`, as a path below `stateDir`: the tenant binding of each namespace of one installation.
pub fn tenant_bindings(etcd_prefix: &str) -> PathBuf {
    Path::new(CACHE).join(installation(etcd_prefix))
}

/// `<stateDir>/cache/etcd-endpoint`: which endpoint of etcd answered last. `cache`: a path of [`cache`].
pub fn etcd_endpoint(cache: &Path) -> PathBuf {
    cache.join("etcd-endpoint")
}

/// `<stateDir>/cache/controller-endpoint`: which endpoint of the controller answered last.
pub fn controller_endpoint(cache: &Path) -> PathBuf {
    cache.join("controller-endpoint")
}

/// `<stateDir>/cache/northbound-endpoint`: which member of OVN Northbound answered last.
pub fn northbound_endpoint(cache: &Path) -> PathBuf {
    cache.join("northbound-endpoint")
}

/// `<stateDir>/cache/keystone-endpoint`: which endpoint of Keystone answered last.
pub fn keystone_endpoint(cache: &Path) -> PathBuf {
    cache.join("keystone-endpoint")
}

/// `<stateDir>/cache/controller`: dialect and token of the controller.
pub fn controller_session(cache: &Path) -> PathBuf {
    cache.join("controller")
}

/// What an installation (`etcd.prefix`) is called in the names of files.
pub fn installation(etcd_prefix: &str) -> String {
    Uuid::new_v5(&INSTALLATION, etcd_prefix.as_bytes()).simple().to_string()
}
