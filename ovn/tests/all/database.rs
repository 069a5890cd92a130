//! The cases of a database, for the client over a real server and for the database in memory.

use atoll_ovn::ovsdb::{
    ColumnKind, Database, DatabaseError, Freshness, Monitor, Mutation, Outcome, RefusalKind, Row, RowCondition,
    RowOperation, RowWatch as _, Value,
};
use atoll_testkit::ovn::{MemoryDatabase, OvsdbServer, Schema};
use serde_json::json;
use uuid::Uuid;

use crate::remote::{northbound, read, rows, switch};

#[tokio::test]
async fn every_operation_does_what_it_says() {
    let server = OvsdbServer::start(Schema::Northbound);
    for endpoint in [server.unix(), server.tcp()] {
        operations(&northbound(&[endpoint])).await;
    }
    operations(&MemoryDatabase::new(Schema::Northbound)).await;
}

#[tokio::test]
async fn what_a_client_writes_another_one_reads() {
    let server = OvsdbServer::start(Schema::Northbound);
    let uuid = Uuid::new_v4();
    northbound(&[server.unix()]).transact(vec![switch(uuid, "one")], Freshness::Any).await.expect("inserted");
    let seen = server.transact(&json!([{"op": "select", "table": "Logical_Switch",
        "where": [["_uuid", "==", ["uuid", uuid.to_string()]]], "columns": ["name"]}]));
    assert_eq!(seen, json!([{"rows": [{"name": "one"}]}]));
}

#[tokio::test]
async fn every_refusal_has_its_class_and_its_table() {
    let server = OvsdbServer::start(Schema::Northbound);
    refusals(&northbound(&[server.unix()])).await;
    refusals(&MemoryDatabase::new(Schema::Northbound)).await;
}

#[tokio::test]
async fn a_watch_follows_a_row_until_it_goes() {
    let server = OvsdbServer::start(Schema::Northbound);
    watching(&northbound(&[server.unix()])).await;
    watching(&MemoryDatabase::new(Schema::Northbound)).await;
}

#[tokio::test]
async fn a_row_without_a_parent_is_collected_and_a_parent_that_is_absent_is_no_error() {
    let server = OvsdbServer::start(Schema::Northbound);
    orphans(&northbound(&[server.unix()])).await;
    orphans(&MemoryDatabase::new(Schema::Northbound)).await;
}

/// What the engine guards against.
async fn orphans(database: &impl Database) {
    let (absent, port) = (Uuid::new_v4(), Uuid::new_v4());
    let insert = RowOperation::Insert {
        table: "Logical_Switch_Port",
        uuid: port,
        row: Row::from([("name", Value::one("orphan"))]),
    };
    let refer = RowOperation::Mutate {
        table: "Logical_Switch",
        condition: vec![RowCondition::is(absent)],
        column: "ports",
        mutation: Mutation::Insert(Value::one(port)),
    };
    let done = database.transact(vec![insert, refer], Freshness::Any).await;
    assert_eq!(done, Ok(vec![Outcome::Done, Outcome::Count(0)]));
    let select = RowOperation::Select { table: "Logical_Switch_Port", condition: Vec::new(), columns: vec!["name"] };
    assert_eq!(rows(database, select, Freshness::Any).await, Ok(Vec::new()));
}

async fn operations(database: &impl Database) {
    let (uuid, port) = (Uuid::new_v4(), Uuid::new_v4());
    let transact = async |operations| database.transact(operations, Freshness::Any).await;
    assert_eq!(transact(vec![switch(uuid, "one")]).await, Ok(vec![Outcome::Done]));
    let lsp = Row::from([("name", Value::one(port.to_string())), ("addresses", Value::set(["a", "b"]))]);
    let done = transact(vec![
        RowOperation::wait_for("Logical_Switch", uuid, Row::from([("name", Value::one("one"))])),
        RowOperation::Insert { table: "Logical_Switch_Port", uuid: port, row: lsp },
        RowOperation::Mutate {
            table: "Logical_Switch",
            condition: vec![RowCondition::is(uuid)],
            column: "ports",
            mutation: Mutation::Insert(Value::one(port)),
        },
    ]);
    assert_eq!(done.await, Ok(vec![Outcome::Done, Outcome::Done, Outcome::Count(1)]));
    let there = Row::from([("name", Value::one("one")), ("ports", Value::one(port))]);
    assert_eq!(rows(database, read(uuid), Freshness::Current).await, Ok(vec![there]));
    let is = vec![RowCondition::is(uuid)];
    let renamed = Row::from([("name", Value::one("two"))]);
    let update = RowOperation::Update { table: "Logical_Switch", condition: is.clone(), row: renamed };
    assert_eq!(transact(vec![update]).await, Ok(vec![Outcome::Count(1)]));
    let delete = || RowOperation::Delete { table: "Logical_Switch", condition: is.clone() };
    assert_eq!(transact(vec![delete()]).await, Ok(vec![Outcome::Count(1)]));
    assert_eq!(transact(vec![delete()]).await, Ok(vec![Outcome::Count(0)]), "again");
    assert_eq!(rows(database, read(uuid), Freshness::Current).await, Ok(vec![]));
}

