//! Requirements of the data plane.

use std::fmt;

use crate::missing::Missing;

/// A requirement: what it is, what needs it, and how to get it.
pub(super) struct Need {
    pub(super) what: &'static str,
    pub(super) needed_for: &'static str,
    pub(super) remedy: &'static str,
}

impl Need {
    pub(super) fn missing(&self, found: impl fmt::Display) -> Missing {
        let found = found.to_string().trim().replace('\n', " | ");
        let [what, needed_for, remedy] = [self.what, self.needed_for, self.remedy].map(str::to_owned);
        Missing { what, found, needed_for, remedy, essential: true }
    }
}
