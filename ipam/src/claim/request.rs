//! The request of a claim, and its outcomes.

use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::Attachment;
use atoll_model::ids::{HostId, Namespace};
use atoll_records::{
    ClaimRecord, ClusterRecord, NamespaceRecord, NodeRecord, Revision, TenantRecord, TombstoneRecord, Versioned,
};

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

/// A request for an address of a tenant, and the caller's cached records.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    /// The attachment.
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
    /// The id of this node's host in the engine.
    pub host_id: &'a HostId,
    /// A tombstone of this attachment that the caller has seen and supersedes: it is compared at this revision and
    /// deleted in the same transaction. None: there must be no tombstone.
    pub fence: Option<Revision>,
    /// Until then, seconds since 1970, a deletion of an earlier port of this attachment may still arrive; 0: none can, as
    /// far as the caller knows. A new claim gets a port of another id, and remembers it.
    pub deletions_until: u64,
    /// The node was evicted once: a deletion by an eviction that runs beside may still arrive at any time. A new
    /// claim gets a port of another id.
    pub was_evicted: bool,
    /// The caller can give the tenant another subnet: for a tenant that is full of pods the result is
    /// [`IpamError::Exhausted`](crate::IpamError::Exhausted), although addresses in cool-down could be reused early.
    /// Otherwise they are reused early, and `Exhausted` means that every address is in use.
    pub can_grow: bool,
    /// The pod's request. It is met exactly or refused, also if there is a claim already.
    pub requested: &'a AddressRequest,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time and never stored: its size does not matter")]
pub enum Claimed {
    /// The addresses are ours, since now.
    New(Versioned<ClaimRecord>),
    /// The attachment has a claim already: the answer of last time.
    Already(Versioned<ClaimRecord>),
    /// The caller's cache is out of date. Nothing was claimed.
    Stale(Current),
    /// A tombstone that the caller had not seen stands in the way. Nothing was claimed.
    Blocked(Versioned<TombstoneRecord>),
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
