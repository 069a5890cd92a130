//! The claim of an attachment was released a short while ago.

use atoll_model::attachment::Attachment;
use serde::{Deserialize, Serialize};

use crate::codec::Unknown;
use crate::entry::Entry;
use crate::key::{RecordKey, attachment_path};
use crate::read::{ReadError, Versioned};

/// `released/<node>/<network>/<container>/<ifname>`: the attachment had a claim a short while ago. Without a late deletion
/// the value is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedRecord {
    /// Schema.
    pub v: u32,
    /// Until then, seconds since 1970, a deletion of one of its ports may still arrive.
    pub deletions_until: u64,
    /// Fields of a newer version.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl ReleasedRecord {
    /// The key of an attachment whose claim was released a short while ago.
    pub fn at(attachment: &Attachment) -> RecordKey<Self> {
        RecordKey::new(format!("v2/released/{}", attachment_path(attachment)))
    }

    /// Until when a deletion of an earlier port may still arrive, according to the marker; 0: none can.
    ///
    /// # Errors
    /// The marker cannot be read.
    pub fn deletions_until(marker: &Entry) -> Result<u64, ReadError> {
        if marker.value.is_empty() {
            return Ok(0);
        }
        Ok(Versioned::<Self>::read(marker)?.record.deletions_until)
    }
}
