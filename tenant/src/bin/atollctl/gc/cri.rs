//! The part of the Container Runtime Interface (`runtime.v1`) that lists pod sandboxes: containerd and CRI-O serve it on
//! a unix socket. The messages are written by hand, with the field numbers of the interface's `api.proto`; fields that are
//! not needed are left out, as protobuf allows.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Connecting and one answer together.
const LIMIT: Duration = Duration::from_secs(20);
/// Far more than any node has; the library's own limit of 4 MiB is some ten thousand sandboxes with long labels.
const LARGEST_ANSWER: usize = 256 << 20;

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

/// What a runtime answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// `containerd 1.6.20`.
    pub(super) runtime: String,
    /// The ids of all its sandboxes.
    pub(super) sandboxes: BTreeSet<String>,
}

/// Asks a runtime for all its sandboxes. Whatever is not a whole, well-formed answer is an error.
pub(super) async fn list(socket: &Path) -> Result<Answer, String> {
    let late = |_| Err(format!("no answer within {} s", LIMIT.as_secs()));
    timeout(LIMIT, Box::pin(ask(socket))).await.unwrap_or_else(late)
}

async fn ask(socket: &Path) -> Result<Answer, String> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(told)?;
    let channel = endpoint.connect().await.map_err(told)?;
    let request = VersionRequest { version: "v1".to_owned() };
    // Says at once whether there is a CRI behind the socket at all.
    let version: VersionAnswer = call(&channel, "Version", request).await?;
    if version.runtime_name.is_empty() {
        return Err("it does not say what it is; this is no container runtime".to_owned());
    }
    let list: ListAnswer = call(&channel, "ListPodSandbox", ListRequest {}).await?;
    let sandboxes: BTreeSet<String> = list.items.into_iter().map(|sandbox| sandbox.id).collect();
    if sandboxes.contains("") {
        return Err("one of the sandboxes has no id: the answer is not whole".to_owned());
    }
    Ok(Answer { runtime: format!("{} {}", version.runtime_name, version.runtime_version), sandboxes })
}

async fn call<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<A, String>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
    grpc.ready().await.map_err(told)?;
    let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}")).map_err(told)?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{method}: {}", status.message()))
}

/// An error and its causes on one line.
fn told(error: impl std::error::Error) -> String {
    let causes = atoll_model::error::causes(&error);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}
