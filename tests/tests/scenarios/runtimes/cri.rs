//! A client of the Container Runtime Interface (`runtime.v1`): the kubelet's calls to a runtime that concern networks.

mod messages;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::netns::LabNetns;
use http::uri::PathAndQuery;
pub(crate) use messages::*;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::image;

/// Timeout of a call; the kubelet waits two minutes.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A running sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Its id.
    pub(crate) id: String,
    /// The address that the runtime reports to the kubelet. Empty for a pod on the node's network.
    pub(crate) ip: String,
    /// Further addresses.
    pub(crate) more: Vec<String>,
    /// Its first process.
    pub(crate) pid: i32,
    /// Its configuration.
    pub(crate) config: SandboxConfig,
}

impl Running {
    /// Its network namespace.
    pub(crate) fn netns(&self) -> LabNetns {
        LabNetns::at(format!("/proc/{}/ns/net", self.pid))
    }
}

/// A client of the runtime's socket.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        let channel = runtime.block_on(endpoint.connect()).context("connect to the runtime")?;
        Ok(Self { runtime, channel })
    }

    /// Runs a sandbox and returns its id. Its network is complete when this returns.
    pub(crate) fn create(&self, config: &SandboxConfig) -> Result<String> {
        let started: Id = self.call("RunPodSandbox", RunRequest { config: Some(config.clone()) })?;
        Ok(started.id)
    }

    /// Runs a sandbox and returns its state.
    pub(crate) fn run(&self, config: &SandboxConfig) -> Result<Running> {
        let id = self.create(config)?;
        let answer: StatusAnswer = self.call("PodSandboxStatus", StatusRequest { id: id.clone(), verbose: true })?;
        let network = answer.status.and_then(|status| status.network).context("no network in the status")?;
        let info = answer.info.get("info").context("no verbose information")?;
        let info: serde_json::Value = serde_json::from_str(info)?;
        let pid = info["pid"].as_i64().context("no pid")?;
        let more = network.more.into_iter().map(|address| address.ip).collect();
        Ok(Running { id, ip: network.ip, more, pid: i32::try_from(pid)?, config: config.clone() })
    }

    /// The runtime's status of a sandbox, as for the kubelet.
    pub(crate) fn status(&self, id: &str) -> Result<Status> {
        let answer: StatusAnswer =
            self.call("PodSandboxStatus", StatusRequest { id: id.to_owned(), verbose: false })?;
        answer.status.context("an answer without a status")
    }

    /// One of the runtime's own conditions.
    pub(crate) fn condition(&self, kind: &str) -> Result<Condition> {
        let answer: RuntimeStatusAnswer = self.call("Status", Nothing {})?;
        let conditions = answer.status.context("no status")?.conditions;
        conditions.into_iter().find(|condition| condition.kind == kind).with_context(|| format!("no condition {kind}"))
    }

    /// The ids of all sandboxes.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let answer: ListAnswer = self.call("ListPodSandbox", Nothing {})?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Stops a sandbox, which deletes its network.
    pub(crate) fn stop(&self, id: &str) -> Result<()> {
        self.call::<_, Nothing>("StopPodSandbox", Id { id: id.to_owned() }).map(drop)
    }

    /// Removes a sandbox, with its containers.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        self.call::<_, Nothing>("RemovePodSandbox", Id { id: id.to_owned() }).map(drop)
    }

    /// Stops and removes a sandbox, as for a pod that is deleted.
    pub(crate) fn end(&self, id: &str) -> Result<()> {
        self.stop(id)?;
        self.remove(id)
    }

    /// Starts a container of the test image in a sandbox and returns its id.
    pub(crate) fn container(&self, sandbox: &Running, name: &str, command: &[&str]) -> Result<String> {
        // As the kubelet does: the container joins the namespaces of the sandbox.
        let namespaces = sandbox.config.linux.as_ref().and_then(|linux| linux.security.as_ref()?.namespaces);
        let namespaces = Some(namespaces.unwrap_or(Namespaces { network: 0, pid: 1 }));
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(Image { image: image::NAME.to_owned() }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            linux: Some(ContainerLinux { security: Some(ContainerSecurity { namespaces }) }),
        };
        let request = CreateContainer {
            sandbox: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.config.clone()),
        };
        let created: Id = self.call("CreateContainer", request)?;
        self.call::<_, Nothing>("StartContainer", created.clone())?;
        Ok(created.id)
    }

    /// Stops and removes a container.
    pub(crate) fn end_container(&self, id: &str) -> Result<()> {
        self.call::<_, Nothing>("StopContainer", StopContainer { id: id.to_owned(), timeout: 0 })?;
        self.call::<_, Nothing>("RemoveContainer", Id { id: id.to_owned() }).map(drop)
    }

    /// Returns the output of a command in a container; the error of a failed command contains its output.
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let words = command.iter().map(|word| (*word).to_owned()).collect();
        let request = ExecSync { container: container.to_owned(), command: words, timeout: 20 };
        let answer: ExecAnswer = self.call("ExecSync", request)?;
        let (stdout, stderr) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
        ensure!(answer.code == 0, "{command:?}: exit code {}: {stdout}{stderr}", answer.code);
        Ok(stdout.into_owned())
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.context("the runtime is gone")?;
            let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = tokio::time::timeout(TIMEOUT, grpc.unary(tonic::Request::new(request), path, codec));
            let answer = answer.await.with_context(|| format!("{method}: no answer within {TIMEOUT:?}"))?;
            answer.map(tonic::Response::into_inner).map_err(|status| anyhow::anyhow!("{method}: {}", status.message()))
        })
    }
}
