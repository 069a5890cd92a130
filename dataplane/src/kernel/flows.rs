//! Tracked flows of one namespace, by ctnetlink: listing and removing them.
//!
//! Layouts: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`. Only IPv4 is covered, and flows of the default
//! zone.

use std::io;
use std::net::Ipv4Addr;

use atoll_node::netlink::flows::{FlowDirection, FlowSocket};
use atoll_node::netlink::nfnetlink::{ACK, CREATE, DUMP, IPV4, NESTED, REQUEST, attribute, put};
use nix::errno::Errno;

use super::netns::OpenNetns;
use super::steps::step;
use crate::error::PlaneError;

const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;

const ICMP: u8 = 1;
const UDP: u8 = 17;

/// Set of every flow that is listed (`IPS_CONFIRMED`).
const CONFIRMED: u32 = 0x8;

/// The source was translated (`IPS_SRC_NAT`).
const SOURCE_TRANSLATED: u32 = 0x10;
/// The destination was translated (`IPS_DST_NAT`).
const DESTINATION_TRANSLATED: u32 = 0x20;

/// The packets of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tuple {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    protocol: u8,
    /// Ports of source and destination; of ICMP type and code.
    ends: (u16, u16),
    /// The identifier of ICMP.
    id: u16,
}

impl Tuple {
    /// The packets that answer these if nothing is translated.
    pub(crate) fn inverse(self) -> Self {
        let (first, second) = self.ends;
        let ends = if self.protocol == ICMP { (answer(first), second) } else { (second, first) };
        Self { source: self.destination, destination: self.source, ends, ..self }
    }

    fn encode(&self, kind: u16, into: &mut Vec<u8>) {
        let (mut addresses, mut protocol, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
        put(&mut addresses, 1, &self.source.octets());
        put(&mut addresses, 2, &self.destination.octets());
        put(&mut protocol, 1, &[self.protocol]);
        let (first, second) = self.ends;
        if self.protocol == ICMP {
            put(&mut protocol, 4, &self.id.to_be_bytes());
            put(&mut protocol, 5, &first.to_be_bytes()[1..]);
            put(&mut protocol, 6, &second.to_be_bytes()[1..]);
        } else {
            put(&mut protocol, 2, &first.to_be_bytes());
            put(&mut protocol, 3, &second.to_be_bytes());
        }
        put(&mut tuple, 1 | NESTED, &addresses);
        put(&mut tuple, 2 | NESTED, &protocol);
        put(into, kind | NESTED, &tuple);
    }

    fn decode(tuple: &[u8]) -> Option<Self> {
        let (addresses, protocol) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
        let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(attribute(addresses, kind)?).ok()?));
        let number = |kind| match attribute(protocol, kind) {
            Some([one]) => u16::from(*one),
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        let kind = *attribute(protocol, 1)?.first()?;
        let ends = if kind == ICMP { (number(5), number(6)) } else { (number(2), number(3)) };
        Some(Self { source: address(1)?, destination: address(2)?, protocol: kind, ends, id: number(4) })
    }
}

/// The type of ICMP that answers this one, and the other way round (RFC 792).
fn answer(kind: u16) -> u16 {
    match kind {
        8 => 0,
        0 => 8,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        17 => 18,
        18 => 17,
        other => other,
    }
}

/// A flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    /// As it was opened.
    pub(crate) original: Tuple,
    /// As its answers arrive: the other end is the source.
    pub(crate) reply: Tuple,
    status: u32,
    /// The mark of the connection.
    pub(crate) mark: u32,
}

impl Flow {
    /// The address of its sender after translation, if there is a translation.
    pub(crate) fn translated_source(&self) -> Option<Ipv4Addr> {
        (self.status & SOURCE_TRANSLATED != 0).then_some(self.reply.destination)
    }

    /// The destination address after translation, if there is a translation.
    pub(crate) fn translated_destination(&self) -> Option<Ipv4Addr> {
        (self.status & DESTINATION_TRANSLATED != 0).then_some(self.reply.source)
    }

