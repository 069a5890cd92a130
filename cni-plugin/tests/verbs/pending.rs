//! What is still to be cleaned up is cleaned up before a request is refused because of it; and if that cannot be, the
//! refusal names it.

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::error::Error;
use atoll_model::attachment::{Attachment, Mac};
use atoll_model::cni::result::Attached;
use atoll_model::wish::{SubnetChoice, Wish};
use atoll_store::{Change, Key, Store, Txn};

use crate::lab::{Lab, Mood, attachment};

async fn add(lab: &Lab, container: &str) -> Result<Attached, Error> {
    let sandbox = format!("/netns/{container}");
    lab.kernel.add_netns(&sandbox);
    let call = AddCall { attachment: attachment(container, "eth0"), sandbox, ..lab.call() };
    Box::pin(lab.world().add(&call)).await
}

/// A pod that was deleted while something was down: its address is not free.
async fn deleted(down: fn(&Lab, Mood), wish: fn(&Lab) -> Wish) -> Lab {
    let lab = Lab::warm().await;
    lab.wish.replace(wish(&lab));
    lab.add().await.expect("works");
    down(&lab, Mood::Refusing);
    lab.del().await.expect("it is written down");
    down(&lab, Mood::Fine);
    lab
}

fn controller(lab: &Lab, mood: Mood) {
    lab.controller_mood.set(mood);
}

fn etcd(lab: &Lab, mood: Mood) {
    lab.etcd_mood.set(mood);
}

fn seventh(lab: &Lab) -> Wish {
    Wish { addresses: vec![lab.first_subnet().nth(7).expect("it is large enough")], ..Wish::default() }
}

#[tokio::test(start_paused = true)]
async fn what_a_request_wants_is_cleaned_up_before_it_is_refused() {
    let mac = |_: &Lab| Wish { mac: Some(Mac([2, 0, 0x5e, 0x10, 0, 9])), ..Wish::default() };
    for (down, whose) in [(controller as fn(&Lab, Mood), "the controller"), (etcd, "etcd")] {
        for wish in [seventh as fn(&Lab) -> Wish, mac] {
            let lab = deleted(down, wish).await;
            let wish = lab.wish.borrow().clone();
            // The mark in `runDir` may be lost: a refusal looks without it.
            let _ = std::fs::remove_file(lab.config().run_dir.join("owed"));
            let attached =
                add(&lab, "next").await.unwrap_or_else(|error| panic!("{whose} was down, {wish}: {error:?}"));
            assert!(wish.addresses.iter().all(|wished| *wished == attached.addresses[0].0.ip()), "{whose}");
            assert_eq!((lab.claims().len(), lab.tombstones().len(), lab.graves().len()), (1, 0, 0), "{whose}, {wish}");
        }
    }
}

