//! The attachment state: the phase of an attachment's ADD and what it knows, as JSON in
//! `<runDir>/attachments/<hash>`.
//!
//! The file may be lost: a reboot empties `/run`. Its contents save requests. What only the file has, that an ADD died, does
//! not matter after a reboot, because the requests of that ADD are answered or dead by then.

use atoll_model::attachment::Attachment;
use atoll_records::{ClaimRecord, Versioned};
use serde::{Deserialize, Serialize};

use crate::netns::Netns;

/// The phase of an ADD, and what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentState {
    /// The phase of the ADD.
    pub phase: AddPhase,
    /// The attachment: the name of the file is only its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// The prefix of etcd under which the claim is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Until then, seconds since 1970, a late request of an ADD that died may still take effect; 0: none can.
    #[serde(default)]
    pub late_requests_until: u64,
    /// The deletion of the port may be on its way: this is written before the request is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_sent: bool,
    /// The claim, as soon as there is one. Its revision guards its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Versioned<ClaimRecord>>,
    /// The namespace of the host end, as soon as it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_netns: Option<Netns>,
}

/// The phase of an ADD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddPhase {
    /// It has begun. If the lock is free, it died.
    Adding,
    /// It was finished: its result was printed or is about to be.
    Done,
}

impl AttachmentState {
    /// An ADD wrote it. A DEL writes a state too if there was none; that state does not show what exists.
    pub fn is_written_by_add(&self) -> bool {
        self.phase == AddPhase::Adding || self.claim.is_some()
    }

    /// Nothing is known but that an ADD has begun.
    pub fn begun() -> Self {
        Self {
            phase: AddPhase::Adding,
            attachment: None,
            prefix: None,
            late_requests_until: 0,
            deletion_sent: false,
            claim: None,
            host_netns: None,
        }
    }
}
