//! Ports of pods in Northbound, and the fence against late requests.
//!
//! # Guarantees
//! - **Writer epoch.** A server without a quorum executes a request when it has one again, hours later. So each node has a
//!   row with an epoch, each creation of a port compares it, and [`Ovn::raise_epoch`] raises it in the transaction that
//!   deletes ports: a request with an older epoch fails from then on, whenever it is executed.
//! - A port is made only in a switch that exists: OVN collects a port without a switch silently.
//! - A port accepts its own addresses, and what static routes lead to it as a next hop, which its creation compares with the switch.
//! - A deletion compares the claim, so that a late one never deletes the port of a later claim.
//! - A port's names in DNS come and go with it, in the same transaction.
//! - That a port is absent is concluded from a transaction that changed something, or from a member that is up to date.

use atoll_model::ids::{ClaimId, ClusterId};
use atoll_network::{EngineError, EngineFailure, PodPort, PortRemoval, PortState, SubnetId, WriterEpoch};
use uuid::Uuid;

use crate::compare::{columns_that_differ, drop_children, exists_with, refer};
use crate::engine::{Ovn, Rounds};
use crate::error::{NORTHBOUND, engine_error, failed};
use crate::names::{EXTERNAL_IDS, RowRole, cluster_owner, id, key, owner, with, writer_row};
use crate::next_hops::port_security;
use crate::ovsdb::{
    Database, DatabaseError, Freshness, Mutation, Outcome, RefusalKind, Row, RowCondition, RowOperation, UUID, Value,
};
use crate::pod_names::PortNames;
use crate::rows::{MARK, Parent, SHARED, SWITCH, SWITCH_PORT, WantedRow};

/// How many ports are read by one transaction.
const AT_ONCE: usize = 500;

/// The columns of a port that are read.
const COLUMNS: [&str; 8] = [UUID, "name", "type", "addresses", "port_security", "options", "up", EXTERNAL_IDS];

impl<D: Database> Ovn<D> {
    pub(crate) async fn make_port(&self, port: &PodPort) -> Result<PortState, EngineError> {
        let what = format!("create port {}", port.id);
        let mut rounds = Rounds::of(&what);
        // The node's row as it must be; none: it has the epoch already.
        let mut raise = None;
        // Usually no route leads to a pod of the subnet.
        let mut next_hops = SwitchHops::none(port.subnet);
        loop {
            rounds.begin()?;
            let epoch = raise.take().unwrap_or_else(|| vec![has_epoch(port)]);
            let guards = epoch.len();
            let mut operations = epoch;
            operations.extend([
                next_hops.guard.clone(),
                RowOperation::Insert { table: SWITCH_PORT, uuid: port.id, row: row(port, &next_hops.recorded).row },
                refer(switch_ports(port.subnet), port.id),
            ]);
            let names = PortNames::of(port);
            operations.extend(names.iter().flat_map(PortNames::take));
            let Err(error) = self.write(operations).await else { return Ok(state_as_wanted(port, false)) };
            let DatabaseError::Refused { refused, .. } = &error else { return Err(failed(NORTHBOUND, what)(error)) };
            match (refused.refusal, refused.operation) {
                (RefusalKind::Unmet | RefusalKind::Duplicate, Some(place)) if place < guards => {
                    raise = Some(self.epoch_operations(&what, port).await?);
                }
                (RefusalKind::Unmet, _) => {
                    let Some(there) = self.switch_hops(&what, port.subnet).await? else {
                        let message = format!("switch {} does not exist", port.subnet.object());
                        let remedy = "run `atollctl tenant repair`";
                        return Err(engine_error(NORTHBOUND, what, EngineFailure::Absent, message, remedy));
                    };
                    next_hops = there;
                }
                // It may be ours: a server may have executed the request and not answered.
                (RefusalKind::Duplicate, _) => {
                    if let Some(state) = self.own_port(&what, port, &next_hops.recorded).await? {
                        if let Some(names) = names {
                            // They may have been lost; another port may have one of them by now.
                            self.change(&what, vec![has_claim(port.id, Some(port.claim)), names.restore()]).await?;
                        }
                        return Ok(state);
                    }
                }
                _ => return Err(failed(NORTHBOUND, what)(error)),
            }
        }
    }