/// All that is pending holds what a full subnet lacks.
#[tokio::test(start_paused = true)]
async fn a_full_subnet_has_room_when_what_is_pending_is_cleaned_up() {
    let lab = Lab::small().await;
    lab.wish.replace(Wish { subnet: Some(SubnetChoice::Cidr(lab.first_subnet())), ..Wish::default() });
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
    lab.controller_mood.set(Mood::Refusing);
    for container in &pods {
        let call = AddCall { attachment: attachment(container, "eth0"), ..lab.call() };
        lab.world().del(&crate::lab::del(&call)).await.expect("it is written down");
    }
    let refused = add(&lab, "next").await.expect_err("nothing can be cleaned up").to_string();
    assert!(refused.contains("cleanup is pending") && refused.contains("and "), "{refused}");
    lab.controller_mood.set(Mood::Fine);
    add(&lab, "next").await.expect("there is room");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_what_is_pending_and_where() {
    // In etcd, for a node that is not this one.
    let lab = deleted(controller, seventh).await;
    for record in lab.etcd.dump() {
        let key = record.key.as_str();
        if let Some(rest) = key.strip_prefix("v1/tombstones/n1/").or_else(|| key.strip_prefix("v1/attachments/n1/")) {
            let kind = key.split('/').nth(1).expect("has one");
            let value = String::from_utf8(record.value.clone()).expect("text").replace(r#""n1""#, r#""n9""#);
            let put =
                Change::Put { key: Key::raw(format!("v1/{kind}/n9/{rest}")), value: value.into_bytes(), lease: None };
            let then = vec![put, Change::Delete(record.key.clone())];
            lab.etcd.commit(Txn { then, ..Txn::default() }).await.expect("works");
        }
    }
    let refused = add(&lab, "next").await.expect_err("only that node may settle it");
    let text = refused.to_string();
    for part in ["n9/atoll/pod/eth0", "node n9", "/atoll/default/v1/tombstones/n9/atoll/pod/eth0", "connection refused"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A fence, which must wait.
    let lab = Lab::warm().await;
    lab.wish.replace(seventh(&lab));
    lab.controller_mood.set(Mood::Slow);
    lab.add().await.expect_err("no answer");
    lab.controller_mood.set(Mood::Fine);
    let text = add(&lab, "next").await.expect_err("a late port may still come").to_string();
    assert!(text.contains("cleanup is pending") && text.contains("not before"), "{text}");
    assert_eq!(lab.claims().len(), 1, "the refused one has none");
}

/// The DEL of the attachment itself could not finish: what it left is not a reason to refuse its next ADD.
#[tokio::test(start_paused = true)]
async fn another_request_of_the_same_attachment_waits_for_no_other_call() {
    for down in [controller as fn(&Lab, Mood), etcd] {
        for another_tenant in [false, true] {
            let lab = deleted(down, seventh).await;
            let mut call = lab.call();
            if another_tenant {
                call.pod.namespace = Some("blue".parse().expect("valid"));
                call.wish = Wish::default();
            } else {
                call.wish.addresses = vec![lab.first_subnet().nth(9).expect("it is large enough")];
            }
            let attached = Box::pin(lab.world().add(&call)).await.expect("nothing is in the way");
            assert!(call.wish.addresses.iter().all(|wished| *wished == attached.addresses[0].0.ip()));
            assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
            assert_eq!((lab.tombstones().len(), lab.graves().len()), (0, 0));
            lab.del().await.expect("works");
            lab.assert_empty("after all");
        }
    }
    // A pod that runs is not deleted for another request.
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.bury().await;
    let mut call = lab.call();
    call.wish = seventh(&lab);
    Box::pin(lab.world().add(&call)).await.expect_err("it has another address");
    assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
}

/// A local tombstone leaves a mark: the next ADD, of whatever pod, moves it to etcd and settles it.
#[tokio::test(start_paused = true)]
async fn a_local_tombstone_is_settled_by_the_next_add() {
    let lab = deleted(etcd, |_| Wish::default()).await;
    assert_eq!((lab.graves().len(), lab.tombstones().len()), (1, 0));
    add(&lab, "next").await.expect("works");
    assert_eq!((lab.graves().len(), lab.tombstones().len(), lab.claims().len()), (0, 0, 1));
}

/// An attachment on which a call works, or whose pod runs, is left alone by whoever settles tombstones.
#[tokio::test(start_paused = true)]
async fn settling_leaves_alone_what_is_being_worked_on() {
    for is_held in [false, true] {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        lab.bury().await;
        let world = lab.world();
        let lock = is_held.then(|| {
            lab.forget();
            world.journals.try_lock(&lab.call().attachment).expect("works").expect("free")
        });
        let call = AddCall { attachment: attachment("next", "eth0"), ..lab.call() };
        lab.drain().await;
        lab.world().del(&crate::lab::del(&call)).await.expect("nothing to do");
        lab.collect_nothing().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2), "held {is_held}");
        assert_eq!(lab.tombstones().len(), 1, "held {is_held}");
        drop(lock);
    }
}

/// One that fails every time does not keep the others waiting.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_settled_hides_nothing() {
    let lab = Lab::warm().await;
    for container in ["a", "b", "c"] {
        add(&lab, container).await.expect("works");
    }
    lab.controller_mood.set(Mood::Refusing);
    let host = attachment("a", "eth0").host_interface();
    lab.kernel.refuse(&atoll_cni_plugin::wire::Netns::Own, host.as_str());
    for container in ["a", "b", "c"] {
        let sandbox = format!("/netns/{container}");
        let call = AddCall { attachment: attachment(container, "eth0"), sandbox, ..lab.call() };
        let deleted = lab.world().del(&crate::lab::del(&call)).await;
        assert_eq!(deleted.is_err(), container == "a", "{deleted:?}");
    }
    // The runtime never calls again, and the file of the first one is lost.
    lab.forget();
    lab.controller_mood.set(Mood::Fine);
    lab.drain().await;
    let left: Vec<Attachment> = lab.tombstones().into_iter().map(|tombstone| tombstone.attachment).collect();
    assert_eq!(left, [attachment("a", "eth0")]);
}
