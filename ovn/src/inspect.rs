//! What an operator asks of OVN: versions, probes, chassis, owners of rows, and whether northd and the chassis work.
//!
//! # Guarantees
//! - It reads. All that it changes is the number of the configuration (`nb_cfg`), as `ovn-nbctl sync` does: without a new
//!   number a northd that stopped is not seen. The number is raised once in [`RAISED_AGAIN`] for the whole cluster, and not
//!   while northd has one to process.

use std::time::Duration;

use atoll_model::ids::{ClusterId, IfName, Incarnation, NodeName};
use atoll_network::{EngineError, EngineFailure};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::engine::Ovn;
use crate::error::{NORTHBOUND, SOUTHBOUND, engine_error, failed};
use crate::facts::{
    ChassisFacts, ConfigurationProgress, ListenerFacts, NorthboundFacts, OwnedRow, SouthboundFacts, SwitchFacts,
    UplinkFacts, texts,
};
use crate::hosts::NUMBER;
use crate::names::{EXTERNAL_IDS, RowRole, cluster_row, id, key, name};
use crate::ovsdb::{
    ColumnKind, Database, Freshness, Monitor, Outcome, Row, RowCondition, RowOperation, RowWatch as _, UUID, Value,
};
use crate::rows::{CHASSIS_GROUP, GROUP_MEMBER, ROUTER, SWITCH, SWITCH_PORT};

/// How long a confirmation is taken for the present state of northd; seconds.
const RAISED_AGAIN: i64 = 5;

impl<D: Database> Ovn<D> {
    /// Reads Northbound.
    ///
    /// # Errors
    /// It does not answer, or has no leader.
    pub async fn inspect_northbound(&self, cluster: Option<ClusterId>) -> Result<NorthboundFacts, EngineError> {
        let group = cluster.map_or(Uuid::nil(), |cluster| cluster_row(cluster, RowRole::ChassisGroup));
        let all = |table, columns| RowOperation::Select { table, condition: Vec::new(), columns };
        let operations = vec![
            all("NB_Global", vec!["options"]),
            all(ROUTER, vec![UUID]),
            all("Connection", LISTENER.to_vec()),
            RowOperation::Select {
                table: "HA_Chassis_Group",
                condition: vec![RowCondition::is(group)],
                columns: vec!["ha_chassis"],
            },
            all("HA_Chassis", vec![UUID, "chassis_name"]),
        ];
        let mut rows = self.read("inspect it", operations).await?.into_iter().map(Outcome::rows);
        let mut next = || rows.next().unwrap_or_default();
        let (global, routers, connections, groups, members) = (next(), next(), next(), next(), next());
        let version = global.iter().find_map(|row| row.get("options")?.get("northd_internal_version"));
        let ours: Vec<Uuid> = groups.iter().filter_map(|row| row.get("ha_chassis")).flat_map(Value::uuids).collect();
        let member = |row: &Row| {
            let is_ours = row.get(UUID)?.uuids().any(|uuid| ours.contains(&uuid));
            is_ours.then(|| text(row, "chassis_name"))
        };
        Ok(NorthboundFacts {
            version: version.map(str::to_owned),
            routers: routers.len(),
            listeners: connections.iter().map(listener).collect(),
            gateways: members.iter().filter_map(member).collect(),
        })
    }

    /// Reads Southbound. None: it is not configured.
    ///
    /// # Errors
    /// It does not answer, or has no leader.
    pub async fn inspect_southbound(&self) -> Result<Option<SouthboundFacts>, EngineError> {
        let Some(southbound) = &self.southbound else { return Ok(None) };
        let all = |table, columns| RowOperation::Select { table, condition: Vec::new(), columns };
        let operations = vec![
            all("Connection", LISTENER.to_vec()),
            all("Chassis", vec!["name", "hostname", "other_config"]),
            all("Chassis_Private", vec!["name", NUMBER]),
        ];
        let outcomes = southbound.transact(operations, Freshness::Current).await;
        let mut rows = outcomes.map_err(failed(SOUTHBOUND, "inspect it"))?.into_iter().map(Outcome::rows);
        let mut next = || rows.next().unwrap_or_default();
        let (connections, chassis, confirmed) = (next(), next(), next());
        let number = |name: &str| {
            let row = confirmed.iter().find(|row| text(row, "name") == name)?;
            row.get(NUMBER)?.integer()
        };
        let chassis = chassis.iter().map(|row| {
            let name = text(row, "name");
            let features = texts(row.get("other_config")).into_iter().filter(|(_, value)| value == "true");
            let features = features.map(|(key, _)| key).filter(|key| !SETTINGS.contains(&key.as_str())).collect();
            ChassisFacts { confirmed: number(&name).unwrap_or(0), hostname: text(row, "hostname"), features, name }
        });
        Ok(Some(SouthboundFacts { listeners: connections.iter().map(listener).collect(), chassis: chassis.collect() }))
    }

