//! The loop of the thread: commands, events, and rounds.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;

use super::state::Plane;
use crate::command::PlaneCommand;
use crate::compile::Touched;
use crate::kernel::watch::Event;
use crate::mutex::lock;

/// The interval of retries after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// The interval at which everything is compared with the kernel, independent of events: one namespace at a time, between other
/// work.
const SWEEP: Duration = Duration::from_secs(10);

impl Plane {
    /// Runs until the command to stop.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<PlaneCommand>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        self.collect_garbage();
        self.rebuild(&Touched {
            namespaces: self.compiled.plan().namespaces.keys().copied().collect(),
            ports: self.compiled.topology().ports.keys().copied().collect(),
        });
        self.verify_host();
        self.retire_host();
        let mut last_sweep = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(RETRY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Commands come first, the round last.
                biased;
                command = commands.recv() => {
                    let mut batch = vec![command.unwrap_or(PlaneCommand::Stop)];
                    while let Ok(command) = commands.try_recv() {
                        batch.push(command);
                    }
                    if !self.commands(batch) {
                        return;
                    }
                }
                Some(event) = events.recv() => {
                    let mut batch = vec![event];
                    while let Ok(event) = events.try_recv() {
                        batch.push(event);
                    }
                    self.handle_events(batch);
                }
                _ = ticks.tick() => {
                    self.retry();
                    if last_sweep.elapsed() >= SWEEP {
                        self.sweep();
                        last_sweep = tokio::time::Instant::now();
                    }
                }
                () = tokio::task::yield_now(), if self.counting.is_pending() => self.count_one(),
                () = tokio::task::yield_now(), if !self.due.is_empty() => self.sweep_one(),
            }
        }
    }

    /// Handles a batch of commands; false if one of them was the command to stop.
    fn commands(&mut self, batch: Vec<PlaneCommand>) -> bool {
        let mut touched = BTreeSet::new();
        let mut flushed = Vec::new();
        let mut go_on = true;
        for command in batch {
            match command {
                PlaneCommand::Submit(changes) => {
                    for change in changes {
                        touched.extend(self.compiled.apply(change));
                    }
                }
                PlaneCommand::Flush(done) => flushed.push(done),
                PlaneCommand::Count(done) => self.count(done),
                PlaneCommand::Stop => go_on = false,
            }
        }
        if self.compiled.is_pending() {
            let mut all = self.compiled.update();
            all.ports.append(&mut touched);
            self.rebuild(&all);
        }
        for port in touched {
            self.refresh(port);
        }
        self.publish_status();
        for done in flushed {
            // The caller may have given up.
            let _ = done.send(());
        }
        go_on
    }

    /// Reports which ports changed.
    pub(super) fn publish_status(&mut self) {
        if let Some(unsupported) = self.unsupported.take_changed() {
            lock(&self.report).unsupported = unsupported;
        }
        // A port that changed twice may be reported twice; the receiver uses the last value.
        let changed: Vec<_> =
            std::mem::take(&mut self.changed).into_iter().map(|p| (p, self.active.contains(&p))).collect();
        if !changed.is_empty() {
            (self.status)(changed);
        }
    }
}
