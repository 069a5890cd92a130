//! A netlink socket in a chosen network namespace: one request, and all its answers.
//!
//! # Guarantees
//! * This process never leaves its namespace. A socket belongs to the namespace in which it was opened: a short-lived
//!   thread enters the namespace, opens the socket and ends.
//! * An answer belongs to its request, by its sequence number.
//! * A list is whole. One that changed while the kernel sent it is requested again, [`ATTEMPTS`] times at most.
//!
//! The kernel does all its work inside `sendmsg`: an asynchronous socket would gain nothing.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use rtnetlink::packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::{Socket as Raw, SocketAddr, protocols::NETLINK_ROUTE};

use super::Refused;
use super::answer::NetlinkAnswer;
use super::message::RawMessage;
use crate::netns::{self, Netns};

/// How often a list is requested that changes each time.
pub const ATTEMPTS: usize = 20;

/// The kernel sends no more at once.
const DATAGRAM: usize = 32 * 1024;

/// An open netlink socket.
#[derive(Debug)]
pub struct Socket {
    raw: Raw,
    /// One request at a time.
    exchange: Mutex<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    sequence: u32,
    /// What the kernel sends; kept from one request to the next.
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// The error of `socket` or `bind`.
    pub fn here() -> io::Result<Self> {
        let mut raw = Raw::new(NETLINK_ROUTE)?;
        raw.bind_auto()?;
        // An older kernel may lack each of them: filtered lists, short errors, errors in words.
        let _ = raw.set_netlink_get_strict_chk(true);
        let _ = raw.set_cap_ack(true);
        let _ = raw.set_ext_ack(true);
        let exchange = Exchange { sequence: 0, buffer: Vec::with_capacity(DATAGRAM) };
        Ok(Self { raw, exchange: Mutex::new(exchange) })
    }

    /// Opens a socket in the namespace of `netns`.
    ///
    /// # Errors
    /// `EINVAL`: `netns` is no network namespace. Otherwise the error of starting a thread, `setns`, `socket` or `bind`.
    pub fn inside(netns: &File) -> io::Result<Self> {
        netns::open_inside(netns, Self::here)
    }

    /// Opens a socket in a namespace; `None` if there is no such namespace.
    ///
    /// # Errors
    /// The error of opening the namespace, starting a thread, `setns`, `socket` or `bind`.
    pub fn within(netns: &Netns) -> io::Result<Option<Self>> {
        match netns {
            Netns::Own => Self::here().map(Some),
            Netns::At(path) => match netns::open(path)? {
                None => Ok(None),
                Some(file) => match Self::inside(&file) {
                    Err(error) if netns::is_no_netns(&error) => Ok(None),
                    other => other.map(Some),
                },
            },
        }
    }

    /// The number by which the kernel names this socket in its namespace. Events that this socket caused carry it.
    ///
    /// # Errors
    /// The error of `getsockname`.
    pub fn port_id(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.raw.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// Requests a change and waits until the kernel has made it. `kind`: `RTM_NEWLINK` and the like. `flags`: `NLM_F_CREATE` and
    /// the like.
    ///
    /// # Errors
    /// [`Refused`] when the kernel did not make it.
    pub fn change(&self, kind: u16, message: &dyn Emitable, flags: u16) -> Result<(), Refused> {
        self.request(RawMessage::new(kind, message), NLM_F_ACK | flags).map(drop)
    }

    /// Requests one object.
    ///
    /// # Errors
    /// [`Refused`]: `ENODEV`, `ENOENT` and the like when it does not exist.
    pub fn get(&self, kind: u16, message: &dyn Emitable) -> Result<Vec<RawMessage>, Refused> {
        self.request(RawMessage::new(kind, message), NLM_F_ACK)
    }

    /// Requests all objects of a kind, as the message narrows it.
    ///
    /// # Errors
    /// [`Refused`]; `EINTR` when the list changed at each attempt.
    pub fn list(&self, kind: u16, message: &dyn Emitable) -> Result<Vec<RawMessage>, Refused> {
        self.request(RawMessage::new(kind, message), NLM_F_DUMP)
    }

    fn request(&self, message: RawMessage, flags: u16) -> Result<Vec<RawMessage>, Refused> {
        // A panic in between cannot have left anything but a number that is used up.
        let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        request.header.flags = NLM_F_REQUEST | flags;
        for _ in 0..ATTEMPTS {
            exchange.sequence = exchange.sequence.wrapping_add(1);
            request.header.sequence_number = exchange.sequence;
            request.finalize();
            let mut bytes = vec![0; request.buffer_len()];
            request.serialize(&mut bytes);
            self.raw.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
            let answer = self.receive(&mut exchange)?;
            if !answer.is_interrupted {
                return Ok(answer.objects);
            }
        }
        Err(Refused { errno: Errno::EINTR, words: "the list changed at each attempt".to_owned() })
    }

    fn receive(&self, exchange: &mut Exchange) -> Result<NetlinkAnswer, Refused> {
        let mut answer = NetlinkAnswer::default();
        loop {
            exchange.buffer.clear();
            match self.raw.recv_from(&mut exchange.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if answer.read(&exchange.buffer, exchange.sequence)? {
                return Ok(answer);
            }
        }
    }
}
