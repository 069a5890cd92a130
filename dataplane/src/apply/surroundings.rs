//! What realising one router namespace needs of others: the machine's own namespace, and where the others are pinned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use atoll_node::netlink::link::Link;
use uuid::Uuid;

use super::host::HostNamespace;
use crate::error::PlaneError;
use crate::kernel::netns::OpenNetns;

/// What realising needs beside the namespace itself.
pub(crate) struct Surroundings<'a> {
    /// Where namespaces are pinned.
    pub(crate) directory: &'a Path,
    /// The namespace of this process.
    pub(crate) node: &'a mut HostNamespace,
    /// Links to preserved namespaces: their index and that of their other end.
    pub(crate) preserved: BTreeSet<(u32, u32)>,
}

impl Surroundings<'_> {
    /// True for a link to a preserved namespace.
    pub(super) fn is_preserved(&self, link: &Link) -> bool {
        link.peer.is_some_and(|peer| self.preserved.contains(&(link.index, peer)))
    }

    pub(super) fn path(&self, namespace: Uuid) -> PathBuf {
        self.directory.join(namespace.to_string())
    }

    /// Takes an interface from the namespace of this process, if it is there and unused.
    pub(super) fn adopt(&mut self, name: &str, to: &OpenNetns) -> Result<bool, PlaneError> {
        let own = &mut self.node.netlink;
        let Some(link) = own.link(name)? else { return Ok(false) };
        let addresses = own.addresses()?;
        let why = if link.master.is_some() {
            Some("it is a port of a bridge or bond of this machine")
        } else if addresses.iter().any(|(index, _)| *index == link.index) {
            Some("it has addresses of this machine")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(PlaneError::InUse { interface: name.to_owned(), why });
        }
        own.mark_taken(&link, true)?;
        own.move_to(&link, to)?;
        Ok(true)
    }
}
