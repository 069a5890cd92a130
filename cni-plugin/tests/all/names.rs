//! What this machine made under another name, of the node or of the network, or under another prefix of etcd, is found;
//! what another machine made is not.

use std::collections::BTreeSet;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::error::CallError;
use atoll_cni_plugin::gc::GcCall;
use atoll_cni_plugin::kernel::Netns;
use atoll_model::attachment::Attachment;
use atoll_model::error::Classify;
use atoll_model::ids::{NetworkName, NodeName};
use atoll_records::{ClaimRecord, Key, NodeRecord, SCHEMA, Unknown, encode};
use atoll_store::{Store, StoreChange, Txn};
use uuid::Uuid;

use crate::lab::{Lab, NETNS, ServerState, del};

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("valid")
}

fn network(text: &str) -> NetworkName {
    NetworkName::new(text).expect("valid")
}

/// The machine is called otherwise from now on.
fn rename(lab: &Lab) {
    lab.node.replace(name("n1.example.com"));
}

async fn gc(lab: &Lab, network: NetworkName) -> Result<(), CallError> {
    Box::pin(lab.plugin().gc(&GcCall { network, valid: BTreeSet::new() })).await
}

/// Deletes `runDir`, `stateDir` or both, as a reboot or a new disk would; returns what was deleted, for messages.
fn lose(lab: &Lab, run_dir: bool, state_dir: bool) -> String {
    let config = lab.config();
    for (is_lost, directory) in [(run_dir, config.run_dir), (state_dir, config.state_dir)] {
        if is_lost {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
    format!("runDir lost {run_dir}, stateDir lost {state_dir}")
}

/// Sets whether etcd and the controller work; otherwise they refuse connections.
fn set_servers(lab: &Lab, work: bool) {
    for state in [&lab.etcd_state, &lab.controller_state] {
        state.set(if work { ServerState::Fine } else { ServerState::Refusing });
    }
}

#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_finds_what_was_made() {
    // Which of its files the node has lost.
    for (run, state) in [(false, false), (true, false), (false, true), (true, true)] {
        for by_node in [true, false] {
            let lab = Lab::warm().await;
            lab.add().await.expect("works");
            let when = format!("{}, the node was renamed {by_node}", lose(&lab, run, state));
            let mut call = lab.call();
            if by_node {
                rename(&lab);
                call = lab.call();
            } else {
                call.attachment.network = network("renamed");
            }
            lab.plugin().del(&del(&call)).await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
            lab.assert_empty(&when);
        }
    }
}

/// All servers are down: the attachments in this node's files are removed, and the rest is recorded under their own
/// name.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_needs_no_server() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    rename(&lab);
    set_servers(&lab, false);
    lab.del().await.expect("it is written down");
    assert_eq!(lab.links(), vec![]);
    set_servers(&lab, true);
    lab.retry_pending_cleanup().await;
    lab.assert_empty("what was recorded under the earlier name is resolved");
}

/// The same if etcd does not answer, and a DEL has only its files.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_does_not_wait_for_etcd() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    rename(&lab);
    lab.etcd_state.set(ServerState::Silent);
    let begun = tokio::time::Instant::now();
    lab.del().await.expect("it is written down");
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(lab.links(), vec![]);
}

/// What has no name of its own to be found by: the rules of a further interface, in the namespace that the DEL names.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_takes_the_rules_of_a_further_interface_along() {
    let lab = Lab::warm().await;
    lab.interface.set("eth1");
    lab.add().await.expect("works");
    assert!(!lab.kernel.all_rules().is_empty());
    rename(&lab);
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}

/// What cannot be taken apart under another name is a failure like one under the present name.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_fails_when_that_fails() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    let host = lab.call().attachment.host_interface();
    rename(&lab);
    lab.kernel.refuse(&Netns::Own, host.as_str());
    lab.kernel.refuse(&Netns::At(crate::lab::NETNS.into()), "eth0");
    let error = lab.del().await.expect_err("the interface stays");
    assert!(error.to_string().contains(host.as_str()), "{error}");
    lab.kernel.allow_all();
    lab.del().await.expect("works");
    lab.assert_empty("after all");

    lab.add().await.expect_err("the node has a name");
    lab.node.replace(name("n1"));
    lab.add().await.expect("works");
    rename(&lab);
    lab.etcd_state.set(ServerState::Refusing);
    let tombstones = lab.config().state_dir.join("tombstones");
    let _ = std::fs::remove_dir_all(&tombstones);
    std::fs::write(&tombstones, "").expect("written");
    lab.del().await.expect_err("it can be written down nowhere");
    std::fs::remove_file(&tombstones).expect("there");
    lab.del().await.expect("it is written down");
    lab.etcd_state.set(ServerState::Fine);
    lab.retry_pending_cleanup().await;
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn gc_finds_what_was_made_under_another_name() {
    for (run, state) in [(false, false), (false, true), (true, true)] {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        lab.pass(120).await;
        let when = lose(&lab, run, state);
        rename(&lab);
        gc(&lab, lab.call().attachment.network).await.expect("works");
        lab.assert_empty(&when);
    }
}

