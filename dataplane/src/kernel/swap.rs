//! Replaces one filter by another. No frame passes in between that neither of them accepts.
//!
//! Both tables change in one transaction, and the kernel switches all rules at one moment, but a frame takes longer. It could
//! pass a new chain before that moment, while the chain is still empty, and the old one after it, when that one is empty.
//! Therefore the new chains have priorities one step behind those of the old ones (`priorities`), and a frame passes them last.
//!
//! Near the last step the filter returns to the first one in two more transactions: a copy of it is loaded at step 0, beside it,
//! and then both are replaced by the filter at step 1. Copy and filter give the same verdict for each frame.

use super::netns::OpenNetns;
use super::nft::{Filter, run_nft};
use crate::compile::priorities::{STEPS, read_id_chain};
use crate::compile::table::{Family, RulesetVersion};
use crate::error::PlaneError;

/// A filter at this step returns to the first one. The remaining steps are used if that fails.
const LATE: i32 = STEPS - 4;

impl Filter {
    /// Replaces `tables` by `text`, with its elements; absent tables are created. `text` is called for each load, so that it
    /// has the latest counts.
    ///
    /// # Errors
    /// The kernel refuses the ruleset. The earlier one is still loaded.
    pub(super) fn swap(
        &mut self,
        netns: &OpenNetns,
        tables: &[(Family, &str)],
        mut text: impl FnMut(&mut Self, RulesetVersion) -> Result<String, PlaneError>,
    ) -> Result<(), PlaneError> {
        let step = match self.step(tables)? {
            Some(step) if step + 1 < STEPS => step + 1,
            _ => 0,
        };
        let next = text(self, RulesetVersion { step, copy: false })?;
        load(netns, &(removal(tables) + &next))?;
        if step < LATE {
            return Ok(());
        }
        load(netns, &text(self, RulesetVersion { step: 0, copy: true })?)?;
        let again = text(self, RulesetVersion { step: 1, copy: false })?;
        load(netns, &(removal(tables) + &again))
    }

    /// The step of these tables; the furthest one, if another program has changed one.
    fn step(&mut self, tables: &[(Family, &str)]) -> Result<Option<i32>, PlaneError> {
        let mut furthest = None;
        for (family, table) in tables {
            let chains = self.chains(*family, table)?;
            furthest = furthest.max(chains.iter().find_map(|chain| Some(read_id_chain(chain)?.1)));
        }
        Ok(furthest)
    }
}

/// Deletes these tables and copies of them. Adding each first makes the deletion succeed if it is absent.
pub(super) fn removal(tables: &[(Family, &str)]) -> String {
    let gone = |(family, table): &(Family, &str), copy| {
        let (family, table) = (family.name(), RulesetVersion { step: 0, copy }.table(table));
        format!("add table {family} {table}\ndelete table {family} {table}\n")
    };
    tables.iter().map(|table| gone(table, false) + &gone(table, true)).collect()
}

/// The child inherits the namespace of the thread that starts it.
fn load(netns: &OpenNetns, script: &str) -> Result<(), PlaneError> {
    netns.run(|| run_nft(script))?.map_err(PlaneError::Filter)
}
