//! A database of OVSDB in memory, with the schema of the packages. It passes the same cases as `ovsdb-server`, and serves to
//! enumerate failures.
//!
//! It does what the engine relies on: transactions that happen whole or not at all, identities chosen by the client, `wait`,
//! strong references that must exist, rows without a parent that are collected, unique names, and values that a schema allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};

use atoll_model::sync::locked;
use atoll_ovn::ovsdb::{
    Atom, Database, DatabaseError, Freshness, Monitor, Mutation, Outcome, RefusalKind, RefusedOperation, Row,
    RowCondition, RowOperation, RowWatch, UUID, Value,
};
use serde_json::Value as Json;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Packages, Schema};

/// A database. Clones share it.
#[derive(Clone)]
pub struct MemoryDatabase {
    schema: Arc<Tables>,
    rows: Arc<Mutex<Rows>>,
    /// Counts the commits that changed something.
    changes: watch::Sender<u64>,
}

type Tables = BTreeMap<&'static str, Table>;

/// The schemas that were read. A sweep makes thousands of databases.
static SCHEMAS: LazyLock<Mutex<BTreeMap<&'static str, Arc<Tables>>>> = LazyLock::new(Mutex::default);

/// The tables. A transaction changes its own copy of those that it writes to, and shares the others.
type Rows = BTreeMap<&'static str, Arc<BTreeMap<Uuid, Row>>>;

/// A table of a schema.
struct Table {
    columns: BTreeMap<&'static str, Column>,
    is_root: bool,
    indexes: Vec<Vec<&'static str>>,
}

/// A column of a schema.
struct Column {
    is_map: bool,
    is_optional: bool,
    default: Option<Atom>,
    allowed: Option<BTreeSet<Atom>>,
    /// The table that its keys refer to; strongly or not.
    refers: Option<(&'static str, bool)>,
}

impl MemoryDatabase {
    /// An empty database with a schema of the packages.
    pub fn new(schema: Schema) -> Self {
        let tables = Arc::clone(locked(&SCHEMAS).entry(schema.file()).or_insert_with(|| Arc::new(tables(schema))));
        let rows = tables.keys().map(|name| (*name, Arc::default())).collect();
        Self { schema: tables, rows: Arc::new(Mutex::new(rows)), changes: watch::channel(0).0 }
    }

    /// Changes whenever a commit has changed something.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// All rows of a table.
    pub fn rows(&self, table: &str) -> BTreeMap<Uuid, Row> {
        locked(&self.rows).get(table).map(|there| BTreeMap::clone(there)).unwrap_or_default()
    }

    /// Deletes a row without the engine's knowledge, with the rows that are collected along with it. False: there is none.
    pub fn lose(&self, table: &'static str, uuid: Uuid) -> bool {
        let delete = RowOperation::Delete { table, condition: vec![RowCondition::is(uuid)] };
        let outcomes = self.execute(&[delete]);
        outcomes.is_ok_and(|outcomes| outcomes == [Outcome::Count(1)])
    }

    /// Executes a transaction.
    ///
    /// # Errors
    /// The database refuses it.
    pub fn execute(&self, operations: &[RowOperation]) -> Result<Vec<Outcome>, RefusedOperation> {
        let mut rows = locked(&self.rows);
        let mut next = rows.clone();
        let mut outcomes = Vec::new();
        for (place, operation) in operations.iter().enumerate() {
            let outcome = self.one(&mut next, operation).map_err(|(refusal, message)| RefusedOperation {
                operation: Some(place),
                table: Some(operation.table()),
                refusal,
                message: message.to_owned(),
            })?;
            outcomes.push(outcome);
        }
        if operations.iter().all(RowOperation::reads) {
            return Ok(outcomes);
        }
        self.commit(&rows, &mut next).map_err(|(refusal, message)| RefusedOperation {
            operation: None,
            table: None,
            refusal,
            message: message.to_owned(),
        })?;
        if *rows != next {
            *rows = next;
            self.changes.send_modify(|changes| *changes += 1);
        }
        Ok(outcomes)
    }

