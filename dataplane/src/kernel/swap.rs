//! One filter takes the place of another, and no frame passes in between that passes neither.
//!
//! Both tables change in one transaction, and the kernel switches all rules at one moment; but a frame takes longer. It can
//! meet a new chain before that moment, when the chain is still empty, and the old one after it, when that one is. So the
//! new chains stand one step behind the old ones (`places`), and a frame meets the new ones last.
//!
//! Near the last step the filter goes back to the first in two more transactions: a copy of it is loaded at step 0, beside
//! it, and then both make way for the filter at step 1. What the copy and the filter say of a frame is the same.

use super::netns::Netns;
use super::nft::{BRIDGE, Filter, run_nft};
use crate::compile::places::{STEPS, at_step, step_of};
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
        netns: &Netns,
        tables: &[(u8, &str)],
        mut text: impl FnMut(&mut Self) -> Result<String, PlaneError>,
    ) -> Result<(), PlaneError> {
        let step = match self.step(tables)? {
            Some(step) if step + 1 < STEPS => step + 1,
            _ => 0,
        };
        let next = text(self)?;
        load(netns, &format!("{}{}", removal(tables), at_step(&next, step)))?;
        if step < LATE {
            return Ok(());
        }
        load(netns, &copy(&at_step(&next, 0), tables))?;
        let again = text(self)?;
        load(netns, &format!("{}{}", removal(tables), at_step(&again, 1)))
    }

    /// The step at which these tables stand; the furthest, where others have meddled with one.
    fn step(&mut self, tables: &[(u8, &str)]) -> Result<Option<i32>, PlaneError> {
        let mut furthest = None;
        for (family, table) in tables {
            let chains = self.chains(*family, table)?;
            furthest = furthest.max(chains.iter().find_map(|chain| Some(step_of(chain)?.1)));
        }
        Ok(furthest)
    }
}

/// Takes these tables away, and copies of them. Adding first makes deleting work when there is none.
pub(super) fn removal(tables: &[(u8, &str)]) -> String {
    let gone = |family, table: &str| format!("add table {family} {table}\ndelete table {family} {table}\n");
    let both = |(family, table): &(u8, &str)| {
        let family = name(*family);
        gone(family, table) + &gone(family, &copied(table))
    };
    tables.iter().map(both).collect()
}

fn copy(text: &str, tables: &[(u8, &str)]) -> String {
    tables.iter().fold(text.to_owned(), |text, (family, table)| {
        let family = name(*family);
        text.replace(&format!(" {family} {table} "), &format!(" {family} {} ", copied(table)))
    })
}

fn copied(table: &str) -> String {
    format!("{table}_copy")
}

fn name(family: u8) -> &'static str {
    if family == BRIDGE { "bridge" } else { "ip" }
}

/// The child inherits the namespace of the thread that starts it.
fn load(netns: &Netns, script: &str) -> Result<(), PlaneError> {
    netns.run(|| run_nft(script))?.map_err(PlaneError::Filter)
}

#[cfg(test)]
mod tests {
    use super::{BRIDGE, copy, removal};
    use crate::kernel::nft::IPV4;

    #[test]
    fn a_copy_has_other_names_and_nothing_else() {
        let tables = [(IPV4, "atoll"), (BRIDGE, "atoll")];
        let text =
            "table bridge atoll {\nchain a {\n}\n}\ntable ip atoll {\n}\nadd element bridge atoll open { \"a\" }\n";
        let wanted = "table bridge atoll_copy {\nchain a {\n}\n}\ntable ip atoll_copy {\n}\nadd element bridge atoll_copy open { \"a\" }\n";
        assert_eq!(copy(text, &tables), wanted);
        assert!(removal(&tables).contains("delete table bridge atoll_copy\n"));
    }
}
