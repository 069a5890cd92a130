//! The current step, on standard error.

use atoll_node::files::print;

/// Prints the current step to standard error. Progress that cannot be shown must not stop the work.
pub(crate) fn step(what: &str) {
    print::say(&format!("{what}\n"));
}
