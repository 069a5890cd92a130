//! Queues of links, and the filters in them (`tc`).

use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::tc::TcMessage;

use super::netlink::{Netlink, is};
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// Removes foreign queueing disciplines, with their filters, from these links; returns their number.
    pub(crate) fn remove_queues(&mut self, links: impl Fn(u32) -> bool) -> Result<usize> {
        let request = Message::GetQueueDiscipline(TcMessage::default());
        let queues = match self.list("list queues", request) {
            // A kernel without queues to choose from has none.
            Err(PlaneError::Netlink { source, .. }) if is(&source, Errno::EOPNOTSUPP) => Vec::new(),
            other => other?,
        };
        let mut changes = 0;
        for answer in queues {
            let Message::NewQueueDiscipline(queue) = answer else { continue };
            // The kernel's own have no number. What hangs below another goes with it.
            let by_hand = queue.header.handle.major != 0 && queue.header.parent.major == 0xffff;
            if !by_hand || !links(queue.header.index.cast_unsigned()) {
                continue;
            }
            let mut message = TcMessage::default();
            message.header = queue.header;
            message.header.info = 0;
            self.remove("delete a queue of a link".to_owned(), Message::DelQueueDiscipline(message))?;
            changes += 1;
        }
        Ok(changes)
    }
}
