//! What an ADD is asked.

use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::Attachment;
use atoll_model::cni::request::Pod;
use atoll_model::config::DnsConfig;
use atoll_tenant::Node;

/// What an ADD is asked.
#[derive(Clone, Debug)]
pub struct AddCall {
    /// The attachment.
    pub attachment: Attachment,
    /// The pod, as far as the runtime names it.
    pub pod: Pod,
    /// What the request asks of the interface.
    pub requested: AddressRequest,
    /// `CNI_NETNS`, verbatim.
    pub sandbox: String,
    /// Name servers for the result.
    pub dns: DnsConfig,
    /// The caller insists on its own namespace.
    pub own_netns: bool,
    /// This machine.
    pub node: Node,
}
