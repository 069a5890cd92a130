//! IPv4 addresses of links.

use std::net::IpAddr;

use ipnetwork::Ipv4Network;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::netlink::Netlink;
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// All IPv4 addresses with the index of their link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Network)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.list("list addresses", Message::GetAddress(message))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| {
                let Message::NewAddress(address) = answer else { return None };
                let ip = address.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                    _ => None,
                })?;
                Some((address.header.index, Ipv4Network::new(ip, address.header.prefix_len).ok()?))
            })
            .collect())
    }

    /// Gives a link an address.
    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Network) -> Result<()> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.change(format!("add address {address}"), Message::NewAddress(address_message(index, address)), flags)
    }

    /// Takes an address from a link.
    pub(crate) fn delete_address(&mut self, index: u32, address: Ipv4Network) -> Result<()> {
        self.remove(format!("delete address {address}"), Message::DelAddress(address_message(index, address)))
    }
}

fn address_message(index: u32, address: Ipv4Network) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = address.prefix();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(address.ip().into()), AddressAttribute::Address(address.ip().into())];
    message
}
