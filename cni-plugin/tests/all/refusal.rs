//! What is still to be cleaned up is cleaned up before a request is refused because of it; and if that cannot be, the
//! refusal names it.

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::error::CallError;
use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::cni::result::AddResult;
use atoll_model::error::Classify;
use atoll_records::Key;
use atoll_store::{Store, StoreChange, Txn};

use crate::lab::{Lab, ServerState, attachment};

async fn add(lab: &Lab, container: &str) -> Result<AddResult, CallError> {
    let sandbox = format!("/netns/{container}");
    lab.kernel.add_netns(&sandbox);
    let call = AddCall { attachment: attachment(container, "eth0"), sandbox, ..lab.call() };
    Box::pin(lab.plugin().add(&call)).await
}

/// A pod that was deleted while a server was down: its address is not free.
async fn deleted(down: fn(&Lab, ServerState), requested: fn(&Lab) -> AddressRequest) -> Lab {
    let lab = Lab::warm().await;
    lab.requested.replace(requested(&lab));
    lab.add().await.expect("works");
    down(&lab, ServerState::Refusing);
    lab.del().await.expect("it is written down");
    down(&lab, ServerState::Fine);
    lab
}

fn controller(lab: &Lab, state: ServerState) {
    lab.controller_state.set(state);
}

fn etcd(lab: &Lab, state: ServerState) {
    lab.etcd_state.set(state);
}

