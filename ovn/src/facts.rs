//! What an operator asks of OVN, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::ids::{IfName, Incarnation};
use uuid::Uuid;

use crate::ovsdb::{Atom, Value};

/// The Northbound database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NorthboundFacts {
    /// The version of northd: `23.03.1-20.27.0-70.6`; none: northd has never worked on it.
    pub version: Option<String>,
    /// Routers of all owners: what northd's work grows with.
    pub routers: usize,
    /// Where it listens.
    pub listeners: Vec<ListenerFacts>,
    /// The chassis that can carry the cluster's own uplinks; none: the provider router is adopted.
    pub gateways: Vec<String>,
}

/// The Southbound database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SouthboundFacts {
    /// Where it listens.
    pub listeners: Vec<ListenerFacts>,
    /// The chassis.
    pub chassis: Vec<ChassisFacts>,
}

/// A row of the table Connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFacts {
    /// Where: `pssl:6641`.
    pub target: String,
    /// Its inactivity probe, milliseconds; none: the default.
    pub probe: Option<i64>,
}

/// A chassis, as Southbound has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChassisFacts {
    /// Its name: the system id of its host.
    pub name: String,
    /// The name of its host.
    pub hostname: String,
    /// The number of the newest configuration that it has confirmed.
    pub confirmed: i64,
    /// What its ovn-controller has announced that it can do: keys of `other_config` that are `true`. Southbound has no version
    /// of it.
    pub features: BTreeSet<String>,
}

/// A physical network that the cluster's own provider router is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkFacts {
    /// The network.
    pub network: String,
    /// The chassis that can carry it, with their priorities: of those that are up, the one with the highest does.
    pub members: Vec<(String, i64)>,
    /// The chassis that carries it now; none: no chassis does.
    pub carrier: Option<String>,
}

/// How far a number of the configuration has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationProgress {
    /// The number that was waited for.
    pub asked: i64,
    /// The number that northd has processed, and when: milliseconds since 1970, 0 if never.
    pub northd: (i64, i64),
    /// The number that every chassis has confirmed, and when.
    pub chassis: (i64, i64),
}

/// This machine's Open vSwitch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchFacts {
    /// `external_ids`, which configure ovn-controller.
    pub settings: BTreeMap<String, String>,
    /// Its version; none: its scripts did not write it.
    pub version: Option<String>,
    /// The bridge for pods; none: there is none of this name.
    pub bridge: Option<BridgeFacts>,
    /// The tunnels to other chassis.
    pub tunnels: Vec<TunnelFacts>,
    /// The host ends of pods.
    pub pods: Vec<HostEndFacts>,
}

/// The bridge for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeFacts {
    /// Its datapath; empty: that of the kernel.
    pub datapath: String,
    /// The number of the newest configuration that this machine's ovn-controller has installed; none: none yet.
    pub confirmed: Option<i64>,
}

/// A tunnel to another chassis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelFacts {
    /// The interface.
    pub name: String,
    /// The address of the other chassis.
    pub remote: String,
    /// Why it could not be made.
    pub error: Option<String>,
    /// `up` or `down`.
    pub link: Option<String>,
    /// The state of its BFD session; none: none is configured.
    pub bfd: Option<String>,
}

/// The host end of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEndFacts {
    /// Its name.
    pub interface: IfName,
    /// Why Open vSwitch could not take it.
    pub error: Option<String>,
    /// ovn-controller has installed its flows.
    pub installed: bool,
}

/// A row of ours in Northbound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRow {
    /// The table.
    pub table: &'static str,
    /// Its identity.
    pub uuid: Uuid,
    /// The tenant that it was made for.
    pub tenant: String,
    /// That tenant's incarnation.
    pub incarnation: Incarnation,
    /// The host end, of a pod's port.
    pub interface: Option<IfName>,
}

/// The pairs of a map whose keys and values are strings.
pub(crate) fn texts(map: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = match map {
        Some(Value::Map(pairs)) => Some(pairs.iter()),
        _ => None,
    };
    let pairs = pairs.into_iter().flatten().filter_map(|(key, value)| match (key, value) {
        (Atom::Text(key), Atom::Text(value)) => Some((key.clone(), value.clone())),
        _ => None,
    });
    pairs.collect()
}
