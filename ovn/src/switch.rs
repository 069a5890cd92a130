//! This machine's Open vSwitch: the host ends of pods on its bridge, and when their packets flow.
//!
//! # Guarantees
//! - A host end is connected by an Interface row that this call inserts. Readiness is believed of that row alone: one of an
//!   earlier call may still have the mark.
//! - A port of the bridge that is not ours is never changed.
//! - What a late request changes is the Interface that its call has seen: it neither replaces nor disconnects a later one.
//! - Nothing is polled, and no program of Open vSwitch is executed.

use std::net::IpAddr;
use std::time::Duration;

use atoll_model::ids::IfName;
use atoll_network::{DatapathNeeds, EngineError, EngineFailure, PortLocation, TunnelEnd};
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::{SWITCH, engine_error, failed};
use crate::facts::{BridgeFacts, HostEndFacts, SwitchFacts, TunnelFacts, texts};
use crate::names::{EXTERNAL_IDS, id, key, with};
use crate::ovsdb::{
    ColumnKind, Database, DatabaseError, Freshness, Monitor, Mutation, Outcome, RefusalKind, Row, RowCondition,
    RowOperation, RowWatch as _, Value,
};

/// The namespace of the ids of Port rows; a constant of this project.
const PORTS: Uuid = Uuid::from_u128(0x9a51_2f0e_44c7_4d0a_8c53_1ab8_e7d2_6603);

/// What ovn-controller writes when the flows of an Interface are installed (`ovn-controller(8)`).
const INSTALLED: &str = "ovn-installed";

/// The database of this machine's Open vSwitch.
pub struct Switch<D> {
    database: D,
    bridge: String,
}

impl<D: Database> Switch<D> {
    /// A bridge in a database.
    pub fn new(database: D, bridge: String) -> Self {
        Self { database, bridge }
    }

    /// Connects an interface of this machine with a logical port. Returns the Interface row, and what the datapath needs.
    pub(crate) async fn plug(
        &self,
        location: &PortLocation,
        port: Uuid,
        use_of: Use,
    ) -> Result<(Uuid, DatapathNeeds), EngineError> {
        let PortLocation { host, interface } = location;
        let what = format!("connect {interface} to bridge {}", self.bridge);
        let (row, own) = (Uuid::new_v4(), port_row(interface));
        let ids = with(ours(interface, use_of), key::IFACE_ID, port.to_string());
        let insert = RowOperation::Insert {
            table: "Interface",
            uuid: row,
            row: Row::from([("name", Value::one(interface.as_str())), (EXTERNAL_IDS, ids)]),
        };
        // The port asks for the claim's chassis. On another one its flows would never be installed.
        let chassis = RowOperation::Wait {
            table: "Open_vSwitch",
            condition: vec![RowCondition::excludes(EXTERNAL_IDS, Value::map([(SYSTEM_ID, host.as_str())]))],
            columns: vec![EXTERNAL_IDS],
            rows: Vec::new(),
        };
        let on_bridge = || vec![RowCondition::equal("name", Value::one(self.bridge.as_str()))];
        let bridge = RowOperation::Wait {
            table: "Bridge",
            condition: on_bridge(),
            columns: vec!["name"],
            rows: vec![Row::from([("name", Value::one(self.bridge.as_str()))])],
        };
        let datapath = RowOperation::Select { table: "Bridge", condition: on_bridge(), columns: vec![DATAPATH_TYPE] };
        let refer = RowOperation::Mutate {
            table: "Bridge",
            condition: on_bridge(),
            column: "ports",
            mutation: Mutation::Insert(Value::one(own)),
        };
        // What both attempts begin with.
        let common = [chassis, bridge, datapath, insert];
        let first = [
            RowOperation::Insert {
                table: "Port",
                uuid: own,
                row: Row::from([
                    ("name", Value::one(interface.as_str())),
                    (INTERFACES, Value::one(row)),
                    (EXTERNAL_IDS, ours(interface, use_of)),
                ]),
            },
            refer.clone(),
        ];
        let error = match self.write([&common[..], &first].concat()).await {
            Ok(outcomes) => return Ok((row, needs(outcomes))),
            Err(error) => error,
        };
        match refusal_at(&error) {
            Some((RefusalKind::Unmet, Some(0))) => {
                let own = self.system_id().await?.unwrap_or_else(|| "none".to_owned());
                let message = format!("the claim is of host {host}, and this machine's Open vSwitch is chassis {own}");
                let remedy = "correct `hostId`, or `system-id` in the external_ids of Open vSwitch";
                return Err(engine_error(SWITCH, what, EngineFailure::Settings, message, remedy));
            }
            Some((RefusalKind::Unmet, _)) => {
                let message = format!("bridge {} does not exist", self.bridge);
                let remedy = "check `ovn.bridge`, and that ovn-controller runs on this node";
                return Err(engine_error(SWITCH, what, EngineFailure::Absent, message, remedy));
            }
            Some((RefusalKind::Duplicate, _)) => {}
            Some((RefusalKind::Constraint, None)) => {
                let message = format!("another port of Open vSwitch is named {interface}: {error}");
                let remedy = "find its owner with `ovs-vsctl list Port`; Atoll changes no port of another owner";
                return Err(engine_error(SWITCH, what, EngineFailure::Conflict, message, remedy));
            }
            _ => return Err(failed(SWITCH, what)(error)),
        }
        // The port of an earlier call: it gets this Interface, and its own goes.
        let interfaces = self.interfaces(own).await.map_err(failed(SWITCH, &*what))?;
        let again = [
            RowOperation::wait_for("Port", own, Row::from([(INTERFACES, interfaces.unwrap_or_else(Value::none))])),
            RowOperation::Update {
                table: "Port",
                condition: vec![RowCondition::is(own)],
                row: Row::from([(INTERFACES, Value::one(row))]),
            },
            refer,
        ];
        let outcomes = self.write([&common[..], &again].concat()).await.map_err(failed(SWITCH, what))?;
        Ok((row, needs(outcomes)))
    }

