//! An attachment gets an address.
//!
//! One transaction does it all. It compares what the caller believes (cluster, node, namespace and tenant as cached),
//! that the attachment has neither a claim nor a tombstone, and that the candidate is neither taken nor reserved; then
//! it puts claim and address. When a condition does not hold, the same round trip brings everything that the next
//! attempt needs: the current records, the claim that is there already, and a window of address keys.
//!
//! Why this is safe:
//! * Two claims of one address: both compare the address absent, the store lets one through.
//! * Two claims of one attachment: both compare the claim absent; the loser finds the winner's claim and returns it.
//! * A lost reply: the claim id is made once per call, so whoever reads it back knows its own. The request may still be
//!   on its way: it competes with the retry for the same claim key, so that one of the two happens, never both.
//! * A request that was lost, and arrives when its attachment has been claimed by a later attempt and released again:
//!   the release has left a mark that it does not know. A claim that finds such a mark compares and removes it.
//! * A request of a dead process that arrives late loses against the fence or the claim that was put since.
//! * A caller with an old cache: its revisions differ, and it gets the current records instead of an address.

use std::net::Ipv4Addr;

use atoll_model::attachment::Attachment;
use atoll_model::ids::{ClaimId, Namespace};
use atoll_model::record::{
    AddressRecord, AddressState, ClaimRecord, ClaimedAddress, ClusterRecord, NamespaceRecord, NodeRecord, SCHEMA,
    TenantRecord, TombstoneRecord, Unknown, encode, now,
};
use atoll_store::{Change, Committed, Compare, Key, Query, Revision, Snapshot, Store, StoreError, Txn};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use crate::candidate::{WINDOW, Window, mix, window_start};
use crate::error::IpamError;
use crate::find::Found;
use crate::pool::v4;
use crate::search::{self, Subnet, Target};
use crate::versioned::Versioned;

/// A claim gives up after so many lost races; the caller's deadline is usually sooner.
const ATTEMPTS: u32 = 100;

/// The revisions at which the caller read what it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guards {
    /// `cluster`.
    pub cluster: Revision,
    /// `nodes/<node>`.
    pub node: Revision,
    /// `namespaces/<namespace>`; none means that the namespace had no record. Ignored when no namespace is named.
    pub namespace: Option<Revision>,
    /// `tenants/<tenant>`.
    pub tenant: Revision,
}

/// Who wants an address of which tenant, and what the caller believes.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    /// Who.
    pub attachment: &'a Attachment,
    /// The cluster as the caller knows it.
    pub cluster: &'a ClusterRecord,
    /// The tenant as the caller knows it.
    pub tenant: &'a TenantRecord,
    /// The revisions of what the caller knows.
    pub guards: Guards,
    /// The pod's namespace, where the runtime named one.
    pub namespace: Option<&'a Namespace>,
    /// The pod's name, where the runtime named one.
    pub pod: Option<&'a str>,
    /// The pod's uid, where the runtime named one.
    pub pod_uid: Option<&'a str>,
    /// The id of the controller's agent on this node.
    pub host_id: Uuid,
    /// A tombstone of this attachment that the caller has seen and supersedes: it is compared at this revision and
    /// deleted in the same transaction. None: there must be no tombstone.
    pub fence: Option<Revision>,
    /// The caller can give the tenant another subnet: a tenant that is full of pods is [`IpamError::Exhausted`], although
    /// addresses that cool could be reused early. Else they are, and exhausted means that every address is in use.
    pub can_grow: bool,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The address is ours, since now.
    New(Versioned<ClaimRecord>),
    /// The attachment has a claim already: the answer of last time.
    Already(Versioned<ClaimRecord>),
    /// What the caller believes is out of date. Nothing was claimed.
    Stale(Current),
    /// A tombstone that the caller had not seen stands in the way. Nothing was claimed.
    Buried(Versioned<TombstoneRecord>),
}

/// The records that a claim rests on, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// `cluster`.
    pub cluster: Option<Versioned<ClusterRecord>>,
    /// `nodes/<node>`.
    pub node: Option<Versioned<NodeRecord>>,
    /// `namespaces/<namespace>`.
    pub namespace: Option<Versioned<NamespaceRecord>>,
    /// `tenants/<tenant>`.
    pub tenant: Option<Versioned<TenantRecord>>,
}

