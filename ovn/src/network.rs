//! Networks: ensure, compare, delete, withdraw.
//!
//! # Guarantees
//! - A network is made by one transaction, so that no other process sees a part of it.
//! - **An older record never replaces a newer one.** The router's row has the revision of the record; each change compares
//!   the row as it was read, and a writer whose record is older changes nothing.
//! - **What was deleted stays deleted**, however late a server executes a request: one that makes a router compares the
//!   cluster's row, and each deletion of a network changes that row. It leaves a row with its revision too, so that a process
//!   that has read an older record does not begin to make the network again.
//! - Rows of other owners are neither changed nor deleted.

use atoll_model::clock::now;
use atoll_model::ids::ClusterId;
use atoll_network::{Applied, Drift, DriftKind, EngineError, EngineFailure, Network, NetworkRoute};
use uuid::Uuid;

use crate::compare::{Look, Seen, difference, drift, drop_children, exists, mend, shown};
use crate::engine::{Ovn, Rounds};
use crate::error::{NORTHBOUND, engine_error};
use crate::names::{EXTERNAL_IDS, RowRole, cluster_owner, cluster_row, id, key, network_row, owner, with};
use crate::next_hops::recorded;
use crate::ovsdb::{Database, Outcome, Row, RowCondition, RowOperation, UUID, Value};
use crate::ports::{StalePort, SwitchPods};
use crate::rows::{
    MARK, NAMES, Parent, ProviderRows, ROUTER, ROUTER_PORT, SWITCH, SWITCH_PORT, WantedRow, names_row, network_rows,
    route_rows, switch_rows,
};

impl<D: Database> Ovn<D> {
    pub(crate) async fn make_network(&self, network: &Network) -> Result<Applied, EngineError> {
        let what = format!("ensure the network of tenant {}", network.tenant);
        let mut rounds = Rounds::of(&what);
        loop {
            rounds.begin()?;
            let rows = self.rows(network).await?;
            let seen = self.see(&what, &[(network, &rows.all())]).await?;
            let pods = self.pods_behind_routes(&what, network, &seen).await?;
            let (applied, operations) = match decide(&what, network, rows, &seen, &pods, rounds.begun)? {
                Decision::Done(applied) => return Ok(applied),
                Decision::Change { applied, guards, operations } => (applied, [guards, operations].concat()),
            };
            if self.change(&what, operations).await?.is_some() {
                return Ok(applied);
            }
        }
    }

    /// Makes several networks, so that northd computes once for all of them.
    pub(crate) async fn make_networks(&self, networks: &[Network]) -> Vec<Result<Applied, EngineError>> {
        let mut applied = Vec::with_capacity(networks.len());
        for some in networks.chunks(TOGETHER) {
            applied.extend(self.make_together(some).await);
        }
        applied
    }

    async fn make_together(&self, networks: &[Network]) -> Vec<Result<Applied, EngineError>> {
        let what = format!("ensure the networks of {} tenants", networks.len());
        let mut results: Vec<Option<Result<Applied, EngineError>>> = networks.iter().map(|_| None).collect();
        let mut rounds = Rounds::of(&what);
        let failed = loop {
            if let Err(error) = rounds.begin() {
                break error;
            }
            match self.round(&what, networks, &mut results, rounds.begun).await {
                Ok(true) => return results.into_iter().flatten().collect(),
                Ok(false) => {}
                Err(error) => break error,
            }
        };
        // Of a refusal nothing was done, and it may be one network's: each by itself finds out whose.
        let is_refused =
            matches!(failed.failure, EngineFailure::Conflict | EngineFailure::Invalid | EngineFailure::Absent);
        let mut all = Vec::with_capacity(networks.len());
        for (network, result) in networks.iter().zip(results) {
            all.push(match result {
                Some(result) => result,
                None if is_refused => self.make_network(network).await,
                None => Err(failed.clone()),
            });
        }
        all
    }

