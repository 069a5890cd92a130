//! A node that is configured for another engine than the cluster's: nothing is made, nothing is released, and nothing is
//! stuck. The lab's engine is MidoNet's; the records say that the cluster is of another.

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::error::CallError;
use atoll_model::config::StatusMode;
use atoll_model::error::{Class, Classify as _};
use atoll_records::{Entry, TombstoneRecord};
use atoll_sdn_client::dialect::Dialect;
use atoll_store::{Store as _, StoreChange, Txn};
use serde_json::Value;

use crate::check;
use crate::lab::{Lab, LabEngine, ServerState, attachment};

const REFUSAL: &str = "`engine` is midonet in this node's configuration, but ovn in the cluster";

/// The records of the cluster and its attachments, in etcd and in this node's files, name `engine`.
async fn name_engine(lab: &Lab, engine: &str) {
    let named = |text: &[u8]| {
        let mut record: Value = serde_json::from_slice(text).expect("JSON");
        let state = record.get_mut("claim").filter(|claim| claim.is_object());
        match state {
            Some(claim) => claim["record"]["engine"] = engine.into(),
            None => record["engine"] = engine.into(),
        }
        record.to_string().into_bytes()
    };
    let is_meant = |entry: &Entry| {
        ["v2/cluster", "v2/claims/", "v2/tombstones/"].iter().any(|prefix| entry.key.as_str().starts_with(prefix))
    };
    for Entry { key, value, lease, .. } in lab.etcd.dump().into_iter().filter(is_meant) {
        let put = StoreChange::Put { key, value: named(&value), lease };
        lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("memory does not fail");
    }
    let config = lab.config();
    for directory in [config.run_dir.join("attachments"), config.state_dir.join("tombstones")] {
        for file in std::fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path()) {
            let text = std::fs::read(&file).expect("readable");
            if !text.is_empty() {
                std::fs::write(&file, named(&text)).expect("writable");
            }
        }
    }
}

/// What must not change: the claims, the records of their addresses, and the controller's objects.
fn kept(lab: &Lab) -> (Vec<(String, String)>, Value) {
    let entries = lab.etcd.dump().into_iter();
    let entries = entries.map(|entry| (entry.key.to_string(), String::from_utf8(entry.value).expect("JSON")));
    let is_meant = |(key, value): &(String, String)| {
        key.starts_with("v2/claims/") || key.starts_with("v2/addresses/") && value.contains("claimed")
    };
    (entries.filter(is_meant).collect(), serde_json::to_value(lab.controller.dump()).expect("JSON"))
}

#[track_caller]
fn assert_refused(outcome: Result<(), CallError>, when: &str) {
    let error = outcome.expect_err(when);
    assert_eq!((error.to_string().as_str(), error.class()), (REFUSAL, Class::Config), "{when}");
    let hint = "set `engine` to ovn on this node: the cluster's settings are fixed by its first node";
    assert_eq!(error.hint().as_deref(), Some(hint), "{when}");
}

/// The schema of each record in etcd and in this node's files that names an engine, by the begin of its key or its directory.
fn schemas(lab: &Lab) -> Vec<(&'static str, u64)> {
    let schema = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON")["v"].as_u64().expect("a schema");
    let mut schemas = Vec::new();
    for prefix in ["v2/cluster", "v2/claims/", "v2/tombstones/"] {
        let entries = lab.etcd.dump().into_iter().filter(|entry| entry.key.as_str().starts_with(prefix));
        schemas.extend(entries.map(|entry| (prefix, schema(&entry.value))));
    }
    let files = std::fs::read_dir(lab.config().state_dir.join("tombstones"));
    let texts = files.into_iter().flatten().flatten().map(|file| std::fs::read(file.path()).expect("readable"));
    schemas.extend(texts.filter(|text| !text.is_empty()).map(|text| ("tombstones/", schema(&text))));
    schemas
}

/// A version that knows MidoNet alone understands schema 1.
#[tokio::test(start_paused = true)]
async fn what_an_older_version_would_take_for_midonets_has_a_schema_that_it_refuses() {
    for (engine, schema) in [(LabEngine::MidoNet(Dialect::V5), 1), (LabEngine::Ovn, 2)] {
        let lab = Lab::warm_with(engine).await;
        lab.add().await.expect("works");
        assert_eq!(schemas(&lab), [("v2/cluster", schema), ("v2/claims/", schema)], "{engine:?}");
        lab.controller_state.set(ServerState::Refusing);
        lab.del().await.expect("it leaves a tombstone");
        let with = [("v2/cluster", schema), ("v2/claims/", schema), ("v2/tombstones/", schema)];
        assert_eq!(schemas(&lab), with, "{engine:?}");
        lab.controller_state.set(ServerState::Fine);
        lab.add().await.expect("works");
        lab.etcd_state.set(ServerState::Refusing);
        lab.del().await.expect("it leaves a local tombstone");
        assert!(schemas(&lab).contains(&("tombstones/", schema)), "{engine:?}: {:?}", schemas(&lab));
    }
}

