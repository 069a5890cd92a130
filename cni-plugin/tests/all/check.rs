//! CHECK passes after every ADD, finds every kind of damage and names it, and leaves alone what others added.

use atoll_cni_plugin::check::CheckCall;
use atoll_cni_plugin::error::CallError;
use atoll_testkit::kernel::FakeLink;

use atoll_cni_plugin::kernel::{Kernel, Netns, PodChange};
use atoll_mock_controller::MockSettings;
use atoll_model::attachment::Mac;
use atoll_model::cni::previous::Previous;
use atoll_model::cni::result::AddResult;
use atoll_model::cni::version::Version;
use atoll_model::error::Classify;
use atoll_model::ids::Namespace;
use atoll_model::route::PodRoute;
use atoll_records::{AddressRecord, AddressState, ClaimRecord, Key, SCHEMA, TenantRecord, Unknown, encode};
use atoll_store::{Store, StoreChange, Txn};
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::lab::{Lab, NETNS, ServerState, attachment};

/// The result of an ADD, as a runtime hands it to CHECK.
fn previous(attached: &AddResult, version: Version) -> Previous {
    let result: Value = serde_json::from_str(&attached.to_json(version)).expect("JSON");
    Previous::read(&result, version).expect("ours")
}

pub(crate) fn call(lab: &Lab, attached: &AddResult, version: Version) -> CheckCall {
    let add = lab.call();
    CheckCall {
        attachment: add.attachment,
        pod: add.pod,
        sandbox: add.sandbox,
        previous: previous(attached, version),
        own_netns: false,
        host_id: add.node.host_id,
    }
}

pub(crate) async fn check(lab: &Lab, call: &CheckCall) -> Result<(), CallError> {
    Box::pin(lab.plugin().check(call)).await
}

fn pod() -> Netns {
    Netns::At(NETNS.into())
}

/// Changes the pod's end, or another link.
fn damage(lab: &Lab, name: &str, netns: &Netns, change: impl FnOnce(&mut FakeLink)) {
    lab.kernel.damage(netns, name, |mut link| {
        change(&mut link);
        Some(link)
    });
}

async fn commit(lab: &Lab, change: StoreChange) {
    lab.etcd.commit(Txn { then: vec![change], ..Txn::default() }).await.expect("works");
}

fn request(lab: &Lab, method: Method, path: &str, body: &Value) {
    let status = lab.ask(method, path, body);
    assert!(status < 300, "{path}: {status}");
}

#[tokio::test(start_paused = true)]
async fn it_passes_after_add_in_every_version_and_changes_nothing() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    let before = (lab.etcd.dump(), lab.pod_ports(), lab.links());
    for version in [Version::V0_4_0, Version::V1_0_0, Version::V1_1_0] {
        check(&lab, &call(&lab, &attached, version)).await.unwrap_or_else(|error| panic!("{version}: {error}"));
    }
    // Without what this node remembers, too.
    lab.forget();
    check(&lab, &call(&lab, &attached, Version::V1_1_0)).await.expect("works");
    assert_eq!((lab.etcd.dump(), lab.pod_ports(), lab.links()), before);
    // What is never there leaves no file behind.
    let files = lab.lock_files();
    let unknown = CheckCall { attachment: attachment("unknown", "eth0"), ..call(&lab, &attached, Version::V1_0_0) };
    check(&lab, &unknown).await.expect_err("it was never added");
    assert_eq!(lab.lock_files(), files);
}

/// One read of each object, at any cost there.
#[tokio::test(start_paused = true)]
async fn it_asks_etcd_twice_and_the_controller_once() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    lab.plan.reset();
    check(&lab, &call(&lab, &attached, Version::V1_1_0)).await.expect("works");
    let effects = lab.plan.passed();
    let count = |what: &str| effects.iter().filter(|effect| effect.starts_with(what)).count();
    assert_eq!((count("store"), count("controller")), (2, 1), "{effects:#?}");
}

