//! One filter takes the place of another, and no frame passes in between that passes neither.
//!
//! Both tables change in one transaction, and the kernel switches all rules at one moment; but a frame takes longer. It can
//! meet a new chain before that moment, when the chain is still empty, and the old one after it, when that one is. So the
//! new chains stand one step behind the old ones (`priorities`), and a frame meets the new ones last.
//!
//! Near the last step the filter goes back to the first in two more transactions: a copy of it is loaded at step 0, beside
//! it, and then both make way for the filter at step 1. What the copy and the filter say of a frame is the same.

use super::netns::OpenNetns;
use super::nft::{Filter, run_nft};
use crate::compile::priorities::{STEPS, read_id_chain};
use crate::compile::table::{Family, RulesetVersion};
use crate::error::PlaneError;

/// A filter that has come this far goes back. The steps that are left are for when that fails.
const LATE: i32 = STEPS - 4;

impl Filter {
    /// Replaces `tables` by what `text` says they are, with its elements; absent ones are made. The text is asked for again
    /// for each load, with the counts of then.
    ///
    /// # Errors
    /// When the kernel refuses it: then what was loaded before still is.
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

    /// The step at which these tables stand; the furthest, where others have meddled with one.
    fn step(&mut self, tables: &[(Family, &str)]) -> Result<Option<i32>, PlaneError> {
        let mut furthest = None;
        for (family, table) in tables {
            let chains = self.chains(*family, table)?;
            furthest = furthest.max(chains.iter().find_map(|chain| Some(read_id_chain(chain)?.1)));
        }
        Ok(furthest)
    }
}

/// Takes these tables away, and copies of them. Adding first makes deleting work when there is none.
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
