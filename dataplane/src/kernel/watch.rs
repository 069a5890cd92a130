//! Tells when a link of a namespace appears, changes or goes.

use std::future::poll_fn;

use rtnetlink::constants::RTMGRP_LINK;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use super::netns::Netns;
use crate::error::PlaneError;

/// What happened where; no scope is the namespace of this process.
#[derive(Debug)]
pub(crate) enum Event {
    /// A link appeared or changed.
    Link {
        /// The domain.
        scope: Option<Uuid>,
        /// Its name.
        name: String,
    },
    /// A link is gone.
    Gone {
        /// The domain.
        scope: Option<Uuid>,
        /// Its name.
        name: String,
    },
    /// The kernel could not tell everything: look at all of it.
    Lost {
        /// The domain.
        scope: Option<Uuid>,
    },
}

/// Starts to watch `netns`. The watch ends with the returned handle's `abort`.
pub(crate) fn watch(
    netns: &Netns,
    scope: Option<Uuid>,
    events: UnboundedSender<Event>,
    tasks: &mut JoinSet<()>,
) -> Result<AbortHandle, PlaneError> {
    let runtime = tokio::runtime::Handle::current();
    let socket = netns.run(|| {
        let _context = runtime.enter();
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, RTMGRP_LINK))?;
        Ok(socket)
    })?;
    Ok(tasks.spawn(async move {
        loop {
            let goes_on = match poll_fn(|context| socket.poll_recv_from_full(context)).await {
                Ok((datagram, _)) => tell(&datagram, scope, &events),
                // ENOBUFS: events were dropped.
                Err(_) => events.send(Event::Lost { scope }).is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    }))
}

/// Sends what a datagram tells; false when nobody listens any more.
fn tell(datagram: &[u8], scope: Option<Uuid>, events: &UnboundedSender<Event>) -> bool {
    let mut rest = datagram;
    while rest.len() >= 16 {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else { break };
        let length = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
        rest = &rest[length..];
        let NetlinkPayload::InnerMessage(inner) = message.payload else { continue };
        // A port of a bridge is also announced in the bridge's own family; the link itself comes separately.
        let Some(name) = super::nl::link_of(&inner).map(|link| link.name) else { continue };
        let event = match inner {
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == 0.into() => {
                Event::Gone { scope, name }
            }
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == 0.into() => {
                Event::Link { scope, name }
            }
            _ => continue,
        };
        if events.send(event).is_err() {
            return false;
        }
    }
    true
}