    /// Takes an interface off the bridge. One that is not there, or not ours, is left alone.
    pub(crate) async fn unplug(&self, interface: &IfName) -> Result<(), EngineError> {
        let what = format!("disconnect {interface} from bridge {}", self.bridge);
        let own = port_row(interface);
        let Some(interfaces) = self.interfaces(own).await.map_err(failed(SWITCH, &*what))? else { return Ok(()) };
        let operations = vec![
            RowOperation::wait_for("Port", own, Row::from([(INTERFACES, interfaces)])),
            RowOperation::Mutate {
                table: "Bridge",
                condition: vec![RowCondition::includes("ports", Value::one(own))],
                column: "ports",
                mutation: Mutation::Delete(Value::one(own)),
            },
        ];
        self.write(operations).await.map(drop).map_err(failed(SWITCH, what))
    }

    /// The Interface rows of a Port row; none: there is no such port.
    async fn interfaces(&self, port: Uuid) -> Result<Option<Value>, DatabaseError> {
        let condition = vec![RowCondition::is(port)];
        let select = RowOperation::Select { table: "Port", condition, columns: vec![INTERFACES] };
        let outcomes = self.database.transact(vec![select], Freshness::Any).await?;
        Ok(outcomes.into_iter().flat_map(Outcome::rows).find_map(|mut row| row.remove(INTERFACES)))
    }

    /// The interfaces that are ours.
    pub(crate) async fn plugged(&self) -> Result<Vec<IfName>, EngineError> {
        let selects = [Use::Pod, Use::HostToPod].map(|use_of| RowOperation::Select {
            table: "Interface",
            condition: vec![RowCondition::includes(EXTERNAL_IDS, Value::map([(OWNER, use_of.text())]))],
            columns: vec!["name"],
        });
        let outcomes = self.database.transact(selects.to_vec(), Freshness::Any).await;
        let rows =
            outcomes.map_err(failed(SWITCH, "list the ports of the bridge"))?.into_iter().flat_map(Outcome::rows);
        Ok(rows.filter_map(|row| IfName::new(row.get("name")?.text()?).ok()).collect())
    }

    /// Waits until the packets of an Interface row are forwarded, at most `within`. False: they are not, or the row is gone.
    pub(crate) async fn wait_for(&self, row: Uuid, within: Duration) -> Result<bool, EngineError> {
        let what = "wait until the flows of a port are installed";
        let monitor = Monitor {
            table: "Interface",
            condition: vec![RowCondition::is(row)],
            columns: vec![(EXTERNAL_IDS, ColumnKind::Map)],
        };
        let installed = async {
            let mut watch = self.database.watch(monitor).await?;
            loop {
                match watch.rows().get(&row) {
                    None => return Ok(false),
                    Some(row) if id(row, INSTALLED) == Some("true") => return Ok(true),
                    Some(_) => watch.changed().await?,
                }
            }
        };
        match timeout(within, installed).await {
            Ok(installed) => installed.map_err(failed(SWITCH, what)),
            Err(_) => Ok(false),
        }
    }

