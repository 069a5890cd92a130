//! A signal that ends a command in the middle: prints what it had done, what remains, and how to continue.
//!
//! SIGINT, SIGTERM and SIGHUP end the command at once, wherever it is, as a crash would: every change can be interrupted
//! at any point and continued. A thread of its own receives the signals, so that a command that waits for a
//! file or for standard input ends too. A signal that was ignored when the program started stays ignored (`nohup`).

use std::io;
use std::path::Path;
use std::sync::Mutex;

use atoll_node::files::{TEXT, print, read};
use tokio::signal::unix::{SignalKind, signal};

/// The steps that the running command has completed.
static DONE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records a completed step, for the message after an interruption.
pub(crate) fn note(done: impl Into<String>) {
    if let Ok(mut all) = DONE.lock() {
        all.push(done.into());
    }
}

/// From now on a signal ends the process, which prints what was done. `remains`: how to continue; none if the command changes
/// nothing.
pub(crate) fn receive(remains: Option<String>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ignored = ignored();
    let inside = runtime.enter();
    let listen = |kind: SignalKind| {
        let bit = u32::try_from(kind.as_raw_value() - 1).unwrap_or(u32::MAX);
        let is_ignored = ignored.checked_shr(bit).is_some_and(|mask| mask & 1 == 1);
        (!is_ignored).then(|| signal(kind)).transpose()
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    drop(inside);
    let follow = async move {
        let number = tokio::select! {
            Some(()) = next(&mut interrupt) => SignalKind::interrupt(),
            Some(()) = next(&mut terminate) => SignalKind::terminate(),
            Some(()) = next(&mut hangup) => SignalKind::hangup(),
            else => return,
        };
        let done = DONE.lock().map(|done| done.clone()).unwrap_or_default();
        print::say(&words(&done, remains.as_deref()));
        #[expect(
            clippy::disallowed_methods,
            clippy::exit,
            reason = "the command may wait for something that no signal reaches"
        )]
        std::process::exit(128 + number.as_raw_value());
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(follow))?;
    Ok(())
}

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// The signals that are ignored, as the kernel shows them: the lowest bit is signal 1 (proc(5), `SigIgn`).
fn ignored() -> u64 {
    let status = read::text(Path::new("/proc/self/status"), TEXT).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn words(done: &[String], remains: Option<&str>) -> String {
    let Some(remains) = remains else { return "interrupted: nothing was changed\n".to_owned() };
    let done = done.iter().fold(String::new(), |text, done| format!("{text}  done: {done}\n"));
    format!("interrupted in the middle; a request that was on its way may still take effect\n{done}  try: {remains}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_has_what_was_done_and_how_to_continue() {
        let text = words(&["no new pods from now on".to_owned()], Some("again"));
        assert!(text.contains("done: no new pods") && text.contains("try: again"), "{text}");
        assert!(words(&[], None).contains("nothing was changed"));
    }
}
