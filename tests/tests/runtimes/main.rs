//! Real container runtimes with our plugin, without a registry. Each has a node of its own, so that its side of the
//! network is that node's namespace.
//!
//! | module | what |
//! |---|---|
//! | `containerd`, `cri` | a containerd of its own, and a client of its CRI socket |
//! | `podman` | podman with its CNI backend |
//! | `networks`, `image` | what both are given: plugins and network configuration, an image |
//! | `life` | pods come and go while runtime, controller or etcd do |
//! | `killed` | the runtime dies while it makes a pod |
//! | `tenants` | pods through containerd |
//! | `requests` | what a pod asks for: several networks, an address, a MAC |
//! | `podman_containers` | containers through podman |
//! | `conformance` | what the CRI's validation suite asks of a network |
//! | `chain` | Debian's standard plugins behind ours |
//! | `host_ports` | a port of the node that leads to a pod |
//! | `cnitool` | every verb through libcni (`--long`) |
//! | `collect` | `atollctl gc` beside containerd |
//! | `installed` | `atollctl install` and `doctor` beside containerd |
//! | `recorder`, `recorded` | what runtimes send to a plugin, written down and compared |

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
mod life;
mod networks;
mod podman;
mod podman_containers;
mod recorded;
mod recorder;
mod requests;
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

/// Does `work` with the numbers below `count`, all at once.
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
