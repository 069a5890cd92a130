//! The trace of a call: its stages with their durations, and what it has found out about the pod. The error of a call that
//! missed its deadline names the longest stage, and every line of the log contains the trace so far.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The trace of one call. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CallTrace(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    stages: Vec<Stage>,
    tenant: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Stage {
    name: &'static str,
    begun: Instant,
    /// None: it still runs, or was given up.
    took: Option<Duration>,
}

impl CallTrace {
    /// A call that has done nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a stage. Stages may run beside each other; a name that comes again is one more stage.
    pub fn stage<'a, T>(
        &'a self,
        name: &'static str,
        stage: impl Future<Output = T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        // On the heap: the stages of a call would otherwise lie in each other, and be copied into each other.
        let stage = Box::pin(stage);
        async move {
            let begun = Instant::now();
            let place = {
                let mut inner = self.inner();
                inner.stages.push(Stage { name, begun, took: None });
                inner.stages.len() - 1
            };
            let done = stage.await;
            if let Some(stage) = self.inner().stages.get_mut(place) {
                stage.took = Some(begun.elapsed());
            }
            done
        }
    }

    /// The pod's tenant is known now.
    pub fn set_tenant(&self, tenant: &atoll_model::ids::TenantName) {
        self.inner().tenant = Some(tenant.to_string());
    }

    /// The tenant, as soon as it is known.
    pub fn tenant(&self) -> Option<String> {
        self.inner().tenant.clone()
    }

    /// The stage that took longest so far, and how long.
    pub fn longest(&self) -> Option<(&'static str, Duration)> {
        self.stages().into_iter().max_by_key(|(_, took)| *took)
    }

    /// The stages in the order in which they began; one that runs still with the time until now.
    pub fn stages(&self) -> Vec<(&'static str, Duration)> {
        let took = |stage: &Stage| (stage.name, stage.took.unwrap_or_else(|| stage.begun.elapsed()));
        self.inner().stages.iter().map(took).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_runs_or_was_given_up_counts_until_now() {
        let trace = CallTrace::new();
        assert_eq!(trace.longest(), None);
        trace.stage("short", tokio::time::sleep(Duration::from_secs(1))).await;
        let long = trace.stage("long", std::future::pending::<()>());
        tokio::time::timeout(Duration::from_secs(3), long).await.expect_err("it never ends");
        assert_eq!(trace.stages(), [("short", Duration::from_secs(1)), ("long", Duration::from_secs(3))]);
        assert_eq!(trace.longest(), Some(("long", Duration::from_secs(3))));
        assert_eq!(trace.tenant(), None);
    }
}
