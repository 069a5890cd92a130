//! SIGINT, SIGTERM and SIGHUP, for programs that start others: they end immediately and print what remains and how to
//! remove it.

use anyhow::{Context as _, Result};
use atoll_node::files::print;
use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT, SIGTERM or SIGHUP ends the process with 128 and the signal's number, after `words` on standard
/// error. A thread of its own waits for them, because the other threads may be blocked.
pub fn end_with(words: String) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let inside = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    drop(inside);
    let follow = async move {
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
        };
        print::say(&format!("{words}\n"));
        #[expect(clippy::disallowed_methods, clippy::exit, reason = "the other threads wait for programs and packets")]
        std::process::exit(128 + kind.as_raw_value());
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(follow))?;
    Ok(())
}
