//! Permanent IPv4 neighbours, and proxy entries: addresses for which the kernel answers ARP requests itself.

use atoll_node::netlink::neighbour;

use super::netlink::Netlink;
use crate::compile::Neighbour;
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// All permanent IPv4 neighbours, links by index.
    pub(crate) fn neighbours(&mut self) -> Result<Vec<Neighbour<u32>>> {
        let all = self.read("list neighbours", neighbour::list_permanent)?;
        Ok(all.into_iter().map(|(device, address, mac)| Neighbour { device, address, mac }).collect())
    }

    /// Adds or changes a permanent neighbour.
    pub(crate) fn add_neighbour(&mut self, neighbour: &Neighbour<u32>) -> Result<()> {
        let Neighbour { device, address, mac } = *neighbour;
        let what = format!("add neighbour {address} at {mac}");
        self.change(what, |socket| neighbour::replace(socket, device, address, mac))
    }

    /// Deletes a neighbour.
    pub(crate) fn delete_neighbour(&mut self, neighbour: &Neighbour<u32>) -> Result<()> {
        let Neighbour { device, address, mac } = *neighbour;
        self.remove(format!("delete neighbour {address}"), |socket| neighbour::delete(socket, device, address, mac))
    }

    /// Deletes the proxy entries of these links; returns their number.
    pub(crate) fn remove_proxies(&mut self, links: impl Fn(u32) -> bool) -> Result<usize> {
        let proxies = self.read("list proxies", neighbour::list_proxies)?;
        let proxies: Vec<_> = proxies.into_iter().filter(|(link, _)| links(*link)).collect();
        for (link, address) in &proxies {
            let what = format!("delete proxy {address}");
            self.remove(what, |socket| neighbour::delete_proxy(socket, *link, *address))?;
        }
        Ok(proxies.len())
    }
}