    /// The port, if it is as it should be; none: it is gone by now.
    async fn own_port(&self, what: &str, port: &PodPort, next_hops: &str) -> Result<Option<PortState>, EngineError> {
        let Some(found) = self.port_row(what, port.id).await? else { return Ok(None) };
        let wanted = row(port, next_hops);
        let mut differs: Vec<_> = columns_that_differ(&wanted, &found.row).map(|(column, _)| column).collect();
        if found.switch != Some(port.subnet.object()) {
            differs.push("its switch");
        }
        if differs.is_empty() {
            return Ok(Some(found.state()));
        }
        let message = format!("a port with this id exists, and differs in {}", differs.join(", "));
        Err(engine_error(NORTHBOUND, what, EngineFailure::Conflict, message, "run `atollctl attachment show`"))
    }

    /// The next hops in a subnet; none: it has no switch of ours.
    async fn switch_hops(&self, what: &str, subnet: SubnetId) -> Result<Option<SwitchHops>, EngineError> {
        let ours = owner(subnet.network, RowRole::Switch(subnet.ordinal));
        let condition = vec![RowCondition::is(subnet.object()), RowCondition::includes(EXTERNAL_IDS, ours)];
        let select = RowOperation::Select { table: SWITCH, condition, columns: vec![EXTERNAL_IDS] };
        let row = self.read(what, vec![select]).await?.into_iter().flat_map(Outcome::rows).next();
        Ok(row.map(|row| SwitchHops {
            recorded: id(&row, key::NEXT_HOPS).unwrap_or_default().to_owned(),
            guard: RowOperation::wait_for(SWITCH, subnet.object(), row),
        }))
    }

    /// The ports of pods in switches, with all that these switches have.
    pub(crate) async fn pods_in(&self, what: &str, subnets: &[SubnetId]) -> Result<Vec<SwitchPods>, EngineError> {
        let operations = subnets.iter().flat_map(|subnet| {
            let ids = owner(subnet.network, RowRole::PodPort);
            let ids = with(ids, key::SUBNET, subnet.ordinal.to_string());
            [
                RowOperation::Select {
                    table: SWITCH,
                    condition: vec![RowCondition::is(subnet.object())],
                    columns: vec!["ports"],
                },
                RowOperation::Select {
                    table: SWITCH_PORT,
                    condition: vec![RowCondition::includes(EXTERNAL_IDS, ids)],
                    columns: vec![UUID, "addresses", "port_security", EXTERNAL_IDS],
                },
            ]
        });
        let mut outcomes = self.read(what, operations.collect()).await?.into_iter().map(Outcome::rows);
        let mut next = || outcomes.next().unwrap_or_default();
        let pods = subnets.iter().map(|subnet| {
            let (mut switch, pods) = (next(), next());
            let members = switch.pop().and_then(|mut row| row.remove("ports")).unwrap_or_else(Value::none);
            SwitchPods { subnet: *subnet, members, pods }
        });
        Ok(pods.collect())
    }

    /// Operations after which the node's row has the writer's epoch, or why it cannot have it.
    async fn epoch_operations(&self, what: &str, port: &PodPort) -> Result<Vec<RowOperation>, EngineError> {
        let cluster = port.subnet.network.cluster;
        let there = self.epoch(what, cluster, &port.writer).await?;
        if there.as_ref().is_some_and(|there| there.epoch > port.writer.epoch) {
            let message = format!(
                "node {} was fenced: its writer epoch is {} by now, and this request has {}",
                port.writer.node,
                there.map_or(0, |there| there.epoch),
                port.writer.epoch
            );
            return Err(engine_error(NORTHBOUND, what, EngineFailure::Overtaken, message, "try again"));
        }
        Ok(set_epoch(cluster, &port.writer, there))
    }

