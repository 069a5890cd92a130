//! Every rule of the protocol, for every version and verb, against the real binary: which mistake is reported first,
//! with which code and in which format, and what is printed. CNI SPEC 1.1.0, and its predecessors.

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, CniAnswer};
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::node::{LabNode, merge};
use atoll_testkit::lab::pod::LabPod;
use serde_json::{Value, json};

/// The version in a configuration, and the version in the answer.
const VERSIONS: [(&str, &str); 8] = [
    ("", "0.1.0"),
    ("0.1.0", "0.1.0"),
    ("0.2.0", "0.2.0"),
    ("0.3.0", "0.3.0"),
    ("0.3.1", "0.3.1"),
    ("0.4.0", "0.4.0"),
    ("1.0.0", "1.0.0"),
    ("1.1.0", "1.1.0"),
];

/// The verbs, the first version that has each, and the variables that each requires.
const VERBS: [(&str, &str, &[&str]); 5] = [
    ("ADD", "", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("DEL", "", &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ("CHECK", "0.4.0", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
    ("GC", "1.1.0", &[]),
    ("STATUS", "1.1.0", &[]),
];

/// A failure as specified: one object with these keys, exit code 1, nothing on standard error.
fn failed(answer: &CniAnswer, code: u64, version: &str, when: &str) -> Result<Value> {
    ensure!(answer.error_code().with_context(|| when.to_owned())? == code, "{when}: {}", answer.stdout);
    ensure!(answer.code == Some(1) && answer.stderr.is_empty(), "{when}: {answer:?}");
    let error: Value = serde_json::from_str(&answer.stdout)?;
    let keys: Vec<_> = error.as_object().context("an object")?.keys().map(String::as_str).collect();
    ensure!(keys == ["cniVersion", "code", "details", "msg"], "{when}: {error}");
    ensure!(error["cniVersion"] == version, "{when}: expected CNI {version}: {error}");
    Ok(error)
}

fn succeeded(answer: &CniAnswer, when: &str) -> Result<()> {
    answer.done().with_context(|| when.to_owned())?;
    ensure!(answer.stderr.is_empty(), "{when}: {}", answer.stderr);
    Ok(())
}

/// Success without output if the version has the verb, otherwise the error for an unknown verb.
fn succeeded_or_too_new(answer: &CniAnswer, has_verb: bool, version: &str, when: &str) -> Result<()> {
    if has_verb { succeeded(answer, when) } else { failed(answer, 1, version, when).map(drop) }
}

fn with(cni: &Cni<'_>, over: &Value) -> String {
    let mut config = cni.config.clone();
    merge(&mut config, over);
    config.to_string()
}

/// Each mistake is combined with all that are checked later: the first one is reported.
#[test]
fn mistakes_are_reported_in_their_order() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let pod = LabPod::new("red", "pod")?;
    for (version, answered) in VERSIONS {
        let cni = node.cni(version)?;
        for (verb, since, required) in VERBS {
            let when = format!("{verb} {version:?}");
            let call = || cni.call(verb, &pod);
            // The command is checked first.
            for command in [verb.to_lowercase(), format!("{verb} "), "FOO".to_owned()] {
                let answer = call().with("CNI_COMMAND", &command).without("CNI_IFNAME").reading("{").run()?;
                let error = failed(&answer, 4, "1.1.0", &format!("{when}: command {command:?}"))?;
                ensure!(error["msg"].as_str().is_some_and(|msg| msg.contains("unknown CNI_COMMAND")), "{error}");
            }
            // All missing variables are reported together; an empty one counts as missing.
            if required.is_empty() {
                // Variables that the command does not need are not checked.
                let strange = call().with("CNI_CONTAINERID", "/").with("CNI_IFNAME", "a/b").with("CNI_ARGS", "x");
                let answer = strange.run()?;
                succeeded_or_too_new(&answer, version >= since, answered, &when)?;
            } else {
                let bare = required.iter().fold(call(), |call, name| call.without(name)).reading("{");
                let empty = required.iter().fold(call(), |call, name| call.with(name, "")).reading("{");
                for call in [bare, empty] {
                    let error = failed(&call.run()?, 4, "1.1.0", &format!("{when}: missing variables"))?;
                    let expected = format!("required env variables [{}] missing", required.join(","));
                    ensure!(error["msg"] == expected, "{when}: {error}");
                }
                for (name, bad) in [
                    ("CNI_CONTAINERID", "-a"),
                    ("CNI_CONTAINERID", "a/b"),
                    ("CNI_CONTAINERID", "ä"),
                    ("CNI_IFNAME", "."),
                    ("CNI_IFNAME", ".."),
                    ("CNI_IFNAME", "a:b"),
                    ("CNI_IFNAME", "a b"),
                    ("CNI_IFNAME", "a/b"),
                    ("CNI_IFNAME", "sixteencharacter"),
                ] {
                    let error =
                        failed(&call().with(name, bad).reading("{").run()?, 4, "1.1.0", &format!("{when}: {bad}"))?;
                    ensure!(error["msg"].as_str().is_some_and(|msg| msg.contains(name)), "{error}");
                }
            }
            // Then JSON, the name, the version, the verb's version, the configuration.
            for text in ["", "{", "{}{}", "[]", "7", "\u{1}"] {
                failed(&call().reading(text).run()?, 6, "1.1.0", &format!("{when}: stdin {text:?}"))?;
            }
            for name in [json!(""), json!(null), json!("a/b"), json!("-")] {
                let stdin = with(&cni, &json!({ "name": name, "etcd": 7 }));
                failed(&call().reading(stdin).run()?, 7, answered, &format!("{when}: name {name}"))?;
            }
            for unknown in ["0.3.2", "1.2.0", "9.9.9", "1.0"] {
                let stdin = with(&cni, &json!({ "cniVersion": unknown, "etcd": 7 }));
                let error = failed(&call().reading(stdin).run()?, 1, "1.1.0", &format!("{when}: version {unknown}"))?;
                let details = error["details"].as_str().unwrap_or_default();
                ensure!(details.contains(unknown) && details.contains("0.1.0") && details.contains("1.1.0"), "{error}");
            }
            let broken = call().reading(with(&cni, &json!({ "etcd": 7 }))).run()?;
            let code = if version >= since { 7 } else { 1 };
            failed(&broken, code, answered, &format!("{when}: broken configuration"))?;
        }
    }
    leftovers::assert_none(&node)?;
    node.finish()
}

/// One attachment from ADD to DEL, and what each step prints.
#[test]
fn every_verb_of_every_version_prints_what_it_should() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    for (version, answered) in VERSIONS {
        let cni = node.cni(version)?;
        let pod = LabPod::new("red", &format!("life{version}"))?;
        let when = |verb: &str| format!("{verb} {version:?}");
        let has = |since: &str| version >= since;

        let answer =
            cni.call("VERSION", &pod).with("CNI_IFNAME", "dummy").with("CNI_NETNS", "dummy").reading("").run()?;
        ensure!(answer.result()?["supportedVersions"].as_array().is_some_and(|all| all.len() == 7), "{answer:?}");
        ensure!(answer.stderr.is_empty() && answer.result()?["cniVersion"].is_string(), "{answer:?}");

        // Before anything was added.
        succeeded(&cni.call("DEL", &pod).run()?, &when("early DEL"))?;

        let added = cni.call("ADD", &pod).run()?;
        let result = added.result()?;
        ensure!(added.stderr.is_empty() && result["cniVersion"] == answered, "{}: {added:?}", when("ADD"));
        ensure!(cni.call("ADD", &pod).run()?.result()? == result, "{}", when("ADD again"));
        // Another container must neither get nor remove the interface.
        let other = LabPod::new("red", "other")?;
        let path = pod.netns.path().display().to_string();
        failed(&cni.call("ADD", &other).with("CNI_NETNS", &path).run()?, 104, answered, &when("foreign ADD"))?;
        succeeded(&cni.call("DEL", &other).with("CNI_NETNS", &path).run()?, &when("foreign DEL"))?;
        ensure!(LabNode::links(&pod.netns)? == ["eth0"], "{}", when("the interface"));

        let previous = |over: Value| {
            let mut over = over;
            over["prevResult"] = result.clone();
            with(&cni, &over)
        };
        let check = |stdin: String| cni.call("CHECK", &pod).reading(stdin).run();
        if has("0.4.0") {
            succeeded(&check(previous(json!({})))?, &when("CHECK"))?;
            failed(&check(with(&cni, &json!({})))?, 7, answered, &when("CHECK without prevResult"))?;
            failed(
                &check(with(&cni, &json!({ "prevResult": null })))?,
                7,
                answered,
                &when("CHECK without prevResult"),
            )?;
            pod.netns.run("ip", &["link", "set", "eth0", "mtu", "1280"])?;
            let error = failed(&check(previous(json!({})))?, 104, answered, &when("CHECK of damage"))?;
            ensure!(error["msg"].as_str().is_some_and(|msg| msg.contains("MTU 1280, expected 1450")), "{error}");
            pod.netns.run("ip", &["link", "set", "eth0", "mtu", "1450"])?;
        } else {
            failed(&check(previous(json!({})))?, 1, answered, &when("CHECK"))?;
        }
        // As libcni calls for a network and not for a container: all variables, empty.
        let call = |verb: &str, over: Value| {
            let names = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"];
            let call = cni.call(verb, &pod).reading(with(&cni, &over));
            names.into_iter().fold(call, |call, name| call.with(name, "")).run()
        };
        let valid = json!([{ "containerID": pod.container, "ifname": "eth0" }]);
        for list in [
            json!({}),
            json!({ "cni.dev/valid-attachments": null }),
            json!({ "cni.dev/valid-attachments": valid }),
            json!({ "cni.dev/attachments": valid }),
            // The claim is younger than the list could be.
            json!({ "cni.dev/valid-attachments": [] }),
        ] {
            let answer = call("GC", list)?;
            succeeded_or_too_new(&answer, has("1.1.0"), answered, &when("GC"))?;
        }
        if has("1.1.0") {
            let bad = call("GC", json!({ "cni.dev/valid-attachments": [{ "containerID": "a" }] }))?;
            failed(&bad, 6, answered, &when("GC with a broken list"))?;
            succeeded(&call("STATUS", json!({}))?, &when("STATUS"))?;
            succeeded(&check(previous(json!({})))?, &when("CHECK after GC"))?;
            let secret = json!({ "controller": { "username": "u", "passwordFile": "/nonexistent/password" } });
            failed(&call("STATUS", secret)?, 50, answered, &when("STATUS without its secret"))?;
        } else {
            failed(&call("STATUS", json!({}))?, 1, answered, &when("STATUS"))?;
        }

        let del = |stdin: String| cni.call("DEL", &pod).reading(stdin).run();
        succeeded(&del(if has("0.4.0") { previous(json!({})) } else { with(&cni, &json!({})) })?, &when("DEL"))?;
        ensure!(LabNode::links(&pod.netns)?.is_empty(), "{}", when("after DEL"));
        for stdin in [json!({ "prevResult": null }), json!({ "prevResult": {} }), json!({ "prevResult": { "ips": 7 } })]
        {
            succeeded(
                &cni.call("DEL", &pod).with("CNI_NETNS", "").reading(with(&cni, &stdin)).run()?,
                &when("DEL again"),
            )?;
        }
        leftovers::assert_none(&node).with_context(|| when("after all"))?;
    }
    node.finish()
}

/// The runtime's own namespace is refused before any effect.
#[test]
fn the_runtimes_own_namespace_is_refused_by_every_verb() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let pod = LabPod::new("red", "own")?;
    let own = node.netns().path().display().to_string();
    for (version, answered) in VERSIONS {
        let cni = node.cni(version)?;
        for verb in ["ADD", "DEL", "CHECK"] {
            if verb == "CHECK" && version < "0.4.0" {
                continue;
            }
            let stdin = with(&cni, &json!({ "prevResult": { "ips": [] } }));
            let stdin = if verb == "ADD" { with(&cni, &json!({})) } else { stdin };
            let answer = cni.call(verb, &pod).with("CNI_NETNS", &own).reading(stdin).run()?;
            failed(&answer, 8, answered, &format!("{verb} {version:?}"))?;
        }
    }
    ensure!(node.keys("claims/")?.is_empty());
    leftovers::assert_none(&node)?;
    node.finish()
}

