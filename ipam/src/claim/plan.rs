//! The transaction of a claim, and what a lost one means. All but the search is pure.

use atoll_model::attachment::{Attachment, Mac};
use atoll_model::ids::{ClaimId, Namespace, PodName};
use atoll_model::record::{
    AddressRecord, AddressState, ClaimRecord, MacOwner, MacRecord, ReleasedRecord, ReservationRecord, SCHEMA, Unknown,
    encode, now,
};
use atoll_store::{Answer, Case, Change, Choice, Compare, Key, Query, Revision, Snapshot, Store, StoreError};
use uuid::Uuid;

use super::want::{Addresses, is_met, want};
use super::{ClaimRequest, Claimed, Current};
use crate::candidate::{WINDOW, Window, first, mix, window_start};
use crate::error::{Fill, IpamError};
use crate::find::Found;
use crate::holder::Holder;
use crate::search::{self, Subnet, Target};
use crate::versioned::Versioned;

/// What to do next.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum Step {
    /// Nothing can be claimed, if what the caller believes is true and this attachment has no claim by now.
    Refuse(IpamError),
    /// Claim the first of these that is free. Never empty.
    Any(Vec<Target>, Vec<Subnet>),
    /// Claim all of these. Never empty.
    Exactly(Vec<Target>),
    /// The claim is there, and the tombstone that the caller supersedes as well: the tombstone goes.
    TakeOver(Versioned<ClaimRecord>, Revision),
}

impl Step {
    /// What each case of the transaction claims.
    fn cases(&self) -> Vec<&[Target]> {
        match self {
            Self::Refuse(_) | Self::TakeOver(..) => Vec::new(),
            Self::Any(targets, _) => targets.chunks(1).collect(),
            Self::Exactly(targets) => vec![targets],
        }
    }

    /// The subnet in which a MAC must be free.
    pub(super) fn subnet(&self) -> Option<&Subnet> {
        self.cases().first().and_then(|targets| targets.first()).map(|target| &target.subnet)
    }
}

/// What a lost attempt means.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub(super) enum Verdict<'a> {
    Answer(Claimed),
    TakeOver(Versioned<ClaimRecord>, Revision),
    /// What is reserved for the pod is not what we believed: begin again.
    Begin,
    /// What the answers to the queries of the step itself say.
    Again(&'a [Answer]),
}

/// What a lost attempt to get certain addresses means.
pub(super) enum Next {
    /// Try again, as the addresses are now.
    Again(Vec<Target>),
    /// The reserved address serves another interface of the same pod: this one gets any.
    Spare,
}

pub(super) struct Plan<'a> {
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
    /// What is reserved for it.
    reservation: Option<Versioned<ReservationRecord>>,
    /// Another interface of the pod has it.
    spare: bool,
    mac: Mac,
    own_mac: bool,
}

impl<'a> Plan<'a> {
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
    pub(super) fn begin(&mut self) -> Step {
        let reserved = self.reservation.as_ref().filter(|_| !self.spare).map(|reservation| &reservation.record);
        match want(self.request, reserved) {
            Err(error) => Step::Refuse(error),
            Ok(want) => {
                (self.mac, self.own_mac) = (want.mac, want.own_mac);
                match want.addresses {
                    Addresses::Exactly(targets) => Step::Exactly(targets),
                    Addresses::Any(subnets) => {
                        let newest = &subnets[0];
                        let targets = first(&newest.pods, self.seed).into_iter();
                        Step::Any(targets.map(|at| Target::free(newest.clone(), at)).collect(), subnets)
                    }
                }
            }
        }
    }

    /// The first step of an interface beside the one that has the reserved address.
    pub(super) fn begin_spare(&mut self) -> Step {
        self.spare = true;
        self.begin()
    }

    /// The MAC, if it must be this claim's own and might be a derived one.
    pub(super) fn suspect_mac(&self) -> Option<Mac> {
        Some(self.mac).filter(|mac| self.own_mac && super::mac::is_local(*mac))
    }

