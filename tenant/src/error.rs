//! Why a pod cannot be bound to a tenant: faults of the cluster's, the node's or the tenant's record, or of the network
//! behind it. Every variant names the object, the cause and the remedy.

use std::fmt;

use atoll_ipam::{Fill, IpamError};
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{HostId, Namespace, NodeName, TenantName};
use atoll_records::{Quota, ReadError};
use atoll_store::StoreError;
use ipnetwork::IpNetwork;
use uuid::Uuid;

use atoll_network::{EngineError, ProviderCandidate};

/// Why an operation on tenants failed.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// The store failed.
    #[error("{what}")]
    Store {
        /// The operation and the record.
        what: String,
        /// Why it was not.
        #[source]
        source: StoreError,
    },
    /// The engine failed.
    #[error("{what}")]
    Engine {
        /// The operation and its object.
        what: String,
        /// Why it was not.
        #[source]
        source: EngineError,
    },
    /// A record cannot be read; it is left as it is.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// This node's configuration and the cluster's record differ.
    #[error("`{setting}` is {file} in this node's configuration, but {cluster} in the cluster")]
    Disagrees {
        /// The key.
        setting: &'static str,
        /// The node's value.
        file: String,
        /// The cluster's value.
        cluster: String,
    },
    /// Two pools of the configuration overlap.
    #[error("`cluster.{first}` ({first_cidr}) and `cluster.{second}` ({second_cidr}) overlap")]
    Overlap {
        /// The key of one, below `cluster`.
        first: &'static str,
        /// Its value.
        first_cidr: IpNetwork,
        /// The key of the other.
        second: &'static str,
        /// Its value.
        second_cidr: IpNetwork,
    },
    /// A setting of `cluster` cannot work.
    #[error("`cluster.{setting}` is {value}: {problem}")]
    Setting {
        /// The key below `cluster`.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The fault.
        problem: &'static str,
    },
    /// `providerRouter` is `auto` and the controller has none, or several.
    #[error("`cluster.providerRouter` is auto, and the engine has {}", listed(.candidates))]
    Provider {
        /// The routers it could have been.
        candidates: Vec<ProviderCandidate>,
    },
    /// A router that was named to be the provider router is not there, or not the only one of its name.
    #[error("there {} named {name:?}", if .found.is_empty() { "is no router with this id or".to_owned() } else { format!("are several routers ({})", .found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")) })]
    NoRouter {
        /// The given name.
        name: String,
        /// The routers of that name.
        found: Vec<Uuid>,
    },
    /// The cluster has another provider router than `init` was called with.
    #[error("the cluster's provider router is {router}, {}", if *.made { "made with other uplinks" } else { "which was there before us" })]
    OtherProvider {
        /// The router.
        router: Uuid,
        /// `init` has made it.
        made: bool,
    },
    /// Another machine has this node's name.
    #[error("node {node} is registered with {what} {registered}, this machine has {ours}")]
    NodeTaken {
        /// The name.
        node: NodeName,
        /// The field that differs: `machine id` or `host id`.
        what: &'static str,
        /// The registered value.
        registered: String,
        /// This machine's value.
        ours: String,
    },
    /// This machine is registered under another name.
    #[error("this machine (host id {host}) is registered as node {registered}, and calls itself {ours} now")]
    SecondName {
        /// The id of its host in the engine.
        host: HostId,
        /// The name that it has.
        registered: NodeName,
        /// The name that it would get.
        ours: NodeName,
    },
    /// This node is being evicted.
    #[error("node {node} is being evicted")]
    Evicting {
        /// The node.
        node: NodeName,
    },
    /// There is no such node.
    #[error("there is no node {node}")]
    NoNode {
        /// Its name.
        node: NodeName,
    },
    /// A node is not evicted while it may be at work.
    #[error("the engine calls host {host} of node {node} alive")]
    Alive {
        /// The node.
        node: NodeName,
        /// Its host.
        host: HostId,
    },
    /// An address or a claim could not be dealt with.
    #[error(transparent)]
    Addresses(#[from] IpamError),
    /// The call names no namespace and the node has no default tenant.
    #[error("the call names no namespace (K8S_POD_NAMESPACE in CNI_ARGS) and `tenant.default` is not set")]
    NoTenant,
    /// A name alone admits no namespace.
    #[error("{who} may not enter tenant {tenant}, which was created for {origin}")]
    Denied {
        /// The caller: `namespace x` or `tenant.default`.
        who: String,
        /// The namespace, where there is one.
        namespace: Option<Namespace>,
        /// The tenant.
        tenant: TenantName,
        /// Why it was created.
        origin: String,
    },
    /// A namespace belongs to a tenant that is not there, or to an earlier incarnation of it.
    #[error("namespace {namespace} belongs to a tenant {tenant} that no longer exists")]
    Orphan {
        /// The namespace.
        namespace: Namespace,
        /// The tenant.
        tenant: TenantName,
    },
    /// The tenant is being deleted.
    #[error("tenant {tenant} is being deleted")]
    Deleting {
        /// The tenant.
        tenant: TenantName,
    },
    /// A pool has no room for another tenant.
    #[error("no room for tenant {tenant}: all {capacity} {what} of {pool} are taken")]
    Exhausted {
        /// For whom.
        tenant: TenantName,
        /// The pool that is full: `transit links` or `subnets`.
        what: &'static str,
        /// The pool.
        pool: IpNetwork,
        /// How many it has.
        capacity: u64,
    },
    /// There is no such tenant.
    #[error("there is no tenant {tenant}")]
    Unknown {
        /// Its name.
        tenant: TenantName,
    },
    /// There is such a tenant.
    #[error("there is a tenant {tenant} already")]
    Exists {
        /// Its name.
        tenant: TenantName,
    },
    /// A namespace belongs to another tenant than the command names.
    #[error("namespace {namespace} belongs to tenant {tenant}")]
    Elsewhere {
        /// The namespace.
        namespace: Namespace,
        /// Its tenant.
        tenant: TenantName,
    },
    /// A namespace cannot move: it has pods.
    #[error("namespace {namespace} has {}, which would keep their old network: {}", how_many(.pods), .pods.join(", "))]
    Occupied {
        /// The namespace.
        namespace: Namespace,
        /// Its pods, by name and node.
        pods: Vec<String>,
    },
    /// A tenant cannot be deleted: it has pods.
    #[error("tenant {tenant} has {}: {}", how_many(.pods), .pods.join(", "))]
    InUse {
        /// The tenant.
        tenant: TenantName,
        /// Its pods, by name and node.
        pods: Vec<String>,
    },
    /// A subnet cannot be deleted: addresses of it are reserved.
    #[error("subnet {ordinal} of tenant {tenant} has reserved addresses: {}", .kept.join(", "))]
    Reserved {
        /// The tenant.
        tenant: TenantName,
        /// The subnet's number.
        ordinal: u32,
        /// The reservations, and their pods.
        kept: Vec<String>,
    },
    /// The tenant has as many as it may have.
    #[error("tenant {tenant} may have {most} {what} and has them")]
    Quota {
        /// The tenant.
        tenant: TenantName,
        /// The resource: `subnets`.
        what: &'static str,
        /// How many it may have.
        most: u32,
    },
    /// Every address that the tenant may have is in use.
    #[error("tenant {tenant} is full: {}", figures(.subnets, .quota))]
    Full {
        /// The tenant.
        tenant: TenantName,
        /// Its active subnets.
        subnets: Vec<Fill>,
        /// The quota.
        quota: Quota,
        /// Why it does not grow.
        #[source]
        because: std::sync::Arc<TenantError>,
    },
    /// A network that was asked for cannot be a subnet.
    #[error("{cidr} cannot be a subnet: {problem}")]
    Subnet {
        /// The network.
        cidr: IpNetwork,
        /// Why not.
        problem: String,
    },
    /// A static route that was asked for cannot be.
    #[error("tenant {tenant} cannot have a route to {destination}: {problem}")]
    Route {
        /// The tenant.
        tenant: TenantName,
        /// Its destination.
        destination: IpNetwork,
        /// Why not.
        problem: String,
    },
    /// DNS that was asked for is of no use to a pod.
    #[error("tenant {tenant} cannot have the DNS {what} {given:?}: {expected} is expected")]
    Dns {
        /// The tenant.
        tenant: TenantName,
        /// The part of it.
        what: &'static str,
        /// The given value.
        given: String,
        /// The values that a pod can use.
        expected: &'static str,
    },
    /// A subnet cannot go: a static route has its next hop there.
    #[error("subnet {ordinal} of tenant {tenant} has the next hop of the static route to {destination}")]
    Needed {
        /// The tenant.
        tenant: TenantName,
        /// The subnet's number.
        ordinal: u32,
        /// The destination of the route.
        destination: IpNetwork,
    },
    /// There is no such subnet.
    #[error("tenant {tenant} has no subnet {ordinal}")]
    NoSubnet {
        /// The tenant.
        tenant: TenantName,
        /// The subnet's number.
        ordinal: u32,
    },
    /// The last active subnet stays.
    #[error("tenant {tenant} has no other active subnet")]
    OnlySubnet {
        /// The tenant.
        tenant: TenantName,
    },
    /// An eviction is incomplete while a record of the node cannot be read.
    #[error("node {node} is not evicted wholly: {released} of its claims are released, and {} cannot be read: {}", .keys.len(), .keys.join(", "))]
    Unreadable {
        /// The node.
        node: NodeName,
        /// The keys of the records, without the prefix of the installation.
        keys: Vec<String>,
        /// How many claims were released.
        released: usize,
    },
    /// Others were faster, again and again.
    #[error("{what}: others were faster {attempts} times")]
    Contended {
        /// The operation.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl TenantError {
    /// Adds the purpose of the store's use to its error.
    pub(crate) fn store(what: impl fmt::Display) -> impl FnOnce(StoreError) -> Self {
        move |source| Self::Store { what: what.to_string(), source }
    }

    /// Adds the purpose of the engine's use to its error.
    pub(crate) fn engine(what: impl fmt::Display) -> impl FnOnce(EngineError) -> Self {
        move |source| Self::Engine { what: what.to_string(), source }
    }
}

/// `2 subnets with 10 addresses, 10 in use and 0 in cool-down; quota: 2 subnets`
fn figures(subnets: &[Fill], quota: &Quota) -> String {
    let capacity: u128 = subnets.iter().map(|subnet| subnet.capacity).sum();
    let cool_down: usize = subnets.iter().map(|subnet| subnet.cool_down).sum();
    let in_use = capacity.saturating_sub(cool_down as u128);
    let subnets = counted(subnets.len() as u128, "subnet", "s");
    let addresses = counted(capacity, "address", "es");
    let most = |most: Option<u32>, what, ending| most.map(|most| counted(most.into(), what, ending));
    let limits = [most(quota.subnets, "subnet", "s"), most(quota.addresses, "address", "es")];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let limits = if limits.is_empty() { "none" } else { limits.as_str() };
    format!("{subnets} with {addresses}, {in_use} in use and {cool_down} in cool-down; quota: {limits}")
}

fn counted(number: u128, what: &str, ending: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { ending })
}

