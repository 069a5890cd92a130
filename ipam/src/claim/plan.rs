//! The transaction of a claim, and what a lost one means. All but the search is pure.

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::clock::now;
use atoll_model::ids::{ClaimId, HostId, Namespace, PodName};
use atoll_records::{
    AddressRecord, AddressState, ClaimRecord, ClusterRecord, CoolDown, IdleRecord, MacOwner, MacRecord,
    NamespaceRecord, NodeRecord, Query, RecordKey, ReleasedRecord, ReservationRecord, Revision, SCHEMA, Snapshot,
    TenantRecord, TombstoneRecord, Unknown, Versioned, schema_of,
};
use atoll_store::{Case, Choice, Compare, Store, StoreChange, StoreError};
use uuid::Uuid;

use super::request::{ClaimRequest, Claimed, Current};
use super::want::{WantedAddresses, is_met, want};
use crate::candidate::{WINDOW, first, mix, window_start};
use crate::error::{Fill, IpamError};
use crate::find::Found;
use crate::holder::Holder;
use crate::search::{self, ActiveSubnet, Target};

/// The next step.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum NextStep {
    /// No address can be claimed, if the caller's cache is right and this attachment still has no claim.
    Refuse(IpamError),
    /// Claim the first of these that is free. Never empty.
    Any(Vec<Target>, Vec<ActiveSubnet>),
    /// Claim all of these. Never empty.
    Exactly(Vec<Target>),
    /// The claim is there, and the tombstone that the caller supersedes as well: the tombstone goes.
    TakeOver(Versioned<ClaimRecord>, Revision),
}

impl NextStep {
    /// The addresses that each case of the transaction claims.
    fn cases(&self) -> Vec<&[Target]> {
        match self {
            Self::Refuse(_) | Self::TakeOver(..) => Vec::new(),
            Self::Any(targets, _) => targets.chunks(1).collect(),
            Self::Exactly(targets) => vec![targets],
        }
    }

    /// The subnet in which a MAC must be free.
    pub(super) fn subnet(&self) -> Option<&ActiveSubnet> {
        self.cases().first().and_then(|targets| targets.first()).map(|target| &target.subnet)
    }
}

/// The meaning of a lost attempt.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum AfterConflict {
    Answer(Claimed),
    TakeOver(Versioned<ClaimRecord>, Revision),
    /// The reservations of the pod differ from those that were read: start over.
    Begin,
    /// The answers to the step's own queries decide.
    Again,
}

/// The meaning of a lost attempt to get certain addresses.
pub(super) enum Next {
    /// Try again, as the addresses are now.
    Again(Vec<Target>),
    /// The reserved address serves another interface of the same pod: this one gets any.
    Spare,
}

pub(super) struct ClaimPlan<'a> {
    request: &'a ClaimRequest<'a>,
    /// The same for all attempts of this call, so that a lost one is recognised.
    claim: ClaimId,
    since: u64,
    seed: u64,
    /// The tombstone to supersede, if it is still there.
    fence: Option<Revision>,
    /// The mark of an earlier release, if there is one.
    mark: Option<Revision>,
    /// Until when a deletion of an earlier port may still arrive; 0: none can.
    deletions_until: u64,
    /// The pod, if its name could have a reservation.
    pod: Option<(&'a Namespace, PodName)>,
    /// Its reservation.
    reservation: Option<Versioned<ReservationRecord>>,
    /// Another interface of the pod has it.
    spare: bool,
    mac: Mac,
    own_mac: bool,
}

impl<'a> ClaimPlan<'a> {
    pub(super) fn new(request: &'a ClaimRequest<'a>) -> Self {
        Self {
            request,
            claim: ClaimId::random(),
            since: now(),
            // The attachment's own randomness: the port's id derives from it, and is as good as random.
            seed: request.attachment.port(request.cluster.id).as_u64_pair().1,
            fence: request.fence,
            mark: None,
            deletions_until: request.deletions_until,
            pod: request.namespace.zip(request.pod.and_then(|pod| PodName::new(pod).ok())),
            reservation: None,
            spare: false,
            mac: request.attachment.mac(),
            own_mac: false,
        }
    }

    pub(super) fn failed(&self) -> impl FnOnce(StoreError) -> IpamError + use<> {
        IpamError::store(format!("{}, tenant {}", self.request.attachment, self.request.tenant.name))
    }