    /// The identity of this machine's chassis; none: Open vSwitch has none.
    pub(crate) async fn system_id(&self) -> Result<Option<String>, EngineError> {
        let settings = self.settings("read the system id").await?;
        Ok(settings.iter().find_map(|row| id(row, SYSTEM_ID).map(str::to_owned)))
    }

    /// This machine's end of the tunnels, as ovn-controller is told.
    pub(crate) async fn tunnel(&self) -> Result<TunnelEnd, EngineError> {
        let what = "read the tunnels of this chassis";
        let settings = self.settings(what).await?;
        let text = |key| settings.iter().find_map(|row| id(row, key));
        tunnel_end(text(ENCAPSULATIONS), text(ENCAPSULATION_ADDRESS)).map_err(|problem| {
            let remedy = "correct it in the external_ids of Open vSwitch, or set `mtu` to a number";
            engine_error(SWITCH, what, EngineFailure::Settings, problem, remedy)
        })
    }

    async fn settings(&self, what: &str) -> Result<Vec<Row>, EngineError> {
        let select = RowOperation::Select { table: "Open_vSwitch", condition: Vec::new(), columns: vec![EXTERNAL_IDS] };
        let outcomes = self.database.transact(vec![select], Freshness::Any).await;
        Ok(outcomes.map_err(failed(SWITCH, what))?.into_iter().flat_map(Outcome::rows).collect())
    }

    /// Reads what an operator asks of it.
    pub(crate) async fn inspect(&self) -> Result<SwitchFacts, EngineError> {
        let all = |table, columns| RowOperation::Select { table, condition: Vec::new(), columns };
        let operations = vec![
            all("Open_vSwitch", vec![EXTERNAL_IDS, "ovs_version"]),
            RowOperation::Select {
                table: "Bridge",
                condition: vec![RowCondition::equal("name", Value::one(self.bridge.as_str()))],
                columns: vec![DATAPATH_TYPE, EXTERNAL_IDS],
            },
            all("Interface", vec!["name", "type", "options", "error", "link_state", "bfd_status", EXTERNAL_IDS]),
        ];
        let outcomes = self.database.transact(operations, Freshness::Any).await;
        let mut rows = outcomes.map_err(failed(SWITCH, "inspect it"))?.into_iter().map(Outcome::rows);
        let mut next = || rows.next().unwrap_or_default();
        let (own, bridges, interfaces) = (next(), next(), next());
        let text = |row: &Row, column| row.get(column).and_then(Value::text).map(str::to_owned);
        Ok(SwitchFacts {
            settings: texts(own.first().and_then(|row| row.get(EXTERNAL_IDS))),
            version: own.first().and_then(|row| text(row, "ovs_version")),
            bridge: bridges.first().map(|row| BridgeFacts {
                datapath: text(row, DATAPATH_TYPE).unwrap_or_default(),
                confirmed: id(row, CONFIRMED).and_then(|number| number.parse().ok()),
            }),
            tunnels: interfaces.iter().filter_map(tunnel).collect(),
            pods: interfaces.iter().filter_map(pod).collect(),
        })
    }

    async fn write(&self, operations: Vec<RowOperation>) -> Result<Vec<Outcome>, DatabaseError> {
        self.database.transact(operations, Freshness::Any).await
    }
}

/// The identity of a chassis, as Open vSwitch has it (`ovn-controller(8)`).
const SYSTEM_ID: &str = "system-id";
/// The number of the newest configuration that is installed, in `external_ids` of the bridge (`ovn-controller(8)`).
const CONFIRMED: &str = "ovn-nb-cfg";

/// Types of tunnels, separated by commas (`ovn-controller(8)`).
const ENCAPSULATIONS: &str = "ovn-encap-type";
/// Where they end; several are separated by commas (`ovn-controller(8)`).
const ENCAPSULATION_ADDRESS: &str = "ovn-encap-ip";

