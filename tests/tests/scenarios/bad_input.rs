//! Faults of a call, its environment or its servers: each gives one error object with the right code, changes nothing
//! and leaks nothing.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, CniCall};
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::node::{LabNode, merge};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::{Value, json};

/// A mistake, the call, and the expected code.
type Case<'a> = (&'static str, CniCall<'a>, u64);

/// The network configuration, merged with other values.
fn with(cni: &Cni<'_>, over: &Value) -> String {
    let mut config = cni.config.clone();
    merge(&mut config, over);
    config.to_string()
}

fn cases<'a>(node: &LabNode, cni: &Cni<'a>, pod: &LabPod) -> Result<Vec<Case<'a>>> {
    let add = || cni.call("ADD", pod);
    let set = |over: Value| add().reading(with(cni, &over));
    let file = node.scratch().path().join("a-file");
    std::fs::write(&file, "")?;
    let file = file.display().to_string();
    let gone = node.scratch().path().join("gone").display().to_string();
    let own = node.netns().path().display().to_string();
    Ok(vec![
        ("no JSON", add().reading("{"), 6),
        ("nothing on standard input", add().reading(""), 6),
        ("JSON that is no object", add().reading("[]"), 6),
        ("no container id", add().without("CNI_CONTAINERID"), 4),
        ("an empty container id", add().with("CNI_CONTAINERID", ""), 4),
        ("a container id that is a path", add().with("CNI_CONTAINERID", "../../etc"), 4),
        ("no interface name", add().without("CNI_IFNAME"), 4),
        ("an interface name that is too long", add().with("CNI_IFNAME", "sixteencharacter"), 4),
        ("an interface name that is a path", add().with("CNI_IFNAME", "a/b"), 4),
        ("no namespace path", add().without("CNI_NETNS"), 4),
        ("an unknown command", add().with("CNI_COMMAND", "FOO"), 4),
        ("a command in lower case", add().with("CNI_COMMAND", "add"), 4),
        ("no network name", set(json!({ "name": "" })), 7),
        ("a network name that is a path", set(json!({ "name": "a/b" })), 7),
        ("an unknown version", set(json!({ "cniVersion": "9.9.9" })), 1),
        ("no etcd", set(json!({ "etcd": null })), 7),
        ("a text for the MTU", set(json!({ "mtu": "large" })), 7),
        ("an MTU that no link can have", set(json!({ "mtu": 3 })), 7),
        ("a prefix that has no room", set(json!({ "cluster": { "subnetPrefix": 33 } })), 7),
        ("an addressing that does not exist", set(json!({ "cluster": { "addressing": "both" } })), 7),
        ("an endpoint that is no URL", set(json!({ "etcd": { "endpoints": ["not a url"] } })), 7),
        ("a foreign address manager", set(json!({ "ipam": { "type": "host-local" } })), 7),
        ("another node's cluster settings", set(json!({ "cluster": { "podCidr": "10.0.0.0/9" } })), 7),
        ("a namespace that is a file", add().with("CNI_NETNS", file), 8),
        ("a namespace that is not there", add().with("CNI_NETNS", gone), 8),
        ("the runtime's own namespace", add().with("CNI_NETNS", own), 8),
        ("a pod that names no tenant", add().with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=x"), 7),
        ("arguments that are no pairs", add().with("CNI_ARGS", "K8S_POD_NAMESPACE"), 4),
        ("a tenant that is a path", add().with("CNI_ARGS", "K8S_POD_NAMESPACE=../x"), 4),
        (
            "an etcd that does not run",
            set(json!({ "timeoutSeconds": 2, "etcd": { "endpoints": ["http://127.0.0.1:9"] } })),
            11,
        ),
        (
            "a controller that does not run",
            set(json!({ "timeoutSeconds": 2, "controller": { "endpoints": ["http://127.0.0.1:9/midonet-api"] } })),
            11,
        ),
    ])
}

#[test]
fn mistakes_change_nothing() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let (neighbour, pod) = (LabPod::new("red", "neighbour")?, LabPod::new("red", "pod")?);
    for version in ["", "0.3.1", "1.1.0"] {
        let cni = node.cni(version)?;
        let at = cni.add(&neighbour)?;
        let before = node.keys("claims/")?;
        let mut wrong = Vec::new();
        for (what, call, code) in cases(&node, &cni, &pod)? {
            let answer = call.run()?;
            match answer.error_code() {
                Ok(got) if got == code => {}
                Ok(got) => wrong.push(format!("{what}: code {got}, not {code}: {}", answer.stdout)),
                Err(error) => wrong.push(format!("{what}: {error:#}")),
            }
            if !LabNode::links(&pod.netns)?.is_empty() {
                wrong.push(format!("{what}: an interface was left in the pod"));
                cni.del(&pod)?;
            }
            if node.keys("claims/")? != before {
                wrong.push(format!("{what}: a claim was left"));
            }
        }
        ensure!(wrong.is_empty(), "CNI {version}:\n{}", wrong.join("\n"));
        ensure!(ping(&neighbour.netns, at.gateway)?, "another pod's faults hit a neighbour");
        cni.del(&neighbour)?;
        leftovers::assert_none(&node)?;
        // The same pod, without the mistakes.
        cni.add(&pod)?;
        cni.del(&pod)?;
    }
    node.finish()
}

#[test]
fn a_foreign_interface_of_that_name_is_left_alone() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "pod")?;
    pod.netns.run("ip", &["link", "add", "eth0", "type", "bridge"])?;
    let before = pod.netns.run("ip", &["link", "show", "eth0"])?;
    let answer = cni.call("ADD", &pod).run()?;
    let code = answer.error_code()?;
    assert!(code >= 100, "a failure of our own kind: {}", answer.stdout);
    cni.del(&pod)?;
    assert_eq!(pod.netns.run("ip", &["link", "show", "eth0"])?, before, "it is untouched, also by DEL");
    node.finish()
}

/// Servers that accept a connection and never answer: the deadline has to end the call.
#[test]
fn silent_servers_end_with_the_deadline() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "pod")?;
    cni.add(&pod)?;
    cni.del(&pod)?;
    let silent: SocketAddr = ([127, 0, 0, 1], 7777).into();
    let _listener = node.netns().within(|| TcpListener::bind(silent).context("listen"))?;
    for over in [
        json!({ "timeoutSeconds": 2, "etcd": { "endpoints": [format!("http://{silent}")] } }),
        json!({ "timeoutSeconds": 2, "controller": { "endpoints": [format!("http://{silent}/midonet-api")] } }),
    ] {
        let answer = cni.call("ADD", &pod).reading(with(&cni, &over)).run()?;
        assert_eq!(answer.error_code()?, 11, "{over}");
        assert!(answer.took.as_secs() < 6, "{over}: it took {:?}", answer.took);
        assert!(LabNode::links(&pod.netns)?.is_empty(), "{over}: an interface was left");
    }
    cni.del(&pod)?;
    node.finish()
}
