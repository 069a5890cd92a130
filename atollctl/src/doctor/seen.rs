//! The state of a node: the input of the judgement, without any result. Plain data.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use atoll_model::config::Config;
use atoll_model::error::{Classify, causes};
use atoll_model::ids::{Incarnation, NetworkName};
use atoll_ovn::ovsdb::MemberState;
use atoll_ovn::{ConfigurationProgress, NorthboundFacts, OwnedRow, SouthboundFacts, SwitchFacts};
use atoll_records::{ClaimRecord, ClusterRecord, NodeRecord, TombstoneRecord, Versioned};
use atoll_store::etcd::MemberStatus;
use atoll_tenant::Node;
use serde_json::Value;

use super::names::Names;
use crate::gc::sandboxes::Sandboxes;
use crate::links::HostEnd;
use crate::nodefiles::{LocalTombstone, ObservedAttachment};
use crate::runtime::PLUGIN;
use crate::runtime::Runtime;

/// Why a part of the state could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    pub(crate) fn of(error: &impl Classify) -> Self {
        let text = std::iter::once(error.to_string()).chain(causes(error)).collect::<Vec<_>>().join(": ");
        Self { text, hint: error.hint() }
    }
}

pub(crate) type Probed<T> = Result<T, Problem>;

/// The state of a node.
pub(crate) struct DoctorEvidence {
    /// Seconds since 1970.
    pub(crate) now: u64,
    /// The file of the configuration, and what is in it.
    pub(crate) config: Probed<(PathBuf, Config)>,
    /// The names of this machine; none without a configuration or without a name.
    pub(crate) names: Option<Names>,
    /// What the configuration names; none without one.
    pub(crate) site: Option<Site>,
    /// The container runtimes of this machine.
    pub(crate) runtimes: Vec<Runtime>,
    /// One for each place where plugins are looked for.
    pub(crate) plugins: Vec<PluginBinary>,
    /// One for each place where network configurations are looked for.
    pub(crate) conflists: Vec<Conflists>,
    /// The containers of this machine, read after the claims; none: there is no runtime or list.
    pub(crate) sandboxes: Probed<Option<Sandboxes>>,
    /// A kubelet has worked on this machine.
    pub(crate) has_kubelet: bool,
    pub(crate) kernel: KernelSupport,
}

/// What a configuration names: servers, files, this node's records.
pub(crate) struct Site {
    pub(crate) machine: Probed<Node>,
    /// The network's name, which the list gives.
    pub(crate) network: Option<NetworkName>,
    pub(crate) secrets: Vec<SecretFile>,
    pub(crate) certificates: Vec<CertificateFile>,
    pub(crate) etcd: Vec<EtcdEndpoint>,
    pub(crate) engine: EngineEvidence,
    pub(crate) records: Probed<Records>,
    pub(crate) links: Probed<Vec<HostEnd>>,
    pub(crate) attachment_states: Probed<Vec<ObservedAttachment>>,
    pub(crate) local_tombstones: Probed<Vec<LocalTombstone>>,
}

/// The servers of the engine.
pub(crate) enum EngineEvidence {
    MidoNet(MidoNetEvidence),
    Ovn(Box<OvnEvidence>),
}

/// MidoNet's controllers, and their records of this machine.
pub(crate) struct MidoNetEvidence {
    pub(crate) controllers: Vec<ControllerEndpoint>,
    pub(crate) host: Probed<HostRecords>,
}

/// The databases of OVN, and this machine's Open vSwitch.
pub(crate) struct OvnEvidence {
    /// The configured members of Northbound and Southbound.
    pub(crate) members: Vec<DatabaseMember>,
    pub(crate) northbound: Probed<NorthboundFacts>,
    /// None: it is not configured.
    pub(crate) southbound: Probed<Option<SouthboundFacts>>,
    pub(crate) progress: Probed<ConfigurationProgress>,
    /// The version of this machine's ovn-controller; none: it did not answer.
    pub(crate) controller: Option<String>,
    /// Read after the claims, and before the files of attachments.
    pub(crate) switch: Probed<SwitchFacts>,
    /// Networks, and ports of this node's pods; read when `switch` is.
    pub(crate) owned: Probed<Vec<OwnedRow>>,
    /// The tenants that have a record; read after `owned`.
    pub(crate) incarnations: Probed<BTreeSet<Incarnation>>,
}

/// One member of a database, queried by itself.
pub(crate) struct DatabaseMember {
    pub(crate) url: String,
    pub(crate) database: &'static str,
    /// How long its answer took, with the connection, and how it describes its copy.
    pub(crate) state: Probed<(Duration, MemberState)>,
    /// The highest index that any member had before this one was asked again.
    pub(crate) newest: Option<i64>,
}

/// A file that only its owner may read.
pub(crate) struct SecretFile {
    /// The key of the configuration that names it.
    pub(crate) setting: &'static str,
    pub(crate) path: PathBuf,
    /// Its mode.
    pub(crate) mode: Probed<u32>,
}

