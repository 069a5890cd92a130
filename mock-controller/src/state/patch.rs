//! The difference between two states of the tables, as rows, for a follower with a copy of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::objects::{AddressGroup, Bridge, Chain, Host, Port, PortGroup, Route, Router, Rule, TunnelZone};
use super::{ObjectMap, ObjectTable, Tables};

/// Rows that changed, by table: their new value, or none when they are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    routers: Rows<Router>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bridges: Rows<Bridge>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ports: Rows<Port>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    routes: Rows<Route>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    chains: Rows<Chain>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rules: Rows<Rule>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    port_groups: Rows<PortGroup>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    address_groups: Rows<AddressGroup>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    hosts: Rows<Host>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tunnel_zones: Rows<TunnelZone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
}

type Rows<V> = BTreeMap<Uuid, Option<V>>;

impl Patch {
    /// The rows that were touched, as they are now.
    pub(crate) fn of(tables: &Tables, touched: &[(ObjectTable, Uuid)]) -> Self {
        fn take<V: Clone>(rows: &mut Rows<V>, table: &ObjectMap<V>, id: Uuid) {
            rows.insert(id, table.get(&id).cloned());
        }
        let mut patch = Self::default();
        for (table, id) in touched {
            match table {
                ObjectTable::Routers => take(&mut patch.routers, &tables.routers, *id),
                ObjectTable::Bridges => take(&mut patch.bridges, &tables.bridges, *id),
                ObjectTable::Ports => take(&mut patch.ports, &tables.ports, *id),
                ObjectTable::Routes => take(&mut patch.routes, &tables.routes, *id),
                ObjectTable::Chains => take(&mut patch.chains, &tables.chains, *id),
                ObjectTable::Rules => take(&mut patch.rules, &tables.rules, *id),
                ObjectTable::PortGroups => take(&mut patch.port_groups, &tables.port_groups, *id),
                ObjectTable::AddressGroups => take(&mut patch.address_groups, &tables.address_groups, *id),
                ObjectTable::Hosts => take(&mut patch.hosts, &tables.hosts, *id),
                ObjectTable::TunnelZones => take(&mut patch.tunnel_zones, &tables.tunnel_zones, *id),
                ObjectTable::ReadOnly => patch.read_only = Some(tables.read_only),
            }
        }
        patch
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Brings tables up to date.
    pub(crate) fn apply(self, tables: &mut Tables) {
        fn put<V: Clone>(rows: Rows<V>, table: &mut ObjectMap<V>) {
            for (id, row) in rows {
                match row {
                    Some(row) => drop(table.insert(id, row)),
                    None => drop(table.remove(&id)),
                }
            }
        }
        put(self.routers, &mut tables.routers);
        put(self.bridges, &mut tables.bridges);
        put(self.ports, &mut tables.ports);
        put(self.routes, &mut tables.routes);
        put(self.chains, &mut tables.chains);
        put(self.rules, &mut tables.rules);
        put(self.port_groups, &mut tables.port_groups);
        put(self.address_groups, &mut tables.address_groups);
        put(self.hosts, &mut tables.hosts);
        put(self.tunnel_zones, &mut tables.tunnel_zones);
        if let Some(read_only) = self.read_only {
            tables.read_only = read_only;
        }
    }
}
