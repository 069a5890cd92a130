//! Programs of the machine that tests start. They are declared, so that every machine has them.
//!
//! `./run-tests` gives the tests a search path that holds only what `.ci/programs` declares and the base system. A test
//! that starts another program fails on every machine alike, and its message names the declaration.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The declaration, below the root of the tree.
pub const DECLARATION: &str = ".ci/programs";

/// The path of a program in the search path of the tests. A name with a slash is a path already.
///
/// # Errors
/// The program does not exist; the text names it and the declaration.
pub fn find(program: impl AsRef<OsStr>) -> Result<PathBuf, String> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file()).ok_or_else(|| {
        let name = program.display();
        format!(
            "the program {name} is not on the search path of the tests: {DECLARATION} declares what they start (group, \
             program, package, what for), and ./run-tests installs it"
        )
    })
}

/// The path of a program that another program starts (`nsenter`, `timeout`).
///
/// # Panics
/// The program does not exist; see [`find`].
pub fn located(program: impl AsRef<OsStr>) -> PathBuf {
    find(program).unwrap_or_else(|missing| panic!("{missing}"))
}

/// A command that starts a program of the machine.
///
/// # Panics
/// The program does not exist; see [`find`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(located(program))
}

/// The search path of the tests, for a program that is started with an environment of its own.
pub fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_missing_program_names_the_declaration() {
        let missing = find("at-no-such-program").expect_err("no machine has it");
        assert!(missing.contains("at-no-such-program") && missing.contains(DECLARATION), "{missing}");
        assert_eq!(find("/at/no/such"), Ok(PathBuf::from("/at/no/such")), "a path is taken as it is");
        assert!(find("sh").is_ok(), "the base system is there");
    }
}
