//! Networks: ensure, compare, delete, withdraw.
//!
//! # Guarantees
//! - A network is made by one transaction, so that no other process sees a part of it.
//! - **An older record never replaces a newer one.** The router's row has the revision of the record; each change compares
//!   the row as it was read, and a writer whose record is older changes nothing.
//! - **What was deleted stays deleted**, however late a server executes a request: one that makes a router compares the
//!   cluster's row, and each deletion of a network changes that row.
//! - Rows of other owners are neither changed nor deleted.

use atoll_model::ids::ClusterId;
use atoll_network::{Applied, Drift, DriftKind, EngineError, EngineFailure, Network, NetworkRoute};
use uuid::Uuid;

use crate::compare::{Look, Seen, difference, drift, drop_children, exists, mend};
use crate::engine::{Ovn, Rounds};
use crate::error::{NORTHBOUND, engine_error};
use crate::names::{EXTERNAL_IDS, RowRole, cluster_owner, cluster_row, key, network_row, owner, with};
use crate::ovsdb::{Database, Outcome, Row, RowCondition, RowOperation, Value};
use crate::rows::{MARK, Parent, ProviderRows, ROUTER, ROUTER_PORT, SWITCH, WantedRow, network_rows, route_rows};

impl<D: Database> Ovn<D> {
    pub(crate) async fn make_network(&self, network: &Network) -> Result<Applied, EngineError> {
        let what = format!("ensure the network of tenant {}", network.tenant);
        let mut rounds = Rounds::of(&what);
        loop {
            rounds.begin()?;
            let provider = self.provider_rows(network).await?;
            let mut wanted = network_rows(network, provider);
            let removed: Vec<_> = network.removed_routes.iter().flat_map(|route| route_rows(network, route)).collect();
            let seen = self.see(&what, network, &[&wanted[..], &removed].concat()).await?;
            if seen.row(ROUTER, network.provider).is_none() {
                let message = format!("the provider router {} does not exist", network.provider);
                let remedy = "check `cluster.providerRouter`, or run `atollctl init`";
                return Err(engine_error(NORTHBOUND, what, EngineFailure::Absent, message, remedy));
            }
            refuse_foreign(&what, &wanted, &seen)?;
            let before = drift(&wanted, &seen);
            let mut applied = applied(&wanted, &before, rounds.begun);
            if revision(network, &seen).is_some_and(|there| there > network.revision) {
                // A newer record was applied, whole.
                return Ok(Applied { kept: wanted.len(), ..Applied::default() });
            }
            with_revision(&mut wanted, network);
            let mut operations = mend(&wanted, &seen);
            let gone: Vec<_> =
                removed.iter().filter(|row| difference(row, &seen) != Some(DriftKind::Missing)).collect();
            applied.deleted = gone.len();
            operations.extend(gone.iter().filter_map(|row| Some(drop_children(row.parent?, vec![row.uuid]))));
            if operations.is_empty() {
                return Ok(applied);
            }
            operations.splice(0..0, guards(network, &seen));
            if self.change(&what, operations).await?.is_some() {
                return Ok(applied);
            }
        }
    }

    pub(crate) async fn compare_network(&self, network: &Network) -> Result<Vec<Drift>, EngineError> {
        let what = format!("compare the network of tenant {}", network.tenant);
        let wanted = network_rows(network, self.provider_rows(network).await?);
        Ok(drift(&wanted, &self.see(&what, network, &wanted).await?))
    }

    pub(crate) async fn remove_network(&self, network: &Network) -> Result<Applied, EngineError> {
        let what = format!("delete the network of tenant {}", network.tenant);
        let id = network.id;
        let mut rounds = Rounds::of(&what);
        loop {
            rounds.begin()?;
            let seen = self.see(&what, network, &[]).await?;
            // Everything of this incarnation, whatever record it was made from.
            let ours = |table| {
                let ids = Value::map([
                    (key::CLUSTER, id.cluster.to_string()),
                    (key::INCARNATION, id.incarnation.to_string()),
                ]);
                RowOperation::Delete { table, condition: vec![RowCondition::includes(EXTERNAL_IDS, ids)] }
            };
            let far = Parent { table: ROUTER, uuid: network.provider, column: "ports" };
            let mut operations = count_removal(id.cluster, &seen);
            operations.extend([
                ours(ROUTER),
                ours(SWITCH),
                drop_children(far, vec![network_row(id, RowRole::ProviderPort)]),
            ]);
            let place = operations.len() - 3;
            if let Some(outcomes) = self.change(&what, operations).await? {
                let deleted = outcomes.iter().skip(place).take(2).map(count).sum();
                return Ok(Applied { deleted, rounds: rounds.begun, ..Applied::default() });
            }
        }
    }