/// An error of DEL never contains text that a runtime interprets as "already deleted".
#[test]
fn a_del_that_failed_does_not_sound_like_success() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "sound")?;
    let own = node.netns().path().display().to_string();
    let del = || cni.call("DEL", &pod);
    for (what, call) in [
        ("a bad setting", del().reading(with(&cni, &json!({ "runDir": "not found" })))),
        ("a name", del().reading(with(&cni, &json!({ "name": "not found" })))),
        ("a variable", del().with("CNI_IFNAME", "not found")),
        ("its own namespace", del().with("CNI_NETNS", own)),
    ] {
        let answer = call.run()?;
        answer.error_code().with_context(|| what.to_owned())?;
        let printed = answer.stdout.to_lowercase();
        ensure!(!printed.contains("not found") && !printed.contains("no such file or directory"), "{what}: {printed}");
    }
    // A missing file that DEL does not need is no failure: there is nothing to remove here.
    for missing in [json!({ "etcd": { "ca": "/not found/ca.pem" } }), json!({ "runDir": "/proc/not found" })] {
        let answer = del().reading(with(&cni, &missing)).run()?;
        ensure!(answer.stdout.is_empty(), "{missing}: {}", answer.stdout);
        answer.done().with_context(|| missing.to_string())?;
    }
    // The DEL without a certificate could not reach etcd: the next call completes its pending cleanup.
    cni.del(&pod)?;
    node.finish()
}

