//! Network namespaces. A thread that enters one never leaves it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

use crate::lab::scratch::{report, unique_name};

/// A network namespace that is pinned at a path.
#[derive(Debug)]
pub struct LabNetns {
    path: PathBuf,
    /// The name under which `ip netns` knows it, when it is ours to delete.
    owned: Option<String>,
}

impl LabNetns {
    /// Creates one with a unique name; it is deleted with this value.
    pub fn new() -> Result<Self> {
        let name = unique_name();
        Ok(Self { path: add(&name)?, owned: Some(name) })
    }

    /// Creates one that outlives this process.
    pub fn lasting(name: &str) -> Result<Self> {
        Ok(Self { path: add(name)?, owned: None })
    }

    /// A namespace that another process has pinned, for example the data plane.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), owned: None }
    }

    /// The path where it is pinned: `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread inside, for good. Threads and processes that it starts begin there too.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", self.path.display()))
    }

    /// A command that will run inside. Not `ip netns exec`: that makes a mount namespace as well, in which what the
    /// data plane and the runtimes mount would be lost.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = crate::program::command("nsenter");
        command.arg(format!("--net={}", self.path.display())).arg("--").arg(crate::program::located(program));
        command
    }

    /// Runs a command inside and returns its output; a failure is an error with its standard error.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        output(self.command(program).args(args))
    }

    /// Deletes it now, as a runtime does before or after DEL.
    pub fn delete(mut self) -> Result<()> {
        match self.owned.take() {
            Some(name) => run("ip", &["netns", "delete", &name]).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for LabNetns {
    fn drop(&mut self) {
        if let Some(name) = self.owned.take()
            && let Err(error) = run("ip", &["netns", "delete", &name])
        {
            report(&format!("{error:#}"));
        }
    }
}

fn add(name: &str) -> Result<PathBuf> {
    run("ip", &["netns", "add", name]).context("network namespaces need root")?;
    let netns = LabNetns::at(Path::new("/run/netns").join(name));
    netns.run("ip", &["link", "set", "lo", "up"])?;
    Ok(netns.path.clone())
}

/// Runs a command outside of any namespace of the lab and returns its output; a failure is an error.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    output(crate::program::command(program).args(args))
}

/// Runs a prepared command and returns its output; a failure is an error with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("start {command:?}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success(), "{command:?}: {}: {}{}", out.status, stderr.trim(), stdout.trim());
    Ok(stdout.into_owned())
}
