//! Host-to-pod addressing where the plugin makes it: how this node reaches its own pods although tenants' addresses overlap.
//!
//! | verb | what |
//! |---|---|
//! | ADD | makes what all pods of a subnet share, if it is not complete; then an address for the pod, and its routes |
//! | DEL | deletes the pod's |
//! | CHECK | compares the pod's |
//! | GC | deletes what no attachment has, and what was without pods twice |
//!
//! # Guarantees
//! * The translation of an address names its attachment. It is made before the routes to the address, and goes after them: a
//!   route is never without an owner.
//! * The node's route to an address decides which pod has it. Two subnets that choose the same one do not both get it. No pod
//!   gets an address that the machine has, or routes elsewhere.
//! * What a subnet's pods share is made and removed under a lock, and pods are added under it. A file exists before anything
//!   else of a subnet is made, and goes last.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::host_to_pod::{allocate_like, nodes_like, pool_like};
use atoll_model::ids::IfName;
use atoll_network::{Engine, HostToPodPort, PodPort, SubnetId};
use atoll_node::files::{lock, make, read};
use atoll_node::paths;
use ipnetwork::IpNetwork;
use uuid::Uuid;

use crate::error::CallError;
use crate::kernel::{
    HostToPodChange, HostToPodEntry, HostToPodRoute, HostToPodSide, HostToPodState, Kernel, KernelError,
};

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

/// Host-to-pod addressing of this node.
pub struct HostToPodAddressing<'a, E, K> {
    engine: &'a E,
    kernel: &'a K,
    run_dir: &'a Path,
}

impl<'a, E: Engine, K: Kernel> HostToPodAddressing<'a, E, K> {
    /// That of this engine and kernel, with its files below `run_dir`.
    pub fn new(engine: &'a E, kernel: &'a K, run_dir: &'a Path) -> Self {
        Self { engine, kernel, run_dir }
    }

    /// The side of a subnet; none: the engine has none.
    pub fn side(&self, subnet: SubnetId) -> Option<HostToPodSide> {
        Some(self.side_of(&self.engine.host_to_pod_port(subnet)?))
    }

    fn side_of(&self, port: &HostToPodPort) -> HostToPodSide {
        HostToPodSide::of(port.id, &paths::host_to_pod(self.run_dir))
    }

    /// Every side of this node.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn sides(&self) -> io::Result<Vec<HostToPodSide>> {
        let directory = paths::host_to_pod(self.run_dir);
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

    /// Lets the node reach the pod of a port: its first address in each of these networks of its subnet.
    ///
    /// # Errors
    /// The kernel's, the engine's or the file system's. An address of the pool that all pods share is the machine's own.
    pub async fn add(&self, wanted: &PodPort, networks: &[IpNetwork], mtu: u32) -> Result<(), CallError> {
        let Some(port) = self.engine.host_to_pod_port(wanted.subnet) else { return Ok(()) };
        let side = self.side_of(&port);
        let failed = CallError::file("lock what the pods of a subnet share on this node");
        let lock = self.lock_side(&side).await.map_err(failed)?;
        let mut state = self.kernel.host_to_pod(&side).await?;
        if !state.is_complete {
            state = self.make_side(&side, &port, wanted, networks, mtu).await?;
        }
        let first_in =
            |network: &IpNetwork| wanted.addresses.iter().copied().find(|address| network.contains(*address));
        let pods: Vec<IpAddr> = networks.iter().filter_map(first_in).collect();
        let (mine, others): (Vec<_>, Vec<_>) =
            state.pods.into_iter().partition(|entry| entry.interface == wanted.location.interface);
        let mut taken: Vec<IpNetwork> = others.into_iter().map(|entry| entry.address.into()).collect();
        let mut kept = BTreeMap::new();
        for entry in mine {
            if pods.contains(&entry.pod) && !kept.contains_key(&entry.pod) {
                kept.insert(entry.pod, entry);
            } else {
                // Of an earlier claim of this attachment, or a second one of a call that died.
                self.delete_entry(&side, entry).await?;
            }
        }
        for pod in pods {
            let mut next = kept.remove(&pod);
            loop {
                let entry = match next.take() {
                    Some(entry) => entry,
                    None => self.choose(wanted, pod, &mut taken).await?,
                };
                self.kernel.change_host_to_pod(&side, &HostToPodChange::AddPod(entry.clone())).await?;
                let routes = HostToPodChange::AddRoutes(entry.clone(), wanted.unique);
                if self.kernel.change_host_to_pod(&side, &routes).await? {
                    break;
                }
                taken.push(entry.address.into());
                self.kernel.change_host_to_pod(&side, &HostToPodChange::DeletePod(entry)).await?;
            }
        }
        lock.set_idle(false).map_err(CallError::file("note that a subnet has a pod on this node"))
    }

