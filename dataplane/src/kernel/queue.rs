//! Queueing disciplines of links, and the filters in them (`tc`).

use atoll_node::netlink::{errno_of, queue};
use nix::errno::Errno;

use super::netlink::Netlink;
use crate::error::PlaneError;

impl Netlink {
    /// Removes foreign queueing disciplines, with their filters, from these links; returns their number.
    pub(crate) fn remove_queues(&mut self, links: impl Fn(u32) -> bool) -> Result<usize, PlaneError> {
        let queues = match self.read("list queues", queue::list) {
            // A kernel without queueing disciplines.
            Err(PlaneError::Netlink { source, .. }) if errno_of(&source) == Some(Errno::EOPNOTSUPP) => Vec::new(),
            other => other?,
        };
        let foreign: Vec<_> = queues.into_iter().filter(|queue| queue.is_added_root() && links(queue.link())).collect();
        for queue in &foreign {
            self.remove("delete a queue of a link".to_owned(), |socket| queue::delete(socket, queue))?;
        }
        Ok(foreign.len())
    }
}
