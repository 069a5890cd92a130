//! A healthy node, then one fault at a time.

use std::time::Duration;

use atoll_records::{ClaimRecord, FIRST_ENGINE, SCHEMA, TombstoneKind, TombstoneRecord, Unknown, Versioned};

use atoll_model::attachment::Attachment;
use atoll_model::config::Addressing;
use atoll_model::config::Config;
use atoll_model::ids::{ClaimId, ContainerId, IfName, Incarnation, Namespace, NetworkName, NodeName, TenantName};
use atoll_node::netns::Netns;
use atoll_store::etcd::MemberStatus;
use atoll_tenant::Node;
use atoll_tenant::identity::NodeIdentity;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::names::Names;
use super::super::seen::{
    CertificateFile, ConfigurationContent, Conflist, Conflists, ControllerEndpoint, DoctorEvidence, EngineEvidence,
    EtcdEndpoint, HostRecords, KernelSupport, MidoNetEvidence, PlaneSupport, PluginBinary, Problem, Records,
    SecretFile, Site,
};
use super::{Level, judge};
use crate::links::HostEnd;
use crate::nodefiles::{AddState, Lock, ObservedAttachment};
use crate::runtime::{Loaded, NoAnswer, Places, Runtime, Status};

pub(super) const NOW: u64 = 1_800_000_000;

fn attachment(node: &str) -> Attachment {
    Attachment {
        node: NodeName::new(node).expect("valid"),
        network: NetworkName::new("atoll").expect("valid"),
        container: ContainerId::new("3f9a").expect("valid"),
        interface: IfName::new("eth0").expect("valid"),
    }
}

fn tombstone(node: &str, age: u64) -> TombstoneRecord {
    TombstoneRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        kind: TombstoneKind::Delete,
        attachment: attachment(node),
        port: None,
        not_before: NOW - age,
        since: NOW - age,
        note: "the controller did not answer in time".to_owned(),
        deletion_sent: false,
        unknown: Unknown::new(),
    }
}

fn conflist(path: &str, plugins: &[&str]) -> Conflist {
    Conflist {
        path: path.into(),
        content: Ok(ConfigurationContent {
            is_list: true,
            name: Some("net".to_owned()),
            versions: vec!["1.0.0".to_owned()],
            plugins: plugins.iter().map(|plugin| (*plugin).to_owned()).collect(),
            refused: None,
            unserved: Vec::new(),
            document: document(plugins),
        }),
    }
}

fn document(plugins: &[&str]) -> Value {
    let plugins: Vec<_> = plugins.iter().map(|kind| json!({ "type": kind })).collect();
    json!({ "cniVersion": "1.0.0", "name": "net", "plugins": plugins })
}

/// A containerd that has loaded the network of these plugins.
fn containerd(plugins: &[&str]) -> Runtime {
    let loaded = Loaded {
        name: "net".to_owned(),
        plugins: plugins.iter().map(|kind| (*kind).to_owned()).collect(),
        document: Some(document(plugins)),
    };
    Runtime {
        name: "containerd 1.6.20".to_owned(),
        socket: "/run/containerd/containerd.sock".into(),
        places: Places {
            bin: vec!["/usr/lib/cni".into()],
            conf: "/etc/cni/net.d".into(),
            source: "its CRI status".to_owned(),
        },
        problems: vec![],
        status: Ok(Status { network: Ok(()), loaded: Some(vec![loaded]), plugins: vec![] }),
    }
}

