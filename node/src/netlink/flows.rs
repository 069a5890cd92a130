//! Tracked flows of one namespace, by ctnetlink: those of one address, of either family, and deleting them. Flows of the
//! default zone only. Layouts: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;

use super::nfnetlink::{ACK, DUMP, IPV4, IPV6, NESTED, REQUEST, attribute, put};
use super::nfnetlink_socket::NfnetlinkSocket;

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const FILTER: u16 = 25;
/// Which of a tuple's fields are compared (`CTA_FILTER_F_CTA_IP_SRC`).
const BY_SOURCE: u32 = 1;

/// The packets of a flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowDirection {
    /// Those of the end that began it.
    Original,
    /// Those that answer.
    Reply,
}

/// A socket to the tracked flows of a namespace.
pub struct FlowSocket(NfnetlinkSocket);

impl FlowSocket {
    /// Opens a socket in the thread's namespace.
    ///
    /// # Errors
    /// The error of `socket` or `bind`.
    pub fn here() -> io::Result<Self> {
        NfnetlinkSocket::here(SUBSYSTEM).map(Self)
    }

    /// As [`NfnetlinkSocket::request`].
    ///
    /// # Errors
    /// The kernel's error; `EINTR` when a list changed at each attempt.
    pub fn request(&mut self, family: u8, kind: u16, flags: u16, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.0.request(family, kind, flags, attributes)
    }

    /// The attributes of the flows whose packets of one direction come from `address`. The kernel filters those of
    /// IPv4; before 5.8, and of IPv6, it lists all, and they are filtered here.
    ///
    /// # Errors
    /// The kernel's error; `EINTR` when the list changed at each attempt.
    pub fn of(&mut self, address: IpAddr, direction: FlowDirection) -> io::Result<Vec<Vec<u8>>> {
        let (tuple_kind, flags_kind) = match direction {
            FlowDirection::Original => (ORIGINAL, 1),
            FlowDirection::Reply => (REPLY, 2),
        };
        let (mut source, mut tuple, mut filter, mut wanted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (family, source_kind) = match address {
            IpAddr::V4(address) => {
                put(&mut source, 1, &address.octets());
                (IPV4, 1)
            }
            IpAddr::V6(address) => {
                put(&mut source, 3, &address.octets());
                (IPV6, 3)
            }
        };
        // Of IPv6 the kernel does not list the flows that match its filter (observed with 6.18).
        if address.is_ipv4() {
            put(&mut tuple, 1 | NESTED, &source);
            put(&mut wanted, tuple_kind | NESTED, &tuple);
            put(&mut filter, flags_kind, &BY_SOURCE.to_ne_bytes());
            put(&mut wanted, FILTER | NESTED, &filter);
        }
        let mut flows = self.request(family, GET, REQUEST | DUMP, &wanted)?;
        let octets = attribute(&source, source_kind);
        flows.retain(|flow| {
            let addresses = attribute(flow, tuple_kind).and_then(|tuple| attribute(tuple, 1));
            addresses.and_then(|addresses| attribute(addresses, source_kind)) == octets
        });
        Ok(flows)
    }

    /// Deletes the flows that `address` answers.
    ///
    /// # Errors
    /// The kernel's error; `EINTR` when the list changed at each attempt.
    pub fn delete_answered_by(&mut self, address: IpAddr) -> io::Result<()> {
        let family = if address.is_ipv4() { IPV4 } else { IPV6 };
        for flow in self.of(address, FlowDirection::Reply)? {
            let Some(original) = attribute(&flow, ORIGINAL) else { continue };
            let mut wanted = Vec::new();
            put(&mut wanted, ORIGINAL | NESTED, original);
            match self.request(family, DELETE, REQUEST | ACK, &wanted) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