    /// Deletes rows of a network that has others. A writer whose record is older than the router's changes nothing.
    pub(crate) async fn remove_rows(
        &self,
        what: &str,
        network: &Network,
        rows: &[WantedRow],
    ) -> Result<Applied, EngineError> {
        let mut rounds = Rounds::of(what);
        loop {
            rounds.begin()?;
            let seen = self.see(what, network, rows).await?;
            if revision(network, &seen).is_none_or(|there| there > network.revision) {
                return Ok(Applied { rounds: rounds.begun, ..Applied::default() });
            }
            let gone: Vec<_> = rows
                .iter()
                .filter(|row| {
                    let difference = difference(row, &seen);
                    !matches!(difference, Some(DriftKind::Missing | DriftKind::Foreign(_)))
                })
                .collect();
            let applied = Applied { deleted: gone.len(), rounds: rounds.begun, ..Applied::default() };
            let mut operations = guards(network, &seen);
            operations.extend(gone.iter().map(|row| match row.parent {
                Some(parent) => drop_children(parent, vec![row.uuid]),
                None => RowOperation::Delete { table: row.table, condition: vec![RowCondition::is(row.uuid)] },
            }));
            // Even if nothing is left to delete: a late request that would make it again must lose.
            operations.push(RowOperation::Update {
                table: ROUTER,
                condition: vec![RowCondition::is(network.id.router())],
                row: Row::from([(EXTERNAL_IDS, revised(network, &seen))]),
            });
            if self.change(what, operations).await?.is_some() {
                return Ok(applied);
            }
        }
    }

    /// Reads these rows, the router, the provider router and the cluster's row.
    async fn see(&self, what: &str, network: &Network, rows: &[WantedRow]) -> Result<Seen, EngineError> {
        let looks = Look::all(
            rows,
            &[
                (MARK, cluster_row(network.id.cluster, RowRole::Cluster), EXTERNAL_IDS),
                (ROUTER, network.id.router(), EXTERNAL_IDS),
                (ROUTER, network.provider, "name"),
            ],
        );
        let outcomes = self.read(what, Seen::operations(&looks)).await?;
        Ok(Seen::read(&looks, outcomes))
    }

    /// What a network needs of the provider router. Its own one has a group with a derived id.
    async fn provider_rows(&self, network: &Network) -> Result<ProviderRows, EngineError> {
        let cluster = network.id.cluster;
        if network.provider == cluster_row(cluster, RowRole::ProviderRouter) {
            return Ok(ProviderRows { chassis_group: Some(cluster_row(cluster, RowRole::ChassisGroup)) });
        }
        let what = format!("find the uplink of provider router {}", network.provider);
        let not_ours = RowCondition::excludes(EXTERNAL_IDS, cluster_owner(cluster, RowRole::UplinkPort));
        let outcomes = self
            .read(
                &what,
                vec![
                    RowOperation::Select {
                        table: ROUTER,
                        condition: vec![RowCondition::is(network.provider)],
                        columns: vec!["ports"],
                    },
                    RowOperation::Select {
                        table: ROUTER_PORT,
                        condition: vec![RowCondition::differs("ha_chassis_group", Value::none()), not_ours],
                        columns: vec!["_uuid", "ha_chassis_group"],
                    },
                ],
            )
            .await?;
        let mut outcomes = outcomes.into_iter().map(Outcome::rows);
        let (router, ports) = (outcomes.next().unwrap_or_default(), outcomes.next().unwrap_or_default());
        let own: Vec<Uuid> = router.iter().filter_map(|row| row.get("ports")).flat_map(Value::uuids).collect();
        let group = ports.iter().find_map(|row| {
            let uuid = row.get("_uuid")?.uuids().next()?;
            own.contains(&uuid).then(|| row.get("ha_chassis_group")?.uuids().next())?
        });
        Ok(ProviderRows { chassis_group: group })
    }

    pub(crate) async fn remove_routes(
        &self,
        network: &Network,
        routes: &[NetworkRoute],
    ) -> Result<Applied, EngineError> {
        let rows: Vec<_> = routes.iter().flat_map(|route| route_rows(network, route)).collect();
        if rows.is_empty() {
            return Ok(Applied::default());
        }
        self.remove_rows(&format!("delete routes of tenant {}", network.tenant), network, &rows).await
    }

