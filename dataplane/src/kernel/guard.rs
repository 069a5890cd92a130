//! The filter of the machine's own namespace: one table. Tables of other programs are not changed.

use std::collections::BTreeMap;

use super::netns::OpenNetns;
use super::nft::{Filter, run_nft};
use super::swap::removal;
use crate::compile::Ruleset;
use crate::compile::table::Family;
use crate::error::PlaneError;

/// A table of the node.
pub(crate) struct Guard {
    filter: Filter,
    table: &'static str,
}

impl Guard {
    /// Opens a socket in `netns`; changes nothing.
    pub(crate) fn open(netns: &OpenNetns, table: &'static str) -> Result<Self, PlaneError> {
        Ok(Self { filter: Filter::open(netns)?, table })
    }

    /// Loads `ruleset` as the table if it differs; returns the number of changes.
    pub(crate) fn ensure(&mut self, netns: &OpenNetns, ruleset: &Ruleset) -> Result<usize, PlaneError> {
        let tables = [(Family::Ip, self.table)];
        if self.filter.matches_checksum(&tables, &ruleset.id)? {
            return Ok(0);
        }
        self.filter.swap(netns, &tables, |_, version| Ok(ruleset.loaded(version, &mut BTreeMap::new())))?;
        self.filter.write_checksum(&tables)?;
        Ok(1)
    }

    /// True if there is a table of this name.
    pub(crate) fn is_loaded(&mut self) -> Result<bool, PlaneError> {
        Ok(!self.filter.chains(Family::Ip, self.table)?.is_empty())
    }

    /// Removes the table; absent is fine.
    pub(crate) fn remove(&mut self, netns: &OpenNetns) -> Result<(), PlaneError> {
        netns.run(|| run_nft(&removal(&[(Family::Ip, self.table)])))?.map_err(PlaneError::Filter)
    }
}
