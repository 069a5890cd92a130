//! Sets the options of links that differ from what they should be (`options`).

use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo,
};

use super::link::{Link, same_link};
use super::netlink::Netlink;
use crate::error::PlaneError;

impl Netlink {
    /// Sets the options of a bridge that differ; answers how many.
    pub(crate) fn repair_bridge(&mut self, link: &Link) -> Result<usize, PlaneError> {
        let wrong = link.drift.bridge.clone();
        if wrong.is_empty() {
            return Ok(0);
        }
        let (what, changes) = (format!("set options {wrong:?} of bridge {}", link.name), wrong.len());
        let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(wrong))];
        self.change_link(what, link, info).map(|()| changes)
    }

    /// Sets the flags of a bridge's port that differ; answers how many.
    pub(crate) fn repair_port(&mut self, link: &Link, learning: bool) -> Result<usize, PlaneError> {
        let mut wrong = link.drift.port.clone();
        if link.learning != Some(learning) {
            wrong.push(InfoBridgePort::Learning(learning));
        }
        if wrong.is_empty() {
            return Ok(0);
        }
        let (what, changes) = (format!("set flags {wrong:?} of port {}", link.name), wrong.len());
        self.change_port(what, link, wrong).map(|()| changes)
    }

    /// Makes a port forward again that another process has stopped.
    pub(crate) fn let_forward(&mut self, link: &Link) -> Result<(), PlaneError> {
        let state = vec![InfoBridgePort::State(BridgePortState::Forwarding)];
        self.change_port(format!("let port {} forward", link.name), link, state)
    }

    fn change_port(&mut self, what: String, link: &Link, flags: Vec<InfoBridgePort>) -> Result<(), PlaneError> {
        let data = LinkInfo::PortData(InfoPortData::BridgePort(flags));
        self.change_link(what, link, vec![LinkInfo::PortKind(InfoPortKind::Bridge), data])
    }

    fn change_link(&mut self, what: String, link: &Link, info: Vec<LinkInfo>) -> Result<(), PlaneError> {
        let mut message = same_link(link);
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.set_link(what, message)
    }
}
