//! The filter of the node's own namespace: one table, which others must leave alone and which leaves others alone.

use super::netns::Netns;
use super::nft::{Filter, IPV4, run_nft};
use crate::error::PlaneError;

/// A table of the node.
pub(crate) struct Guard {
    filter: Filter,
    table: &'static str,
}

impl Guard {
    /// Opens a socket in `netns`; changes nothing.
    pub(crate) fn open(netns: &Netns, table: &'static str) -> Result<Self, PlaneError> {
        Ok(Self { filter: Filter::open(netns)?, table })
    }

    /// Makes the table be `script`, whose marker is the empty chain `gen_<generation>`; answers how many changes that
    /// took.
    pub(crate) fn ensure(
        &mut self,
        netns: &Netns,
        (script, generation): &(String, String),
    ) -> Result<usize, PlaneError> {
        let tables = [(IPV4, self.table)];
        if self.filter.is_sealed(&tables, &format!("gen_{generation}"))? {
            return Ok(0);
        }
        Self::run(netns, &format!("{}{script}", self.removal()))?;
        self.filter.seal(&tables)?;
        Ok(1)
    }

    /// True when there is a table of this name.
    pub(crate) fn stands(&mut self) -> Result<bool, PlaneError> {
        Ok(!self.filter.chains(IPV4, self.table)?.is_empty())
    }

    /// Removes the table; absent is fine.
    pub(crate) fn remove(&mut self, netns: &Netns) -> Result<(), PlaneError> {
        Self::run(netns, &self.removal())
    }

    /// Adding first makes deleting work when there is none.
    fn removal(&self) -> String {
        let table = self.table;
        format!("add table ip {table}\ndelete table ip {table}\n")
    }

    fn run(netns: &Netns, script: &str) -> Result<(), PlaneError> {
        netns.run(|| run_nft(script))?.map_err(PlaneError::Filter)
    }
}
