//! What changes in a table: `monitor_cond_since` and its updates (`ovsdb-server(7)`, section 4.1.15).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::operation::{Row, RowCondition, read_row};
use super::value::{NotValue, Value};

/// The rows and columns of one table that a watch follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// The table.
    pub table: &'static str,
    /// Which rows.
    pub condition: Vec<RowCondition>,
    /// Which columns.
    pub columns: Vec<(&'static str, ColumnKind)>,
}

/// How an update of a column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// At most one value: an update is the new value.
    Single,
    /// A set: an update is what was added and what was removed.
    Set,
    /// A map: an update is what was added, what was removed and what has a new value.
    Map,
}

impl Monitor {
    /// The parameters of the request. `database`: its name.
    pub(super) fn request(&self, database: &str) -> Json {
        let columns: Vec<_> = self.columns().collect();
        let condition: Vec<_> = self.condition.iter().map(RowCondition::to_json).collect();
        // The last part is a transaction that the server may know: none.
        json!([database, null, {self.table: [{"columns": columns, "where": condition}]}, Uuid::nil().to_string()])
    }

    fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(column, _)| *column)
    }

    /// Reads the answer to the request: the rows as they are.
    pub(super) fn begin(&self, answer: &Json) -> Result<BTreeMap<Uuid, Row>, NotValue> {
        let updates = answer.as_array().and_then(|parts| parts.get(2)).ok_or_else(|| NotValue::of(answer))?;
        let mut rows = BTreeMap::new();
        self.apply(&mut rows, updates)?;
        Ok(rows)
    }

    /// Applies the parameters of an `update3`: monitor, transaction, updates.
    pub(super) fn update(&self, rows: &mut BTreeMap<Uuid, Row>, params: &Json) -> Result<(), NotValue> {
        let updates = params.as_array().and_then(|parts| parts.get(2)).ok_or_else(|| NotValue::of(params))?;
        self.apply(rows, updates)
    }

    fn apply(&self, rows: &mut BTreeMap<Uuid, Row>, updates: &Json) -> Result<(), NotValue> {
        let wrong = || NotValue::of(updates);
        let Some(of_table) = updates.as_object().ok_or_else(wrong)?.get(self.table) else { return Ok(()) };
        for (uuid, change) in of_table.as_object().ok_or_else(wrong)? {
            let uuid: Uuid = uuid.parse().map_err(|_| wrong())?;
            let change = change.as_object().ok_or_else(wrong)?;
            for (kind, content) in change {
                match (kind.as_str(), content) {
                    ("initial" | "insert", Json::Object(row)) => {
                        rows.insert(uuid, self.whole(row)?);
                    }
                    ("modify", Json::Object(row)) => {
                        if let Some(there) = rows.get_mut(&uuid) {
                            self.modify(there, row)?;
                        }
                    }
                    ("delete", _) => {
                        rows.remove(&uuid);
                    }
                    _ => return Err(wrong()),
                }
            }
        }
        Ok(())
    }

    /// A row that is new. The server leaves out columns that have their default: they are empty here, whatever it is.
    fn whole(&self, row: &Map<String, Json>) -> Result<Row, NotValue> {
        let (given, missing): (Vec<_>, Vec<_>) = self.columns.iter().partition(|(column, _)| row.contains_key(*column));
        let mut read = read_row(row, &given.iter().map(|(column, _)| *column).collect::<Vec<_>>())?;
        read.extend(missing.iter().map(|(column, kind)| (*column, kind.empty())));
        Ok(read)
    }

    fn modify(&self, there: &mut Row, row: &Map<String, Json>) -> Result<(), NotValue> {
        for (column, kind) in &self.columns {
            let Some(change) = row.get(*column) else { continue };
            let change = Value::from_json(change)?;
            let before = there.remove(column).unwrap_or_else(|| kind.empty());
            there.insert(*column, kind.changed(before, change)?);
        }
        Ok(())
    }
}

impl ColumnKind {
    fn empty(self) -> Value {
        match self {
            Self::Single | Self::Set => Value::none(),
            Self::Map => Value::Map(BTreeMap::new()),
        }
    }

    fn changed(self, before: Value, change: Value) -> Result<Value, NotValue> {
        match (self, before, change) {
            (Self::Single, _, change) => Ok(change),
            (Self::Set, Value::Set(before), Value::Set(change)) => {
                Ok(Value::Set(before.symmetric_difference(&change).cloned().collect()))
            }
            (Self::Map, Value::Map(mut pairs), Value::Map(change)) => {
                for (key, value) in change {
                    // The same value again: the pair is removed.
                    if pairs.get(&key) == Some(&value) {
                        pairs.remove(&key);
                    } else {
                        pairs.insert(key, value);
                    }
                }
                Ok(Value::Map(pairs))
            }
            (_, _, change) => Err(NotValue::of(&change.to_json())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_updates() {
        let monitor = Monitor {
            table: "T",
            condition: Vec::new(),
            columns: vec![("name", ColumnKind::Single), ("tags", ColumnKind::Set), ("ids", ColumnKind::Map)],
        };
        let uuid = Uuid::from_u128(1);
        let row = |name: Value, tags: &[&str], ids: &[(&str, &str)]| {
            let (tags, ids) = (Value::set(tags.iter().copied()), Value::map(ids.iter().copied()));
            Row::from([("name", name), ("tags", tags), ("ids", ids)])
        };
        let mut rows = monitor
            .begin(&json!([false, "x", {"T": {uuid.to_string(): {"initial": {"name": "a"}}}}]))
            .expect("readable");
        assert_eq!(rows.get(&uuid), Some(&row(Value::one("a"), &[], &[])));
        let mut update = |kind: &str, content: Json| {
            let params = json!([null, "y", {"T": {uuid.to_string(): {kind: content}}, "Other": 5}]);
            monitor.update(&mut rows, &params).map(|()| rows.get(&uuid).cloned())
        };
        let ids = |pairs: Json| json!({"tags": ["set", ["p", "q"]], "ids": ["map", pairs]});
        let changed = update("modify", ids(json!([["k", "1"], ["l", "2"]])));
        assert_eq!(changed, Ok(Some(row(Value::one("a"), &["p", "q"], &[("k", "1"), ("l", "2")]))));
        let changed =
            update("modify", json!({"tags": "p", "ids": ["map", [["k", "1"], ["l", "3"]]], "name": ["set", []]}));
        assert_eq!(changed, Ok(Some(row(Value::none(), &["q"], &[("l", "3")]))));
        for wrong in [json!(5), json!({"tags": ["map", []]}), json!({"ids": "x"})] {
            assert!(update("modify", wrong).is_err());
        }
        assert!(update("renamed", json!({})).is_err());
        assert_eq!(update("delete", json!(null)), Ok(None));
        assert_eq!(update("modify", json!({"name": "late"})), Ok(None));
    }
}
