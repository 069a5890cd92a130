//! The errors of this crate.

use std::fmt;
use std::net::IpAddr;

use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{Namespace, PodName, TenantName};
use atoll_records::{Phase, ReadError};
use atoll_store::StoreError;
use ipnetwork::IpNetwork;

use crate::holder::Holder;

/// How full a subnet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The subnet, by its first prefix.
    pub cidr: IpNetwork,
    /// How many pods it has room for.
    pub capacity: u128,
    /// How many of its addresses are in cool-down: they could be reused early.
    pub cool_down: usize,
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: all {} addresses taken, {} of them in cool-down", self.cidr, self.capacity, self.cool_down)
    }
}

/// An address could not be claimed or released, or a tombstone not be written.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The store failed. This includes an outcome that is still unknown after another read.
    #[error("addresses of {object}")]
    Store {
        /// The operation and its object.
        object: String,
        /// Why it was not.
        #[source]
        source: StoreError,
    },
    /// A record cannot be read; it is left as it is.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// Every active subnet is full.
    #[error("tenant {tenant} has no free address ({})", list(.subnets))]
    Exhausted {
        /// The tenant.
        tenant: TenantName,
        /// Its active subnets.
        subnets: Vec<Fill>,
    },
    /// The subnet that was asked for is full. Another subnet would not help.
    #[error("tenant {tenant} has no free address in the subnet that was asked for ({fill})")]
    SubnetFull {
        /// The tenant.
        tenant: TenantName,
        /// The subnet.
        fill: Box<Fill>,
    },
    /// The tenant has no such subnet.
    #[error("tenant {tenant} has no {choice} (it has {})", list(.there))]
    NoSuchSubnet {
        /// The tenant.
        tenant: TenantName,
        /// The requested subnet.
        choice: SubnetChoice,
        /// Its subnets.
        there: Vec<IpNetwork>,
    },
    /// The subnet that was asked for does not give addresses, not yet or no more.
    #[error("subnet {cidr} of tenant {tenant} is {}", words(*.phase))]
    NotReady {
        /// The tenant.
        tenant: TenantName,
        /// The subnet.
        cidr: IpNetwork,
        /// Its lifecycle phase.
        phase: Phase,
    },
    /// No pod of this tenant can have this address.
    #[error("no pod of tenant {tenant} can have {address}: {why}")]
    Impossible {
        /// The tenant.
        tenant: TenantName,
        /// The address.
        address: IpAddr,
        /// Why not.
        why: String,
    },
    /// A requested address has another owner.
    #[error("{address} of tenant {tenant} is taken by {holder}")]
    Taken {
        /// The tenant.
        tenant: TenantName,
        /// The address.
        address: IpAddr,
        /// Its holder.
        holder: Box<Holder>,
    },
    /// An address that was asked for was released a short while ago, by a pod of another namespace.
    #[error("{address} of tenant {tenant} is in cool-down since its release {ago} s ago; it will be free soon")]
    InCoolDown {
        /// The tenant.
        tenant: TenantName,
        /// The address.
        address: IpAddr,
        /// For how long, seconds.
        ago: u64,
    },
    /// An address that was asked for is kept for another pod.
    #[error("{address} of tenant {tenant} is reserved for pod {namespace}/{pod}")]
    Reserved {
        /// The tenant.
        tenant: TenantName,
        /// The address.
        address: IpAddr,
        /// The pod's namespace.
        namespace: Namespace,
        /// The pod's name.
        pod: PodName,
    },
    /// The pod has a reservation that does not fit what it asks for, or where it is.
    #[error("{address} is reserved for pod {namespace}/{pod}, but {why}")]
    Reservation {
        /// The address.
        address: IpAddr,
        /// The pod's namespace.
        namespace: Namespace,
        /// The pod's name.
        pod: PodName,
        /// The reason.
        why: String,
    },
    /// No pod can have this MAC.
    #[error("no pod can have the MAC {mac}: {why}")]
    BadMac {
        /// The MAC.
        mac: Mac,
        /// Why not.
        why: String,
    },
    /// A MAC that was asked for is used in the subnet.
    #[error("the MAC {mac} is used in subnet {cidr} of tenant {tenant} by {by}")]
    MacTaken {
        /// The tenant.
        tenant: TenantName,
        /// The subnet.
        cidr: IpNetwork,
        /// The MAC.
        mac: Mac,
        /// By whom.
        by: String,
    },
    /// The attachment has a claim that is not what is asked for now. Nothing was changed.
    #[error("{attachment} has {has} already, and asks for {requested} now")]
    OtherRequest {
        /// The attachment.
        attachment: Box<Attachment>,
        /// The addresses of its claim.
        has: String,
        /// Its request.
        requested: Box<AddressRequest>,
    },
    /// The tenant has no subnet that is ready.
    #[error("tenant {tenant} has no active subnet")]
    NoSubnet {
        /// The tenant.
        tenant: TenantName,
    },
    /// There is no such tenant.
    #[error("there is no tenant {tenant}")]
    NoTenant {
        /// The tenant.
        tenant: TenantName,
    },
    /// The tenant is being deleted.
    #[error("tenant {tenant} is being deleted")]
    Deleting {
        /// The tenant.
        tenant: TenantName,
    },
    /// Others were faster, again and again.
    #[error("no address for {attachment} after {attempts} attempts: others were faster each time")]
    Contended {
        /// For whom.
        attachment: Attachment,
        /// How often it was tried.
        attempts: u32,
    },
}

