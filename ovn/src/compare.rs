//! Rows as they are beside rows as they should be, and the operations that make one the other. Pure.

use std::collections::{BTreeMap, BTreeSet};

use atoll_network::{Drift, DriftKind};
use uuid::Uuid;

use crate::names::{EXTERNAL_IDS, key};
use crate::ovsdb::{Mutation, Outcome, Row, RowCondition, RowOperation, UUID, Value};
use crate::rows::{Parent, WantedRow};

/// Rows that were read, by table and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeMap<(&'static str, Uuid), Row>);

/// What is read of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    table: &'static str,
    uuid: Uuid,
    columns: Vec<&'static str>,
}

impl Look {
    /// All that is compared of these rows, their places in their parents, and these columns of other rows.
    pub(crate) fn all(wanted: &[WantedRow], more: &[(&'static str, Uuid, &'static str)]) -> Vec<Self> {
        let mut looks: BTreeMap<(&'static str, Uuid), BTreeSet<&'static str>> = BTreeMap::new();
        for row in wanted {
            looks.entry((row.table, row.uuid)).or_default().extend(row.row.keys());
            if let Some(parent) = row.parent {
                looks.entry((parent.table, parent.uuid)).or_default().insert(parent.column);
            }
        }
        for (table, uuid, column) in more {
            looks.entry((table, *uuid)).or_default().insert(column);
        }
        let looks = looks.into_iter();
        looks.map(|((table, uuid), columns)| Self { table, uuid, columns: columns.into_iter().collect() }).collect()
    }

    fn operation(&self) -> RowOperation {
        let Self { table, uuid, columns } = self;
        RowOperation::Select { table, condition: vec![RowCondition::is(*uuid)], columns: columns.clone() }
    }
}

impl Seen {
    /// The operations that read.
    pub(crate) fn operations(looks: &[Look]) -> Vec<RowOperation> {
        looks.iter().map(Look::operation).collect()
    }

    /// What they read.
    pub(crate) fn read(looks: &[Look], outcomes: Vec<Outcome>) -> Self {
        let rows = looks.iter().zip(outcomes);
        let found =
            rows.filter_map(|(look, outcome)| Some(((look.table, look.uuid), outcome.rows().into_iter().next()?)));
        Self(found.collect())
    }

    /// A row.
    pub(crate) fn row(&self, table: &'static str, uuid: Uuid) -> Option<&Row> {
        self.0.get(&(table, uuid))
    }

    /// `external_ids` of a row.
    pub(crate) fn ids(&self, table: &'static str, uuid: Uuid) -> Option<&Value> {
        self.row(table, uuid)?.get(EXTERNAL_IDS)
    }

