//! The rtnetlink socket of one namespace.
//!
//! `atoll_node::netlink` builds and reads the messages. The files of this folder have one kind of object each: what the
//! data plane does with it, and in which words. Each change is announced first (`steps`). Adding what exists and deleting
//! what does not exist are no errors.

use std::io;

use atoll_node::netlink::{Refused, Socket, errno_of};
use nix::errno::Errno;
use rtnetlink::packet_route::route::RouteProtocol;

use super::netns::OpenNetns;
use super::steps::step;
use crate::error::PlaneError;

/// The origin of our routes and policy rules (`rtm_protocol`).
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(201);

type Result<T> = std::result::Result<T, PlaneError>;

/// A socket in one namespace.
pub(crate) struct Netlink {
    socket: Socket,
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

    /// Makes a change.
    pub(super) fn change(
        &mut self,
        what: String,
        work: impl FnOnce(&Socket) -> std::result::Result<(), Refused>,
    ) -> Result<()> {
        self.change_unless(&[], what, work)
    }

    /// Makes a change; one that an existing object makes superfluous is fine.
    pub(super) fn add(
        &mut self,
        what: String,
        work: impl FnOnce(&Socket) -> std::result::Result<(), Refused>,
    ) -> Result<()> {
        self.change_unless(&[Errno::EEXIST], what, work)
    }

    /// Removes an object; an absent one is fine.
    pub(super) fn remove(
        &mut self,
        what: String,
        work: impl FnOnce(&Socket) -> std::result::Result<(), Refused>,
    ) -> Result<()> {
        let absent = [Errno::ENODEV, Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENXIO];
        self.change_unless(&absent, what, work)
    }

    fn change_unless(
        &mut self,
        fine: &[Errno],
        what: String,
        work: impl FnOnce(&Socket) -> std::result::Result<(), Refused>,
    ) -> Result<()> {
        match step(&what).and_then(|()| Ok(work(&self.socket)?)) {
            Err(error) if errno_of(&error).is_some_and(|errno| fine.contains(&errno)) => Ok(()),
            other => other.map_err(|source| fail(what, source)),
        }
    }

    /// Reads objects.
    pub(super) fn read<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&Socket) -> std::result::Result<T, Refused>,
    ) -> Result<T> {
        work(&self.socket).map_err(|refused| fail(what.to_owned(), refused.into()))
    }
}

fn fail(what: String, source: io::Error) -> PlaneError {
    PlaneError::Netlink { what, source }
}