    /// What the next attempt needs; [`Plan::judge`] reads it.
    pub(super) fn queries(&self, step: &Step) -> Vec<Query> {
        let ClaimRequest { attachment, tenant, namespace, .. } = self.request;
        let mut queries = Found::queries(attachment);
        queries.push(Query::Key(Key::cluster()));
        queries.push(Query::Key(Key::node(&attachment.node)));
        queries.push(Query::Key(Key::tenant(&tenant.name)));
        queries.push(Query::Key(Key::released(attachment)));
        queries.extend(namespace.map(|namespace| Query::Key(Key::namespace(namespace))));
        queries.extend(self.pod.as_ref().map(|(namespace, pod)| Query::Key(Key::reserved_for(namespace, pod))));
        match step {
            Step::Refuse(_) | Step::TakeOver(..) => {}
            Step::Any(targets, _) => {
                let (from, end) = window(&targets[0]);
                queries.extend(targets[0].subnet.part(from, end));
            }
            Step::Exactly(targets) => {
                let keys = |target: &Target| [target.key(Key::address), target.key(Key::reservation)].map(Query::Key);
                queries.extend(targets.iter().flat_map(keys));
            }
        }
        queries.extend(step.subnet().and_then(|subnet| self.mac_key(subnet)).map(Query::Key));
        queries
    }

    /// The key of the MAC, if it must be this claim's own.
    fn mac_key(&self, subnet: &Subnet) -> Option<Key> {
        self.own_mac.then(|| Key::mac(&subnet.tenant, subnet.ordinal, self.mac))
    }

    /// The transaction of a step.
    pub(super) fn choice(&self, step: &Step, otherwise: Vec<Query>) -> Choice {
        let attachment = self.request.attachment;
        let cases = if let Step::TakeOver(claim, tombstone) = step {
            let compare = vec![
                Compare::Modified(Key::node(&attachment.node), self.request.guards.node),
                Compare::Created(Key::attachment(attachment), claim.create_revision),
                Compare::Modified(Key::tombstone(attachment), *tombstone),
            ];
            vec![Case { compare, then: vec![Change::Delete(Key::tombstone(attachment))] }]
        } else {
            let case = |targets| Case { compare: self.conditions(targets), then: self.changes(targets) };
            step.cases().into_iter().map(case).collect()
        };
        Choice { cases, otherwise }
    }

    /// The answer when this case of a step committed.
    pub(super) fn done(&self, step: Step, case: usize, revision: Revision) -> Claimed {
        match step {
            Step::TakeOver(claim, _) => self.present(claim),
            step => {
                let record = self.record(step.cases()[case]);
                Claimed::New(Versioned { record, create_revision: revision, mod_revision: revision })
            }
        }
    }

    fn conditions(&self, targets: &[Target]) -> Vec<Compare> {
        let ClaimRequest { attachment, tenant, guards, namespace, .. } = self.request;
        let at = |key: Key, revision: Option<Revision>| match revision {
            Some(revision) => Compare::Modified(key, revision),
            None => Compare::Absent(key),
        };
        let reserved = self.reservation.as_ref().map(|reservation| reservation.mod_revision);
        let mut compare = vec![
            Compare::Modified(Key::cluster(), guards.cluster),
            Compare::Modified(Key::node(&attachment.node), guards.node),
            Compare::Modified(Key::tenant(&tenant.name), guards.tenant),
            Compare::Absent(Key::attachment(attachment)),
            at(Key::tombstone(attachment), self.fence),
            at(Key::released(attachment), self.mark),
        ];
        compare.extend(namespace.map(|namespace| at(Key::namespace(namespace), guards.namespace)));
        compare.extend(self.pod.as_ref().map(|(namespace, pod)| at(Key::reserved_for(namespace, pod), reserved)));
        for target in targets {
            compare.push(at(target.key(Key::address), target.cooling));
            // One transaction has written both keys of a reservation: same revision.
            compare.push(at(target.key(Key::reservation), reserved.filter(|_| !self.spare)));
        }
        compare.extend(targets.first().and_then(|target| self.mac_key(&target.subnet)).map(Compare::Absent));
        compare
    }

