//! A pod's port as the API has it, and whether a port with the id of one is a pod's.

use atoll_model::port_security::PortSecurity;
use atoll_model::topology::{Binding, Device, Port};
use atoll_network::PodPort;
use atoll_sdn_client::api;

use crate::error::MidoNetError;
use crate::host_id;
use crate::lower::v4_address;

/// The port as the API has it. Its `vifId` is its port security: the MAC and the first address.
pub(crate) fn wanted(port: &PodPort) -> Result<api::Port, MidoNetError> {
    let address = match port.addresses.first() {
        Some(address) => v4_address(*address)?,
        None => std::net::Ipv4Addr::UNSPECIFIED,
    };
    let security = PortSecurity { mac: port.mac, address, unique: port.unique };
    let binding = Binding { host: host_id::read(&port.location.host)?, interface: port.location.interface.to_string() };
    let wanted = Port {
        device: Device::Bridge { id: port.subnet.object(), vlan: None },
        up: true,
        inbound: None,
        outbound: None,
        peer: None,
        binding: Some(binding),
        vif_id: Some(security.to_vif_id()),
        other: Vec::new(),
    };
    Ok(api::Port::from_topology(port.id, &wanted))
}

/// Why a port with the id of a pod's port is not a pod's; none: it is. A pod's port is one of a bridge, it is linked to no
/// other port, and it is bound to an interface with a name of ours or says in its `vifId` who may speak through it. A
/// port that is bound to nothing and has no `vifId` is what an ADD on 1.9 left half way.
pub(crate) fn foreign(port: &api::Port) -> Option<String> {
    if port.kind.as_deref().is_some_and(|kind| kind.ends_with("Router")) {
        return Some(format!("it is a port of router {}", port.device_id.unwrap_or_default()));
    }
    if let Some(peer) = port.peer_id {
        return Some(format!("it is linked to port {peer}"));
    }
    if port.vif_id.and_then(PortSecurity::from_vif_id).is_some() {
        return None;
    }
    match (port.host_id, port.interface_name.as_deref(), port.vif_id) {
        (Some(_), Some(interface), _) if is_host_interface(interface) => None,
        (Some(host), Some(interface), _) => Some(format!("it is bound to interface {interface} of host {host}")),
        (_, _, Some(vif)) => Some(format!("its vifId is {vif}")),
        _ => None,
    }
}

/// A name as `Attachment::host_interface` makes them.
fn is_host_interface(name: &str) -> bool {
    name.strip_prefix("at").is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use atoll_model::attachment::Attachment;
    use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};

    use super::is_host_interface;

    #[test]
    fn the_interfaces_of_attachments_and_no_others_are_known_by_their_names() {
        for container in ["a", "b", "c", "d"] {
            let attachment = Attachment {
                node: NodeName::new("n1").expect("valid"),
                network: NetworkName::new("atoll").expect("valid"),
                container: ContainerId::new(container).expect("valid"),
                interface: IfName::new("eth0").expect("valid"),
            };
            assert!(is_host_interface(attachment.host_interface().as_str()));
        }
        for name in ["eth0", "at0", "at0123456789abc", "at0123456789aX", "tap0123456789a"] {
            assert!(!is_host_interface(name), "{name}");
        }
    }
}
