//! Where a chain is evaluated, as far as its conditions and actions depend on it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use uuid::Uuid;

use super::names;
use super::table::{Item, NamedSet};
use super::view::View;

/// What a chain can know about the port at one side of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Not decided yet: the field is unset and equals nothing.
    Unknown,
    /// The interface that the kernel names.
    Interface,
    /// This port: the packet comes from, or goes to, the router's own interface on a bridge.
    Known(Uuid),
}

/// What "reject" can do in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectMethod {
    /// Answer at once.
    Answer,
    /// Mark the packet, for the router's hooks to answer.
    Mark,
    /// Drop without an answer.
    Silent,
}

/// What of a datagram a list of rules is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FragmentClass {
    /// A whole packet, or the first fragment.
    First,
    /// Later fragments, which have no ports.
    Later,
}

/// Where a chain is evaluated.
pub(super) struct ChainContext<'a> {
    pub(super) view: &'a View<'a>,
    /// The address groups of the table that it is written to.
    pub(super) groups: &'a AddressSets,
    /// The interface of a port, where it has one here.
    pub(super) interface: &'a dyn Fn(Uuid) -> Option<String>,
    /// Where the packet came in.
    pub(super) input: End,
    /// Where it goes out.
    pub(super) output: End,
    /// On a bridge; else on a router.
    pub(super) bridge: bool,
    /// Packets can be translated here: in a router's own chains, not in those of bridges and ports.
    pub(super) translates: bool,
    /// What "reject" can do here.
    pub(super) refusal: RejectMethod,
    /// Datagrams may have been reassembled before: connection tracking sees them.
    pub(super) reassembled: bool,
}

impl ChainContext<'_> {
    /// On a router, after routing.
    pub(super) fn routed(&self) -> bool {
        !self.bridge && self.output != End::Unknown
    }
}

/// Groups of addresses that the rules of a table ask for. Each is one set of that table, however many rules ask.
#[derive(Default)]
pub(super) struct AddressSets(RefCell<BTreeMap<String, Vec<String>>>);

impl AddressSets {
    /// The name of the set of this group.
    pub(super) fn name(&self, id: Uuid, members: &[String]) -> String {
        let name = format!("g_{}", names::digits(id.as_bytes()));
        self.0.borrow_mut().entry(name.clone()).or_insert_with(|| members.to_vec());
        name
    }

    /// The sets.
    pub(super) fn into_items(self) -> impl Iterator<Item = Item> {
        let set = |(name, members)| NamedSet::set(name, "ipv4_addr", members).into();
        self.0.into_inner().into_iter().map(set)
    }
}