    fn has_child(&self, parent: Parent, child: Uuid) -> bool {
        let column = self.row(parent.table, parent.uuid).and_then(|row| row.get(parent.column));
        column.is_some_and(|children| children.uuids().any(|uuid| uuid == child))
    }
}

/// How a row differs; none: it is as it should be.
pub(crate) fn difference(wanted: &WantedRow, seen: &Seen) -> Option<DriftKind> {
    let Some(row) = seen.row(wanted.table, wanted.uuid) else { return Some(DriftKind::Missing) };
    if !is_ours(wanted, row) {
        let found = row.get(EXTERNAL_IDS).map(shown).unwrap_or_default();
        return Some(DriftKind::Foreign(vec![format!("its external_ids are {found}, and not those of Atoll")]));
    }
    let mut sentences: Vec<_> = columns_that_differ(wanted, row)
        .map(|(column, value)| {
            let found = row.get(column).map(shown).unwrap_or_default();
            format!("{column} is {found}, not {}", shown(value))
        })
        .collect();
    if let Some(parent) = wanted.parent.filter(|parent| !seen.has_child(*parent, wanted.uuid)) {
        sentences.push(format!("it is not in {} of {} {}", parent.column, parent.table, parent.uuid));
    }
    (!sentences.is_empty()).then_some(DriftKind::Differs(sentences))
}

/// The drift of a network.
pub(crate) fn drift(wanted: &[WantedRow], seen: &Seen) -> Vec<Drift> {
    let drift = |row: &WantedRow| {
        let difference = difference(row, seen)?;
        Some(Drift { kind: row.table.to_owned(), id: row.uuid, role: row.role.to_string(), difference })
    };
    wanted.iter().filter_map(drift).collect()
}

/// Inserts, updates and references that make the rows as they should be, behind a guard for each parent that they rely on.
/// Rows of other owners are left out.
pub(crate) fn mend(wanted: &[WantedRow], seen: &Seen) -> Vec<RowOperation> {
    let (mut guards, mut operations): (Vec<RowOperation>, Vec<RowOperation>) = (Vec::new(), Vec::new());
    for row in wanted {
        match difference(row, seen) {
            None | Some(DriftKind::Foreign(_)) => continue,
            Some(DriftKind::Missing) => {
                operations.push(RowOperation::Insert { table: row.table, uuid: row.uuid, row: row.row.clone() });
            }
            Some(DriftKind::Differs(_)) => {
                if let Some(update) = update(row, seen) {
                    operations.push(update);
                }
            }
        }
        let Some(parent) = row.parent.filter(|parent| !seen.has_child(*parent, row.uuid)) else { continue };
        // OVN collects a child without a parent silently, so the parent must be there: seen, or made right here.
        let guard = exists(parent.table, parent.uuid);
        if seen.row(parent.table, parent.uuid).is_some() && !guards.contains(&guard) {
            guards.push(guard);
        }
        operations.push(refer(parent, row.uuid));
    }
    guards.extend(operations);
    guards
}

fn update(wanted: &WantedRow, seen: &Seen) -> Option<RowOperation> {
    let row = seen.row(wanted.table, wanted.uuid)?;
    let merged = |column: &'static str, value: &Value| match (wanted.shared.contains(&column), row.get(column), value) {
        (true, Some(Value::Map(there)), Value::Map(ours)) => {
            let mut merged = there.clone();
            merged.extend(ours.clone());
            Value::Map(merged)
        }
        (true, Some(Value::Set(there)), Value::Set(ours)) => Value::Set(there | ours),
        _ => value.clone(),
    };
    let changed: Row =
        columns_that_differ(wanted, row).map(|(column, value)| (column, merged(column, value))).collect();
    let condition = vec![RowCondition::is(wanted.uuid)];
    (!changed.is_empty()).then_some(RowOperation::Update { table: wanted.table, condition, row: changed })
}

/// The wanted columns that a row has not as they should be.
pub(crate) fn columns_that_differ<'a>(
    wanted: &'a WantedRow,
    row: &'a Row,
) -> impl Iterator<Item = (&'static str, &'a Value)> {
    wanted.row.iter().map(|(column, value)| (*column, value)).filter(|(column, value)| match row.get(column) {
        Some(there) if wanted.shared.contains(column) => !there.includes(value),
        there => there != Some(*value),
    })
}

/// The parts of `external_ids` that identify the owner.
fn is_ours(wanted: &WantedRow, row: &Row) -> bool {
    let (Some(ours), Some(there)) = (wanted.row.get(EXTERNAL_IDS), row.get(EXTERNAL_IDS)) else { return false };
    [key::CLUSTER, key::INCARNATION, key::ROLE].iter().all(|key| there.get(key) == ours.get(key))
}

/// The row exists.
pub(crate) fn exists(table: &'static str, uuid: Uuid) -> RowOperation {
    RowOperation::wait_for(table, uuid, Row::from([(UUID, Value::one(uuid))]))
}

/// The row exists, and its `external_ids` contain these.
pub(crate) fn exists_with(table: &'static str, uuid: Uuid, ids: Value) -> RowOperation {
    RowOperation::Wait {
        table,
        condition: vec![RowCondition::is(uuid), RowCondition::includes(EXTERNAL_IDS, ids)],
        columns: vec![UUID],
        rows: vec![Row::from([(UUID, Value::one(uuid))])],
    }
}

/// A parent refers to a child.
pub(crate) fn refer(parent: Parent, child: Uuid) -> RowOperation {
    let Parent { table, uuid, column } = parent;
    let mutation = Mutation::Insert(Value::one(child));
    RowOperation::Mutate { table, condition: vec![RowCondition::is(uuid)], column, mutation }
}

/// A parent refers to these children no more: they are deleted with it.
pub(crate) fn drop_children(parent: Parent, children: Vec<Uuid>) -> RowOperation {
    let Parent { table, uuid, column } = parent;
    let mutation = Mutation::Delete(Value::set(children));
    RowOperation::Mutate { table, condition: vec![RowCondition::is(uuid)], column, mutation }
}

pub(crate) fn shown(value: &Value) -> String {
    value.to_json().to_string()
}
