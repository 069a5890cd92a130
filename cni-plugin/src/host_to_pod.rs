//! Host-to-pod addressing where the plugin makes it: how this node reaches its own pods although tenants' addresses overlap.
//!
//! | verb | what |
//! |---|---|
//! | ADD | makes what all pods of a subnet share, if it is not complete; then an address for the pod, and its routes |
//! | DEL | deletes the pod's |
//! | GC | deletes what no attachment has, and what was without pods twice |
//!
//! # Guarantees
//! * The translation of an address names its attachment. It is made before the routes to the address, and goes after them: a
//!   route is never without an owner.
//! * The node's route to an address decides which pod has it. Two subnets that choose the same one do not both get it.
//! * What a subnet's pods share is made and removed under a lock, and pods are added under it. A file exists before anything
//!   else of a subnet is made, and goes last.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::host_to_pod::HostToPodPool;
use atoll_model::ids::IfName;
use atoll_network::{Engine, HostToPodPort, PodPort};
use atoll_node::files::{lock, make, read};
use atoll_node::paths;
use atoll_records::ClaimRecord;
use uuid::Uuid;

use crate::error::CallError;
use crate::kernel::{HostToPodChange, HostToPodEntry, HostToPodSide, HostToPodState, Kernel, KernelError};
use crate::plugin::Plugin;

/// What a lock's file has after a GC that found no pod.
const IDLE: &[u8] = b"idle\n";
/// The longest pause between two attempts to take a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock of one side, held.
struct SideLock {
    file: File,
    path: PathBuf,
}

