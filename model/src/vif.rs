//! What is behind a port, told in the port itself.
//!
//! A data plane that prevents spoofing must know the MAC and the address from which a port may send. MidoNet stores
//! them as static entries of the bridge's MAC and ARP tables, which costs two more requests for each pod; but every
//! port also has a `vifId`, a UUID that MidoNet never interprets. Atoll's contains the MAC and the IPv4 address in a
//! UUID of version 8 (RFC 9562, section 5.8), so the request that creates the port also sets its port security. A
//! `vifId` of another owner is ignored.
//!
//! Layout: 32 bits tag `a7011001`, 16 bits MAC (first two bytes), version 8 over a 12 bit part, variant over the rest:
//! bytes 0-3 tag, 4-5 MAC 0-1, 6 `0x80` or, when the address is unique, `0x81`, 7 MAC 2, 8 `0x80`, 9-11 MAC 3-5, 12-15
//! address.

use std::net::Ipv4Addr;

use uuid::Uuid;

use crate::attachment::Mac;

const TAG: [u8; 4] = [0xa7, 0x01, 0x10, 0x01];

/// Who may speak through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vif {
    /// The only source MAC.
    pub mac: Mac,
    /// The only source address.
    pub address: Ipv4Addr,
    /// The address is unique in the cluster, so a node may route it.
    pub unique: bool,
}

impl Vif {
    /// As a `vifId`.
    pub fn to_uuid(self) -> Uuid {
        let m = self.mac.0;
        let a = self.address.octets();
        let t = TAG;
        let version = 0x80 | u8::from(self.unique);
        Uuid::from_bytes([
            t[0], t[1], t[2], t[3], m[0], m[1], version, m[2], 0x80, m[3], m[4], m[5], a[0], a[1], a[2], a[3],
        ])
    }

    /// Reads a `vifId`; `None` when it is not one of ours.
    pub fn from_uuid(id: Uuid) -> Option<Self> {
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
    fn a_vif_survives_the_round_trip_and_is_a_version_8_uuid() {
        for unique in [false, true] {
            let vif = Vif { mac: Mac([2, 0xff, 3, 4, 5, 0xfe]), address: Ipv4Addr::new(10, 128, 255, 7), unique };
            let id = vif.to_uuid();
            assert_eq!(id.get_version_num(), 8);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(Vif::from_uuid(id), Some(vif));
        }
    }

    #[test]
    fn the_vif_of_another_orchestrator_is_not_ours() {
        assert_eq!(Vif::from_uuid(Uuid::new_v4()), None);
        assert_eq!(Vif::from_uuid(Uuid::nil()), None);
    }
}
