//! Real container runtimes with our plugin, without a registry: Debian's containerd through its CRI socket, and podman
//! with its CNI backend. Each has a node of its own, so that its side of the network is that node's namespace.

mod containerd;
mod cri;
mod image;
mod podman;

/// Removes a cgroup that runtimes made, with what is below it, from every hierarchy of this machine.
fn remove_cgroup(name: &str) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        remove_empty(&hierarchy.join(name.trim_start_matches('/')));
    }
}

/// Removes directories from the leaves up; the files in them are the kernel's and go along.
fn remove_empty(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // Not there, or still in use for a moment: then it stays, empty.
    let _ = std::fs::remove_dir(directory);
}
