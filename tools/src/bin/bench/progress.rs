//! What happens now, on standard error.

use atoll_node::files::print;

/// Says on standard error what happens now. Progress that cannot be shown must not stop the work.
pub(crate) fn step(what: &str) {
    print::say(&format!("{what}\n"));
}
