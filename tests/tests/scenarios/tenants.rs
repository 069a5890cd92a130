//! Two tenants whose pods have identical addresses: each pod reaches its own tenant and the external network, and
//! nothing else.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::cni::PodInterface;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::json;

/// The host behind the provider router.
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// A subnet of this size has five addresses for pods.
const FULL: usize = 5;

fn node() -> Result<LabNode> {
    LabNode::start(json!({ "cluster": { "podCidr": "10.128.0.0/16", "subnetPrefix": 29 } }))
}

fn attach(node: &LabNode, tenant: &str, count: usize) -> Result<Vec<(LabPod, PodInterface)>> {
    let cni = node.cni("1.0.0")?;
    let one = |number| {
        let pod = LabPod::new(tenant, &format!("{tenant}-{number}"))?;
        let attached = cni.add(&pod)?;
        Ok((pod, attached))
    };
    (1..=count).map(one).collect()
}

fn detach(node: &LabNode, pods: &[(LabPod, PodInterface)]) -> Result<()> {
    let cni = node.cni("1.0.0")?;
    pods.iter().try_for_each(|(pod, _)| cni.del(pod).map(drop))
}

#[test]
fn pods_with_equal_addresses_never_answer_for_each_other() -> Result<()> {
    let node = node()?;
    let (red, blue) = (attach(&node, "red", FULL)?, attach(&node, "blue", FULL)?);
    let addresses =
        |pods: &[(LabPod, PodInterface)]| pods.iter().map(|(_, at)| at.address.ip()).collect::<BTreeSet<_>>();
    assert_eq!(addresses(&red).len(), FULL, "no address twice in one tenant");
    assert_eq!(addresses(&red), addresses(&blue), "both subnets are full, so every address is there twice");

    let all: Vec<&(LabPod, PodInterface)> = red.iter().chain(&blue).collect();
    let _servers = all.iter().map(|(pod, _)| TcpServer::start(&pod.netns, &pod.name)).collect::<Result<Vec<_>>>()?;
    for (from, own) in &all {
        for (to, at) in all.iter().filter(|(to, at)| to.namespace == from.namespace && at != own) {
            let banner = ask(&from.netns, at.address.ip())?.with_context(|| format!("{} to {}", from.name, to.name))?;
            assert_eq!(banner.name, to.name, "asked by {}", from.name);
            assert_eq!(banner.seen_as, own.address.ip(), "inside a tenant nothing is translated");
            assert!(ping(&from.netns, at.address.ip())?, "{} pings {}", from.name, to.name);
        }
        assert!(ping(&from.netns, own.gateway)?, "{} pings its gateway", from.name);
    }
    detach(&node, &red)?;
    // Every address of blue is one that red had: requests of red get no answer, and blue is not affected.
    let alone = attach(&node, "red", 1)?;
    for address in addresses(&blue).into_iter().filter(|address| *address != alone[0].1.address.ip()) {
        assert_eq!(ask(&alone[0].0.netns, address)?, None, "a pod of blue answered red at {address}");
        assert!(!ping(&alone[0].0.netns, address)?, "a pod of blue answered red's ping at {address}");
    }
    assert!(ping(&blue[0].0.netns, blue[1].1.address.ip())?);
    detach(&node, &blue)?;
    detach(&node, &alone)?;
    node.finish()
}

#[test]
fn the_external_network_sees_each_tenant_under_its_own_address_and_cannot_get_in() -> Result<()> {
    let node = node()?;
    let (red, blue) = (attach(&node, "red", 2)?, attach(&node, "blue", 2)?);
    let _server = TcpServer::start(&node.external_network(), "outside")?;
    let mut seen = Vec::new();
    for tenant in [&red, &blue] {
        let of_tenant: BTreeSet<Ipv4Addr> = tenant
            .iter()
            .map(|(pod, at)| {
                assert!(ping(&pod.netns, EXTERNAL)?, "{} pings the external network", pod.name);
                let banner = ask(&pod.netns, EXTERNAL)?.context("the external network answers")?;
                assert_eq!(banner.name, "outside");
                assert_ne!(banner.seen_as, at.address.ip(), "the tenant's addresses stay inside");
                Ok(banner.seen_as)
            })
            .collect::<Result<_>>()?;
        assert_eq!(of_tenant.len(), 1, "one address for a tenant: {of_tenant:?}");
        seen.extend(of_tenant);
    }
    assert_ne!(seen[0], seen[1], "two tenants, two addresses");

    let _inside = TcpServer::start(&red[0].0.netns, "red-1")?;
    let mut targets = seen.clone();
    targets.push(red[0].1.address.ip());
    for target in targets {
        assert_eq!(
            ask(&node.external_network(), target)?,
            None,
            "a pod was reached from the external network at {target}"
        );
        assert_eq!(
            ask(&blue[0].0.netns, target)?.filter(|banner| banner.name == "red-1"),
            None,
            "from blue at {target}"
        );
    }
    assert!(
        !ping(&node.external_network(), red[0].1.address.ip())?,
        "a tenant's address was reached from the external network"
    );
    detach(&node, &red)?;
    detach(&node, &blue)?;
    node.finish()
}

#[test]
fn a_pod_cannot_speak_with_an_address_that_is_not_its_own() -> Result<()> {
    let node = node()?;
    let pods = attach(&node, "red", 3)?;
    let ((liar, own), (victim, other), (third, target)) = (&pods[0], &pods[1], &pods[2]);
    let pings_as = |source: Ipv4Addr| {
        let args = [
            "-n",
            "-q",
            "-c",
            "1",
            "-i",
            "0.2",
            "-w",
            "2",
            "-I",
            &source.to_string(),
            &target.address.ip().to_string(),
        ];
        liar.netns.run("ping", &args).is_ok()
    };
    assert!(pings_as(own.address.ip()), "the truth passes");

    // The victim sends nothing, so only the spoofing pod could receive the answers.
    victim.netns.run("ip", &["link", "set", "eth0", "down"])?;
    let free = own
        .address
        .iter()
        .find(|a| *a != own.address.network() && pods.iter().all(|(_, at)| at.address.ip() != *a && at.gateway != *a));
    let free = free.context("a free address")?;
    for stolen in [other.address.ip(), own.gateway, free, Ipv4Addr::new(192, 0, 2, 7)] {
        liar.netns.run("ip", &["address", "add", &format!("{stolen}/32"), "dev", "eth0"])?;
        assert!(!pings_as(stolen), "a pod spoke as {stolen}");
        liar.netns.run("ip", &["address", "del", &format!("{stolen}/32"), "dev", "eth0"])?;
    }
    assert!(ping(&third.netns, own.gateway)?, "the gateway is still the gateway");

    liar.netns.run("ip", &["link", "set", "eth0", "address", "02:00:00:00:00:01"])?;
    assert!(!pings_as(own.address.ip()), "a pod spoke with another MAC");
    liar.netns.run("ip", &["link", "set", "eth0", "address", &own.mac])?;
    assert!(ping(&liar.netns, target.address.ip())?, "the truth passes again");
    detach(&node, &pods)?;
    node.finish()
}
