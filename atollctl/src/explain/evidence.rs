//! Collects the facts about a pod, an address or a container.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use atoll_ipam::observe;
use atoll_model::attachment::Attachment;
use atoll_model::config::Config;
use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};
use atoll_records::{AddressState, Phase, Query, TombstoneRecord};
use atoll_store::Store;
use atoll_tenant::inventory::{Inventory, ListedPod};
use atoll_tenant::machine;
use serde::Serialize;
use serde_json::Value;

use super::log::{self, Line};
use crate::failure::Failure;
use crate::inventory::{ask, engine_of, phase};
use crate::links::{self, HostEnd};
use crate::nodefiles::{self, AddState, Lock, ObservedAttachment};
use crate::settings::Settings;
use crate::subnet::room;

/// The shortest prefix of a container's id that identifies it.
const SHORTEST: usize = 6;

/// The subject of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `10.128.3.7`
    Address(IpAddr),
    /// `red/web-0`
    Pod(String, String),
    /// `web-0`, or the beginning of a container's id
    Name(String),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [name] if !name.is_empty() => Ok(Self::Name((*name).to_owned())),
            [namespace, pod] if !namespace.is_empty() && !pod.is_empty() => {
                Ok(Self::Pod((*namespace).to_owned(), (*pod).to_owned()))
            }
            _ => Err("NAMESPACE/POD, a pod's name, a container's id or an IPv4 address is expected".to_owned()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::Pod(namespace, pod) => write!(f, "pod {namespace}/{pod}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

impl Subject {
    fn means(&self, pod: &ListedPod) -> bool {
        match self {
            Self::Address(address) => pod.address.ip() == *address,
            Self::Pod(namespace, name) => {
                pod.namespace.as_ref().is_some_and(|found| found.as_str() == namespace)
                    && pod.pod.as_ref() == Some(name)
            }
            Self::Name(name) => pod.pod.as_ref() == Some(name) || self.is_container(&pod.container),
        }
    }

    fn is_container(&self, container: &str) -> bool {
        matches!(self, Self::Name(name) if container == name || (name.len() >= SHORTEST && container.starts_with(name)))
    }

    /// Whether a line of the log concerns it or one of these containers.
    fn concerns(&self, line: &Value, containers: &[String]) -> bool {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let attachment = text("attachment").split('/').nth(2).unwrap_or_default();
        let ids = [text("container"), attachment];
        let named = match self {
            Self::Pod(namespace, pod) => {
                (text("namespace") == namespace && text("pod") == pod) || text("pod") == format!("{namespace}/{pod}")
            }
            Self::Name(name) => text("pod") == name,
            Self::Address(_) => false,
        };
        named || ids.iter().any(|id| !id.is_empty() && (self.is_container(id) || containers.iter().any(|c| c == id)))
    }
}

/// The progress of an ADD, from its attachment state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddProgress {
    /// `adding`, `done` or `unreadable`.
    pub(super) state: &'static str,
    /// A call works on it now.
    pub(super) locked: bool,
    /// How long ago it was written, seconds.
    pub(super) age: u64,
}

impl AddProgress {
    fn of(file: &ObservedAttachment, now: u64) -> Self {
        let state = match file.phase {
            AddState::Adding(_) => "adding",
            AddState::Done(_) => "done",
            AddState::Unreadable => "unreadable",
        };
        Self { state, locked: file.lock == Lock::Held, age: now.saturating_sub(file.written) }
    }

    pub(super) fn text(&self) -> String {
        format!("{}{}, {} s ago", self.state, if self.locked { ", a call works on it" } else { "" }, self.age)
    }
}

/// One attachment that has a claim. The shape of its JSON is stable.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct One {
    /// The content of the claim, and the state of the port.
    #[serde(flatten)]
    pub(super) pod: ListedPod,
    /// It is on this node, so that its interface and files could be read.
    pub(super) is_here: bool,
    /// Its host end, where it is on this node.
    pub(super) link: Option<HostEnd>,
    pub(super) attachment_state: Option<AddProgress>,
    pub(super) tombstone: Option<TombstoneInfo>,
    /// Lifecycle phase of its tenant.
    pub(super) tenant_phase: Option<&'static str>,
}

/// A tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TombstoneInfo {
    pub(super) attachment: String,
    pub(super) node: String,
    pub(super) note: String,
    pub(super) since: u64,
    pub(super) not_before: u64,
}

impl TombstoneInfo {
    fn of(record: &TombstoneRecord) -> Self {
        Self {
            attachment: record.attachment.to_string(),
            node: record.attachment.node.to_string(),
            note: record.note.clone(),
            since: record.since,
            not_before: record.not_before,
        }
    }
}

