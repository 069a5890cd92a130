//! The identity on which everything of one pod interface hangs, and the names that derive from it.
//!
//! # Guarantees
//! Nothing here needs a request or a file: a DEL that has lost every file and reaches no server still knows the name of
//! its host interface and, with the cluster id, the id of its port.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{ClusterId, ContainerId, IfName, NetworkName, NodeName};

/// Namespace of every id that does not hang on a cluster; a constant of this project.
const ATOLL: Uuid = Uuid::from_u128(0x6b1d_3f0c_52a4_4e0b_9a57_a701_1c0f_fee1);

/// One interface of one container in one network on one node. The key is never the pod: a recreated sandbox of the
/// same pod has another container id, and its ADD may come before the old DEL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The machine.
    pub node: NodeName,
    /// The CNI network.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// The interface inside the container.
    #[serde(rename = "ifname")]
    pub interface: IfName,
}

impl Attachment {
    /// 32 hexadecimal digits that name this attachment's files on its node.
    pub fn hash(&self) -> String {
        self.derive(&ATOLL, "file").simple().to_string()
    }

    /// The host end of the veth pair: `at` and 12 hexadecimal digits. Derived without the cluster id, so that a DEL
    /// finds it with its own arguments alone.
    pub fn host_interface(&self) -> IfName {
        let id = self.derive(&ATOLL, "host-interface").simple().to_string();
        IfName::new(format!("at{}", &id[..12])).expect("14 characters, all of them plain")
    }

    /// The MAC of the container's interface: 46 derived bits, locally administered, unicast (IEEE 802, figure 8-2).
    pub fn mac(&self) -> Mac {
        let id = self.derive(&ATOLL, "mac");
        let b = id.as_bytes();
        // Bytes 6 and 8 hold the UUID's version and variant, so they are left out.
        Mac([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
    }

    /// The id of this attachment's bridge port in the controller, unless a deletion of that port may still arrive.
    pub fn port(&self, cluster: ClusterId) -> Uuid {
        self.derive(&cluster.0, "port")
    }

    /// The id of a later port of this attachment. `after`: the port that it comes after, or, where that is not known, the
    /// claim it is made for. No deletion that was ever sent names it.
    pub fn port_after(&self, cluster: ClusterId, after: Uuid) -> Uuid {
        self.derive(&cluster.0, &format!("port\0{after}"))
    }

    fn derive(&self, space: &Uuid, role: &str) -> Uuid {
        // NUL cannot occur in any of the names: the encoding is unambiguous.
        let name = format!("{role}\0{}\0{}\0{}\0{}", self.node, self.network, self.container, self.interface);
        Uuid::new_v5(space, name.as_bytes())
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.node, self.network, self.container, self.interface)
    }
}

/// A MAC address; shown in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// The text is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: six pairs of hexadecimal digits joined by ':' are expected")]
pub struct InvalidMac(pub String);

impl std::str::FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let refuse = || InvalidMac(text.chars().take(80).collect());
        let mut mac = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().filter(|p| (1..=2).contains(&p.len())).ok_or_else(refuse)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(mac)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str, interface: &str) -> Attachment {
        Attachment {
            node: NodeName::new("n1").expect("valid"),
            network: NetworkName::new("atoll").expect("valid"),
            container: ContainerId::new(container).expect("valid"),
            interface: IfName::new(interface).expect("valid"),
        }
    }

    #[test]
    fn derived_names_never_change() {
        // Written down once: a change would orphan every running pod of every cluster.
        let cluster = ClusterId(Uuid::from_u128(7));
        let a = attachment("3f9a", "eth0");
        assert_eq!(
            format!("{} {} {} {}", a.hash(), a.host_interface(), a.mac(), a.port(cluster)),
            "74f9d50f72da5cf68cab8ee28e6c6cf1 at50926f89922e 46:06:09:a9:f6:e4 8f057a88-1dd6-5e6f-97a0-9e9a2f0d94a5"
        );
    }

    #[test]
    fn a_later_port_is_another() {
        let (cluster, a) = (ClusterId(Uuid::from_u128(7)), attachment("3f9a", "eth0"));
        let first = a.port(cluster);
        let second = a.port_after(cluster, first);
        // The expected values are written out: the audit finds ports by these names.
        assert_eq!(second.to_string(), "5316e62e-fefe-5392-b1c5-462e59f73767");
        let all = [first, second, a.port_after(cluster, second), attachment("3f9a", "eth1").port_after(cluster, first)];
        assert_eq!(std::collections::BTreeSet::from(all).len(), 4);
    }

    #[test]
    fn names_differ_where_the_identity_differs() {
        let names: std::collections::BTreeSet<_> =
            (0..20_000).map(|n| attachment(&format!("c{n}"), "eth0").host_interface()).collect();
        assert_eq!(names.len(), 20_000);
        assert_ne!(attachment("a", "eth0").mac(), attachment("a", "eth1").mac());
        assert_eq!(attachment("a", "eth0").mac().0[0] & 0x03, 0x02, "locally administered and unicast");
    }

    #[test]
    fn macs_are_read_in_any_case_and_shown_in_lower() {
        assert_eq!("02:AA:bb:0:1:2".parse::<Mac>().map(|m| m.to_string()), Ok("02:aa:bb:00:01:02".to_owned()));
        for bad in ["", "02:aa", "02:aa:bb:cc:dd:ee:ff", "02:aa:bb:cc:dd:gg", "+2:aa:bb:cc:dd:ee", "002:a:b:c:d:e"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
    }
}