    fn one(&self, rows: &mut Rows, operation: &RowOperation) -> Result<Outcome, (RefusalKind, &'static str)> {
        let unknown = (RefusalKind::Unknown, "unknown table");
        let table = self.schema.get(operation.table()).ok_or(unknown)?;
        let there = rows.get_mut(operation.table()).ok_or(unknown)?;
        let matching = |there: &BTreeMap<Uuid, Row>, condition: &[RowCondition]| -> Vec<Uuid> {
            let matches = |(uuid, row): &(&Uuid, &Row)| condition.iter().all(|one| one.matches(**uuid, row));
            there.iter().filter(matches).map(|(uuid, _)| *uuid).collect()
        };
        let count = |matched: &[Uuid]| Outcome::Count(matched.len() as u64);
        match operation {
            RowOperation::Insert { uuid, row, .. } => {
                if there.contains_key(uuid) {
                    return Err((RefusalKind::Duplicate, "duplicate uuid"));
                }
                table.allow(row)?;
                let mut whole: Row = table.columns.iter().map(|(name, column)| (*name, column.empty())).collect();
                whole.extend(row.iter().map(|(name, value)| (*name, table.typed(name, value))));
                Arc::make_mut(there).insert(*uuid, whole);
                Ok(Outcome::Done)
            }
            RowOperation::Select { condition, columns, .. } => {
                let rows = matching(there, condition).into_iter().filter_map(|uuid| {
                    let row = there.get(&uuid)?;
                    let column = |name: &&'static str| {
                        let value = if *name == UUID { Some(Value::one(uuid)) } else { row.get(*name).cloned() };
                        Some((*name, value?))
                    };
                    columns.iter().map(column).collect()
                });
                Ok(Outcome::Rows(rows.collect()))
            }
            RowOperation::Update { condition, row, .. } => {
                table.allow(row)?;
                let matched = matching(there, condition);
                let there = Arc::make_mut(there);
                for uuid in &matched {
                    let changed = row.iter().map(|(name, value)| (*name, table.typed(name, value)));
                    there.entry(*uuid).or_default().extend(changed);
                }
                Ok(count(&matched))
            }
            RowOperation::Mutate { condition, column, mutation, .. } => {
                let matched = matching(there, condition);
                let there = Arc::make_mut(there);
                for uuid in &matched {
                    let value = there.entry(*uuid).or_default().entry(column).or_insert_with(Value::none);
                    mutate(value, mutation);
                }
                Ok(count(&matched))
            }
            RowOperation::Delete { condition, .. } => {
                let matched = matching(there, condition);
                Arc::make_mut(there).retain(|uuid, _| !matched.contains(uuid));
                Ok(count(&matched))
            }
            RowOperation::Wait { condition, columns, rows, .. } => {
                let found: Vec<Row> = matching(there, condition)
                    .into_iter()
                    .filter_map(|uuid| {
                        let mut row = there.get(&uuid)?.clone();
                        row.insert(UUID, Value::one(uuid));
                        row.retain(|name, _| columns.contains(name));
                        Some(row)
                    })
                    .collect();
                let same = found.len() == rows.len() && found.iter().all(|row| rows.contains(row));
                if same { Ok(Outcome::Done) } else { Err((RefusalKind::Unmet, "timed out")) }
            }
        }
    }

    /// References, garbage and indexes, in the order of `ovsdb-server`.
    fn commit(&self, before: &Rows, rows: &mut Rows) -> Result<(), (RefusalKind, &'static str)> {
        // Before rows without a parent are collected: what they refer to cannot go together with their parent.
        let strong = self.references(rows, true);
        for (table, uuid) in &strong {
            if !rows.get(table).is_some_and(|there| there.contains_key(uuid)) {
                return Err((RefusalKind::Reference, "referential integrity violation"));
            }
        }
        let mut referred = strong;
        loop {
            let mut collected = false;
            for (name, _) in self.schema.iter().filter(|(_, table)| !table.is_root) {
                let there = rows.entry(name).or_default();
                let is_referred = |uuid: &Uuid| referred.contains(&(*name, *uuid));
                if !there.keys().all(is_referred) {
                    Arc::make_mut(there).retain(|uuid, _| is_referred(uuid));
                    collected = true;
                }
            }
            if !collected {
                break;
            }
            referred = self.references(rows, true);
        }
        self.forget_weak(rows);
        for (name, table) in self.schema.iter() {
            let Some(there) = rows.get(name) else { continue };
            if before.get(name).is_some_and(|before| Arc::ptr_eq(before, there)) {
                continue;
            }
            for index in &table.indexes {
                let mut seen = BTreeSet::new();
                for row in there.values() {
                    let key: Vec<String> =
                        index.iter().filter_map(|column| Some(row.get(column)?.to_json().to_string())).collect();
                    if !seen.insert(key) {
                        return Err((RefusalKind::Constraint, "constraint violation"));
                    }
                }
            }
        }
        Ok(())
    }