/// The state of an address that no attachment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AddressIs {
    CoolDown,
    Reserved,
    Gateway,
    Free,
    /// In no subnet of any tenant.
    Nowhere,
}

/// The tenant of a namespace and its free addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NamespaceIs {
    pub(super) name: String,
    /// The tenant that it belongs to.
    pub(super) tenant: Option<String>,
    pub(super) phase: Option<&'static str>,
    /// Addresses of its tenant that are claimed.
    pub(super) taken: usize,
    /// Addresses that its tenant has for pods.
    pub(super) room: u128,
}

/// The facts about the subject of a question.
pub(super) struct Evidence {
    pub(super) asked: Subject,
    pub(super) node: Option<NodeName>,
    /// Deadline of one call, seconds.
    pub(super) deadline: u64,
    pub(super) attachments: Vec<One>,
    /// Tombstones without a claim.
    pub(super) tombstones: Vec<TombstoneInfo>,
    pub(super) address: Option<AddressIs>,
    pub(super) namespace: Option<NamespaceIs>,
    pub(super) log: Vec<Line>,
    /// Why the log could not be read.
    pub(super) no_log: Option<String>,
}

impl Evidence {
    /// No record, file or log line names it.
    pub(super) fn is_nothing(&self) -> bool {
        self.attachments.is_empty()
            && self.tombstones.is_empty()
            && self.log.is_empty()
            && self.address.is_none_or(|address| address == AddressIs::Nowhere)
            && self.namespace.as_ref().is_none_or(|namespace| namespace.tenant.is_none())
    }

    pub(super) async fn collect(settings: &Settings, asked: &Subject, offline: bool) -> Result<Self, Failure> {
        let store = settings.store()?;
        let inventory = Inventory::read(&store).await?;
        let tombstones = tombstones(&store).await?;
        let now = atoll_model::clock::now();
        let node = machine::name(&settings.config).ok();
        let mut pods: Vec<ListedPod> = inventory.pods().filter(|pod| asked.means(pod)).cloned().collect();
        if !offline {
            ask(&engine_of(settings, &inventory)?, pods.iter_mut()).await;
        }
        let here = Here::read(&settings.config);
        let attachments: Vec<One> = pods
            .into_iter()
            .map(|pod| {
                let attachment = attachment(&pod);
                let is_here = node.as_ref() == Some(&pod.node);
                let tombstone = tombstones.iter().find(|tombstone| Some(&tombstone.attachment) == attachment.as_ref());
                let tenant = inventory.tenants.iter().find(|tenant| tenant.name == pod.tenant);
                One {
                    link: here.link(&pod.host_interface).filter(|_| is_here),
                    attachment_state: attachment
                        .filter(|_| is_here)
                        .and_then(|at| here.attachment_state(&at))
                        .map(|f| AddProgress::of(f, now)),
                    tombstone: tombstone.map(TombstoneInfo::of),
                    tenant_phase: tenant.map(|tenant| phase(tenant.phase)),
                    is_here,
                    pod,
                }
            })
            .collect();
        let claimed: Vec<String> = attachments.iter().map(|one| one.pod.container.clone()).collect();
        let unclaimed = tombstones.iter().filter(|tombstone| {
            let container = tombstone.attachment.container.as_str();
            asked.is_container(container) && !claimed.iter().any(|claimed| claimed == container)
        });
        let log = settings.config.log.file.as_deref().map_or_else(
            || Err("`log.file` is not configured".to_owned()),
            |file| {
                log::last(file, |line| asked.concerns(line, &claimed)).map_err(|e| format!("{}: {e}", file.display()))
            },
        );
        Ok(Self {
            tombstones: unclaimed.map(TombstoneInfo::of).collect(),
            address: match asked {
                Subject::Address(address) if attachments.is_empty() => {
                    Some(address_is(&store, &inventory, *address).await?)
                }
                _ => None,
            },
            namespace: match asked {
                Subject::Pod(namespace, _) => Some(namespace_is(&inventory, namespace)),
                _ => None,
            },
            no_log: log.as_ref().err().cloned(),
            log: log.unwrap_or_default(),
            deadline: settings.config.timeout.as_secs(),
            asked: asked.clone(),
            node,
            attachments,
        })
    }
}

/// This node's interfaces and files; what cannot be read counts as missing.
struct Here {
    links: Vec<HostEnd>,
    attachment_states: Vec<ObservedAttachment>,
}

