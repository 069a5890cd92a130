//! Ownership: foreign objects are not changed, and concurrent calls for one attachment are serialised.

use std::path::Path;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::del::DelCall;
use atoll_cni_plugin::error::CallError;
use atoll_cni_plugin::kernel::{Kernel, Netns};
use atoll_model::error::Classify;
use atoll_model::ids::Namespace;
use atoll_records::{ClaimRecord, Key, encode};
use atoll_store::{Store, StoreChange, Txn};

use crate::lab::{Lab, NETNS, ServerState, attachment, del};

#[tokio::test(start_paused = true)]
async fn bad_namespaces_change_nothing() {
    let lab = Lab::warm().await;
    lab.kernel.add_file("/netns/file");
    lab.kernel.add_own("/netns/own");
    let before = lab.etcd.dump();
    for path in ["/netns/none", "/netns/file", "/netns/own"] {
        let call = AddCall { sandbox: path.to_owned(), ..lab.call() };
        let error = lab.plugin().add(&call).await.expect_err(path);
        assert_eq!(error.class().cni_code(), 8, "{error}");
        lab.assert_empty(path);
        assert_eq!(lab.etcd.dump(), before, "{path}");
    }
    // DEL: what is gone is done; one's own namespace is refused.
    for path in [None, Some("/netns/none"), Some("/netns/file")] {
        let call = DelCall { sandbox: path.map(str::to_owned), ..del(&lab.call()) };
        lab.plugin().del(&call).await.expect("nothing to do");
    }
    let own = DelCall { sandbox: Some("/netns/own".to_owned()), ..del(&lab.call()) };
    assert_eq!(lab.plugin().del(&own).await.expect_err("refused").class().cni_code(), 8);
    // Who insists may.
    let call = AddCall { sandbox: "/netns/own".to_owned(), own_netns: true, ..lab.call() };
    lab.plugin().add(&call).await.expect("insists");
    lab.plugin().del(&DelCall { own_netns: true, ..del(&call) }).await.expect("insists");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_interface_is_left_alone() {
    let lab = Lab::warm().await;
    let netns = Netns::At(NETNS.into());
    lab.kernel.add_foreign(&netns, "eth0", true);
    let before = (lab.etcd.dump(), lab.links());
    let error = lab.add().await.expect_err("the name is taken");
    assert!(matches!(error, CallError::Foreign { .. }), "{error:?}");
    lab.del().await.expect("there is nothing of ours");
    assert_eq!((lab.etcd.dump(), lab.links()), before);
}

#[tokio::test(start_paused = true)]
async fn another_containers_del_does_not_touch_the_interface() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    let before = (lab.claims(), lab.pod_ports(), lab.links());
    let other = DelCall { attachment: attachment("other", "eth0"), ..del(&lab.call()) };
    lab.plugin().del(&other).await.expect("it was never added");
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
    let error = lab.plugin().add(&call).await.expect_err("another tenant");
    assert!(matches!(error, CallError::OtherRequest { .. }), "{error:?}");
    assert_eq!((lab.claims().len(), lab.links()), (1, before.2));
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}

/// The runtime knows the attachment and calls DEL for it.
#[tokio::test(start_paused = true)]
async fn adding_again_without_a_controller_undoes_nothing() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    let before = (lab.claims(), lab.pod_ports(), lab.links());
    lab.controller_state.set(ServerState::Refusing);
    lab.add().await.expect_err("the controller is down");
    lab.controller_state.set(ServerState::Fine);
    assert_eq!((lab.claims(), lab.pod_ports(), lab.links()), before);
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn the_same_attachment_in_another_namespace_keeps_its_address() {
    let lab = Lab::warm().await;
    let first = lab.add().await.expect("works");
    let call = AddCall { sandbox: "/netns/other".to_owned(), ..lab.call() };
    let second = lab.plugin().add(&call).await.expect("works");
    assert_eq!(second.addresses, first.addresses);
    let eth0 = &call.attachment.interface;
    let (old, new) = (Netns::At(NETNS.into()), Netns::At("/netns/other".into()));
    assert_eq!(lab.kernel.inspect(&old, eth0).await, Ok(None), "the old end went");
    let link = lab.kernel.inspect(&new, eth0).await.expect("works").expect("there");
    assert_eq!(link.addresses, [first.addresses[0].0]);
    lab.plugin().del(&del(&call)).await.expect("works");
    lab.assert_empty("after all");
}

#[tokio::test(start_paused = true)]
async fn an_interface_of_a_claim_that_is_no_more_is_replaced() {
    let lab = Lab::warm().await;
    let first = lab.add().await.expect("works");
    // As after damage to etcd: the claim is gone, its interface is not, and its address is not free.
    let key = Key::from(ClaimRecord::at(&lab.call().attachment));
    let lost = Txn { then: vec![StoreChange::Delete(key)], ..Txn::default() };
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
        lab.plugin().del(&DelCall { sandbox, ..del(&lab.call()) }).await.expect("works");
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
        lab.plugin().del(&DelCall { sandbox: None, ..del(&lab.call()) }).await.expect("works");
        lab.assert_empty(&format!("adopted {adopted}, forgotten {forget}"));
    }
}