/// Of another network GC has no list: what has an interface may be a pod. What has none is no pod any more.
#[tokio::test(start_paused = true)]
async fn gc_takes_from_another_network_only_what_has_no_interface() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.pass(120).await;
    gc(&lab, network("renamed")).await.expect("works");
    assert_eq!((lab.claims().len(), lab.links().len()), (1, 2), "it may be a pod of another network");
    lab.kernel.remove_netns(std::path::Path::new(NETNS));
    gc(&lab, network("renamed")).await.expect("works");
    lab.assert_empty("the pod is gone");
}

#[tokio::test(start_paused = true)]
async fn a_second_name_is_refused_and_both_are_named() {
    let lab = Lab::warm().await;
    let before = lab.etcd.dump();
    rename(&lab);
    for lost in [false, true] {
        lose(&lab, false, lost);
        let error = lab.add().await.expect_err("it has a name");
        assert_eq!(error.class().cni_code(), 7, "{error}");
        let text = error.to_string();
        assert!(text.contains("node n1,") && text.contains("n1.example.com"), "{text}");
        assert!(error.hint().is_some_and(|hint| hint.contains("evict-node n1 --forget")), "{error:?}");
        assert_eq!(lab.etcd.dump(), before, "nothing was written");
    }
    // The cluster has forgotten the first one: now it is a new node.
    let forgotten = Txn { then: vec![StoreChange::delete(NodeRecord::at(&name("n1")))], ..Txn::default() };
    lab.etcd.commit(forgotten).await.expect("works");
    lab.add().await.expect("works");
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}

/// The name of another machine: records under it are not ours, even if this machine has recorded the name.
#[tokio::test(start_paused = true)]
async fn another_machines_name_gives_no_right_to_what_it_made() {
    for remembered in [false, true] {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        lab.controller_state.set(ServerState::Refusing);
        let second = AddCall { attachment: crate::lab::attachment("second", "eth0"), ..lab.call() };
        lab.controller_state.set(ServerState::Fine);
        lab.put_tombstone().await;
        // What this machine knows is gone; it was another that made the records.
        lose(&lab, true, false);
        let record = NodeRecord {
            v: SCHEMA,
            host_id: Uuid::from_u128(9).into(),
            machine_id: "another".to_owned(),
            epoch: 0,
            writer: 0,
            evicting: None,
            unknown: Unknown::new(),
        };
        let put = StoreChange::Put { key: Key::from(NodeRecord::at(&name("n1"))), value: encode(&record), lease: None };
        lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("works");
        if remembered {
            lab.node.replace(name("n2"));
        }
        lab.pass(120).await;
        lab.retry_pending_cleanup().await;
        gc(&lab, lab.call().attachment.network).await.expect("works");
        // Under a name of its own this machine deletes the very container and interface.
        let of_pod = if remembered { lab.call().attachment } else { second.attachment };
        lab.plugin().del(&del(&AddCall { attachment: of_pod, ..lab.call() })).await.expect("nothing to do");
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.tombstones().len()), (1, 1, 1), "{remembered}");
    }
}

/// The pod of the lab, made before the configuration named another prefix; another one was made since.
async fn moved() -> Lab {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.move_to("/atoll/other");
    let call = AddCall { attachment: crate::lab::attachment("first", "eth0"), ..lab.call() };
    let call = AddCall { sandbox: "/netns/other".to_owned(), ..call };
    Box::pin(lab.plugin().add(&call)).await.expect("another pod");
    Box::pin(lab.plugin().del(&del(&call))).await.expect("goes again");
    lab
}

#[tokio::test(start_paused = true)]
async fn a_del_under_another_prefix_finds_what_was_made() {
    // Which of its files the node has lost. Without any, no file has the other prefix.
    for (run, state) in [(false, false), (true, false), (false, true)] {
        let lab = moved().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len()), (1, 1));
        let when = lose(&lab, run, state);
        lab.del().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
        lab.assert_empty(&when);
        lab.del().await.unwrap_or_else(|error| panic!("{when}, again: {error:?}"));
        lab.assert_empty(&when);
    }
}

/// No server answers: what is left is written down for the prefix under which it was made.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_prefix_needs_no_server() {
    for lost in [false, true] {
        let lab = moved().await;
        lose(&lab, lost, false);
        set_servers(&lab, false);
        lab.del().await.expect("it is written down");
        assert_eq!(lab.links(), vec![]);
        set_servers(&lab, true);
        lab.pass_request_lifetime().await;
        lab.retry_pending_cleanup().await;
        lab.assert_empty(&format!("runDir lost {lost}"));
    }
}

