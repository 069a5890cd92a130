//! The part of the Container Runtime Interface (`runtime.v1`) that runs pod sandboxes. The messages are written by
//! hand, with the field numbers of the interface's `api.proto`; fields that are not needed are left out, as protobuf
//! allows.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Who the pod is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
    #[prost(uint32, tag = "4")]
    pub(crate) attempt: u32,
}

/// The Linux part of a sandbox's configuration: containerd wants it to be there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Linux {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
}

/// A sandbox to be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Config {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<Linux>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<Config>,
}

/// The request of stop, remove and status, and the answer of run: a sandbox's id comes first in all of them.
#[derive(Clone, PartialEq, prost::Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListAnswer {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Listed>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Network {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, optional, tag = "5")]
    network: Option<Network>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

/// A sandbox that runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Its id.
    pub(crate) id: String,
    /// The address that the runtime tells the kubelet.
    pub(crate) ip: String,
    /// Its first process.
    pub(crate) pid: i32,
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

    /// Runs a sandbox, below a cgroup, and says how it is.
    pub(crate) fn run(&self, metadata: Metadata, cgroup: &str) -> Result<Running> {
        let linux = Some(Linux { cgroup_parent: cgroup.to_owned() });
        let config = Config { metadata: Some(metadata), linux, ..Config::default() };
        let started: Sandbox = self.call("RunPodSandbox", RunRequest { config: Some(config) })?;
        let request = Sandbox { id: started.id.clone(), verbose: true };
        let answer: StatusAnswer = self.call("PodSandboxStatus", request)?;
        let ip = answer.status.and_then(|status| status.network).context("no network in the status")?.ip;
        let info = answer.info.get("info").context("no verbose information")?;
        let info: serde_json::Value = serde_json::from_str(info)?;
        let pid = info["pid"].as_i64().context("no pid")?;
        Ok(Running { id: started.id, ip, pid: i32::try_from(pid)? })
    }

    /// The ids of all sandboxes.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let answer: ListAnswer = self.call("ListPodSandbox", Nothing {})?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Stops a sandbox: its network goes.
    pub(crate) fn stop(&self, id: &str) -> Result<()> {
        self.call::<_, Nothing>("StopPodSandbox", Sandbox { id: id.to_owned(), verbose: false }).map(drop)
    }

    /// Removes a sandbox.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        self.call::<_, Nothing>("RemovePodSandbox", Sandbox { id: id.to_owned(), verbose: false }).map(drop)
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
            let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| anyhow::anyhow!("{method}: {}", status.message()))
        })
    }
}
