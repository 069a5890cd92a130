//! ADD: the container has its interface, its address and its port, or it has nothing.
//!
//! | module | what |
//! |---|---|
//! | `call` | what an ADD is asked |
//! | `adding` | what one ADD knows while it runs |
//! | `refuse` | refusals by routes |
//! | `claim` | claiming an address, or taking over the claim that exists |
//! | `port` | the port: it exists, is bound, and its packets flow |
//! | `interface` | the veth pair, addresses, routes, policy rules |
//! | `routes` | which routes an attachment has. Pure |
//! | `undo` | undoing a failed ADD |
//!
//! **Fences.** An ADD that died may have in-flight requests: a claim, a new port. They cannot be called back. A call that finds
//! the attachment state at `adding` therefore assumes that late requests of the attachment may arrive during the maximum
//! request lifetime, the longest time a server may still execute a request.
//! * A DEL in that time deletes interface and port, puts a fence in etcd and keeps the claim. A late claim loses against the
//!   fence or the claim that is there. A late port is deleted when the fence is resolved, after the maximum request lifetime,
//!   and only then is the address released: no port can send with an address that another pod has got.
//! * An ADD in that time may go on: it wants the same claim, port and interface, which are derived from the attachment, so that
//!   a late request of its predecessor does what this one does. It supersedes the fence in the transaction that claims. If a
//!   DEL follows within the maximum request lifetime, that late port could still come after the DEL. So the time is kept in
//!   the attachment state, which is written before the fence is superseded, and that DEL puts a fence again.
//! * An ADD that fails knows by the [`InFlightRequests`](crate::in_flight::InFlightRequests) whether all its requests were
//!   answered. If so, it cleans up at once and leaves nothing. If not, it does what the DEL of a dead ADD does.
//!
//! **A deletion in flight.** A DEL that died may have left one: the attachment state or a tombstone records it (`detach`). The ADD
//! then gives the claim a port of another id before it makes one, and waits first if a request of an earlier ADD could still
//! make the port before it.

mod adding;
mod call;
mod claim;
mod interface;
pub(crate) mod port;
mod refuse;
pub(crate) mod routes;
mod undo;

use std::path::PathBuf;
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_model::cni::result::AddResult;
use atoll_model::config::DnsConfig;
use atoll_network::{Engine, EngineError, EngineFailure};
use atoll_node::attachments::AddPhase;
use atoll_records::ClaimRecord;
use atoll_store::Store;
use atoll_tenant::Admission;
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};

use self::adding::Adding;
pub use self::call::AddCall;
use crate::error::CallError;
use crate::kernel::{Kernel, Netns, NetnsKind};
use crate::plugin::Plugin;

/// At most this much of the deadline is kept back for undoing.
const RESERVE: Duration = Duration::from_secs(5);
/// How long pending cleanup of earlier calls may be retried.
const RETRY: Duration = Duration::from_secs(1);

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Attaches a container.
    pub async fn add(&self, call: &AddCall) -> Result<AddResult, CallError> {
        let deadline = Instant::now() + self.config.timeout;
        let had_interface = self.refuse_foreign(call).await?;
        let mtu = self.mtu().await?;
        let lock = self.trace.stage("lock", self.lock(&call.attachment, deadline)).await?;
        self.refuse_made_elsewhere(&call.attachment, lock.before())?;
        let mut adding = Adding::new(self, call, lock, had_interface, mtu);
        let reserve = RESERVE.min(self.config.timeout / 4);
        let late = || Err(self.late(format!("ADD of {}", call.attachment)));
        match timeout_at(deadline - reserve, adding.work(deadline - reserve)).await.unwrap_or_else(|_| late()) {
            Ok(attached) => {
                if self.may_have_pending_cleanup() {
                    self.trace.stage("tombstones", self.retry_pending_cleanup(Instant::now() + RETRY)).await;
                }
                Ok(attached)
            }
            Err(error) => {
                tracing::warn!(attachment = %call.attachment, error = &error as &dyn std::error::Error, "undoing");
                self.trace.stage("undo", adding.undo(deadline)).await;
                Err(error)
            }
        }
    }

    /// Checks before any effect. True: the interface is there and ours.
    async fn refuse_foreign(&self, call: &AddCall) -> Result<bool, CallError> {
        let path = PathBuf::from(&call.sandbox);
        match self.kernel.kind(&path).await? {
            NetnsKind::Gone => return Err(CallError::NetnsGone(path)),
            NetnsKind::NotANetns => return Err(CallError::NotANetns(path)),
            NetnsKind::OurOwn if !call.own_netns => return Err(CallError::OwnNetns(path)),
            NetnsKind::OurOwn | NetnsKind::Netns => {}
        }
        let Attachment { interface, .. } = &call.attachment;
        match self.kernel.inspect(&Netns::At(path.clone()), interface).await? {
            None => Ok(false),
            Some(link) if link.is_pod_end(&call.attachment) => Ok(true),
            Some(_) => Err(CallError::Foreign { netns: path, interface: interface.clone() }),
        }
    }
}

