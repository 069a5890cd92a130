//! Admission of a pod: resolves its tenant, claims its address, and lets the tenant grow when it is full.
//!
//! The caller keeps what belongs to the machine. It cleans up before it accepts a refusal, and it decides what a tombstone or
//! an existing claim means for its attachment. After either it claims again.
//!
//! | module | what |
//! |---|---|
//! | [`resolve`] | the tenant binding of a pod: from the cache, or from the store; a new tenant is built |
//!
//! # Guarantees
//! - A warm admission is one transaction: the binding comes from the cache, and the claim's transaction verifies it.
//! - Nothing is claimed unless the records of the binding are as they were read.
//! - A tenant gets another subnet only if all its subnets are full.

pub mod resolve;

use std::sync::Arc;

use atoll_ipam::{ClaimRequest, Claimed, IpamError, claim};
use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::Attachment;
use atoll_model::error::{Class, Classify as _};
use atoll_records::{ClaimRecord, Revision, TombstoneRecord, Versioned};
use atoll_store::Store;

use self::resolve::Resolver;
use crate::binding::{TenantBinding, Who};
use crate::error::TenantError;
use atoll_network::Engine;

/// How often the records that a claim rests on may change before the admission ends.
const ATTEMPTS: u32 = 8;

/// The attachment that is to be admitted.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// The attachment.
    pub attachment: &'a Attachment,
    /// The pod's name, if the runtime gave one.
    pub pod: Option<&'a str>,
    /// The pod's uid, if the runtime gave one.
    pub pod_uid: Option<&'a str>,
    /// The addresses, MAC and subnet that the pod requests.
    pub requested: &'a AddressRequest,
    /// A tombstone of the attachment that the caller supersedes.
    pub fence: Option<Revision>,
    /// Until then, seconds since 1970, a deletion of an earlier port of the attachment may still arrive; 0: none can.
    pub deletions_until: u64,
}

/// How a claim ended.
#[derive(Debug)]
pub enum Admitted {
    /// The attachment has a new claim.
    New(Versioned<ClaimRecord>),
    /// The attachment had this claim already.
    Already(Versioned<ClaimRecord>),
    /// A tombstone that the caller had not seen prevents the claim.
    Blocked(Versioned<TombstoneRecord>),
    /// The request cannot be met exactly.
    Refused(IpamError),
    /// The tenant is full and cannot grow.
    Full(TenantError),
    /// The records that the claim rests on changed at each attempt.
    Unsteady,
}

/// The admission of one attachment.
pub struct Admission<'a, S, E> {
    resolver: Resolver<'a, S, E>,
    who: Who,
    binding: TenantBinding,
    /// Why the tenant cannot grow, once growth was refused.
    cannot_grow: Option<Arc<TenantError>>,
    attempts: u32,
}

impl<'a, S: Store, E: Engine> Admission<'a, S, E> {
    /// Resolves the tenant.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub async fn begin(resolver: Resolver<'a, S, E>, who: Who) -> Result<Self, TenantError> {
        let binding = resolver.resolve(&who).await?;
        Ok(Self { resolver, who, binding, cannot_grow: None, attempts: 0 })
    }

    /// The records of the pod's tenant as they were read last.
    pub fn binding(&self) -> &TenantBinding {
        &self.binding
    }

    /// Ends the admission.
    pub fn into_binding(self) -> TenantBinding {
        self.binding
    }

    /// Claims the address. A stale binding is renewed, a full tenant grows.
    ///
    /// # Errors
    /// The tenant could not be resolved again, or growing failed for another reason than its limits.
    pub async fn claim(&mut self, applicant: Applicant<'_>) -> Result<Admitted, TenantError> {
        while self.attempts < ATTEMPTS {
            self.attempts += 1;
            match claim(self.resolver.store, &self.request(applicant)).await {
                Ok(Claimed::New(claim)) => return Ok(Admitted::New(claim)),
                Ok(Claimed::Already(claim)) => return Ok(Admitted::Already(claim)),
                Ok(Claimed::Blocked(tombstone)) => return Ok(Admitted::Blocked(tombstone)),
                Ok(Claimed::Stale(current)) => {
                    self.binding = self.resolver.refresh(&self.who, current).await?;
                    self.cannot_grow = None;
                }
                Err(IpamError::Exhausted { tenant, subnets }) => {
                    if let Some(because) = self.cannot_grow.clone() {
                        let quota = self.binding.tenant.record.quota.clone();
                        return Ok(Admitted::Full(TenantError::Full { tenant, subnets, quota, because }));
                    }
                    self.grow().await?;
                }
                Err(refused) => return Ok(Admitted::Refused(refused)),
            }
        }
        Ok(Admitted::Unsteady)
    }

    async fn grow(&mut self) -> Result<(), TenantError> {
        match self.resolver.grow(&self.who, self.binding.clone()).await {
            // There is more room than before, which others may have taken: earlier attempts do not count.
            Ok(grown) => (self.binding, self.attempts) = (grown, 0),
            Err(error) if error.class() == Class::Exhausted => self.cannot_grow = Some(Arc::new(error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn request<'b>(&'b self, applicant: Applicant<'b>) -> ClaimRequest<'b> {
        let Applicant { attachment, pod, pod_uid, requested, fence, deletions_until } = applicant;
        ClaimRequest {
            attachment,
            cluster: &self.binding.cluster.record,
            tenant: &self.binding.tenant.record,
            guards: self.binding.guards(),
            namespace: self.who.namespace.as_ref(),
            pod,
            pod_uid,
            host_id: &self.resolver.node.host_id,
            fence,
            deletions_until,
            was_evicted: self.binding.was_evicted(),
            can_grow: self.cannot_grow.is_none(),
            requested,
        }
    }
}
