//! Why a verb failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use atoll_ipam::IpamError;
use atoll_model::attachment::Attachment;
use atoll_model::cni::request::RequestError;
use atoll_model::config::ConfigError;
use atoll_model::error::{Class, Classify};
use atoll_model::ids::{IfName, TenantName};
use atoll_network::EngineError;
use atoll_sdn_client::credentials::PasswordError;
use atoll_sdn_client::transport::TransportError;
use atoll_store::StoreError;
use atoll_tenant::TenantError;
use uuid::Uuid;

use crate::kernel::KernelError;
use atoll_tenant::machine::NodeError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request is malformed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This machine cannot be identified.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is no place for the pod.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// There is no address for the pod, or its claim cannot be read or released.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The controller failed.
    #[error(transparent)]
    Controller(#[from] EngineError),
    /// The connection to etcd cannot be set up.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connection to the controller cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The password file cannot be used.
    #[error("controller.passwordFile: {0}")]
    Password(PasswordError),
    /// The kernel failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Requests of earlier calls for the same attachment may still arrive, and there is no time left to wait for them.
    #[error(
        "attachment {attachment}: requests of earlier calls may still arrive for {seconds} s, which is more than is left"
    )]
    Crossing {
        /// The attachment.
        attachment: Box<Attachment>,
        /// How long, seconds.
        seconds: u64,
    },
    /// Nothing is at the path of the namespace.
    #[error("network namespace {}: nothing is there", .0.display())]
    NetnsGone(PathBuf),
    /// The path of the namespace is not a namespace.
    #[error("network namespace {}: the file is not a network namespace", .0.display())]
    NotANetns(PathBuf),
    /// It is the namespace of the runtime.
    #[error("network namespace {}: it is the one this process runs in", .0.display())]
    OwnNetns(PathBuf),
    /// The name of the interface is taken.
    #[error("network namespace {}: it has an interface {interface} already, which is not of this attachment", .netns.display())]
    Foreign {
        /// The namespace.
        netns: PathBuf,
        /// The interface.
        interface: IfName,
    },
    /// The attachment has a claim of another pod or tenant.
    #[error("attachment {attachment} has a claim in tenant {tenant} from another request")]
    OtherRequest {
        /// The attachment.
        attachment: Box<Attachment>,
        /// Its tenant.
        tenant: TenantName,
    },
    /// Two interfaces of a pod would get the same routing table or metric.
    #[error(
        "interface {interface} would share its routing table or the metric of its routes with {other} of the same pod"
    )]
    PolicyRoutingConflict {
        /// The interface that was to be made.
        interface: IfName,
        /// The one that is there.
        other: IfName,
    },
    /// The attachment belongs to another installation.
    #[error("attachment {attachment} was made under etcd.prefix {made}, and the configuration has {ours}")]
    OtherPrefix {
        /// The attachment.
        attachment: Box<Attachment>,
        /// Under which prefix it was made.
        made: String,
        /// The prefix in the configuration.
        ours: String,
    },
    /// Another call works on the same attachment.
    #[error("attachment {0} is locked by another call")]
    Locked(Box<Attachment>),
    /// The records that a claim compares changed at every attempt.
    #[error("attachment {0}: the records that its claim rests on changed at every attempt")]
    Unsteady(Box<Attachment>),
    /// The port's packets do not flow.
    #[error("port {port} did not become active within {} s", .waited.as_secs_f32())]
    Inactive {
        /// The port.
        port: Uuid,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The port is not as it was made.
    #[error("port {port} is not as it was made: {problem}")]
    Differs {
        /// The port.
        port: Uuid,
        /// The differences.
        problem: String,
    },
    /// The deadline passed.
    #[error("{what}: not done within {} s; {}", .limit.as_secs_f32(), used(.stage.as_ref()))]
    Deadline {
        /// The operation: `ADD of n/net/c/eth0`.
        what: String,
        /// The deadline.
        limit: Duration,
        /// The stage that took longest, and how long.
        stage: Option<(&'static str, Duration)>,
    },
    /// An attachment is not as its ADD left it.
    #[error("attachment {attachment} is not as it was left: {}", .differences.join("; "))]
    NotAsLeft {
        /// The attachment.
        attachment: Box<Attachment>,
        /// Each as a sentence that names the object, what was expected and what was found.
        differences: Vec<String>,
    },
    /// The MTU of the tunnel cannot be known.
    #[error("configuration key \"mtu\" is \"auto\", and the MTU cannot be known: {0}")]
    Mtu(String),
    /// A configured route does not fit the pod.
    #[error("configuration key \"routes\": the route to {route} cannot be made: {problem}")]
    Route {
        /// The route.
        route: Box<atoll_model::route::PodRoute>,
        /// Why not.
        problem: String,
    },
    /// A request was refused, perhaps only because the cleanup of a deleted attachment is pending.
    #[error("{refused}; cleanup is pending: {}", .pending.join("; "))]
    Pending {
        /// The refusal with its causes.
        refused: String,
        /// The pending cleanup, each as a sentence that names attachment, node and place.
        pending: Vec<String>,
        /// The class of the refusal.
        class: Class,
        /// The hint of the refusal.
        hint: Option<String>,
    },
    /// Some of several things failed, the others were done.
    #[error("{} of {of} failed: {}", .problems.len(), .problems.join("; "))]
    Some {
        /// The failures, each as a sentence.
        problems: Vec<String>,
        /// How many things there were.
        of: usize,
        /// The class of the first failure.
        class: Class,
    },
    /// No ADD can work on this node.
    #[error("this node is not ready: {problem}")]
    NotReady {
        /// Why.
        problem: String,
        /// The remedy.
        advice: Option<String>,
        /// Pods that run may be cut off.
        limited: bool,
    },
    /// A file of this node cannot be read or written.
    #[error("{what}")]
    File {
        /// The operation and the file.
        what: &'static str,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

impl CallError {
    /// Adds the operation and the file to an error.
    pub(crate) fn file(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, source }
    }
}

fn used(stage: Option<&(&'static str, Duration)>) -> String {
    match stage {
        Some((name, took)) => format!("{:.1} s of it went to: {name}", took.as_secs_f32()),
        None => "nothing was begun".to_owned(),
    }
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::once(error.to_string()).chain(atoll_model::error::causes(error)).collect::<Vec<_>>().join(": ")
}

impl Classify for CallError {
    fn class(&self) -> Class {
        match self {
            Self::Request(error) => error.class(),
            Self::Config(error) => error.class(),
            Self::Node(error) => error.class(),
            Self::Tenant(error) => error.class(),
            Self::Ipam(error) => error.class(),
            Self::Controller(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Transport(error) => error.class(),
            Self::Password(_) | Self::Mtu(_) | Self::Route { .. } | Self::OtherPrefix { .. } => Class::Config,
            Self::Kernel(error) => error.class(),
            Self::NetnsGone(_) | Self::NotANetns(_) | Self::OwnNetns(_) => Class::Netns,
            Self::PolicyRoutingConflict { .. }
            | Self::Foreign { .. }
            | Self::OtherRequest { .. }
            | Self::Differs { .. }
            | Self::NotAsLeft { .. } => Class::Drift,
            Self::Some { class, .. } | Self::Pending { class, .. } => *class,
            Self::NotReady { limited, .. } => {
                if *limited {
                    Class::Limited
                } else {
                    Class::NotReady
                }
            }
            Self::Locked(_)
            | Self::Unsteady(_)
            | Self::Crossing { .. }
            | Self::Inactive { .. }
            | Self::Deadline { .. } => Class::Unavailable,
            Self::File { .. } => Class::Io,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Request(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Node(error) => error.hint(),
            Self::Tenant(error) => error.hint(),
            Self::Ipam(error) => error.hint(),
            Self::Controller(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Transport(error) => error.hint(),
            Self::Kernel(error) => error.hint(),
            Self::OwnNetns(_) => Some("set CNI_NETNS_OVERRIDE=1 if that is really meant".to_owned()),
            Self::Inactive { .. } => Some(
                "check that the engine's agent runs on this host; with OVN, ovn-controller there, and ovn-northd"
                    .to_owned(),
            ),
            Self::OtherRequest { .. } => Some("let the runtime DEL the attachment first".to_owned()),
            Self::PolicyRoutingConflict { .. } => Some("give one of them a name with another number".to_owned()),
            Self::OtherPrefix { made, .. } => {
                Some(format!("let the runtime DEL the attachment first, or set `etcd.prefix` to {made} again"))
            }
            Self::Locked(_) | Self::Unsteady(_) => Some("try again".to_owned()),
            Self::Crossing { seconds, .. } => Some(format!("try again in {seconds} s, or raise `timeoutSeconds`")),
            Self::NotAsLeft { .. } => Some("let the runtime DEL and ADD the attachment again".to_owned()),
            Self::Mtu(_) => Some("set `mtu` to a number, or `tunnel.interface`".to_owned()),
            Self::Route { .. } => Some("correct `routes` in the configuration".to_owned()),
            Self::NotReady { advice, .. } => advice.clone(),
            Self::File { source, .. } => atoll_node::files::trouble::advice(source).map(str::to_owned),
            Self::Pending { hint, .. } => {
                let cleanup =
                    "see `atollctl doctor` on the node that is named; the next call there, or `atollctl gc`, cleans up";
                Some(hint.as_ref().map_or_else(|| cleanup.to_owned(), |hint| format!("{cleanup}; else {hint}")))
            }
            _ => None,
        }
    }
}