/// A PEM file.
pub(crate) struct CertificateFile {
    pub(crate) setting: &'static str,
    pub(crate) path: PathBuf,
    /// Begin and end of its validity, seconds since 1970.
    pub(crate) validity: Probed<(u64, u64)>,
}

/// One endpoint of etcd, queried by itself.
pub(crate) struct EtcdEndpoint {
    pub(crate) url: String,
    pub(crate) member: Probed<MemberStatus>,
    /// How long a linearizable read took, which a majority of the members had to agree to.
    pub(crate) read: Probed<Duration>,
    /// Its clock less ours, seconds.
    pub(crate) clock: Option<i64>,
}

/// One endpoint of the controller, queried by itself.
pub(crate) struct ControllerEndpoint {
    pub(crate) url: String,
    /// How long the root document took, and the dialect that it names.
    pub(crate) root: Probed<(Duration, String)>,
    /// A request that needs a login.
    pub(crate) login: Probed<()>,
    /// Whether it accepts changes.
    pub(crate) writable: Probed<bool>,
    /// Its clock less ours, seconds.
    pub(crate) clock: Option<i64>,
}

/// The controller's records of this machine.
pub(crate) struct HostRecords {
    /// Its name and whether its agent is alive; none: it is not registered.
    pub(crate) found: Option<(String, bool)>,
    /// The tunnel zones that it is in.
    pub(crate) zones: Vec<String>,
}

/// The records in etcd.
pub(crate) struct Records {
    pub(crate) cluster: Option<ClusterRecord>,
    /// The difference between the cluster's record and this node's file.
    pub(crate) disagreement: Option<Problem>,
    pub(crate) node: Option<NodeRecord>,
    /// Why this machine must not use its name.
    pub(crate) impostor: Option<Problem>,
    /// The claims of this node.
    pub(crate) claims: Vec<Versioned<ClaimRecord>>,
    /// The tombstones of this node, and of all others if they may be read.
    pub(crate) tombstones: Vec<TombstoneRecord>,
    /// Records of this node that cannot be read.
    pub(crate) damaged: Vec<String>,
}

/// The plugin's binary, where one reader looks for it.
pub(crate) struct PluginBinary {
    /// The runtimes that search it; empty if no runtime is known.
    pub(crate) readers: String,
    /// Where it was looked for.
    pub(crate) directories: Vec<PathBuf>,
    /// Where it is, with the version it reports.
    pub(crate) found: Option<(PathBuf, Probed<String>)>,
    /// Where else it is, if it is not where it is looked for.
    pub(crate) elsewhere: Option<PathBuf>,
    /// Other plugins that a network names, and that are not there.
    pub(crate) missing: Vec<String>,
}

/// A directory of network configurations.
pub(crate) struct Conflists {
    /// The runtimes that search it; empty if no runtime is known.
    pub(crate) readers: String,
    pub(crate) directory: PathBuf,
    /// Its files in the order in which runtimes take them.
    pub(crate) files: Probed<Vec<Conflist>>,
}

/// A network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflist {
    pub(crate) path: PathBuf,
    /// What is wrong with it; it may belong to another plugin.
    pub(crate) content: Probed<ConfigurationContent>,
}

/// What is in a network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigurationContent {
    /// A list, or the configuration of one plugin.
    pub(crate) is_list: bool,
    pub(crate) name: Option<String>,
    /// `cniVersion` and `cniVersions`.
    pub(crate) versions: Vec<String>,
    /// The types of the plugins, in their order.
    pub(crate) plugins: Vec<String>,
    /// Why our entry in it is refused.
    pub(crate) refused: Option<String>,
    /// Capabilities that our entry declares and that Atoll does not serve, each with what to do about it.
    pub(crate) unserved: Vec<(String, &'static str)>,
    /// All of it.
    pub(crate) document: Value,
}

impl Conflists {
    /// The first configuration that has our plugin, with what is in it.
    pub(crate) fn ours(&self) -> Option<(&Conflist, &ConfigurationContent)> {
        let files = self.files.as_ref().map(Vec::as_slice).unwrap_or_default();
        let with_content = files.iter().filter_map(|file| Some((file, file.content.as_ref().ok()?)));
        with_content.into_iter().find(|(_, content)| content.plugins.iter().any(|plugin| plugin == PLUGIN))
    }
}

/// What the kernel can do.
pub(crate) struct KernelSupport {
    pub(crate) netns: Probed<()>,
    pub(crate) veth: Probed<()>,
    /// The local data plane is in use: can it make tables and bridges?
    pub(crate) plane: Option<PlaneSupport>,
}

/// What the local data plane needs.
pub(crate) struct PlaneSupport {
    pub(crate) nftables: Probed<()>,
    pub(crate) bridge: Probed<()>,
}