impl SideLock {
    /// None: another call holds it.
    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(make::PRIVATE);
            Ok((read::open_own(path, &mut options)?, ()))
        };
        Ok(lock::lock_at(path, open)?.map(|(file, ())| Self { file, path: path.to_owned() }))
    }

    /// A GC has found no pod, and no ADD came since.
    fn is_idle(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() > 0)
    }

    fn set_idle(&self, idle: bool) -> io::Result<()> {
        if self.is_idle()? == idle {
            return Ok(());
        }
        self.file.set_len(0)?;
        if idle { io::Write::write_all(&mut &self.file, IDLE) } else { Ok(()) }
    }

    /// Frees the lock and removes its file.
    fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl<S, E: Engine, K: Kernel> Plugin<S, E, K> {
    fn sides_directory(&self) -> PathBuf {
        paths::host_to_pod(&self.config.run_dir)
    }

    /// Every side of this node.
    pub(crate) fn sides(&self) -> io::Result<Vec<HostToPodSide>> {
        let directory = self.sides_directory();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut sides = Vec::new();
        for entry in entries {
            let path = PathBuf::from(entry?.file_name());
            let is_lock = path.extension().is_some_and(|extension| extension == paths::LOCK);
            let id = path.file_stem().and_then(|stem| Uuid::try_parse(stem.to_str()?).ok());
            sides.extend(id.filter(|_| is_lock).map(|id| HostToPodSide::of(id, &directory)));
        }
        sides.sort();
        Ok(sides)
    }

    /// Lets the node reach the pod of a claim.
    pub(crate) async fn add_host_to_pod(
        &self,
        wanted: &PodPort,
        claim: &ClaimRecord,
        mtu: u32,
    ) -> Result<(), CallError> {
        let (Some(port), Some(first)) = (self.engine.host_to_pod_port(wanted.subnet), claim.addresses.first()) else {
            return Ok(());
        };
        let side = HostToPodSide::of(port.id, &self.sides_directory());
        let failed = CallError::file("lock what the pods of a subnet share on this node");
        let lock = self.lock_side(&side).await.map_err(failed)?;
        let mut state = self.kernel.host_to_pod(&side).await?;
        if !state.is_complete {
            state = self.make_side(&side, &port, wanted, first.address, mtu).await?;
        }
        let (mine, others): (Vec<_>, Vec<_>) =
            state.pods.into_iter().partition(|entry| entry.interface == claim.host_interface);
        let mut taken: BTreeSet<_> = others.into_iter().map(|entry| entry.address).collect();
        let mut next = None;
        for entry in mine {
            if entry.pod == first.address.ip() && next.is_none() {
                next = Some(entry);
            } else {
                // Of an earlier claim of this attachment, or a second one of a call that died.
                self.delete_entry(&side, entry).await?;
            }
        }
        loop {
            let entry = if let Some(entry) = next.take() {
                entry
            } else {
                let address = HostToPodPool::DEFAULT.allocate(claim.port, |address| taken.contains(&address));
                let address = address.ok_or_else(|| KernelError {
                    what: format!("host to pod: choose an address for {}", claim.host_interface),
                    reason: format!("{} is full", HostToPodPool::DEFAULT.network()),
                })?;
                HostToPodEntry { address, pod: first.address.ip(), interface: claim.host_interface.clone() }
            };
            self.kernel.change_host_to_pod(&side, &HostToPodChange::AddPod(entry.clone())).await?;
            let routes = HostToPodChange::AddRoutes(entry.clone(), wanted.unique);
            if self.kernel.change_host_to_pod(&side, &routes).await? {
                break;
            }
            taken.insert(entry.address);
            self.kernel.change_host_to_pod(&side, &HostToPodChange::DeletePod(entry)).await?;
        }
        lock.set_idle(false).map_err(CallError::file("note that a subnet has a pod on this node"))
    }

    /// Makes what all pods of a subnet share. Pods that it has already get their routes again.
    async fn make_side(
        &self,
        side: &HostToPodSide,
        port: &HostToPodPort,
        wanted: &PodPort,
        network: ipnetwork::Ipv4Network,
        mtu: u32,
    ) -> Result<HostToPodState, CallError> {
        for change in [HostToPodChange::Namespace, HostToPodChange::Rules, HostToPodChange::SwitchLink(port.mac, mtu)] {
            self.kernel.change_host_to_pod(side, &change).await?;
        }
        let host = &wanted.location.host;
        let needs = self.engine.plug_host_to_pod(host, port, &side.switch_end()).await?;
        if needs.checksums {
            self.kernel.change_host_to_pod(side, &HostToPodChange::ComputeChecksums).await?;
        }
        self.kernel.change_host_to_pod(side, &HostToPodChange::NodeLink(network, mtu)).await?;
        let state = self.kernel.host_to_pod(side).await?;
        for entry in &state.pods {
            let routes = HostToPodChange::AddRoutes(entry.clone(), wanted.unique);
            self.kernel.change_host_to_pod(side, &routes).await?;
        }
        Ok(state)
    }

    async fn lock_side(&self, side: &HostToPodSide) -> io::Result<SideLock> {
        let path = side_lock(side);
        make::private(&self.config.run_dir, paths::HOST_TO_POD)?;
        let mut pause = Duration::from_millis(1);
        // The caller's own deadline ends it.
        loop {
            if let Some(lock) = SideLock::try_take(&path)? {
                return Ok(lock);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// The node reaches the pod of this attachment no more. What is left is GC's.
    pub(crate) async fn delete_host_to_pod(&self, interface: &IfName) {
        let sides = match self.sides() {
            Ok(sides) => sides,
            Err(error) => return tracing::warn!(%error, "what the pods of subnets share on this node cannot be listed"),
        };
        for side in sides {
            let delete = async {
                for entry in self.kernel.host_to_pod(&side).await?.pods {
                    if entry.interface == *interface {
                        self.delete_entry(&side, entry).await?;
                    }
                }
                Ok::<_, KernelError>(())
            };
            if let Err(error) = delete.await {
                tracing::warn!(%interface, %error, "the node still has a way to the pod");
            }
        }
    }

    async fn delete_entry(&self, side: &HostToPodSide, entry: HostToPodEntry) -> Result<(), KernelError> {
        self.kernel.change_host_to_pod(side, &HostToPodChange::DeleteRoutes(entry.clone())).await?;
        self.kernel.change_host_to_pod(side, &HostToPodChange::DeletePod(entry)).await.map(drop)
    }

    /// Deletes what no attachment of this node has. A side that has no pod now, and had none at the GC before, is removed.
    pub(crate) async fn collect_host_to_pod(
        &self,
        side: &HostToPodSide,
        is_leftover: impl Fn(&IfName) -> bool,
    ) -> Result<(), CallError> {
        let failed = || CallError::file("lock what the pods of a subnet share on this node");
        // A call works on it.
        let Some(lock) = SideLock::try_take(&side_lock(side)).map_err(failed())? else { return Ok(()) };
        let (stale, used): (Vec<_>, Vec<_>) =
            self.kernel.host_to_pod(side).await?.pods.into_iter().partition(|entry| is_leftover(&entry.interface));
        for entry in stale {
            self.delete_entry(side, entry).await?;
        }
        if !used.is_empty() || !lock.is_idle().map_err(failed())? {
            return lock.set_idle(used.is_empty()).map_err(failed());
        }
        self.engine.unplug(&side.switch_end()).await?;
        self.kernel.change_host_to_pod(side, &HostToPodChange::Remove).await?;
        lock.remove().map_err(failed())
    }
}

fn side_lock(side: &HostToPodSide) -> PathBuf {
    side.netns.with_extension(paths::LOCK)
}
