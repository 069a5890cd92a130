//! What MidoNet's engine remembers about a network besides its description ([`EngineMemory`]).

use atoll_network::{EngineFailure, EngineMemory};

use crate::error::MidoNetError;

/// The content of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Part of the ids of chains and rules, which the API cannot update in place: another generation makes new ones.
    pub(crate) generation: u32,
}

impl Memory {
    /// Reads the memory of a network; fields of another version are ignored.
    ///
    /// # Errors
    /// A field has another type: the record is damaged.
    pub(crate) fn read(memory: &EngineMemory) -> Result<Self, MidoNetError> {
        let Some(generation) = memory.0.get("generation") else { return Ok(Self { generation: 1 }) };
        match generation.as_u64().map(u32::try_from) {
            Some(Ok(generation)) => Ok(Self { generation }),
            _ => Err(MidoNetError {
                object: "the engine's part of the tenant's record".to_owned(),
                failure: EngineFailure::Broken,
                message: format!("its generation is {generation}, expected a number of 32 bits"),
            }),
        }
    }
}