pub(super) fn well() -> DoctorEvidence {
    let config = json!({
        "etcd": { "endpoints": ["http://192.0.2.1:2379"] },
        "controller": { "endpoints": ["http://192.0.2.2:8181/midonet-api"] },
    });
    let config = Config::parse(&config).expect("valid");
    let member = MemberStatus {
        version: "3.5.16".to_owned(),
        has_leader: true,
        is_leader: true,
        is_learner: false,
        troubles: vec![],
        size: 20 << 20,
        used: 10 << 20,
    };
    let site = Site {
        machine: Ok(Node {
            name: NodeName::new("n1").expect("valid"),
            host_id: Uuid::from_u128(7).into(),
            machine_id: "m".to_owned(),
        }),
        network: NetworkName::new("atoll").ok(),
        secrets: vec![SecretFile {
            setting: "controller.passwordFile",
            path: "/etc/atoll/password".into(),
            mode: Ok(0o600),
        }],
        certificates: vec![CertificateFile {
            setting: "etcd.cert",
            path: "/etc/atoll/etcd.pem".into(),
            validity: Ok((NOW - 86_400, NOW + 90 * 86_400)),
        }],
        etcd: vec![EtcdEndpoint {
            url: "http://192.0.2.1:2379".to_owned(),
            member: Ok(member),
            read: Ok(Duration::from_micros(1234)),
            clock: Some(0),
        }],
        engine: EngineEvidence::MidoNet(MidoNetEvidence {
            controllers: vec![ControllerEndpoint {
                url: "http://192.0.2.2:8181/midonet-api".to_owned(),
                root: Ok((Duration::from_micros(5678), "5".to_owned())),
                login: Ok(()),
                writable: Ok(true),
                clock: Some(-1),
            }],
            host: Ok(HostRecords { found: Some(("n1".to_owned(), true)), zones: vec!["tz".to_owned()] }),
        }),
        records: Ok(Records {
            cluster: None,
            disagreement: None,
            node: None,
            impostor: None,
            claims: vec![],
            tombstones: vec![],
            damaged: vec![],
        }),
        links: Ok(vec![]),
        attachment_states: Ok(vec![]),
        local_tombstones: Ok(vec![]),
    };
    DoctorEvidence {
        now: NOW,
        config: Ok(("/etc/cni/net.d/10-atoll.conflist".into(), config)),
        names: Some(Names {
            present: NodeName::new("n1").expect("valid"),
            is_configured: false,
            host: NodeName::new("n1").ok(),
            file: "/var/lib/atoll/node".into(),
            remembered: None,
            registered: Some(vec![(NodeName::new("n1").expect("valid"), 3)]),
            prefix: "/atoll/default".to_owned(),
            earlier_prefixes: vec![("/atoll/empty".to_owned(), Some(0))],
        }),
        site: Some(site),
        runtimes: vec![containerd(&["atoll", "portmap"])],
        plugins: vec![PluginBinary {
            readers: "containerd 1.6.20".to_owned(),
            directories: vec!["/usr/lib/cni".into()],
            found: Some(("/usr/lib/cni/atoll".into(), Ok(env!("CARGO_PKG_VERSION").to_owned()))),
            elsewhere: None,
            missing: vec![],
        }],
        conflists: vec![Conflists {
            readers: "containerd 1.6.20".to_owned(),
            directory: "/etc/cni/net.d".into(),
            files: Ok(vec![conflist("/etc/cni/net.d/10-atoll.conflist", &["atoll", "portmap"])]),
        }],
        sandboxes: Ok(Some(["3f9a".to_owned()].into_iter().collect())),
        has_kubelet: false,
        kernel: KernelSupport {
            netns: Ok(()),
            veth: Ok(()),
            plane: Some(PlaneSupport { nftables: Ok(()), bridge: Ok(()) }),
        },
    }
}

pub(super) type Fault = fn(&mut DoctorEvidence);

pub(super) fn site(seen: &mut DoctorEvidence) -> &mut Site {
    seen.site.as_mut().expect("there")
}

fn midonet(seen: &mut DoctorEvidence) -> &mut MidoNetEvidence {
    match &mut site(seen).engine {
        EngineEvidence::MidoNet(seen) => seen,
        EngineEvidence::Ovn(_) => unreachable!("the healthy node has MidoNet"),
    }
}

pub(super) fn gone() -> Problem {
    Problem::new("connection refused")
}

#[test]
fn a_node_where_all_is_well_has_nothing_to_complain_about() {
    let findings = judge(&well());
    let alarming: Vec<_> = findings.iter().filter(|f| f.level != Level::Ok).map(|f| (f.check, f.level)).collect();
    assert_eq!(alarming, [("cluster", Level::Warn)], "`init` has not run yet");
    insta::assert_snapshot!("well", super::super::shown(&findings));
    insta::assert_snapshot!("json", crate::output::json(&findings.iter().take(2).collect::<Vec<_>>()));
}

