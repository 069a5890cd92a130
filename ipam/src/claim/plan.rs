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
use crate::candidate::{CASES, WINDOW, first, mix, window_start};
use crate::error::{Fill, IpamError};
use crate::find::Found;
use crate::holder::Holder;
use crate::search::{self, ActiveSubnet, Draw, Target};

/// The next step.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum NextStep {
    /// No address can be claimed, if the caller's cache is right and this attachment still has no claim.
    Refuse(IpamError),
    /// Claim what is drawn.
    Any(Drawn),
    /// Claim all of these. Never empty.
    Exactly(Vec<Target>),
    /// The claim is there, and the tombstone that the caller supersedes as well: the tombstone goes.
    TakeOver(Versioned<ClaimRecord>, Revision),
}

/// Candidates of a draw, beside addresses that are fixed.
pub(super) struct Drawn {
    /// All of these are claimed. Empty for a pod without a request.
    fixed: Vec<Target>,
    /// The first of these that is free is claimed, all of its addresses. Never empty.
    candidates: Vec<Vec<Target>>,
    /// The draw that they come from.
    draw: Draw,
    /// Where the search continues. Never empty.
    draws: Vec<Draw>,
}

impl Drawn {
    /// What one transaction claims with this candidate: IPv4 first.
    fn case(&self, candidate: &[Target]) -> Vec<Target> {
        let mut targets: Vec<_> = self.fixed.iter().chain(candidate).cloned().collect();
        targets.sort_by_key(|target| target.range.cidr.is_ipv6());
        targets
    }

    /// The positions that a lost attempt shows.
    fn window(&self) -> (u128, u128) {
        let capacity = self.draw.capacity();
        let from = window_start(capacity, self.candidates[0][0].position);
        (from, (from + WINDOW).min(capacity))
    }
}

impl NextStep {
    /// The addresses that each case of the transaction claims.
    fn cases(&self) -> Vec<Vec<Target>> {
        match self {
            Self::Refuse(_) | Self::TakeOver(..) => Vec::new(),
            Self::Any(drawn) => drawn.candidates.iter().map(|candidate| drawn.case(candidate)).collect(),
            Self::Exactly(targets) => vec![targets.clone()],
        }
    }

    /// An address of the subnet in which a MAC must be free.
    pub(super) fn first(&self) -> Option<&Target> {
        match self {
            Self::Refuse(_) | Self::TakeOver(..) => None,
            Self::Any(drawn) => drawn.candidates[0].first(),
            Self::Exactly(targets) => targets.first(),
        }
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
                    WantedAddresses::Beside(fixed, draw) => {
                        // The address at the same position is the usual partner, and free as a rule.
                        let partner = fixed[0].position;
                        let mut positions = first(draw.capacity(), self.seed);
                        if partner < draw.capacity() {
                            positions.retain(|position| *position != partner);
                            positions.insert(0, partner);
                            positions.truncate(CASES as usize);
                        }
                        let candidates = positions.into_iter().map(|position| draw.targets(position)).collect();
                        NextStep::Any(Drawn { fixed, candidates, draws: vec![draw.clone()], draw })
                    }
                    WantedAddresses::Any(subnets) => {
                        let draws: Vec<_> = subnets.iter().map(ActiveSubnet::draw).collect();
                        let draw = draws[0].clone();
                        let positions = first(draw.capacity(), self.seed).into_iter();
                        let candidates = positions.map(|position| draw.targets(position)).collect();
                        NextStep::Any(Drawn { fixed: Vec::new(), candidates, draw, draws })
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
            NextStep::Any(drawn) => {
                let (from, end) = drawn.window();
                queries.extend(drawn.draw.part(from, end));
                if !drawn.fixed.is_empty() {
                    queries.extend(drawn.fixed.iter().chain(&drawn.candidates[0]).flat_map(records));
                }
            }
            NextStep::Exactly(targets) => queries.extend(targets.iter().flat_map(records)),
        }
        queries.extend(step.first().and_then(|target| self.mac_key(target)).map(Query::key));
        queries
    }

