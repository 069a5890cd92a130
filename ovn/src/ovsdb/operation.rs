//! Operations of a transaction, and their results (RFC 7047, section 5.2).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::value::{Atom, NotValue, Value};

/// The column that every table has: the row's identity.
pub const UUID: &str = "_uuid";

/// Columns of a row.
pub type Row = BTreeMap<&'static str, Value>;

/// A condition on a column (RFC 7047, `<condition>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCondition {
    column: &'static str,
    function: &'static str,
    value: Value,
}

impl RowCondition {
    /// The row with this identity.
    pub fn is(uuid: Uuid) -> Self {
        Self::equal(UUID, Value::one(uuid))
    }

    /// The column has exactly this value.
    pub fn equal(column: &'static str, value: Value) -> Self {
        Self { column, function: "==", value }
    }

    /// The column has another value.
    pub fn differs(column: &'static str, value: Value) -> Self {
        Self { column, function: "!=", value }
    }

    /// The column contains all of this.
    pub fn includes(column: &'static str, value: Value) -> Self {
        Self { column, function: "includes", value }
    }

    /// The column contains nothing of this.
    pub fn excludes(column: &'static str, value: Value) -> Self {
        Self { column, function: "excludes", value }
    }

    /// Whether a row meets it (RFC 7047, section 5.1, `<function>`).
    pub fn matches(&self, uuid: Uuid, row: &Row) -> bool {
        let identity = Value::one(uuid);
        let there = if self.column == UUID { Some(&identity) } else { row.get(self.column) };
        let Some(there) = there else { return false };
        match self.function {
            "==" => *there == self.value,
            "!=" => *there != self.value,
            "includes" => there.includes(&self.value),
            // Nothing of it is there.
            _ => there.excludes(&self.value),
        }
    }

    /// As OVSDB writes it.
    pub fn to_json(&self) -> Json {
        json!([self.column, self.function, self.value.to_json()])
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOperation {
    /// A new row with an identity of our choice (`ovsdb-server(7)`, section 4.1).
    Insert {
        /// The table.
        table: &'static str,
        /// The identity.
        uuid: Uuid,
        /// The columns; others get their defaults.
        row: Row,
    },
    /// Reads columns of rows.
    Select {
        /// The table.
        table: &'static str,
        /// Which rows.
        condition: Vec<RowCondition>,
        /// Which columns.
        columns: Vec<&'static str>,
    },
    /// Replaces columns of rows.
    Update {
        /// The table.
        table: &'static str,
        /// Which rows.
        condition: Vec<RowCondition>,
        /// The columns.
        row: Row,
    },
    /// Changes a column of rows.
    Mutate {
        /// The table.
        table: &'static str,
        /// Which rows.
        condition: Vec<RowCondition>,
        /// The column.
        column: &'static str,
        /// What happens to it.
        mutation: Mutation,
    },
    /// Deletes rows. Rows that are not there are no error.
    Delete {
        /// The table.
        table: &'static str,
        /// Which rows.
        condition: Vec<RowCondition>,
    },
    /// The transaction fails unless these columns of the matching rows are exactly `rows`.
    Wait {
        /// The table.
        table: &'static str,
        /// Which rows.
        condition: Vec<RowCondition>,
        /// Which columns; they are those of `rows`.
        columns: Vec<&'static str>,
        /// What they must be; none: no row must match.
        rows: Vec<Row>,
    },
}

/// The change of a set or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Adds members. A key that a map has keeps its value.
    Insert(Value),
    /// Removes members.
    Delete(Value),
}

impl RowOperation {
    /// Exactly one row has this identity, and these columns are as described. The columns are not empty.
    pub fn wait_for(table: &'static str, uuid: Uuid, row: Row) -> Self {
        let columns = row.keys().copied().collect();
        Self::Wait { table, condition: vec![RowCondition::is(uuid)], columns, rows: vec![row] }
    }

    /// The table.
    pub fn table(&self) -> &'static str {
        match self {
            Self::Insert { table, .. }
            | Self::Select { table, .. }
            | Self::Update { table, .. }
            | Self::Mutate { table, .. }
            | Self::Delete { table, .. }
            | Self::Wait { table, .. } => table,
        }
    }

    /// Whether it only reads.
    pub fn reads(&self) -> bool {
        matches!(self, Self::Select { .. } | Self::Wait { .. })
    }

