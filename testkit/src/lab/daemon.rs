//! A server as a child process, in a namespace, with its output in a file.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atoll_node::files::make;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::netns::LabNetns;
use crate::lab::scratch::report;
use crate::lab::wait;

/// When a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// When this value is dropped, or when the thread that started it ends, so that a killed test leaves no server.
    Scoped,
    /// Only when it is ended explicitly: it has a session of its own.
    Lasting,
}

/// A server that runs as a child process.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    command: Command,
    child: Child,
    log: PathBuf,
    lifetime: Lifetime,
}

impl Daemon {
    /// Starts `program` inside `netns`.
    pub fn start(netns: &LabNetns, lifetime: Lifetime, program: &Path, args: &[String], log: &Path) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let out = File::options()
            .create(true)
            .append(true)
            .mode(make::PRIVATE)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command = match lifetime {
            // The kernel kills it when the thread that started it ends.
            Lifetime::Scoped => {
                let mut command = netns.command("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            Lifetime::Lasting => {
                let mut command = netns.command("setsid");
                command.arg(program);
                command
            }
        };
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { name, command, child, log: log.to_owned(), lifetime })
    }

    /// Ends it, if it runs, and starts it again with the same arguments.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = self.command.spawn().with_context(|| format!("start {:?} again", self.command))?;
        Ok(())
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Sends a signal that does not end it: SIGSTOP, SIGCONT.
    pub fn send(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to {} ({pid})", self.name))
    }

    /// Waits until `ready` holds. If the server ends first, the error has the end of its log.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> Result<()>) -> Result<()> {
        let mut ended = None;
        let waited = wait::until(&format!("{} gets ready", self.name), limit, || {
            ended = self.child.try_wait()?;
            if ended.is_some() { Ok(()) } else { ready() }
        });
        if let Some(status) = ended {
            bail!("{} ended at once ({status}): {}", self.name, self.last_words());
        }
        waited.with_context(|| self.last_words())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("{}: {}", self.log.display(), lines[lines.len().saturating_sub(8)..].join(" | "))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it with a signal and waits for its end.
    pub fn end(mut self, signal: Signal) -> Result<()> {
        self.signal(signal)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.send(signal)?;
        wait::until(&format!("{} ends", self.name), Duration::from_secs(10), || {
            ensure!(self.child.try_wait()?.is_some(), "it runs");
            Ok(())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Scoped
            && let Err(error) = self.signal(Signal::SIGKILL)
        {
            report(&format!("{error:#}"));
        }
    }
}
