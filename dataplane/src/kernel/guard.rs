//! The filter of the node's own namespace: one table, which others must leave alone and which leaves others alone.

use super::netns::Netns;
use super::nft::{Filter, attribute, run_nft, text};
use crate::error::PlaneError;

/// A table of the node, and what it looked like when it was right.
pub(crate) struct Guard {
    filter: Filter,
    table: &'static str,
    right: Option<Vec<Vec<u8>>>,
}

impl Guard {
    /// Opens a socket in `netns`; changes nothing.
    pub(crate) fn open(netns: &Netns, table: &'static str) -> Result<Self, PlaneError> {
        Ok(Self { filter: Filter::open(netns)?, table, right: None })
    }

    /// Makes the table be `script`, whose marker is the empty chain `gen_<generation>`; answers how many changes that
    /// took. A table that carries the marker after a restart is taken for whole when it has `rules` rules.
    pub(crate) fn ensure(
        &mut self,
        netns: &Netns,
        (script, generation): &(String, String),
        rules: usize,
    ) -> Result<usize, PlaneError> {
        let now = self.filter.table(self.table)?;
        if self.right.as_ref() == Some(&now) {
            return Ok(0);
        }
        let marker = format!("gen_{generation}");
        // The third attribute of a chain is its name, that of a rule its handle.
        let marked = now.iter().any(|it| text(attribute(it, 3)) == Some(marker.as_str()));
        let chains = script.matches("\nchain ").count();
        if self.right.is_none() && marked && now.len() == chains + rules {
            self.right = Some(now);
            return Ok(0);
        }
        Self::run(netns, &format!("{}{script}", self.removal()))?;
        self.right = Some(self.filter.table(self.table)?);
        Ok(1)
    }

    /// Removes the table; absent is fine.
    pub(crate) fn remove(&mut self, netns: &Netns) -> Result<(), PlaneError> {
        self.right = None;
        if self.filter.table(self.table)?.is_empty() { Ok(()) } else { Self::run(netns, &self.removal()) }
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
