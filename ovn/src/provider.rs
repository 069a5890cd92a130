//! The provider router: made by us, or an operator's.
//!
//! # Guarantees
//! - The uplinks of a provider router of our own are ports in physical networks, reached through `ovn-bridge-mappings` of the
//!   chassis. One network is one port, and the hosts that have it are members of one group: one of them carries it at a time.
//! - An uplink that cannot work is refused with the reason, before any effect.

use std::collections::BTreeMap;

use atoll_model::derive;
use atoll_model::ids::HostId;
use atoll_network::{Applied, EngineError, EngineFailure, ProviderCandidate, ProviderNetwork, ProviderUplink};
use uuid::Uuid;

use crate::compare::{Look, Seen, drift, mend};
use crate::engine::{Ovn, Rounds};
use crate::error::{NORTHBOUND, engine_error};
use crate::names::{EXTERNAL_IDS, RowRole, cluster_owner, cluster_row, id, key, name};
use crate::network::{applied, refuse_foreign};
use crate::ovsdb::{Database, Outcome, Row, RowCondition, RowOperation, UUID, Value};
use crate::rows::{
    CHASSIS_GROUP, GROUP_MEMBER, Parent, ROUTER, ROUTER_PORT, SHARED, STATIC_ROUTE, SWITCH, SWITCH_PORT, WantedRow,
    everything, family,
};

/// The priority of the first member of a group (`ovn-nb(5)`, `HA_Chassis`: 0 to 32767, the highest is preferred).
const FIRST_PRIORITY: i64 = 100;

impl<D: Database> Ovn<D> {
    pub(crate) async fn make_provider(&self, provider: &ProviderNetwork) -> Result<Applied, EngineError> {
        let what = format!("ensure provider router {}", cluster_row(provider.cluster, RowRole::ProviderRouter));
        let wanted = provider_rows(provider).map_err(|problem| {
            let remedy = "name for each network one address, and every host that reaches the network";
            engine_error(NORTHBOUND, &*what, EngineFailure::Invalid, problem, remedy)
        })?;
        let mut rounds = Rounds::of(&what);
        loop {
            rounds.begin()?;
            let looks = Look::all(&wanted, &[]);
            let seen = Seen::read(&looks, self.read(&what, Seen::operations(&looks)).await?);
            refuse_foreign(&what, &wanted, &seen)?;
            let applied = applied(&wanted, &drift(&wanted, &seen), rounds.begun);
            let operations = mend(&wanted, &seen);
            if operations.is_empty() {
                return Ok(applied);
            }
            if self.change(&what, operations).await?.is_some() {
                return Ok(applied);
            }
        }
    }

    pub(crate) async fn all_routers(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        let condition = Vec::new();
        let select = RowOperation::Select { table: ROUTER, condition, columns: vec![UUID, "name", EXTERNAL_IDS] };
        let rows = self.read("list the routers", vec![select]).await?;
        Ok(rows.into_iter().flat_map(Outcome::rows).filter_map(|row| candidate(&row)).collect())
    }

    /// Routers with a gateway port that are not a tenant's.
    pub(crate) async fn possible_providers(&self) -> Result<Vec<ProviderCandidate>, EngineError> {
        let select = |table, columns: &[&'static str]| RowOperation::Select {
            table,
            condition: Vec::new(),
            columns: columns.to_vec(),
        };
        let with_group = RowOperation::Select {
            table: ROUTER_PORT,
            condition: vec![RowCondition::differs("ha_chassis_group", Value::none())],
            columns: vec![UUID],
        };
        let operations = vec![select(ROUTER, &[UUID, "name", "ports", EXTERNAL_IDS]), with_group];
        let mut outcomes = self.read("find the provider router", operations).await?.into_iter().map(Outcome::rows);
        let (routers, ports) = (outcomes.next().unwrap_or_default(), outcomes.next().unwrap_or_default());
        let gateways: Vec<Uuid> = ports.iter().filter_map(|row| row.get(UUID)).flat_map(Value::uuids).collect();
        let has_gateway =
            |row: &&Row| row.get("ports").is_some_and(|ports| ports.uuids().any(|port| gateways.contains(&port)));
        let is_tenants = |row: &&Row| id(row, key::INCARNATION).is_some();
        let possible = routers.iter().filter(|row| !is_tenants(row)).filter(has_gateway);
        Ok(possible.filter_map(candidate).collect())
    }
}

fn candidate(row: &Row) -> Option<ProviderCandidate> {
    Some(ProviderCandidate {
        id: row.get(UUID)?.uuids().next()?,
        name: row.get("name").and_then(Value::text).unwrap_or_default().to_owned(),
        tenant: id(row, key::TENANT).unwrap_or_default().to_owned(),
    })
}