impl Here {
    fn read(config: &Config) -> Self {
        Self {
            links: links::host_ends(&config.run_dir).unwrap_or_default(),
            attachment_states: nodefiles::attachments(&config.run_dir).unwrap_or_default(),
        }
    }

    fn link(&self, name: &str) -> Option<HostEnd> {
        self.links.iter().find(|link| link.name == name).cloned()
    }

    fn attachment_state(&self, attachment: &Attachment) -> Option<&ObservedAttachment> {
        let hash = attachment.hash();
        self.attachment_states.iter().find(|file| file.hash == hash)
    }
}

fn attachment(pod: &ListedPod) -> Option<Attachment> {
    Some(Attachment {
        node: pod.node.clone(),
        network: NetworkName::new(&pod.network).ok()?,
        container: ContainerId::new(&pod.container).ok()?,
        interface: IfName::new(&pod.interface).ok()?,
    })
}

async fn tombstones(store: &impl Store) -> Result<Vec<TombstoneRecord>, Failure> {
    let tombstones = TombstoneRecord::all();
    let all = store.read(vec![Query::all(&tombstones)]).await?.list(&tombstones)?.readable();
    Ok(all.into_iter().map(|tombstone| tombstone.record).collect())
}

async fn address_is(store: &impl Store, inventory: &Inventory, address: IpAddr) -> Result<AddressIs, Failure> {
    let seen = observe(store).await?;
    let mut here = seen.addresses.iter().filter(|(place, _)| place.address == address);
    if here.any(|(_, found)| matches!(found.record.record.state, AddressState::CoolDown { .. })) {
        return Ok(AddressIs::CoolDown);
    }
    if seen.reserved.keys().any(|place| place.address == address) {
        return Ok(AddressIs::Reserved);
    }
    let subnets = || inventory.tenants.iter().flat_map(|tenant| &tenant.subnets);
    if subnets().flat_map(|subnet| &subnet.prefixes).any(|prefix| prefix.gateway == address) {
        return Ok(AddressIs::Gateway);
    }
    Ok(if subnets().flat_map(|subnet| &subnet.prefixes).any(|prefix| prefix.cidr.contains(address)) {
        AddressIs::Free
    } else {
        AddressIs::Nowhere
    })
}

fn namespace_is(inventory: &Inventory, name: &str) -> NamespaceIs {
    let has =
        |namespaces: &[atoll_model::ids::Namespace]| namespaces.iter().any(|namespace| namespace.as_str() == name);
    let tenant = inventory.tenants.iter().find(|tenant| has(&tenant.namespaces));
    let active = |subnet: &&atoll_tenant::inventory::ListedSubnet| subnet.phase == Phase::Active;
    NamespaceIs {
        name: name.to_owned(),
        tenant: tenant.map(|tenant| tenant.name.to_string()),
        phase: tenant.map(|tenant| phase(tenant.phase)),
        taken: tenant.map_or(0, |tenant| tenant.subnets.iter().map(|subnet| subnet.pods.len()).sum()),
        room: tenant.map_or(0, |tenant| tenant.subnets.iter().filter(active).map(room).sum()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_is_distinguished() {
        let asked = |text: &str| text.parse::<Subject>();
        assert_eq!(asked("10.128.3.7"), Ok(Subject::Address([10, 128, 3, 7].into())));
        assert_eq!(asked("red/web-0"), Ok(Subject::Pod("red".to_owned(), "web-0".to_owned())));
        assert_eq!(asked("web-0"), Ok(Subject::Name("web-0".to_owned())));
        for bad in ["", "/", "red/", "/web", "a/b/c"] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_of_the_log_is_found_by_pod_or_container() {
        let pod = Subject::Pod("red".to_owned(), "web-0".to_owned());
        let mine = ["0123456789ab".to_owned()];
        for (line, hit) in [
            (json!({"namespace": "red", "pod": "web-0"}), true),
            (json!({"pod": "red/web-0"}), true),
            (json!({"namespace": "blue", "pod": "web-0"}), false),
            (json!({"container": "0123456789ab"}), true),
            (json!({"attachment": "n1/net/0123456789ab/eth0"}), true),
            (json!({"attachment": "n1/net/ffff/eth0"}), false),
            (json!({}), false),
        ] {
            assert_eq!(pod.concerns(&line, &mine), hit, "{line}");
        }
        let container = Subject::Name("012345".to_owned());
        assert!(container.concerns(&json!({"container": "0123456789ab"}), &[]));
        assert!(!Subject::Name("0123".to_owned()).concerns(&json!({"container": "0123456789ab"}), &[]), "too short");
    }
}
