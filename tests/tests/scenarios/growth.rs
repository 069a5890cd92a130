//! Tenants that grow, and their lifecycle, with the real programs.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::json;

/// A subnet of this size has five addresses for pods.
const ROOM: usize = 5;
const PODS: usize = 40;

#[test]
fn forty_pods_at_once_grow_a_tenant_of_five_and_disturb_no_pod() -> Result<()> {
    let node = LabNode::start(json!({ "cluster": { "podCidr": "10.128.0.0/16", "subnetPrefix": 29 } }))?;
    let cni = node.cni("1.0.0")?;
    let first = LabPod::new("red", "first")?;
    let here = cni.add(&first)?;
    // A running pod loses no answer of its gateway.
    let gateway = here.gateway.to_string();
    let mut pinging = first.netns.command("ping");
    pinging.args(["-n", "-q", "-i", "0.05", "-W", "5", &gateway]).stdout(Stdio::piped());
    let pinging = pinging.spawn().context("start ping")?;

    let pods = (1..PODS).map(|number| LabPod::new("red", &format!("pod-{number}"))).collect::<Result<Vec<_>>>()?;
    let attached = at_once(&pods, |pod| cni.add(pod));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pinging.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
    let printed = String::from_utf8(pinging.wait_with_output()?.stdout)?;
    let attached = attached?;
    assert!(printed.contains(" 0% packet loss"), "{printed}");

    let addresses: BTreeSet<_> = attached.iter().map(|at| at.address.ip()).chain([here.address.ip()]).collect();
    assert_eq!(addresses.len(), PODS, "an address twice: {attached:?}");
    let tenant = &node.keys("tenants/red")?[0].1;
    let subnets = tenant["subnets"].as_array().context("subnets")?;
    assert_eq!(subnets.len(), PODS / ROOM, "each was added when the others were full: {subnets:?}");
    assert!(subnets.iter().all(|subnet| subnet["phase"] == "active"), "{subnets:?}");
    assert_eq!(node.keys("build-leases/")?, []);
    for (pod, at) in pods.iter().zip(&attached) {
        assert!(ping(&pod.netns, at.gateway)?, "{} does not reach its gateway", pod.name);
        assert!(ping(&pod.netns, here.address.ip())?, "{} does not reach the first pod", pod.name);
    }
    assert_eq!(node.atollctl(&["tenant", "plan", "red"])?, "Tenant red is as it should be: nothing would change.\n");
    at_once(&pods, |pod| cni.del(pod))?;
    cni.del(&first)?;
    node.finish()
}

fn at_once<T: Send>(pods: &[LabPod], work: impl Fn(&LabPod) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

#[test]
fn settings_of_an_operator_take_effect() -> Result<()> {
    let node = LabNode::start(json!({ "cluster": { "podCidr": "10.128.0.0/16", "subnetPrefix": 29 } }))?;
    let cni = node.cni("1.0.0")?;
    let pods = (0..ROOM).map(|number| LabPod::new("red", &format!("pod-{number}"))).collect::<Result<Vec<_>>>()?;
    at_once(&pods, |pod| cni.add(pod))?;
    let external = std::net::Ipv4Addr::new(203, 0, 113, 1);
    assert!(ping(&pods[0].netns, external)?, "the external network answers");

    let set = ["tenant", "set", "red", "--max-subnets", "1", "--nameserver", "192.0.2.53"];
    let dry = node.atollctl(&[&set[..], &["--dry-run"]].concat())?;
    assert!(dry.contains("would set tenant red"), "{dry}");
    assert!(node.keys("tenants/red")?[0].1["dns"].is_null(), "a dry run changes nothing");
    let printed = node.atollctl(&[&set[..], &["--add-route", "203.0.113.0/24=blackhole"]].concat())?;
    for line in ["quota  at most 1 subnets", "route  203.0.113.0/24  blackhole", "dns  192.0.2.53"] {
        assert!(printed.contains(line), "{printed}");
        assert!(node.atollctl(&["tenant", "show", "red"])?.contains(line), "{line}");
    }
    // Routes apply to running pods.
    assert!(!ping(&pods[0].netns, external)?, "the route leads nowhere");
    node.atollctl(&["tenant", "set", "red", "--remove-route", "203.0.113.0/24"])?;
    assert!(ping(&pods[0].netns, external)?, "the external network answers again");

    let extra = LabPod::new("red", "extra")?;
    let refused = cni.call("ADD", &extra).run()?;
    assert_ne!(refused.code, Some(0));
    let full = "tenant red is full: 1 subnet with 5 addresses, 5 in use and 0 in cool-down; quota: 1 subnet";
    assert!(refused.stdout.contains(full), "{}", refused.stdout);

    node.atollctl(&["tenant", "set", "red", "--max-subnets", "none"])?;
    let result = cni.call("ADD", &extra).run()?.result()?;
    assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]), "the tenant's DNS");
    // The node's configuration has precedence over the tenant's.
    let mut telling = node.cni("1.0.0")?;
    telling.config["dns"] = json!({ "nameservers": ["192.0.2.99"] });
    let second = LabPod::new("red", "second")?;
    let result = telling.call("ADD", &second).run()?.result()?;
    assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.99"]));
    for pod in pods.iter().chain([&extra, &second]) {
        cni.del(pod)?;
    }
    node.finish()
}