/// Every kind of damage, and the words of its difference.
#[tokio::test(start_paused = true)]
async fn it_finds_every_kind_of_damage_and_names_it() {
    type Damage = fn(&Lab, &AddResult);
    let kernel: &[(&str, Damage, &[&str])] = &[
        ("gone", |lab, _| lab.kernel.damage(&pod(), "eth0", |_| None), &["interface eth0 is missing", "host end at"]),
        ("down", |lab, _| damage(lab, "eth0", &pod(), |l| l.link.up = false), &["eth0 is down, expected up"]),
        (
            "renamed",
            |lab, _| damage(lab, "eth0", &pod(), |l| l.link.name = "lan0".to_owned()),
            &["interface eth0 is called lan0 now"],
        ),
        (
            "another MAC",
            |lab, _| damage(lab, "eth0", &pod(), |l| l.link.mac = Some(Mac([2, 0, 0, 0, 0, 9]))),
            &["eth0 has MAC 02:00:00:00:00:09, expected"],
        ),
        ("another MTU", |lab, _| damage(lab, "eth0", &pod(), |l| l.link.mtu = 9000), &["MTU 9000, expected 1450"]),
        (
            "no address",
            |lab, _| damage(lab, "eth0", &pod(), |l| l.link.addresses.clear()),
            &["interface eth0 has address none, expected 10."],
        ),
        (
            "another address",
            |lab, _| damage(lab, "eth0", &pod(), |l| l.link.addresses = vec!["192.0.2.1/24".parse().expect("valid")]),
            &["interface eth0 has address 192.0.2.1/24, expected 10."],
        ),
        ("no route", |lab, _| damage(lab, "eth0", &pod(), |l| l.routes.clear()), &["route to 0.0.0.0/0 via 10."]),
        (
            "another gateway",
            |lab, _| damage(lab, "eth0", &pod(), |l| l.routes[0].gateway = Some([10, 128, 0, 99].into())),
            &["the route to 0.0.0.0/0 goes by 10.128.0.99, expected 10."],
        ),
        (
            "host end down",
            |lab, attached| damage(lab, attached.host_interface.as_str(), &Netns::Own, |l| l.link.up = false),
            &["host end at", "is down, expected up"],
        ),
        (
            "host end of another pair",
            |lab, attached| damage(lab, attached.host_interface.as_str(), &Netns::Own, |l| l.link.peer = Some(999)),
            &["is not the other end of eth0"],
        ),
        (
            "foreign host end",
            |lab, attached| damage(lab, attached.host_interface.as_str(), &Netns::Own, |l| l.link.group = 0),
            &["host end at", "is not ours"],
        ),
        (
            "foreign interface",
            |lab, _| {
                lab.kernel.damage(&pod(), "eth0", |_| None);
                lab.kernel.add_foreign(&pod(), "eth0", true);
            },
            &["interface eth0 is not ours", "has MAC 02:00:00:00:00:01"],
        ),
    ];
    for (what, damage, expected) in kernel {
        let lab = Lab::warm().await;
        let attached = lab.add().await.expect("works");
        damage(&lab, &attached);
        refused(&lab, &call(&lab, &attached, Version::V1_1_0), what, expected).await;
    }
}

#[track_caller]
fn assert_reports(error: &CallError, what: &str, expected: &[&str]) {
    assert_eq!(error.class().cni_code(), 104, "{what}: {error:?}");
    let text = error.to_string();
    for words in expected {
        assert!(text.contains(words), "{what}: {words:?} is not in: {text}");
    }
}

async fn refused(lab: &Lab, call: &CheckCall, what: &str, expected: &[&str]) {
    let error = check(lab, call).await.expect_err(what);
    assert_reports(&error, what, expected);
}

