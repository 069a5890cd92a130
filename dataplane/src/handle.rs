//! The interface of the data plane: start, submit, flush, report, stop, purge.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use atoll_model::topology::{Topology, TopologyChange};
use atoll_node::files::lock::{NotTaken, ProcessLock};
use atoll_node::files::make;
use atoll_node::paths;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::apply::{self, HostNamespace};
use crate::command::PlaneCommand;
use crate::counters::Counters;
use crate::error::PlaneError;
use crate::kernel::netns::{self, OpenNetns};
use crate::kernel::steps;
use crate::mutex::lock;
use crate::pins::pinned;
use crate::plane::Plane;
use crate::probe::probe;
use crate::report::PlaneReport;
use crate::settings::PlaneSettings;

static PROBED: OnceLock<()> = OnceLock::new();

/// A handle of the data plane. Its thread ends when every handle was dropped; the kernel is not changed by that.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<PlaneCommand>,
    report: Arc<Mutex<PlaneReport>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Handle {
    /// Starts to realise `initial`. `status` receives which ports became active (their packets flow) or
    /// inactive.
    pub fn start(
        settings: PlaneSettings,
        initial: Topology,
        status: impl Fn(Vec<(Uuid, bool)>) + Send + 'static,
    ) -> Result<Self, PlaneError> {
        // A machine that could carry it once can do so for as long as this process lives.
        if PROBED.get().is_none() {
            let (missing, without): (Vec<_>, Vec<_>) = probe().into_iter().partition(|missing| missing.essential);
            if !missing.is_empty() {
                return Err(PlaneError::Missing(missing));
            }
            for missing in without {
                tracing::warn!("the data plane does without {missing}");
            }
            PROBED.get_or_init(|| ());
        }
        let exclusive = exclusive_lock(&settings.directory)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let report = Arc::<Mutex<PlaneReport>>::default();
        let shared = Arc::clone(&report);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PlaneError::Thread)?;
        let (opened, wait) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("atoll-dataplane".to_owned())
            .spawn(move || {
                steps::follow(settings.before_change.clone());
                runtime.block_on(async move {
                    match Plane::open(settings, initial, Box::new(status), shared) {
                        Ok((plane, events)) => {
                            let _ = opened.send(Ok(()));
                            plane.run(receiver, events).await;
                            // Until nothing is changed any more.
                            drop(exclusive);
                        }
                        Err(error) => drop(opened.send(Err(error))),
                    }
                });
            })
            .map_err(PlaneError::Thread)?;
        wait.recv().unwrap_or_else(|gone| Err(PlaneError::Thread(std::io::Error::other(gone))))?;
        Ok(Self { commands, report, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Hands over changes, to be applied in order. Never blocks.
    pub fn submit(&self, changes: Vec<TopologyChange>) {
        // The thread is only gone after `stop`, and then nothing is to be done.
        let _ = self.commands.send(PlaneCommand::Submit(changes));
    }

    /// Waits until everything submitted so far was applied, or has failed and is in the report.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(PlaneCommand::Flush(done)).is_ok() {
            // An error means that the thread has ended, so nothing is pending.
            let _ = wait.await;
        }
    }

    /// What was counted so far.
    pub async fn counters(&self) -> Counters {
        let (done, wait) = oneshot::channel();
        if self.commands.send(PlaneCommand::Count(done)).is_err() {
            return Counters::default();
        }
        wait.await.unwrap_or_default()
    }

    /// What is not as it should be.
    pub fn report(&self) -> PlaneReport {
        let mut report = lock(&self.report).clone();
        if lock(&self.thread).as_ref().is_some_and(JoinHandle::is_finished) {
            let line =
                "the data plane's thread has ended, and no change is applied any more: restart the program".to_owned();
            report.errors.insert(Uuid::nil(), line);
        }
        report
    }

    /// Waits until the thread has ended: it was stopped, or it has panicked, and no change is applied any more.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Ends the thread and leaves the kernel as it is: packets keep flowing.
    pub fn stop(self) {
        let _ = self.commands.send(PlaneCommand::Stop);
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread was printed already.
            let _ = thread.join();
        }
    }

    /// Removes every trace of a data plane that is not running.
    pub fn purge(directory: &Path) -> Result<(), PlaneError> {
        purge(directory)
    }
}

/// Removes every namespace pinned in `directory`, and the directory when nothing foreign is in it.
///
/// Refused while a data plane runs for that directory.
pub fn purge(directory: &Path) -> Result<(), PlaneError> {
    if !directory.parent().is_none_or(Path::exists) {
        return Ok(());
    }
    let _lock = exclusive_lock(directory)?;
    let mut node = HostNamespace::open()?;
    let mut ends = BTreeSet::new();
    for path in pinned(directory)? {
        if let Some(netns) = OpenNetns::open(&path)? {
            apply::close(&netns)?;
            apply::give_back(&netns, &mut node)?;
            ends.extend(apply::host_ends(&netns)?);
        }
        netns::unpin(&path)?;
    }
    if !ends.is_empty() {
        node.purge(&ends)?;
    }
    // The directory stays if it contains foreign files.
    let _ = std::fs::remove_dir(directory);
    Ok(())
}

/// Takes the lock that excludes a second data plane of `directory`. It is beside the directory, which is removed with the last
/// namespace.
fn exclusive_lock(directory: &Path) -> Result<ProcessLock, PlaneError> {
    let path = paths::data_plane_lock(directory);
    let fail = |source| PlaneError::Lock { path: path.clone(), source };
    path.parent().map_or(Ok(()), |run_dir| make::directory(run_dir, make::PRIVATE_DIRECTORY)).map_err(fail)?;
    ProcessLock::take(&path).map_err(|why| match why {
        NotTaken::Held(process) => PlaneError::Running { directory: directory.to_owned(), process },
        NotTaken::Io(source) => fail(source),
    })
}
