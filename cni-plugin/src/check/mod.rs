//! CHECK: is the attachment as its ADD left it? CNI SPEC 1.1.0, section "CHECK".
//!
//! It reads the claim, the interface, its addresses and routes, the host end and the port concurrently, and compares them
//! with each other and with `prevResult`. It changes nothing and ignores what others added to the pod.

mod compare;
mod evidence;

use std::path::PathBuf;
use std::time::Duration;

use atoll_ipam::{IpamError, find};
use atoll_model::attachment::Attachment;
use atoll_network::{Engine, NetworkId, PortState};
use atoll_node::attachments::AttachmentState;
use atoll_records::{AddressRecord, ClaimRecord, ClusterRecord, Query, TenantRecord};
use atoll_store::Store;
use atoll_tenant::admin::same_engine;
use futures_util::future::join;
use tokio::time::{Instant, timeout_at};

pub use self::evidence::CheckCall;
use self::evidence::{AttachmentRecords, KernelView};
use crate::error::CallError;
use crate::kernel::{Kernel, KernelError, Netns, NetnsKind};
use crate::plugin::Plugin;
use crate::policy_routing;

/// At most this much of the deadline is kept back for what needs no server.
const RESERVE: Duration = Duration::from_secs(1);

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Compares an attachment with what it should be.
    pub async fn check(&self, call: &CheckCall) -> Result<(), CallError> {
        let deadline = Instant::now() + self.config.timeout;
        let path = PathBuf::from(&call.sandbox);
        match self.kernel.kind(&path).await? {
            NetnsKind::Gone => return Err(CallError::NetnsGone(path)),
            NetnsKind::NotANetns => return Err(CallError::NotANetns(path)),
            NetnsKind::OurOwn if !call.own_netns => return Err(CallError::OwnNetns(path)),
            NetnsKind::OurOwn | NetnsKind::Netns => {}
        }
        let attachment = &call.attachment;
        let lock = self.trace.stage("lock", self.lock_even_read_only(attachment, deadline)).await?;
        // The servers get less time, so that differences on this machine can still be reported.
        let reserve = RESERVE.min(self.config.timeout / 4);
        let checked = match self.refuse_made_elsewhere(attachment, lock.before()) {
            Ok(()) => timeout_at(deadline, self.compare(call, lock.before(), deadline - reserve)).await,
            Err(error) => Ok(Err(error)),
        };
        let checked = checked.unwrap_or_else(|_| Err(self.late(format!("CHECK of {attachment}"))));
        lock.release().map_err(CallError::file("remove the lock file"))?;
        checked
    }

    async fn compare(
        &self,
        call: &CheckCall,
        before: Option<&AttachmentState>,
        until: Instant,
    ) -> Result<(), CallError> {
        let attachment = &call.attachment;
        let mtu = self.mtu().await?;
        let claim = before.and_then(|before| before.claim.as_ref()).map(|claim| &claim.record);
        let host_netns = before.and_then(|before| before.host_netns.clone());
        let asked = timeout_at(until, self.ask(attachment, claim));
        let (asked, seen) = join(asked, self.trace.stage("interface", self.observe(call, host_netns))).await;
        let seen = seen?;
        let asked = asked.unwrap_or_else(|_| Err(self.late(format!("CHECK of {attachment}"))));
        let routes = &self.config.routes;
        let mut differences = match &asked {
            Ok((records, port)) => {
                if let Some(claim) = &records.claim {
                    // Ours knows neither the port nor the place of the host end.
                    same_engine(self.engine.name(), &claim.engine)?;
                }
                differences(call, routes, mtu, records, &seen, port.as_ref())
            }
            // The state of this machine is compared without a server.
            Err(_) => differences_here(call, routes, mtu, claim, &seen),
        };
        let claim = asked.as_ref().map_or(claim, |(records, _)| records.claim.as_ref());
        let cluster = asked.as_ref().ok().and_then(|(records, _)| Some(records.cluster.as_ref()?.id));
        if let Some((claim, cluster)) = claim.zip(cluster.or_else(|| self.cache.cluster_id())) {
            let network = NetworkId { cluster, incarnation: claim.incarnation };
            for claimed in claim.first_of_each_family() {
                let (subnet, pod) = (network.subnet(claimed.ordinal), claimed.address.ip());
                differences.extend(self.host_to_pod().check(subnet, &claim.host_interface, pod).await?);
            }
        }
        if !differences.is_empty() {
            return Err(CallError::NotAsLeft { attachment: Box::new(attachment.clone()), differences });
        }
        asked.map(drop)
    }

    /// The records of etcd and the controller, read concurrently as far as possible.
    async fn ask(
        &self,
        attachment: &Attachment,
        claim: Option<&ClaimRecord>,
    ) -> Result<(AttachmentRecords, Option<PortState>), CallError> {
        let remembered = claim.map(|claim| claim.port);
        let guessed = remembered.or_else(|| self.cache.cluster_id().map(|cluster| attachment.port(cluster)));
        let early = async {
            match guessed {
                Some(port) => self.engine.port(port).await.map(Some),
                None => Ok(None),
            }
        };
        let (records, early) =
            join(self.trace.stage("records", self.records(attachment)), self.trace.stage("port", early)).await;
        let records = records?;
        let port = match (&records.claim, early?) {
            (None, _) => None,
            (Some(claim), Some(port)) if guessed == Some(claim.port) => port,
            (Some(claim), _) => self.trace.stage("port", self.engine.port(claim.port)).await?,
        };
        Ok((records, port))
    }

    /// The claim, then everything that it names, at one revision.
    async fn records(&self, attachment: &Attachment) -> Result<AttachmentRecords, IpamError> {
        let found = find(&self.store, attachment).await?;
        let has_tombstone = found.tombstone.is_some();
        let Some(claim) = found.claim.map(|claim| claim.record) else {
            return Ok(AttachmentRecords { has_tombstone, ..AttachmentRecords::default() });
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
        Ok(AttachmentRecords {
            has_tombstone,
            cluster: snapshot.get(&cluster)?.map(|cluster| cluster.record),
            tenant: snapshot.get(&tenant)?.map(|tenant| tenant.record),
            owners: addresses.iter().map(owner).collect::<Result<_, IpamError>>()?,
            claim: Some(claim),
        })
    }

    /// Reads the kernel's objects.
    async fn observe(&self, call: &CheckCall, host_netns: Option<Netns>) -> Result<KernelView, KernelError> {
        let pod_netns = Netns::At(PathBuf::from(&call.sandbox));
        let host_interface = call.attachment.host_interface();
        let mut seen = KernelView {
            pod_end: self.kernel.inspect(&pod_netns, &call.attachment.interface).await?,
            routes: self.kernel.routes(&pod_netns).await?,
            rules: match policy_routing::table(&call.attachment.interface) {
                Some(_) => self.kernel.rules(&pod_netns).await?,
                None => Vec::new(),
            },
            is_sandbox: self.is_sandbox(call).await?,
            ..KernelView::default()
        };
        // At its place, otherwise anywhere: the local data plane may have moved it since.
        let mut places: Vec<Netns> = host_netns.into_iter().collect();
        places.extend(self.host_places());
        for place in places {
            if let Some(link) = self.kernel.inspect(&place, &host_interface).await? {
                seen.host_end = Some((place, link));
                break;
            }
        }
        if !seen.pod_end.as_ref().is_some_and(|link| link.is_pod_end(&call.attachment)) {
            let ours = self.kernel.list(&pod_netns).await?;
            seen.renamed = ours.into_iter().find(|link| link.is_pod_end(&call.attachment)).map(|link| link.name);
        }
        Ok(seen)
    }

    /// The namespace may be called by another path than at ADD: `/var/run` is a link to `/run`.
    async fn is_sandbox(&self, call: &CheckCall) -> Result<bool, KernelError> {
        match compare::interface_in(call).and_then(|interface| interface.sandbox.as_ref()) {
            Some(path) if *path != call.sandbox => self.kernel.is_same(path.as_ref(), call.sandbox.as_ref()).await,
            _ => Ok(true),
        }
    }
}

