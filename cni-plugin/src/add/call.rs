//! The input of an ADD.

use atoll_model::address_request::AddressRequest;
use atoll_model::attachment::Attachment;
use atoll_model::cni::request::Pod;
use atoll_model::config::DnsConfig;
use atoll_tenant::Node;

/// The input of an ADD.
#[derive(Clone, Debug)]
pub struct AddCall {
    /// The attachment.
    pub attachment: Attachment,
    /// The pod, as far as the runtime names it.
    pub pod: Pod,
    /// The pod's requests for the interface.
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
