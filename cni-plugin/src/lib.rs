//! The CNI plugin `atoll`: attaches containers to tenants' networks and detaches them.
//!
//! | module | what |
//! |---|---|
//! | [`add`], [`del`], [`check`], [`gc`], [`status`] | the verbs |
//! | [`detach`] | taking an attachment apart, for every verb |
//! | [`drain`] | settling what earlier calls left for later |
//! | `pending` | the same before a request is refused, and what the refusal says of it |
//! | `namesakes` | what this machine made under another name of the node or the network |
//! | `due` | times that a clock wrote which may have been ahead. Pure |
//! | [`world`], [`real`] | everything a verb touches: the seams, this node's files, the clock |
//! | [`reach`] | a server whose settings name a file that cannot be used |
//! | [`wire`] | the seam to the kernel |
//! | `ways` | how what a further interface of a pod sends finds its way |
//! | [`journal`], [`graves`] | this node's files: lock and progress, local tombstones |
//! | [`course`] | the stages of a call and how long they took |
//! | [`mtu`], [`health`] | what a pod's interface may carry; whether an outage has lasted |
//! | [`tally`] | which requests may still be on their way |
//! | [`log`] | what is written down about this machine |
//! | [`error`], [`defect`] | why a verb failed; what a panic says |
//!
//! The order of effects, and why a crash between any two of them leaks nothing, is in `docs/design/attachment.md`.

pub mod add;
pub mod check;
pub mod course;
pub mod defect;
pub mod del;
pub mod detach;
pub mod drain;
mod due;
pub mod error;
pub mod gc;
pub mod graves;
pub mod health;
pub mod journal;
pub mod log;
pub mod mtu;
mod namesakes;
mod pending;
pub mod reach;
pub mod real;
pub mod status;
pub mod tally;
mod ways;
pub mod wire;
pub mod world;
