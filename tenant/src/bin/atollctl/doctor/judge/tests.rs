//! A node where all is well, and one thing at a time that is not.

use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_model::config::Config;
use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};
use atoll_model::record::{SCHEMA, Tombstone, TombstoneRecord, Unknown};
use atoll_store::etcd::Member;
use atoll_tenant::Node;
use serde_json::json;
use uuid::Uuid;

use super::super::seen::{
    CertificateFile, Conflist, Conflists, Content, ControllerEndpoint, EtcdEndpoint, Host, Kernel, Plane, Plugin,
    Problem, Records, SecretFile, Seen, Site,
};
use super::{Level, judge};
use crate::links::{HostEnd, Place};
use crate::nodefiles::{Lock, Progress, ProgressFile};

const NOW: u64 = 1_800_000_000;

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
        why: Tombstone::Delete,
        attachment: attachment(node),
        port: None,
        not_before: NOW - age,
        since: NOW - age,
        note: "the controller did not answer in time".to_owned(),
        unknown: Unknown::new(),
    }
}

fn conflist(path: &str, plugins: &[&str]) -> Conflist {
    Conflist {
        path: path.into(),
        content: Ok(Content {
            is_list: true,
            name: Some("net".to_owned()),
            versions: vec!["1.0.0".to_owned()],
            plugins: plugins.iter().map(|plugin| (*plugin).to_owned()).collect(),
            refused: None,
            unserved: Vec::new(),
        }),
    }
}

fn well() -> Seen {
    let config = json!({
        "etcd": { "endpoints": ["http://192.0.2.1:2379"] },
        "controller": { "endpoints": ["http://192.0.2.2:8181/midonet-api"] },
    });
    let config = Config::parse(&config).expect("valid");
    let member = Member {
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
            host_id: Uuid::from_u128(7),
            machine_id: "m".to_owned(),
        }),
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
        controllers: vec![ControllerEndpoint {
            url: "http://192.0.2.2:8181/midonet-api".to_owned(),
            root: Ok((Duration::from_micros(5678), "5".to_owned())),
            login: Ok(()),
            writable: Ok(true),
            clock: Some(-1),
        }],
        host: Ok(Host { found: Some(("n1".to_owned(), true)), zones: vec!["tz".to_owned()] }),
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
        progress: Ok(vec![]),
        graves: Ok(vec![]),
    };
    Seen {
        now: NOW,
        config: Ok(("/etc/cni/net.d/10-atoll.conflist".into(), config)),
        site: Some(site),
        plugin: Plugin {
            directories: vec!["/opt/cni/bin".into()],
            found: Some(("/opt/cni/bin/atoll".into(), Ok(env!("CARGO_PKG_VERSION").to_owned()))),
        },
        conflists: Conflists {
            directory: "/etc/cni/net.d".into(),
            files: Ok(vec![conflist("/etc/cni/net.d/10-atoll.conflist", &["atoll", "portmap"])]),
        },
        kernel: Kernel { netns: Ok(()), veth: Ok(()), plane: Some(Plane { nftables: Ok(()), bridge: Ok(()) }) },
    }
}

type Harm = fn(&mut Seen);

fn site(seen: &mut Seen) -> &mut Site {
    seen.site.as_mut().expect("there")
}

fn gone() -> Problem {
    Problem::new("connection refused")
}

#[test]
fn a_node_where_all_is_well_has_nothing_to_complain_about() {
    let findings = judge(&well());
    let alarming: Vec<_> = findings.iter().filter(|f| f.level != Level::Ok).map(|f| (f.check, f.level)).collect();
    assert_eq!(alarming, [("cluster", Level::Warn)], "nobody has run `init` yet");
    insta::assert_snapshot!("well", super::super::shown(&findings));
    insta::assert_snapshot!("json", crate::output::json(&findings.iter().take(2).collect::<Vec<_>>()));
}