    async fn epoch(
        &self,
        what: &str,
        cluster: ClusterId,
        writer: &WriterEpoch,
    ) -> Result<Option<SeenEpoch>, EngineError> {
        let condition = vec![RowCondition::is(writer_row(cluster, &writer.node))];
        let select = RowOperation::Select { table: MARK, condition, columns: vec![EXTERNAL_IDS] };
        // An old copy is enough: an epoch only grows, and what is written compares the row as it was read.
        let outcomes =
            self.northbound.transact(vec![select], Freshness::Any).await.map_err(failed(NORTHBOUND, what))?;
        let row = outcomes.into_iter().flat_map(Outcome::rows).next();
        Ok(row.map(|row| SeenEpoch {
            epoch: id(&row, key::EPOCH).and_then(|text| text.parse().ok()).unwrap_or(0),
            ids: row.get(EXTERNAL_IDS).cloned().unwrap_or_else(Value::none),
        }))
    }

    /// Raises a node's epoch and deletes ports, in one transaction. Requests of an older epoch fail from then on.
    pub(crate) async fn raise_epoch(
        &self,
        cluster: ClusterId,
        writer: &WriterEpoch,
        ports: &[PortRemoval],
    ) -> Result<(), EngineError> {
        let what = format!("fence node {} at epoch {}", writer.node, writer.epoch);
        let mut rounds = Rounds::of(&what);
        loop {
            rounds.begin()?;
            let there = self.epoch(&what, cluster, writer).await?;
            let raised = there.as_ref().is_some_and(|there| there.epoch >= writer.epoch);
            if raised {
                // Nothing would guard a deletion by id alone: each compares the claim.
                for port in ports {
                    self.remove_port(port).await?;
                }
                return Ok(());
            }
            let mut operations = set_epoch(cluster, writer, there);
            // Before the ports, whose rows they compare.
            operations.extend(self.drop_names(&what, ports).await?);
            operations.extend(ports.iter().map(|port| drop_anywhere(port.id)));
            if self.change(&what, operations).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Takes the names of ports: as described, or as their rows have them. Those rows must not change meanwhile.
    async fn drop_names(&self, what: &str, ports: &[PortRemoval]) -> Result<Vec<RowOperation>, EngineError> {
        let described = ports.iter().filter_map(|port| PortNames::of(port.port.as_ref()?));
        let mut operations: Vec<_> = described.map(|names| names.drop()).collect();
        let unknown: Vec<Uuid> = ports.iter().filter(|port| port.port.is_none()).map(|port| port.id).collect();
        let columns = vec!["addresses", EXTERNAL_IDS];
        for some in unknown.chunks(AT_ONCE) {
            let select = |port: &Uuid| RowOperation::Select {
                table: SWITCH_PORT,
                condition: vec![RowCondition::is(*port)],
                columns: columns.clone(),
            };
            let outcomes = self.read(what, some.iter().map(select).collect()).await?;
            for (port, outcome) in some.iter().zip(outcomes) {
                let rows = outcome.rows();
                operations.extend(rows.iter().filter_map(PortNames::of_row).map(|names| names.drop()));
                let (condition, columns) = (vec![RowCondition::is(*port)], columns.clone());
                operations.push(RowOperation::Wait { table: SWITCH_PORT, condition, columns, rows });
            }
        }
        Ok(operations)
    }

    pub(crate) async fn read_port(&self, port: Uuid) -> Result<Option<PortState>, EngineError> {
        let found = self.port_row(&format!("read port {port}"), port).await?;
        Ok(found.map(|found| found.state()))
    }

    async fn port_row(&self, what: &str, port: Uuid) -> Result<Option<FoundPort>, EngineError> {
        let reference = Value::one(port);
        let outcomes = self
            .read(
                what,
                vec![
                    RowOperation::Select {
                        table: SWITCH_PORT,
                        condition: vec![RowCondition::is(port)],
                        columns: COLUMNS.to_vec(),
                    },
                    RowOperation::Select {
                        table: SWITCH,
                        condition: vec![RowCondition::includes("ports", reference)],
                        columns: vec![UUID],
                    },
                ],
            )
            .await?;
        let mut outcomes = outcomes.into_iter().map(Outcome::rows);
        let row = outcomes.next().unwrap_or_default().into_iter().next();
        let switch = outcomes.next().unwrap_or_default().into_iter().next();
        let switch = switch.and_then(|row| row.get(UUID)?.uuids().next());
        Ok(row.map(|row| FoundPort { row, switch }))
    }

    pub(crate) async fn list_ports(&self, subnet: SubnetId) -> Result<Vec<Uuid>, EngineError> {
        let what = format!("list the ports of switch {}", subnet.object());
        let condition = vec![RowCondition::is(subnet.object())];
        let select = RowOperation::Select { table: SWITCH, condition, columns: vec!["ports"] };
        let rows: Vec<Row> = self.read(&what, vec![select]).await?.into_iter().flat_map(Outcome::rows).collect();
        let all: Vec<Uuid> = rows.iter().filter_map(|row| row.get("ports")).flat_map(Value::uuids).collect();
        let mut pods = Vec::new();
        for some in all.chunks(AT_ONCE) {
            let select = |port: &Uuid| RowOperation::Select {
                table: SWITCH_PORT,
                condition: vec![RowCondition::is(*port)],
                columns: vec![UUID, EXTERNAL_IDS],
            };
            let rows = self.read(&what, some.iter().map(select).collect()).await?;
            let rows = rows.into_iter().flat_map(Outcome::rows).filter(is_pods);
            pods.extend(rows.filter_map(|row| row.get(UUID)?.uuids().next()));
        }
        Ok(pods)
    }

    pub(crate) async fn remove_port(&self, removal: &PortRemoval) -> Result<(), EngineError> {
        let what = format!("delete port {}", removal.id);
        let mut rounds = Rounds::of(&what);
        // One address is in the row itself: the row says of which claim it is, also if that is an earlier one.
        let described = removal.port.as_ref().filter(|port| port.addresses.len() > 1);
        // The first attempt relies on what the claim describes, and the next ones on what is there.
        let mut known = described.map(|port| (port.subnet.object(), Some(port.claim), PortNames::of(port)));
        loop {
            rounds.begin()?;
            let (switch, claim, names) = match known.take() {
                Some(known) => known,
                None => match self.port_row(&what, removal.id).await? {
                    None => {
                        // It went with its names, or was lost behind Atoll's back and left them. A later port of a pod of the
                        // same name may have them now, with the same address.
                        if let Some((port, names)) =
                            removal.port.as_ref().and_then(|port| Some((port, PortNames::of(port)?)))
                        {
                            let of_it = [
                                (key::INCARNATION, port.subnet.network.incarnation.to_string()),
                                (key::NAMES, names.text()),
                            ];
                            let condition = vec![RowCondition::includes(EXTERNAL_IDS, Value::map(of_it))];
                            let (columns, rows) = (vec![UUID], Vec::new());
                            let unused = RowOperation::Wait { table: SWITCH_PORT, condition, columns, rows };
                            self.change(&what, vec![unused, names.drop()]).await?;
                        }
                        return Ok(());
                    }
                    Some(found) if !is_pods(&found.row) => {
                        tracing::warn!(port = %removal.id, "it is not a pod's port of Atoll, and stays");
                        return Ok(());
                    }
                    Some(found) => {
                        let claim = id(&found.row, key::CLAIM).and_then(|claim| claim.parse().ok()).map(ClaimId);
                        if let Some(port) = described.filter(|port| claim.is_some_and(|claim| claim != port.claim)) {
                            tracing::warn!(port = %removal.id, claim = %port.claim, "the port is of another claim, and stays");
                            return Ok(());
                        }
                        (found.switch.unwrap_or_default(), claim, PortNames::of_row(&found.row))
                    }
                },
            };
            let parent = Parent { table: SWITCH, uuid: switch, column: "ports" };
            let mut operations = vec![
                has_claim(removal.id, claim),
                exists_with(SWITCH, switch, Value::map::<&str, &str>([])),
                drop_children(parent, vec![removal.id]),
            ];
            operations.extend(names.iter().map(PortNames::drop));
            if self.change(&what, operations).await?.is_some() {
                return Ok(());
            }
        }
    }
}

/// The next hops of static routes in a subnet, as its switch records them.
struct SwitchHops {
    recorded: String,
    /// The switch exists and has these.
    guard: RowOperation,
}

impl SwitchHops {
    /// None of the pods is one.
    fn none(subnet: SubnetId) -> Self {
        let ids = with(owner(subnet.network, RowRole::Switch(subnet.ordinal)), key::NEXT_HOPS, "");
        Self { recorded: String::new(), guard: exists_with(SWITCH, subnet.object(), ids) }
    }
}

/// The ports of pods in a switch, as they were read.
pub(crate) struct SwitchPods {
    pub(crate) subnet: SubnetId,
    /// All ports of the switch.
    members: Value,
    pods: Vec<Row>,
}

/// A port that accepts other packets than it should.
pub(crate) struct StalePort {
    pub(crate) id: Uuid,
    claim: String,
    pub(crate) found: Value,
    pub(crate) wanted: Value,
}

impl SwitchPods {
    /// The ports whose port security does not fit these next hops.
    pub(crate) fn stale(&self, recorded: &str) -> Vec<StalePort> {
        let stale = self.pods.iter().filter_map(|row| {
            let addresses = row.get("addresses").and_then(Value::text)?;
            let wanted = Value::set([port_security(addresses, recorded)]);
            let found = row.get("port_security").filter(|found| **found != wanted)?.clone();
            let (id, claim) = (row.get(UUID)?.uuids().next()?, id(row, key::CLAIM)?.to_owned());
            Some(StalePort { id, claim, found, wanted })
        });
        stale.collect()
    }

    /// The switch has no other ports than when it was read.
    pub(crate) fn has_members(&self) -> RowOperation {
        RowOperation::wait_for(SWITCH, self.subnet.object(), Row::from([("ports", self.members.clone())]))
    }
}

impl StalePort {
    /// The port is still of the claim with which it was read.
    pub(crate) fn guard(&self) -> RowOperation {
        exists_with(SWITCH_PORT, self.id, Value::map([(key::CLAIM, self.claim.clone())]))
    }

    /// Gives it what it should accept.
    pub(crate) fn update(&self) -> RowOperation {
        let row = Row::from([("port_security", self.wanted.clone())]);
        RowOperation::Update { table: SWITCH_PORT, condition: vec![RowCondition::is(self.id)], row }
    }
}

struct SeenEpoch {
    epoch: u64,
    ids: Value,
}

struct FoundPort {
    row: Row,
    switch: Option<Uuid>,
}

impl FoundPort {
    fn state(&self) -> PortState {
        let host = self.row.get("options").and_then(|options| options.get(REQUESTED_CHASSIS));
        let location = host.zip(id(&self.row, key::INTERFACE));
        PortState {
            belongs_to: self.switch.unwrap_or_default(),
            location: location.map(|(host, interface)| (host.to_owned(), interface.to_owned())),
            active: self.row.get("up").and_then(Value::boolean) == Some(true),
        }
    }
}

/// The option that binds a port to a chassis, by its name or the name of its host.
const REQUESTED_CHASSIS: &str = "requested-chassis";

/// The row of a pod's port. `next_hops`: as its switch records them.
fn row(port: &PodPort, next_hops: &str) -> WantedRow {
    let mut addresses = port.mac.to_string();
    for address in &port.addresses {
        addresses.push(' ');
        addresses.push_str(&address.to_string());
    }
    let mut ids = owner(port.subnet.network, RowRole::PodPort);
    for (key, value) in [
        (key::CLAIM, port.claim.to_string()),
        (key::NODE, port.writer.node.to_string()),
        (key::SUBNET, port.subnet.ordinal.to_string()),
        (key::INTERFACE, port.location.interface.to_string()),
    ] {
        ids = with(ids, key, value);
    }
    if let Some(names) = PortNames::of(port) {
        ids = with(ids, key::NAMES, names.text());
    }
    let row = Row::from([
        ("name", Value::one(port.id.to_string())),
        ("type", Value::one("")),
        ("port_security", Value::set([port_security(&addresses, next_hops)])),
        ("addresses", Value::set([addresses])),
        ("options", Value::map([(REQUESTED_CHASSIS, port.location.host.as_str())])),
        (EXTERNAL_IDS, ids),
    ]);
    let (role, parent) = (RowRole::PodPort, Some(switch_ports(port.subnet)));
    WantedRow { table: SWITCH_PORT, uuid: port.id, role, row, shared: SHARED, parent }
}

fn is_pods(row: &Row) -> bool {
    id(row, key::ROLE) == Some(&RowRole::PodPort.to_string())
}

/// The row is a pod's port, and of this claim if one is given.
fn has_claim(port: Uuid, claim: Option<ClaimId>) -> RowOperation {
    let mut ids = Value::map([(key::ROLE, RowRole::PodPort.to_string())]);
    if let Some(claim) = claim {
        ids = with(ids, key::CLAIM, claim.to_string());
    }
    exists_with(SWITCH_PORT, port, ids)
}

fn state_as_wanted(port: &PodPort, active: bool) -> PortState {
    let location = (port.location.host.to_string(), port.location.interface.to_string());
    PortState { belongs_to: port.subnet.object(), location: Some(location), active }
}

fn switch_ports(subnet: SubnetId) -> Parent {
    Parent { table: SWITCH, uuid: subnet.object(), column: "ports" }
}

/// Takes a port out of whatever switch has it.
fn drop_anywhere(port: Uuid) -> RowOperation {
    let members = Value::one(port);
    RowOperation::Mutate {
        table: SWITCH,
        condition: vec![RowCondition::includes("ports", members.clone())],
        column: "ports",
        mutation: Mutation::Delete(members),
    }
}

/// The node's row has the writer's epoch.
fn has_epoch(port: &PodPort) -> RowOperation {
    let uuid = writer_row(port.subnet.network.cluster, &port.writer.node);
    exists_with(MARK, uuid, Value::map([(key::EPOCH, port.writer.epoch.to_string())]))
}

/// Gives a node's row an epoch: makes the row, or changes it as it was read.
fn set_epoch(cluster: ClusterId, writer: &WriterEpoch, there: Option<SeenEpoch>) -> Vec<RowOperation> {
    let uuid = writer_row(cluster, &writer.node);
    let epoch = writer.epoch.to_string();
    let Some(there) = there else {
        let ids = with(cluster_owner(cluster, RowRole::Writer), key::NODE, writer.node.as_str());
        let row = Row::from([(EXTERNAL_IDS, with(ids, key::EPOCH, epoch))]);
        return vec![RowOperation::Insert { table: MARK, uuid, row }];
    };
    let row = Row::from([(EXTERNAL_IDS, with(there.ids.clone(), key::EPOCH, epoch))]);
    vec![
        RowOperation::wait_for(MARK, uuid, Row::from([(EXTERNAL_IDS, there.ids)])),
        RowOperation::Update { table: MARK, condition: vec![RowCondition::is(uuid)], row },
    ]
}
