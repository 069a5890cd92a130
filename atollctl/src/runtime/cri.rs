//! The part of the Container Runtime Interface (`runtime.v1`) that lists pod sandboxes and reports how the runtime's network
//! is: containerd and CRI-O serve it on a unix socket. The messages are written by hand, with the field numbers of the
//! interface's `api.proto`; fields that are not needed are left out, as protobuf allows.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// The time limit for connecting and one answer together.
const LIMIT: Duration = Duration::from_secs(20);
/// Far more than any node has; the library's own limit of 4 MiB is some ten thousand sandboxes with long labels.
const LARGEST_ANSWER: usize = 256 << 20;
/// The condition that reports whether pods get a network.
const NETWORK_READY: &str = "NetworkReady";

#[derive(Clone, PartialEq, prost::Message)]
struct VersionRequest {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionAnswer {
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
}

/// Without a filter: every sandbox, ready or not.
#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListAnswer {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<Conditions>,
    /// Only in a verbose answer; every runtime has its own keys.
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Conditions {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    is_met: bool,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    message: String,
}

/// What a runtime answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuntimeAnswer {
    /// `containerd 1.6.20`.
    pub(crate) runtime: String,
    /// The ids of all its sandboxes.
    pub(crate) sandboxes: BTreeSet<String>,
}

/// The status that a runtime reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CriStatus {
    /// `containerd 1.6.20`.
    pub(super) runtime: String,
    /// Pods get a network, or why they get none.
    pub(super) network: Result<(), String>,
    /// Further information, by the runtime's own keys.
    pub(super) info: HashMap<String, String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The listener does not serve this interface, for instance a containerd for Docker only.
    NoCri,
    /// Anything else.
    Failed(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCri => f.write_str("what listens there serves no CRI (runtime.v1)"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Asks a runtime for all its sandboxes. Whatever is not a whole, well-formed answer is an error.
pub(crate) async fn list(socket: &Path) -> Result<RuntimeAnswer, NoAnswer> {
    in_time(async {
        let (channel, runtime) = connect(socket).await?;
        let list: ListAnswer = call(&channel, "ListPodSandbox", ListRequest {}).await?;
        let sandboxes: BTreeSet<String> = list.items.into_iter().map(|sandbox| sandbox.id).collect();
        if sandboxes.contains("") {
            return Err(NoAnswer::Failed("one of the sandboxes has no id: the answer is not whole".to_owned()));
        }
        Ok(RuntimeAnswer { runtime, sandboxes })
    })
    .await
}

/// Asks a runtime for its status.
pub(super) async fn status(socket: &Path) -> Result<CriStatus, NoAnswer> {
    in_time(async {
        let (channel, runtime) = connect(socket).await?;
        let answer: StatusAnswer = call(&channel, "Status", StatusRequest { verbose: true }).await?;
        let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
        let network = match conditions.into_iter().find(|condition| condition.kind == NETWORK_READY) {
            Some(Condition { is_met: true, .. }) => Ok(()),
            Some(Condition { reason, message, .. }) => {
                let words = [reason, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
                Err(if words.is_empty() { "no reason is given".to_owned() } else { words.join(": ") })
            }
            None => Err(format!("its status has no condition {NETWORK_READY}")),
        };
        Ok(CriStatus { runtime, network, info: answer.info })
    })
    .await
}

async fn in_time<T>(ask: impl Future<Output = Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
    let late = |_| Err(NoAnswer::Failed(format!("no answer within {} s", LIMIT.as_secs())));
    // On the heap: these futures are large.
    timeout(LIMIT, Box::pin(ask)).await.unwrap_or_else(late)
}

/// A connection, and the name and version of the runtime.
async fn connect(socket: &Path) -> Result<(Channel, String), NoAnswer> {
    let failed = |error| NoAnswer::Failed(with_causes(error));
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(failed)?;
    let channel = endpoint.connect().await.map_err(failed)?;
    // Shows whether the socket serves a CRI at all.
    let version: VersionAnswer = call(&channel, "Version", VersionRequest { version: "v1".to_owned() }).await?;
    if version.runtime_name.is_empty() {
        return Err(NoAnswer::Failed("it reports no name: this is no container runtime".to_owned()));
    }
    Ok((channel, format!("{} {}", version.runtime_name, version.runtime_version)))
}

async fn call<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<A, NoAnswer>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
    grpc.ready().await.map_err(|error| NoAnswer::Failed(with_causes(error)))?;
    let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"));
    let path = path.map_err(|error| NoAnswer::Failed(with_causes(error)))?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
    answer.map(tonic::Response::into_inner).map_err(|status| match status.code() {
        tonic::Code::Unimplemented => NoAnswer::NoCri,
        _ => NoAnswer::Failed(format!("{method}: {}", status.message())),
    })
}

/// An error and its causes on one line.
fn with_causes(error: impl std::error::Error) -> String {
    let causes = atoll_model::error::causes(&error);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}