#[test]
fn every_fault_is_reported_with_its_effect_and_its_remedy() {
    let faults: &[(&str, Level, Fault)] = &[
        ("config", Level::Fail, |s| {
            s.config = Err(Problem::new("no configuration"));
            s.site = None;
        }),
        ("machine", Level::Fail, |s| site(s).machine = Err(Problem::new("no host id"))),
        ("secret", Level::Fail, |s| site(s).secrets[0].mode = Ok(0o640)),
        ("secret", Level::Fail, |s| site(s).secrets[0].mode = Err(Problem::new("No such file or directory"))),
        ("certificate", Level::Fail, |s| site(s).certificates[0].validity = Ok((0, NOW - 7200))),
        ("certificate", Level::Fail, |s| site(s).certificates[0].validity = Ok((NOW + 3600, NOW + 7200))),
        ("certificate", Level::Warn, |s| site(s).certificates[0].validity = Ok((0, NOW + 86_400))),
        ("etcd", Level::Fail, |s| {
            site(s).etcd[0].member = Err(gone());
            site(s).etcd[0].read = Err(gone());
        }),
        ("etcd", Level::Fail, |s| site(s).etcd[0].read = Err(Problem::new("no leader"))),
        ("etcd", Level::Fail, |s| site(s).etcd[0].member.as_mut().expect("ok").troubles.push("NOSPACE".to_owned())),
        ("etcd", Level::Fail, |s| site(s).etcd[0].member.as_mut().expect("ok").has_leader = false),
        ("etcd", Level::Warn, |s| site(s).etcd[0].member.as_mut().expect("ok").is_learner = true),
        ("etcd", Level::Warn, |s| site(s).etcd[0].member.as_mut().expect("ok").size = 1900 << 20),
        ("etcd", Level::Warn, |s| site(s).etcd[0].read = Ok(Duration::from_millis(300))),
        ("controller", Level::Fail, |s| midonet(s).controllers[0].root = Err(gone())),
        ("controller", Level::Fail, |s| midonet(s).controllers[0].login = Err(Problem::new("status 401"))),
        ("controller", Level::Fail, |s| midonet(s).controllers[0].writable = Ok(false)),
        ("controller", Level::Warn, |s| {
            midonet(s).controllers[0].root = Ok((Duration::from_secs(1), "5".to_owned()));
        }),
        ("clock", Level::Warn, |s| midonet(s).controllers[0].clock = Some(61)),
        ("clock", Level::Warn, |s| site(s).etcd[0].clock = Some(-7)),
        ("clock", Level::Skip, |s| {
            site(s).etcd[0].clock = None;
            midonet(s).controllers[0].clock = None;
        }),
        ("host", Level::Fail, |s| midonet(s).host = Ok(HostRecords { found: None, zones: vec![] })),
        ("host", Level::Fail, |s| midonet(s).host.as_mut().expect("ok").found = Some(("n1".to_owned(), false))),
        ("host", Level::Skip, |s| midonet(s).host = Err(gone())),
        ("tunnel-zone", Level::Warn, |s| {
            midonet(s).host.as_mut().expect("ok").zones.clear();
            s.kernel.plane = None;
        }),
        ("node", Level::Fail, |s| {
            site(s).records.as_mut().expect("ok").impostor = Some(Problem::new("node n1 is registered"));
        }),
        ("node", Level::Fail, |s| {
            let record = json!({"v": 1, "host_id": Uuid::from_u128(7), "machine_id": "m", "epoch": 3, "evicting": 1});
            site(s).records.as_mut().expect("ok").node = Some(serde_json::from_value(record).expect("a record"));
        }),
        ("record", Level::Warn, |s| {
            site(s).records.as_mut().expect("ok").damaged.push("v2/claims/n1/a/b/c".to_owned());
        }),
        ("cluster", Level::Skip, |s| site(s).records = Err(gone())),
        ("prefix", Level::Warn, |s| {
            s.names.as_mut().expect("ok").earlier_prefixes = vec![("/atoll/old".to_owned(), Some(2))];
        }),
        ("prefix", Level::Warn, |s| {
            s.names.as_mut().expect("ok").earlier_prefixes = vec![("/atoll/old".to_owned(), None)];
        }),
        ("name", Level::Fail, |s| {
            s.names.as_mut().expect("ok").registered = Some(vec![(NodeName::new("old").expect("valid"), 3)]);
        }),
        ("name", Level::Warn, |s| {
            let names = s.names.as_mut().expect("ok");
            names.registered.as_mut().expect("ok").push((NodeName::new("old").expect("valid"), 0));
        }),
        ("name", Level::Warn, |s| {
            let name = NodeName::new("old").expect("valid");
            let identity = NodeIdentity { name, host_id: Uuid::from_u128(7).into(), earlier: vec![], prefixes: vec![] };
            s.names.as_mut().expect("ok").remembered = Some(identity);
        }),
        ("kernel", Level::Fail, |s| s.kernel.netns = Err(Problem::new("EPERM"))),
        ("kernel", Level::Fail, |s| s.kernel.veth = Err(Problem::new("EOPNOTSUPP"))),
        ("kernel", Level::Fail, |s| {
            s.kernel.plane.as_mut().expect("there").nftables = Err(Problem::new("nft: No such file or directory"));
        }),
        ("kernel", Level::Fail, |s| s.kernel.plane.as_mut().expect("there").bridge = Err(Problem::new("ip: Unknown"))),
        ("addressing", Level::Warn, |s| {
            s.config.as_mut().expect("ok").1.cluster.addressing = Addressing::Overlapping;
            s.has_kubelet = true;
        }),
        ("plugin", Level::Fail, |s| s.plugins[0].found = None),
        ("plugin", Level::Fail, |s| {
            s.plugins[0].found = None;
            s.plugins[0].elsewhere = Some("/opt/cni/bin/atoll".into());
        }),
        ("plugin", Level::Fail, |s| s.plugins[0].missing = vec!["portmap".to_owned()]),
        ("plugin", Level::Warn, |s| s.plugins[0].found.as_mut().expect("there").1 = Ok("0.0.1".to_owned())),
        ("plugin", Level::Fail, |s| {
            s.plugins[0].found.as_mut().expect("there").1 = Err(Problem::new("not executable"));
        }),
        ("conflist", Level::Warn, |s| s.conflists[0].files = Err(Problem::new("No such file or directory"))),
        ("conflist", Level::Warn, |s| {
            s.conflists[0].files = Ok(vec![conflist("/etc/cni/net.d/05-x.conflist", &["bridge"])]);
        }),
        ("conflist", Level::Fail, |s| {
            s.conflists[0].files = Ok(vec![broken("/etc/cni/net.d/10-atoll.conflist")]);
        }),
        ("conflist", Level::Fail, |s| files(s).insert(0, conflist("/etc/cni/net.d/05-x.conflist", &["bridge"]))),
        ("conflist", Level::Fail, |s| files(s).insert(0, broken("/etc/cni/net.d/05-x.conflist"))),
        ("conflist", Level::Warn, |s| files(s).push(conflist("/etc/cni/net.d/20-atoll.conflist", &["atoll"]))),
        ("conflist", Level::Fail, |s| {
            s.conflists[0].files = Ok(vec![conflist("/etc/cni/net.d/10-atoll.conflist", &["tuning", "atoll"])]);
        }),
        ("runtime", Level::Warn, |s| s.runtimes[0].problems = vec!["/etc/containerd/config.toml: no TOML".to_owned()]),
        ("runtime", Level::Warn, |s| s.runtimes[0].status = Err(NoAnswer::Failed("connection refused".to_owned()))),
        ("runtime", Level::Ok, |s| s.runtimes[0].status = Err(NoAnswer::NoCri)),
        ("runtime", Level::Fail, |s| status(s).network = Err("cni plugin not initialized".to_owned())),
        ("runtime", Level::Fail, |s| status(s).loaded = Some(vec![])),
        ("runtime", Level::Fail, |s| s.runtimes[0] = containerd(&["bridge"])),
        ("runtime", Level::Fail, |s| s.runtimes[0] = containerd(&["atoll"])),
        ("claim", Level::Warn, |s| {
            let records = site(s).records.as_mut().expect("ok");
            records.claims = ["3f9a", "0123456789abcdef"].map(claim).to_vec();
        }),
        ("claim", Level::Warn, |s| {
            s.sandboxes = Ok(Some(std::iter::empty().collect()));
            site(s).records.as_mut().expect("ok").claims = vec![claim("3f9a")];
        }),
        ("claim", Level::Skip, |s| s.sandboxes = Ok(None)),
        ("claim", Level::Skip, |s| s.sandboxes = Err(gone())),
        ("claim", Level::Skip, |s| site(s).records = Err(gone())),
        ("conflist", Level::Fail, |s| content(s).versions = vec!["9.9.9".to_owned()]),
        ("conflist", Level::Warn, |s| content(s).versions.clear()),
        ("conflist", Level::Fail, |s| content(s).name = None),
        ("conflist", Level::Warn, |s| content(s).is_list = false),
        ("conflist", Level::Fail, |s| content(s).refused = Some("configuration key \"mtu\" is wrong".to_owned())),
        ("conflist", Level::Warn, |s| content(s).unserved = vec![("portMappings".to_owned(), "chain portmap")]),
        ("interface", Level::Warn, |s| {
            let name = "at0123456789ab".to_owned();
            site(s).links = Ok(vec![HostEnd { place: Netns::Own, name, index: 4, carrier: true }]);
        }),
        ("interface", Level::Skip, |s| site(s).records = Err(gone())),
        ("attachment-state", Level::Warn, |s| {
            site(s).attachment_states = Ok(vec![ObservedAttachment {
                path: "/run/atoll/attachments/a".into(),
                hash: "a".to_owned(),
                lock: Lock::Free,
                phase: AddState::Adding(None),
                written: NOW - 600,
            }]);
        }),
        ("tombstone", Level::Warn, |s| site(s).records.as_mut().expect("ok").tombstones = vec![tombstone("n1", 700)]),
        ("tombstone", Level::Warn, |s| site(s).records.as_mut().expect("ok").tombstones = vec![tombstone("n2", 9000)]),
        ("tombstone", Level::Warn, |s| {
            site(s).local_tombstones = Ok(vec![("/t/a".into(), Some(tombstone("n1", 900_000)))]);
        }),
        ("tombstone", Level::Warn, |s| site(s).local_tombstones = Ok(vec![("/t/b".into(), None)])),
        ("tombstone", Level::Skip, |s| site(s).records = Err(gone())),
    ];
    insta::assert_snapshot!("faults", reported(well, faults));
}

