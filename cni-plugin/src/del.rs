//! DEL: after it the interface is gone, and the rest is done or durably written down.
//!
//! It succeeds when it was never added, when it is repeated, when the namespace is gone or not told, when controller or
//! etcd is down. It fails when another call holds the lock, when the kernel refuses, or when not even a local file can
//! be written: in these cases something could be lost, and the runtime calls again.
//!
//! What the configuration names may have changed since the ADD. The progress file says under which prefix of etcd the claim
//! is; without one, the other names of this machine and its earlier prefixes are searched before "not found" means "done".

use std::path::PathBuf;
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_records::TombstoneRecord;
use atoll_store::Store;
use atoll_tenant::controller::Controller;
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};

use crate::detach::{Announce, Known, Limits};
use crate::error::Error;
use crate::journal::{Journal, Progress, State};
use crate::wire::{NetnsKind, Wire};
use crate::world::World;

/// How long controller and etcd may take to answer before the rest is left for later.
const REQUESTS: Duration = Duration::from_secs(1);
/// How long etcd may take, counted from the same moment, to record the end.
const RECORDS: Duration = Duration::from_millis(1600);
/// How long tombstones of earlier calls may be worked on, counted from the same moment.
const DRAIN: Duration = Duration::from_millis(1500);

/// Whether anything was known of what was taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Known,
    /// Nothing was found, or nothing says that what was found is all: it may be recorded elsewhere.
    Unknown,
}

/// What a DEL is asked.
#[derive(Clone, Debug)]
pub struct DelCall {
    /// Who.
    pub attachment: Attachment,
    /// `CNI_NETNS`, if there was one.
    pub sandbox: Option<String>,
    /// The caller insists on its own namespace.
    pub own_netns: bool,
}

impl<S: Store, C: Controller, W: Wire> World<S, C, W> {
    /// Detaches a container.
    pub async fn del(&self, call: &DelCall) -> Result<(), Error> {
        let attachment = &call.attachment;
        let (pod_netns, kind) = self.pod_netns(call.sandbox.as_deref()).await;
        if let Some(path) = pod_netns.as_ref().filter(|_| kind == NetnsKind::OurOwn && !call.own_netns) {
            return Err(Error::OwnNetns(path.clone()));
        }
        let until = Instant::now() + self.config.timeout;
        let lock = self.course.stage("lock", self.journals.lock_anyhow(attachment, until));
        let lock = lock.await.map_err(Error::file("lock the attachment"))?;
        let journal = lock.ok_or_else(|| Error::Locked(Box::new(attachment.clone())))?;
        let now = Instant::now();
        let limits = Limits { requests: now + REQUESTS, records: now + RECORDS };
        // Tombstones of others are settled behind the kernel's wait. Ours is locked, so it is not among them.
        let drain = self.course.stage("tombstones", self.drain(now + DRAIN));
        let taken = self.take_apart(attachment, journal, pod_netns.as_ref(), limits);
        let (taken, ()) = join(taken, drain).await;
        if taken? == Taken::Unknown {
            self.detach_namesakes(attachment, pod_netns.as_ref(), limits).await?;
            for world in self.earlier()? {
                tracing::warn!(%attachment, prefix = world.config.etcd.prefix, "looking under an earlier etcd.prefix");
                let journal = world.lock_within(attachment, limits).await?;
                if world.take_apart(attachment, journal, pod_netns.as_ref(), limits).await? == Taken::Unknown {
                    world.detach_namesakes(attachment, pod_netns.as_ref(), limits).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes an attachment apart whose lock is held, under the prefix of etcd under which it was made, and removes its file.
    async fn take_apart(
        &self,
        attachment: &Attachment,
        journal: Journal,
        pod_netns: Option<&PathBuf>,
        limits: Limits,
    ) -> Result<Taken, Error> {
        let before = journal.before();
        let there = self.made_under(before).map(|prefix| (self.under)(prefix)).transpose()?;
        let world = there.as_ref().unwrap_or(self);
        let known = Known { pod_netns: pod_netns.cloned(), ..world.known(attachment, before) };
        let outcome = world.detach(attachment, Announce::Here(&journal), &known, limits).await;
        outcome.link?;
        outcome.rest?;
        // A file that cannot be read does not say under which prefix, either.
        let is_unknown = outcome.was_unknown || before.is_some_and(|before| before.prefix.is_none());
        journal.remove().map_err(Error::file("remove the progress file"))?;
        Ok(if is_unknown { Taken::Unknown } else { Taken::Known })
    }

    async fn lock_within(&self, attachment: &Attachment, limits: Limits) -> Result<Journal, Error> {
        let lock = self.journals.lock_anyhow(attachment, limits.requests).await;
        let lock = lock.map_err(Error::file("lock the attachment"))?;
        lock.ok_or_else(|| Error::Locked(Box::new(attachment.clone())))
    }

    /// Takes apart what this machine made for the same container and interface under another name of the node or of the
    /// network: to find nothing under the present names does not mean that there is nothing.
    async fn detach_namesakes(
        &self,
        attachment: &Attachment,
        pod_netns: Option<&PathBuf>,
        limits: Limits,
    ) -> Result<(), Error> {
        let looking = timeout_at(limits.requests, self.namesakes(attachment));
        for other in self.course.stage("other names", looking).await.unwrap_or_else(|_| self.namesakes_here(attachment))
        {
            tracing::warn!(%attachment, as = %other, "it was made under another name of this node or its network");
            let journal = self.lock_within(&other, limits).await?;
            self.take_apart(&other, journal, pod_netns, limits).await?;
        }
        Ok(())
    }

    /// What this node knows of an attachment whose lock is held.
    pub(crate) fn known(&self, attachment: &Attachment, before: Option<&Progress>) -> Known {
        let grave = self.graves.get(attachment);
        let died = before.is_some_and(|progress| progress.state == State::Adding);
        let unsettled = [
            if died { self.quiet() } else { 0 },
            // Nothing is ever written down that lies further ahead, unless by a clock that was ahead.
            before.map_or(0, |progress| progress.unsettled_until.min(self.quiet())),
            grave.as_ref().map_or(0, |grave| self.unsettled_until(grave)),
        ];
        Known {
            progress: before.cloned(),
            pod_netns: None,
            port: grave.as_ref().and_then(|grave| grave.port),
            unsettled_until: unsettled.into_iter().max().unwrap_or(0),
            buried_here: grave.is_some(),
            closing: before.is_some_and(|before| before.closing)
                || grave.as_ref().is_some_and(TombstoneRecord::is_closing),
            has_no_port: false,
        }
    }
}
