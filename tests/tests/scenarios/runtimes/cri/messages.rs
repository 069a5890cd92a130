//! The messages of `runtime.v1`, written by hand with the field numbers of the interface's `api.proto`. Unneeded fields
//! are omitted, as protobuf permits.

use std::collections::HashMap;

/// The identity of the pod.
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

/// `DNSConfig`: what goes into `resolv.conf`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dns {
    #[prost(string, repeated, tag = "1")]
    pub(crate) servers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) searches: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) options: Vec<String>,
}

/// `PortMapping`. The first field, the protocol, is left out: zero is TCP.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Port {
    #[prost(int32, tag = "2")]
    pub(crate) container: i32,
    /// Zero: none.
    #[prost(int32, tag = "3")]
    pub(crate) host: i32,
}

/// `NamespaceOption`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Namespaces {
    /// 0: the pod's own network; 2: the node's.
    #[prost(int32, tag = "1")]
    pub(crate) network: i32,
    /// 1: each container has process ids of its own.
    #[prost(int32, tag = "2")]
    pub(crate) pid: i32,
}

/// The security context of a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    pub(crate) namespaces: Option<Namespaces>,
}

/// The Linux part of a sandbox's configuration; containerd requires it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxLinux {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) security: Option<SandboxSecurity>,
}

/// `PodSandboxConfig`: the configuration of a new sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    pub(crate) hostname: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) dns: Option<Dns>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) ports: Vec<Port>,
    #[prost(map = "string, string", tag = "7")]
    pub(crate) annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<SandboxLinux>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RunRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) config: Option<SandboxConfig>,
}

/// Many requests and answers consist of one id, in the first field.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Id {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatusRequest {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(bool, tag = "2")]
    pub(crate) verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListAnswer {
    #[prost(message, repeated, tag = "1")]
    pub(crate) items: Vec<Id>,
}

/// An additional address of a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PodIp {
    #[prost(string, tag = "1")]
    pub(crate) ip: String,
}

/// `PodSandboxNetworkStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Network {
    #[prost(string, tag = "1")]
    pub(crate) ip: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) more: Vec<PodIp>,
}

/// `PodSandboxStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    /// 0: ready; 1: not.
    #[prost(int32, tag = "3")]
    pub(crate) state: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) network: Option<Network>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) info: HashMap<String, String>,
}

/// A condition of the runtime, for example `NetworkReady`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Condition {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(bool, tag = "2")]
    pub(crate) good: bool,
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
    #[prost(string, tag = "4")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RuntimeStatusAnswer {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Image {
    #[prost(string, tag = "1")]
    pub(crate) image: String,
}

/// The security context of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    pub(crate) namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerLinux {
    #[prost(message, optional, tag = "2")]
    pub(crate) security: Option<ContainerSecurity>,
}

/// `ContainerConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub(crate) image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) command: Vec<String>,
    #[prost(message, optional, tag = "15")]
    pub(crate) linux: Option<ContainerLinux>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateContainer {
    #[prost(string, tag = "1")]
    pub(crate) sandbox: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pub(crate) sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StopContainer {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// In seconds; zero kills immediately.
    #[prost(int64, tag = "2")]
    pub(crate) timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExecSync {
    #[prost(string, tag = "1")]
    pub(crate) container: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) command: Vec<String>,
    /// In seconds.
    #[prost(int64, tag = "3")]
    pub(crate) timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExecAnswer {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}