fn seventh(lab: &Lab) -> AddressRequest {
    AddressRequest {
        addresses: vec![lab.first_subnet().nth(7).expect("it is large enough").into()],
        ..AddressRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_request_wants_is_cleaned_up_before_it_is_refused() {
    let mac = |_: &Lab| AddressRequest { mac: Some(Mac([2, 0, 0x5e, 0x10, 0, 9])), ..AddressRequest::default() };
    for (down, whose) in [(controller as fn(&Lab, ServerState), "the controller"), (etcd, "etcd")] {
        for requested in [seventh as fn(&Lab) -> AddressRequest, mac] {
            let lab = deleted(down, requested).await;
            let requested = lab.requested.borrow().clone();
            // The mark in `runDir` may be lost: a refusal searches without it.
            let _ = std::fs::remove_file(lab.config().run_dir.join("pending-cleanup"));
            let attached =
                add(&lab, "next").await.unwrap_or_else(|error| panic!("{whose} was down, {requested}: {error:?}"));
            assert!(requested.addresses.iter().all(|requested| *requested == attached.addresses[0].0.ip()), "{whose}");
            assert_eq!(
                (lab.claims().len(), lab.tombstones().len(), lab.local_tombstones().len()),
                (1, 0, 0),
                "{whose}, {requested}"
            );
        }
    }
}

/// All that is pending holds what a full subnet lacks.
#[tokio::test(start_paused = true)]
async fn a_full_subnet_has_room_when_what_is_pending_is_cleaned_up() {
    let lab = Lab::small().await;
    lab.requested.replace(AddressRequest {
        subnet: Some(SubnetChoice::Cidr(lab.first_subnet().into())),
        ..AddressRequest::default()
    });
    let mut pods = Vec::new();
    let refused = loop {
        let container = format!("pod{}", pods.len());
        match add(&lab, &container).await {
            Ok(_) => pods.push(container),
            Err(error) => break error,
        }
        assert!(pods.len() < 64, "the subnet is never full");
    };
    assert_eq!(refused.to_string().matches("pending").count(), 0, "{refused}");
    let class = refused.class();
    lab.controller_state.set(ServerState::Refusing);
    for container in &pods {
        let call = AddCall { attachment: attachment(container, "eth0"), ..lab.call() };
        lab.plugin().del(&crate::lab::del(&call)).await.expect("it is written down");
    }
    let refused = add(&lab, "next").await.expect_err("nothing can be cleaned up");
    assert_eq!(refused.class(), class, "what is pending does not change whose affair it is");
    let refused = refused.to_string();
    assert!(refused.contains("cleanup is pending"), "{refused}");
    let named = refused.matches("is deleted but not cleaned up").count();
    assert!(named == 4 && refused.contains(&format!("and {} more", pods.len() - named)), "{refused}");
    lab.controller_state.set(ServerState::Fine);
    add(&lab, "next").await.expect("there is room");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_what_is_pending_and_where() {
    // In etcd, for a node that is not this one.
    let lab = deleted(controller, seventh).await;
    for record in lab.etcd.dump() {
        let key = record.key.as_str();
        if let Some(rest) = key.strip_prefix("v2/tombstones/n1/").or_else(|| key.strip_prefix("v2/claims/n1/")) {
            let kind = key.split('/').nth(1).expect("has one");
            let value = String::from_utf8(record.value.clone()).expect("text").replace(r#""n1""#, r#""n9""#);
            let put = StoreChange::Put {
                key: Key::raw(format!("v2/{kind}/n9/{rest}")),
                value: value.into_bytes(),
                lease: None,
            };
            let then = vec![put, StoreChange::Delete(record.key.clone())];
            lab.etcd.commit(Txn { then, ..Txn::default() }).await.expect("works");
        }
    }
    let refused = add(&lab, "next").await.expect_err("only that node may resolve it");
    let text = refused.to_string();
    for part in ["n9/atoll/pod/eth0", "node n9", "/atoll/default/v2/tombstones/n9/atoll/pod/eth0", "connection refused"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A fence, which must wait.
    let lab = Lab::warm().await;
    lab.requested.replace(seventh(&lab));
    lab.controller_state.set(ServerState::Slow);
    lab.add().await.expect_err("no answer");
    lab.controller_state.set(ServerState::Fine);
    let text = add(&lab, "next").await.expect_err("a late port may still come").to_string();
    assert!(text.contains("cleanup is pending") && text.contains("not before"), "{text}");
    assert_eq!(lab.claims().len(), 1, "the refused one has none");
}

/// Of all that is pending only what holds what was asked for is a reason.
#[tokio::test(start_paused = true)]
async fn a_refusal_names_only_what_holds_what_was_asked_for() {
    let lab = Lab::warm().await;
    let mac = Mac([2, 0, 0x5e, 0x10, 0, 9]);
    let ask = |container: &str, namespace: &str, requested: AddressRequest| {
        let sandbox = format!("/netns/{container}");
        lab.kernel.add_netns(&sandbox);
        let mut call = AddCall { attachment: attachment(container, "eth0"), sandbox, requested, ..lab.call() };
        call.pod.namespace = Some(namespace.parse().expect("valid"));
        call
    };
    let (seven, subnet) = (seventh(&lab), lab.first_subnet());
    let mine = AddressRequest { mac: Some(mac), ..seven.clone() };
    let calls = [
        ask("holder", "red", mine.clone()),
        ask("plain", "red", AddressRequest::default()),
        ask("blue", "blue", AddressRequest { mac: Some(mac), ..AddressRequest::default() }),
    ];
    let mut attached = Vec::new();
    for call in &calls {
        attached.push(Box::pin(lab.plugin().add(call)).await.expect("works"));
    }
    lab.controller_state.set(ServerState::Refusing);
    for call in &calls {
        lab.plugin().del(&crate::lab::del(call)).await.expect("it is recorded");
    }
    for requested in [seven, AddressRequest { mac: Some(mac), ..AddressRequest::default() }] {
        let error = Box::pin(lab.plugin().add(&ask("next", "red", requested.clone()))).await.expect_err("it is held");
        let text = error.to_string();
        assert!(text.contains("n1/atoll/holder/eth0"), "{requested}: {text}");
        assert!(!text.contains("atoll/plain/") && !text.contains("atoll/blue/"), "{requested}: {text}");
    }
    // The request of an attachment that has one itself.
    let mut again = calls[1].clone();
    // Another address than the one that it got by chance.
    let has = attached[1].addresses[0].0.ip();
    let other =
        [9, 10].into_iter().filter_map(|n| subnet.nth(n).map(std::net::IpAddr::V4)).find(|address| *address != has);
    again.requested =
        AddressRequest { addresses: vec![other.expect("the subnet is large enough")], ..AddressRequest::default() };
    let text = Box::pin(lab.plugin().add(&again)).await.expect_err("its own is pending").to_string();
    assert!(text.contains("n1/atoll/plain/eth0") && text.contains("cleanup is pending"), "{text}");
}

/// A local tombstone that cannot be moved yet is named with its file; one of this node where its role covers no other.
#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_file_and_what_the_nodes_role_lets_it_see() {
    let lab = deleted(etcd, seventh).await;
    let (plugin, own) = (lab.plugin(), lab.call().attachment);
    let lock = plugin.attachment_states.try_lock(&own).expect("works").expect("free");
    let text = add(&lab, "next").await.expect_err("a call works on it").to_string();
    let path = plugin.local_tombstones.path(&own);
    assert!(text.contains(&format!("file {}", path.display())), "{text}");
    drop(lock);
    let lab = deleted(controller, seventh).await;
    lab.controller_state.set(ServerState::Refusing);
    lab.deny(&["v2/tombstones/"]);
    let text = add(&lab, "next").await.expect_err("it is held").to_string();
    assert!(text.contains("cleanup is pending") && text.contains("n1/atoll/pod/eth0"), "{text}");
    // Nothing of it can be seen: the refusal is what it was.
    lab.deny(&["v2/tombstones/*"]);
    let error = add(&lab, "next").await.expect_err("it is held");
    let text = error.to_string();
    assert!(matches!(error, CallError::Ipam(_)) && !text.contains("denied") && !text.contains("pending"), "{text}");
}

/// Cleaning up before a refusal takes three seconds at most, however much time the call has.
#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_wait_for_a_controller_that_does_not_answer() {
    let lab = deleted(controller, seventh).await;
    lab.controller_state.set(ServerState::Silent);
    let begun = tokio::time::Instant::now();
    add(&lab, "next").await.expect_err("it is held");
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// The DEL of the attachment itself could not finish: what it left is not a reason to refuse its next ADD.
#[tokio::test(start_paused = true)]
async fn another_request_of_the_same_attachment_waits_for_no_other_call() {
    for down in [controller as fn(&Lab, ServerState), etcd] {
        for another_tenant in [false, true] {
            let lab = deleted(down, seventh).await;
            let mut call = lab.call();
            if another_tenant {
                call.pod.namespace = Some("blue".parse().expect("valid"));
                call.requested = AddressRequest::default();
            } else {
                call.requested.addresses = vec![lab.first_subnet().nth(9).expect("it is large enough").into()];
            }
            let attached = Box::pin(lab.plugin().add(&call)).await.expect("nothing is in the way");
            assert!(call.requested.addresses.iter().all(|requested| *requested == attached.addresses[0].0.ip()));
            assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
            assert_eq!((lab.tombstones().len(), lab.local_tombstones().len()), (0, 0));
            lab.del().await.expect("works");
            lab.assert_empty("after all");
        }
    }
    // A pod that runs is not deleted for another request.
    let lab = Lab::warm().await;
    let had = lab.add().await.expect("works").addresses[0].0.ip();
    lab.put_tombstone().await;
    let mut call = lab.call();
    // The pod has a random address, which may be the seventh.
    let other =
        [7, 8].map(|n| lab.first_subnet().nth(n).expect("it is large enough").into()).into_iter().find(|n| *n != had);
    call.requested.addresses = other.into_iter().collect();
    Box::pin(lab.plugin().add(&call)).await.expect_err("it has another address");
    assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
}

/// A local tombstone leaves a mark: the next ADD, of any pod, moves it to etcd and resolves it.
#[tokio::test(start_paused = true)]
async fn a_local_tombstone_is_resolved_by_the_next_add() {
    let lab = deleted(etcd, |_| AddressRequest::default()).await;
    assert_eq!((lab.local_tombstones().len(), lab.tombstones().len()), (1, 0));
    add(&lab, "next").await.expect("works");
    assert_eq!((lab.local_tombstones().len(), lab.tombstones().len(), lab.claims().len()), (0, 0, 1));
}

/// An attachment on which a call works, or whose pod runs, is skipped by calls that resolve tombstones.
#[tokio::test(start_paused = true)]
async fn resolving_skips_what_is_being_worked_on() {
    for is_held in [false, true] {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        lab.put_tombstone().await;
        let plugin = lab.plugin();
        let lock = is_held.then(|| {
            lab.forget();
            plugin.attachment_states.try_lock(&lab.call().attachment).expect("works").expect("free")
        });
        let call = AddCall { attachment: attachment("next", "eth0"), ..lab.call() };
        lab.retry_pending_cleanup().await;
        lab.plugin().del(&crate::lab::del(&call)).await.expect("nothing to do");
        lab.collect_nothing().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2), "held {is_held}");
        assert_eq!(lab.tombstones().len(), 1, "held {is_held}");
        drop(lock);
    }
}

/// One that fails every time does not keep the others waiting.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_resolved_hides_nothing() {
    let lab = Lab::warm().await;
    for container in ["a", "b", "c"] {
        add(&lab, container).await.expect("works");
    }
    lab.controller_state.set(ServerState::Refusing);
    let host = attachment("a", "eth0").host_interface();
    lab.kernel.refuse(&atoll_cni_plugin::kernel::Netns::Own, host.as_str());
    for container in ["a", "b", "c"] {
        let sandbox = format!("/netns/{container}");
        let call = AddCall { attachment: attachment(container, "eth0"), sandbox, ..lab.call() };
        let deleted = lab.plugin().del(&crate::lab::del(&call)).await;
        assert_eq!(deleted.is_err(), container == "a", "{deleted:?}");
    }
    // The runtime never calls again, and the file of the first one is lost.
    lab.forget();
    lab.controller_state.set(ServerState::Fine);
    lab.retry_pending_cleanup().await;
    let left: Vec<Attachment> = lab.tombstones().into_iter().map(|tombstone| tombstone.attachment).collect();
    assert_eq!(left, [attachment("a", "eth0")]);
}