    /// The first step, as far as is known.
    pub(super) fn begin(&mut self) -> NextStep {
        let reserved = self.reservation.as_ref().filter(|_| !self.spare).map(|reservation| &reservation.record);
        match want(self.request, reserved) {
            Err(error) => NextStep::Refuse(error),
            Ok(want) => {
                (self.mac, self.own_mac) = (want.mac, want.own_mac);
                match want.addresses {
                    WantedAddresses::Exactly(targets) => NextStep::Exactly(targets),
                    WantedAddresses::Any(subnets) => {
                        let newest = &subnets[0];
                        let targets = first(&newest.pods, self.seed).into_iter();
                        NextStep::Any(targets.map(|at| Target::free(newest.clone(), at)).collect(), subnets)
                    }
                }
            }
        }
    }

    /// The first step of an interface beside the one that has the reserved address.
    pub(super) fn begin_spare(&mut self) -> NextStep {
        self.spare = true;
        self.begin()
    }

    /// The MAC, if it must be this claim's own and might be a derived one.
    pub(super) fn suspect_mac(&self) -> Option<Mac> {
        Some(self.mac).filter(|mac| self.own_mac && super::mac::is_local(*mac))
    }

    /// The records that the next attempt needs; [`ClaimPlan::judge`] reads them.
    pub(super) fn queries(&self, step: &NextStep) -> Vec<Query> {
        let ClaimRequest { attachment, tenant, namespace, .. } = self.request;
        let mut queries = Found::queries(attachment);
        queries.push(Query::key(ClusterRecord::at()));
        queries.push(Query::key(NodeRecord::at(&attachment.node)));
        queries.push(Query::key(TenantRecord::at(&tenant.name)));
        queries.push(Query::key(ReleasedRecord::at(attachment)));
        queries.extend(namespace.map(|namespace| Query::key(NamespaceRecord::at(namespace))));
        queries
            .extend(self.pod.as_ref().map(|(namespace, pod)| Query::key(ReservationRecord::for_pod(namespace, pod))));
        match step {
            NextStep::Refuse(_) | NextStep::TakeOver(..) => {}
            NextStep::Any(targets, _) => {
                let (from, end) = window(&targets[0]);
                queries.extend(targets[0].subnet.part(from, end));
            }
            NextStep::Exactly(targets) => {
                for target in targets {
                    queries.push(Query::key(target.key(AddressRecord::at)));
                    queries.push(Query::key(target.key(ReservationRecord::at)));
                }
            }
        }
        queries.extend(step.subnet().and_then(|subnet| self.mac_key(subnet)).map(Query::key));
        queries
    }

    /// The key of the MAC, if it must be this claim's own.
    fn mac_key(&self, subnet: &ActiveSubnet) -> Option<RecordKey<MacRecord>> {
        self.own_mac.then(|| MacRecord::at(&subnet.tenant, subnet.ordinal, self.mac))
    }

    /// The transaction of a step.
    pub(super) fn choice(&self, step: &NextStep, otherwise: Vec<Query>) -> Choice {
        let attachment = self.request.attachment;
        let cases = if let NextStep::TakeOver(claim, tombstone) = step {
            let compare = vec![
                Compare::modified(NodeRecord::at(&attachment.node), self.request.guards.node),
                Compare::created(ClaimRecord::at(attachment), claim.create_revision),
                Compare::modified(TombstoneRecord::at(attachment), *tombstone),
            ];
            vec![Case { compare, then: vec![StoreChange::delete(TombstoneRecord::at(attachment))], read: Vec::new() }]
        } else {
            let case =
                |targets| Case { compare: self.conditions(targets), then: self.changes(targets), read: Vec::new() };
            step.cases().into_iter().map(case).collect()
        };
        Choice { cases, otherwise }
    }

    /// The answer when this case of a step committed.
    pub(super) fn done(&self, step: NextStep, case: usize, revision: Revision) -> Claimed {
        match step {
            NextStep::TakeOver(claim, _) => self.present(claim),
            step => {
                let record = self.record(step.cases()[case]);
                Claimed::New(Versioned::created(record, revision))
            }
        }
    }