    /// The physical networks of the cluster's own provider router, and the chassis that carry them.
    ///
    /// # Errors
    /// Northbound or Southbound does not answer, has no leader, or Southbound is not configured.
    pub async fn uplinks(&self, cluster: ClusterId) -> Result<Vec<UplinkFacts>, EngineError> {
        let what = "read who carries the uplinks";
        let of_cluster = Value::map([(key::CLUSTER, cluster.to_string())]);
        let of_group = RowCondition::is(cluster_row(cluster, RowRole::ChassisGroup));
        let operations = vec![
            RowOperation::Select {
                table: SWITCH_PORT,
                condition: vec![
                    RowCondition::equal("type", Value::one("localnet")),
                    RowCondition::includes(EXTERNAL_IDS, of_cluster),
                ],
                columns: vec!["options", EXTERNAL_IDS],
            },
            RowOperation::Select { table: CHASSIS_GROUP, condition: vec![of_group], columns: vec!["ha_chassis"] },
            RowOperation::Select {
                table: GROUP_MEMBER,
                condition: Vec::new(),
                columns: vec![UUID, "chassis_name", "priority"],
            },
        ];
        let mut rows = self.read(what, operations).await?.into_iter().map(Outcome::rows);
        let mut next = || rows.next().unwrap_or_default();
        let (ports, groups, members) = (next(), next(), next());
        let ours: Vec<Uuid> = groups.iter().filter_map(|row| row.get("ha_chassis")).flat_map(Value::uuids).collect();
        let is_ours = |row: &&Row| row.get(UUID).is_some_and(|uuid| uuid.uuids().any(|uuid| ours.contains(&uuid)));
        let priority = |row: &Row| row.get("priority").and_then(Value::integer).unwrap_or(0);
        let members: Vec<_> =
            members.iter().filter(is_ours).map(|row| (text(row, "chassis_name"), priority(row))).collect();

        let Some(southbound) = &self.southbound else {
            let problem = "Southbound is not configured, and only there OVN writes it";
            return Err(engine_error(SOUTHBOUND, what, EngineFailure::Settings, problem, "set `ovn.southbound`"));
        };
        // The port of the router is bound where the packets are (`ovn-sb(5)`, `chassisredirect`).
        let bindings = RowOperation::Select {
            table: "Port_Binding",
            condition: vec![RowCondition::equal("type", Value::one("chassisredirect"))],
            columns: vec!["logical_port", "chassis"],
        };
        let chassis = RowOperation::Select { table: "Chassis", condition: Vec::new(), columns: vec![UUID, "name"] };
        let outcomes = southbound.transact(vec![bindings, chassis], Freshness::Current).await;
        let mut rows = outcomes.map_err(failed(SOUTHBOUND, what))?.into_iter().map(Outcome::rows);
        let (bindings, chassis) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
        let carrier = |place: u32| {
            let port = format!("cr-{}", name(cluster_row(cluster, RowRole::ProviderUplink(place))));
            let bound = bindings.iter().find(|row| text(row, "logical_port") == port)?.get("chassis")?;
            let at = bound.uuids().next()?;
            let row = chassis.iter().find(|row| row.get(UUID).is_some_and(|uuid| uuid.uuids().any(|it| it == at)))?;
            Some(text(row, "name"))
        };
        let uplink = |row: &Row| {
            let place = id(row, key::ROLE)?.strip_prefix("physical-port/")?.parse().ok()?;
            let network = row.get("options")?.get("network_name")?.to_owned();
            Some(UplinkFacts { network, members: members.clone(), carrier: carrier(place) })
        };
        Ok(ports.iter().filter_map(uplink).collect())
    }

