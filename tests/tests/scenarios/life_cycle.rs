//! One attachment from ADD to DEL, with calls that runtimes repeat, omit or send too late; every CNI version.

use anyhow::{Context as _, Result};
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use serde_json::{Value, json};

const VERSIONS: [&str; 8] = ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn link(pod: &LabPod, name: &str) -> Result<Option<Value>> {
    let Ok(text) = pod.netns.run("ip", &["-json", "address", "show", "dev", name]) else { return Ok(None) };
    Ok(serde_json::from_str::<Vec<Value>>(&text)?.into_iter().next())
}

/// The shape of a result: CNI SPEC 1.1.0, section "Success", and its predecessors.
fn check_shape(result: &Value, version: &str, pod: &LabPod) {
    // A missing version means the first one.
    assert_eq!(result["cniVersion"], if version.is_empty() { "0.1.0" } else { version });
    if version < "0.3.0" {
        let keys: Vec<_> = result.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["cniVersion", "dns", "ip4"], "{result}");
        let default = result["ip4"]["routes"].as_array().expect("routes").iter().find(|r| r["dst"] == "0.0.0.0/0");
        assert!(default.is_some() && result["ip4"]["gateway"].is_string(), "{result}");
        return;
    }
    let ip = &result["ips"][0];
    let old = version < "1.0.0";
    assert_eq!(ip.get("version"), old.then(|| json!("4")).as_ref(), "ips[].version is of the versions before 1.0.0");
    let index = usize::try_from(ip["interface"].as_u64().expect("an index")).expect("a small one");
    let interface = &result["interfaces"][index];
    assert_eq!(interface["name"], "eth0");
    assert_eq!(interface["sandbox"], pod.netns.path().display().to_string(), "verbatim");
    assert_eq!(interface.get("mtu").is_some(), version >= "1.1.0", "interfaces[].mtu came with 1.1.0: {interface}");
    let default = result["routes"].as_array().expect("routes").iter().find(|route| route["dst"] == "0.0.0.0/0");
    assert!(default.is_some(), "no default route: {result}");
    assert!(!old || result["dns"].is_object(), "before 1.0.0 dns is always there: {result}");
}