    /// Whether it deletes rows, or references to them.
    pub fn deletes(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::Mutate { mutation: Mutation::Delete(_), .. })
    }

    /// As OVSDB writes it.
    pub fn to_json(&self) -> Json {
        let conditions = |list: &[RowCondition]| list.iter().map(RowCondition::to_json).collect::<Vec<_>>();
        match self {
            Self::Insert { table, uuid, row } => {
                json!({"op": "insert", "table": table, "uuid": uuid.to_string(), "row": row_json(row)})
            }
            Self::Select { table, condition, columns } => {
                json!({"op": "select", "table": table, "where": conditions(condition), "columns": columns})
            }
            Self::Update { table, condition, row } => {
                json!({"op": "update", "table": table, "where": conditions(condition), "row": row_json(row)})
            }
            Self::Mutate { table, condition, column, mutation } => {
                let (mutator, value) = match mutation {
                    Mutation::Insert(value) => ("insert", value),
                    Mutation::Delete(value) => ("delete", value),
                };
                let mutations = [json!([column, mutator, members(value)])];
                json!({"op": "mutate", "table": table, "where": conditions(condition), "mutations": mutations})
            }
            Self::Delete { table, condition } => {
                json!({"op": "delete", "table": table, "where": conditions(condition)})
            }
            Self::Wait { table, condition, columns, rows } => {
                let rows: Vec<_> = rows.iter().map(row_json).collect();
                json!({"op": "wait", "table": table, "where": conditions(condition), "columns": columns,
                       "until": "==", "rows": rows, "timeout": 0})
            }
        }
    }

    /// The result of this operation, as the server wrote it.
    pub(super) fn outcome(&self, json: &Json) -> Result<Outcome, NotValue> {
        let wrong = || NotValue::of(json);
        let object = json.as_object().ok_or_else(wrong)?;
        match self {
            Self::Insert { .. } | Self::Wait { .. } => Ok(Outcome::Done),
            Self::Update { .. } | Self::Mutate { .. } | Self::Delete { .. } => {
                object.get("count").and_then(Json::as_u64).map(Outcome::Count).ok_or_else(wrong)
            }
            Self::Select { columns, .. } => {
                let rows = object.get("rows").and_then(Json::as_array).ok_or_else(wrong)?;
                let read = |row: &Json| read_row(row.as_object().ok_or_else(wrong)?, columns);
                Ok(Outcome::Rows(rows.iter().map(read).collect::<Result<_, _>>()?))
            }
        }
    }
}

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// So many rows matched.
    Count(u64),
    /// The columns of the rows that matched.
    Rows(Vec<Row>),
}

impl Outcome {
    /// The rows of a `select`; none for any other operation.
    pub fn rows(self) -> Vec<Row> {
        match self {
            Self::Rows(rows) => rows,
            Self::Done | Self::Count(_) => Vec::new(),
        }
    }
}

/// The columns that were asked for.
pub(super) fn read_row(row: &Map<String, Json>, columns: &[&'static str]) -> Result<Row, NotValue> {
    let column = |name: &&'static str| {
        let value = row.get(*name).ok_or_else(|| NotValue::of(&json!(format!("a row without column {name}"))))?;
        Ok((*name, Value::from_json(value)?))
    };
    columns.iter().map(column).collect()
}

fn row_json(row: &Row) -> Json {
    row.iter().map(|(column, value)| ((*column).to_owned(), value.to_json())).collect::<Map<_, _>>().into()
}

/// A mutation takes a set or a map. For a set of one, the column's type decides how a bare atom is read, so it is written
/// as a set.
fn members(value: &Value) -> Json {
    match value {
        Value::Set(atoms) => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
        Value::Map(_) => value.to_json(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_written_as_the_rfc_says() {
        let uuid = Uuid::from_u128(1);
        let row = || Row::from([("name", Value::one("a"))]);
        let id = uuid.to_string();
        let is = json!([["_uuid", "==", ["uuid", id]]]);
        for (operation, written) in [
            (
                RowOperation::Insert { table: "T", uuid, row: row() },
                json!({"op": "insert", "table": "T", "uuid": id, "row": {"name": "a"}}),
            ),
            (
                RowOperation::Select { table: "T", condition: vec![RowCondition::is(uuid)], columns: vec!["name"] },
                json!({"op": "select", "table": "T", "where": is, "columns": ["name"]}),
            ),
            (
                RowOperation::Update { table: "T", condition: vec![RowCondition::is(uuid)], row: row() },
                json!({"op": "update", "table": "T", "where": is, "row": {"name": "a"}}),
            ),
            (
                RowOperation::Mutate {
                    table: "T",
                    condition: vec![RowCondition::is(uuid)],
                    column: "ports",
                    mutation: Mutation::Insert(Value::one(uuid)),
                },
                json!({"op": "mutate", "table": "T", "where": is,
                       "mutations": [["ports", "insert", ["set", [["uuid", id]]]]]}),
            ),
            (
                RowOperation::Delete { table: "T", condition: vec![RowCondition::is(uuid)] },
                json!({"op": "delete", "table": "T", "where": is}),
            ),
            (
                RowOperation::wait_for("T", uuid, row()),
                json!({"op": "wait", "table": "T", "where": is, "columns": ["name"], "until": "==",
                       "rows": [{"name": "a"}], "timeout": 0}),
            ),
        ] {
            assert_eq!(operation.to_json(), written);
        }
    }

    #[test]
    fn a_result_that_does_not_fit_its_operation_is_refused() {
        let select = RowOperation::Select { table: "T", condition: Vec::new(), columns: vec!["name"] };
        let rows = select.outcome(&json!({"rows": [{"name": "a", "more": 5.5}]})).map(Outcome::rows);
        assert_eq!(rows, Ok(vec![Row::from([("name", Value::one("a"))])]));
        for wrong in [json!(null), json!({}), json!({"rows": [{}]}), json!({"rows": [5]}), json!({"rows": 5})] {
            assert!(select.outcome(&wrong).is_err(), "{wrong}");
        }
        let delete = RowOperation::Delete { table: "T", condition: Vec::new() };
        assert_eq!(delete.outcome(&json!({"count": 2})), Ok(Outcome::Count(2)));
        for wrong in [json!({}), json!({"count": -1}), json!({"count": "1"})] {
            assert!(delete.outcome(&wrong).is_err(), "{wrong}");
        }
    }
}
