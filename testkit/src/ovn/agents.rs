//! What northd and the chassis do with a configuration number, for databases without them: it is copied to Southbound, and each
//! chassis confirms it.

use atoll_ovn::ovsdb::{
    ColumnKind, Database, Freshness, Monitor, Row, RowCondition, RowOperation, RowWatch as _, Value,
};
use uuid::Uuid;

const NUMBER: &str = "nb_cfg";

/// Writes the rows that `ovn-nbctl init` and `ovn-sbctl init` write, and those of these chassis.
pub async fn init(northbound: &impl Database, southbound: &impl Database, chassis: &[&str]) {
    let insert = |table, row| RowOperation::Insert { table, uuid: Uuid::new_v4(), row };
    northbound.transact(vec![insert("NB_Global", Row::new())], Freshness::Any).await.expect("inserted");
    southbound.transact(vec![insert("SB_Global", Row::new())], Freshness::Any).await.expect("inserted");
    for (place, name) in chassis.iter().enumerate() {
        let (encap, name) = (Uuid::new_v4(), Value::one(*name));
        let address = Value::one(format!("192.0.2.{place}"));
        let encap_row = Row::from([("type", Value::one("geneve")), ("ip", address), ("chassis_name", name.clone())]);
        let chassis_row =
            Row::from([("name", name.clone()), ("hostname", name.clone()), ("encaps", Value::one(encap))]);
        let operations = vec![
            RowOperation::Insert { table: "Encap", uuid: encap, row: encap_row },
            insert("Chassis", chassis_row),
            insert("Chassis_Private", Row::from([("name", name)])),
        ];
        southbound.transact(operations, Freshness::Any).await.expect("inserted");
    }
}

/// Confirms every number for all chassis but `dead`, until it is dropped.
pub async fn confirm(northbound: impl Database, southbound: impl Database, dead: Vec<String>) {
    let columns = vec![(NUMBER, ColumnKind::Single)];
    let monitor = Monitor { table: "NB_Global", condition: Vec::new(), columns };
    let mut numbers = northbound.watch(monitor).await.expect("watched");
    loop {
        // None: it has its default, as in all rows.
        let number = numbers
            .rows()
            .values()
            .find_map(|row| row.get(NUMBER))
            .filter(|number| number.integer().is_some())
            .cloned();
        if let Some(number) = number {
            let row = Row::from([(NUMBER, number)]);
            let living = dead.iter().map(|name| RowCondition::differs("name", Value::one(name.as_str()))).collect();
            let operations = vec![
                RowOperation::Update { table: "SB_Global", condition: Vec::new(), row: row.clone() },
                RowOperation::Update { table: "Chassis_Private", condition: living, row },
            ];
            if southbound.transact(operations, Freshness::Any).await.is_err() {
                // The server ended with its test.
                return;
            }
        }
        if numbers.changed().await.is_err() {
            return;
        }
    }
}
