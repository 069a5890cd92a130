//! Every verb of `atollctl` once on a cluster with OVN, and what each of them reports while Northbound is away.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use serde_json::json;

use super::GATEWAY;

/// Runs a command line; it ends with this code, and both of its outputs together have these parts.
fn run(chassis: &OvnMachine, line: &str, code: i32, parts: &[&str]) -> Result<()> {
    let args: Vec<_> = line.split_whitespace().collect();
    let out = chassis.run_atollctl(&args, &json!({}))?;
    let text = format!("{}{}", out.stdout, out.stderr);
    ensure!(out.code == code, "atollctl {line}: exit code {}, not {code}: {text}", out.code);
    for part in parts {
        ensure!(text.contains(part), "atollctl {line}: {part:?} is not in {text}");
    }
    for word in ["two chains", "MidoNet"] {
        ensure!(!text.contains(word), "atollctl {line}: it names what OVN has not, {word:?}: {text}");
    }
    Ok(())
}

#[test]
fn every_verb_answers() -> Result<()> {
    let lab = OvnLab::start(3, &json!({}))?;
    let [first, second, third] = lab.chassis.as_slice() else { unreachable!("there are three") };
    let (one, two) = (LabPod::new("red", "one")?, LabPod::new("red", "two")?);
    let one_at = first.cni()?.add(&one)?;
    let two_at = third.cni()?.add(&two)?;
    let address = one_at.address.ip();
    let done = |line: &str, parts: &[&str]| run(second, line, 0, parts);

    done("init", &["cluster"])?;
    done("topology", &["red", &address.to_string(), "on ext of host c3  "])?;
    wait::until("one of the three carries the uplink", GATEWAY, || {
        let topology = second.atollctl(&["topology"])?;
        let states: Vec<_> = topology.lines().filter(|line| line.contains(" on ext of host ")).collect();
        let with = |state: &str| states.iter().filter(|line| line.contains(state)).count();
        ensure!(
            states.len() == 3 && with("  active, priority ") == 1 && with("  standby, priority ") == 2,
            "{topology}"
        );
        Ok(())
    })?;
    done("topology --dot", &["graph", "red"])?;
    done("tenant list", &["red"])?;
    done("tenant show red", &["red/one", "active"])?;
    done("tenant plan red", &["nothing would change"])?;
    done("tenant repair red", &["as it should be"])?;
    done("tenant create shop", &["Tenant shop exists"])?;
    run(second, "tenant create shop", 6, &["there is a tenant shop already"])?;
    done("tenant create green amber --dry-run", &["amber: would create the tenant"])?;
    let both = ["Tenant amber exists", "Tenant green exists", "Tenant shop was not created: there is a tenant shop"];
    run(second, "tenant create green shop amber", 6, &both)?;
    done("tenant join shop front --dry-run", &["would let"])?;
    done("tenant join shop front", &["belongs to tenant shop now"])?;
    done("tenant leave shop front", &["belongs to no tenant now"])?;
    done("tenant set shop --add-route 10.9.0.0/16=blackhole --nameserver 10.9.0.53", &["10.9.0.0/16"])?;
    done("tenant plan shop", &["nothing would change"])?;
    done("tenant set shop --no-dns", &["shop"])?;
    done("subnet list red", &["10.128.0.0/24"])?;
    done("subnet add red", &["10."])?;
    done("subnet delete red 2", &["deleted"])?;
    done("tenant prune", &["shop"])?;
    done("tenant delete shop --dry-run", &["would delete tenant shop"])?;
    done("tenant delete shop --yes", &["is deleted"])?;
    done("attachment list", &["one", "two", "active"])?;
    run(first, "attachment show red/one", 0, &["nothing that can be seen from here is wrong"])?;
    done("address list", &[&address.to_string()])?;
    // None of those that the pods have by chance.
    let free = [200, 201, 202].map(|last| IpAddr::from([10, 128, 0, last]));
    let free = free.iter().find(|free| **free != address && **free != two_at.address.ip()).context("one is free")?;
    done(&format!("address reserve --for red/three {free}"), &[&free.to_string()])?;
    done("address release --for red/three", &[&free.to_string()])?;
    done("address check --pause 1", &["Everything agrees"])?;
    let list = first.config_file().with_file_name("containers.list");
    fs::write(&list, format!("{}\n", one.container))?;
    run(first, &format!("gc --sandboxes {} --dry-run", list.display()), 0, &[])?;
    run(first, "attachment evict-node c3 --dry-run", 0, &["alive", "would refuse"])?;

    // Northbound was lost with all that is in it.
    for table in ["Logical_Router", "Logical_Switch", "HA_Chassis_Group", "DNS"] {
        lab.ctl("ovn-nbctl", &["--all", "destroy", table])?;
    }
    lab.ctl("ovn-nbctl", &["--wait=hv", "sync"])?;
    ensure!(!ping(&one.netns, two_at.address.ip())?, "the pods are cut off");
    run(second, "address check --pause 1", 7, &["has no port"])?;
    done("tenant plan red", &["create", "Logical_Router", "pod-port", "red/one on c1", "red/two on c3"])?;
    done("init", &["provider router"])?;
    for tenant in ["red", "green", "amber"] {
        done(&format!("tenant repair {tenant}"), &["matches its record again"])?;
        done(&format!("tenant plan {tenant}"), &["nothing would change"])?;
    }
    done("address check --pause 1", &["Everything agrees"])?;
    lab.ctl("ovn-nbctl", &["--wait=hv", "sync"])?;
    ensure!(ping(&one.netns, two_at.address.ip())?, "packets of the running pods flow again");
    ensure!(ping(&two.netns, one_at.address.ip())?, "in both directions");
    done("attachment list", &["one", "two", "active"])?;

    // A row that was changed by hand is named, and repaired.
    let of_red = ["--bare", "--columns=name", "find", "Logical_Router", "external_ids:atoll-tenant=red"];
    lab.ctl("ovn-nbctl", &["lr-nat-del", lab.ctl("ovn-nbctl", &of_red)?.trim()])?;
    done("tenant plan red", &["create", "NAT"])?;
    done("tenant repair red", &["matches its record again", "NAT"])?;
    ensure!(ping(&one.netns, two_at.address.ip())?, "packets flow");
    for (chassis, pod) in [(first, &one), (third, &two)] {
        chassis.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}

#[test]
fn without_northbound_each_verb_names_it_and_what_needs_it_not_works() -> Result<()> {
    let mut lab = OvnLab::start(1, &json!({}))?;
    let pod = LabPod::new("red", "one")?;
    lab.chassis[0].cni()?.add(&pod)?;
    let mut northbound = lab.take_daemon("nb")?;
    northbound.kill()?;
    let chassis = &lab.chassis[0];
    for line in [
        "topology --offline",
        "tenant list",
        "tenant show red --offline",
        "subnet list red",
        "attachment list --offline",
        "address list",
        "address check --offline --pause 1",
        "tenant prune",
    ] {
        run(chassis, line, 0, &[])?;
    }
    // The state of ports is not known.
    for line in ["topology", "tenant show red", "attachment list"] {
        run(chassis, line, 0, &["unknown"])?;
    }
    run(chassis, "attachment show red/one", 0, &["the engine did not return the state of its port"])?;
    for line in [
        "tenant create shop",
        "tenant plan red",
        "tenant repair red",
        "address check --pause 1",
        "subnet add red",
        "tenant delete red --yes --force",
    ] {
        run(chassis, line, 5, &["OVN Northbound", "ssl:172.20.1.1:6641", "try:"])?;
    }
    run(chassis, "doctor", 7, &["FAIL  database ssl:172.20.1.1:6641"])?;
    northbound.restart()?;
    run(chassis, "tenant create shop", 6, &["there is a tenant shop already"])?;
    chassis.cni()?.del(&pod)?;
    lab.finish_after_cleanup()
}