#[tokio::test(start_paused = true)]
async fn it_finds_what_is_wrong_with_the_claim() {
    let cases = ["missing", "address of another", "address without a claim", "tenant gone", "pending"];
    for what in cases {
        let lab = Lab::warm().await;
        let attached = lab.add().await.expect("works");
        let claim = lab.claims().remove(0);
        let at = &claim.addresses[0];
        let key = Key::from(AddressRecord::at(&claim.tenant, at.ordinal, at.address.ip()));
        let expected = match what {
            "missing" => {
                commit(&lab, StoreChange::delete(ClaimRecord::at(&claim.attachment))).await;
                "its claim is missing"
            }
            "address of another" => {
                let state = AddressState::Claimed {
                    claim: atoll_model::ids::ClaimId::random(),
                    attachment: attachment("thief", "eth0"),
                };
                let value = encode(&AddressRecord { v: SCHEMA, state, unknown: Unknown::new() });
                commit(&lab, StoreChange::Put { key, value, lease: None }).await;
                "is claimed by n1/atoll/thief/eth0, expected n1/atoll/pod/eth0"
            }
            "address without a claim" => {
                commit(&lab, StoreChange::Delete(key)).await;
                "has no claim"
            }
            "tenant gone" => {
                commit(&lab, StoreChange::delete(TenantRecord::at(&claim.tenant))).await;
                "its tenant red is gone"
            }
            _ => {
                lab.controller_state.set(ServerState::Refusing);
                lab.put_tombstone().await;
                lab.controller_state.set(ServerState::Fine);
                "it has a tombstone"
            }
        };
        refused(&lab, &call(&lab, &attached, Version::V1_0_0), what, &[expected]).await;
    }
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    let mut other = call(&lab, &attached, Version::V1_0_0);
    other.pod.namespace = Some(Namespace::new("blue").expect("valid"));
    refused(&lab, &other, "another pod", &["its claim is of namespace red, expected namespace blue"]).await;
    let other = CheckCall { host_id: uuid::Uuid::nil().into(), ..call(&lab, &attached, Version::V1_0_0) };
    refused(&lab, &other, "another host", &["its claim is of host", "expected 00000000"]).await;
}

