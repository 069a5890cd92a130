//! Queueing disciplines of links, with the filters in them (`RTM_NEWQDISC` and its like, tc(8)).

use nix::libc::{RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC};
use rtnetlink::packet_route::tc::{TcHeader, TcMessage};

use super::message::RawMessage;
use super::{Refused, Socket};

/// A queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue(TcHeader);

impl Queue {
    /// The index of its link.
    pub fn link(&self) -> u32 {
        self.0.index.cast_unsigned()
    }

    /// It was added to a link by a program. The kernel's own have no handle, and what is below another one is deleted
    /// with it.
    pub fn is_added_root(&self) -> bool {
        self.0.handle.major != 0 && self.0.parent.major == 0xffff
    }
}

/// All queueing disciplines of the namespace.
///
/// # Errors
/// `EOPNOTSUPP`: the kernel has none. Otherwise the kernel's error.
pub fn list(socket: &Socket) -> Result<Vec<Queue>, Refused> {
    let answers = socket.list(RTM_GETQDISC, &TcMessage::default())?;
    let queues: Vec<TcMessage> = RawMessage::read_all(&answers, RTM_NEWQDISC)?;
    Ok(queues.into_iter().map(|queue| Queue(queue.header)).collect())
}

/// Deletes a queueing discipline with its filters.
///
/// # Errors
/// `ENOENT`: there is none. Otherwise the kernel's error.
pub fn delete(socket: &Socket, queue: &Queue) -> Result<(), Refused> {
    let mut message = TcMessage::default();
    message.header = TcHeader { info: 0, ..queue.0.clone() };
    socket.change(RTM_DELQDISC, &message, 0)
}
