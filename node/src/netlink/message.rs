//! A message of rtnetlink as the socket exchanges it: its type and its bytes.
//!
//! Each kind of object parses its own messages. `RouteNetlinkMessage` of `netlink-packet-route` parses every kind there is, so a
//! program that uses it has the parsers of all of them.

use std::convert::Infallible;

use rtnetlink::packet_core::{Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Parseable};

use super::Refused;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Its type (`RTM_NEWLINK` and its like).
    pub kind: u16,
    /// What follows the netlink header.
    pub body: Vec<u8>,
}

impl RawMessage {
    /// Writes a message.
    pub fn new(kind: u16, message: &dyn Emitable) -> Self {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        Self { kind, body }
    }

    /// Reads those of `messages` that are of a type.
    ///
    /// # Errors
    /// [`Refused`] if one of them cannot be read.
    pub fn read_all<M: Parseable<[u8]>>(messages: &[Self], kind: u16) -> Result<Vec<M>, Refused> {
        let wanted = messages.iter().filter(|message| message.kind == kind);
        wanted.map(|message| M::parse(&message.body).map_err(Refused::damaged)).collect()
    }
}

impl NetlinkSerializable for RawMessage {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for RawMessage {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self { kind: header.message_type, body: payload.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use nix::libc::{RTM_NEWADDR, RTM_NEWLINK};
    use rtnetlink::packet_route::address::AddressMessage;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    #[test]
    fn messages_of_other_types_are_skipped_and_damaged_ones_are_errors() {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        let written = RawMessage::new(RTM_NEWLINK, &link);
        let other = RawMessage::new(RTM_NEWADDR, &AddressMessage::default());
        let messages = [other, written.clone()];
        assert_eq!(RawMessage::read_all::<LinkMessage>(&messages, RTM_NEWLINK), Ok(vec![link]));
        let cut = RawMessage { body: written.body[..7].to_vec(), ..written };
        let refused = RawMessage::read_all::<LinkMessage>(&[cut], RTM_NEWLINK).expect_err("it is cut short");
        assert!(refused.words.starts_with("an answer of the kernel is not understood: "), "{refused}");
    }
}
