//! An operator reserves an address for a pod, with the real programs.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::{Value, json};

fn listed(node: &LabNode) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&node.atollctl(&["address", "list", "-o", "json"])?)?)
}

/// The command is refused, ends with this code, and prints this text.
fn refused(node: &LabNode, args: &[&str], code: i32, says: &str) {
    let words = node.atollctl(args).expect_err("refused").to_string();
    assert!(words.contains(says), "{words}");
    assert!(words.contains(&format!("exit status: {code}")), "{words}");
}

#[test]
fn a_pod_keeps_its_address_from_life_to_life() -> Result<()> {
    let node = LabNode::start(json!({ "cluster": { "podCidr": "10.128.0.0/16" }, "cooldownSeconds": 3 }))?;
    let cni = node.cni("1.0.0")?;
    let kept = Ipv4Addr::new(10, 128, 0, 77);
    let reserve = ["address", "reserve", "10.128.0.77", "--for", "red/db-0", "--mac", "02:00:0a:80:00:4d"];
    refused(&node, &reserve, 4, "namespace red belongs to no tenant");
    let other = LabPod::new("red", "other")?;
    let there = cni.add(&other)?.address.ip();

    let dry = node.atollctl(&[&reserve[..], &["--dry-run"]].concat())?;
    assert_eq!(dry, "would be: 10.128.0.77 of tenant red with the MAC 02:00:0a:80:00:4d is for pod red/db-0\n");
    assert_eq!(node.keys("reservations/")?, []);
    node.atollctl(&reserve)?;
    let again = node.atollctl(&reserve)?;
    assert!(again.ends_with(" already.\n"), "{again}");
    let taken = ["address", "reserve", &there.to_string(), "--for", "red/db-1"];
    refused(&node, &taken, 6, &format!("{there} of tenant red is taken by pod red/other, "));
    refused(&node, &["address", "reserve", "10.128.0.1", "--for", "red/db-1"], 6, "it is the gateway");
    refused(&node, &["address", "reserve", "10.128.0.9", "--for", "db-1"], 2, "NAMESPACE/POD is expected");

    for _ in 0..2 {
        let pod = LabPod::new("red", "db-0")?;
        let at = cni.add(&pod)?;
        assert_eq!(at.address.ip(), kept);
        let link = pod.netns.run("ip", &["-o", "link", "show", "eth0"])?;
        assert!(link.contains("02:00:0a:80:00:4d"), "{link}");
        assert!(ping(&other.netns, kept)?, "it can be reached");
        let row = listed(&node)?.into_iter().find(|row| row["address"] == json!(kept)).context("listed")?;
        assert_eq!((&row["state"], &row["pod"]), (&json!("claimed"), &json!("red/db-0")));
        assert_eq!(row["reservedFor"]["mac"], "02:00:0a:80:00:4d");
        refused(&node, &["address", "release", "10.128.0.77"], 6, "which pod red/db-0, ");
        assert_eq!(node.atollctl(&["address", "check", "--pause", "1"])?.lines().count(), 1, "everything agrees");
        cni.del(&pod)?;
    }
    // A record is lost: the command reports it and ends with code 7 until it is repaired.
    node.lose("reserved-for/red/db-0")?;
    let check = ["address", "check", "--offline", "--pause", "1"];
    refused(&node, &check, 7, "but v2/reserved-for/red/db-0 does not name it");
    node.atollctl(&["address", "release", "10.128.0.77"])?;
    node.atollctl(&reserve)?;
    node.atollctl(&check)?;

    let released = node.atollctl(&["address", "release", "--for", "red/db-0"])?;
    assert!(released.ends_with("is for pod red/db-0 no longer.\n"), "{released}");
    refused(&node, &["address", "release", "--for", "red/db-0"], 4, "nothing is reserved for pod red/db-0");
    refused(&node, &["address", "release", "10.128.0.77"], 4, "10.128.0.77 is not reserved");
    assert_eq!(node.keys("macs/")?, []);
    cni.del(&other)?;
    node.finish()
}

#[test]
fn a_subnet_with_reserved_addresses_stays_and_its_exclusions_are_not_allocated() -> Result<()> {
    let node = LabNode::start(json!({ "cluster": { "podCidr": "10.128.0.0/16", "subnetPrefix": 29 } }))?;
    let cni = node.cni("1.0.0")?;
    let first = LabPod::new("red", "first")?;
    cni.add(&first)?;
    let add = ["subnet", "add", "red", "--cidr", "10.128.9.0/29", "--exclude", "10.128.9.2-10.128.9.4"];
    refused(&node, &["subnet", "add", "red", "--exclude", "10.128.9.2"], 2, "--cidr");
    refused(&node, &[&add[..], &["10.128.10.0"]].concat(), 6, "the excluded range 10.128.10.0 is not of it");
    node.atollctl(&[&add[..], &["10.128.9.6"]].concat())?;
    // One of its five addresses is free.
    let second = LabPod::new("red", "second")?;
    assert_eq!(cni.add(&second)?.address.ip(), Ipv4Addr::new(10, 128, 9, 5));
    refused(&node, &["address", "reserve", "10.128.9.3", "--for", "red/db-0"], 6, "10.128.9.2-10.128.9.4 of");
    cni.del(&second)?;
    node.atollctl(&["address", "reserve", "10.128.9.5", "--for", "red/db-0"])?;
    let dry = node.atollctl(&["subnet", "delete", "red", "2", "--dry-run"])?;
    assert_eq!(dry, "would refuse: 1 reserved address in it\n");
    refused(&node, &["subnet", "delete", "red", "2"], 6, "has reserved addresses: 10.128.9.5 for red/db-0");
    cni.del(&first)?;
    // Deleting the tenant deletes its reservations.
    let dry = node.atollctl(&["tenant", "delete", "red", "--dry-run"])?;
    assert!(dry.contains("1 reservation would be lifted"), "{dry}");
    node.atollctl(&["tenant", "delete", "red"])?;
    for list in ["reservations/", "reserved-for/", "tenants/"] {
        assert_eq!(node.keys(list)?, [], "{list}");
    }
    node.finish()
}