#[tokio::test(start_paused = true)]
async fn it_finds_what_is_wrong_with_the_port() {
    for what in ["gone", "unbound", "elsewhere", "inactive"] {
        let lab = Lab::warm().await;
        let attached = lab.add().await.expect("works");
        let port = lab.pod_ports()[0];
        let host = MockSettings::default().host;
        let expected = match what {
            "gone" => {
                request(&lab, Method::DELETE, &format!("/ports/{port}"), &Value::Null);
                vec!["port", "is missing"]
            }
            "inactive" => {
                lab.controller.set_active(port, false);
                vec!["port", "is not active"]
            }
            "unbound" => {
                request(&lab, Method::DELETE, &format!("/hosts/{host}/ports/{port}"), &Value::Null);
                vec!["is not bound, expected interface at"]
            }
            _ => {
                request(&lab, Method::DELETE, &format!("/hosts/{host}/ports/{port}"), &Value::Null);
                let body = json!({ "portId": port, "interfaceName": "tap7" });
                request(&lab, Method::POST, &format!("/hosts/{host}/ports"), &body);
                vec!["is bound to interface tap7 of host", "expected interface at"]
            }
        };
        refused(&lab, &call(&lab, &attached, Version::V1_0_0), what, &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_finds_differences_from_prev_result() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    let with = |change: fn(&mut Previous)| {
        let mut call = call(&lab, &attached, Version::V1_1_0);
        change(&mut call.previous);
        call
    };
    let none = with(|previous| *previous = Previous::default());
    refused(&lab, &none, "nothing", &["prevResult names no interface eth0"]).await;
    let mac = with(|previous| previous.interfaces[1].mac = Some(Mac([2, 0, 0, 0, 0, 9])));
    refused(&lab, &mac, "MAC", &["expected 02:00:00:00:00:09"]).await;
    let mtu = with(|previous| previous.interfaces[1].mtu = Some(1000));
    refused(&lab, &mtu, "MTU", &["eth0 has MTU 1450, expected 1000"]).await;
    let sandbox = with(|previous| previous.interfaces[1].sandbox = Some("/netns/other".to_owned()));
    refused(&lab, &sandbox, "sandbox", &["prevResult has /netns/other"]).await;
    let address = with(|previous| previous.addresses[0].1 = "10.128.0.200/24".parse().expect("valid"));
    refused(&lab, &address, "address", &["prevResult lists 10.128.0.200/24 for eth0"]).await;
}

#[tokio::test(start_paused = true)]
async fn it_leaves_alone_what_others_added() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    // A later plugin set another MAC, an address, a route and an interface, and removed a route; the result has these
    // changes.
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    damage(&lab, "eth0", &pod(), |link| {
        link.link.mac = Some(mac);
        link.link.addresses.push("192.0.2.7/24".parse().expect("valid"));
        link.routes.push(PodRoute::plain("203.0.113.0/24".parse().expect("valid"), None));
    });
    lab.kernel.add_foreign(&pod(), "tun0", false);
    let mut call = call(&lab, &attached, Version::V1_0_0);
    call.previous.interfaces[1].mac = Some(mac);
    call.previous.addresses.push((Some(1), "192.0.2.7/24".parse().expect("valid")));
    check(&lab, &call).await.expect("nothing of ours differs");
    damage(&lab, "eth0", &pod(), |link| link.routes.clear());
    call.previous.routes.clear();
    check(&lab, &call).await.expect("the route went from the result as well");
    // The interface is ours although its MAC is not: DEL takes it along, with or without its files.
    lab.forget();
    lab.del().await.expect("works");
    lab.kernel.damage(&pod(), "tun0", |_| None);
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_no_difference() {
    let lab = Lab::warm().await;
    let attached = lab.add().await.expect("works");
    for (etcd, controller, code) in [
        (ServerState::Refusing, ServerState::Fine, 11),
        (ServerState::Fine, ServerState::Refusing, 11),
        (ServerState::Silent, ServerState::Fine, 11),
        (ServerState::Fine, ServerState::Silent, 11),
    ] {
        lab.etcd_state.set(etcd);
        lab.controller_state.set(controller);
        let begun = Instant::now();
        let error = check(&lab, &call(&lab, &attached, Version::V1_0_0)).await.expect_err("down");
        assert_eq!(error.class().cni_code(), code, "{error}");
        assert!(begun.elapsed() <= lab.config().timeout + std::time::Duration::from_secs(1));
    }
    lab.etcd_state.set(ServerState::Fine);
    lab.controller_state.set(ServerState::Fine);
    lab.kernel.add_file("/netns/file");
    lab.kernel.add_own("/netns/own");
    for sandbox in ["/netns/none", "/netns/file", "/netns/own"] {
        let call = CheckCall { sandbox: sandbox.to_owned(), ..call(&lab, &attached, Version::V1_0_0) };
        assert_eq!(check(&lab, &call).await.expect_err(sandbox).class().cni_code(), 8);
    }
}

/// With the local data plane the host end is a port of a bridge.
#[tokio::test(start_paused = true)]
async fn a_host_end_with_a_router_must_be_attached() {
    let lab = Lab::warm().await;
    lab.make_routers();
    let attached = lab.add().await.expect("works");
    let host = attached.host_interface.to_string();
    let place = lab.links().into_iter().find(|(_, name)| *name == host).expect("there").0;
    assert_ne!(place, Netns::Own);
    refused(&lab, &call(&lab, &attached, Version::V1_1_0), "detached", &["is detached, expected on a bridge"]).await;
    damage(&lab, &host, &place, |link| link.link.master = Some(3));
    check(&lab, &call(&lab, &attached, Version::V1_1_0)).await.expect("attached");
}

/// A further interface: its rule, and what its table has.
#[tokio::test(start_paused = true)]
async fn it_minds_the_ways_of_a_further_interface() {
    let lab = Lab::warm().await;
    lab.interface.set("eth1");
    let attached = lab.add().await.expect("works");
    let call = call(&lab, &attached, Version::V1_1_0);
    check(&lab, &call).await.expect("right after ADD");
    let rules = lab.kernel.all_rules();
    let rule = rules[0].1.clone();
    lab.kernel.configure(NETNS.as_ref(), &PodChange::DeleteRule(rule.clone())).await.expect("works");
    let error = check(&lab, &call).await.expect_err("the rule is gone");
    assert!(error.to_string().contains(&format!("policy rule {rule} is missing")), "{error}");
    lab.kernel.configure(NETNS.as_ref(), &PodChange::AddRule(rule.clone())).await.expect("works");
    damage(&lab, "eth1", &pod(), |link| link.routes.retain(|route| route.table != Some(rule.table)));
    let error = check(&lab, &call).await.expect_err("its table is empty");
    assert!(
        error.to_string().contains("the route to 0.0.0.0/0") && error.to_string().contains("is missing"),
        "{error}"
    );
}
