//! CHECK: is the attachment as its ADD left it? CNI SPEC 1.1.0, section "CHECK".
//!
//! It looks at the claim, the interface, its addresses and routes, the host end and the port, side by side, and compares
//! them with each other and with `prevResult`. It changes nothing, and what others added to the pod is no affair of ours.

mod compare;

use std::path::PathBuf;
use std::time::Duration;

use atoll_records::{AddressRecord, ClaimRecord, ClusterRecord, Query, TenantRecord};

use atoll_ipam::{IpamError, find};
use atoll_model::attachment::Attachment;
use atoll_model::cni::previous::Previous;
use atoll_model::cni::request::Pod;
use atoll_model::derive::{self, Role};
use atoll_store::Store;
use atoll_tenant::controller::{Controller, PortState};
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::error::Error;
use crate::journal::Progress;
use crate::ways;
use crate::wire::{FoundRoute, Link, Netns, NetnsKind, SourceRule, Wire, WireError};
use crate::world::World;

/// At most this much of the deadline is kept back for what needs no server.
const RESERVE: Duration = Duration::from_secs(1);

/// What a CHECK is asked.
#[derive(Clone, Debug)]
pub struct CheckCall {
    /// Who.
    pub attachment: Attachment,
    /// The pod, as far as the runtime says so.
    pub pod: Pod,
    /// `CNI_NETNS`, verbatim.
    pub sandbox: String,
    /// What the chain made.
    pub previous: Previous,
    /// The caller insists on its own namespace.
    pub own_netns: bool,
    /// The agent's id of this node.
    pub host_id: Uuid,
}

/// What etcd says.
#[derive(Debug, Default)]
struct Records {
    claim: Option<ClaimRecord>,
    /// Something is owed for the attachment.
    is_buried: bool,
    /// Who has the claim's addresses, in their order.
    owners: Vec<Option<AddressRecord>>,
    tenant: Option<TenantRecord>,
    cluster: Option<ClusterRecord>,
}

/// What the kernel says.
#[derive(Debug, Default)]
struct Seen {
    pod_end: Option<Link>,
    /// What the pod's end is called, when it is not called as it should be.
    renamed: Option<String>,
    routes: Vec<FoundRoute>,
    /// Rules by source; looked for only where the interface has some.
    rules: Vec<SourceRule>,
    host_end: Option<(Netns, Link)>,
    /// `prevResult` names the same namespace as the call, in whatever words.
    is_sandbox: bool,
}

impl<S: Store, C: Controller, W: Wire> World<S, C, W> {
    /// Compares an attachment with what it should be.
    pub async fn check(&self, call: &CheckCall) -> Result<(), Error> {
        let deadline = Instant::now() + self.config.timeout;
        let path = PathBuf::from(&call.sandbox);
        match self.wire.kind(&path).await? {
            NetnsKind::Gone => return Err(Error::NetnsGone(path)),
            NetnsKind::NotANetns => return Err(Error::NotANetns(path)),
            NetnsKind::OurOwn if !call.own_netns => return Err(Error::OwnNetns(path)),
            NetnsKind::OurOwn | NetnsKind::Netns => {}
        }
        let attachment = &call.attachment;
        let lock = self.course.stage("lock", self.journals.lock_anyhow(attachment, deadline));
        let lock = lock.await.map_err(Error::file("lock the attachment"))?;
        let journal = lock.ok_or_else(|| Error::Locked(Box::new(attachment.clone())))?;
        // The servers get less, so that what this machine shows can still be told.
        let reserve = RESERVE.min(self.config.timeout / 4);
        let checked = match self.refuse_made_elsewhere(attachment, journal.before()) {
            Ok(()) => timeout_at(deadline, self.compare(call, journal.before(), deadline - reserve)).await,
            Err(error) => Ok(Err(error)),
        };
        let checked = checked.unwrap_or_else(|_| Err(self.late(format!("CHECK of {attachment}"))));
        journal.release().map_err(Error::file("remove the lock file"))?;
        checked
    }

    async fn compare(&self, call: &CheckCall, before: Option<&Progress>, until: Instant) -> Result<(), Error> {
        let attachment = &call.attachment;
        let mtu = self.mtu().await?;
        let claim = before.and_then(|before| before.claim.as_ref()).map(|claim| &claim.record);
        let host_netns = before.and_then(|before| before.host_netns.clone());
        let asked = timeout_at(until, self.ask(attachment, claim));
        let (asked, seen) = join(asked, self.course.stage("interface", self.look(call, host_netns))).await;
        let seen = seen?;
        let asked = asked.unwrap_or_else(|_| Err(self.late(format!("CHECK of {attachment}"))));
        let routes = &self.config.routes;
        let differences = match &asked {
            Ok((records, port)) => differences(call, routes, mtu, records, &seen, port.as_ref()),
            // What this machine itself shows needs no server.
            Err(_) => differences_here(call, routes, mtu, claim, &seen),
        };
        if !differences.is_empty() {
            return Err(Error::NotAsLeft { attachment: Box::new(attachment.clone()), differences });
        }
        asked.map(drop)
    }