    /// A UDP flow, for the probe.
    pub(crate) fn of_datagram(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let original = Tuple { source, destination, protocol: UDP, ends: (1, 2), id: 0 };
        Self { original, reply: original.inverse(), status: CONFIRMED, mark: 0 }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let number = |kind| Some(u32::from_be_bytes(attribute(body, kind)?.try_into().ok()?));
        let tuple = |kind| Tuple::decode(attribute(body, kind)?);
        let (status, mark) = (number(STATUS).unwrap_or_default(), number(MARK).unwrap_or_default());
        Some(Self { original: tuple(ORIGINAL)?, reply: tuple(REPLY)?, status, mark })
    }
}

/// A socket to the tracked flows of one namespace.
pub(crate) struct Flows(FlowSocket);

impl Flows {
    /// Opens a socket in `netns`.
    pub(crate) fn open(netns: &OpenNetns) -> Result<Self, PlaneError> {
        netns.run(|| FlowSocket::here().map(Self))
    }

    /// All flows.
    pub(crate) fn all(&mut self) -> Result<Vec<Flow>, PlaneError> {
        self.request(GET, REQUEST | DUMP, &[]).map_err(fail("list tracked flows"))
    }

    /// The flows that have `address` as one of their ends in this namespace: as the sender of the first packet, or of answers.
    pub(crate) fn of(&mut self, address: Ipv4Addr) -> Result<Vec<Flow>, PlaneError> {
        let mut flows = Vec::new();
        for direction in [FlowDirection::Original, FlowDirection::Reply] {
            let answers = self.0.of(address.into(), direction).map_err(fail("list tracked flows"))?;
            flows.extend(answers.iter().filter_map(|answer| Flow::decode(answer)));
        }
        flows.sort_unstable();
        flows.dedup();
        Ok(flows)
    }

    /// The flow that these packets belong to, in one direction or the other.
    pub(crate) fn find(&mut self, tuple: &Tuple) -> Result<Option<Flow>, PlaneError> {
        let mut attributes = Vec::new();
        tuple.encode(ORIGINAL, &mut attributes);
        match self.request(GET, REQUEST, &attributes) {
            Ok(answers) => Ok(answers.first().copied()),
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(None),
            Err(error) => Err(fail("read a tracked flow")(error)),
        }
    }

    /// Creates a flow with a lifetime of a minute.
    pub(crate) fn remember(&mut self, flow: &Flow) -> Result<(), PlaneError> {
        let mut attributes = Vec::new();
        flow.original.encode(ORIGINAL, &mut attributes);
        flow.reply.encode(REPLY, &mut attributes);
        put(&mut attributes, TIMEOUT, &60_u32.to_be_bytes());
        let made = step("make a flow").and_then(|()| self.request(NEW, REQUEST | ACK | CREATE, &attributes));
        made.map(drop).map_err(fail("make a tracked flow"))
    }

    /// Removes a flow; an absent one is fine.
    pub(crate) fn forget(&mut self, flow: &Flow) -> Result<(), PlaneError> {
        let mut attributes = Vec::new();
        flow.original.encode(ORIGINAL, &mut attributes);
        match step("forget a flow").and_then(|()| self.request(DELETE, REQUEST | ACK, &attributes)) {
            Err(error) if error.raw_os_error() != Some(Errno::ENOENT as i32) => {
                Err(fail("forget a tracked flow")(error))
            }
            _ => Ok(()),
        }
    }

    fn request(&mut self, kind: u16, flags: u16, attributes: &[u8]) -> io::Result<Vec<Flow>> {
        let answers = self.0.request(IPV4, kind, flags, attributes)?;
        Ok(answers.iter().filter_map(|answer| Flow::decode(answer)).collect())
    }
}

fn fail(what: &'static str) -> impl Fn(io::Error) -> PlaneError {
    move |source| PlaneError::Netlink { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_read_as_it_was_written_and_its_inverse_inverts_back() {
        let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1));
        for (protocol, ends, id, back) in
            [(6, (1024, 80), 0, (80, 1024)), (ICMP, (8, 0), 77, (0, 0)), (47, (0, 0), 0, (0, 0))]
        {
            let tuple = Tuple { source, destination, protocol, ends, id };
            let mut bytes = Vec::new();
            tuple.encode(ORIGINAL, &mut bytes);
            assert_eq!(Tuple::decode(attribute(&bytes, ORIGINAL).expect("it is there")), Some(tuple));
            let inverse = tuple.inverse();
            assert_eq!((inverse.source, inverse.destination, inverse.ends), (destination, source, back));
            assert_eq!(inverse.inverse(), tuple);
        }
    }
}
