//! The environment of a verb: etcd, the controller, the kernel, this node's files and the clock. Production and tests fill
//! it with different parts, and the verbs are the same.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use atoll_model::attachment::Attachment;
use atoll_model::config::Config;
use atoll_model::ids::{HostId, NodeName};
use atoll_network::{Engine, HostSide, NetworkId};
use atoll_node::attachments::{AttachmentLock, AttachmentState, AttachmentStates};
use atoll_node::files::{make, read};
use atoll_node::paths;
use atoll_node::tombstones::LocalTombstones;
use atoll_records::TombstoneRecord;
use atoll_tenant::admin::same_engine;
use atoll_tenant::{Cache, Node, identity};
use tokio::time::Instant;

use crate::call_trace::CallTrace;
use crate::error::CallError;
use crate::host_to_pod::HostToPodAddressing;
use crate::in_flight::InFlightRequests;
use crate::kernel::{Kernel, Netns, NetnsKind};
use crate::tombstone_times;

/// The ids of this machine, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct MachineIds {
    /// The id of its host in the engine.
    pub host_id: Option<HostId>,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
}

/// Makes the same plugin under another prefix of etcd.
pub type WithPrefix<S, E, K> = Box<dyn Fn(&str) -> Result<Plugin<S, E, K>, CallError>>;

/// A plugin: its configuration, servers, kernel and files.
pub struct Plugin<S, E, K> {
    /// etcd.
    pub store: S,
    /// The engine that makes networks real.
    pub engine: E,
    /// The kernel.
    pub kernel: K,
    /// The requests of `store` and `controller` that are in flight.
    pub in_flight: InFlightRequests,
    /// The configuration.
    pub config: Config,
    /// This machine.
    pub node: NodeName,
    /// Other names that this machine has had: what was made under them is its own as well.
    pub other_names: Vec<NodeName>,
    /// Other prefixes of etcd under which this machine has worked: what it made is below them still.
    pub earlier_prefixes: Vec<String>,
    /// Makes the plugin of such a prefix, which has no earlier prefixes itself.
    pub with_prefix: WithPrefix<S, E, K>,
    /// The ids of this machine.
    pub machine: MachineIds,
    /// Bindings of earlier calls.
    pub cache: Cache,
    /// Locks and progress.
    pub attachment_states: AttachmentStates,
    /// Local tombstones.
    pub local_tombstones: LocalTombstones,
    /// Seconds since 1970.
    pub clock: fn() -> u64,
    /// The call trace of this call.
    pub trace: CallTrace,
}

impl<S, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// How this node reaches its own pods.
    pub(crate) fn host_to_pod(&self) -> HostToPodAddressing<'_, E, K> {
        HostToPodAddressing::new(&self.engine, &self.kernel, &self.config.run_dir)
    }
}

impl<S, E, K: Kernel> Plugin<S, E, K> {
    /// When a request that is in flight now is certain to have been executed or lost.
    pub(crate) fn request_lifetime_end(&self) -> u64 {
        let period = self.config.max_request_lifetime.as_secs();
        // The clock has whole seconds: one more, so that none of them is cut.
        (self.clock)() + period + u64::from(period > 0)
    }

    /// The longest wait for late requests, seconds.
    pub(crate) fn max_request_lifetime(&self) -> u64 {
        self.request_lifetime_end() - (self.clock)()
    }

    /// Until when late requests may arrive, according to a tombstone; 0: none can.
    pub(crate) fn late_requests_until(&self, tombstone: &TombstoneRecord) -> u64 {
        let until = tombstone_times::late_requests_until(tombstone, (self.clock)(), self.max_request_lifetime());
        if until != 0 && until < tombstone.not_before {
            let (attachment, by) = (&tombstone.attachment, tombstone.not_before - until);
            tracing::warn!(%attachment, by, "a tombstone was written by a clock that was ahead: it waits less, by so many s");
        }
        until
    }