    fn changes(&self, targets: &[Target]) -> Vec<Change> {
        let attachment = self.request.attachment;
        let state = AddressState::Claimed { claim: self.claim, attachment: attachment.clone() };
        let owned = encode(&AddressRecord { v: SCHEMA, state, unknown: Unknown::new() });
        let put = |key, value| Change::Put { key, value, lease: None };
        let mut changes = vec![put(Key::attachment(attachment), encode(&self.record(targets)))];
        for target in targets {
            changes.push(put(target.key(Key::address), owned.clone()));
            changes.extend(target.cooling.map(|_| Change::Delete(target.key(Key::cooling))));
        }
        if let Some(key) = targets.first().and_then(|target| self.mac_key(&target.subnet)) {
            let owner = MacOwner::Claimed { claim: self.claim, attachment: attachment.clone() };
            changes.push(put(key, encode(&MacRecord { v: SCHEMA, owner, unknown: Unknown::new() })));
        }
        // Whoever watches for tenants that nobody uses must see that this one is used.
        changes.push(Change::Delete(Key::idle(&self.request.tenant.name)));
        changes.extend(self.fence.map(|_| Change::Delete(Key::tombstone(attachment))));
        changes.extend(self.mark.map(|_| Change::Delete(Key::released(attachment))));
        changes
    }