/// The rows of a provider router of our own. Pure.
///
/// # Errors
/// Why the uplinks cannot work.
pub fn provider_rows(provider: &ProviderNetwork) -> Result<Vec<WantedRow>, String> {
    // Each physical network with one uplink for each family.
    let mut networks: BTreeMap<&str, Vec<&ProviderUplink>> = BTreeMap::new();
    for uplink in &provider.uplinks {
        let network = networks.entry(uplink.interface.as_str()).or_default();
        match network.iter().find(|known| known.address.is_ipv4() == uplink.address.is_ipv4()) {
            None => network.push(uplink),
            Some(known) if (known.address, known.gateway) != (uplink.address, uplink.gateway) => {
                return Err(format!(
                    "uplinks of network {} have two addresses, {} on host {} and {} on host {}: in OVN a network is one \
                     port, and its address moves to the host that carries it",
                    uplink.interface, known.address, known.host, uplink.address, uplink.host
                ));
            }
            Some(_) => {}
        }
    }
    let cluster = provider.cluster;
    let router = cluster_row(cluster, RowRole::ProviderRouter);
    let group = cluster_row(cluster, RowRole::ChassisGroup);
    let make = |table, role, parent, columns: Vec<(&'static str, Value)>| {
        let mut row = Row::from_iter(columns);
        row.insert(EXTERNAL_IDS, cluster_owner(cluster, role));
        WantedRow { table, uuid: cluster_row(cluster, role), role, row, shared: SHARED, parent }
    };
    let mut rows = vec![
        make(CHASSIS_GROUP, RowRole::ChassisGroup, None, vec![("name", Value::one(name(group)))]),
        make(ROUTER, RowRole::ProviderRouter, None, vec![("name", Value::one(name(router)))]),
    ];
    let mut hosts: Vec<&HostId> = provider.uplinks.iter().map(|uplink| &uplink.host).collect();
    let mut known: Vec<&HostId> = Vec::new();
    hosts.retain(|host| {
        !known.contains(host) && {
            known.push(host);
            true
        }
    });
    for (place, host) in (0_u32..).zip(hosts) {
        let parent = Parent { table: CHASSIS_GROUP, uuid: group, column: "ha_chassis" };
        let priority = FIRST_PRIORITY.saturating_sub(i64::from(place)).max(1);
        let columns = vec![("chassis_name", Value::one(host.as_str())), ("priority", Value::one(priority))];
        rows.push(make(GROUP_MEMBER, RowRole::GroupMember(place), Some(parent), columns));
    }
    for (place, (network, uplinks)) in (0_u32..).zip(&networks) {
        let [switch, port, far] =
            [RowRole::UplinkSwitch(place), RowRole::ProviderUplink(place), RowRole::UplinkRouterPort(place)]
                .map(|role| cluster_row(cluster, role));
        let in_switch = Parent { table: SWITCH, uuid: switch, column: "ports" };
        let in_router = |column| Parent { table: ROUTER, uuid: router, column };
        rows.push(make(SWITCH, RowRole::UplinkSwitch(place), None, vec![("name", Value::one(name(switch)))]));
        let physical = cluster_row(cluster, RowRole::PhysicalPort(place));
        rows.push(make(
            SWITCH_PORT,
            RowRole::PhysicalPort(place),
            Some(in_switch),
            vec![
                ("name", Value::one(name(physical))),
                ("type", Value::one("localnet")),
                ("addresses", Value::set(["unknown"])),
                ("options", Value::map([("network_name", *network)])),
            ],
        ));
        rows.push(make(
            ROUTER_PORT,
            RowRole::ProviderUplink(place),
            Some(in_router("ports")),
            vec![
                ("name", Value::one(name(port))),
                ("mac", Value::one(derive::mac(port).to_string())),
                ("networks", Value::set(uplinks.iter().map(|uplink| uplink.address.to_string()))),
                ("ha_chassis_group", Value::one(group)),
            ],
        ));
        rows.push(make(
            SWITCH_PORT,
            RowRole::UplinkRouterPort(place),
            Some(in_switch),
            vec![
                ("name", Value::one(name(far))),
                ("type", Value::one("router")),
                ("addresses", Value::set(["router"])),
                ("options", Value::map([("router-port", name(port))])),
            ],
        ));
        rows.extend(uplinks.iter().map(|uplink| {
            make(
                STATIC_ROUTE,
                RowRole::ProviderDefaultRoute(place, family(uplink.gateway)),
                Some(in_router("static_routes")),
                vec![
                    ("ip_prefix", Value::one(everything(uplink.gateway))),
                    ("nexthop", Value::one(uplink.gateway.to_string())),
                    ("output_port", Value::one(name(port))),
                ],
            )
        }));
    }
    Ok(rows)
}
