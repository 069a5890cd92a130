//! Signals: SIGTERM and SIGINT ask for an orderly end, a second one ends the process immediately, SIGHUP is ignored.
//!
//! A thread of its own receives them, so that the second one also counts while the rest of the program waits for the
//! kernel or a disk. The handlers are installed before anything else is done: as the first process of a PID namespace
//! this program would not get a signal without one, and under `nohup`, or when its terminal goes, it goes on.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a process that did not get the time to end in order.
const AT_ONCE: i32 = 1;

/// The end that was asked for.
pub(crate) struct Signals(watch::Receiver<bool>);

impl Signals {
    /// Receives signals from now on, as long as the process lives.
    pub(crate) fn receive() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(inside);
        let (sender, receiver) = watch::channel(false);
        let follow = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => continue,
                }
                if sender.send_replace(true) {
                    #[expect(clippy::disallowed_methods, reason = "this is what the second signal asks for")]
                    std::process::exit(AT_ONCE);
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(follow))?;
        Ok(Self(receiver))
    }

    /// Waits until the end is asked for.
    pub(crate) async fn end(&mut self) {
        // The thread lives as long as the process.
        let _ = self.0.wait_for(|end| *end).await;
    }
}