/// Claims an address, or says why not.
pub async fn claim<S: Store>(store: &S, request: &ClaimRequest<'_>) -> Result<Claimed, IpamError> {
    let subnets = search::subnets(request.tenant)?;
    let mut plan = Plan { request, claim: ClaimId::random(), seed: seed(request), fence: request.fence, mark: None };
    let newest = &subnets[0];
    let mut step = Step::Claim(Target::free(newest.clone(), mix(plan.seed, 0) % newest.pods.capacity()));
    for attempt in 1..=ATTEMPTS {
        let target = step.target(newest);
        let queries = plan.queries(&target);
        let record = plan.record(&target);
        let snapshot = match store.commit(plan.transaction(&step, &record, queries.clone())).await {
            Ok(Committed::Yes(revision)) => return Ok(plan.done(step, record, revision)),
            Ok(Committed::Lost(snapshot)) => snapshot,
            // It may have happened, and may still: look. The module says why going on is safe either way.
            Err(StoreError::Unknown { .. }) => store.read(queries).await.map_err(plan.failed())?,
            Err(error) => return Err(plan.failed()(error)),
        };
        step = match plan.judge(&snapshot, &target)? {
            Verdict::Answer(answer) => return Ok(answer),
            Verdict::TakeOver(claim, tombstone) => Step::TakeOver(claim, tombstone),
            Verdict::Again { fence, mark, window } => {
                (plan.fence, plan.mark) = (fence, mark);
                let next = window.pick(mix(plan.seed, attempt)).map(|at| Target::free(target.subnet, at));
                Step::Claim(match next {
                    Some(next) => next,
                    None => search::any(store, request, &subnets, plan.seed, attempt).await?,
                })
            }
        };
    }
    Err(IpamError::Contended { attachment: request.attachment.clone(), attempts: ATTEMPTS })
}

/// The attachment's own randomness: the port's id derives from it, and is as good as random.
fn seed(request: &ClaimRequest<'_>) -> u64 {
    request.attachment.port(request.cluster.id).as_u64_pair().1
}

/// What to commit next.
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
enum Step {
    /// The claim itself.
    Claim(Target),
    /// The claim is there, and the tombstone that the caller supersedes as well: the tombstone goes.
    TakeOver(Versioned<ClaimRecord>, Revision),
}

impl Step {
    /// Whose neighbourhood is worth seeing if this fails.
    fn target(&self, newest: &Subnet) -> Target {
        match self {
            Self::Claim(target) => target.clone(),
            Self::TakeOver(..) => Target::free(newest.clone(), 0),
        }
    }
}

/// What a lost attempt means.
enum Verdict {
    Answer(Claimed),
    TakeOver(Versioned<ClaimRecord>, Revision),
    Again { fence: Option<Revision>, mark: Option<Revision>, window: Window },
}

struct Plan<'a> {
    request: &'a ClaimRequest<'a>,
    /// The same for all attempts of this call, so that a lost one is recognised.
    claim: ClaimId,
    seed: u64,
    /// The tombstone to supersede, if it is still there.
    fence: Option<Revision>,
    /// The mark of an earlier release, if there is one.
    mark: Option<Revision>,
}