    fn record(&self, targets: &[Target]) -> ClaimRecord {
        let ClaimRequest { attachment, tenant, namespace, pod, pod_uid, host_id, .. } = self.request;
        ClaimRecord {
            v: SCHEMA,
            claim: self.claim,
            attachment: (*attachment).clone(),
            tenant: tenant.name.clone(),
            incarnation: tenant.incarnation,
            namespace: namespace.cloned(),
            pod: pod.map(str::to_owned),
            pod_uid: pod_uid.map(str::to_owned),
            addresses: targets.iter().map(Target::claimed).collect(),
            port: self.port(),
            host_interface: attachment.host_interface(),
            mac: self.mac,
            host_id: *host_id,
            since: self.since,
            deletions_until: self.deletions_until,
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

    /// A claim that is there: ours of this call, or an earlier one.
    fn present(&self, claim: Versioned<ClaimRecord>) -> Claimed {
        if claim.record.claim == self.claim { Claimed::New(claim) } else { Claimed::Already(claim) }
    }

    /// A claim that is there must be what is asked for now.
    fn refuse_other_wish(&self, claim: &ClaimRecord) -> Result<(), IpamError> {
        let ClaimRequest { attachment, wish, .. } = self.request;
        if is_met(wish, claim) {
            return Ok(());
        }
        let addresses: Vec<_> = claim.addresses.iter().map(|address| address.address.ip().to_string()).collect();
        let has = format!("{} with MAC {}", addresses.join(", "), claim.mac);
        let (attachment, wish) = (Box::new((*attachment).clone()), Box::new((*wish).clone()));
        Err(IpamError::OtherWish { attachment, has, wish })
    }

    /// Reads the answers to [`Plan::queries`].
    pub(super) fn judge<'s>(&mut self, snapshot: &'s Snapshot) -> Result<Verdict<'s>, IpamError> {
        let ClaimRequest { attachment, guards, namespace, .. } = self.request;
        let odd = || IpamError::Answer { object: attachment.to_string() };
        let found = Found::read(snapshot, attachment)?;
        let [_, _, cluster, node, tenant, mark, rest @ ..] = snapshot.answers.as_slice() else { return Err(odd()) };
        let (belongs, rest) = rest.split_at_checked(usize::from(namespace.is_some())).ok_or_else(odd)?;
        let (reserved, rest) = rest.split_at_checked(usize::from(self.pod.is_some())).ok_or_else(odd)?;
        let revision = |answer: &Answer| answer.one().map(|entry| entry.mod_revision);
        let stale = || {
            Ok(Verdict::Answer(Claimed::Stale(Current {
                cluster: Versioned::of(cluster)?,
                node: Versioned::of(node)?,
                namespace: belongs.first().map(Versioned::of).transpose()?.flatten(),
                tenant: Versioned::of(tenant)?,
            })))
        };
        // The node first: one that is being evicted must not even be told of the claim that is about to be released.
        if revision(node) != Some(guards.node) {
            return stale();
        }
        // Then a tombstone: what it stands for is about to take away even a claim that is there.
        let tombstone = found.tombstone.as_ref().map(|tombstone| tombstone.mod_revision);
        if let Some(unseen) = found.tombstone.filter(|tombstone| Some(tombstone.mod_revision) != self.fence) {
            return Ok(Verdict::Answer(Claimed::Buried(unseen)));
        }
        if let Some(claim) = found.claim {
            self.refuse_other_wish(&claim.record)?;
            return Ok(match tombstone {
                None => Verdict::Answer(self.present(claim)),
                Some(seen) => Verdict::TakeOver(claim, seen),
            });
        }
        let fresh = revision(cluster) == Some(guards.cluster)
            && revision(tenant) == Some(guards.tenant)
            && (namespace.is_none() || belongs.first().and_then(revision) == guards.namespace);
        if !fresh {
            return stale();
        }
        (self.fence, self.mark) = (tombstone, revision(mark));
        let deletions_until = match mark.one().filter(|entry| !entry.value.is_empty()) {
            // Its lease ends when the last of them has arrived: no clock is asked here.
            Some(entry) => Versioned::<ReleasedRecord>::read(entry)?.record.deletions_until,
            None => 0,
        };
        self.deletions_until = self.request.deletions_until.max(deletions_until);
        let reserved: Option<Versioned<ReservationRecord>> = reserved.first().map(Versioned::of).transpose()?.flatten();
        let at = |reservation: &Option<Versioned<_>>| reservation.as_ref().map(|r| r.mod_revision);
        if at(&reserved) != at(&self.reservation) {
            (self.reservation, self.spare) = (reserved, false);
            return Ok(Verdict::Begin);
        }
        Ok(Verdict::Again(rest))
    }

    /// What the window of a lost attempt for any address shows: candidates of the same subnet, if there are any.
    pub(super) fn any(&self, targets: &[Target], answers: &[Answer], attempt: u32) -> Result<Vec<Target>, IpamError> {
        let subnet = &targets[0].subnet;
        let [taken, reserved, mac @ ..] = answers else { return Err(self.odd()) };
        self.refuse_taken_mac(subnet, mac)?;
        let (from, end) = window(&targets[0]);
        let window = Window::read(&subnet.pods, from, end, &[taken, reserved]);
        let picked = window.pick(mix(self.seed, attempt)).into_iter();
        Ok(picked.map(|position| Target::free(subnet.clone(), position)).collect())
    }

    /// Looks through the subnets. One that was asked for does not get more room when the tenant grows.
    pub(super) async fn search<S: Store>(
        &self,
        store: &S,
        subnets: &[Subnet],
        attempt: u32,
    ) -> Result<Vec<Target>, IpamError> {
        let can_grow = self.request.can_grow && self.request.wish.subnet.is_none();
        search::any(store, subnets, self.seed, attempt, can_grow, |fills| self.full(fills)).await
    }

