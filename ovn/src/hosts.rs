//! Hosts: chassis of OVN.
//!
//! OVN has no sign of life of its own: a chassis that died keeps its row. So a configuration number is raised in Northbound.
//! northd copies it to Southbound, and each chassis writes it into its own row once it has installed the flows of that
//! configuration (`ovn-nb(5)`, `NB_Global`, `nb_cfg`; `ovn-sb(5)`, `Chassis_Private`).
//!
//! # Guarantees
//! - A chassis that confirms a number that was raised after the question is alive.
//! - When [`Ovn::cut_off`] returns, no other chassis has a tunnel to the host: nothing that it sends is accepted.

use std::time::Duration;

use atoll_model::ids::HostId;
use atoll_network::{EngineError, EngineFailure, HostState};
use tokio::time::{Instant, timeout_at};

use crate::engine::{Ovn, Rounds};
use crate::error::{NORTHBOUND, SOUTHBOUND, SWITCH, engine_error, failed};
use crate::ovsdb::{
    ColumnKind, Database, DatabaseError, Freshness, Monitor, Outcome, Row, RowCondition, RowOperation, RowWatch as _,
    Value,
};

/// How long a chassis has for confirming a configuration before it counts as dead. An idle cluster takes a tenth of a second,
/// one of a thousand tenants with OVN 23.03 several seconds.
const CONFIRMATION: Duration = Duration::from_secs(15);

/// The number of a configuration.
pub(crate) const NUMBER: &str = "nb_cfg";

impl<D: Database> Ovn<D> {
    /// This machine's chassis: the system id in Open vSwitch, which ovn-controller takes as its name. It is read at each call,
    /// because connecting a pod compares it.
    pub(crate) async fn own_chassis(&self) -> Result<HostId, EngineError> {
        let failed = |problem: &str| {
            let remedy = "set `hostId`, or `ovs-vsctl set Open_vSwitch . external_ids:system-id=NAME`";
            engine_error(SWITCH, "read this machine's host id", EngineFailure::Settings, problem, remedy)
        };
        let Some(switch) = &self.switch else { return Err(failed("this process knows no Open vSwitch")) };
        let id = switch.system_id().await?.ok_or_else(|| failed("Open vSwitch has no system-id"))?;
        HostId::new(id).map_err(|error| failed(&error.to_string()))
    }

    /// A chassis, and whether it confirms a new configuration.
    pub(crate) async fn chassis(&self, host: &HostId) -> Result<Option<HostState>, EngineError> {
        let Some(southbound) = &self.southbound else {
            // Only this machine's own chassis is known.
            let Some(switch) = &self.switch else { return Ok(None) };
            let own = switch.system_id().await?.filter(|own| own == host.as_str());
            return Ok(own.map(|name| HostState { name, alive: true }));
        };
        let what = format!("read chassis {host}");
        let select = RowOperation::Select { table: "Chassis", condition: vec![named(host)], columns: vec!["hostname"] };
        let outcomes =
            southbound.transact(vec![select], Freshness::Current).await.map_err(failed(SOUTHBOUND, &*what))?;
        let Some(row) = outcomes.into_iter().flat_map(Outcome::rows).next() else { return Ok(None) };
        let silent = self.unconfirmed(southbound, &what, CONFIRMATION, |name| name == host.as_str()).await?;
        let name = row.get("hostname").and_then(Value::text).unwrap_or_default().to_owned();
        Ok(Some(HostState { name, alive: silent.is_empty() }))
    }