#[test]
fn everything_that_can_be_wrong_is_told_with_what_it_means_and_what_to_do() {
    let harms: &[(&str, Level, Harm)] = &[
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
        ("controller", Level::Fail, |s| site(s).controllers[0].root = Err(gone())),
        ("controller", Level::Fail, |s| site(s).controllers[0].login = Err(Problem::new("status 401"))),
        ("controller", Level::Fail, |s| site(s).controllers[0].writable = Ok(false)),
        ("controller", Level::Warn, |s| {
            site(s).controllers[0].root = Ok((Duration::from_secs(1), "5".to_owned()));
        }),
        ("clock", Level::Warn, |s| site(s).controllers[0].clock = Some(61)),
        ("clock", Level::Warn, |s| site(s).etcd[0].clock = Some(-7)),
        ("clock", Level::Skip, |s| {
            site(s).etcd[0].clock = None;
            site(s).controllers[0].clock = None;
        }),
        ("host", Level::Fail, |s| site(s).host = Ok(Host { found: None, zones: vec![] })),
        ("host", Level::Fail, |s| site(s).host.as_mut().expect("ok").found = Some(("n1".to_owned(), false))),
        ("host", Level::Skip, |s| site(s).host = Err(gone())),
        ("tunnel-zone", Level::Warn, |s| {
            site(s).host.as_mut().expect("ok").zones.clear();
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
            site(s).records.as_mut().expect("ok").damaged.push("v1/attachments/n1/a/b/c".to_owned());
        }),
        ("cluster", Level::Skip, |s| site(s).records = Err(gone())),
        ("kernel", Level::Fail, |s| s.kernel.netns = Err(Problem::new("EPERM"))),
        ("kernel", Level::Fail, |s| s.kernel.veth = Err(Problem::new("EOPNOTSUPP"))),
        ("kernel", Level::Fail, |s| {
            s.kernel.plane.as_mut().expect("there").nftables = Err(Problem::new("nft: No such file or directory"));
        }),
        ("kernel", Level::Fail, |s| s.kernel.plane.as_mut().expect("there").bridge = Err(Problem::new("ip: Unknown"))),
        ("plugin", Level::Fail, |s| s.plugin.found = None),
        ("plugin", Level::Warn, |s| s.plugin.found.as_mut().expect("there").1 = Ok("0.0.1".to_owned())),
        ("plugin", Level::Fail, |s| s.plugin.found.as_mut().expect("there").1 = Err(Problem::new("not executable"))),
        ("conflist", Level::Warn, |s| s.conflists.files = Err(Problem::new("No such file or directory"))),
        ("conflist", Level::Warn, |s| {
            s.conflists.files = Ok(vec![conflist("/etc/cni/net.d/05-x.conflist", &["bridge"])]);
        }),
        ("conflist", Level::Fail, |s| {
            let files = s.conflists.files.as_mut().expect("ok");
            files.insert(0, conflist("/etc/cni/net.d/05-x.conflist", &["bridge"]));
        }),
        ("conflist", Level::Fail, |s| {
            s.conflists.files = Ok(vec![conflist("/etc/cni/net.d/10-atoll.conflist", &["tuning", "atoll"])]);
        }),
        ("conflist", Level::Fail, |s| content(s).versions = vec!["9.9.9".to_owned()]),
        ("conflist", Level::Warn, |s| content(s).versions.clear()),
        ("conflist", Level::Fail, |s| content(s).name = None),
        ("conflist", Level::Warn, |s| content(s).is_list = false),
        ("conflist", Level::Fail, |s| content(s).refused = Some("configuration key \"mtu\" is wrong".to_owned())),
        ("conflist", Level::Warn, |s| content(s).unserved = vec![("portMappings".to_owned(), "chain portmap")]),
        ("interface", Level::Warn, |s| {
            let name = "at0123456789ab".to_owned();
            site(s).links = Ok(vec![HostEnd { place: Place::Own, name, index: 4, carrier: true }]);
        }),
        ("interface", Level::Skip, |s| site(s).records = Err(gone())),
        ("progress", Level::Warn, |s| {
            site(s).progress = Ok(vec![ProgressFile {
                path: "/run/atoll/attachments/a".into(),
                hash: "a".to_owned(),
                lock: Lock::Free,
                progress: Progress::Adding(None),
                written: NOW - 600,
            }]);
        }),
        ("tombstone", Level::Warn, |s| site(s).records.as_mut().expect("ok").tombstones = vec![tombstone("n1", 700)]),
        ("tombstone", Level::Warn, |s| site(s).records.as_mut().expect("ok").tombstones = vec![tombstone("n2", 9000)]),
        ("tombstone", Level::Warn, |s| site(s).graves = Ok(vec![("/t/a".into(), Some(tombstone("n1", 900_000)))])),
        ("tombstone", Level::Warn, |s| site(s).graves = Ok(vec![("/t/b".into(), None)])),
        ("tombstone", Level::Skip, |s| site(s).records = Err(gone())),
    ];
    let mut told = String::new();
    for (check, level, harm) in harms {
        let mut seen = well();
        harm(&mut seen);
        let findings = judge(&seen);
        let hit = findings.iter().find(|finding| finding.check == *check && finding.level == *level);
        let hit = hit.unwrap_or_else(|| panic!("{check} {level:?} is not among {findings:#?}"));
        let needs_hint = *level != Level::Skip;
        assert!(!hit.means.is_empty() && !hit.found.is_empty() && hit.hint.is_some() == needs_hint, "{hit:?}");
        let hint = hit.hint.as_ref().map_or_else(String::new, |hint| format!("  try: {hint}\n"));
        told = format!("{told}{} {check} {}: {}\n{hint}", level.word(), hit.object, hit.found);
    }
    insta::assert_snapshot!("harms", told);
}

fn content(seen: &mut Seen) -> &mut Content {
    seen.conflists.files.as_mut().expect("ok")[0].content.as_mut().expect("ok")
}

#[test]
fn an_add_on_its_way_and_a_debt_of_a_moment_ago_are_as_they_should_be() {
    let mut seen = well();
    let file = |lock, progress, written| ProgressFile {
        path: "/run/atoll/attachments/a".into(),
        hash: "a".to_owned(),
        lock,
        progress,
        written,
    };
    site(&mut seen).progress = Ok(vec![
        file(Lock::Held, Progress::Adding(None), NOW - 600),
        file(Lock::Free, Progress::Adding(None), NOW - 5),
        file(Lock::Free, Progress::Done(None), 0),
    ]);
    site(&mut seen).records.as_mut().expect("ok").tombstones = vec![tombstone("n1", 3)];
    let link = attachment("n1").host_interface().to_string();
    site(&mut seen).links = Ok(vec![HostEnd { place: Place::Own, name: link, index: 4, carrier: false }]);
    let bad: Vec<_> = judge(&seen).into_iter().filter(|f| f.level != Level::Ok && f.check != "cluster").collect();
    assert_eq!(bad, []);
}