fn how_many(pods: &[String]) -> String {
    counted(pods.len() as u128, "pod", "s")
}

fn listed(candidates: &[ProviderCandidate]) -> String {
    if candidates.is_empty() {
        return "no router whose name contains \"provider router\"".to_owned();
    }
    let each = |c: &ProviderCandidate| format!("{} ({:?} of {:?})", c.id, c.name, c.tenant);
    format!("several: {}", candidates.iter().map(each).collect::<Vec<_>>().join(", "))
}

impl Classify for TenantError {
    fn class(&self) -> Class {
        match self {
            Self::Store { source, .. } => source.class(),
            Self::Engine { source, .. } => source.class(),
            Self::Addresses(error) => error.class(),
            Self::Record(error) => error.class(),
            Self::Unreadable { .. } => Class::Bug,
            Self::Disagrees { .. }
            | Self::Overlap { .. }
            | Self::Setting { .. }
            | Self::Provider { .. }
            | Self::NoRouter { .. }
            | Self::OtherProvider { .. }
            | Self::NodeTaken { .. }
            | Self::SecondName { .. }
            | Self::NoTenant => Class::Config,
            Self::Denied { .. } | Self::Orphan { .. } => Class::Denied,
            Self::Unknown { .. }
            | Self::NoNode { .. }
            | Self::Alive { .. }
            | Self::Exists { .. }
            | Self::Elsewhere { .. }
            | Self::Occupied { .. }
            | Self::InUse { .. }
            | Self::Reserved { .. }
            | Self::Subnet { .. }
            | Self::Route { .. }
            | Self::Dns { .. }
            | Self::Needed { .. }
            | Self::NoSubnet { .. }
            | Self::OnlySubnet { .. } => Class::Rejected,
            Self::Deleting { .. } | Self::Evicting { .. } | Self::Contended { .. } => Class::Unavailable,
            Self::Exhausted { .. } | Self::Quota { .. } | Self::Full { .. } => Class::Exhausted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store { source, .. } => source.hint(),
            Self::Engine { source, .. } => source.hint(),
            Self::Record(error) => error.hint(),
            Self::Unreadable { node, .. } => Some(format!(
                "inspect them in etcd, restore or delete them, and run `atollctl attachment evict-node {node}` again; `atollctl address check` lists the addresses that stay taken"
            )),
            Self::Disagrees { setting, cluster, .. } => Some(format!(
                "set `{setting}` to {cluster} on this node: the cluster's settings are fixed by its first node"
            )),
            Self::Overlap { second, .. } => Some(format!("choose another network for `cluster.{second}`")),
            Self::Setting { setting, .. } => Some(format!("correct `cluster.{setting}`")),
            Self::Provider { .. } => Some("set `cluster.providerRouter` to the id of the provider router".to_owned()),
            Self::NoRouter { .. } => Some("name it by its id".to_owned()),
            Self::OtherProvider { .. } => Some(
                "a cluster's provider router is fixed by the first `atollctl init`; see `atollctl topology`".to_owned(),
            ),
            Self::NodeTaken { node, what, .. } => Some(format!(
                "give this machine another `nodeName`; if it replaces the old {node} for good, run `atollctl attachment evict-node {node} --forget` first ({what} differs)"
            )),
            Self::SecondName { registered, ours, .. } => Some(format!(
                "set `nodeName` to {registered}; to rename the node, delete its pods, set `nodeName` to {ours} and run `atollctl attachment evict-node {registered} --forget`"
            )),
            Self::Addresses(error) => error.hint(),
            Self::Evicting { node } => Some(format!(
                "wait until `atollctl attachment evict-node {node}` is done, and if it was interrupted, run it again: the node is then admitted again"
            )),
            Self::NoNode { .. } => Some("see `atollctl attachment list`, column node".to_owned()),
            Self::Alive { .. } => Some(
                "shut the machine or its agent down first, or use --force: its pods lose network and addresses at once"
                    .to_owned(),
            ),
            Self::NoTenant => Some("set `tenant.default`, or let the runtime name the namespace".to_owned()),
            Self::Denied { namespace: Some(namespace), tenant, .. } => {
                Some(format!("let it in with `atollctl tenant join {tenant} {namespace}`"))
            }
            Self::Denied { namespace: None, .. } => {
                Some("set `tenant.default` to a name that no namespace uses".to_owned())
            }
            Self::Orphan { namespace, tenant } => Some(format!(
                "take it out with `atollctl tenant leave {tenant} {namespace}`, or let it into another with `atollctl tenant join`"
            )),
            Self::Deleting { .. } => Some("try again when the deletion is done".to_owned()),
            Self::Contended { .. } => Some("try again".to_owned()),
            Self::Unknown { .. } => Some("see `atollctl tenant list`".to_owned()),
            Self::Exists { tenant } => Some(format!("inspect it with `atollctl tenant show {tenant}`")),
            Self::Elsewhere { namespace, tenant } => {
                Some(format!("run `atollctl tenant leave {tenant} {namespace}` if that is intended"))
            }
            Self::Occupied { .. } => Some(
                "delete the pods first, or use --new-pods-only: they keep their network until they are made again"
                    .to_owned(),
            ),
            Self::InUse { .. } => {
                Some("delete the pods first, or use --force: they lose network and addresses at once".to_owned())
            }
            Self::Quota { tenant, what, .. } => Some(format!(
                "raise it with `atollctl tenant set {tenant} --max-{what} NUMBER`, or delete what is no longer used"
            )),
            Self::Full { tenant, because, .. } => match because.hint() {
                Some(hint) => Some(format!("delete pods of tenant {tenant}, or {hint}")),
                None => Some(format!("delete pods of tenant {tenant}")),
            },
            Self::Reserved { .. } => Some("lift the reservations first (`atollctl address release`)".to_owned()),
            Self::Subnet { .. } => Some("choose another network, or none: a free one is taken".to_owned()),
            Self::Route { tenant, .. } => {
                Some(format!("see `atollctl tenant show {tenant}` for its subnets and routes"))
            }
            Self::Dns { .. } => Some("correct it; it becomes a part of each pod's resolv.conf".to_owned()),
            Self::Needed { tenant, destination, .. } => {
                Some(format!("take it away first: `atollctl tenant set {tenant} --remove-route {destination}`"))
            }
            Self::NoSubnet { tenant, .. } => Some(format!("see `atollctl subnet list {tenant}`")),
            Self::OnlySubnet { tenant } => {
                Some(format!("add another first (`atollctl subnet add {tenant}`), or delete the tenant"))
            }
            Self::Exhausted { tenant, .. } => {
                Some(format!("delete tenants that are no longer used, to make room for {tenant}"))
            }
        }
    }
}

/// The id of a router as a setting shows it.
pub(crate) fn shown(router: Option<Uuid>) -> String {
    router.map_or_else(|| "auto".to_owned(), |id| id.to_string())
}
