//! An attachment gets an address, or the addresses that it asks for.
//!
//! | module | what |
//! |---|---|
//! | `want` | the addresses that request and reservation allow: any address of these subnets, or exactly these. Pure |
//! | `request` | what is asked for, and what can become of it |
//! | `plan` | the transaction, and what a lost one means. Pure |
//! | `mac` | a requested MAC is not the derived one of another pod |
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
//! * A lost reply: the claim id is generated once per call, so the caller recognises its own claim when it reads it
//!   back. The request may still be in flight: it competes with the retry for the same claim key, so exactly one of the
//!   two takes effect.
//! * A lost request that arrives after its attachment was claimed by a later attempt and released again: the release
//!   has left a marker key that the request does not compare, so it fails. A claim that finds such a marker compares and
//!   removes it.
//! * A refusal that is based on several reads (a full tenant, a derived MAC) is returned only after one more read of claim,
//!   tombstone and records at one revision: a request of this call that was taken for lost may have arrived between the
//!   reads, and then the missing address is this attachment's own.
//! * A late request of a dead process fails because of the fence or the claim that was put since.
//! * A caller with an old cache: its revisions differ, and it gets the current records instead of an address.

pub(crate) mod mac;
mod plan;
mod request;
pub(crate) mod want;

use atoll_store::{Attempts, Chosen, Store};

use self::plan::{AfterConflict, ClaimPlan, Next, NextStep};
pub use self::request::{ClaimRequest, Claimed, Current, Guards};
use crate::error::IpamError;
use crate::find::find_holder;
use crate::search::Target;

/// A claim gives up after so many lost races; the caller's deadline is usually sooner.
const ATTEMPTS: u32 = 100;

/// Claims addresses, or returns the reason why it cannot.
pub async fn claim<S: Store>(store: &S, request: &ClaimRequest<'_>) -> Result<Claimed, IpamError> {
    match attempt(store, request).await {
        // Only the refused need to know the pod's name, so only they wait for it.
        Err(IpamError::Taken { tenant, address, holder }) => {
            let holder = Box::new(find_holder(store, holder.attachment).await);
            Err(IpamError::Taken { tenant, address, holder })
        }
        outcome => outcome,
    }
}

async fn attempt<S: Store>(store: &S, request: &ClaimRequest<'_>) -> Result<Claimed, IpamError> {
    let mut plan = ClaimPlan::new(request);
    let mut next = Some(plan.begin());
    // The subnet in which the MAC was compared with the derived ones.
    let mut checked = None;
    let contended = || IpamError::Contended { attachment: request.attachment.clone(), attempts: ATTEMPTS };
    let mut attempts = Attempts::at_most(ATTEMPTS);
    loop {
        attempts.begin().map_err(|cause| cause.map_or_else(contended, plan.failed()))?;
        let mut step = next.take().unwrap_or_else(|| plan.begin());
        let suspect = step.first().zip(plan.suspect_mac()).filter(|(target, _)| checked != Some(target.ordinal));
        if let Some((Target { tenant, ordinal, range, .. }, mac)) = suspect {
            let (ordinal, subnet) = (*ordinal, (tenant, *ordinal, range.cidr));
            match mac::refuse_derived(store, subnet, mac, Some(request.attachment)).await {
                Ok(()) => checked = Some(ordinal),
                Err(refusal) => step = NextStep::Refuse(refusal),
            }
        }
        let queries = plan.queries(&step);
        let snapshot = if let NextStep::Refuse(_) = step {
            // Nothing to claim. Is that so, or only by what the caller believes, or by several readings between which a
            // request of this very call arrived?
            store.read(queries).await.map_err(plan.failed())?
        } else {
            match attempts.commit(store, plan.choice(&step, queries.clone())).await.map_err(plan.failed())? {
                Some(Chosen::Case(case, done)) => return Ok(plan.done(step, case, done.revision)),
                Some(Chosen::Lost(snapshot)) => snapshot,
                // The transaction may have committed, or may still commit: read. The module's head explains why continuing
                // is safe either way.
                None => store.read(queries).await.map_err(plan.failed())?,
            }
        };
        let verdict = plan.judge(&snapshot)?;
        if !matches!(verdict, AfterConflict::Answer(_)) {
            attempts.may_repeat().map_err(plan.failed())?;
        }
        next = Some(match (verdict, step) {
            (AfterConflict::Answer(answer), _) => return Ok(answer),
            (AfterConflict::TakeOver(claim, tombstone), _) => NextStep::TakeOver(claim, tombstone),
            (AfterConflict::Begin, _) | (AfterConflict::Again, NextStep::TakeOver(..)) => plan.begin(),
            (AfterConflict::Again, NextStep::Refuse(error)) => return Err(error),
            (AfterConflict::Again, NextStep::Any(drawn)) => {
                match plan.draw_again(store, drawn, &snapshot, attempts.number()).await? {
                    Some(next) => next,
                    None => plan.begin_spare(),
                }
            }
            (AfterConflict::Again, NextStep::Exactly(targets)) => match plan.exactly(targets, &snapshot)? {
                Next::Again(targets) => NextStep::Exactly(targets),
                Next::Spare => plan.begin_spare(),
            },
        });
    }
}
