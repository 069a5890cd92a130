//! The seam above REST: a controller that can make a desired graph real and plug ports into it.
//!
//! It speaks of graphs and ports, never of requests, so that another engine (OVN, Neutron) can stand behind it. Every
//! method is idempotent: ensuring twice is ensuring once, deleting what is absent is done.
//!
//! What is not there is not there by the controller's own word: "none", an empty list and "deleted" are never the answer of
//! a gateway or of a server at a wrong path. An address is given away on such a word. See [`Failure::NotApi`].

use std::future::Future;
use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::IfName;
use atoll_model::topology::{Binding, Kind};
use atoll_model::vif::Vif;
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
    /// Who may speak through it.
    pub vif: Vif,
}

/// Further addresses of a pod's port: [`Vif`] has room for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The bridge that the port belongs to.
    pub bridge: Uuid,
    /// The port.
    pub port: Uuid,
    /// The MAC behind it.
    pub mac: Mac,
    /// What it may speak with besides the address of its `vif`; never empty.
    pub addresses: Vec<Ipv4Addr>,
}

/// A port as the controller shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The device it belongs to.
    pub device: Uuid,
    /// Where it is bound.
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

/// What applying a graph did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Objects that were missing.
    pub created: usize,
    /// Objects that differed and were mended.
    pub mended: usize,
    /// Objects that were as they should be.
    pub kept: usize,
    /// Objects that were deleted.
    pub deleted: usize,
    /// Dependent rounds of requests.
    pub rounds: usize,
}

/// An object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Its id.
    pub id: Uuid,
    /// What it is.
    pub kind: Kind,
    /// What is wrong with it.
    pub verdict: Verdict,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is not there.
    Missing,
    /// It differs, and can be mended or made again. Each difference as a sentence.
    Differs(Vec<String>),
    /// It has another owner and is not changed. Each difference is a sentence.
    Foreign(Vec<String>),
}

/// See the module.
pub trait Controller {
    /// The routers that could be the provider router, for `providerRouter: auto`.
    fn provider_candidates(&self) -> impl Future<Output = Result<Vec<ProviderCandidate>, ControllerError>>;

    /// Every router there is.
    fn routers(&self) -> impl Future<Output = Result<Vec<ProviderCandidate>, ControllerError>>;

    /// Makes everything of `graph` exist as described.
    fn apply(&self, graph: &Graph) -> impl Future<Output = Result<Applied, ControllerError>>;

    /// Looks at everything of `graph` and changes nothing: what [`Controller::apply`] would do.
    fn inspect(&self, graph: &Graph) -> impl Future<Output = Result<Vec<Finding>, ControllerError>>;

    /// Deletes everything of `graph`, in the order that leaves nothing dangling.
    fn remove(&self, graph: &Graph) -> impl Future<Output = Result<Applied, ControllerError>>;

    /// Makes a pod's port exist, bound as described. [`Failure::Absent`]: its bridge or host is not there.
    fn ensure_port(&self, port: &PortSpec) -> impl Future<Output = Result<PortState, ControllerError>>;

    /// Says who else may speak through a port that exists.
    fn ensure_seeds(&self, seeds: &Seeds) -> impl Future<Output = Result<(), ControllerError>>;

    /// Takes that back, whether or not the port still exists.
    fn delete_seeds(&self, seeds: &Seeds) -> impl Future<Output = Result<(), ControllerError>>;

    /// Looks at a port; none means that it does not exist.
    fn port(&self, id: Uuid) -> impl Future<Output = Result<Option<PortState>, ControllerError>>;

    /// Looks at a machine; none means that the controller knows none of this id.
    fn host(&self, id: Uuid) -> impl Future<Output = Result<Option<HostState>, ControllerError>>;

    /// The ports of a bridge that are not linked to another device: those of pods. None when there is no such bridge.
    fn pod_ports(&self, bridge: Uuid) -> impl Future<Output = Result<Vec<Uuid>, ControllerError>>;

    /// Unbinds and deletes a pod's port. A port of this id that is no pod's is logged and left alone: then the pod has none.
    fn delete_port(&self, id: Uuid) -> impl Future<Output = Result<(), ControllerError>>;

    /// The same without a look, for the caller who has seen the port bound as its claim says: one request less.
    fn delete_seen_port(&self, id: Uuid) -> impl Future<Output = Result<(), ControllerError>>;
}

/// What kind of failure, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The object, or one that it refers to, does not exist.
    Absent,
    /// An object of that id or name exists and is not ours, or is not as it should be and cannot be mended.
    Conflict,
    /// The controller refuses the request as invalid.
    Invalid,
    /// Our credentials do not allow it.
    Denied,
    /// The controller is busy, or read-only for now.
    Busy,
    /// No answer.
    Unreachable,
    /// Another server answered: a gateway, a proxy's page, a server at a wrong path. No conclusion is drawn from it.
    NotApi,
    /// The answer makes no sense.
    Broken,
    /// The settings are wrong.
    Settings,
}

/// The controller did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("controller: {object}: {message}")]
pub struct ControllerError {
    /// What was to be done with which object: `create port 6f…`.
    pub object: String,
    /// The kind of failure.
    pub failure: Failure,
    /// What the controller said.
    pub message: String,
}

impl Classify for ControllerError {
    fn class(&self) -> Class {
        match self.failure {
            Failure::Absent | Failure::Conflict | Failure::Invalid => Class::Rejected,
            Failure::Denied => Class::Denied,
            Failure::Busy | Failure::Unreachable | Failure::NotApi => Class::Unavailable,
            Failure::Broken => Class::Bug,
            Failure::Settings => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.failure {
            Failure::Denied => Some("check `controller.username` and the password file".to_owned()),
            Failure::Busy | Failure::Unreachable => {
                Some("check that the controller runs and is reachable from this node".to_owned())
            }
            Failure::NotApi => Some(
                "check host, port and path in `controller.endpoints`, and what stands between this node and the API: a gateway, a proxy, a login page"
                    .to_owned(),
            ),
            Failure::Conflict => Some("look at the object in the controller; it does not belong to Atoll".to_owned()),
            _ => None,
        }
    }
}
