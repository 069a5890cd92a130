//! A process that is killed at a place in its work: before or after its n-th system call, counted with ptrace(2).
//!
//! A kill after a delay comes too late on one machine and too early on another. A place in the work is the same on all of
//! them, however busy they are.
//!
//! The thread that traces also starts the process, and has no other child: it waits for whatever child stops next.

use std::process::Child;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a traced process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// How often it stopped until then: each system call stops it twice.
    pub(super) stops: u64,
    /// Its exit code; none means that a signal ended it.
    pub(super) code: Option<i32>,
}

/// Traces a child that waits for its standard input, calls `release`, and kills the child (SIGKILL) at its stop number
/// `kill_at`, counted from 0. Without a number it runs to its end. Reaps the child.
///
/// # Errors
/// The kernel refuses to trace it.
pub(super) fn run(mut child: Child, kill_at: Option<u64>, release: impl FnOnce(&mut Child)) -> Result<Ended> {
    let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id")?);
    // SIGKILL for the process, should this thread end first.
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).context("trace the process")?;
    ptrace::interrupt(pid).context("stop the process that is traced")?;
    let mut release = Some(release);
    let mut stops = 0;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).context("wait for what is traced")? {
            // A thread of it ends like a process of its own.
            WaitStatus::Exited(which, code) if which == pid => return Ok(Ended { stops, code: Some(code) }),
            WaitStatus::Signaled(which, ..) if which == pid => return Ok(Ended { stops, code: None }),
            WaitStatus::PtraceSyscall(which) if release.is_none() => {
                if kill_at == Some(stops) {
                    signal::kill(pid, Signal::SIGKILL).context("kill the process that is traced")?;
                } else {
                    resume(which, None)?;
                }
                stops += 1;
            }
            WaitStatus::PtraceSyscall(which) => resume(which, None)?,
            WaitStatus::PtraceEvent(which, ..) => {
                // The first stop is the interruption: from here on each system call is seen.
                if let Some(release) = release.take() {
                    release(&mut child);
                }
                resume(which, None)?;
            }
            WaitStatus::Stopped(which, signal) => resume(which, Some(signal))?,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) | WaitStatus::Continued(_) => {}
            WaitStatus::StillAlive => bail!("waitpid(2) returned without a change, although it was asked to wait"),
        }
    }
}

/// Until the next system call. A thread that is gone meanwhile was killed.
fn resume(which: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(which, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("resume what is traced"),
    }
}
