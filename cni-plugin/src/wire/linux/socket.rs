//! A netlink socket in a chosen namespace: one request, its answers, and the kernel's own words when it refuses.
//!
//! Promise: this process never leaves its namespace. A socket belongs to the namespace in which it was opened, so a
//! short-lived thread enters the namespace, opens the socket and ends; nothing has to be restored, nothing can be left
//! in the wrong place. The kernel does all its work inside `sendmsg`, so that an asynchronous socket would gain nothing.

use std::cell::RefCell;
use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket as Raw, SocketAddr, protocols::NETLINK_ROUTE};

/// An open netlink socket.
pub(super) struct Socket {
    raw: Raw,
    /// What the kernel sends; kept from one request to the next.
    buffer: RefCell<Vec<u8>>,
}

/// The kernel refused a request.
#[derive(Debug)]
pub(super) struct Refused {
    /// Its error number.
    pub(super) errno: Errno,
    /// Its words; empty if it gave none.
    pub(super) words: String,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self { errno: Errno::from_raw(number), words: "netlink socket".to_owned() },
            None => Self { errno: Errno::EIO, words: error.to_string() },
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.words.is_empty() { self.errno.fmt(f) } else { write!(f, "{} ({})", self.words, self.errno) }
    }
}

/// Says what could not be started: the kernel's own word is "try again", whatever it refuses.
pub(super) fn no_thread(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("start a thread: {error}"))
}

impl Socket {
    /// Opens a socket in this process's namespace.
    pub(super) fn here() -> io::Result<Self> {
        let mut socket = Raw::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // All three are refinements that an older kernel may lack: filtered dumps, short errors, errors in words.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        // The kernel never sends more than 32 KiB at once.
        Ok(Self { raw: socket, buffer: RefCell::new(Vec::with_capacity(32 * 1024)) })
    }

    /// Opens a socket in the namespace of `netns`; `EINVAL`: it is no network namespace.
    pub(super) fn inside(netns: &File) -> io::Result<Self> {
        let enter = || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            Self::here()
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, enter);
            let thread = thread.map_err(|error| no_thread(&error))?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that enters a namespace died")))
        })
    }

    /// Sends a request and waits until the kernel has done it.
    pub(super) fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refused> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).map(drop)
    }

    /// Sends a request for one object.
    pub(super) fn get(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Sends a request for all objects.
    pub(super) fn dump(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.raw.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        let mut answers = Vec::new();
        let mut buffer = self.buffer.borrow_mut();
        loop {
            buffer.clear();
            match self.raw.recv_from(&mut *buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if read(&buffer, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Reads what one datagram holds; true: the exchange is over.
fn read(mut bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> Result<bool, Refused> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(damaged)?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => answers.push(inner),
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => match error.raw_code() {
                0 => return Ok(true),
                code => return Err(Refused { errno: Errno::from_raw(-code), words: words(&error.header) }),
            },
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn damaged(error: impl std::fmt::Display) -> Refused {
    Refused { errno: Errno::EBADMSG, words: format!("an answer of the kernel is not understood: {error}") }
}

/// The kernel's explanation (`NLMSGERR_ATTR_MSG`): the attributes after the 16 bytes of the request's header, which is
/// all of the request that comes back with `NETLINK_CAP_ACK`.
fn words(header: &[u8]) -> String {
    const MESSAGE: u16 = 1;
    let mut rest = header.get(16..).unwrap_or_default();
    while let [l0, l1, t0, t1, tail @ ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let Some(value) = length.checked_sub(4).and_then(|length| tail.get(..length)) else { break };
        if u16::from_ne_bytes([*t0, *t1]) & 0x3fff == MESSAGE {
            return String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_found_among_the_attributes() {
        let mut header = vec![0_u8; 16];
        header.extend([8, 0, 2, 0, 1, 2, 3, 4]);
        header.extend([10, 0, 1, 0]);
        header.extend(b"wrong\0\0\0");
        assert_eq!(words(&header), "wrong");
        for cut in 0..header.len() {
            drop(words(&header[..cut]));
        }
        assert_eq!(words(&[0; 16]), "");
    }
}