/// What is reported of one fault at a time, each with its remedy.
pub(super) fn reported(healthy: fn() -> DoctorEvidence, faults: &[(&str, Level, Fault)]) -> String {
    let mut shown = String::new();
    for (check, level, fault) in faults {
        let mut seen = healthy();
        fault(&mut seen);
        let findings = judge(&seen);
        let hit = findings.iter().find(|finding| finding.check == *check && finding.level == *level);
        let hit = hit.unwrap_or_else(|| panic!("{check} {level:?} is not among {findings:#?}"));
        let needs_hint = matches!(level, Level::Warn | Level::Fail);
        assert!(!hit.means.is_empty() && !hit.found.is_empty() && hit.hint.is_some() == needs_hint, "{hit:?}");
        let hint = hit.hint.as_ref().map_or_else(String::new, |hint| format!("  try: {hint}\n"));
        shown = format!("{shown}{} {check} {}: {}\n{hint}", level.word(), hit.object, hit.found);
    }
    shown
}

fn files(seen: &mut DoctorEvidence) -> &mut Vec<Conflist> {
    seen.conflists[0].files.as_mut().expect("ok")
}

fn content(seen: &mut DoctorEvidence) -> &mut ConfigurationContent {
    files(seen)[0].content.as_mut().expect("ok")
}

