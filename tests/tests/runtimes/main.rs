//! Real container runtimes with our plugin, without a registry. Each has a node of its own, so that its side of the
//! network is that node's namespace.
//!
//! | module | what |
//! |---|---|
//! | `containerd`, `cri` | a containerd of its own, and a client of its CRI socket |
//! | `podman` | podman with its CNI backend |
//! | `networks`, `image` | what both are given: plugins and network configuration, an image |
//! | `life` | pods come and go while runtime, controller or etcd do |
//! | `tenants` | pods through containerd |
//! | `podman_containers` | containers through podman |
//! | `conformance` | what the CRI's validation suite asks of a network |
//! | `recorder`, `recorded` | what runtimes send to a plugin, written down and compared |

mod conformance;
mod containerd;
mod cri;
mod image;
mod life;
mod networks;
mod podman;
mod podman_containers;
mod recorded;
mod recorder;
mod tenants;

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