#[tokio::test(start_paused = true)]
async fn add_and_check_are_refused_with_both_names_before_any_effect() {
    for (forgets, uncached) in [(false, false), (true, false), (false, true), (true, true)] {
        let when = format!("attachment state lost {forgets}, cache lost {uncached}");
        let lab = Lab::warm().await;
        let attached = lab.add().await.expect("works");
        name_engine(&lab, "ovn").await;
        if forgets {
            lab.forget();
        }
        if uncached {
            std::fs::remove_dir_all(lab.config().state_dir.join("cache")).expect("there");
        }
        let (before, dump, links) = (kept(&lab), lab.etcd.dump(), lab.links());
        assert_refused(lab.add().await.map(drop), &format!("{when}: ADD again"));
        let call =
            AddCall { attachment: attachment("second", "eth0"), sandbox: "/netns/second".to_owned(), ..lab.call() };
        lab.kernel.add_netns(&call.sandbox);
        assert_refused(Box::pin(lab.plugin().add(&call)).await.map(drop), &format!("{when}: ADD of another"));
        let call = check::call(&lab, &attached, atoll_model::cni::version::Version::V1_0_0);
        assert_refused(check::check(&lab, &call).await, &format!("{when}: CHECK"));
        assert_eq!((kept(&lab), lab.etcd.dump(), lab.links()), (before, dump, links), "{when}");
    }
}

/// A request to etcd is needed to know: the local mode makes none.
#[tokio::test(start_paused = true)]
async fn a_strict_status_reports_the_wrong_engine_when_it_has_lasted() {
    let lab = Lab::warm().await;
    name_engine(&lab, "ovn").await;
    for (mode, expected) in [(StatusMode::Local, None), (StatusMode::Strict, Some(REFUSAL))] {
        let mut last = None;
        for _ in 0..10 {
            let mut plugin = lab.plugin();
            plugin.config.status = mode;
            plugin.config.host_id = Some(lab.call().node.host_id);
            last = Box::pin(plugin.status()).await.err().map(|error| error.to_string());
            lab.pass(5).await;
        }
        assert!(last.is_some() == expected.is_some(), "{mode:?}: {last:?}");
        let text = last.unwrap_or_default();
        assert!(text.contains(expected.unwrap_or_default()), "{mode:?}: {text}");
    }
}

/// How an attachment is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Del,
    Gc,
}

#[tokio::test(start_paused = true)]
async fn del_and_gc_remove_the_interface_and_leave_port_and_address_to_the_right_engine() {
    for way in [Way::Del, Way::Gc] {
        for (forgets, etcd) in [
            (false, ServerState::Fine),
            (true, ServerState::Fine),
            (false, ServerState::Refusing),
            (true, ServerState::Refusing),
        ] {
            if (way, etcd) == (Way::Gc, ServerState::Refusing) {
                // It collects nothing then.
                continue;
            }
            let when = format!("{way:?}, attachment state lost {forgets}, etcd {etcd:?}");
            let lab = Lab::warm().await;
            lab.add().await.expect("works");
            name_engine(&lab, "ovn").await;
            if forgets {
                lab.forget();
            }
            let before = kept(&lab);
            lab.etcd_state.set(etcd);
            if way == Way::Gc {
                lab.pass(1000).await;
                lab.age_files(900);
                lab.collect().await.expect(&when);
            } else {
                lab.del().await.expect(&when);
            }
            assert_eq!(lab.links(), Vec::new(), "{when}: the interface goes");
            lab.etcd_state.set(ServerState::Fine);
            // Without the claim it is unknown whose the port is; a port of another engine has not the same id.
            let knows = !forgets || etcd == ServerState::Fine;
            for again in ["the call itself", "a later retry", "a later GC", "a later DEL"] {
                match again {
                    "a later retry" => lab.retry_pending_cleanup().await,
                    "a later GC" => lab.collect_nothing().await,
                    "a later DEL" => lab.del().await.expect(&when),
                    _ => {}
                }
                let now = kept(&lab);
                assert_eq!(now.0, before.0, "{when}, {again}: claim and address stay");
                if knows {
                    assert_eq!(now.1, before.1, "{when}, {again}: no request changes the controller");
                }
                let (recorded, local) = (lab.tombstones(), lab.local_tombstones());
                assert_eq!(recorded.len() + local.len(), 1, "{when}, {again}: pending");
                if knows {
                    let pending = recorded.iter().chain(&local).next().expect("one");
                    assert_eq!(pending.engine, "ovn", "{when}, {again}");
                    assert_eq!(pending.note, REFUSAL, "{when}, {again}");
                }
            }
            // The configuration is corrected.
            name_engine(&lab, "midonet").await;
            lab.pass_request_lifetime().await;
            lab.retry_pending_cleanup().await;
            lab.assert_empty(&when);
        }
    }
}

/// A port may exist although its claim is gone: the tombstone says so, and names the engine.
#[tokio::test(start_paused = true)]
async fn a_tombstone_without_a_claim_waits_for_its_engine() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.lose_claim().await;
    lab.put_tombstone().await;
    let ports = lab.pod_ports();
    let [tombstone] = lab.tombstones().try_into().expect("one");
    let tombstone = TombstoneRecord { port: Some(ports[0]), engine: "ovn".to_owned(), ..tombstone };
    let put = StoreChange::put(&TombstoneRecord::at(&tombstone.attachment), &tombstone);
    lab.etcd.commit(Txn { then: vec![put], ..Txn::default() }).await.expect("memory does not fail");
    lab.retry_pending_cleanup().await;
    lab.del().await.expect("it is written down");
    lab.collect().await.expect("it is written down");
    assert_eq!((lab.tombstones().len(), lab.pod_ports()), (1, ports));
    name_engine(&lab, "midonet").await;
    lab.pass_request_lifetime().await;
    lab.retry_pending_cleanup().await;
    lab.assert_empty("the right engine has deleted it");
}