/// The end of tunnels. Of several types the one that takes most counts: the peer chooses.
fn tunnel_end(types: Option<&str>, addresses: Option<&str>) -> Result<TunnelEnd, String> {
    let types = types.ok_or_else(|| format!("{ENCAPSULATIONS} is not set"))?;
    let addresses = addresses.ok_or_else(|| format!("{ENCAPSULATION_ADDRESS} is not set"))?;
    let first = addresses.split(',').next().unwrap_or_default().trim();
    let address: IpAddr = first.parse().map_err(|_| format!("{ENCAPSULATION_ADDRESS} is {addresses:?}"))?;
    let headers = types.split(',').map(|name| match name.trim() {
        // UDP, RFC 8926 section 3 with the option of 8 bytes that OVN adds, and the frame's own header.
        "geneve" => Ok(8 + 8 + 8 + 14),
        // UDP, RFC 7348 section 5, and the frame's own header.
        "vxlan" => Ok(8 + 8 + 14),
        // TCP, `draft-davie-stt` section 3.2, and the frame's own header.
        "stt" => Ok(20 + 18 + 14),
        _ => Err(format!("{ENCAPSULATIONS} is {types:?}")),
    });
    let headers = headers.collect::<Result<Vec<u32>, _>>()?.into_iter().max().unwrap_or_default();
    Ok(TunnelEnd { address, overhead: headers + if address.is_ipv4() { 20 } else { 40 } })
}

const OWNER: &str = "atoll";

/// What an interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The host end of a pod.
    Pod,
    /// What stands behind a subnet's host-to-pod port.
    HostToPod,
}

impl Use {
    fn text(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::HostToPod => "host-to-pod",
        }
    }
}

/// The column of a Port that names its Interface.
const INTERFACES: &str = "interfaces";

/// The column of a bridge that says where its packets are forwarded; empty: in the kernel (`ovs-vswitchd.conf.db(5)`).
const DATAPATH_TYPE: &str = "datapath_type";

/// What the datapath of the bridge needs of a pod.
fn needs(outcomes: Vec<Outcome>) -> DatapathNeeds {
    let rows: Vec<Row> = outcomes.into_iter().flat_map(Outcome::rows).collect();
    let datapath = rows.iter().find_map(|row| row.get(DATAPATH_TYPE)?.text());
    DatapathNeeds { checksums: datapath == Some("netdev") }
}

/// An interface that is a tunnel to another chassis.
fn tunnel(row: &Row) -> Option<TunnelFacts> {
    let text = |column: &str| row.get(column).and_then(Value::text).map(str::to_owned);
    let remote = row.get("options")?.get("remote_ip")?;
    Some(TunnelFacts {
        name: text("name")?,
        remote: remote.to_owned(),
        error: text("error"),
        link: text("link_state"),
        bfd: row.get("bfd_status")?.get("state").map(str::to_owned),
    })
}

/// An interface that is the host end of a pod.
fn pod(row: &Row) -> Option<HostEndFacts> {
    let text = |column: &str| row.get(column).and_then(Value::text);
    (id(row, OWNER)? == Use::Pod.text()).then_some(())?;
    Some(HostEndFacts {
        interface: IfName::new(text("name")?).ok()?,
        error: text("error").map(str::to_owned),
        installed: id(row, INSTALLED) == Some("true"),
    })
}

/// `external_ids` of our rows.
fn ours(interface: &IfName, use_of: Use) -> Value {
    Value::map([(OWNER, use_of.text()), (key::INTERFACE, interface.as_str())])
}

/// The Port row of an interface: a repeated call finds it without looking.
fn port_row(interface: &IfName) -> Uuid {
    Uuid::new_v5(&PORTS, interface.as_str().as_bytes())
}

fn refusal_at(error: &DatabaseError) -> Option<(RefusalKind, Option<usize>)> {
    match error {
        DatabaseError::Refused { refused, .. } => Some((refused.refusal, refused.operation)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_takes_what_its_headers_do() {
        let end = |types, addresses| tunnel_end(types, addresses).map(|end| (end.address.to_string(), end.overhead));
        for (types, address, overhead) in [
            ("geneve", "192.0.2.1", 58),
            ("vxlan", "192.0.2.1", 50),
            ("stt", "192.0.2.1", 72),
            ("vxlan, geneve", "192.0.2.1", 58),
            ("geneve", "2001:db8::1", 78),
            ("vxlan", "2001:db8::1", 70),
        ] {
            assert_eq!(end(Some(types), Some(address)), Ok((address.to_owned(), overhead)));
        }
        let several = end(Some("geneve"), Some("192.0.2.1,192.0.2.2"));
        assert_eq!(several, Ok(("192.0.2.1".to_owned(), 58)));
        for (types, address) in [
            (None, Some("192.0.2.1")),
            (Some("geneve"), None),
            (Some("gre"), Some("192.0.2.1")),
            (Some(""), Some("192.0.2.1")),
            (Some("geneve"), Some("host")),
        ] {
            end(types, address).expect_err("no tunnel can be made of it");
        }
    }
}