fn status(seen: &mut DoctorEvidence) -> &mut Status {
    seen.runtimes[0].status.as_mut().expect("ok")
}

fn broken(path: &str) -> Conflist {
    Conflist { path: path.into(), content: Err(Problem::new("not JSON: it begins with a byte order mark")) }
}

/// A claim of a pod that was added an hour ago.
fn claim(container: &str) -> Versioned<ClaimRecord> {
    let attachment = Attachment { container: ContainerId::new(container).expect("valid"), ..attachment("n1") };
    let record = ClaimRecord {
        v: SCHEMA,
        engine: FIRST_ENGINE.to_owned(),
        claim: ClaimId(Uuid::from_u128(1)),
        tenant: TenantName::new("red").expect("valid"),
        incarnation: Incarnation(Uuid::from_u128(2)),
        namespace: Some(Namespace::new("red").expect("valid")),
        pod: Some("web-0".to_owned()),
        pod_uid: None,
        addresses: vec![],
        port: Uuid::from_u128(3),
        host_interface: attachment.host_interface(),
        mac: attachment.mac(),
        host_id: Uuid::from_u128(7).into(),
        since: NOW - 3600,
        attachment,
        deletions_until: 0,
        creations_until: 0,
        names: Vec::new(),
        unknown: Unknown::new(),
    };
    Versioned { record, create_revision: 5, mod_revision: 6 }
}