    /// Every name of this machine, its present one first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NodeName> {
        std::iter::once(&self.node).chain(&self.other_names)
    }

    /// Records the name and the prefix under which this machine works, if they are new.
    pub(crate) fn remember_name(&self, node: &Node) {
        if let Err(error) =
            identity::remember(&self.config.state_dir, &node.name, &node.host_id, &self.config.etcd.prefix)
        {
            tracing::warn!(%error, "the node's name and `etcd.prefix` are not remembered: they must not change");
        }
    }

    /// Waits for the attachment lock until a deadline.
    pub(crate) async fn lock(&self, attachment: &Attachment, until: Instant) -> Result<AttachmentLock, CallError> {
        got(attachment, self.attachment_states.lock(attachment, until).await)
    }

    /// The same for a call that needs not write.
    pub(crate) async fn lock_even_read_only(
        &self,
        attachment: &Attachment,
        until: Instant,
    ) -> Result<AttachmentLock, CallError> {
        got(attachment, self.attachment_states.lock_even_read_only(attachment, until).await)
    }

    /// The prefix of etcd under which an attachment was made, if its attachment state has another prefix than ours.
    pub(crate) fn made_under<'a>(&self, before: Option<&'a AttachmentState>) -> Option<&'a str> {
        let prefix = before.and_then(|before| before.prefix.as_deref());
        prefix.filter(|prefix| *prefix != self.config.etcd.prefix)
    }

    /// The plugins for this machine's earlier prefixes.
    pub(crate) fn earlier(&self) -> Result<Vec<Self>, CallError> {
        self.earlier_prefixes.iter().map(|prefix| (self.with_prefix)(prefix)).collect()
    }

    /// The error of a missed deadline: it names the stage that took longest.
    pub(crate) fn late(&self, what: impl Into<String>) -> CallError {
        CallError::Deadline { what: what.into(), limit: self.config.timeout, stage: self.trace.longest() }
    }

    /// Exists while this node may have pending cleanup. It may be lost: DEL searches without it.
    fn pending_cleanup_file(&self) -> PathBuf {
        paths::pending_cleanup(&self.config.run_dir)
    }

    /// This node may have pending cleanup.
    pub(crate) fn may_have_pending_cleanup(&self) -> bool {
        self.pending_cleanup_file().exists()
    }

    /// Notes that this node has pending cleanup for an attachment.
    pub(crate) fn note_pending_cleanup(&self, attachment: &Attachment, note: &str) {
        tracing::warn!(%attachment, note, "cleanup is pending");
        if let Err(error) = self.create_pending_cleanup_file() {
            tracing::debug!(%error, "the next ADD will not know of the pending cleanup");
        }
    }

    fn create_pending_cleanup_file(&self) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(make::PRIVATE);
        read::open_own(&self.pending_cleanup_file(), &mut options).map(drop)
    }

    /// Notes that this node has no pending cleanup.
    pub(crate) fn clear_pending_cleanup(&self) {
        if self.may_have_pending_cleanup()
            && let Err(error) = std::fs::remove_file(self.pending_cleanup_file())
        {
            tracing::debug!(%error, "the next ADD will ask once more for pending cleanup");
        }
    }
}

impl<S, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// An attachment that was made under another prefix of etcd, or with another engine, can be neither added to nor checked
    /// with this configuration.
    pub(crate) fn refuse_made_elsewhere(
        &self,
        attachment: &Attachment,
        before: Option<&AttachmentState>,
    ) -> Result<(), CallError> {
        if let Some(claim) = before.and_then(|before| before.claim.as_ref()) {
            same_engine(self.engine.name(), &claim.record.engine)?;
        }
        let Some(made) = self.made_under(before) else { return Ok(()) };
        let (attachment, ours) = (Box::new(attachment.clone()), self.config.etcd.prefix.clone());
        Err(CallError::OtherPrefix { attachment, made: made.to_owned(), ours })
    }

    /// Every namespace in which host ends can be.
    pub(crate) fn host_places(&self) -> Vec<Netns> {
        let mut places = Vec::new();
        for place in self.engine.host_sides().into_iter().map(host_place) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The namespace in which host ends of a network's pods belong if it exists, else our own.
    pub(crate) async fn host_netns(&self, network: NetworkId) -> Netns {
        match self.engine.host_side(network) {
            HostSide::NamespaceOrHost(path) => match self.kernel.kind(&path).await {
                Ok(NetnsKind::Netns) => Netns::At(path),
                _ => Netns::Own,
            },
            HostSide::Host => Netns::Own,
        }
    }
}

/// The namespace of a host side.
pub(crate) fn host_place(side: HostSide) -> Netns {
    match side {
        HostSide::NamespaceOrHost(path) => Netns::At(path),
        HostSide::Host => Netns::Own,
    }
}

fn got(attachment: &Attachment, locked: io::Result<Option<AttachmentLock>>) -> Result<AttachmentLock, CallError> {
    let lock = locked.map_err(CallError::file("lock the attachment"))?;
    lock.ok_or_else(|| CallError::Locked(Box::new(attachment.clone())))
}
