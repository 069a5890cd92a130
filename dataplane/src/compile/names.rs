//! Interface names and MACs that derive from the ids of the objects they stand for.

use atoll_model::attachment::Mac;
use atoll_model::topology::Device;
use uuid::Uuid;

/// Namespace of everything derived here; a constant of this project.
const PLANE: Uuid = Uuid::from_u128(0x3c58_8a7e_11d0_4f0a_8d6e_a701_da7a_0001);

/// What the router's end of its link to the host begins with.
pub(super) const ROUTER_PREFIX: &str = "atr";
/// What the host's end begins with.
pub(crate) const HOST_PREFIX: &str = "atn";

/// The device of a bridge: `br` and 12 hexadecimal digits.
pub(super) fn bridge(id: Uuid) -> String {
    format!("br{}", digits(id.as_bytes()))
}

/// The end of a link that belongs to this port: `rl` and 12 hexadecimal digits. Both ends are in the name, so that a
/// port that was linked elsewhere gets another interface.
pub(super) fn link(port: Uuid, peer: Uuid) -> String {
    format!("rl{}", digits(&[*port.as_bytes(), *peer.as_bytes()].concat()))
}

/// The far end of an uplink that leads nowhere: `out` and 12 hexadecimal digits.
pub(super) fn external(port: Uuid) -> String {
    format!("out{}", digits(port.as_bytes()))
}

/// Why the interface that a port is bound to cannot be one of this machine, if it cannot.
pub(super) fn unusable(interface: &str) -> Option<&'static str> {
    let ours = |prefix: &str| {
        let digits = interface.strip_prefix(prefix).unwrap_or_default();
        digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    // As the kernel has it (`dev_valid_name`).
    let impossible = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if !(1..=15).contains(&interface.len()) || [".", ".."].contains(&interface) || interface.contains(impossible) {
        Some("no interface can have this name")
    } else if interface.contains(['"', '*', '\\']) {
        Some("the packet filter has no word for this name")
    } else if interface == "lo" || ["br", "rl", "out", ROUTER_PREFIX, HOST_PREFIX].into_iter().any(ours) {
        Some("an interface of this name is the data plane's own")
    } else {
        None
    }
}

/// The MAC of a router port: from the controller, or derived.
pub(super) fn router_mac(id: Uuid, device: &Device) -> Mac {
    match device {
        Device::Router { mac: Some(mac), .. } => *mac,
        _ => mac(id),
    }
}

/// A locally administered, unicast MAC for an object.
pub(super) fn mac(id: Uuid) -> Mac {
    let hash = Uuid::new_v5(&PLANE, id.as_bytes());
    let b = hash.as_bytes();
    Mac([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
}

/// 12 hexadecimal digits that stand for `bytes`. Ids are hashed because people choose ids such as 1 and 2.
pub(super) fn digits(bytes: &[u8]) -> String {
    Uuid::new_v5(&PLANE, bytes).simple().to_string()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pod_interfaces_differ_from_all_others() {
        for name in ["a", "veth-web", "eth0.5", "0123456789abcde", "x}y;z", "br-0123456789ab", "rl0"] {
            assert_eq!(unusable(name), None, "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "a:b", "a\nb", "0123456789abcdef", "a*", "a\"b", "a\\", "lo"] {
            assert!(unusable(name).is_some(), "{name}");
        }
        for name in [bridge(Uuid::nil()), link(Uuid::nil(), Uuid::nil()), external(Uuid::nil())] {
            assert!(unusable(&name).is_some(), "{name}");
        }
    }
}
