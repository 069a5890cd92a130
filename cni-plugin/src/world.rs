//! Everything a verb touches: the seams, this node's files, the clock. A test makes a world of fakes, the plugin one of
//! real parts, and the verbs cannot tell.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use atoll_model::attachment::Attachment;
use atoll_model::config::Config;
use atoll_model::ids::NodeName;
use atoll_node::files::{make, read};
use atoll_node::paths;
use atoll_records::TombstoneRecord;
use atoll_tenant::{Cache, Node, identity};
use uuid::Uuid;

use crate::course::Course;
use crate::due;
use crate::error::Error;
use crate::graves::Graves;
use crate::journal::{Journals, Progress};
use crate::tally::Tally;
use crate::wire::{Netns, NetnsKind, Wire};

/// What tells this machine from others, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The id of the controller's agent.
    pub host_id: Option<Uuid>,
    /// `/etc/machine-id`; empty where there is none.
    pub machine_id: String,
}

/// Makes the same world under another prefix of etcd.
pub type Under<S, C, W> = Box<dyn Fn(&str) -> Result<World<S, C, W>, Error>>;

/// See the module.
pub struct World<S, C, W> {
    /// etcd.
    pub store: S,
    /// The SDN controller.
    pub controller: C,
    /// The kernel.
    pub wire: W,
    /// Which requests of `store` and `controller` may still be on their way.
    pub tally: Tally,
    /// The configuration.
    pub config: Config,
    /// This machine.
    pub node: NodeName,
    /// Other names that this machine has had: what was made under them is its own as well.
    pub other_names: Vec<NodeName>,
    /// Other prefixes of etcd under which this machine has worked: what it made is below them still.
    pub earlier_prefixes: Vec<String>,
    /// How to get there. A world that was reached so leads no further.
    pub under: Under<S, C, W>,
    /// What tells it from other machines.
    pub machine: Machine,
    /// What it remembers.
    pub cache: Cache,
    /// Locks and progress.
    pub journals: Journals,
    /// Local tombstones.
    pub graves: Graves,
    /// Seconds since 1970.
    pub clock: fn() -> u64,
    /// The course of this call.
    pub course: Course,
}

impl<S, C, W: Wire> World<S, C, W> {
    /// When a request that is on its way now is certain to have been executed or lost.
    pub(crate) fn quiet(&self) -> u64 {
        let period = self.config.quiet_period.as_secs();
        // The clock has whole seconds: one more, so that none of them is cut.
        (self.clock)() + period + u64::from(period > 0)
    }

    /// The longest time for which anything waits for late requests, seconds.
    pub(crate) fn longest_wait(&self) -> u64 {
        self.quiet() - (self.clock)()
    }

    /// Until when a tombstone says that late requests may arrive; 0: none can.
    pub(crate) fn unsettled_until(&self, tombstone: &TombstoneRecord) -> u64 {
        let until = due::unsettled_until(tombstone, (self.clock)(), self.longest_wait());
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

    /// Writes down the name and the prefix under which this machine works, if that is news.
    pub(crate) fn remember_name(&self, node: &Node) {
        if let Err(error) =
            identity::remember(&self.config.state_dir, &node.name, node.host_id, &self.config.etcd.prefix)
        {
            tracing::warn!(%error, "the node's name and `etcd.prefix` are not remembered: they must not change");
        }
    }

    /// The prefix of etcd under which an attachment was made, if its progress file says that it is another than ours.
    pub(crate) fn made_under<'a>(&self, before: Option<&'a Progress>) -> Option<&'a str> {
        let prefix = before.and_then(|before| before.prefix.as_deref());
        prefix.filter(|prefix| *prefix != self.config.etcd.prefix)
    }

    /// What was made under another prefix of etcd is nothing that this configuration can add to or look at.
    pub(crate) fn refuse_made_elsewhere(
        &self,
        attachment: &Attachment,
        before: Option<&Progress>,
    ) -> Result<(), Error> {
        let Some(made) = self.made_under(before) else { return Ok(()) };
        let (attachment, ours) = (Box::new(attachment.clone()), self.config.etcd.prefix.clone());
        Err(Error::OtherPrefix { attachment, made: made.to_owned(), ours })
    }

    /// The worlds under this machine's earlier prefixes.
    pub(crate) fn earlier(&self) -> Result<Vec<Self>, Error> {
        self.earlier_prefixes.iter().map(|prefix| (self.under)(prefix)).collect()
    }

    /// The deadline passed: the error that tells where the time went.
    pub(crate) fn late(&self, what: impl Into<String>) -> Error {
        Error::Deadline { what: what.into(), limit: self.config.timeout, stage: self.course.longest() }
    }

    /// Where the local data plane keeps its routers.
    pub(crate) fn routers(&self) -> PathBuf {
        paths::router_namespaces(&self.config.run_dir)
    }

    /// Every namespace in which host ends can be: our own, and those of the local data plane's routers.
    pub(crate) fn host_places(&self) -> Vec<Netns> {
        let is_router = |name: &str| Uuid::try_parse(name).is_ok();
        let routers = read::names(&self.routers(), is_router).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %self.routers().display(), "the routers' namespaces cannot be listed");
            vec![]
        });
        let routers = routers.into_iter().map(|name| Netns::At(self.routers().join(name)));
        std::iter::once(Netns::Own).chain(routers).collect()
    }

    /// Where host ends of a router's pods belong: in the router's own namespace if the local data plane has made one.
    pub(crate) async fn host_netns(&self, router: Uuid) -> Netns {
        let path = paths::router_namespace(&self.config.run_dir, router);
        match self.wire.kind(&path).await {
            Ok(NetnsKind::Netns) => Netns::At(path),
            _ => Netns::Own,
        }
    }

    /// Exists while this node may have cleanup to do. It may be lost: DEL looks without it.
    fn owed_file(&self) -> PathBuf {
        paths::pending_cleanup(&self.config.run_dir)
    }

    /// This node may owe something.
    pub(crate) fn may_owe(&self) -> bool {
        self.owed_file().exists()
    }

    /// Remembers that this node owes something for an attachment.
    pub(crate) fn owes(&self, attachment: &Attachment, note: &str) {
        tracing::warn!(%attachment, note, "left for later");
        if let Err(error) = self.remember_owing() {
            tracing::debug!(%error, "the next ADD will not know that something is owed");
        }
    }

    fn remember_owing(&self) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(make::PRIVATE);
        read::open_own(&self.owed_file(), &mut options).map(drop)
    }

    /// This node owes nothing.
    pub(crate) fn owes_nothing(&self) {
        if self.may_owe()
            && let Err(error) = std::fs::remove_file(self.owed_file())
        {
            tracing::debug!(%error, "the next ADD will look once more whether something is owed");
        }
    }
}
