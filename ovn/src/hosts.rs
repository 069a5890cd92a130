//! Hosts: chassis of OVN.

use atoll_model::ids::HostId;
use atoll_network::{EngineError, HostState};

use crate::engine::Ovn;
use crate::error::{SOUTHBOUND, failed};
use crate::ovsdb::{Database, Freshness, Outcome, RowCondition, RowOperation, Value};

impl<D: Database> Ovn<D> {
    /// A chassis. OVN has no sign of life of its own: a chassis that exists counts as alive, and one that does not confirm a
    /// new configuration is found by `evict-node`.
    pub(crate) async fn chassis(&self, host: &HostId) -> Result<Option<HostState>, EngineError> {
        let Some(southbound) = &self.southbound else {
            // Only this machine's own chassis is known.
            let Some(switch) = &self.switch else { return Ok(None) };
            let own = switch.system_id().await?.filter(|own| own == host.as_str());
            return Ok(own.map(|name| HostState { name, alive: true }));
        };
        let condition = vec![RowCondition::equal("name", Value::one(host.as_str()))];
        let select = RowOperation::Select { table: "Chassis", condition, columns: vec!["hostname"] };
        let outcomes = southbound.transact(vec![select], Freshness::Current).await;
        let rows = outcomes.map_err(failed(SOUTHBOUND, format!("read chassis {host}")))?;
        let row = rows.into_iter().flat_map(Outcome::rows).next();
        Ok(row.map(|row| HostState {
            name: row.get("hostname").and_then(Value::text).unwrap_or_default().to_owned(),
            alive: true,
        }))
    }
}