    fn conditions(&self, targets: &[Target]) -> Vec<Compare> {
        let ClaimRequest { attachment, tenant, guards, namespace, .. } = self.request;
        let reserved = self.reservation.as_ref().map(|reservation| reservation.mod_revision);
        let mut compare = vec![
            Compare::modified(ClusterRecord::at(), guards.cluster),
            Compare::modified(NodeRecord::at(&attachment.node), guards.node),
            Compare::modified(TenantRecord::at(&tenant.name), guards.tenant),
            Compare::absent(ClaimRecord::at(attachment)),
            Compare::unchanged(TombstoneRecord::at(attachment), self.fence),
            Compare::unchanged(ReleasedRecord::at(attachment), self.mark),
        ];
        compare.extend(namespace.map(|namespace| Compare::unchanged(NamespaceRecord::at(namespace), guards.namespace)));
        let pod = self.pod.as_ref().map(|(namespace, pod)| ReservationRecord::for_pod(namespace, pod));
        compare.extend(pod.map(|pod| Compare::unchanged(pod, reserved)));
        for target in targets {
            compare.push(Compare::unchanged(target.key(AddressRecord::at), target.cool_down));
            // One transaction has written both keys of a reservation: same revision.
            let reserved = reserved.filter(|_| !self.spare);
            compare.push(Compare::unchanged(target.key(ReservationRecord::at), reserved));
        }
        compare.extend(targets.first().and_then(|target| self.mac_key(&target.subnet)).map(Compare::absent));
        compare
    }

    fn changes(&self, targets: &[Target]) -> Vec<StoreChange> {
        let attachment = self.request.attachment;
        let state = AddressState::Claimed { claim: self.claim, attachment: attachment.clone() };
        let owned = AddressRecord { v: SCHEMA, state, unknown: Unknown::new() };
        let mut changes = vec![StoreChange::put(&ClaimRecord::at(attachment), &self.record(targets))];
        for target in targets {
            changes.push(StoreChange::put(&target.key(AddressRecord::at), &owned));
            changes.extend(target.cool_down.map(|_| StoreChange::delete(target.key(CoolDown::at))));
        }
        if let Some(key) = targets.first().and_then(|target| self.mac_key(&target.subnet)) {
            let owner = MacOwner::Claimed { claim: self.claim, attachment: attachment.clone() };
            changes.push(StoreChange::put(&key, &MacRecord { v: SCHEMA, owner, unknown: Unknown::new() }));
        }
        // The detection of idle tenants must see that this one is used.
        changes.push(StoreChange::delete(IdleRecord::at(&self.request.tenant.name)));
        changes.extend(self.fence.map(|_| StoreChange::delete(TombstoneRecord::at(attachment))));
        changes.extend(self.mark.map(|_| StoreChange::delete(ReleasedRecord::at(attachment))));
        changes
    }

    fn record(&self, targets: &[Target]) -> ClaimRecord {
        let ClaimRequest { attachment, cluster, tenant, namespace, pod, pod_uid, host_id, .. } = self.request;
        ClaimRecord {
            v: schema_of(&cluster.engine),
            claim: self.claim,
            attachment: (*attachment).clone(),
            tenant: tenant.name.clone(),
            incarnation: tenant.incarnation,
            namespace: namespace.cloned(),
            pod: pod.map(str::to_owned),
            pod_uid: pod_uid.map(str::to_owned),
            addresses: targets.iter().map(Target::claimed).collect(),
            port: self.port(),
            engine: cluster.engine.clone(),
            host_interface: attachment.host_interface(),
            mac: self.mac,
            host_id: HostId::clone(host_id),
            since: self.since,
            deletions_until: self.deletions_until,
            creations_until: 0,
            names: tenant.pod_domain.iter().flat_map(|domain| domain.names(*pod, *namespace)).collect(),
            unknown: Unknown::new(),
        }
    }

    /// The port of a new claim: no deletion that may still arrive names it.
    fn port(&self) -> Uuid {
        let ClaimRequest { attachment, cluster, was_evicted, .. } = self.request;
        if self.deletions_until == 0 && !was_evicted {
            attachment.port(cluster.id)
        } else {
            attachment.port_after(cluster.id, self.claim.0)
        }
    }

    /// Classifies an existing claim: made by this call, or by an earlier one.
    fn present(&self, claim: Versioned<ClaimRecord>) -> Claimed {
        if claim.record.claim == self.claim { Claimed::New(claim) } else { Claimed::Already(claim) }
    }