    fn references(&self, rows: &Rows, strong: bool) -> BTreeSet<(&'static str, Uuid)> {
        let mut references = BTreeSet::new();
        for (name, table) in self.schema.iter() {
            let Some(there) = rows.get(name).filter(|there| !there.is_empty()) else { continue };
            for (column, described) in &table.columns {
                let Some((to, _)) = described.refers.filter(|(_, is_strong)| *is_strong == strong) else { continue };
                let values = there.values().filter_map(|row| row.get(column));
                references.extend(values.flat_map(Value::uuids).map(|uuid| (to, uuid)));
            }
        }
        references
    }

    /// A weak reference to a row that is gone goes with it.
    fn forget_weak(&self, rows: &mut Rows) {
        let gone: BTreeSet<_> = self
            .references(rows, false)
            .into_iter()
            .filter(|(table, uuid)| !rows.get(table).is_some_and(|there| there.contains_key(uuid)))
            .collect();
        if gone.is_empty() {
            return;
        }
        for (name, table) in self.schema.iter() {
            for (column, described) in &table.columns {
                let Some((to, false)) = described.refers else { continue };
                for row in rows.get_mut(name).into_iter().flat_map(|there| Arc::make_mut(there).values_mut()) {
                    if let Some(Value::Set(atoms)) = row.get_mut(column) {
                        atoms.retain(|atom| !matches!(atom, Atom::Uuid(uuid) if gone.contains(&(to, *uuid))));
                    }
                }
            }
        }
    }

    fn watched(&self, monitor: &Monitor) -> BTreeMap<Uuid, Row> {
        let all = locked(&self.rows).get(monitor.table).cloned().unwrap_or_default();
        let matches = |uuid: Uuid, row: &Row| monitor.condition.iter().all(|condition| condition.matches(uuid, row));
        let column = |row: &Row, name: &'static str| Some((name, row.get(name)?.clone()));
        let columns = |row: &Row| monitor.columns.iter().filter_map(|(name, _)| column(row, name)).collect();
        all.iter().filter(|(uuid, row)| matches(**uuid, row)).map(|(uuid, row)| (*uuid, columns(row))).collect()
    }
}

impl Database for MemoryDatabase {
    type Watch = MemoryRowWatch;

    async fn transact(&self, operations: Vec<RowOperation>, _: Freshness) -> Result<Vec<Outcome>, DatabaseError> {
        let outcomes = self.execute(&operations);
        outcomes.map_err(|refused| DatabaseError::Refused { endpoint: "memory".to_owned(), refused })
    }

    async fn watch(&self, monitor: Monitor) -> Result<MemoryRowWatch, DatabaseError> {
        let changes = self.changes.subscribe();
        let rows = self.watched(&monitor);
        Ok(MemoryRowWatch { database: self.clone(), monitor, rows, changes })
    }
}

/// A watch of a database in memory.
pub struct MemoryRowWatch {
    database: MemoryDatabase,
    monitor: Monitor,
    rows: BTreeMap<Uuid, Row>,
    changes: watch::Receiver<u64>,
}

impl RowWatch for MemoryRowWatch {
    fn rows(&self) -> &BTreeMap<Uuid, Row> {
        &self.rows
    }

    async fn changed(&mut self) -> Result<(), DatabaseError> {
        loop {
            self.changes.borrow_and_update();
            let now = self.database.watched(&self.monitor);
            if now != self.rows {
                self.rows = now;
                return Ok(());
            }
            // The database is held by this watch: its sender lives.
            let _ = self.changes.changed().await;
        }
    }
}