impl<S: Store, E: Engine, K: Kernel> Adding<'_, S, E, K> {
    async fn work(&mut self, until: Instant) -> Result<AddResult, CallError> {
        self.note()?;
        let trace = &self.plugin.trace;
        let mut admission = trace.stage("tenant", Admission::begin(self.resolver(), self.who.clone())).await?;
        trace.set_tenant(&admission.binding().tenant.record.name);
        self.refuse_routes_anywhere(admission.binding())?;
        // The cluster has accepted the name: objects that are made under it must be found even if the host is renamed.
        self.plugin.remember_name(&self.call.node);
        self.began = Some(self.plugin.in_flight.checkpoint());
        let claim = trace.stage("claim", self.claim(&mut admission, until)).await?;
        let binding = admission.into_binding();
        // At once: from here on there is a claim to undo.
        self.state.claim = Some(claim.clone());
        // The port of this claim is another one than those that may be deleted late.
        self.state.deletion_sent = false;
        let tenants_dns = binding.tenant.record.dns.clone();
        let host_netns = self.plugin.host_netns(binding.network()).await;
        self.state.host_netns = Some(host_netns.clone());
        self.note()?;
        self.refuse_routes(&claim.record)?;
        if self.waits_for_deletions(&claim.record) {
            let until_then = claim.record.deletions_until.min(self.plugin.request_lifetime_end());
            trace.stage("late requests", self.wait_for(until_then, until)).await?;
        }

        let stale_interface = self.is_new && self.had_interface;
        let interface = self.plug_in(&binding, &claim.record, host_netns, stale_interface);
        // Await both even if one fails: if the other future were dropped, its outcome would be unknown.
        let port = trace.stage("port", self.open_port(&binding, &claim.record));
        let (port, interface) = join(port, trace.stage("interface", interface)).await;
        interface?;
        let port = match port {
            Err(error) if self.is_first() && is_conflict(&error) => {
                trace.stage("port", self.replace_port(&binding, &claim.record)).await
            }
            port => port,
        };
        let (wanted, state) = port?;
        trace.stage("packets", self.wait_for_packets(&wanted, state, until)).await?;
        trace.stage("announce", self.announce()).await;

        // The attachment is live now: what an earlier DEL left in a file is no longer pending.
        self.plugin
            .local_tombstones
            .remove(&self.call.attachment)
            .map_err(CallError::file("remove a local tombstone"))?;
        self.state.phase = AddPhase::Done;
        self.note()?;
        Ok(self.attached(&claim.record, tenants_dns))
    }

    fn attached(&self, claim: &ClaimRecord, tenants_dns: Option<DnsConfig>) -> AddResult {
        // The pod and its node know better than the tenant.
        let dns = Some(self.call.dns.clone()).filter(|dns| *dns != DnsConfig::default());
        AddResult {
            interface: self.call.attachment.interface.clone(),
            mac: claim.mac,
            mtu: self.mtu,
            sandbox: self.call.sandbox.clone(),
            host_interface: claim.host_interface.clone(),
            addresses: claim.addresses.iter().map(|a| (a.address, a.gateway)).collect(),
            routes: self.routes(claim),
            dns: dns.or(tenants_dns).unwrap_or_default(),
        }
    }
}

/// The port is there and not as it should be.
fn is_conflict(error: &CallError) -> bool {
    matches!(error, CallError::Controller(EngineError { failure: EngineFailure::Conflict, .. }))
}
