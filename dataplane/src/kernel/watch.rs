//! Events of a namespace: which link changed, or that something else did.

use std::future::poll_fn;

use atoll_node::netlink::link::Link;
use rtnetlink::constants::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_LINK};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use super::netns::OpenNetns;
use crate::error::PlaneError;

/// The multicast group of nftables (`NFNLGRP_NFTABLES`), as a bit.
const GROUP_NFTABLES: u32 = 1 << 6;

/// An event of a namespace. `scope` is `None` for the namespace of this process.
#[derive(Debug)]
pub(crate) enum Event {
    /// A link appeared or changed.
    Link {
        /// The namespace.
        scope: Option<Uuid>,
        /// As it is now.
        link: Link,
    },
    /// A link is gone.
    Gone {
        /// The namespace.
        scope: Option<Uuid>,
        /// Its name.
        name: String,
    },
    /// Another program changed an address or a route.
    Suspect {
        /// The namespace.
        scope: Uuid,
    },
    /// An address or a route of our own namespace changed.
    Node,
    /// The packet filter changed; this process may have changed it.
    Filter {
        /// The namespace.
        scope: Uuid,
    },
    /// The kernel dropped events: everything has to be compared.
    Lost {
        /// The namespace.
        scope: Option<Uuid>,
    },
}

/// Watches a router namespace, or the host namespace if `scope` is `None`. Events caused by the socket with the port id
/// `own` are ignored. Watching ends when the handles are aborted.
pub(crate) fn watch(
    netns: &OpenNetns,
    scope: Option<Uuid>,
    own: u32,
    events: &UnboundedSender<Event>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<AbortHandle>, PlaneError> {
    let Some(namespace) = scope else {
        let links = open(netns, NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE)?;
        return Ok(vec![tasks.spawn(listen(links, scope, events.clone(), move |datagram, events| {
            send_events(datagram, None, own, events)
        }))]);
    };
    let links = open(netns, NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE)?;
    let filter = open(netns, NETLINK_NETFILTER, GROUP_NFTABLES)?;
    let link = listen(links, scope, events.clone(), move |datagram, events| {
        send_events(datagram, Some(namespace), own, events)
    });
    let filter =
        listen(filter, scope, events.clone(), move |_, events| events.send(Event::Filter { scope: namespace }).is_ok());
    Ok(vec![tasks.spawn(link), tasks.spawn(filter)])
}

/// A socket that receives events of `netns`.
fn open(netns: &OpenNetns, protocol: isize, groups: u32) -> Result<TokioSocket, PlaneError> {
    let runtime = tokio::runtime::Handle::current();
    netns.run(|| {
        let _context = runtime.enter();
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(socket)
    })
}

/// Passes datagrams to `take` until the receiver is dropped.
async fn listen(
    socket: TokioSocket,
    scope: Option<Uuid>,
    events: UnboundedSender<Event>,
    take: impl Fn(&[u8], &UnboundedSender<Event>) -> bool,
) {
    loop {
        let goes_on = match poll_fn(|context| socket.poll_recv_from_full(context)).await {
            Ok((datagram, _)) => take(&datagram, &events),
            // ENOBUFS: events were dropped.
            Err(_) => events.send(Event::Lost { scope }).is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

/// Sends the event of a datagram; `false` if the receiver was dropped.
fn send_events(datagram: &[u8], scope: Option<Uuid>, own: u32, events: &UnboundedSender<Event>) -> bool {
    let mut rest = datagram;
    while rest.len() >= 16 {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else { break };
        let length = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
        rest = &rest[length..];
        let NetlinkPayload::InnerMessage(inner) = message.payload else { continue };
        if is_address_or_route(&inner) {
            if message.header.port_number == own {
                continue;
            }
            if events.send(scope.map_or(Event::Node, |scope| Event::Suspect { scope })).is_err() {
                return false;
            }
            continue;
        }
        let (message, is_gone) = match inner {
            // Bridges send events in their own family: a port has left.
            RouteNetlinkMessage::DelLink(message) => {
                let is_gone = message.header.interface_family == 0.into();
                (message, is_gone)
            }
            // Also those of bridges: a port forwards.
            RouteNetlinkMessage::NewLink(message) => (message, false),
            _ => continue,
        };
        let link = Link::read(message);
        if link.name.is_empty() {
            continue;
        }
        let event = if is_gone { Event::Gone { scope, name: link.name } } else { Event::Link { scope, link } };
        if events.send(event).is_err() {
            return false;
        }
    }
    true
}

fn is_address_or_route(message: &RouteNetlinkMessage) -> bool {
    use RouteNetlinkMessage as M;
    matches!(message, M::NewAddress(_) | M::DelAddress(_) | M::NewRoute(_) | M::DelRoute(_))
}