    pub(crate) async fn withdraw(&self, stale: &Network, current: Option<&Network>) -> Result<Applied, EngineError> {
        let Some(current) = current else { return self.remove_network(stale).await };
        let kept: Vec<Uuid> =
            network_rows(current, ProviderRows { chassis_group: None }).iter().map(|row| row.uuid).collect();
        let mut rows = network_rows(stale, ProviderRows { chassis_group: None });
        rows.retain(|row| !kept.contains(&row.uuid));
        if rows.is_empty() {
            return Ok(Applied::default());
        }
        let what = format!("withdraw what an older record of tenant {} had", stale.tenant);
        self.remove_rows(&what, current, &rows).await
    }
}

/// The revision of the record that was applied last; none: there is no router of ours.
fn revision(network: &Network, seen: &Seen) -> Option<i64> {
    let ids = seen.ids(ROUTER, network.id.router())?;
    Some(ids.get(key::REVISION).and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn with_revision(wanted: &mut [WantedRow], network: &Network) {
    for row in wanted.iter_mut().filter(|row| row.role == RowRole::Router) {
        if let Some(ids) = row.row.get_mut(EXTERNAL_IDS) {
            *ids = with(ids.clone(), key::REVISION, network.revision.to_string());
        }
    }
}

/// The router's `external_ids` with the revision of this record.
fn revised(network: &Network, seen: &Seen) -> Value {
    let there = seen.ids(ROUTER, network.id.router()).cloned();
    let there = there.unwrap_or_else(|| owner(network.id, RowRole::Router));
    with(there, key::REVISION, network.revision.to_string())
}

/// What a change of a network relies on: the router as it was read; if there is none, that no network was deleted since.
fn guards(network: &Network, seen: &Seen) -> Vec<RowOperation> {
    let (router, cluster) = (network.id.router(), network.id.cluster);
    if let Some(ids) = seen.ids(ROUTER, router) {
        return vec![RowOperation::wait_for(ROUTER, router, Row::from([(EXTERNAL_IDS, ids.clone())]))];
    }
    let mark = cluster_row(cluster, RowRole::Cluster);
    let provider = exists(ROUTER, network.provider);
    match seen.ids(MARK, mark) {
        Some(ids) => vec![RowOperation::wait_for(MARK, mark, Row::from([(EXTERNAL_IDS, ids.clone())])), provider],
        None => vec![insert_mark(cluster, 0), provider],
    }
}

/// Counts the removal of a network.
fn count_removal(cluster: ClusterId, seen: &Seen) -> Vec<RowOperation> {
    let mark = cluster_row(cluster, RowRole::Cluster);
    let Some(ids) = seen.ids(MARK, mark) else { return vec![insert_mark(cluster, 1)] };
    let removals: u64 = ids.get(key::REMOVALS).and_then(|text| text.parse().ok()).unwrap_or(0);
    let next = with(ids.clone(), key::REMOVALS, (removals + 1).to_string());
    vec![
        RowOperation::wait_for(MARK, mark, Row::from([(EXTERNAL_IDS, ids.clone())])),
        RowOperation::Update {
            table: MARK,
            condition: vec![RowCondition::is(mark)],
            row: Row::from([(EXTERNAL_IDS, next)]),
        },
    ]
}

fn insert_mark(cluster: ClusterId, removals: u64) -> RowOperation {
    let ids = with(cluster_owner(cluster, RowRole::Cluster), key::REMOVALS, removals.to_string());
    let uuid = cluster_row(cluster, RowRole::Cluster);
    RowOperation::Insert { table: MARK, uuid, row: Row::from([(EXTERNAL_IDS, ids)]) }
}

pub(crate) fn refuse_foreign(what: &str, wanted: &[WantedRow], seen: &Seen) -> Result<(), EngineError> {
    for row in wanted {
        if let Some(DriftKind::Foreign(sentences)) = difference(row, seen) {
            let message = format!("{} {} ({}): {}", row.table, row.uuid, row.role, sentences.join("; "));
            let remedy = "find its owner; Atoll changes no row of another owner";
            return Err(engine_error(NORTHBOUND, what, EngineFailure::Conflict, message, remedy));
        }
    }
    Ok(())
}

pub(crate) fn applied(wanted: &[WantedRow], before: &[Drift], rounds: usize) -> Applied {
    let created = before.iter().filter(|drift| drift.difference == DriftKind::Missing).count();
    let updated = before.len() - created;
    Applied { created, updated, kept: wanted.len() - before.len(), deleted: 0, rounds }
}

fn count(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        Outcome::Done | Outcome::Rows(_) => 0,
    }
}
