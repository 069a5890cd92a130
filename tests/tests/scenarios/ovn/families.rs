//! Pods with an address of each family, and of IPv6 alone.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use ipnetwork::IpNetwork;
use serde_json::json;

/// Limit for OVN to forward for new pods, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A pod with the addresses that its ADD returned.
fn attached(chassis: &OvnMachine, tenant: &str, name: &str) -> Result<(LabPod, Vec<IpNetwork>)> {
    let pod = LabPod::new(tenant, name)?;
    let result = chassis.cni()?.call("ADD", &pod).run()?.result()?;
    let ips = result["ips"].as_array().context("addresses")?;
    let address = |ip: &serde_json::Value| Ok(ip["address"].as_str().context("an address")?.parse()?);
    let addresses = ips.iter().map(address).collect::<Result<_>>()?;
    Ok((pod, addresses))
}

fn ipv6(addresses: &[IpNetwork]) -> Result<Ipv6Addr> {
    let found = addresses.iter().find_map(|address| if let IpNetwork::V6(it) = address { Some(it.ip()) } else { None });
    found.with_context(|| format!("no address of IPv6: {addresses:?}"))
}

#[test]
fn pods_on_two_machines_reach_each_other_by_both_families() -> Result<()> {
    let settings = json!({ "cluster": { "podCidr6": "fd00:10:128::/48" } });
    let lab = OvnLab::start(2, &settings)?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (red_1, at_1) = attached(first, "red", "red-1")?;
    let (red_2, at_2) = attached(second, "red", "red-2")?;
    let (blue, blue_at) = attached(second, "blue", "blue-1")?;
    for addresses in [&at_1, &at_2, &blue_at] {
        let families: Vec<_> = addresses.iter().map(IpNetwork::is_ipv4).collect();
        ensure!(families == [true, false], "an address of each family, IPv4 first: {addresses:?}");
    }
    for address in &at_2 {
        wait::until("packets flow", SOON, || {
            ensure!(ping(&red_1.netns, address.ip())?, "{address} does not answer");
            Ok(())
        })?;
    }
    let gateway = red_1.netns.run("ip", &["-6", "route", "show", "default"])?;
    let gateway =
        gateway.split_whitespace().nth(2).with_context(|| format!("no default route: {gateway:?}"))?.to_owned();
    ensure!(ping(&red_1.netns, gateway.parse::<Ipv6Addr>()?)?, "the gateway {gateway} answers");
    let foreign = ipv6(&blue_at)?;
    ensure!(!ping(&red_1.netns, foreign)?, "{foreign} of another tenant answers");
    // Static, at once: no address of a router's advertisement, no question whether another host has it.
    let link = red_1.netns.run("ip", &["-6", "-oneline", "address", "show", "dev", "eth0", "scope", "global"])?;
    ensure!(link.lines().count() == 1 && link.contains("nodad") && !link.contains("tentative"), "{link}");
    for (pod, chassis) in [(&red_1, first), (&red_2, second), (&blue, second)] {
        chassis.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}

#[test]
fn pods_have_addresses_of_ipv6_alone() -> Result<()> {
    let settings = json!({ "cluster": { "podCidr6": "fd00:10:128::/48", "ipFamilies": ["IPv6"] } });
    let lab = OvnLab::start(2, &settings)?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (red_1, at_1) = attached(first, "red", "red-1")?;
    let (red_2, at_2) = attached(second, "red", "red-2")?;
    ensure!(at_1.len() == 1 && at_2.len() == 1, "one address each: {at_1:?} {at_2:?}");
    let to = ipv6(&at_2)?;
    wait::until("packets flow", SOON, || {
        ensure!(ping(&red_1.netns, to)?, "{to} does not answer");
        Ok(())
    })?;
    for (pod, chassis) in [(&red_1, first), (&red_2, second)] {
        chassis.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}
