//! The interface to an engine: applies a desired graph to a controller and attaches ports to it.
//!
//! It is about graphs and ports, never about requests, so that another engine can implement it. Every method is idempotent;
//! deleting an absent object succeeds.
//!
//! Absence is reported by the controller itself: "none", an empty list and "deleted" are never the answer of a gateway or of
//! a server at a wrong path, because an address is released on such an answer. See [`ControllerFailure::NotApi`].

use std::future::Future;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::IfName;
use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{Binding, Kind};
use uuid::Uuid;

use crate::graph::Graph;

/// A pod's port as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Its id, derived from the attachment.
    pub id: Uuid,
    /// The bridge it belongs to.
    pub bridge: Uuid,
    /// The host that carries it.
    pub host: Uuid,
    /// The interface on that host.
    pub interface: IfName,
    /// The source addresses that it allows.
    pub security: PortSecurity,
}

/// Further addresses of a pod's port: [`PortSecurity`] has room for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticEntries {
    /// The bridge that the port belongs to.
    pub bridge: Uuid,
    /// The port.
    pub port: Uuid,
    /// The MAC behind it.
    pub mac: Mac,
    /// The source addresses that it allows besides the one of its port security; never empty.
    pub addresses: Vec<Ipv4Addr>,
}

/// A port as the controller shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The device it belongs to.
    pub device: Uuid,
    /// Its binding.
    pub binding: Option<Binding>,
    /// Its packets flow.
    pub active: bool,
}

/// A machine as the controller shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Its name.
    pub name: String,
    /// Its agent is there.
    pub alive: bool,
}

/// A router that tenants could link to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCandidate {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its owner in the controller.
    pub tenant: String,
}

/// The outcome of applying a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Objects that were missing.
    pub created: usize,
    /// Objects that differed and were updated.
    pub updated: usize,
    /// Objects that were as they should be.
    pub kept: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Dependent rounds of requests.
    pub rounds: usize,
}

/// An object that differs from the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// Its id.
    pub id: Uuid,
    /// The kind of the object.
    pub kind: Kind,
    /// How it differs.
    pub difference: DriftKind,
}

/// How an object differs from the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    /// It does not exist.
    Missing,
    /// It differs, and can be updated or created again. Each difference as a sentence.
    Differs(Vec<String>),
    /// It belongs to another owner and is left alone. Each difference as a sentence.
    Foreign(Vec<String>),
}

/// An engine that makes a controller's objects match a graph.
pub trait Controller {
    /// The routers that could be the provider router, for `providerRouter: auto`.
    fn provider_candidates(&self) -> impl Future<Output = Result<Vec<ProviderCandidate>, ControllerError>>;

    /// Every router there is.
    fn routers(&self) -> impl Future<Output = Result<Vec<ProviderCandidate>, ControllerError>>;

    /// Makes everything of `graph` exist as described.
    fn apply(&self, graph: &Graph) -> impl Future<Output = Result<Applied, ControllerError>>;

    /// Compares every object of `graph` and changes nothing: the drift that [`Controller::apply`] would remove.
    fn inspect(&self, graph: &Graph) -> impl Future<Output = Result<Vec<Drift>, ControllerError>>;

    /// Deletes everything of `graph`, in the order that leaves nothing dangling.
    fn remove(&self, graph: &Graph) -> impl Future<Output = Result<Applied, ControllerError>>;

    /// Makes a pod's port exist, bound as described. [`ControllerFailure::Absent`]: its bridge or host is not there.
    fn ensure_port(&self, port: &PortSpec) -> impl Future<Output = Result<PortState, ControllerError>>;

    /// Allows further source addresses on a port that exists.
    fn ensure_static_entries(&self, entries: &StaticEntries) -> impl Future<Output = Result<(), ControllerError>>;

    /// Removes them, whether or not the port still exists.
    fn delete_static_entries(&self, entries: &StaticEntries) -> impl Future<Output = Result<(), ControllerError>>;

    /// Reads a port; `None` means that it does not exist.
    fn port(&self, id: Uuid) -> impl Future<Output = Result<Option<PortState>, ControllerError>>;

    /// Reads a host; `None` means that the controller knows none of this id.
    fn host(&self, id: Uuid) -> impl Future<Output = Result<Option<HostState>, ControllerError>>;

    /// The ports of a bridge that are not linked to another device: those of pods. None when there is no such bridge.
    fn pod_ports(&self, bridge: Uuid) -> impl Future<Output = Result<Vec<Uuid>, ControllerError>>;

    /// Unbinds and deletes a pod's port. A port of this id that is no pod's is logged and left alone: then the pod has none.
    fn delete_port(&self, id: Uuid) -> impl Future<Output = Result<(), ControllerError>>;

    /// The same without reading the port, for a caller that has read it with the claim's binding: one request less.
    fn delete_seen_port(&self, id: Uuid) -> impl Future<Output = Result<(), ControllerError>>;
}

/// The kind of a failure, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerFailure {
    /// The object, or one that it refers to, does not exist.
    Absent,
    /// An object of that id or name exists and is not ours, or is not as it should be and cannot be updated.
    Conflict,
    /// The controller refuses the request as invalid.
    Invalid,
    /// Our credentials do not allow it.
    Denied,
    /// The controller is busy, or read-only for now.
    Busy,
    /// No answer.
    Unreachable,
    /// The answer is not the API's: a gateway, a proxy's page, a server at a wrong path. It has no information on the
    /// object.
    NotApi,
    /// The answer cannot be read.
    Broken,
    /// The settings are wrong.
    Settings,
}

/// A request to the controller failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("controller: {object}: {message}")]
pub struct ControllerError {
    /// The operation and its object: `create port 6f…`.
    pub object: String,
    /// The kind of failure.
    pub failure: ControllerFailure,
    /// The controller's message.
    pub message: String,
}

impl Classify for ControllerError {
    fn class(&self) -> Class {
        match self.failure {
            ControllerFailure::Absent | ControllerFailure::Conflict | ControllerFailure::Invalid => Class::Rejected,
            ControllerFailure::Denied => Class::Denied,
            ControllerFailure::Busy | ControllerFailure::Unreachable | ControllerFailure::NotApi => Class::Unavailable,
            ControllerFailure::Broken => Class::Bug,
            ControllerFailure::Settings => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.failure {
            ControllerFailure::Denied => Some("check `controller.username` and the password file".to_owned()),
            ControllerFailure::Busy | ControllerFailure::Unreachable => {
                Some("check that the controller runs and is reachable from this node".to_owned())
            }
            ControllerFailure::NotApi => Some(
                "check host, port and path in `controller.endpoints`, and what is between this node and the API: a gateway, a proxy, a login page"
                    .to_owned(),
            ),
            ControllerFailure::Conflict => Some("inspect the object in the controller; it does not belong to Atoll".to_owned()),
            _ => None,
        }
    }
}