    /// What etcd and the controller say, side by side as far as possible.
    async fn ask(
        &self,
        attachment: &Attachment,
        claim: Option<&ClaimRecord>,
    ) -> Result<(Records, Option<PortState>), Error> {
        let remembered = claim.map(|claim| claim.port);
        let guessed = remembered.or_else(|| self.cache.cluster_id().map(|cluster| attachment.port(cluster)));
        let early = async {
            match guessed {
                Some(port) => self.controller.port(port).await.map(Some),
                None => Ok(None),
            }
        };
        let (records, early) =
            join(self.course.stage("records", self.records(attachment)), self.course.stage("port", early)).await;
        let records = records?;
        let port = match (&records.claim, early?) {
            (None, _) => None,
            (Some(claim), Some(port)) if guessed == Some(claim.port) => port,
            (Some(claim), _) => self.course.stage("port", self.controller.port(claim.port)).await?,
        };
        Ok((records, port))
    }

    /// The claim, then everything that it names, at one revision.
    async fn records(&self, attachment: &Attachment) -> Result<Records, IpamError> {
        let found = find(&self.store, attachment).await?;
        let is_buried = found.tombstone.is_some();
        let Some(claim) = found.claim.map(|claim| claim.record) else {
            return Ok(Records { is_buried, ..Records::default() });
        };
        let (cluster, tenant) = (ClusterRecord::at(), TenantRecord::at(&claim.tenant));
        let addresses = claim.addresses.iter();
        let addresses: Vec<_> =
            addresses.map(|held| AddressRecord::at(&claim.tenant, held.ordinal, held.address.ip())).collect();
        let mut queries = vec![Query::key(&cluster), Query::key(&tenant)];
        queries.extend(addresses.iter().map(Query::key));
        let snapshot = self.store.read(queries).await.map_err(|source| {
            // In the words of every other read of an attachment.
            IpamError::Store { object: attachment.to_string(), source }
        })?;
        let owner = |key| Ok(snapshot.get(key)?.map(|owner| owner.record));
        Ok(Records {
            is_buried,
            cluster: snapshot.get(&cluster)?.map(|cluster| cluster.record),
            tenant: snapshot.get(&tenant)?.map(|tenant| tenant.record),
            owners: addresses.iter().map(owner).collect::<Result<_, IpamError>>()?,
            claim: Some(claim),
        })
    }

    /// What the kernel has.
    async fn look(&self, call: &CheckCall, host_netns: Option<Netns>) -> Result<Seen, WireError> {
        let pod_netns = Netns::At(PathBuf::from(&call.sandbox));
        let host_interface = call.attachment.host_interface();
        let mut seen = Seen {
            pod_end: self.wire.inspect(&pod_netns, &call.attachment.interface).await?,
            routes: self.wire.routes(&pod_netns).await?,
            rules: match ways::table(&call.attachment.interface) {
                Some(_) => self.wire.rules(&pod_netns).await?,
                None => Vec::new(),
            },
            is_sandbox: self.is_sandbox(call).await?,
            ..Seen::default()
        };
        // Where it should be, else anywhere: the local data plane may have taken it since.
        let mut places: Vec<Netns> = host_netns.into_iter().collect();
        places.extend(self.host_places());
        for place in places {
            if let Some(link) = self.wire.inspect(&place, &host_interface).await? {
                seen.host_end = Some((place, link));
                break;
            }
        }
        if !seen.pod_end.as_ref().is_some_and(|link| link.is_pod_end(&call.attachment)) {
            let ours = self.wire.list(&pod_netns).await?;
            seen.renamed = ours.into_iter().find(|link| link.is_pod_end(&call.attachment)).map(|link| link.name);
        }
        Ok(seen)
    }

    /// The namespace may be called by another path than at ADD: `/var/run` is a link to `/run`.
    async fn is_sandbox(&self, call: &CheckCall) -> Result<bool, WireError> {
        match compare::interface_in(call).and_then(|interface| interface.sandbox.as_ref()) {
            Some(path) if *path != call.sandbox => self.wire.is_same(path.as_ref(), call.sandbox.as_ref()).await,
            _ => Ok(true),
        }
    }
}

/// What differs on this machine, by what its files say of the claim, and else by `prevResult` alone.
fn differences_here(
    call: &CheckCall,
    configured: &[atoll_model::route::Route],
    mtu: u32,
    claim: Option<&ClaimRecord>,
    seen: &Seen,
) -> Vec<String> {
    let Some(claim) = claim else { return compare::interface(call, call.attachment.mac(), mtu, seen) };
    let parts = [
        compare::interface(call, claim.mac, mtu, seen),
        compare::addresses(call, claim, seen),
        compare::routes(call, &crate::add::routes(claim, configured), seen),
        compare::host_end(claim, seen),
    ];
    parts.into_iter().flatten().collect()
}

fn differences(
    call: &CheckCall,
    configured: &[atoll_model::route::Route],
    mtu: u32,
    records: &Records,
    seen: &Seen,
    port: Option<&PortState>,
) -> Vec<String> {
    let Some(claim) = &records.claim else {
        let mut differences = vec!["its claim is missing".to_owned()];
        differences.extend(compare::interface(call, call.attachment.mac(), mtu, seen));
        return differences;
    };
    let routes = crate::add::routes(claim, configured);
    let first = claim.addresses.first().map_or(0, |address| address.ordinal);
    let bridge = |cluster: &ClusterRecord| derive::object(cluster.id, claim.incarnation, Role::Bridge(first));
    let bridge = records.cluster.as_ref().map(bridge);
    let parts = [
        compare::claim(call, claim, records),
        compare::interface(call, claim.mac, mtu, seen),
        compare::addresses(call, claim, seen),
        compare::routes(call, &routes, seen),
        compare::ways(claim, &ways::routes(claim, &routes), seen),
        compare::host_end(claim, seen),
        compare::port(claim, bridge, port),
    ];
    parts.into_iter().flatten().collect()
}
