//! Drift: each row of a tenant's network is changed or deleted behind Atoll's back, one at a time.

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use serde_json::json;

const UNCHANGED: &str = "Tenant red is as it should be: nothing would change.\n";

/// A table of a network.
struct Part {
    table: &'static str,
    /// A change that a row does not survive unnoticed.
    change: &'static str,
    /// The table and the column that refer to its rows.
    parent: Option<(&'static str, &'static str)>,
}

const fn part(table: &'static str, change: &'static str, parent: Option<(&'static str, &'static str)>) -> Part {
    Part { table, change, parent }
}

const PARTS: [Part; 6] = [
    part("Logical_Router", "name=changed", None),
    part("Logical_Switch", "name=changed", None),
    part("Logical_Router_Port", "mac=\"02:00:5e:10:00:09\"", Some(("Logical_Router", "ports"))),
    part("Logical_Router_Static_Route", "nexthop=192.0.2.9", Some(("Logical_Router", "static_routes"))),
    part("NAT", "external_ip=192.0.2.9", Some(("Logical_Router", "nat"))),
    part("Logical_Switch_Port", "addresses=unknown", Some(("Logical_Switch", "ports"))),
];

fn nbctl(lab: &OvnLab, args: &[&str]) -> Result<String> {
    lab.ctl("ovn-nbctl", args)
}

/// The rows of the tenant's network in one table, without ports of pods.
fn rows_of(lab: &OvnLab, table: &str) -> Result<Vec<String>> {
    let find = ["--bare", "--columns=_uuid", "find", table, "external_ids:atoll-tenant=red"];
    Ok(nbctl(lab, &find)?.split_whitespace().map(str::to_owned).collect())
}

fn plan(chassis: &OvnMachine) -> Result<String> {
    chassis.atollctl(&["tenant", "plan", "red"])
}

/// What others have in the same database.
fn foreign(lab: &OvnLab) -> Result<String> {
    let switch = nbctl(lab, &["list", "Logical_Switch", "foreign"])?;
    let port = nbctl(lab, &["list", "Logical_Switch_Port", "foreign-port"])?;
    Ok([switch, port, nbctl(lab, &["list", "Logical_Router", "foreign"])?].concat())
}

#[test]
fn the_plan_names_each_changed_or_deleted_row_and_repair_restores_it() -> Result<()> {
    let lab = OvnLab::start(1, &json!({}))?;
    let chassis = &lab.chassis[0];
    for command in [
        &["ls-add", "foreign"][..],
        &["lsp-add", "foreign", "foreign-port"],
        &["lsp-set-addresses", "foreign-port", "02:00:5e:10:00:01 10.128.0.2"],
        &["lr-add", "foreign"],
        &["lr-route-add", "foreign", "0.0.0.0/0", "192.0.2.1"],
    ] {
        nbctl(&lab, command)?;
    }
    let before = foreign(&lab)?;
    let pod = LabPod::new("red", "pod")?;
    let at = chassis.cni()?.add(&pod)?;
    ensure!(plan(chassis)? == UNCHANGED, "{}", plan(chassis)?);

    let mut damaged = 0;
    for Part { table, change, parent } in PARTS {
        let rows = rows_of(&lab, table)?;
        ensure!(!rows.is_empty(), "a network has rows in {table}");
        for row in &rows {
            for deleted in [false, true] {
                match (deleted, parent) {
                    (false, _) => nbctl(&lab, &["set", table, row, change])?,
                    (true, None) => nbctl(&lab, &["destroy", table, row])?,
                    (true, Some((of, column))) => {
                        let condition = format!("{column}{{>=}}{row}");
                        let found = nbctl(&lab, &["--bare", "--columns=_uuid", "find", of, &condition])?;
                        nbctl(&lab, &["remove", of, found.trim(), column, row])?
                    }
                };
                let what = format!("{table} {row} {}", if deleted { "deleted" } else { change });
                let planned = plan(chassis).with_context(|| what.clone())?;
                ensure!(planned.contains(row.as_str()), "{what}: the plan does not name it: {planned}");
                chassis.atollctl(&["tenant", "repair", "red"]).with_context(|| what.clone())?;
                ensure!(plan(chassis)? == UNCHANGED, "{what}, repaired: {}", plan(chassis)?);
                damaged += 1;
            }
        }
    }
    println!("{damaged} times one row was changed or deleted");
    ensure!(damaged == 18, "router, 3 ports of routers, route, translation, switch and its 2 ports, twice: {damaged}");
    ensure!(foreign(&lab)? == before, "rows of others are as before");

    // The pod's port went with its switch. An ADD makes it again, with its address.
    let again = chassis.cni()?.add(&pod)?;
    ensure!(again.address == at.address && ping(&pod.netns, at.gateway)?, "{again:?}, before: {at:?}");
    chassis.cni()?.del(&pod)?;
    lab.finish_after_cleanup()
}