impl IpamError {
    /// Adds the purpose of the store's use to its error.
    pub(crate) fn store(object: impl fmt::Display) -> impl FnOnce(StoreError) -> Self {
        move |source| Self::Store { object: object.to_string(), source }
    }
}

impl IpamError {
    /// The attempts at a change are used up: the cause that the store gave last, or lost races.
    pub(crate) fn exhausted(object: impl fmt::Display, races: &str) -> impl Fn(Option<StoreError>) -> Self {
        move |cause| {
            let races = || StoreError::Unknown { endpoint: "all".to_owned(), reason: races.to_owned() };
            Self::Store { object: object.to_string(), source: cause.unwrap_or_else(races) }
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Building => "being built",
        Phase::Active => "in use, but has no room for a pod",
        Phase::Deleting => "being deleted",
    }
}

impl Classify for IpamError {
    fn class(&self) -> Class {
        match self {
            Self::Store { source, .. } => source.class(),
            Self::Record(error) => error.class(),
            Self::Exhausted { .. } | Self::SubnetFull { .. } => Class::Exhausted,
            Self::NoSuchSubnet { .. } | Self::NoTenant { .. } | Self::Impossible { .. } | Self::BadMac { .. } => {
                Class::Rejected
            }
            Self::Reserved { .. } | Self::Reservation { .. } => Class::Denied,
            Self::OtherRequest { .. } => Class::Drift,
            // It may be free later: the pod that has it ends, the subnet gets ready.
            Self::Taken { .. } | Self::MacTaken { .. } | Self::InCoolDown { .. } | Self::NotReady { .. } => {
                Class::Unavailable
            }
            Self::NoSubnet { .. } | Self::Deleting { .. } | Self::Contended { .. } => Class::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store { source, .. } => source.hint(),
            Self::Record(error) => error.hint(),
            Self::Exhausted { tenant, .. } => Some(format!(
                "delete pods of tenant {tenant}, or give it another subnet (`atollctl subnet add {tenant}`)"
            )),
            Self::SubnetFull { .. } => {
                Some("delete pods of this subnet, or ask for another one, or for none".to_owned())
            }
            Self::NoSuchSubnet { tenant, .. } => Some(format!("choose one of `atollctl subnet list {tenant}`")),
            Self::Impossible { .. } => Some("ask for another address, or for none".to_owned()),
            Self::Taken { .. } => Some("ask for another address, or delete the pod that has it".to_owned()),
            Self::Reserved { .. } | Self::Reservation { .. } => Some(
                "show the reservation (`atollctl address list`) or lift it (`atollctl address release`)".to_owned(),
            ),
            Self::BadMac { .. } | Self::MacTaken { .. } => Some("ask for another MAC, or for none".to_owned()),
            Self::OtherRequest { .. } => Some("let the runtime DEL the attachment first".to_owned()),
            Self::NoSubnet { .. } | Self::Deleting { .. } | Self::Contended { .. } => Some("try again".to_owned()),
            Self::InCoolDown { .. } | Self::NotReady { .. } => Some("try again in a while".to_owned()),
            Self::NoTenant { .. } => Some("see `atollctl tenant list`".to_owned()),
        }
    }
}