    /// The key of the MAC, if it must be this claim's own.
    fn mac_key(&self, of_subnet: &Target) -> Option<RecordKey<MacRecord>> {
        self.own_mac.then(|| MacRecord::at(&of_subnet.tenant, of_subnet.ordinal, self.mac))
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
            let case = |targets: Vec<Target>| {
                let (compare, then) = (self.conditions(&targets), self.changes(&targets));
                Case { compare, then, read: Vec::new() }
            };
            step.cases().into_iter().map(case).collect()
        };
        Choice { cases, otherwise }
    }

    /// The answer when this case of a step committed.
    pub(super) fn done(&self, step: NextStep, case: usize, revision: Revision) -> Claimed {
        match step {
            NextStep::TakeOver(claim, _) => self.present(claim),
            step => {
                let record = self.record(&step.cases()[case]);
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
            let own = self.reservation.as_ref().filter(|_| !self.spare && self.is_reserved(target));
            compare.push(Compare::unchanged(target.key(ReservationRecord::at), own.map(|own| own.mod_revision)));
        }
        compare.extend(targets.first().and_then(|target| self.mac_key(target)).map(Compare::absent));
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
        if let Some(key) = targets.first().and_then(|target| self.mac_key(target)) {
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

    /// The next step after a lost attempt for what was drawn: what its window shows to be free, else what a search finds.
    /// None: as [`Next::Spare`].
    pub(super) async fn draw_again<S: Store>(
        &self,
        store: &S,
        mut drawn: Drawn,
        snapshot: &Snapshot,
        attempt: u32,
    ) -> Result<Option<NextStep>, IpamError> {
        self.refuse_taken_mac(&drawn.candidates[0][0], snapshot)?;
        let mut partner = None;
        if !drawn.fixed.is_empty() {
            match self.exactly(std::mem::take(&mut drawn.fixed), snapshot)? {
                Next::Spare => return Ok(None),
                Next::Again(fixed) => drawn.fixed = fixed,
            }
            partner = self.partner(&drawn, snapshot)?;
        }
        let (from, end) = drawn.window();
        let picked = drawn.draw.window(snapshot, from, end)?.pick(mix(self.seed, attempt)).into_iter();
        let shown = picked.map(|position| drawn.draw.targets(position));
        drawn.candidates = partner.into_iter().chain(shown).take(CASES as usize).collect();
        if drawn.candidates.is_empty() {
            // A request for a certain subnet does not get more room when the tenant grows.
            let can_grow = self.request.can_grow && self.request.requested.subnet.is_none() && drawn.fixed.is_empty();
            let full = |fills| self.full(fills);
            match search::any(store, &drawn.draws, self.seed, attempt, can_grow, full).await {
                Ok((draw, candidates)) => (drawn.draw, drawn.candidates) = (draw, candidates),
                Err(refusal) => return Ok(Some(NextStep::Refuse(refusal))),
            }
        }
        Ok(Some(NextStep::Any(drawn)))
    }

    /// The first candidate beside fixed addresses once more, if the pod may have it: a pod that comes back with its address of
    /// one family should have its former one of the other as well.
    fn partner(&self, drawn: &Drawn, snapshot: &Snapshot) -> Result<Option<Vec<Target>>, IpamError> {
        let mut again = Vec::new();
        for target in &drawn.candidates[0] {
            if snapshot.get(&target.key(ReservationRecord::at))?.is_some() {
                return Ok(None);
            }
            let cool_down = match snapshot.get(&target.key(AddressRecord::at))? {
                None => None,
                Some(there) => match there.record.state {
                    AddressState::CoolDown { namespace, .. } if namespace.as_ref() == self.request.namespace => {
                        Some(there.mod_revision)
                    }
                    _ => return Ok(None),
                },
            };
            again.push(Target { cool_down, ..target.clone() });
        }
        Ok(Some(again))
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
        self.refuse_taken_mac(&targets[0], snapshot)?;
        let mut again = Vec::new();
        for target in targets {
            self.refuse_foreign(&target, snapshot)?;
            let Some(there) = snapshot.get(&target.key(AddressRecord::at))? else {
                again.push(Target { cool_down: None, ..target });
                continue;
            };
            let (tenant, address) = (target.tenant.clone(), target.address());
            match there.record.state {
                AddressState::Claimed { attachment, .. } if self.is_sibling(&target, &attachment) => {
                    return Ok(Next::Spare);
                }
                AddressState::Claimed { attachment, .. } => {
                    let holder = Box::new(Holder { attachment, namespace: None, pod: None });
                    return Err(IpamError::Taken { tenant, address, holder });
                }
                // Its last owner's peers may still send to it: that is the business of its own namespace alone.
                AddressState::CoolDown { since, namespace } => {
                    if !self.is_reserved(&target) && namespace.as_ref() != self.request.namespace {
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
        let own = self.reservation.as_ref().filter(|_| !self.spare && self.is_reserved(target));
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

    /// It is the address that the pod's reservation names.
    fn is_reserved(&self, target: &Target) -> bool {
        self.reservation.as_ref().is_some_and(|reservation| reservation.record.address == target.address())
    }

    /// Another interface of the same container, while the address is the pod's reserved one: the first to ask has it.
    fn is_sibling(&self, target: &Target, other: &Attachment) -> bool {
        let own = self.request.attachment;
        let same = (&other.node, &other.container) == (&own.node, &own.container);
        !self.spare
            && self.is_reserved(target)
            && same
            && (&other.network, &other.interface) != (&own.network, &own.interface)
    }

    fn refuse_taken_mac(&self, of_subnet: &Target, snapshot: &Snapshot) -> Result<(), IpamError> {
        let Some(key) = self.mac_key(of_subnet) else { return Ok(()) };
        let Some(there) = snapshot.get(&key)? else { return Ok(()) };
        let by = match there.record.owner {
            MacOwner::Claimed { attachment, .. } => format!("attachment {attachment}"),
            MacOwner::Reserved { namespace, pod } => format!("the reservation for pod {namespace}/{pod}"),
        };
        let (tenant, cidr) = (of_subnet.tenant.clone(), of_subnet.range.cidr);
        Err(IpamError::MacTaken { tenant, cidr, mac: self.mac, by })
    }
}

/// The records of an address.
fn records(target: &Target) -> [Query; 2] {
    [Query::key(target.key(AddressRecord::at)), Query::key(target.key(ReservationRecord::at))]
}