    /// Refuses the call if the existing claim was made for another request.
    fn refuse_other_request(&self, claim: &ClaimRecord) -> Result<(), IpamError> {
        let ClaimRequest { attachment, requested, .. } = self.request;
        if is_met(requested, claim) {
            return Ok(());
        }
        let addresses: Vec<_> = claim.addresses.iter().map(|address| address.address.ip().to_string()).collect();
        let has = format!("{} with MAC {}", addresses.join(", "), claim.mac);
        let (attachment, requested) = (Box::new((*attachment).clone()), Box::new((*requested).clone()));
        Err(IpamError::OtherRequest { attachment, has, requested })
    }

    /// Reads the answers to [`ClaimPlan::queries`].
    pub(super) fn judge(&mut self, snapshot: &Snapshot) -> Result<AfterConflict, IpamError> {
        let ClaimRequest { attachment, tenant, guards, namespace, .. } = self.request;
        let found = Found::read(snapshot, attachment)?;
        let (cluster, node) = (ClusterRecord::at(), NodeRecord::at(&attachment.node));
        let (tenant, namespace) = (TenantRecord::at(&tenant.name), namespace.map(NamespaceRecord::at));
        let stale = || {
            Ok(AfterConflict::Answer(Claimed::Stale(Current {
                cluster: snapshot.get(&cluster)?,
                node: snapshot.get(&node)?,
                namespace: namespace.as_ref().map(|key| snapshot.get(key)).transpose()?.flatten(),
                tenant: snapshot.get(&tenant)?,
            })))
        };
        // The node first: a node that is being evicted must not get a claim that is about to be released.
        if snapshot.revision_of(&node)? != Some(guards.node) {
            return stale();
        }
        // Then a tombstone: what it stands for is about to take away even a claim that is there.
        let tombstone = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision);
        if let Some(unseen) = found.tombstone.filter(|tombstone| Some(tombstone.mod_revision) != self.fence) {
            return Ok(AfterConflict::Answer(Claimed::Blocked(unseen)));
        }
        if let Some(claim) = found.claim {
            self.refuse_other_request(&claim.record)?;
            return Ok(match tombstone {
                None => AfterConflict::Answer(self.present(claim)),
                Some(seen) => AfterConflict::TakeOver(claim, seen),
            });
        }
        let expected = [(&*cluster, guards.cluster), (&*tenant, guards.tenant)];
        for (key, revision) in expected {
            if snapshot.revision_of(key)? != Some(revision) {
                return stale();
            }
        }
        if let Some(namespace) = &namespace
            && snapshot.revision_of(namespace)? != guards.namespace
        {
            return stale();
        }
        let marker = snapshot.entry(&ReleasedRecord::at(attachment))?;
        (self.fence, self.mark) = (tombstone, marker.map(|marker| marker.mod_revision));
        // The marker's lease ends when the last of the deletions has arrived: no clock is asked here.
        let deletions_until = marker.map_or(Ok(0), ReleasedRecord::deletions_until)?;
        self.deletions_until = self.request.deletions_until.max(deletions_until);
        let reserved = match &self.pod {
            Some((namespace, pod)) => snapshot.get(&ReservationRecord::for_pod(namespace, pod))?,
            None => None,
        };
        let at = |reservation: &Option<Versioned<_>>| reservation.as_ref().map(|r| r.mod_revision);
        if at(&reserved) != at(&self.reservation) {
            (self.reservation, self.spare) = (reserved, false);
            return Ok(AfterConflict::Begin);
        }
        Ok(AfterConflict::Again)
    }

    /// The candidates that the window of a lost attempt for any address has, in the same subnet.
    pub(super) fn any(&self, targets: &[Target], snapshot: &Snapshot, attempt: u32) -> Result<Vec<Target>, IpamError> {
        let subnet = &targets[0].subnet;
        self.refuse_taken_mac(subnet, snapshot)?;
        let (from, end) = window(&targets[0]);
        let picked = subnet.window(snapshot, from, end)?.pick(mix(self.seed, attempt)).into_iter();
        Ok(picked.map(|position| Target::free(subnet.clone(), position)).collect())
    }

    /// Searches the subnets. A request for a certain subnet does not get more room when the tenant grows.
    pub(super) async fn search<S: Store>(
        &self,
        store: &S,
        subnets: &[ActiveSubnet],
        attempt: u32,
    ) -> Result<Vec<Target>, IpamError> {
        let can_grow = self.request.can_grow && self.request.requested.subnet.is_none();
        search::any(store, subnets, self.seed, attempt, can_grow, |fills| self.full(fills)).await
    }

    /// No address of the subnets that the address request leaves is free.
    fn full(&self, mut fills: Vec<Fill>) -> IpamError {
        let ClaimRequest { tenant, requested, .. } = self.request;
        match (requested.subnet, fills.pop()) {
            (Some(_), Some(fill)) => IpamError::SubnetFull { tenant: tenant.name.clone(), fill: Box::new(fill) },
            (_, fill) => {
                fills.extend(fill);
                IpamError::Exhausted { tenant: tenant.name.clone(), subnets: fills }
            }
        }
    }

    /// The state of the addresses that were requested, or are reserved for the pod.
    pub(super) fn exactly(&self, targets: Vec<Target>, snapshot: &Snapshot) -> Result<Next, IpamError> {
        self.refuse_taken_mac(&targets[0].subnet, snapshot)?;
        let mut again = Vec::new();
        for target in targets {
            self.refuse_foreign(&target, snapshot)?;
            let Some(there) = snapshot.get(&target.key(AddressRecord::at))? else {
                again.push(Target { cool_down: None, ..target });
                continue;
            };
            let (tenant, address) = (target.subnet.tenant.clone(), target.address());
            match there.record.state {
                AddressState::Claimed { attachment, .. } if self.is_sibling(&attachment) => return Ok(Next::Spare),
                AddressState::Claimed { attachment, .. } => {
                    let holder = Box::new(Holder { attachment, namespace: None, pod: None });
                    return Err(IpamError::Taken { tenant, address, holder });
                }
                // Its last owner's peers may still send to it: that is the business of its own namespace alone.
                AddressState::CoolDown { since, namespace } => {
                    if self.reservation.is_none() && namespace.as_ref() != self.request.namespace {
                        return Err(IpamError::InCoolDown { tenant, address, ago: now().saturating_sub(since) });
                    }
                    again.push(Target { cool_down: Some(there.mod_revision), ..target });
                }
            }
        }
        Ok(Next::Again(again))
    }

    /// The reservation of an address, if there is one, is that of this pod.
    fn refuse_foreign(&self, target: &Target, snapshot: &Snapshot) -> Result<(), IpamError> {
        let own = self.reservation.as_ref().filter(|_| !self.spare);
        match (snapshot.get(&target.key(ReservationRecord::at))?, own) {
            (None, None) => Ok(()),
            (Some(found), Some(own)) if found.mod_revision == own.mod_revision => Ok(()),
            (Some(Versioned { record: ReservationRecord { tenant, address, namespace, pod, .. }, .. }), _) => {
                Err(IpamError::Reserved { tenant, address, namespace, pod })
            }
            (None, Some(Versioned { record: ReservationRecord { address, namespace, pod, .. }, .. })) => {
                let (namespace, pod) = (namespace.clone(), pod.clone());
                let why = format!("its record {} is missing", target.key(ReservationRecord::at));
                Err(IpamError::Reservation { address: *address, namespace, pod, why })
            }
        }
    }

    /// Another interface of the same container, while the address is the pod's reserved one: the first to ask has it.
    fn is_sibling(&self, other: &Attachment) -> bool {
        let own = self.request.attachment;
        let same = (&other.node, &other.container) == (&own.node, &own.container);
        self.reservation.is_some() && same && (&other.network, &other.interface) != (&own.network, &own.interface)
    }

    fn refuse_taken_mac(&self, subnet: &ActiveSubnet, snapshot: &Snapshot) -> Result<(), IpamError> {
        let Some(key) = self.mac_key(subnet) else { return Ok(()) };
        let Some(there) = snapshot.get(&key)? else { return Ok(()) };
        let by = match there.record.owner {
            MacOwner::Claimed { attachment, .. } => format!("attachment {attachment}"),
            MacOwner::Reserved { namespace, pod } => format!("the reservation for pod {namespace}/{pod}"),
        };
        Err(IpamError::MacTaken { tenant: subnet.tenant.clone(), cidr: subnet.cidr, mac: self.mac, by })
    }
}

/// The positions that a lost attempt shows.
fn window(target: &Target) -> (u128, u128) {
    let pods = &target.subnet.pods;
    let from = window_start(pods, target.position);
    (from, (from + WINDOW).min(pods.capacity()))
}
