//! The rtnetlink socket of one namespace.
//!
//! Nothing outside `kernel` knows the shape of a netlink message; there is one file for each kind of object. Each change
//! is announced first (`steps`). Adding what exists and deleting what does not are no errors.

use std::io;

use atoll_node::netlink::{Socket, errno_of};
use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::route::RouteProtocol;

use super::netns::OpenNetns;
use super::steps::step;
use crate::error::PlaneError;

/// The origin of our routes (`rtm_protocol`).
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(201);

type Result<T> = std::result::Result<T, PlaneError>;

/// A socket in one namespace.
pub(crate) struct Netlink {
    pub(super) socket: Socket,
}

impl Netlink {
    /// Opens a socket in `netns`.
    pub(crate) fn open(netns: &OpenNetns) -> Result<Self> {
        netns.run(Self::open_here)
    }

    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open_here() -> io::Result<Self> {
        Socket::here().map(|socket| Self { socket })
    }

    /// The port id of this socket in its namespace: events that this socket causes carry it.
    pub(crate) fn port(&self) -> Result<u32> {
        self.socket.port_id().map_err(|source| fail("read the socket's address".to_owned(), source))
    }

    pub(super) fn change(&mut self, what: String, message: Message, flags: u16) -> Result<()> {
        match step(&what).and_then(|()| Ok(self.socket.change(message, flags)?)) {
            Ok(()) => Ok(()),
            Err(source) => Err(fail(what, source)),
        }
    }

    pub(super) fn remove(&mut self, what: String, message: Message) -> Result<()> {
        let absent = [Errno::ENODEV, Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENXIO];
        match step(&what).and_then(|()| Ok(self.socket.change(message, 0)?)) {
            Err(error) if absent.iter().any(|errno| is(&error, *errno)) => Ok(()),
            Err(source) => Err(fail(what, source)),
            Ok(()) => Ok(()),
        }
    }

    /// All objects of a kind.
    pub(super) fn list(&mut self, what: &str, message: Message) -> Result<Vec<Message>> {
        self.socket.list(message).map_err(|refused| fail(what.to_owned(), refused.into()))
    }
}

pub(super) fn fail(what: String, source: io::Error) -> PlaneError {
    PlaneError::Netlink { what, source }
}

pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    errno_of(error) == Some(errno)
}