#[test]
fn add_and_del_in_every_version_once_twice_and_too_late() -> Result<()> {
    let node = LabNode::start(json!({ "mtu": 1400, "dns": { "nameservers": ["192.0.2.53"] } }))?;
    for version in VERSIONS {
        let cni = node.cni(version)?;
        let pod = LabPod::new("red", &format!("pod{version}"))?;

        // VERSION reads no file and needs no variable.
        let version_call =
            cni.call("VERSION", &pod).without("CNI_CONTAINERID").without("CNI_NETNS").reading("").run()?;
        let supported = version_call.result()?["supportedVersions"].clone();
        let supported: Vec<&str> = supported.as_array().context("a list")?.iter().filter_map(Value::as_str).collect();
        assert!(VERSIONS[1..].iter().all(|version| supported.contains(version)), "{supported:?}");

        let added = cni.call("ADD", &pod).run()?;
        let result = added.result()?;
        check_shape(&result, version, &pod);
        assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]));
        let attached = added.attached()?;
        let eth0 = link(&pod, "eth0")?.context("the interface is there")?;
        assert_eq!(eth0["mtu"], json!(1400));
        assert!(attached.mac.is_empty() || eth0["address"] == json!(attached.mac), "{eth0}");
        assert_eq!(eth0["addr_info"][0]["local"], json!(attached.address.ip()));
        assert_eq!(eth0["addr_info"][0]["prefixlen"], json!(attached.address.prefix()));
        assert!(atoll_testkit::lab::reach::ping(&pod.netns, attached.gateway)?);

        // A second ADD returns the same result and changes nothing.
        let claims = node.keys("addresses/")?;
        assert_eq!(cni.call("ADD", &pod).run()?.result()?, result, "{version}: a repeated ADD gives the same result");
        assert_eq!(node.keys("addresses/")?, claims, "{version}: a repeated ADD claims nothing");
        assert!(atoll_testkit::lab::reach::ping(&pod.netns, attached.gateway)?);

        // CHECK exists since 0.4.0, GC and STATUS since 1.1.0.
        let mut config = cni.config.clone();
        config["prevResult"] = result.clone();
        let check = cni.call("CHECK", &pod).reading(config.to_string()).run()?;
        if version >= "0.4.0" {
            check.done().with_context(|| format!("{version}: CHECK after ADD"))?;
        } else {
            assert_eq!(check.error_code()?, 1, "{version}");
        }
        config["cni.dev/valid-attachments"] = json!([{ "containerID": pod.container, "ifname": "eth0" }]);
        for command in ["GC", "STATUS"] {
            let answer = cni.call(command, &pod).reading(config.to_string()).run()?;
            if version >= "1.1.0" {
                answer.done().with_context(|| format!("{version}: {command}"))?;
            } else {
                assert_eq!(answer.error_code()?, 1, "{version} {command}");
            }
        }

        // With the variables of a runtime's DEL, then as containerd repeats it: no namespace, no prevResult.
        cni.call("DEL", &pod).reading(config.to_string()).run()?.done()?;
        assert_eq!(link(&pod, "eth0")?, None, "{version}: the interface is gone");
        leftovers::assert_none(&node).with_context(|| format!("{version}: after DEL"))?;
        cni.call("DEL", &pod).with("CNI_NETNS", "").run()?.done()?;
        cni.call("DEL", &pod).without("CNI_NETNS").run()?.done()?;

        // The namespace was deleted first, with its interface.
        let early = LabPod::new("red", "early")?;
        cni.add(&early)?;
        let call = cni.call("DEL", &early);
        early.netns.delete()?;
        call.run()?.done().with_context(|| format!("{version}: DEL after the namespace"))?;
        leftovers::assert_none(&node)?;

        // Its path is a plain file, as after a reboot; prevResult belongs to no attachment.
        let rebooted = LabPod::new("red", "rebooted")?;
        cni.add(&rebooted)?;
        let stale = node.scratch().path().join(format!("stale-{version}"));
        std::fs::write(&stale, "")?;
        config["prevResult"] = json!({ "cniVersion": "7", "ips": "none" });
        let call =
            cni.call("DEL", &rebooted).with("CNI_NETNS", stale.display().to_string()).reading(config.to_string());
        rebooted.netns.delete()?;
        call.run()?.done().with_context(|| format!("{version}: DEL with a stale path"))?;
        leftovers::assert_none(&node)?;

        // Never added: DEL does nothing and does not affect the other pod.
        let neighbour = LabPod::new("red", "neighbour")?;
        let at = cni.add(&neighbour)?;
        let unattached = LabPod::new("red", "unattached")?;
        let call = cni.call("DEL", &unattached).with("CNI_NETNS", neighbour.netns.path().display().to_string());
        call.run()?.done()?;
        assert!(
            atoll_testkit::lab::reach::ping(&neighbour.netns, at.gateway)?,
            "{version}: another container's DEL hit it"
        );
        cni.del(&neighbour)?;
        leftovers::assert_none(&node)?;
    }
    node.finish()
}

#[test]
fn two_interfaces_of_one_container_are_independent() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "two")?;
    cni.add(&pod)?;
    let second = cni.call("ADD", &pod).with("CNI_IFNAME", "net1").run()?.result()?;
    assert_eq!(
        second["interfaces"].as_array().context("a list")?.iter().filter(|one| one["name"] == "net1").count(),
        1
    );
    cni.del(&pod)?;
    assert!(link(&pod, "net1")?.is_some() && link(&pod, "eth0")?.is_none());
    cni.call("DEL", &pod).with("CNI_IFNAME", "net1").run()?.done()?;
    node.finish()
}
