//! An attachment gets an address, or the addresses that it asks for.
//!
//! | module | what |
//! |---|---|
//! | `want` | what wish and reservation come to: any address of these subnets, or exactly these. Pure |
//! | `plan` | the transaction, and what a lost one means. Pure |
//! | `mac` | a MAC that was asked for is nobody's derived one |
//!
//! One transaction does it all. It compares what the caller believes (cluster, node, namespace and tenant as cached),
//! that the attachment has neither a claim nor a tombstone, that nothing is reserved for its pod, and that the candidate
//! is neither taken nor reserved; then it puts claim and address. It has a few candidates, of which it takes the first
//! that is free. When a condition does not hold, the same round trip brings everything that the next attempt needs: the
//! current records, the claim that is there already, the reservation, and a window of address keys.
//!
//! Why this is safe:
//! * Two claims of one address: both compare the address absent, the store lets one through.
//! * Two claims of one attachment: both compare the claim absent; the loser finds the winner's claim and returns it.
//! * A lost reply: the claim id is made once per call, so whoever reads it back knows its own. The request may still be
//!   on its way: it competes with the retry for the same claim key, so that one of the two happens, never both.
//! * A request that was lost, and arrives when its attachment has been claimed by a later attempt and released again:
//!   the release has left a mark that it does not know. A claim that finds such a mark compares and removes it.
//! * A refusal that took several readings (a full tenant, a MAC that is derived) is given only after one more reading,
//!   which shows claim, tombstone and records at one revision: a request of this call that was believed to be lost may
//!   have arrived between the readings, and then the address that was missing is this attachment's own.
//! * A request of a dead process that arrives late loses against the fence or the claim that was put since.
//! * A caller with an old cache: its revisions differ, and it gets the current records instead of an address.

pub(crate) mod mac;
mod plan;
pub(crate) mod want;

use atoll_model::attachment::Attachment;
use atoll_model::ids::Namespace;
use atoll_model::record::{ClaimRecord, ClusterRecord, NamespaceRecord, NodeRecord, TenantRecord, TombstoneRecord};
use atoll_model::wish::Wish;
use atoll_store::{Chosen, Doubt, Revision, Store};
use uuid::Uuid;

use self::mac::unicast;
use self::plan::{Next, Plan, Step, Verdict};
use crate::error::IpamError;
use crate::holder::Holder;
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
    /// Until then, seconds since 1970, a deletion of an earlier port of this attachment may still arrive; 0: none can, as
    /// far as the caller knows. A new claim gets a port of another id, and remembers it.
    pub deletions_until: u64,
    /// The node was evicted once: a deletion by an eviction that runs beside may still arrive at any time. A new
    /// claim gets a port of another id.
    pub was_evicted: bool,
    /// The caller can give the tenant another subnet: a tenant that is full of pods is [`IpamError::Exhausted`], although
    /// addresses that cool could be reused early. Else they are, and exhausted means that every address is in use.
    pub can_grow: bool,
    /// What the pod asks for. It is met as it stands or refused, also against a claim that is there already.
    pub wish: &'a Wish,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub enum Claimed {
    /// The addresses are ours, since now.
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

/// Claims addresses, or says why not.
pub async fn claim<S: Store>(store: &S, request: &ClaimRequest<'_>) -> Result<Claimed, IpamError> {
    match attempt(store, request).await {
        // Only the refused need to know the pod's name, so only they wait for it.
        Err(IpamError::Taken { tenant, address, holder }) => {
            let holder = Box::new(Holder::find(store, holder.attachment).await);
            Err(IpamError::Taken { tenant, address, holder })
        }
        outcome => outcome,
    }
}

async fn attempt<S: Store>(store: &S, request: &ClaimRequest<'_>) -> Result<Claimed, IpamError> {
    let mut plan = Plan::new(request);
    let mut step = plan.begin();
    // The subnet in which the MAC was looked for among the derived ones.
    let mut looked = None;
    let mut doubt = Doubt::default();
    for attempt in 1..=ATTEMPTS {
        if let Some((subnet, mac)) = step.subnet().zip(plan.suspect_mac()).filter(|(s, _)| looked != Some(s.ordinal)) {
            let ordinal = subnet.ordinal;
            match mac::look(store, subnet, mac, Some(request.attachment)).await {
                Ok(()) => looked = Some(ordinal),
                Err(refusal) => step = Step::Refuse(refusal),
            }
        }
        let queries = plan.queries(&step);
        let snapshot = if let Step::Refuse(_) = step {
            // Nothing to claim. Is that so, or only by what the caller believes, or by several readings between which a
            // request of this very call arrived?
            store.read(queries).await.map_err(plan.failed())?
        } else {
            let outcome = store.commit_first(plan.choice(&step, queries.clone())).await;
            match doubt.weigh(outcome).map_err(plan.failed())? {
                Some(Chosen::Case(case, revision)) => return Ok(plan.done(step, case, revision)),
                Some(Chosen::Lost(snapshot)) => snapshot,
                // It may have happened, and may still: look. The module says why going on is safe either way.
                None => store.read(queries).await.map_err(plan.failed())?,
            }
        };
        let verdict = plan.judge(&snapshot)?;
        if !matches!(verdict, Verdict::Answer(_)) {
            doubt.may_repeat().map_err(plan.failed())?;
        }
        step = match (verdict, step) {
            (Verdict::Answer(answer), _) => return Ok(answer),
            (Verdict::TakeOver(claim, tombstone), _) => Step::TakeOver(claim, tombstone),
            (Verdict::Begin, _) | (Verdict::Again(_), Step::TakeOver(..)) => plan.begin(),
            (Verdict::Again(_), Step::Refuse(error)) => return Err(error),
            (Verdict::Again(answers), Step::Any(targets, subnets)) => {
                let shown = plan.any(&targets, answers, attempt)?;
                let found = if shown.is_empty() { plan.search(store, &subnets, attempt).await } else { Ok(shown) };
                found.map_or_else(Step::Refuse, |targets| Step::Any(targets, subnets))
            }
            (Verdict::Again(answers), Step::Exactly(targets)) => match plan.exactly(targets, answers)? {
                Next::Again(targets) => Step::Exactly(targets),
                Next::Spare => plan.begin_spare(),
            },
        };
    }
    match doubt.cause() {
        Some(cause) => Err(plan.failed()(cause)),
        None => Err(IpamError::Contended { attachment: request.attachment.clone(), attempts: ATTEMPTS }),
    }
}
