//! Real container runtimes with the plugin, without a registry. Each has a node of its own, so that it runs in that
//! node's namespace.
//!
//! | module | what |
//! |---|---|
//! | `containerd`, `cri` | a containerd of its own, and a client of its CRI socket |
//! | `podman` | podman with its CNI backend |
//! | `networks`, `image` | input of both: plugins and network configuration, an image |
//! | `lifecycle` | pods are added and deleted while runtime, controller or etcd restart |
//! | `killed` | the runtime dies while it creates a pod |
//! | `tenants` | pods through containerd |
//! | `two_machines` | pods of two machines over OVN, each with a containerd |
//! | `requests` | requests of a pod: several networks, an address, a MAC |
//! | `podman_containers` | containers through podman |
//! | `conformance` | requirements of the CRI's validation suite |
//! | `chain` | Debian's standard plugins after Atoll |
//! | `host_ports` | host ports |
//! | `cnitool` | every verb through libcni (`--long`) |
//! | `collect` | `atollctl gc` beside containerd |
//! | `installed` | `atollctl install` and `doctor` beside containerd |
//! | `recorder`, `recorded` | what runtimes send to a plugin, recorded and compared |

mod chain;
mod cnitool;
mod collect;
mod conformance;
mod containerd;
mod cri;
mod host_ports;
mod image;
mod installed;
mod killed;
mod lifecycle;
mod networks;
mod podman;
mod podman_containers;
mod recorded;
mod recorder;
mod requests;
mod tenants;
mod two_machines;

/// Removes a cgroup of a runtime, with its children, from every hierarchy of this machine.
fn remove_cgroup(name: &str) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        remove_empty(&hierarchy.join(name.trim_start_matches('/')));
    }
}

/// Removes directories from the leaves up; the kernel removes the files in them.
fn remove_empty(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // It does not exist, or is still in use for a moment: then it remains, empty.
    let _ = std::fs::remove_dir(directory);
}

/// Runs `work` concurrently with the numbers below `count`.
fn side_by_side<T: Send>(count: usize, work: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads
            .into_iter()
            .enumerate()
            .map(|(number, thread)| {
                let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                anyhow::Context::with_context(done, || format!("number {number}"))
            })
            .collect()
    })
}
