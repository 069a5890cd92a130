//! The bits of the packet mark and their meaning. All of them are here, so that no two chains use one bit for two things.

/// The number of the translation that applies.
pub(super) const TRANSLATION: u32 = 0xffff;
/// The packet answers an earlier one of its flow.
pub(super) const REPLY: u32 = 0x1_0000;
/// The packet was accepted before the *after* pass of a router's chain.
pub(super) const ACCEPTED: u32 = 0x2_0000;
/// Scratch bit for conditions that are negated as a whole: set until an alternative matches.
pub(super) const UNMATCHED: u32 = 0x4_0000;
/// The packet is being routed; without it, it is the router's own, which passes no chain.
pub(super) const ROUTED: u32 = 0x8_0000;
/// A chain of a bridge or its port rejected the packet: the router's hooks answer its sender.
pub(super) const REJECTED: u32 = 0x10_0000;
/// The packet belongs to a flow that the host began.
pub(crate) const FROM_HOST: u32 = 0x20_0000;
/// The datagram came in fragments and was reassembled.
pub(super) const REASSEMBLED: u32 = 0x40_0000;
/// The later fragments of the datagram are accepted: the rest of this list does not apply to them.
pub(super) const LATER_ACCEPTED: u32 = 0x80_0000;
/// The frame is for the router, not for another port of the bridge.
pub(super) const TO_ROUTER: u32 = 0x8000_0000;

/// The mark of connections that the host began (conntrack mark, not packet mark).
pub(crate) const HOST_FLOW: u32 = 0xa702;

/// The kernel has translated the source of the flow (`IPS_SRC_NAT`).
pub(super) const SOURCE_TRANSLATED: u32 = 0x10;
/// The kernel has translated the destination of the flow (`IPS_DST_NAT`).
pub(super) const DESTINATION_TRANSLATED: u32 = 0x20;