/// The tables of a schema of the packages.
fn tables(schema: Schema) -> Tables {
    let path = Packages::new().schema(schema.file());
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema: Json = serde_json::from_slice(&text).expect("a schema is JSON");
    let tables = schema["tables"].as_object().expect("a schema has tables");
    tables.iter().map(|(name, table)| (lasting(name), Table::read(table))).collect()
}

impl Table {
    fn read(table: &Json) -> Self {
        let columns = table["columns"].as_object().into_iter().flatten();
        let indexes = table["indexes"].as_array().into_iter().flatten();
        let names =
            |index: &Json| index.as_array().into_iter().flatten().filter_map(Json::as_str).map(lasting).collect();
        Self {
            columns: columns.map(|(name, column)| (lasting(name), Column::read(&column["type"]))).collect(),
            is_root: table["isRoot"].as_bool() == Some(true),
            indexes: indexes.map(names).collect(),
        }
    }

    /// The columns exist, and their values are allowed.
    fn allow(&self, row: &Row) -> Result<(), (RefusalKind, &'static str)> {
        for (name, value) in row {
            let column = self.columns.get(name).ok_or((RefusalKind::Unknown, "unknown column"))?;
            let (Some(allowed), Value::Set(atoms)) = (&column.allowed, value) else { continue };
            if !atoms.is_subset(allowed) {
                return Err((RefusalKind::Constraint, "constraint violation"));
            }
        }
        Ok(())
    }

    /// An empty set that is written for a map is the empty map.
    fn typed(&self, name: &str, value: &Value) -> Value {
        match (self.columns.get(name), value) {
            (Some(column), Value::Set(atoms)) if column.is_map && atoms.is_empty() => Value::Map(BTreeMap::new()),
            (_, value) => value.clone(),
        }
    }
}

impl Column {
    fn read(kind: &Json) -> Self {
        // `"string"`, or an object with `key`, `value`, `min`, `max` (RFC 7047, section 3.2).
        let key = kind.get("key").unwrap_or(kind);
        let base = key.get("type").unwrap_or(key).as_str().unwrap_or_default();
        let default = match base {
            "string" => Some(Atom::from("")),
            "integer" => Some(Atom::from(0)),
            "boolean" => Some(Atom::from(false)),
            "uuid" => Some(Atom::from(Uuid::nil())),
            _ => None,
        };
        let allowed = key.get("enum").map(|values| match Value::from_json(values) {
            Ok(Value::Set(atoms)) => atoms,
            _ => BTreeSet::new(),
        });
        let table = key.get("refTable").and_then(Json::as_str).map(lasting);
        Self {
            is_map: kind.get("value").is_some(),
            is_optional: kind.get("min").and_then(Json::as_u64) == Some(0),
            default,
            allowed,
            refers: table.map(|table| (table, key["refType"] != "weak")),
        }
    }

    fn empty(&self) -> Value {
        match &self.default {
            _ if self.is_map => Value::Map(BTreeMap::new()),
            Some(default) if !self.is_optional => Value::one(default.clone()),
            _ => Value::none(),
        }
    }
}

fn mutate(value: &mut Value, mutation: &Mutation) {
    match (value, mutation) {
        (Value::Set(there), Mutation::Insert(Value::Set(new))) => there.extend(new.iter().cloned()),
        (Value::Set(there), Mutation::Delete(Value::Set(gone))) => there.retain(|atom| !gone.contains(atom)),
        (Value::Map(there), Mutation::Insert(Value::Map(new))) => {
            for (key, value) in new {
                there.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        (Value::Map(there), Mutation::Delete(Value::Map(gone))) => {
            there.retain(|key, value| gone.get(key) != Some(value));
        }
        (Value::Map(there), Mutation::Delete(Value::Set(keys))) => there.retain(|key, _| !keys.contains(key)),
        // No operation of the engine has these.
        (Value::Map(_), Mutation::Insert(Value::Set(_))) | (Value::Set(_), _) => {}
    }
}

/// A name of a schema. There are some hundred, for the life of a test.
fn lasting(name: impl AsRef<str>) -> &'static str {
    Box::leak(name.as_ref().to_owned().into_boxed_str())
}
