//! Port security: the source MAC and address that a port allows, stored in its `vifId`.
//!
//! A data plane that prevents spoofing needs the MAC and address of a port. MidoNet stores them as static entries of the
//! bridge's MAC and ARP tables, which costs two more requests per pod. Every port also has a `vifId`, a UUID that MidoNet
//! never reads. Ours holds the MAC and the IPv4 address in a UUID of version 8 (RFC 9562, section 5.8), so that the request
//! which creates a port also sets its port security. A `vifId` of another orchestrator is not changed.
//!
//! Layout: 32 bits tag `a7011001`, 16 bits MAC (first two bytes), version 8 over a 12 bit part, variant over the rest:
//! bytes 0-3 tag, 4-5 MAC 0-1, 6 `0x80` or, when the address is unique, `0x81`, 7 MAC 2, 8 `0x80`, 9-11 MAC 3-5, 12-15
//! address.

use std::net::Ipv4Addr;

use uuid::Uuid;

use crate::attachment::Mac;

const TAG: [u8; 4] = [0xa7, 0x01, 0x10, 0x01];

/// The source that a port allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSecurity {
    /// The only source MAC.
    pub mac: Mac,
    /// The only source address.
    pub address: Ipv4Addr,
    /// The address is unique in the cluster, so that a node may route it.
    pub unique: bool,
}

impl PortSecurity {
    /// As a `vifId`.
    pub fn to_vif_id(self) -> Uuid {
        let m = self.mac.0;
        let a = self.address.octets();
        let t = TAG;
        let version = 0x80 | u8::from(self.unique);
        Uuid::from_bytes([
            t[0], t[1], t[2], t[3], m[0], m[1], version, m[2], 0x80, m[3], m[4], m[5], a[0], a[1], a[2], a[3],
        ])
    }

    /// Reads a `vifId`; `None` when it is not ours.
    pub fn from_vif_id(id: Uuid) -> Option<Self> {
        let b = id.as_bytes();
        (b[..4] == TAG && b[6] & 0xfe == 0x80 && b[8] == 0x80).then(|| Self {
            mac: Mac([b[4], b[5], b[7], b[9], b[10], b[11]]),
            address: Ipv4Addr::new(b[12], b[13], b[14], b[15]),
            unique: b[6] == 0x81,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_security_survives_the_round_trip_and_is_a_version_8_uuid() {
        for unique in [false, true] {
            let security =
                PortSecurity { mac: Mac([2, 0xff, 3, 4, 5, 0xfe]), address: Ipv4Addr::new(10, 128, 255, 7), unique };
            let id = security.to_vif_id();
            assert_eq!(id.get_version_num(), 8);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(PortSecurity::from_vif_id(id), Some(security));
        }
    }

    #[test]
    fn the_vif_id_of_another_orchestrator_is_not_ours() {
        assert_eq!(PortSecurity::from_vif_id(Uuid::new_v4()), None);
        assert_eq!(PortSecurity::from_vif_id(Uuid::nil()), None);
    }
}
