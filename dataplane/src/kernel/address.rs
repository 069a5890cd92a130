//! IPv4 addresses of links.

use atoll_node::netlink::address;
use ipnetwork::{IpNetwork, Ipv4Network};

use super::netlink::Netlink;
use crate::error::PlaneError;

impl Netlink {
    /// All IPv4 addresses with the index of their link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Network)>, PlaneError> {
        let all = self.read("list addresses", |socket| address::list(socket, 0))?;
        let of_ipv4 = |(link, address)| if let IpNetwork::V4(address) = address { Some((link, address)) } else { None };
        Ok(all.into_iter().filter_map(of_ipv4).collect())
    }

    /// Gives a link an address.
    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Network) -> Result<(), PlaneError> {
        self.change(format!("add address {address}"), |socket| address::replace(socket, index, address))
    }

    /// Removes an address from a link.
    pub(crate) fn delete_address(&mut self, index: u32, address: Ipv4Network) -> Result<(), PlaneError> {
        self.remove(format!("delete address {address}"), |socket| address::delete(socket, index, address.into()))
    }
}