    /// An address for a pod: none of those that are taken, and none that the machine has or routes elsewhere.
    async fn choose(
        &self,
        wanted: &PodPort,
        pod: IpAddr,
        taken: &mut Vec<IpNetwork>,
    ) -> Result<HostToPodEntry, KernelError> {
        loop {
            let is_taken = |address| taken.iter().any(|network| network.contains(address));
            let interface = wanted.location.interface.clone();
            let address = allocate_like(pod, wanted.id, is_taken).ok_or_else(|| KernelError {
                what: format!("host to pod: choose an address for {interface}"),
                reason: format!("each one of {} is another pod's, or routed elsewhere by this machine", pool_like(pod)),
            })?;
            match self.kernel.host_to_pod_route(address).await? {
                Some(HostToPodRoute::Elsewhere(network)) => taken.push(network),
                _ => return Ok(HostToPodEntry { address, pod, interface }),
            }
        }
    }

    /// Makes what all pods of a subnet share. Pods that it has already get their routes again.
    async fn make_side(
        &self,
        side: &HostToPodSide,
        port: &HostToPodPort,
        wanted: &PodPort,
        networks: &[IpNetwork],
        mtu: u32,
    ) -> Result<HostToPodState, CallError> {
        for address in networks.iter().flat_map(|network| nodes_like(network.ip())) {
            if let Some(HostToPodRoute::Elsewhere(network)) = self.kernel.host_to_pod_route(address).await? {
                let what = format!("host to pod: use {address} for this node");
                let reason = format!("this machine routes {network} elsewhere; give that another network");
                return Err(KernelError { what, reason }.into());
            }
        }
        for change in [HostToPodChange::Namespace, HostToPodChange::Rules, HostToPodChange::SwitchLink(port.mac, mtu)] {
            self.kernel.change_host_to_pod(side, &change).await?;
        }
        let host = &wanted.location.host;
        let needs = self.engine.plug_host_to_pod(host, port, &side.switch_end()).await?;
        if needs.checksums {
            self.kernel.change_host_to_pod(side, &HostToPodChange::ComputeChecksums).await?;
        }
        self.kernel.change_host_to_pod(side, &HostToPodChange::NodeLink(networks.to_vec(), mtu)).await?;
        let state = self.kernel.host_to_pod(side).await?;
        for entry in &state.pods {
            let routes = HostToPodChange::AddRoutes(entry.clone(), wanted.unique);
            self.kernel.change_host_to_pod(side, &routes).await?;
        }
        Ok(state)
    }

    async fn lock_side(&self, side: &HostToPodSide) -> io::Result<SideLock> {
        let path = side_lock(side);
        make::private(self.run_dir, paths::HOST_TO_POD)?;
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

    /// The node reaches the pod of this attachment no more. Only the side of its subnet is changed; if that is not known, every
    /// side. What is left is GC's.
    pub async fn delete(&self, interface: &IfName, subnet: Option<SubnetId>) {
        let sides = match subnet.and_then(|subnet| self.side(subnet)) {
            Some(side) => Ok(vec![side]),
            None => self.sides(),
        };
        let sides = match sides {
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

    /// Deletes what no attachment of this node has. A side that has no pod now, and had none at the call before, is removed.
    ///
    /// # Errors
    /// The kernel's, the engine's or the file system's.
    pub async fn collect(&self, side: &HostToPodSide, is_leftover: impl Fn(&IfName) -> bool) -> Result<(), CallError> {
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

    /// What an attachment's way from the node lacks, in sentences. `pod`: the pod's own address.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn check(&self, subnet: SubnetId, interface: &IfName, pod: IpAddr) -> Result<Vec<String>, KernelError> {
        let Some(side) = self.side(subnet) else { return Ok(Vec::new()) };
        let state = self.kernel.host_to_pod(&side).await?;
        let netns = side.netns.display();
        if !state.is_complete {
            return Ok(vec![format!("its node does not reach it: {netns} or its link {} is missing", side.node_end())]);
        }
        let Some(entry) = state.pods.iter().find(|entry| entry.interface == *interface && entry.pod == pod) else {
            return Ok(vec![format!(
                "its node does not reach it: the map in {netns} has no element for {pod} of {interface}"
            )]);
        };
        let (address, end) = (entry.address, side.node_end());
        Ok(match self.kernel.host_to_pod_route(address).await? {
            Some(HostToPodRoute::Side(found)) if found == end => Vec::new(),
            Some(HostToPodRoute::Side(found)) => {
                vec![format!("the node's route to {address} is by {found}, expected {end}")]
            }
            Some(HostToPodRoute::Elsewhere(network)) => {
                vec![format!("this machine routes {network}, so {address} does not lead to the pod, expected by {end}")]
            }
            None => vec![format!("the node's route to {address} by {end} is missing")],
        })
    }
}

fn side_lock(side: &HostToPodSide) -> PathBuf {
    side.netns.with_extension(paths::LOCK)
}
