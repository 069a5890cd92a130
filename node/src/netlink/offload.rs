//! Checksum offload of an interface, over the kernel's ethtool interface (`Documentation/networking/ethtool-netlink.rst`,
//! `FEATURES_SET`).
//!
//! A veth leaves the checksums of TCP and UDP to hardware that does not exist. A datapath in user space takes such a frame as
//! it is, and the receiver drops it.

use std::io;

use nix::errno::Errno;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use super::Refused;
use crate::netns::{self, Netns};
use atoll_model::ids::IfName;

/// `include/uapi/linux/genetlink.h`: the family that knows the others, and its request for one.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `include/uapi/linux/ethtool_netlink.h`.
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const HEADER_DEVICE_NAME: u16 = 2;
const HEADER_FLAGS: u16 = 3;
const OMIT_REPLY: u32 = 2;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
const REQUEST_AND_ACK: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

/// The interface computes checksums itself from now on.
///
/// # Errors
/// [`Refused`]: there is no such interface, or the kernel has no ethtool interface.
pub fn compute_checksums(netns: &Netns, interface: &IfName) -> Result<(), Refused> {
    let socket = match netns {
        Netns::Own => open()?,
        Netns::At(path) => match netns::open(path)? {
            Some(file) => netns::open_inside(&file, open)?,
            None => return Err(Refused { errno: Errno::ENOENT, words: "there is no such namespace".to_owned() }),
        },
    };
    let family = ask(&socket, CONTROLLER, [GET_FAMILY, 1, 0, 0], &attribute(FAMILY_NAME, b"ethtool\0"))?;
    let family = attributes(family.get(4..).unwrap_or_default())
        .find(|(kind, _)| *kind == FAMILY_ID)
        .and_then(|(_, value)| value.try_into().ok())
        .map(u16::from_ne_bytes);
    let no_family =
        || Refused { errno: Errno::EPROTO, words: "the kernel does not name its ethtool family".to_owned() };
    let mut name = interface.as_str().as_bytes().to_vec();
    name.push(0);
    let header = [attribute(HEADER_DEVICE_NAME, &name), attribute(HEADER_FLAGS, &OMIT_REPLY.to_ne_bytes())].concat();
    // A bit that is named without a value is to be off.
    let bit = attribute(BITSET_BIT | NESTED, &attribute(BIT_NAME, b"tx-checksum-ip-generic\0"));
    let wanted = attribute(BITSET_BITS | NESTED, &bit);
    let body = [attribute(FEATURES_HEADER | NESTED, &header), attribute(FEATURES_WANTED | NESTED, &wanted)].concat();
    ask(&socket, family.ok_or_else(no_family)?, [FEATURES_SET, 1, 0, 0], &body).map(drop)
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// Sends one request, and returns what precedes its acknowledgement, without the header.
fn ask(socket: &Socket, family: u16, command: [u8; 4], body: &[u8]) -> Result<Vec<u8>, Refused> {
    let length = u32::try_from(HEADER + command.len() + body.len()).unwrap_or(u32::MAX);
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend(REQUEST_AND_ACK.to_ne_bytes());
    // One request at a time, on a socket of its own: number and port need not be compared.
    request.extend([0; 8]);
    request.extend(command);
    request.extend(body);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut answer = Vec::new();
    loop {
        let mut received = Vec::with_capacity(32 * 1024);
        socket.recv_from(&mut received, 0)?;
        let mut rest = received.as_slice();
        while let Some(header) = rest.get(..HEADER) {
            let length = number(header, 0).max(HEADER).min(rest.len());
            let kind = header.get(4..6).and_then(|kind| kind.try_into().ok()).map_or(0, u16::from_ne_bytes);
            let content = rest.get(HEADER..length).unwrap_or_default();
            if kind == NLMSG_ERROR {
                let code = content.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                return if code == 0 { Ok(answer) } else { Err(io::Error::from_raw_os_error(-code).into()) };
            }
            answer.extend(content);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut attribute = Vec::new();
    attribute.extend(length.to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes(header.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(header.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> usize {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map_or(0, |four| usize::try_from(u32::from_ne_bytes(four)).unwrap_or(usize::MAX))
}
