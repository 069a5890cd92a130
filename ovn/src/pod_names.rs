//! Names of pods in DNS: keys of one row for each network, to which all its switches refer. ovn-controller answers what a pod
//! asks for, whatever server it asks. Pure.
//!
//! # Guarantees
//! - A name comes and goes in the transaction of its port, so that no name is left of a port that is gone.
//! - Changes of one key do not meet: OVSDB applies them to the row as it is, and no call reads it before.
//! - A port takes only names along that still have its addresses: another port that has taken a name since keeps it.

use std::net::IpAddr;

use atoll_model::ids::{ClusterId, Incarnation};
use atoll_network::{NetworkId, PodPort};

use crate::names::{RowRole, id, key, network_row};
use crate::ovsdb::{Mutation, Row, RowCondition, RowOperation, Value};
use crate::rows::NAMES;

/// Names with the addresses for which they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortNames {
    network: NetworkId,
    names: Vec<String>,
    /// As the row has them: with spaces between them.
    addresses: String,
}

impl PortNames {
    /// Those of a port; none: it has no names.
    pub(crate) fn of(port: &PodPort) -> Option<Self> {
        let addresses: Vec<String> = port.addresses.iter().map(IpAddr::to_string).collect();
        let names = Self { network: port.subnet.network, names: port.names.clone(), addresses: addresses.join(" ") };
        (!names.names.is_empty()).then_some(names)
    }

    /// Those of a port's row; none: it has no names.
    pub(crate) fn of_row(row: &Row) -> Option<Self> {
        let network = NetworkId {
            cluster: ClusterId(id(row, key::CLUSTER)?.parse().ok()?),
            incarnation: Incarnation(id(row, key::INCARNATION)?.parse().ok()?),
        };
        // The first word is the MAC.
        let (_, addresses) = row.get("addresses")?.text()?.split_once(' ')?;
        let names = id(row, key::NAMES)?.split(' ').map(str::to_owned).collect();
        Some(Self { network, names, addresses: addresses.to_owned() })
    }

    /// The value of a port's `external_ids`.
    pub(crate) fn text(&self) -> String {
        self.names.join(" ")
    }

    /// From now on the names stand for these addresses, whatever they stood for.
    pub(crate) fn take(&self) -> [RowOperation; 2] {
        [self.change(Mutation::Delete(Value::set(self.names.iter().map(String::as_str)))), self.restore()]
    }

    /// Names that stand for nothing stand for these addresses.
    pub(crate) fn restore(&self) -> RowOperation {
        self.change(Mutation::Insert(self.pairs()))
    }

    /// The names stand for these addresses no more.
    pub(crate) fn drop(&self) -> RowOperation {
        self.change(Mutation::Delete(self.pairs()))
    }

    fn pairs(&self) -> Value {
        Value::map(self.names.iter().map(|name| (name.as_str(), self.addresses.as_str())))
    }

    fn change(&self, mutation: Mutation) -> RowOperation {
        let condition = vec![RowCondition::is(network_row(self.network, RowRole::Names))];
        RowOperation::Mutate { table: NAMES, condition, column: "records", mutation }
    }
}