#[test]
fn a_claim_is_reported_only_when_gc_would_remove_it() {
    let mut seen = well();
    seen.sandboxes = Ok(Some(["3f9a".to_owned()].into_iter().collect()));
    let claims = |seen: &DoctorEvidence| {
        let all = judge(seen).into_iter().filter(|finding| finding.check == "claim");
        all.map(|finding| (finding.level, finding.found)).collect::<Vec<_>>()
    };
    let mut young = claim("young");
    young.record.since = NOW - 5;
    site(&mut seen).records.as_mut().expect("ok").claims = vec![claim("3f9a"), young];
    assert_eq!(claims(&seen), [(Level::Ok, "1 container, 2 claims; none without its container".to_owned())]);
    // A call works on it.
    let dead = claim("dead");
    let hash = dead.record.attachment.hash();
    let path = "/run/atoll/attachments/a".into();
    let file = ObservedAttachment { path, hash, lock: Lock::Held, phase: AddState::Done(None), written: 0 };
    site(&mut seen).records.as_mut().expect("ok").claims.push(dead);
    assert_eq!(claims(&seen)[0].0, Level::Warn);
    site(&mut seen).attachment_states = Ok(vec![file]);
    assert_eq!(claims(&seen)[0].0, Level::Ok);
    // Another network's: gc needs that one's configuration.
    site(&mut seen).network = NetworkName::new("other").ok();
    site(&mut seen).attachment_states = Ok(vec![]);
    let hint = judge(&seen).into_iter().find(|finding| finding.check == "claim").and_then(|finding| finding.hint);
    assert!(hint.expect("a hint").contains("--config with the configuration of network atoll"));
}

#[test]
fn a_running_add_and_a_new_tombstone_are_well() {
    let mut seen = well();
    let file = |lock, phase, written| ObservedAttachment {
        path: "/run/atoll/attachments/a".into(),
        hash: "a".to_owned(),
        lock,
        phase,
        written,
    };
    site(&mut seen).attachment_states = Ok(vec![
        file(Lock::Held, AddState::Adding(None), NOW - 600),
        file(Lock::Free, AddState::Adding(None), NOW - 5),
        file(Lock::Free, AddState::Done(None), 0),
    ]);
    site(&mut seen).records.as_mut().expect("ok").tombstones = vec![tombstone("n1", 3)];
    let link = attachment("n1").host_interface().to_string();
    site(&mut seen).links = Ok(vec![HostEnd { place: Netns::Own, name: link, index: 4, carrier: false }]);
    let bad: Vec<_> = judge(&seen).into_iter().filter(|f| f.level != Level::Ok && f.check != "cluster").collect();
    assert_eq!(bad, []);
}
