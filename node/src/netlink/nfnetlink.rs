//! Messages and attributes of nfnetlink, which nftables and connection tracking share.
//!
//! Written by hand: the crate for rtnetlink has no messages of these two subsystems. Layouts:
//! `include/uapi/linux/netlink.h`, `include/uapi/linux/netfilter/nfnetlink.h`.

use std::io;

/// The family `ip` (`NFPROTO_IPV4`).
pub const IPV4: u8 = 2;
/// The family `ip6` (`NFPROTO_IPV6`).
pub const IPV6: u8 = 10;
/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// The list changed while the kernel sent it (`NLM_F_DUMP_INTR`).
pub const INTERRUPTED: u16 = 0x10;
/// `NLA_F_NESTED`.
pub const NESTED: u16 = 0x8000;
/// `NLMSG_ERROR`, also of an acknowledgement.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub const DONE: u16 = 3;

/// A text as the kernel wants it: with a zero byte at its end.
pub fn name(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Appends an attribute: length, type, value, padded to four bytes.
pub fn put(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("attributes here are at most a few elements long");
    buffer.extend(length.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(value);
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// The attributes in a buffer, types without their flags.
pub fn walk(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub fn attribute(buffer: &[u8], wanted: u16) -> Option<&[u8]> {
    walk(buffer).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A value as text.
pub fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok().map(|text| text.trim_end_matches('\0'))
}

/// A netlink message with the header of nfnetlink.
pub fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).expect("one element is far below 4 GiB");
    let mut buffer = Vec::with_capacity(20 + attributes.len());
    buffer.extend(length.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(flags.to_ne_bytes());
    buffer.extend(sequence.to_ne_bytes());
    buffer.extend([0; 4]);
    buffer.extend([family, 0]);
    buffer.extend(resource.to_be_bytes());
    buffer.extend(attributes);
    buffer
}

/// The messages in a datagram: type, flags, sequence number, body.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let flags = u16::from_ne_bytes(rest.get(6..8)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, flags, sequence, body))
    })
}

/// The error in an acknowledgement; none when it is one of success.
pub fn errno(body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}
