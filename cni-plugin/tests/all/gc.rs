//! GC: what is not in the list goes, what is in the list stays, and nothing happens without a list; the sweep over its
//! effects is in `sweep.rs`.

use atoll_testkit::fault::Fault;
use std::collections::BTreeSet;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::error::CallError;
use atoll_cni_plugin::gc::GcCall;
use atoll_cni_plugin::kernel::{Kernel, Netns, Veth};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::error::Classify;
use atoll_model::ids::{ClaimId, NetworkName};
use atoll_node::files::atomic;
use atoll_node::tombstones::LocalTombstones;
use atoll_records::{ClaimRecord, Key, encode};
use atoll_store::{Store, StoreChange, Txn};

use crate::lab::{Lab, ServerState, attachment};

/// Older than the deadline.
const OLD: u64 = 120;

fn gc(valid: &[&Attachment]) -> GcCall {
    let pair = |attachment: &&Attachment| (attachment.container.clone(), attachment.interface.clone());
    GcCall { network: NetworkName::new("atoll").expect("valid"), valid: valid.iter().map(pair).collect() }
}

async fn collect(lab: &Lab, call: &GcCall) -> Result<(), CallError> {
    Box::pin(lab.plugin().gc(call)).await
}

/// An ADD of a container of its own, in a namespace of its own.
async fn add(lab: &Lab, attachment: Attachment) -> Attachment {
    let sandbox = format!("/netns/{}-{}-{}", attachment.network, attachment.container, attachment.interface);
    lab.kernel.add_netns(&sandbox);
    let call = AddCall { attachment: attachment.clone(), sandbox, ..lab.call() };
    Box::pin(lab.plugin().add(&call)).await.expect("works");
    attachment
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_list_goes_and_the_rest_stays() {
    let lab = Lab::warm().await;
    let keep = add(&lab, attachment("keep", "eth0")).await;
    let gone: Vec<_> = [("a", "eth0"), ("b", "eth0"), ("keep", "eth1")]
        .map(|(container, interface)| attachment(container, interface))
        .into_iter()
        .collect();
    for attachment in &gone {
        add(&lab, attachment.clone()).await;
    }
    let other = Attachment { network: NetworkName::new("other").expect("valid"), ..attachment("a", "eth0") };
    add(&lab, other.clone()).await;
    lab.pass(OLD).await;
    for round in ["first", "again"] {
        collect(&lab, &gc(&[&keep])).await.expect(round);
        let left: BTreeSet<_> = lab.claims().into_iter().map(|claim| claim.attachment).collect();
        assert_eq!(left, BTreeSet::from([keep.clone(), other.clone()]), "{round}");
        assert_eq!((lab.pod_ports().len(), lab.links().len(), lab.lock_files()), (2, 4, 2), "{round}");
    }
    // An empty list is one: nothing of this network is valid.
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!(lab.claims().iter().map(|claim| &claim.attachment).collect::<Vec<_>>(), [&other]);
}

/// The links of a place go in one request.
#[tokio::test(start_paused = true)]
async fn many_links_go_at_once() {
    let lab = Lab::warm().await;
    for n in 0..20 {
        add(&lab, attachment(&format!("pod{n}"), "eth0")).await;
    }
    lab.pass(OLD).await;
    lab.plan.reset();
    collect(&lab, &gc(&[])).await.expect("works");
    let deletions: Vec<_> =
        lab.plan.passed().into_iter().filter(|effect| effect.starts_with("kernel: delete")).collect();
    assert_eq!(deletions, ["kernel: delete 20 links in the node's own network namespace"]);
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn what_is_young_or_locked_is_left_alone() {
    let lab = Lab::warm().await;
    let pod = add(&lab, attachment("pod", "eth0")).await;
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!(lab.claims().len(), 1, "it may be younger than the list");
    lab.pass(OLD).await;
    let plugin = lab.plugin();
    let lock = plugin.attachment_states.try_lock(&pod).expect("works").expect("free");
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!(lab.claims().len(), 1, "a call works on it");
    drop(lock);
    collect(&lab, &gc(&[])).await.expect("works");
    lab.assert_empty("after all");
}

/// The claim that was read is not the one that this node's file knows: the attachment was added again in between.
#[tokio::test(start_paused = true)]
async fn an_attachment_that_was_added_again_since_is_left_alone() {
    let lab = Lab::warm().await;
    let pod = add(&lab, attachment("pod", "eth0")).await;
    lab.pass(OLD).await;
    let earlier = ClaimRecord { claim: ClaimId::random(), ..lab.claims().remove(0) };
    let put = StoreChange::Put { key: Key::from(ClaimRecord::at(&pod)), value: encode(&earlier), lease: None };
    lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("works");
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!((lab.claims().len(), lab.links().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_file_without_a_claim_is_collected() {
    let lab = Lab::warm().await;
    let pod = add(&lab, attachment("pod", "eth0")).await;
    // As after damage to etcd.
    let lost = Txn { then: vec![StoreChange::delete(ClaimRecord::at(&pod))], ..Txn::default() };
    lab.etcd.commit(lost).await.expect("works");
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!(lab.links().len(), 2, "it may be younger than the list");
    lab.age_files(OLD);
    collect(&lab, &gc(&[&pod])).await.expect("works");
    assert_eq!(lab.links().len(), 2, "it is in the list");
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!((lab.links().len(), lab.lock_files()), (0, 0));
}

/// Host ends that no claim and no file names: with a router they are ours alone, in the node's own namespace they may be
/// those of another installation.
#[tokio::test(start_paused = true)]
async fn leftover_host_ends_go_where_they_can_only_be_ours() {
    let lab = Lab::warm().await;
    lab.make_routers();
    let pod = add(&lab, attachment("pod", "eth0")).await;
    let router = lab.links().into_iter().find(|(_, name)| name.starts_with("at")).expect("there").0;
    lab.kernel.add_netns("/netns/strange");
    for (n, place) in [(1, router.clone()), (2, router), (3, Netns::Own)] {
        let strange = attachment(&format!("strange{n}"), "eth0");
        let veth = Veth {
            host_netns: place,
            host_interface: strange.host_interface(),
            pod_netns: "/netns/strange".into(),
            pod_interface: format!("eth{n}").parse().expect("valid"),
            mac: Mac([2, 0, 0, 0, 0, n]),
            mtu: 1450,
        };
        lab.kernel.create(&veth).await.expect("works");
    }
    lab.forget();
    collect(&lab, &gc(&[&pod])).await.expect("works");
    let left: Vec<_> = lab.links().into_iter().map(|(_, name)| name).filter(|name| name.starts_with("at")).collect();
    let expected = [pod.host_interface().to_string(), attachment("strange3", "eth0").host_interface().to_string()];
    assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn every_tombstone_is_resolved() {
    let lab = Lab::warm().await;
    let pods: Vec<_> = (0..10).map(|n| attachment(&format!("pod{n}"), "eth0")).collect();
    for pod in &pods {
        add(&lab, pod.clone()).await;
    }
    lab.controller_state.set(ServerState::Refusing);
    for pod in &pods {
        lab.plugin().del(&crate::lab::del(&AddCall { attachment: pod.clone(), ..lab.call() })).await.expect("works");
    }
    assert_eq!(lab.tombstones().len(), 10);
    lab.controller_state.set(ServerState::Fine);
    collect(&lab, &gc(&[])).await.expect("works");
    lab.assert_empty("after all");
}

/// A call that is killed while it writes a local tombstone leaves a temporary file, of the present prefix or an earlier one.
#[tokio::test(start_paused = true)]
async fn temporary_files_of_killed_calls_are_removed() {
    let lab = Lab::warm().await;
    let attachment = lab.call().attachment;
    let directory = lab.config().state_dir.join("tombstones");
    std::fs::create_dir_all(&directory).expect("made");
    let files = ["/atoll/default", "/atoll/other"].map(|prefix| {
        let path = LocalTombstones::new(&lab.config().state_dir, prefix).path(&attachment);
        let temporary = atomic::temporary(&path);
        std::fs::write(&temporary, "{").expect("written");
        temporary
    });
    collect(&lab, &gc(&[])).await.expect("works");
    assert!(files.iter().all(|file| file.exists()), "a call may be writing them");
    lab.pass(120).await;
    lab.add().await.expect("works");
    lab.move_to("/atoll/other");
    lab.collect_nothing().await;
    assert!(files.iter().all(|file| !file.exists()), "{files:?}");
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_after_a_failure_and_reports_all() {
    let lab = Lab::warm().await;
    for name in ["a", "b", "c"] {
        add(&lab, attachment(name, "eth0")).await;
    }
    lab.pass(OLD).await;
    // Two host interfaces have another owner now: no deletion is requested for them.
    for name in ["a", "b"] {
        let host = attachment(name, "eth0").host_interface();
        lab.kernel.refuse(&Netns::Own, host.as_str());
    }
    let error = collect(&lab, &gc(&[])).await.expect_err("two cannot be deleted");
    assert_eq!(error.class().cni_code(), 103, "{error}");
    let text = error.to_string();
    assert!(text.contains("n1/atoll/a/eth0") && text.contains("n1/atoll/b/eth0"), "{text}");
    let left: Vec<_> = lab.claims().into_iter().map(|claim| claim.attachment.container.to_string()).collect();
    assert!(!left.contains(&"c".to_owned()), "{left:?}");
    // What could not be done is written down, and the next call does it.
    lab.kernel.allow_all();
    collect(&lab, &gc(&[])).await.expect("works");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn without_etcd_only_what_files_tell_is_collected() {
    for state in [ServerState::Refusing, ServerState::Silent] {
        let lab = Lab::warm().await;
        let pod = add(&lab, attachment("pod", "eth0")).await;
        let unknown = add(&lab, attachment("unknown", "eth0")).await;
        lab.pass(OLD).await;
        // Its file is lost: only its claim names the owner of its interface.
        std::fs::remove_file(lab.config().run_dir.join("attachments").join(unknown.hash())).expect("there");
        lab.etcd_state.set(state);
        let error = collect(&lab, &gc(&[&pod])).await.expect_err("etcd is down");
        assert_eq!(error.class().cni_code(), 11, "{error}");
        assert_eq!((lab.links().len(), lab.pod_ports().len()), (4, 2), "nothing was concluded from what is not known");
        let error = collect(&lab, &gc(&[])).await.expect_err("etcd is down");
        assert_eq!(error.class().cni_code(), 11, "{error}");
        assert_eq!((lab.links().len(), lab.local_tombstones().len()), (2, 1), "a file has the pod.s network");
        lab.etcd_state.set(ServerState::Fine);
        // The controller is down: interfaces go, the rest is written down.
        lab.controller_state.set(state);
        collect(&lab, &gc(&[])).await.expect("it is written down");
        assert_eq!((lab.links().len(), lab.tombstones().len()), (0, 2));
        lab.controller_state.set(ServerState::Fine);
        lab.retry_pending_cleanup().await;
        lab.assert_empty("after all");
    }
}

/// A claim that cannot be read has only its key: its interface stays, too.
#[tokio::test(start_paused = true)]
async fn a_damaged_claim_is_left_alone() {
    let lab = Lab::warm().await;
    lab.make_routers();
    let pod = add(&lab, attachment("pod", "eth0")).await;
    lab.pass(OLD).await;
    lab.forget();
    let value = b"{".to_vec();
    let damaged = StoreChange::Put { key: Key::from(ClaimRecord::at(&pod)), value, lease: None };
    lab.etcd.commit(Txn { then: vec![damaged], ..Txn::default() }).await.expect("works");
    collect(&lab, &gc(&[])).await.expect("works");
    assert_eq!((lab.links().len(), lab.pod_ports().len()), (2, 1));
}

/// A namespace that cannot be listed may hold any host end: no attachment of another network is removed, and GC reports the
/// reason.
#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_listed_or_read_keeps_what_may_be_in_it() {
    let renamed = GcCall { network: NetworkName::new("renamed").expect("valid"), valid: BTreeSet::new() };
    let orphan = async || {
        let lab = Lab::warm().await;
        let pod = add(&lab, attachment("pod", "eth0")).await;
        lab.pass(OLD).await;
        lab.kernel.remove_netns(format!("/netns/{}-{}-{}", pod.network, pod.container, pod.interface).as_ref());
        lab.plan.reset();
        (lab, pod)
    };
    let (lab, pod) = orphan().await;
    collect(&lab, &renamed).await.expect("works");
    lab.assert_empty("it has no host end any more");
    let passed = lab.plan.passed();
    let index = |what: &str| passed.iter().position(|effect| effect.starts_with(what)).expect("an effect");
    let inspected = format!("kernel: inspect {}", pod.host_interface());
    for (at, is_reported) in [(index("kernel: list"), true), (index(&inspected), false)] {
        let (lab, _) = orphan().await;
        lab.plan.arm(at, Fault::Refused);
        let collected = collect(&lab, &renamed).await;
        assert_eq!((collected.is_err(), lab.claims().len()), (is_reported, 1), "{}", passed[at]);
        lab.plan.reset();
        collect(&lab, &renamed).await.expect("works");
        lab.assert_empty("after all");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_locked_is_reported_and_keeps_no_other() {
    let lab = Lab::warm().await;
    let pods = [add(&lab, attachment("a", "eth0")).await, add(&lab, attachment("b", "eth0")).await];
    lab.pass(OLD).await;
    let path = lab.config().run_dir.join("attachments").join(pods[0].hash());
    std::fs::remove_file(&path).and_then(|()| std::fs::create_dir(&path)).expect("works");
    let error = collect(&lab, &gc(&[])).await.expect_err("it has no lock").to_string();
    assert!(error.contains(&*path.to_string_lossy()), "{error}");
    assert_eq!(lab.claims().into_iter().map(|claim| claim.attachment).collect::<Vec<_>>(), [pods[0].clone()]);
}

/// Without etcd it is unknown which host ends with a router have a claim.
#[tokio::test(start_paused = true)]
async fn without_etcd_no_host_end_is_taken_for_left_over() {
    let lab = Lab::warm().await;
    lab.make_routers();
    add(&lab, attachment("pod", "eth0")).await;
    lab.pass(OLD).await;
    lab.forget();
    lab.etcd_state.set(ServerState::Refusing);
    collect(&lab, &gc(&[])).await.expect_err("etcd is down");
    assert_eq!(lab.links().len(), 2);
}

/// With a router, too, a host end that only a file names is not orphaned, and one that the kernel keeps is reported.
#[tokio::test(start_paused = true)]
async fn a_host_end_that_a_file_names_is_not_orphaned_and_one_that_stays_is_reported() {
    let lab = Lab::warm().await;
    lab.make_routers();
    let pod = add(&lab, attachment("pod", "eth0")).await;
    let lost = Txn { then: vec![StoreChange::delete(ClaimRecord::at(&pod))], ..Txn::default() };
    lab.etcd.commit(lost).await.expect("works");
    collect(&lab, &gc(&[&pod])).await.expect("works");
    assert_eq!(lab.links().len(), 2, "its file names it");
    lab.forget();
    let (router, host) = lab.links().into_iter().find(|(_, name)| name.starts_with("at")).expect("there");
    lab.kernel.refuse(&router, &host);
    let error = collect(&lab, &gc(&[&pod])).await.expect_err("it stays").to_string();
    assert!(error.contains(&host), "{error}");
    lab.kernel.allow_all();
    collect(&lab, &gc(&[&pod])).await.expect("works");
    assert_eq!(lab.links(), vec![]);
}
