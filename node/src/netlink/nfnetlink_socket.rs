//! A socket of nfnetlink: lists and single answers, and changes of several objects in one transaction.
//!
//! # Guarantees
//! * A list is whole: one that changed while the kernel sent it is requested again.
//! * An answer that an earlier request left unread stops no later one. While a socket overflows (`ENOBUFS`), the kernel drops
//!   answers without another error, and it overflows until it is empty: so it is emptied before each request.

use std::io;

use nix::libc::MSG_DONTWAIT;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::nfnetlink::{ACK, DONE, ERROR, INTERRUPTED, REQUEST, errno, message, messages};
use super::socket::ATTEMPTS;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// How many answers are taken out of a socket at most before a request: more than fit into one.
const MOST_UNREAD: usize = 10_000;

/// One change of a transaction.
#[derive(Clone, Debug)]
pub struct NfnetlinkChange {
    /// The family of the object.
    pub family: u8,
    /// The kind of the message within its subsystem.
    pub kind: u16,
    /// Flags besides `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub flags: u16,
    /// The attributes.
    pub attributes: Vec<u8>,
}

/// A socket to one subsystem.
pub struct NfnetlinkSocket {
    socket: Socket,
    subsystem: u16,
    sequence: u32,
}

impl NfnetlinkSocket {
    /// Opens a socket in the thread's namespace.
    ///
    /// # Errors
    /// The error of `socket` or `bind`.
    pub fn here(subsystem: u16) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, subsystem, sequence: 0 })
    }

    /// Sends a request, and returns the attributes of each message of the answer. With `flags` alone `NLM_F_REQUEST` the answer is
    /// one message.
    ///
    /// # Errors
    /// The kernel's error; `EINTR` when a list changed at each attempt.
    pub fn request(&mut self, family: u8, kind: u16, flags: u16, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            let sequence = self.next();
            self.send(&message(self.subsystem << 8 | kind, flags, sequence, family, 0, attributes))?;
            if let Some(answers) = self.answers(sequence, flags == REQUEST)? {
                return Ok(answers);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Reads an answer. None: what it lists changed while the kernel sent it.
    fn answers(&self, wanted: u32, is_single: bool) -> io::Result<Option<Vec<Vec<u8>>>> {
        let (mut answers, mut is_whole) = (Vec::new(), true);
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut is_over = false;
            for (kind, flags, _, body) in messages(&datagram).filter(|(_, _, sequence, _)| *sequence == wanted) {
                is_whole &= flags & INTERRUPTED == 0;
                match kind {
                    DONE | ERROR => match errno(body) {
                        Some(error) => return Err(error),
                        None => is_over = true,
                    },
                    _ => {
                        answers.push(body.get(4..).unwrap_or_default().to_vec());
                        is_over |= is_single;
                    }
                }
            }
            if is_over {
                return Ok(is_whole.then_some(answers));
            }
        }
    }

    /// Makes changes in one transaction: all of them or none.
    ///
    /// # Errors
    /// The first error of the kernel.
    pub fn transaction(&mut self, changes: Vec<NfnetlinkChange>) -> io::Result<()> {
        let Some(last) = changes.len().checked_sub(1) else { return Ok(()) };
        let begin = self.next();
        let mut request = message(BATCH_BEGIN, REQUEST, begin, 0, self.subsystem, &[]);
        for (place, NfnetlinkChange { family, kind, flags, attributes }) in changes.into_iter().enumerate() {
            // The kernel answers what it refuses in any case.
            let ack = if place == last { ACK } else { 0 };
            let (kind, sequence) = (self.subsystem << 8 | kind, self.next());
            request.extend(message(kind, REQUEST | ack | flags, sequence, family, 0, &attributes));
        }
        let end = self.next();
        request.extend(message(BATCH_END, REQUEST, end, 0, self.subsystem, &[]));
        self.send(&request)?;
        // Answers come in the order of the messages, also if the kernel rejects the batch.
        let mut result = Ok(());
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (kind, _, sequence, body) in messages(&datagram) {
                if kind != ERROR || sequence.wrapping_sub(begin) >= end.wrapping_sub(begin) {
                    continue;
                }
                if let Some(error) = errno(body) {
                    result = result.and(Err(error));
                    if sequence == begin {
                        return result;
                    }
                }
                if sequence.wrapping_add(1) == end {
                    return result;
                }
            }
        }
    }

    /// Sends a request once nothing is left of earlier ones.
    fn send(&self, request: &[u8]) -> io::Result<()> {
        let mut unread: Vec<u8> = Vec::new();
        for _ in 0..MOST_UNREAD {
            unread.clear();
            match self.socket.recv(&mut unread, MSG_DONTWAIT) {
                // An error of an earlier request too.
                Ok(_) => tracing::debug!("an answer of an earlier request was unread"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => tracing::debug!(%error, "an earlier request"),
            }
        }
        self.socket.send(request, 0).map(drop)
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}