    /// Deletes the row of a chassis, and waits until every other chassis has confirmed that: from then on none of them has a
    /// tunnel to it. A host that is not cut off from Southbound makes its row again.
    pub(crate) async fn cut_off(&self, host: &HostId, within: Duration) -> Result<(), EngineError> {
        let what = format!("cut off chassis {host}");
        let Some(southbound) = &self.southbound else {
            let problem = "Southbound is not configured, and only there other chassis confirm it";
            return Err(engine_error(SOUTHBOUND, what, EngineFailure::Settings, problem, "set `ovn.southbound`"));
        };
        let delete = |table| RowOperation::Delete { table, condition: vec![named(host)] };
        let deleted = southbound.transact(vec![delete("Chassis"), delete("Chassis_Private")], Freshness::Any).await;
        deleted.map_err(failed(SOUTHBOUND, &*what))?;
        let silent = self.unconfirmed(southbound, &what, within, |name| name != host.as_str()).await?;
        if silent.is_empty() {
            return Ok(());
        }
        let message = format!("chassis {} did not confirm it within {} s", silent.join(", "), within.as_secs());
        let remedy = "check ovn-controller on these hosts, or evict them first";
        Err(engine_error(SOUTHBOUND, what, EngineFailure::Busy, message, remedy))
    }

    /// Raises the configuration number. The chassis, of those that are meant, which do not confirm it in time.
    async fn unconfirmed(
        &self,
        southbound: &D,
        what: &str,
        within: Duration,
        is_meant: impl Fn(&str) -> bool + Send,
    ) -> Result<Vec<String>, EngineError> {
        let until = Instant::now() + within;
        let number = self.raise_number(what).await?;
        let failed_to = |error: DatabaseError| failed(SOUTHBOUND, what)(error);
        let watch = |table, columns: &[(&'static str, ColumnKind)]| Monitor {
            table,
            condition: Vec::new(),
            columns: columns.to_vec(),
        };
        let has = |row: &Row| row.get(NUMBER).and_then(Value::integer).is_some_and(|there| there >= number);
        let mut global =
            southbound.watch(watch("SB_Global", &[(NUMBER, ColumnKind::Single)])).await.map_err(failed_to)?;
        while !global.rows().values().any(has) {
            let Ok(changed) = timeout_at(until, global.changed()).await else {
                let message = format!("northd did not process configuration {number} within {} s", within.as_secs());
                let remedy = "check that ovn-northd runs, and how long it takes";
                return Err(engine_error(NORTHBOUND, what, EngineFailure::Busy, message, remedy));
            };
            changed.map_err(failed_to)?;
        }
        let columns = [("name", ColumnKind::Single), (NUMBER, ColumnKind::Single)];
        let mut chassis = southbound.watch(watch("Chassis_Private", &columns)).await.map_err(failed_to)?;
        loop {
            let silent = chassis.rows().values().filter(|row| !has(row));
            let names = silent.filter_map(|row| row.get("name").and_then(Value::text));
            let silent: Vec<String> = names.filter(|name| is_meant(name)).map(str::to_owned).collect();
            if silent.is_empty() {
                return Ok(silent);
            }
            match timeout_at(until, chassis.changed()).await {
                Ok(changed) => changed.map_err(failed_to)?,
                Err(_) => return Ok(silent),
            }
        }
    }

    /// Raises the number of the configuration in Northbound. Returns it.
    pub(crate) async fn raise_number(&self, what: &str) -> Result<i64, EngineError> {
        let mut rounds = Rounds::of(what);
        loop {
            rounds.begin()?;
            let select = RowOperation::Select { table: "NB_Global", condition: Vec::new(), columns: vec![NUMBER] };
            let rows = self.read(what, vec![select]).await?.into_iter().flat_map(Outcome::rows);
            let Some(number) = rows.into_iter().find_map(|row| row.get(NUMBER)?.integer()) else {
                let (message, remedy) = ("Northbound is not initialised: NB_Global has no row", "run `ovn-nbctl init`");
                return Err(engine_error(NORTHBOUND, what, EngineFailure::Absent, message, remedy));
            };
            let row = |number: i64| Row::from([(NUMBER, Value::one(number))]);
            let operations = vec![
                RowOperation::Wait {
                    table: "NB_Global",
                    condition: Vec::new(),
                    columns: vec![NUMBER],
                    rows: vec![row(number)],
                },
                RowOperation::Update { table: "NB_Global", condition: Vec::new(), row: row(number + 1) },
            ];
            if self.change(what, operations).await?.is_some() {
                return Ok(number + 1);
            }
        }
    }
}

fn named(host: &HostId) -> RowCondition {
    RowCondition::equal("name", Value::one(host.as_str()))
}