/// An ADD of an attachment whose ADD is running waits for it and returns the same result.
#[test]
fn adds_of_one_attachment_at_once_join() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.1.0")?;
    let pod = LabPod::new("red", "joined")?;
    let results = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| cni.call("ADD", &pod).run()?.result())).collect();
        calls.into_iter().map(|call| call.join().expect("it ends")).collect::<Result<Vec<_>>>()
    })?;
    ensure!(results.iter().all(|result| *result == results[0]), "{results:#?}");
    ensure!(node.keys("claims/")?.len() == 1 && node.keys("addresses/")?.len() == 1);
    cni.del(&pod)?;
    leftovers::assert_none(&node)?;
    node.finish()
}

/// A call has one deadline, and its error names the stage that took the time.
#[test]
fn a_missed_deadline_names_the_stage() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "late")?;
    cni.add(&pod)?;
    cni.del(&pod)?;
    let silent: std::net::SocketAddr = ([127, 0, 0, 1], 7778).into();
    let _listener = node.netns().within(|| std::net::TcpListener::bind(silent).context("listen"))?;
    for (over, stage) in [
        (json!({ "timeoutSeconds": 2, "etcd": { "endpoints": [format!("http://{silent}")] } }), "claim"),
        (
            json!({ "timeoutSeconds": 2, "controller": { "endpoints": [format!("http://{silent}/midonet-api")] } }),
            "port",
        ),
    ] {
        let answer = cni.call("ADD", &pod).reading(with(&cni, &over)).run()?;
        let error = failed(&answer, 11, "1.0.0", stage)?;
        let msg = error["msg"].as_str().unwrap_or_default();
        ensure!(msg.contains("not done within 2 s") && msg.ends_with(&format!("went to: {stage}")), "{error}");
        ensure!(answer.took.as_secs_f32() < 3.0, "it took {:?}", answer.took);
    }
    cni.del(&pod)?;
    node.finish()
}

