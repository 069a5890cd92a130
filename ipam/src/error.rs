//! What can go wrong with addresses.

use std::fmt;

use atoll_model::attachment::Attachment;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::TenantName;
use atoll_model::record::RecordError;
use atoll_store::StoreError;
use ipnetwork::Ipv4Network;

/// How full a subnet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The subnet.
    pub cidr: Ipv4Network,
    /// How many pods it has room for.
    pub capacity: u128,
    /// How many addresses of it are cooling down: they could be reused early.
    pub cooling: usize,
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: all {} addresses taken, {} of them cooling", self.cidr, self.capacity, self.cooling)
    }
}

/// An address could not be claimed or released, or a tombstone not be written.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The store failed. An outcome that is unknown although it was looked for is among these.
    #[error("addresses of {object}")]
    Store {
        /// What was to be done for whom.
        object: String,
        /// Why it was not.
        #[source]
        source: StoreError,
    },
    /// A record cannot be read; it is left as it is.
    #[error("the record at {key} cannot be read")]
    Damaged {
        /// Its key, without the prefix of the installation.
        key: String,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// Every active subnet is full.
    #[error("tenant {tenant} has no free address ({})", list(.subnets))]
    Exhausted {
        /// The tenant.
        tenant: TenantName,
        /// Its active subnets.
        subnets: Vec<Fill>,
    },
    /// The tenant has no subnet that is ready.
    #[error("tenant {tenant} has no active subnet")]
    NoSubnet {
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
    /// The store answered something that does not fit the question.
    #[error("the store's answer about {object} does not fit the question")]
    Answer {
        /// What was asked.
        object: String,
    },
}

impl IpamError {
    /// Says for what the store was used when it failed.
    pub(crate) fn store(object: impl fmt::Display) -> impl FnOnce(StoreError) -> Self {
        move |source| Self::Store { object: object.to_string(), source }
    }
}

fn list(subnets: &[Fill]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Classify for IpamError {
    fn class(&self) -> Class {
        match self {
            Self::Store { source, .. } => source.class(),
            Self::Damaged { .. } | Self::Answer { .. } => Class::Bug,
            Self::Exhausted { .. } => Class::Exhausted,
            Self::NoSubnet { .. } | Self::Deleting { .. } | Self::Contended { .. } => Class::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store { source, .. } => source.hint(),
            Self::Damaged { key, .. } => Some(format!("look at {key} in etcd; nothing overwrites it")),
            Self::Exhausted { tenant, .. } => Some(format!(
                "delete pods of tenant {tenant}, or give it another subnet (`atollctl subnet add {tenant}`)"
            )),
            Self::NoSubnet { .. } | Self::Deleting { .. } | Self::Contended { .. } => Some("try again".to_owned()),
            Self::Answer { .. } => None,
        }
    }
}