/// The differences on this machine, compared with the claim in its files, otherwise with `prevResult` alone.
fn differences_here(
    call: &CheckCall,
    configured: &[atoll_model::route::PodRoute],
    mtu: u32,
    claim: Option<&ClaimRecord>,
    seen: &KernelView,
) -> Vec<String> {
    let Some(claim) = claim else { return compare::interface(call, call.attachment.mac(), mtu, seen) };
    let parts = [
        compare::interface(call, claim.mac, mtu, seen),
        compare::addresses(call, claim, seen),
        compare::routes(call, &crate::add::routes::routes(claim, configured), seen),
        compare::host_end(claim, seen),
    ];
    parts.into_iter().flatten().collect()
}

fn differences(
    call: &CheckCall,
    configured: &[atoll_model::route::PodRoute],
    mtu: u32,
    records: &AttachmentRecords,
    seen: &KernelView,
    port: Option<&PortState>,
) -> Vec<String> {
    let Some(claim) = &records.claim else {
        let mut differences = vec!["its claim is missing".to_owned()];
        differences.extend(compare::interface(call, call.attachment.mac(), mtu, seen));
        return differences;
    };
    let routes = crate::add::routes::routes(claim, configured);
    let first = claim.addresses.first().map_or(0, |address| address.ordinal);
    let network = |cluster: &ClusterRecord| NetworkId { cluster: cluster.id, incarnation: claim.incarnation };
    let bridge = records.cluster.as_ref().map(|cluster| network(cluster).subnet(first).object());
    let parts = [
        compare::claim(call, claim, records),
        compare::interface(call, claim.mac, mtu, seen),
        compare::addresses(call, claim, seen),
        compare::routes(call, &routes, seen),
        compare::policy_routing(claim, &policy_routing::routes(claim, &routes), seen),
        compare::host_end(claim, seen),
        compare::port(claim, bridge, port),
    ];
    parts.into_iter().flatten().collect()
}