#[tokio::test(start_paused = true)]
async fn gc_finds_what_was_made_under_another_prefix_and_keeps_what_is_listed() {
    for (run, state) in [(false, false), (true, false), (false, true)] {
        let lab = moved().await;
        let when = lose(&lab, run, state);
        lab.pass(120).await;
        lab.age_files(120);
        lab.collect_nothing().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2), "{when}: it is listed");
        lab.collect().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
        lab.assert_empty(&when);
    }
}

/// Its host end is with a router of the local data plane, and only the claim under the earlier prefix names its owner.
#[tokio::test(start_paused = true)]
async fn gc_takes_no_interface_of_another_prefix_for_a_leftover() {
    let lab = Lab::warm().await;
    lab.make_routers();
    lab.add().await.expect("works");
    assert!(lab.links().iter().any(|(place, _)| *place != Netns::Own && *place != Netns::At(NETNS.into())));
    lab.move_to("/atoll/other");
    lab.forget();
    lab.collect_nothing().await;
    assert_eq!(lab.links().len(), 2, "it is a pod's");
}

/// Another call of an attachment that was made under another prefix reports that, and changes nothing.
#[tokio::test(start_paused = true)]
async fn an_add_under_another_prefix_is_refused_and_both_are_named() {
    let lab = moved().await;
    let error = lab.add().await.expect_err("it is there, under the other prefix");
    assert_eq!(error.class().cni_code(), 7, "{error}");
    let text = error.to_string();
    assert!(text.contains("/atoll/default,") && text.contains("/atoll/other"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("/atoll/default")), "{error:?}");
    assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
    lab.del().await.expect("works");
    lab.add().await.expect("it is new");
    lab.move_to("/atoll/default");
    lab.del().await.expect("works");
    lab.assert_empty("and the same back");
}

/// Another name is one of the machine: container and interface must be those of the call.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_touches_no_other_pod() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    rename(&lab);
    let before = (lab.claims(), lab.pod_ports(), lab.links());
    for (container, interface) in [("other", "eth0"), ("pod", "eth1")] {
        let other = Attachment { node: lab.node.borrow().clone(), ..crate::lab::attachment(container, interface) };
        let call = AddCall { attachment: other, sandbox: "/netns/other".to_owned(), ..lab.call() };
        lab.plugin().del(&del(&call)).await.expect("nothing to do");
        assert_eq!((lab.claims(), lab.pod_ports(), lab.links()), before, "{container} {interface}");
    }
}

/// A tombstone names what was made as a claim does: a local one where no server answers, one in etcd where the claim is lost.
#[tokio::test(start_paused = true)]
async fn a_tombstone_of_another_name_is_found_too() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    let host = lab.call().attachment.host_interface();
    lab.kernel.refuse(&Netns::Own, host.as_str());
    lab.etcd_state.set(ServerState::Refusing);
    lab.del().await.expect_err("the interface stays");
    assert_eq!((lab.local_tombstones().len(), lab.links().len()), (1, 2));
    lab.forget();
    lab.kernel.allow_all();
    rename(&lab);
    lab.del().await.expect("it is written down");
    assert_eq!(lab.links(), vec![], "a local tombstone has it");

    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.controller_state.set(ServerState::Refusing);
    lab.del().await.expect("it is written down");
    lab.controller_state.set(ServerState::Fine);
    let lost = Txn { then: vec![StoreChange::delete(ClaimRecord::at(&lab.call().attachment))], ..Txn::default() };
    lab.etcd.commit(lost).await.expect("works");
    lose(&lab, true, true);
    rename(&lab);
    lab.del().await.expect("works");
    assert_eq!((lab.pod_ports().len(), lab.tombstones().len()), (0, 0), "one in etcd has it");
}

/// The role of a node's certificate may cover its present name alone: records of other names that it cannot read are
/// skipped, and those of its own name are reported.
#[tokio::test(start_paused = true)]
async fn a_role_that_covers_the_present_name_alone_is_enough() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.pass(120).await;
    rename(&lab);
    lab.deny(&["v2/claims/n1/*", "v2/tombstones/n1/*", "v2/nodes/n1", "v2/nodes/"]);
    lab.del().await.expect("a file has it");
    assert_eq!(lab.links(), vec![]);
    gc(&lab, network("atoll")).await.expect("what it cannot see it leaves");

    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.pass(120).await;
    lab.deny(&["v2/claims/n1/*"]);
    let error = gc(&lab, network("atoll")).await.expect_err("its own claims cannot be read");
    assert!(error.to_string().contains("permission denied"), "{error}");
}
