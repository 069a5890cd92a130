//! Sets the options of links that differ from what they should be (`options`).

use atoll_node::netlink::link::{self, Link};
use rtnetlink::packet_route::link::{BridgePortState, InfoBridgePort};

use super::netlink::Netlink;
use super::options;
use crate::error::PlaneError;

impl Netlink {
    /// Sets the options of a bridge that differ; returns their number.
    pub(crate) fn repair_bridge(&mut self, link: &Link) -> Result<usize, PlaneError> {
        let wrong = options::wrong_bridge_options(link);
        if wrong.is_empty() {
            return Ok(0);
        }
        let (what, changes) = (format!("set options {wrong:?} of bridge {}", link.name), wrong.len());
        self.change(what, |socket| link::set_bridge_options(socket, link.index, wrong)).map(|()| changes)
    }

    /// Sets the flags of a bridge's port that differ; returns their number.
    pub(crate) fn repair_port(&mut self, link: &Link, learning: bool) -> Result<usize, PlaneError> {
        let mut wrong = options::wrong_port_flags(link);
        if link.is_learning() != Some(learning) {
            wrong.push(InfoBridgePort::Learning(learning));
        }
        if wrong.is_empty() {
            return Ok(0);
        }
        let changes = wrong.len();
        self.set_flags(link, wrong).map(|()| changes)
    }

    /// Sets whether a new port learns. Its other flags are as the kernel makes them.
    pub(crate) fn set_learning(&mut self, link: &Link, learning: bool) -> Result<(), PlaneError> {
        self.set_flags(link, vec![InfoBridgePort::Learning(learning)])
    }

    fn set_flags(&mut self, link: &Link, flags: Vec<InfoBridgePort>) -> Result<(), PlaneError> {
        let what = format!("set flags {flags:?} of port {}", link.name);
        self.change(what, |socket| link::set_port_flags(socket, link.index, flags))
    }

    /// Makes a port forward again that another process has stopped.
    pub(crate) fn let_forward(&mut self, link: &Link) -> Result<(), PlaneError> {
        let state = vec![InfoBridgePort::State(BridgePortState::Forwarding)];
        let what = format!("let port {} forward", link.name);
        self.change(what, |socket| link::set_port_flags(socket, link.index, state))
    }
}