/// What has the name that ours would have, and not our mark, is another program's.
#[tokio::test(start_paused = true)]
async fn a_foreign_link_with_the_name_of_a_host_end_is_left_alone() {
    let lab = Lab::warm().await;
    let host = lab.call().attachment.host_interface();
    lab.kernel.add_foreign(&Netns::Own, host.as_str(), true);
    let before = lab.links();
    lab.del().await.expect("there is nothing of ours");
    assert_eq!(lab.links(), before);
}

/// No record has the place of the host end: the pod's end, in the namespace that the runtime names, is enough.
#[tokio::test(start_paused = true)]
async fn the_pods_end_is_enough_where_no_record_names_the_host_end() {
    let lab = Lab::warm().await;
    lab.make_routers();
    lab.add().await.expect("works");
    lab.forget();
    let lost = Txn { then: vec![StoreChange::delete(ClaimRecord::at(&lab.call().attachment))], ..Txn::default() };
    lab.etcd.commit(lost).await.expect("works");
    lab.del().await.expect("works");
    assert_eq!(lab.links(), vec![]);
}

/// etcd is down and the files are lost: the host end is searched with every router, and the port is identified by its
/// derived id.
#[tokio::test(start_paused = true)]
async fn without_etcd_and_files_interface_and_port_go_all_the_same() {
    let lab = Lab::warm().await;
    lab.make_routers();
    lab.add().await.expect("works");
    lab.forget();
    lab.etcd_state.set(ServerState::Refusing);
    lab.plugin().del(&DelCall { sandbox: None, ..del(&lab.call()) }).await.expect("it is written down");
    assert_eq!((lab.links(), lab.pod_ports()), (vec![], vec![]));
    lab.etcd_state.set(ServerState::Fine);
    lab.retry_pending_cleanup().await;
    lab.assert_empty("after all");
}

/// A claim may be missing in etcd (a backup was restored): a tombstone, in either place, still names its port.
#[tokio::test(start_paused = true)]
async fn a_tombstone_without_a_claim_still_names_its_port() {
    for local in [false, true] {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        lab.controller_state.set(ServerState::Refusing);
        if local {
            lab.etcd_state.set(ServerState::Refusing);
        }
        lab.del().await.expect("it is written down");
        lab.controller_state.set(ServerState::Fine);
        lab.etcd_state.set(ServerState::Fine);
        let lost = Txn { then: vec![StoreChange::delete(ClaimRecord::at(&lab.call().attachment))], ..Txn::default() };
        lab.etcd.commit(lost).await.expect("works");
        lab.del().await.expect("works");
        assert_eq!(lab.pod_ports(), Vec::<uuid::Uuid>::new(), "local {local}");
        assert_eq!((lab.tombstones(), lab.local_tombstones()), (vec![], vec![]), "local {local}");
    }
}

/// Rules by source are found by their table: those of another interface of the pod, and those that another container's
/// interface of the same name needs, stay.
#[tokio::test(start_paused = true)]
async fn rules_of_other_interfaces_stay() {
    let lab = Lab::warm().await;
    lab.interface.set("eth1");
    lab.add().await.expect("works");
    let rules = lab.kernel.all_rules();
    assert!(!rules.is_empty());
    for (container, interface) in [("other", "eth1"), ("pod", "eth2")] {
        let other = AddCall { attachment: attachment(container, interface), ..lab.call() };
        if container == "pod" {
            lab.plugin().add(&other).await.expect("works");
            assert!(lab.kernel.all_rules().len() > rules.len());
        }
        lab.plugin().del(&del(&other)).await.expect("works");
        assert_eq!(lab.kernel.all_rules(), rules, "{container} {interface}");
    }
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}

/// A claim belongs to one pod: to its namespace, its tenant and this incarnation of the tenant. Each is compared by itself.
#[tokio::test(start_paused = true)]
async fn a_claim_of_another_namespace_tenant_or_incarnation_is_not_this_pods() {
    let damages: [fn(&mut ClaimRecord); 3] = [
        |claim| claim.namespace = Some(Namespace::new("blue").expect("valid")),
        |claim| claim.tenant = "blue".parse().expect("valid"),
        |claim| claim.incarnation = atoll_model::ids::Incarnation::random(),
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        let lab = Lab::warm().await;
        lab.add().await.expect("works");
        let mut claim = lab.claims().remove(0);
        damage(&mut claim);
        let put =
            StoreChange::Put { key: Key::from(ClaimRecord::at(&claim.attachment)), value: encode(&claim), lease: None };
        lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("works");
        let error = lab.add().await.expect_err("it is another's");
        assert!(matches!(error, CallError::OtherRequest { .. }), "{n}: {error:?}");
    }
}
