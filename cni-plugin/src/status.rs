//! STATUS: could an ADD on this node work? CNI SPEC 1.1.0, section "STATUS".
//!
//! It fails for what is local and would make every ADD fail: credentials file, host id, kernel, a `runDir` in which no file
//! can be made. An outage of etcd or the
//! controller is not among these: it would turn every node of the cluster NotReady at once, and with that move pods
//! which run well. `"status": "strict"` reports it all the same, but not before it has lasted: see [`crate::status_debounce`].

use atoll_node::attachments::AttachmentStates;
use atoll_records::{ClusterRecord, Query};
use std::path::Path;
use std::time::Duration;

use atoll_model::config::{Config, StatusMode};
use atoll_model::error::{Classify, causes};
use atoll_model::ids::HostId;
use atoll_network::{Engine, HostState};
use atoll_node::paths;
use atoll_sdn_client::configured;
use atoll_store::Store;
use atoll_tenant::admin::same_engine;
use atoll_tenant::machine;
use futures_util::future::join;
use tokio::time::timeout;

use crate::error::CallError;
use crate::kernel::{Kernel, Netns};
use crate::plugin::Plugin;
use crate::status_debounce::{Outage, StatusDebounce};

/// A runtime asks every few seconds and waits for the answer.
const PROBE: Duration = Duration::from_millis(900);

/// Checks this node as far as that needs no client of a server.
pub async fn local(config: &Config, kernel: &impl Kernel) -> Result<(), CallError> {
    if let Err(error) = configured::check_secret(&config.controller).map_err(CallError::Password) {
        return Err(not_ready(&error));
    }
    if let Err(source) = AttachmentStates::new(&config.run_dir).probe() {
        return Err(not_ready(&CallError::File { what: "make a file in runDir, as every ADD does", source }));
    }
    // Reading our own links needs netlink and the permission to use it.
    kernel.kind(Path::new("/proc/thread-self/ns/net")).await.map_err(|error| not_ready(&error))?;
    kernel.list(&Netns::Own).await.map_err(|error| not_ready(&error))?;
    Ok(())
}

/// A fault of this node, with STATUS's code for it.
pub fn not_ready(error: &impl Classify) -> CallError {
    let words: Vec<_> = std::iter::once(error.to_string()).chain(causes(error)).collect();
    CallError::NotReady { problem: words.join(": "), advice: error.hint(), limited: false }
}

impl<S: Store, E: Engine, K: Kernel> Plugin<S, E, K> {
    /// Checks this node, and, if that is asked for, the servers it needs.
    pub async fn status(&self) -> Result<(), CallError> {
        let node = machine::identify(&self.config, &self.engine).await.map_err(|error| not_ready(&error))?;
        local(&self.config, &self.kernel).await?;
        if self.config.status == StatusMode::Local {
            return Ok(());
        }
        let path = paths::status(&self.config.run_dir);
        let now = (self.clock)();
        let mut health = StatusDebounce::load(&path);
        if health.is_due(now) {
            let probe = self.trace.stage("probe", self.probe(&node.host_id)).await;
            if let Err(trouble) = &probe {
                tracing::warn!(problem = trouble.problem, "etcd or the controller does not serve");
            }
            health = health.after(probe, now);
            if let Err(error) = health.save(&path) {
                tracing::warn!(%error, path = %path.display(), "the next STATUS will not know of this one");
            }
        }
        match health.trouble() {
            None => Ok(()),
            Some(Outage { problem, limited }) => {
                let advice = Some("see `atollctl doctor`; pods that run go on running".to_owned());
                Err(CallError::NotReady {
                    problem: problem.clone(),
                    advice: advice.filter(|_| !limited),
                    limited: *limited,
                })
            }
        }
    }

    /// One read of etcd beside one of the controller.
    async fn probe(&self, host: &HostId) -> Result<(), Outage> {
        let etcd = timeout(PROBE, self.store.read(vec![Query::key(ClusterRecord::at())]));
        let controller = timeout(PROBE, self.engine.host(host));
        let (etcd, controller) = join(etcd, controller).await;
        let outage = |problem: String| Err(Outage { problem, limited: false });
        match etcd {
            Ok(Ok(snapshot)) => {
                // A record that cannot be read is the first ADD's to report.
                let cluster = snapshot.get(&ClusterRecord::at()).ok().flatten();
                let same = cluster.map_or(Ok(()), |cluster| same_engine(self.engine.name(), &cluster.record.engine));
                if let Err(error) = same {
                    return outage(error.to_string());
                }
            }
            Ok(Err(error)) => return outage(error.to_string()),
            Err(_) => return outage("etcd does not answer in time".to_owned()),
        }
        match controller {
            // A host that the controller does not know yet: the first ADD reports the fault.
            Ok(Ok(Some(HostState { alive: true, .. }) | None)) => Ok(()),
            // The agent is what makes packets flow.
            Ok(Ok(Some(HostState { alive: false, .. }))) => {
                Err(Outage { problem: format!("the engine's agent on host {host} is not there"), limited: true })
            }
            Ok(Err(error)) => outage(error.to_string()),
            Err(_) => outage("the engine does not answer in time".to_owned()),
        }
    }
}
