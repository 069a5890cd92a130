//! Entries of bridges: which MAC is behind which port.

use atoll_model::attachment::Mac;
use atoll_node::netlink::fdb::{self, FdbEntry};

use super::netlink::Netlink;
use crate::error::PlaneError;

type Result<T> = std::result::Result<T, PlaneError>;

impl Netlink {
    /// All entries of all bridges.
    pub(crate) fn fdb(&mut self) -> Result<Vec<FdbEntry>> {
        self.read("list FDB entries", fdb::list)
    }

    /// Adds a sticky entry: `mac` is behind the port `index`.
    pub(crate) fn add_fdb_entry(&mut self, index: u32, mac: Mac) -> Result<()> {
        self.change(format!("add FDB entry {mac}"), |socket| fdb::add(socket, index, mac))
    }

    /// Deletes an entry of a port.
    pub(crate) fn delete_fdb_entry(&mut self, index: u32, mac: Mac) -> Result<()> {
        self.remove(format!("delete FDB entry {mac}"), |socket| fdb::delete(socket, index, mac))
    }

    /// Adds a local entry: `mac` is the bridge's own.
    pub(crate) fn add_own_fdb_entry(&mut self, bridge: u32, mac: Mac) -> Result<()> {
        self.change(format!("add the bridge's own FDB entry {mac}"), |socket| fdb::add_local(socket, bridge, mac))
    }

    /// Deletes an entry of the bridge itself.
    pub(crate) fn delete_own_fdb_entry(&mut self, bridge: u32, mac: Mac) -> Result<()> {
        self.remove(format!("delete the bridge's FDB entry {mac}"), |socket| fdb::delete_local(socket, bridge, mac))
    }
}
