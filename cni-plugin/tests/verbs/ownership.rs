//! Whose is what: nothing of anybody else is touched, and calls for one attachment join.

use std::path::Path;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::del::DelCall;
use atoll_cni_plugin::error::Error;
use atoll_cni_plugin::wire::{Netns, Wire};
use atoll_model::error::Classify;
use atoll_model::ids::Namespace;
use atoll_store::{Change, Key, Store, Txn};

use crate::lab::{Lab, NETNS, attachment, del};

#[tokio::test(start_paused = true)]
async fn bad_namespaces_change_nothing() {
    let lab = Lab::warm().await;
    lab.kernel.add_file("/netns/file");
    lab.kernel.add_own("/netns/own");
    let before = lab.etcd.dump();
    for path in ["/netns/none", "/netns/file", "/netns/own"] {
        let call = AddCall { sandbox: path.to_owned(), ..lab.call() };
        let error = lab.world().add(&call).await.expect_err(path);
        assert_eq!(error.class().cni_code(), 8, "{error}");
        lab.assert_empty(path);
        assert_eq!(lab.etcd.dump(), before, "{path}");
    }
    // DEL: what is gone is done; one's own namespace is refused.
    for path in [None, Some("/netns/none"), Some("/netns/file")] {
        let call = DelCall { sandbox: path.map(str::to_owned), ..del(&lab.call()) };
        lab.world().del(&call).await.expect("nothing to do");
    }
    let own = DelCall { sandbox: Some("/netns/own".to_owned()), ..del(&lab.call()) };
    assert_eq!(lab.world().del(&own).await.expect_err("refused").class().cni_code(), 8);
    // Who insists may.
    let call = AddCall { sandbox: "/netns/own".to_owned(), own_netns: true, ..lab.call() };
    lab.world().add(&call).await.expect("insists");
    lab.world().del(&DelCall { own_netns: true, ..del(&call) }).await.expect("insists");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_interface_is_left_alone() {
    let lab = Lab::warm().await;
    let netns = Netns::At(NETNS.into());
    lab.kernel.add_foreign(&netns, "eth0", true);
    let before = (lab.etcd.dump(), lab.links());
    let error = lab.add().await.expect_err("the name is taken");
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    lab.del().await.expect("there is nothing of ours");
    assert_eq!((lab.etcd.dump(), lab.links()), before);
}

#[tokio::test(start_paused = true)]
async fn another_containers_del_does_not_touch_the_interface() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    let before = (lab.claims(), lab.pod_ports(), lab.links());
    let other = DelCall { attachment: attachment("other", "eth0"), ..del(&lab.call()) };
    lab.world().del(&other).await.expect("it was never added");
    assert_eq!((lab.claims(), lab.pod_ports(), lab.links()), before);
}

#[tokio::test(start_paused = true)]
async fn adding_again_gives_the_same_result_and_disturbs_nothing() {
    let lab = Lab::warm().await;
    let first = lab.add().await.expect("works");
    let before = (lab.etcd.dump(), lab.pod_ports(), lab.links());
    assert_eq!(lab.add().await.expect("works"), first);
    assert_eq!((lab.etcd.dump(), lab.pod_ports(), lab.links()), before);
    // A different request for the same attachment is refused.
    let mut call = lab.call();
    call.pod.namespace = Some(Namespace::new("blue").expect("valid"));
    let error = lab.world().add(&call).await.expect_err("another tenant");
    assert!(matches!(error, Error::OtherRequest { .. }), "{error:?}");
    assert_eq!((lab.claims().len(), lab.links()), (1, before.2));
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn the_same_attachment_in_another_namespace_keeps_its_address() {
    let lab = Lab::warm().await;
    let first = lab.add().await.expect("works");
    let call = AddCall { sandbox: "/netns/other".to_owned(), ..lab.call() };
    let second = lab.world().add(&call).await.expect("works");
    assert_eq!(second.addresses, first.addresses);
    let eth0 = &call.attachment.interface;
    let (old, new) = (Netns::At(NETNS.into()), Netns::At("/netns/other".into()));
    assert_eq!(lab.kernel.inspect(&old, eth0).await, Ok(None), "the old end went");
    let link = lab.kernel.inspect(&new, eth0).await.expect("works").expect("there");
    assert_eq!(link.addresses, [first.addresses[0].0]);
    lab.world().del(&del(&call)).await.expect("works");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn an_interface_of_a_claim_that_is_no_more_is_replaced() {
    let lab = Lab::warm().await;
    let first = lab.add().await.expect("works");
    // As after damage to etcd: the claim is gone, its interface is not, and its address is not free.
    let key = Key::attachment(&lab.call().attachment);
    let lost = Txn { then: vec![Change::Delete(key)], ..Txn::default() };
    lab.etcd.commit(lost).await.expect("works");
    let again = lab.add().await.expect("works");
    assert_ne!(again.addresses, first.addresses);
    let eth0 = &lab.call().attachment.interface;
    let link = lab.kernel.inspect(&Netns::At(NETNS.into()), eth0).await.expect("works").expect("there");
    assert_eq!(link.addresses, [again.addresses[0].0], "no address of the old claim");
}

#[tokio::test(start_paused = true)]
async fn two_adds_at_once_join() {
    let lab = Lab::warm().await;
    let (first, second) = futures_util::future::join(lab.add(), lab.add()).await;
    assert_eq!(first.expect("works"), second.expect("works"));
    assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_gone_takes_nothing_along_that_is_not_released() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.kernel.remove_netns(Path::new(NETNS));
    for sandbox in [Some(NETNS.to_owned()), None] {
        lab.world().del(&DelCall { sandbox, ..del(&lab.call()) }).await.expect("works");
    }
    lab.assert_empty("after all");
}

/// With the local data plane the host end is with the tenant's router; a DEL finds it there with or without its files,
/// in time or adopted later.
#[tokio::test(start_paused = true)]
async fn the_host_end_is_found_with_the_router() {
    for (adopted, forget) in [(false, false), (false, true), (true, false), (true, true)] {
        let lab = Lab::warm().await;
        if !adopted {
            lab.make_routers();
        }
        lab.add().await.expect("works");
        let host = lab.links().into_iter().find(|(_, name)| name.starts_with("at")).expect("there").0;
        assert_eq!(host == Netns::Own, adopted, "{host}");
        if adopted {
            lab.make_routers();
        }
        if forget {
            std::fs::remove_dir_all(lab.config().run_dir.join("attachments")).expect("works");
        }
        lab.world().del(&DelCall { sandbox: None, ..del(&lab.call()) }).await.expect("works");
        lab.assert_empty(&format!("adopted {adopted}, forgotten {forget}"));
    }
}