    /// No address of the subnets that the wish leaves is free.
    fn full(&self, mut fills: Vec<Fill>) -> IpamError {
        let ClaimRequest { tenant, wish, .. } = self.request;
        match (wish.subnet, fills.pop()) {
            (Some(_), Some(fill)) => IpamError::SubnetFull { tenant: tenant.name.clone(), fill: Box::new(fill) },
            (_, fill) => {
                fills.extend(fill);
                IpamError::Exhausted { tenant: tenant.name.clone(), subnets: fills }
            }
        }
    }

    /// What became of the addresses that were asked for, or are reserved for the pod.
    pub(super) fn exactly(&self, targets: Vec<Target>, answers: &[Answer]) -> Result<Next, IpamError> {
        let (addresses, mac) = answers.split_at_checked(2 * targets.len()).ok_or_else(|| self.odd())?;
        self.refuse_taken_mac(&targets[0].subnet, mac)?;
        let mut again = Vec::new();
        for (target, answers) in targets.into_iter().zip(addresses.chunks(2)) {
            self.refuse_foreign(&target, &answers[1])?;
            let Some(entry) = answers[0].one() else {
                again.push(Target { cooling: None, ..target });
                continue;
            };
            let (tenant, address) = (target.subnet.tenant.clone(), target.address());
            match Versioned::<AddressRecord>::read(entry)?.record.state {
                AddressState::Claimed { attachment, .. } if self.is_sibling(&attachment) => return Ok(Next::Spare),
                AddressState::Claimed { attachment, .. } => {
                    let holder = Box::new(Holder { attachment, namespace: None, pod: None });
                    return Err(IpamError::Taken { tenant, address, holder });
                }
                // Its last owner's peers may still send to it: that is the business of its own namespace alone.
                AddressState::Cooling { since, namespace } => {
                    if self.reservation.is_none() && namespace.as_ref() != self.request.namespace {
                        return Err(IpamError::Cools { tenant, address, ago: now().saturating_sub(since) });
                    }
                    again.push(Target { cooling: Some(entry.mod_revision), ..target });
                }
            }
        }
        Ok(Next::Again(again))
    }

    /// The reservation of an address, if there is one, is that of this pod.
    fn refuse_foreign(&self, target: &Target, answer: &Answer) -> Result<(), IpamError> {
        let own = self.reservation.as_ref().filter(|_| !self.spare);
        let found: Option<Versioned<ReservationRecord>> = Versioned::of(answer)?;
        match (found, own) {
            (None, None) => Ok(()),
            (Some(found), Some(own)) if found.mod_revision == own.mod_revision => Ok(()),
            (Some(Versioned { record: ReservationRecord { tenant, address, namespace, pod, .. }, .. }), _) => {
                Err(IpamError::Reserved { tenant, address, namespace, pod })
            }
            (None, Some(Versioned { record: ReservationRecord { address, namespace, pod, .. }, .. })) => {
                let (namespace, pod) = (namespace.clone(), pod.clone());
                let why = format!("its record {} is missing", target.key(Key::reservation));
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

    fn refuse_taken_mac(&self, subnet: &Subnet, answer: &[Answer]) -> Result<(), IpamError> {
        let Some(there) = answer.first().map(Versioned::<MacRecord>::of).transpose()?.flatten() else { return Ok(()) };
        let by = match there.record.owner {
            MacOwner::Claimed { attachment, .. } => format!("attachment {attachment}"),
            MacOwner::Reserved { namespace, pod } => format!("the reservation for pod {namespace}/{pod}"),
        };
        Err(IpamError::MacTaken { tenant: subnet.tenant.clone(), cidr: subnet.cidr, mac: self.mac, by })
    }

    fn odd(&self) -> IpamError {
        IpamError::Answer { object: self.request.attachment.to_string() }
    }
}

/// The positions that a lost attempt shows.
fn window(target: &Target) -> (u128, u128) {
    let pods = &target.subnet.pods;
    let from = window_start(pods, target.position);
    (from, (from + WINDOW).min(pods.capacity()))
}
