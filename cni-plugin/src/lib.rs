//! The CNI plugin `atoll`: attaches containers to tenants' networks and detaches them.
//!
//! | module | what |
//! |---|---|
//! | [`add`], [`del`], [`check`], [`gc`], [`status`] | the verbs |
//! | [`plugin`] | what a verb works with: etcd, controller, kernel, this node's files, the clock |
//! | [`production`] | the plugin with the real servers and the real kernel |
//! | [`kernel`] | the seam to the kernel |
//! | [`server`] | a server whose settings may name a file that cannot be used |
//! | [`detach`] | deleting interface, port and claim, for every verb |
//! | `host_to_pod` | how the node reaches its own pods, where the plugin makes it |
//! | [`retry`] | retrying pending cleanup of earlier calls |
//! | `refusal` | the same before a request is refused, and what the refusal reports of it |
//! | `other_names` | attachments of this machine under another name of the node or the network |
//! | `tombstone_times` | times that a clock wrote which may have been ahead. Pure |
//! | `policy_routing` | policy rules and routing tables of a pod's further interfaces. Pure |
//! | `static_entries` | static entries of the controller for further addresses. Pure |
//! | [`call_trace`] | the stages of a call and how long they took |
//! | [`in_flight`] | which requests may still be on their way |
//! | [`mtu`] | the MTU of a pod's interface |
//! | [`status_debounce`] | whether an outage has lasted long enough to be reported. Pure but for its file |
//! | [`log`] | the log of this machine's calls |
//! | [`error`], [`panic_hook`] | why a verb failed; what a panic prints |
//!
//! The order of effects, and why a crash between any two of them leaks nothing, is in `docs/design/attachment.md`.

pub mod add;
pub mod call_trace;
pub mod check;
pub mod del;
pub mod detach;
pub mod error;
pub mod gc;
pub mod host_to_pod;
pub mod in_flight;
pub mod kernel;
pub mod log;
pub mod mtu;
mod other_names;
pub mod panic_hook;
pub mod plugin;
mod pod_port;
mod policy_routing;
pub mod production;
mod refusal;
pub mod retry;
pub mod server;
pub mod status;
pub mod status_debounce;
mod tombstone_times;
