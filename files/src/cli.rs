//! The options of a program. Help and version are output like any other: if they do not arrive, the exit code says so.

use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

use clap::Parser;

use crate::print;

/// Reads the command line; the error is what the program ends with at once: 0 after help or version, 1 if they did not
/// arrive, 2 for wrong options, which are told on standard error.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        if error.use_stderr() {
            // With no reader of standard error the exit code is all there is.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        let text = error.render();
        let text = if stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
        if print::or_say(&text, "") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}