async fn refusals(database: &impl Database) {
    let (uuid, absent) = (Uuid::new_v4(), Uuid::new_v4());
    database.transact(vec![switch(uuid, "one")], Freshness::Any).await.expect("inserted");
    let group = |uuid| RowOperation::Insert {
        table: "HA_Chassis_Group",
        uuid,
        row: Row::from([("name", Value::one("group"))]),
    };
    let wait = |table, uuid, name| RowOperation::wait_for(table, uuid, Row::from([("name", Value::one(name))]));
    let insert =
        |table, column, value| RowOperation::Insert { table, uuid: Uuid::new_v4(), row: Row::from([(column, value)]) };
    for (operations, refusal, table) in [
        (vec![switch(uuid, "again")], RefusalKind::Duplicate, Some("Logical_Switch")),
        (vec![wait("Logical_Switch", uuid, "two")], RefusalKind::Unmet, Some("Logical_Switch")),
        (vec![wait("Logical_Switch", absent, "one")], RefusalKind::Unmet, Some("Logical_Switch")),
        (vec![group(Uuid::new_v4()), group(Uuid::new_v4())], RefusalKind::Constraint, None),
        (vec![insert("Logical_Switch", "ports", Value::one(absent))], RefusalKind::Reference, None),
        (vec![insert("NAT", "type", Value::one("none"))], RefusalKind::Constraint, Some("NAT")),
        (vec![insert("Logical_Switch", "colour", Value::one("red"))], RefusalKind::Unknown, Some("Logical_Switch")),
    ] {
        let shown = format!("{operations:?}");
        let error = database.transact(operations, Freshness::Any).await.expect_err("refused");
        let DatabaseError::Refused { refused, .. } = &error else { panic!("{shown}: {error:?}") };
        assert_eq!((refused.refusal, refused.table), (refusal, table), "{error}");
    }
    let there = rows(database, read(uuid), Freshness::Any).await.expect("readable");
    assert_eq!(there.len(), 1, "a refusal does not cost the connection");
}

async fn watching(database: &impl Database) {
    let (uuid, other) = (Uuid::new_v4(), Uuid::new_v4());
    let watched = |uuid| Monitor {
        table: "Logical_Switch",
        condition: vec![RowCondition::is(uuid)],
        columns: vec![("name", ColumnKind::Single), ("external_ids", ColumnKind::Map)],
    };
    let mut watch = database.watch(watched(uuid)).await.expect("watched");
    assert!(watch.rows().is_empty());
    let ids = |pairs: &[(&str, &str)]| Value::map(pairs.iter().copied());
    let set = |uuid, pairs: &[(&str, &str)]| RowOperation::Update {
        table: "Logical_Switch",
        condition: vec![RowCondition::is(uuid)],
        row: Row::from([("external_ids", ids(pairs))]),
    };
    database.transact(vec![switch(other, "other"), switch(uuid, "one")], Freshness::Any).await.expect("inserted");
    watch.changed().await.expect("a change");
    let row = |pairs: &[(&str, &str)]| Row::from([("name", Value::one("one")), ("external_ids", ids(pairs))]);
    assert_eq!(watch.rows().get(&uuid), Some(&row(&[])));
    assert_eq!(watch.rows().len(), 1, "the other one is not watched");
    for pairs in [&[("a", "1"), ("b", "2")][..], &[("b", "3")], &[]] {
        database.transact(vec![set(other, pairs), set(uuid, pairs)], Freshness::Any).await.expect("updated");
        watch.changed().await.expect("a change");
        assert_eq!(watch.rows().get(&uuid), Some(&row(pairs)));
    }
    let late = database.watch(watched(uuid)).await.expect("watched");
    assert_eq!(late.rows().get(&uuid), Some(&row(&[])), "it begins with what is there");
    let delete = RowOperation::Delete { table: "Logical_Switch", condition: vec![RowCondition::is(uuid)] };
    database.transact(vec![delete], Freshness::Any).await.expect("deleted");
    watch.changed().await.expect("a change");
    assert!(watch.rows().is_empty());
}
