//! Parts of a topology that cannot be expressed.

use serde::Serialize;
use uuid::Uuid;

/// Something of the topology that this data plane cannot express.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unsupported {
    /// The object.
    pub object: Uuid,
    /// Which of its fields, by the controller's name.
    pub field: String,
    /// Why not.
    pub why: String,
    /// What happens instead.
    pub effect: String,
    /// It closes something that the topology may have meant to be open.
    pub closes: bool,
}