impl Plan<'_> {
    fn failed(&self) -> impl FnOnce(StoreError) -> IpamError + use<> {
        IpamError::store(format!("{}, tenant {}", self.request.attachment, self.request.tenant.name))
    }

    /// What the next attempt needs; [`Plan::judge`] reads it.
    fn queries(&self, target: &Target) -> Vec<Query> {
        let ClaimRequest { attachment, tenant, namespace, .. } = self.request;
        let mut queries = Found::queries(attachment);
        queries.push(Query::Key(Key::cluster()));
        queries.push(Query::Key(Key::node(&attachment.node)));
        queries.push(Query::Key(Key::tenant(&tenant.name)));
        queries.extend(target.subnet.page(window_start(target.subnet.pods, target.position), WINDOW));
        queries.push(Query::Key(Key::released(attachment)));
        queries.extend(namespace.map(|namespace| Query::Key(Key::namespace(namespace))));
        queries
    }

    /// The transaction of a step; `record` is what a claim puts.
    fn transaction(&self, step: &Step, record: &ClaimRecord, otherwise: Vec<Query>) -> Txn {
        let attachment = self.request.attachment;
        match step {
            Step::Claim(target) => {
                Txn { compare: self.conditions(target), then: self.changes(target, record), otherwise }
            }
            Step::TakeOver(claim, tombstone) => {
                let compare = vec![
                    Compare::Modified(Key::node(&attachment.node), self.request.guards.node),
                    Compare::Created(Key::attachment(attachment), claim.create_revision),
                    Compare::Modified(Key::tombstone(attachment), *tombstone),
                ];
                Txn { compare, then: vec![Change::Delete(Key::tombstone(attachment))], otherwise }
            }
        }
    }

    /// The answer when the transaction of a step committed.
    fn done(&self, step: Step, record: ClaimRecord, revision: Revision) -> Claimed {
        match step {
            Step::Claim(_) => Claimed::New(Versioned { record, create_revision: revision, mod_revision: revision }),
            Step::TakeOver(claim, _) => self.present(claim),
        }
    }

    fn conditions(&self, target: &Target) -> Vec<Compare> {
        let ClaimRequest { attachment, tenant, guards, namespace, .. } = self.request;
        let (ordinal, address) = (target.subnet.ordinal, target.address());
        let at = |key: Key, revision: Option<Revision>| match revision {
            Some(revision) => Compare::Modified(key, revision),
            None => Compare::Absent(key),
        };
        let mut compare = vec![
            Compare::Modified(Key::cluster(), guards.cluster),
            Compare::Modified(Key::node(&attachment.node), guards.node),
            Compare::Modified(Key::tenant(&tenant.name), guards.tenant),
            Compare::Absent(Key::attachment(attachment)),
            at(Key::tombstone(attachment), self.fence),
            at(Key::released(attachment), self.mark),
            at(Key::address(&tenant.name, ordinal, address), target.cooling),
            Compare::Absent(Key::reservation(&tenant.name, ordinal, address)),
        ];
        compare.extend(namespace.map(|namespace| at(Key::namespace(namespace), guards.namespace)));
        compare
    }

    fn changes(&self, target: &Target, record: &ClaimRecord) -> Vec<Change> {
        let (attachment, tenant) = (self.request.attachment, &self.request.tenant.name);
        let (ordinal, address) = (target.subnet.ordinal, target.address());
        let state = AddressState::Claimed { claim: self.claim, attachment: attachment.clone() };
        let owned = AddressRecord { v: SCHEMA, state, unknown: Unknown::new() };
        let put = |key, value| Change::Put { key, value, lease: None };
        let mut changes = vec![
            put(Key::attachment(attachment), encode(record)),
            put(Key::address(tenant, ordinal, address), encode(&owned)),
        ];
        // Whoever watches for tenants that nobody uses must see that this one is used.
        changes.push(Change::Delete(Key::idle(tenant)));
        changes.extend(self.fence.map(|_| Change::Delete(Key::tombstone(attachment))));
        changes.extend(self.mark.map(|_| Change::Delete(Key::released(attachment))));
        changes.extend(target.cooling.map(|_| Change::Delete(Key::cooling(tenant, ordinal, address))));
        changes
    }

    fn record(&self, target: &Target) -> ClaimRecord {
        let ClaimRequest { attachment, cluster, tenant, namespace, pod, pod_uid, host_id, .. } = self.request;
        ClaimRecord {
            v: SCHEMA,
            claim: self.claim,
            attachment: (*attachment).clone(),
            tenant: tenant.name.clone(),
            incarnation: tenant.incarnation,
            namespace: namespace.cloned(),
            pod: pod.map(str::to_owned),
            pod_uid: pod_uid.map(str::to_owned),
            addresses: vec![target.claimed()],
            port: attachment.port(cluster.id),
            host_interface: attachment.host_interface(),
            mac: attachment.mac(),
            host_id: *host_id,
            since: now(),
            unknown: Unknown::new(),
        }
    }

    /// A claim that is there: ours of this call, or an earlier one.
    fn present(&self, claim: Versioned<ClaimRecord>) -> Claimed {
        if claim.record.claim == self.claim { Claimed::New(claim) } else { Claimed::Already(claim) }
    }

    /// Reads the answers to [`Plan::queries`].
    fn judge(&self, snapshot: &Snapshot, target: &Target) -> Result<Verdict, IpamError> {
        let ClaimRequest { attachment, guards, namespace, .. } = self.request;
        let found = Found::read(snapshot, attachment)?;
        let [_, _, cluster, node, tenant, taken, reserved, mark, rest @ ..] = snapshot.answers.as_slice() else {
            return Err(IpamError::Answer { object: attachment.to_string() });
        };
        let revision = |answer: &atoll_store::Answer| answer.one().map(|entry| entry.mod_revision);
        let stale = || {
            Ok::<_, IpamError>(Verdict::Answer(Claimed::Stale(Current {
                cluster: Versioned::of(cluster)?,
                node: Versioned::of(node)?,
                namespace: rest.first().map(Versioned::of).transpose()?.flatten(),
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
        match (found.claim, tombstone) {
            (Some(claim), None) => return Ok(Verdict::Answer(self.present(claim))),
            (Some(claim), Some(seen)) => return Ok(Verdict::TakeOver(claim, seen)),
            (None, _) => {}
        }
        let fresh = revision(cluster) == Some(guards.cluster)
            && revision(tenant) == Some(guards.tenant)
            && (namespace.is_none() || rest.first().and_then(revision) == guards.namespace);
        if !fresh {
            return stale();
        }
        let from = window_start(target.subnet.pods, target.position);
        let mark = revision(mark);
        Ok(Verdict::Again {
            fence: tombstone,
            mark,
            window: Window::read(target.subnet.pods, from, &[taken, reserved]),
        })
    }
}

impl Target {
    /// As an address.
    fn address(&self) -> Ipv4Addr {
        v4(self.subnet.pods.at(self.position))
    }

    /// As it stands in the claim.
    fn claimed(&self) -> ClaimedAddress {
        let Subnet { ordinal, cidr, gateway, .. } = self.subnet;
        let address = Ipv4Network::new(self.address(), cidr.prefix()).expect("the prefix comes from a network");
        ClaimedAddress { ordinal, address, gateway }
    }
}