    /// Reads this machine's Open vSwitch. None: it is not configured.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn inspect_switch(&self) -> Result<Option<SwitchFacts>, EngineError> {
        match &self.switch {
            Some(switch) => switch.inspect().await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks northd and every chassis to confirm a number of the configuration, and waits for them. `now`: seconds since
    /// 1970.
    ///
    /// # Errors
    /// Northbound does not answer, or is not initialised. That a number is not confirmed is no error.
    pub async fn progress(&self, now: i64, within: Duration) -> Result<ConfigurationProgress, EngineError> {
        let what = "ask northd and the chassis to confirm a configuration";
        let until = Instant::now() + within;
        let columns = PROGRESS.map(|column| (column, ColumnKind::Single)).to_vec();
        let monitor = Monitor { table: "NB_Global", condition: Vec::new(), columns };
        let mut watch = self.northbound.watch(monitor).await.map_err(failed(NORTHBOUND, what))?;
        let Some(mut seen) = watch.rows().values().next().map(progress) else {
            let (message, remedy) = ("Northbound is not initialised: NB_Global has no row", "run `ovn-nbctl init`");
            return Err(engine_error(NORTHBOUND, what, EngineFailure::Absent, message, remedy));
        };
        let (processed, at) = seen.northd;
        if processed >= seen.asked && !(0..RAISED_AGAIN).contains(&now.saturating_sub(at / 1000)) {
            seen.asked = self.raise_number(what).await?;
        }
        let asked = seen.asked;
        while seen.northd.0.min(seen.chassis.0) < asked {
            match timeout_at(until, watch.changed()).await {
                Ok(changed) => changed.map_err(failed(NORTHBOUND, what))?,
                Err(_) => break,
            }
            let changed = watch.rows().values().next().map(progress).unwrap_or_default();
            seen = ConfigurationProgress { asked, ..changed };
        }
        Ok(seen)
    }

    /// The routers and switches of the cluster's tenants, and the ports of a node's pods.
    ///
    /// # Errors
    /// Northbound does not answer, or has no leader.
    pub async fn owned(&self, cluster: ClusterId, node: &NodeName) -> Result<Vec<OwnedRow>, EngineError> {
        let of_cluster = [(key::CLUSTER, cluster.to_string())];
        let of_node = [
            (key::CLUSTER, cluster.to_string()),
            (key::ROLE, RowRole::PodPort.to_string()),
            (key::NODE, node.to_string()),
        ];
        let conditions = [(ROUTER, &of_cluster[..]), (SWITCH, &of_cluster), (SWITCH_PORT, &of_node)];
        let select = |(table, ids): &(&'static str, &[(&'static str, String)])| RowOperation::Select {
            table,
            condition: vec![RowCondition::includes(EXTERNAL_IDS, Value::map(ids.to_vec()))],
            columns: vec![UUID, EXTERNAL_IDS],
        };
        let what = format!("list the rows of cluster {cluster}");
        let outcomes = self.read(&what, conditions.iter().map(select).collect()).await?;
        let rows = conditions.iter().zip(outcomes).flat_map(|((table, _), outcome)| {
            // The cluster's own rows are of no tenant.
            outcome.rows().into_iter().filter_map(|row| owned(table, &row))
        });
        Ok(rows.collect())
    }
}

/// Keys of `other_config` of a chassis that follow from its settings (`ovn-controller(8)`).
const SETTINGS: [&str; 3] = ["ovn-monitor-all", "is-interconn", "ovn-enable-lflow-cache"];

const LISTENER: [&str; 2] = ["target", "inactivity_probe"];

const PROGRESS: [&str; 5] = [NUMBER, "sb_cfg", "sb_cfg_timestamp", "hv_cfg", "hv_cfg_timestamp"];

fn text(row: &Row, column: &str) -> String {
    row.get(column).and_then(Value::text).unwrap_or_default().to_owned()
}

fn listener(row: &Row) -> ListenerFacts {
    ListenerFacts { target: text(row, "target"), probe: row.get("inactivity_probe").and_then(Value::integer) }
}

fn progress(row: &Row) -> ConfigurationProgress {
    let number = |column| row.get(column).and_then(Value::integer).unwrap_or(0);
    ConfigurationProgress {
        asked: number(NUMBER),
        northd: (number("sb_cfg"), number("sb_cfg_timestamp")),
        chassis: (number("hv_cfg"), number("hv_cfg_timestamp")),
    }
}

fn owned(table: &'static str, row: &Row) -> Option<OwnedRow> {
    Some(OwnedRow {
        table,
        uuid: row.get(UUID)?.uuids().next()?,
        tenant: id(row, key::TENANT).unwrap_or_default().to_owned(),
        incarnation: Incarnation(id(row, key::INCARNATION)?.parse().ok()?),
        interface: id(row, key::INTERFACE).and_then(|name| IfName::new(name).ok()),
    })
}
