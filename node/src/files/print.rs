//! Standard output and standard error of a program.
//!
//! # Guarantees
//! What a program prints arrives whole, or the caller gets an error.
//!
//! The standard library's own handle takes the output of a program whose standard output cannot be written (EBADF) for
//! printed, and keeps the last half line until the end, where an error has no reader. So the text goes to the descriptor
//! itself, which is then closed: a file system over the network reports only then that there is no room.
//!
//! A standard output that is closed when the program starts is `/dev/null` to it: the standard library opens that in the
//! place of each missing one of the first three descriptors, so that no file or socket of ours ever gets their numbers.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use super::trouble;

/// The pause before a full pipe is tried again that does not block.
const PAUSE: Duration = Duration::from_millis(2);

/// Prints all of `text`.
///
/// # Errors
/// The text did not arrive, at least not whole.
pub fn print(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let out = io::stdout();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match nix::unistd::write(&out, rest).map_err(io::Error::from) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The parent process made the pipe so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    // A process that is out of descriptors has none to close; its answer matters more than a late error.
    match out.as_fd().try_clone_to_owned() {
        Ok(copy) => Ok(nix::unistd::close(copy)?),
        Err(_) => Ok(()),
    }
}

/// Prints all of `text`. False: it did not arrive, and the reason is on standard error, together with `meanwhile`: what is
/// true although it could not be printed.
pub fn or_say(text: &str, meanwhile: &str) -> bool {
    let Err(error) = print(text) else { return true };
    let advice = trouble::advice(&error).map(|advice| format!("  try: {advice}\n")).unwrap_or_default();
    let meanwhile = if meanwhile.is_empty() { String::new() } else { format!("; {meanwhile}") };
    say(&format!("error: standard output could not be written: {error}{meanwhile}\n{advice}"));
    false
}

/// Writes to standard error, whether or not there is a reader.
pub fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints help or a version. They are output like any other: if they do not arrive, the exit code shows it. `styled` is for a
/// terminal.
pub fn help(plain: &str, styled: &str) -> ExitCode {
    let text = if io::stdout().is_terminal() { styled } else { plain };
    if or_say(text, "") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
