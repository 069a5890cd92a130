//! Attachments on this node: their locks and states.
//!
//! | module | what |
//! |---|---|
//! | [`state`] | the format of an attachment state |
//! | [`lock`] | taking the lock of an attachment, reading and writing its state |
//! | [`inspect`] | reading states without working on an attachment |

pub mod inspect;
pub mod lock;
pub mod state;

pub use lock::{AttachmentLock, AttachmentStates, RecordedAttachment};
pub use state::{AddPhase, AttachmentState};