/// containerd attaches a pod to all its networks at once, in one namespace.
#[test]
fn networks_of_one_pod_at_once_do_not_disturb_each_other() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let pod = LabPod::new("red", "several")?;
    for _ in 0..3 {
        let names: Vec<_> = (0..4).map(|n| format!("net{n}")).collect();
        let cnis = names.iter().map(|name| {
            let mut cni = node.cni("1.0.0")?;
            cni.config["name"] = name.as_str().into();
            Ok(cni)
        });
        let cnis = cnis.collect::<Result<Vec<_>>>()?;
        let at_once = |verb: &str| {
            std::thread::scope(|scope| {
                let calls = cnis.iter().zip(&names).map(|(cni, name)| {
                    let call = cni.call(verb, &pod).with("CNI_IFNAME", name);
                    scope.spawn(move || call.run())
                });
                calls
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|call| call.join().expect("it ends"))
                    .collect::<Result<Vec<_>>>()
            })
        };
        let mut addresses = std::collections::BTreeSet::new();
        for answer in at_once("ADD")? {
            addresses.insert(answer.result()?["ips"][0]["address"].to_string());
        }
        ensure!(addresses.len() == 4, "{addresses:?}");
        let mut links = LabNode::links(&pod.netns)?;
        links.sort();
        ensure!(links == names, "{links:?}");
        for answer in at_once("DEL")? {
            answer.done()?;
        }
        leftovers::assert_none(&node)?;
    }
    node.finish()
}

/// A recreated sandbox: its ADD precedes the DEL of the previous sandbox of the same pod.
#[test]
fn the_next_sandbox_of_a_pod_comes_before_the_last_one_went() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let (old, new) = (LabPod::new("red", "web")?, LabPod::new("red", "web")?);
    let (first, second) = (cni.add(&old)?, cni.add(&new)?);
    ensure!(first.address != second.address);
    cni.del(&old)?;
    ensure!(LabNode::links(&new.netns)? == ["eth0"] && node.keys("claims/")?.len() == 1);
    let mut config = cni.config.clone();
    config["prevResult"] = cni.call("ADD", &new).run()?.result()?;
    cni.call("CHECK", &new).reading(config.to_string()).run()?.done()?;
    cni.del(&new)?;
    leftovers::assert_none(&node)?;
    node.finish()
}