    /// One attempt at the networks without a result. True: each has one.
    async fn round(
        &self,
        what: &str,
        networks: &[Network],
        results: &mut [Option<Result<Applied, EngineError>>],
        round: usize,
    ) -> Result<bool, EngineError> {
        let mut open = Vec::new();
        let places = networks.iter().enumerate().filter(|(place, _)| results.get(*place).is_some_and(Option::is_none));
        for (place, network) in places {
            open.push((place, network, self.rows(network).await?));
        }
        let looks: Vec<_> = open.iter().map(|(_, network, rows)| (*network, rows.all())).collect();
        let looks: Vec<_> = looks.iter().map(|(network, rows)| (*network, rows.as_slice())).collect();
        let seen = self.see(what, &looks).await?;
        // Networks of one cluster share guards: a row is inserted once.
        let (mut shared, mut changes, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for (place, network, rows) in open {
            let what = format!("ensure the network of tenant {}", network.tenant);
            let pods = self.pods_behind_routes(&what, network, &seen).await?;
            let result = match decide(&what, network, rows, &seen, &pods, round) {
                Ok(Decision::Done(applied)) => Some(Ok(applied)),
                Ok(Decision::Change { applied, guards, operations }) => {
                    shared.extend(guards.into_iter().filter(|guard| !shared.contains(guard)).collect::<Vec<_>>());
                    changes.extend(operations);
                    changed.push((place, applied));
                    None
                }
                Err(error) => Some(Err(error)),
            };
            if let Some(open) = results.get_mut(place) {
                *open = result;
            }
        }
        shared.extend(changes);
        if !shared.is_empty() && self.change(what, shared).await?.is_none() {
            return Ok(false);
        }
        for (place, applied) in changed {
            if let Some(open) = results.get_mut(place) {
                *open = Some(Ok(applied));
            }
        }
        Ok(true)
    }

    async fn rows(&self, network: &Network) -> Result<NetworkRows, EngineError> {
        let wanted = network_rows(network, self.provider_rows(network).await?);
        let routes = network.removed_routes.iter().flat_map(|route| route_rows(network, route));
        // The switches refer to names weakly: the references go with the row.
        let names = (!network.names).then(|| names_row(network));
        let removed = routes.chain(names).collect();
        Ok(NetworkRows { wanted, removed })
    }

    pub(crate) async fn compare_network(&self, network: &Network) -> Result<Vec<Drift>, EngineError> {
        let what = format!("compare the network of tenant {}", network.tenant);
        let wanted = network_rows(network, self.provider_rows(network).await?);
        let seen = self.see(&what, &[(network, &wanted)]).await?;
        let mut found = drift(&wanted, &seen);
        for (recorded, pods) in self.pods_behind_routes(&what, network, &seen).await? {
            let differs = |port: StalePort| {
                let sentence = format!("port_security is {}, not {}", shown(&port.found), shown(&port.wanted));
                let (kind, role) = (SWITCH_PORT.to_owned(), RowRole::PodPort.to_string());
                Drift { kind, id: port.id, role, difference: DriftKind::Differs(vec![sentence]) }
            };
            found.extend(pods.stale(&recorded).into_iter().map(differs));
        }
        Ok(found)
    }

    /// The ports of pods in subnets with a next hop of a static route, or that had one; and the next hops that each should have.
    async fn pods_behind_routes(
        &self,
        what: &str,
        network: &Network,
        seen: &Seen,
    ) -> Result<Vec<(String, SwitchPods)>, EngineError> {
        let there = network.subnets.iter().filter(|subnet| {
            let switch = network.id.subnet(subnet.ordinal).object();
            seen.ids(SWITCH, switch).is_some()
                && !(recorded(network, subnet).is_empty() && next_hops_of(seen, switch).is_empty())
        });
        let there: Vec<_> = there.collect();
        let subnets: Vec<_> = there.iter().map(|subnet| network.id.subnet(subnet.ordinal)).collect();
        let pods = self.pods_in(what, &subnets).await?;
        Ok(there.into_iter().map(|subnet| recorded(network, subnet)).zip(pods).collect())
    }

    pub(crate) async fn remove_network(&self, network: &Network) -> Result<Applied, EngineError> {
        let what = format!("delete the network of tenant {}", network.tenant);
        let id = network.id;
        let mut rounds = Rounds::of(&what);
        loop {
            rounds.begin()?;
            let seen = self.see(&what, &[(network, &[])]).await?;
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
            let place = operations.len();
            operations.extend([
                ours(ROUTER),
                ours(SWITCH),
                RowOperation::Delete {
                    table: NAMES,
                    condition: vec![RowCondition::is(network_row(id, RowRole::Names))],
                },
                drop_children(far, vec![network_row(id, RowRole::ProviderPort)]),
            ]);
            operations.push(remember_removal(network, &seen));
            operations.extend(self.old_removals(&what, id.cluster).await?);
            if let Some(outcomes) = self.change(&what, operations).await? {
                let deleted = outcomes.iter().skip(place).take(2).map(count).sum();
                return Ok(Applied { deleted, rounds: rounds.begun, ..Applied::default() });
            }
        }
    }

    /// Deletes rows that remember deleted networks, once no process can be that far behind.
    async fn old_removals(&self, what: &str, cluster: ClusterId) -> Result<Vec<RowOperation>, EngineError> {
        let ids = cluster_owner(cluster, RowRole::Removed);
        let condition = vec![RowCondition::includes(EXTERNAL_IDS, ids)];
        let select = RowOperation::Select { table: MARK, condition, columns: vec![UUID, EXTERNAL_IDS] };
        let rows = self.read(what, vec![select]).await?.into_iter().flat_map(Outcome::rows);
        let is_old = |row: &Row| {
            let at: Option<u64> = id(row, key::REMOVED_AT).and_then(|text| text.parse().ok());
            at.is_none_or(|at| at + REMEMBERED < now())
        };
        let old = rows.filter(is_old).filter_map(|row| row.get(UUID)?.uuids().next());
        Ok(old.map(|uuid| RowOperation::Delete { table: MARK, condition: vec![RowCondition::is(uuid)] }).collect())
    }

    /// Deletes rows of a network that has others. `left`: the network without them, if its next hops may be others then. A
    /// writer whose record is older than the router's changes nothing.
    pub(crate) async fn remove_rows(
        &self,
        what: &str,
        network: &Network,
        rows: &[WantedRow],
        left: Option<&Network>,
    ) -> Result<Applied, EngineError> {
        let switches: Vec<_> = left.into_iter().flat_map(switch_rows).collect();
        let all = [rows, &switches].concat();
        let mut rounds = Rounds::of(what);
        loop {
            rounds.begin()?;
            let seen = self.see(what, &[(network, &all)]).await?;
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
            if let Some(left) = left {
                let pods = self.pods_behind_routes(what, left, &seen).await?;
                let NextHopChange { guards, updates, .. } = next_hop_change(&pods, &seen);
                operations.extend(guards);
                let differs = |row: &&WantedRow| matches!(difference(row, &seen), Some(DriftKind::Differs(_)));
                let differing: Vec<_> = switches.iter().filter(differs).cloned().collect();
                operations.extend(mend(&differing, &seen));
                operations.extend(updates);
            }
            operations.extend(gone.iter().map(|row| delete_row(row)));
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

    /// Reads these rows of networks, and of each its router, the provider router and the cluster's row.
    async fn see(&self, what: &str, networks: &[(&Network, &[WantedRow])]) -> Result<Seen, EngineError> {
        let rows: Vec<WantedRow> = networks.iter().flat_map(|(_, rows)| rows.iter().cloned()).collect();
        let more = networks.iter().flat_map(|(network, _)| {
            [
                (MARK, cluster_row(network.id.cluster, RowRole::Cluster), EXTERNAL_IDS),
                (MARK, network_row(network.id, RowRole::Removed), EXTERNAL_IDS),
                (ROUTER, network.id.router(), EXTERNAL_IDS),
                (ROUTER, network.provider, "name"),
            ]
        });
        let looks = Look::all(&rows, &more.collect::<Vec<_>>());
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
        let mut left = network.clone();
        left.routes.retain(|route| routes.iter().all(|gone| gone.number() != route.number()));
        self.remove_rows(&format!("delete routes of tenant {}", network.tenant), network, &rows, Some(&left)).await
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
        self.remove_rows(&what, current, &rows, Some(current)).await
    }
}

/// How many networks one transaction makes at most.
const TOGETHER: usize = 100;

/// For how long a deleted network is remembered, seconds: a day, longer than a process is stopped and goes on.
const REMEMBERED: u64 = 24 * 60 * 60;

/// What a record wants, and what it had.
struct NetworkRows {
    wanted: Vec<WantedRow>,
    removed: Vec<WantedRow>,
}

impl NetworkRows {
    fn all(&self) -> Vec<WantedRow> {
        [&self.wanted[..], &self.removed].concat()
    }
}

/// What is to be done for a network.
enum Decision {
    /// Nothing.
    Done(Applied),
    /// These operations, behind these guards.
    Change { applied: Applied, guards: Vec<RowOperation>, operations: Vec<RowOperation> },
}

/// Compares a network with what was seen.
fn decide(
    what: &str,
    network: &Network,
    rows: NetworkRows,
    seen: &Seen,
    pods: &[(String, SwitchPods)],
    round: usize,
) -> Result<Decision, EngineError> {
    let NetworkRows { mut wanted, removed } = rows;
    if seen.row(ROUTER, network.provider).is_none() {
        let message = format!("the provider router {} does not exist", network.provider);
        let remedy = "check `cluster.providerRouter`, or run `atollctl init`";
        return Err(engine_error(NORTHBOUND, what, EngineFailure::Absent, message, remedy));
    }
    refuse_foreign(what, &wanted, seen)?;
    let mut applied = applied(&wanted, &drift(&wanted, seen), round);
    if revision(network, seen).max(removal(network, seen)).is_some_and(|there| there > network.revision) {
        // A newer record was applied, whole, or deleted all of it.
        return Ok(Decision::Done(Applied { kept: wanted.len(), ..Applied::default() }));
    }
    with_revision(&mut wanted, network);
    let mut operations = mend(&wanted, seen);
    let is_there =
        |row: &&WantedRow| !matches!(difference(row, seen), Some(DriftKind::Missing | DriftKind::Foreign(_)));
    let gone: Vec<_> = removed.iter().filter(is_there).collect();
    applied.deleted = gone.len();
    operations.extend(gone.iter().map(|row| delete_row(row)));
    let next_hops = next_hop_change(pods, seen);
    applied.updated += next_hops.updates.len();
    operations.extend(next_hops.updates);
    if operations.is_empty() {
        return Ok(Decision::Done(applied));
    }
    Ok(Decision::Change { applied, guards: [guards(network, seen), next_hops.guards].concat(), operations })
}

/// What changes ports of pods, so that they accept what routes lead to them and nothing else.
struct NextHopChange {
    guards: Vec<RowOperation>,
    updates: Vec<RowOperation>,
}

/// `pods`: the next hops that each switch should have, and its ports as they were read after `seen`.
fn next_hop_change(pods: &[(String, SwitchPods)], seen: &Seen) -> NextHopChange {
    let mut change = NextHopChange { guards: Vec::new(), updates: Vec::new() };
    for (recorded, pods) in pods {
        // A port that is made meanwhile fits the next hops that the switch has now.
        if next_hops_of(seen, pods.subnet.object()) != recorded.as_str() {
            change.guards.push(pods.has_members());
        }
        for port in pods.stale(recorded) {
            change.guards.push(port.guard());
            change.updates.push(port.update());
        }
    }
    change
}

/// The next hops that a switch records.
fn next_hops_of(seen: &Seen, switch: Uuid) -> &str {
    seen.ids(SWITCH, switch).and_then(|ids| ids.get(key::NEXT_HOPS)).unwrap_or_default()
}

/// The revision of the record by which the network was deleted; none: it was not, or that is long ago.
fn removal(network: &Network, seen: &Seen) -> Option<i64> {
    let ids = seen.ids(MARK, network_row(network.id, RowRole::Removed))?;
    ids.get(key::REVISION)?.parse().ok()
}

/// Remembers that a record of this revision deleted the network: an older one, of a process that was stopped meanwhile, does not make
/// it again. The guard of the cluster's row is in front.
fn remember_removal(network: &Network, seen: &Seen) -> RowOperation {
    let revision = removal(network, seen).map_or(network.revision, |there| there.max(network.revision));
    let mut ids = owner(network.id, RowRole::Removed);
    for (key, value) in [(key::REVISION, revision.to_string()), (key::REMOVED_AT, now().to_string())] {
        ids = with(ids, key, value);
    }
    let (uuid, row) = (network_row(network.id, RowRole::Removed), Row::from([(EXTERNAL_IDS, ids)]));
    match seen.row(MARK, uuid) {
        Some(_) => RowOperation::Update { table: MARK, condition: vec![RowCondition::is(uuid)], row },
        None => RowOperation::Insert { table: MARK, uuid, row },
    }
}

fn delete_row(row: &WantedRow) -> RowOperation {
    match row.parent {
        Some(parent) => drop_children(parent, vec![row.uuid]),
        None => RowOperation::Delete { table: row.table, condition: vec![RowCondition::is(row.uuid)] },
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
