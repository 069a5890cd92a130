//! What northd and ovn-controller do for the pods of one chassis: an Interface whose `iface-id` names a port that asks for this
//! chassis gets the mark `ovn-installed`, and its port is up. Without such a port an Interface has no mark.

use atoll_ovn::ovsdb::{Mutation, Row, RowCondition, RowOperation, Value};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{MemoryDatabase, Schema};

const IDS: &str = "external_ids";
const INSTALLED: &str = "ovn-installed";

/// A chassis. It works until it is dropped.
pub struct Chassis {
    /// Networks and ports.
    pub northbound: MemoryDatabase,
    /// Its Open vSwitch.
    pub switch: MemoryDatabase,
    /// Ends with it.
    _controller: JoinSet<()>,
}

impl Chassis {
    /// A chassis of this name with a bridge, beside an empty Northbound.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(name: &str, bridge: &str) -> Self {
        let northbound = MemoryDatabase::new(Schema::Northbound);
        let switch = MemoryDatabase::new(Schema::Switch);
        let row = Uuid::from_u128(0xb);
        let insert = |table, uuid, row| RowOperation::Insert { table, uuid, row };
        let own = Row::from([(IDS, Value::map([("system-id", name)])), ("bridges", Value::one(row))]);
        let made = switch.execute(&[
            insert("Open_vSwitch", Uuid::from_u128(0xa), own),
            insert("Bridge", row, Row::from([("name", Value::one(bridge))])),
        ]);
        made.expect("the schema has them");
        let mut controller = JoinSet::new();
        controller.spawn(work(northbound.clone(), switch.clone()));
        Self { northbound, switch, _controller: controller }
    }
}

async fn work(northbound: MemoryDatabase, switch: MemoryDatabase) {
    let (mut ports, mut interfaces) = (northbound.commits(), switch.commits());
    loop {
        ports.borrow_and_update();
        interfaces.borrow_and_update();
        bind(&northbound, &switch);
        // Both databases are held here: their senders live.
        tokio::select! {
            _ = ports.changed() => {}
            _ = interfaces.changed() => {}
        }
    }
}

fn bind(northbound: &MemoryDatabase, switch: &MemoryDatabase) {
    let own = switch.rows("Open_vSwitch");
    let own = own.values().find_map(|row| row.get(IDS)?.get("system-id")).unwrap_or_default();
    let ports = northbound.rows("Logical_Switch_Port");
    for (uuid, row) in switch.rows("Interface") {
        let id = |key| row.get(IDS).and_then(|ids| ids.get(key));
        let port = id("iface-id").and_then(|name| {
            ports.iter().find(|(_, port)| {
                port.get("name").and_then(Value::text) == Some(name)
                    && port.get("options").and_then(|options| options.get("requested-chassis")) == Some(own)
            })
        });
        let mark = Value::map([(INSTALLED, "true")]);
        let mutation = match (port, id(INSTALLED)) {
            (Some(_), None) => Mutation::Insert(mark),
            (None, Some(_)) => Mutation::Delete(mark),
            _ => continue,
        };
        let condition = vec![RowCondition::is(uuid)];
        let marked = RowOperation::Mutate { table: "Interface", condition, column: IDS, mutation };
        switch.execute(&[marked]).expect("the row is there");
        let Some((port, _)) = port else { continue };
        let (condition, row) = (vec![RowCondition::is(*port)], Row::from([("up", Value::one(true))]));
        let up = RowOperation::Update { table: "Logical_Switch_Port", condition, row };
        northbound.execute(&[up]).expect("the row is there");
    }
}
