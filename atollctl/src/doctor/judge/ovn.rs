//! OVN: the members of its databases, northd, the chassis, this machine's Open vSwitch, and rows without an owner.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use atoll_ovn::ovsdb::MemberState;
use atoll_ovn::{BridgeFacts, ConfigurationProgress, ListenerFacts, OwnedRow, SwitchFacts, TunnelFacts};

use super::super::seen::{DatabaseMember, OvnEvidence, Probed, Site};
use super::finding::{Check, DoctorFinding, time};
use super::records::known_interfaces;
use super::servers::{SLOW, milliseconds};
use crate::nodefiles::AddState;
use crate::output::count;

const DATABASE: Check = Check::new(
    "database",
    "without a leader of Northbound no pod can be added; running pods go on, and DEL records pending cleanup in etcd",
);
const VERSION: Check = Check::new(
    "ovn-version",
    "before 23.06 northd computes everything anew for each pod: seconds at hundreds of tenants",
);
const PROBE: Check = Check::new(
    "probe",
    "a busy daemon that does not answer a probe in time is cut off, and begins anew: in a large cluster without end",
);
const NORTHD: Check =
    Check::new("northd", "northd makes of Northbound what the chassis read; without it no new pod gets a network");
const CHASSIS: Check = Check::new(
    "chassis",
    "a chassis forwards what its ovn-controller has installed; while that is away, pods go on and new ones get no network",
);
const SWITCH: Check =
    Check::new("open-vswitch", "an ADD connects the pod to this bridge, on the chassis that its port asks for");
const GATEWAY: Check = Check::new("gateway", "one chassis at a time carries all packets to the external network");
const TUNNEL: Check = Check::new("tunnel", "pods on two hosts reach each other through a tunnel between these hosts");
const PORT: Check =
    Check::new("port", "a pod is reached when Open vSwitch has its interface and its flows are installed");
const OWNER: Check = Check::new(
    "owner",
    "every row of this cluster belongs to a tenant's record or to a pod's claim; one that does not was left behind",
);

/// The oldest version in which northd processes a pod by itself.
const INCREMENTAL: [u32; 3] = [23, 6, 0];
/// A chassis announces this from 23.06 on.
const ANNOUNCED: &str = "fdb-timestamp";
/// An ovn-controller of this version does not probe Open vSwitch, and has no setting for it of this name; 23.03 does and has.
const WITHOUT_OPENFLOW_PROBE: [u32; 3] = [25, 3, 0];
/// The probe that a server of OVN has if none is set; milliseconds.
const USUAL_PROBE: i64 = 5000;
/// From so many routers on, northd can be busy for longer than the usual probe: at 1000 the daemons cut each other off without
/// end, and with [`LONG_PROBE`] they did not. A tenth of it is the reserve for slower machines.
const MANY_ROUTERS: usize = 100;
/// Milliseconds.
const LONG_PROBE: i64 = 60_000;
/// With fewer chassis a gateway does not move: a chassis without a tunnel that is up takes itself for the isolated one.
const FAILOVER: usize = 3;
/// Rows or interfaces that are named in one finding.
const NAMED: usize = 5;

/// Everything but [`owners`].
pub(super) fn judge(engine: &OvnEvidence, site: &Site, now: u64) -> Vec<DoctorFinding> {
    let mut findings: Vec<_> = engine.members.iter().map(member).collect();
    findings.extend(leaders(&engine.members));
    findings.extend(version(engine));
    findings.extend(chassis_versions(engine));
    findings.extend(probes(engine));
    findings.extend(progress(engine, site, now));
    findings.push(switch(engine, site));
    findings.extend(gateway(engine));
    findings.extend(tunnels(engine));
    findings.extend(ports(engine, site));
    findings
}

fn member(member: &DatabaseMember) -> DoctorFinding {
    let DatabaseMember { url, database, state, newest } = member;
    let (took, state) = match state {
        Ok(answer) => answer,
        Err(problem) => {
            let hint = "check that the server runs and is reachable from this node";
            return DATABASE.problem(url, problem, hint);
        }
    };
    let found = format!("{database}, {}, an answer takes {}", described(state), milliseconds(*took));
    let status = format!("`ovs-appctl -t …/ovn{}_db.ctl cluster/status {database}`", short(database));
    if !state.connected {
        let hint = format!("check the other members: a majority must be up ({status})");
        return DATABASE.fail(url, format!("{found}; it has lost its cluster"), hint);
    }
    if let Some(behind) = newest.filter(|newest| state.index.is_some_and(|index| index < *newest)) {
        let hint = format!("check its disk and the way to the other members ({status})");
        return DATABASE.warn(url, format!("{found}; it is behind: another member has entry {behind}"), hint);
    }
    if *took > SLOW * 5 {
        return DATABASE.warn(url, found, "check the server's load and the way to it: each ADD connects once");
    }
    DATABASE.ok(url, found)
}

fn described(state: &MemberState) -> String {
    let role = match (state.clustered, state.leader) {
        (false, _) => "no cluster",
        (true, true) => "leader",
        (true, false) => "follower",
    };
    state.index.map_or_else(|| role.to_owned(), |index| format!("{role}, entry {index}"))
}

/// The part of its name that its socket has.
fn short(database: &str) -> &'static str {
    if database == "OVN_Southbound" { "sb" } else { "nb" }
}

/// A database whose members answer and of which none leads.
fn leaders(members: &[DatabaseMember]) -> Vec<DoctorFinding> {
    let mut databases: BTreeMap<&'static str, Vec<&MemberState>> = BTreeMap::new();
    for member in members {
        if let Ok((_, state)) = &member.state {
            databases.entry(member.database).or_default().push(state);
        }
    }
    let leaderless = databases.into_iter().filter(|(_, states)| states.iter().all(|s| s.clustered && !s.leader));
    let finding = |(database, states): (&'static str, Vec<&MemberState>)| {
        let section = if database == "OVN_Southbound" { "southbound" } else { "northbound" };
        let found = format!("none of the {} that answer leads", count(states.len(), "member"));
        let hint = format!("name all members in `ovn.{section}`; if they are, a majority must be up");
        DATABASE.fail(database, found, hint)
    };
    leaderless.map(finding).collect()
}

fn version(engine: &OvnEvidence) -> Option<DoctorFinding> {
    let northbound = engine.northbound.as_ref().ok()?;
    let Some(version) = &northbound.version else {
        return Some(VERSION.skip("northd", "no northd has written its version to Northbound"));
    };
    let vswitch = engine.switch.as_ref().ok().and_then(|switch| switch.version.as_ref());
    let vswitch = vswitch.map_or_else(String::new, |version| format!(", Open vSwitch {version}"));
    let found = format!("OVN {version}{vswitch}");
    Some(if numbers(version) < INCREMENTAL {
        VERSION.warn("northd", found, "upgrade OVN to 23.06 or newer before the cluster has hundreds of tenants")
    } else {
        VERSION.ok("northd", found)
    })
}

/// `25.03.1`, of northd with versions of schemas behind it: the first three numbers.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse().ok());
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// The versions of the chassis beside northd's: this machine's by its ovn-controller, others by what they announce.
fn chassis_versions(engine: &OvnEvidence) -> Vec<DoctorFinding> {
    let northd = engine.northbound.as_ref().ok().and_then(|northbound| northbound.version.as_deref());
    let mut findings = Vec::new();
    if let (Some(own), Some(northd)) = (&engine.controller, northd) {
        let (object, found) = ("ovn-controller", format!("{own} on this machine, northd {northd}"));
        findings.push(match numbers(own).cmp(&numbers(northd)) {
            Ordering::Equal => VERSION.ok(object, found),
            Ordering::Less => VERSION.warn(object, found, "upgrade OVN on this machine: chassis come before northd"),
            Ordering::Greater => VERSION.warn(object, found, "upgrade northd once all chassis are upgraded"),
        });
    }
    let Ok(Some(southbound)) = &engine.southbound else { return findings };
    let all: BTreeSet<&str> = southbound.chassis.iter().flat_map(|one| &one.features).map(String::as_str).collect();
    let is_new = northd.is_some_and(|northd| numbers(northd) >= INCREMENTAL);
    for chassis in &southbound.chassis {
        let lacks: Vec<&str> = all.iter().copied().filter(|feature| !chassis.features.contains(*feature)).collect();
        let found = if is_new && !chassis.features.contains(ANNOUNCED) {
            format!("its ovn-controller is older than 23.06, northd is {}", northd.unwrap_or_default())
        } else if lacks.is_empty() {
            continue;
        } else {
            format!("its ovn-controller is of another version: it does not announce {}, as others do", lacks.join(", "))
        };
        findings.push(VERSION.warn(&chassis.name, found, "upgrade OVN on this host: chassis come before northd"));
    }
    findings
}

fn probes(engine: &OvnEvidence) -> Vec<DoctorFinding> {
    let Ok(northbound) = &engine.northbound else { return Vec::new() };
    let least = if northbound.routers < MANY_ROUTERS { USUAL_PROBE } else { LONG_PROBE };
    // 0: no probe.
    let is_short = |probe: i64| probe != 0 && probe < least;
    let mut short: Vec<(String, String, String)> = Vec::new();
    let mut database = |name: &str, program: &str, listeners: &[ListenerFacts]| {
        for ListenerFacts { target, probe } in listeners {
            if is_short(probe.unwrap_or(USUAL_PROBE)) {
                let found = probe.map_or_else(|| "5000 ms, the default".to_owned(), |probe| format!("{probe} ms"));
                let hint = format!("{program} set connection . inactivity_probe={LONG_PROBE}");
                short.push((format!("{name} {target}"), found, hint));
            }
        }
    };
    database("Northbound", "ovn-nbctl", &northbound.listeners);
    if let Ok(Some(southbound)) = &engine.southbound {
        database("Southbound", "ovn-sbctl", &southbound.listeners);
    }
    if let Ok(switch) = &engine.switch {
        let version = engine.controller.as_ref().or(northbound.version.as_ref());
        let has_openflow = version.is_none_or(|version| numbers(version) < WITHOUT_OPENFLOW_PROBE);
        let openflow = has_openflow.then_some(("ovn-openflow-probe-interval", "s", 1000));
        for (key, unit, milliseconds) in [("ovn-remote-probe-interval", "ms", 1)].into_iter().chain(openflow) {
            let set = switch.settings.get(key).and_then(|text| text.parse::<i64>().ok());
            let default = USUAL_PROBE / milliseconds;
            if is_short(set.unwrap_or(default).saturating_mul(milliseconds)) {
                let found = set.map_or_else(|| format!("{default} {unit}, the default"), |set| format!("{set} {unit}"));
                let hint = format!("ovs-vsctl set Open_vSwitch . external_ids:{key}={}", LONG_PROBE / milliseconds);
                short.push((format!("ovn-controller {key}"), found, hint));
            }
        }
    }
    let size = count(northbound.routers, "router");
    if short.is_empty() {
        return vec![PROBE.ok("inactivity probes", format!("long enough for {size}"))];
    }
    short
        .into_iter()
        .map(|(object, found, hint)| {
            PROBE.warn(object, format!("{found}; with {size} it should be {least} ms or more"), hint)
        })
        .collect()
}

fn progress(engine: &OvnEvidence, site: &Site, now: u64) -> Vec<DoctorFinding> {
    let progress = match &engine.progress {
        Ok(progress) => progress,
        Err(problem) => return vec![NORTHD.skip("ovn-northd", format!("Northbound did not answer: {}", problem.text))],
    };
    let ConfigurationProgress { asked, northd, chassis } = progress;
    if northd.0 < *asked {
        let found =
            format!("configuration {asked} was not processed within 15 s; the last one: {}", last(*northd, now));
        let hint = "start ovn-northd (`systemctl status ovn-northd`); if it runs, check its log and its CPU: one full \
                    computation may take it longer";
        return vec![
            NORTHD.fail("ovn-northd", found, hint),
            CHASSIS.skip("ovn-controller", "no chassis can confirm what northd did not process"),
        ];
    }
    let mut findings = vec![NORTHD.ok("ovn-northd", format!("it processed configuration {asked}"))];
    findings.extend(silent(engine, site, progress, now, chassis.0 >= *asked));
    findings
}

/// The chassis that did not confirm.
fn silent(
    engine: &OvnEvidence,
    site: &Site,
    progress: &ConfigurationProgress,
    now: u64,
    is_confirmed: bool,
) -> Vec<DoctorFinding> {
    let asked = progress.asked;
    if is_confirmed {
        let found = match &engine.southbound {
            Ok(Some(southbound)) => {
                format!("{} chassis, all confirmed configuration {asked}", southbound.chassis.len())
            }
            _ => format!("all confirmed configuration {asked}"),
        };
        return vec![CHASSIS.ok("ovn-controller", found)];
    }
    let own = site.machine.as_ref().map(|machine| machine.host_id.to_string()).unwrap_or_default();
    let start = "start ovn-controller on this machine (`systemctl status ovn-controller`), and check its log";
    let bridge = engine.switch.as_ref().ok().and_then(|switch| switch.bridge.as_ref());
    let here = match bridge {
        Some(BridgeFacts { confirmed, .. }) if confirmed.is_none_or(|confirmed| confirmed < asked) => {
            let last = confirmed.map_or_else(|| "none yet".to_owned(), |number| number.to_string());
            let found = format!("it did not confirm configuration {asked} within 15 s; its last one: {last}");
            Some(CHASSIS.fail(format!("{own} (this machine)"), found, start))
        }
        _ => None,
    };
    let Ok(Some(southbound)) = &engine.southbound else {
        let found = format!(
            "not every one confirmed configuration {asked} within 15 s; the last one that all confirmed: {}",
            last(progress.chassis, now)
        );
        let hint = "name Southbound's members in `ovn.southbound`: then this check names the chassis";
        return here.into_iter().chain([CHASSIS.warn("other machines", found, hint)]).collect();
    };
    // They were read while the answers came in.
    let others = southbound.chassis.iter().filter(|chassis| chassis.confirmed < asked && chassis.name != own);
    let others = others.map(|chassis| {
        let name = &chassis.name;
        let found = format!(
            "host {}: it did not confirm configuration {asked} within 15 s; its last one: {}",
            chassis.hostname, chassis.confirmed
        );
        let hint = format!(
            "start ovn-controller there; if the machine is gone for good: `atollctl attachment evict-node`, or \
             `ovn-sbctl chassis-del {name}` if it had no pods of Atoll"
        );
        CHASSIS.warn(name, found, hint)
    });
    here.into_iter().chain(others).collect()
}

/// `6, 12 s ago`, or `none`. The time is in milliseconds since 1970.
fn last((number, at): (i64, i64), now: u64) -> String {
    match u64::try_from(at / 1000) {
        Ok(0) | Err(_) => "none".to_owned(),
        Ok(at) => format!("{number}, {} ago", time(now.saturating_sub(at))),
    }
}

fn switch(engine: &OvnEvidence, site: &Site) -> DoctorFinding {
    let object = "this machine";
    let switch = match &engine.switch {
        Ok(switch) => switch,
        Err(problem) => {
            let hint = "start openvswitch-switch (`systemctl status openvswitch-switch`), or correct `ovn.local`";
            return SWITCH.problem(object, problem, hint);
        }
    };
    let set = |key: &str| switch.settings.get(key).filter(|value| !value.is_empty());
    let Some(id) = set("system-id") else {
        let hint = "ovs-vsctl set Open_vSwitch . external_ids:system-id=NAME, which never changes afterwards";
        return SWITCH.fail(object, "it has no system-id", hint);
    };
    let host = site.machine.as_ref().map(|machine| machine.host_id.as_str());
    if let Some(host) = host.ok().filter(|host| host != id) {
        let found = format!("its system-id is {id}, but this node's host id is {host}: every ADD is refused");
        let hint = format!(
            "set the system-id to {host} again; if the new one is meant: drain the node, `atollctl attachment evict-node`, \
             then `hostId`"
        );
        return SWITCH.fail(object, found, hint);
    }
    let Some(bridge) = &switch.bridge else {
        let hint = "start ovn-controller, which makes it, or correct `ovn.bridge`";
        return SWITCH.fail(object, "the bridge for pods does not exist", hint);
    };
    for (key, example) in
        [("ovn-remote", "ssl:10.0.0.1:6642"), ("ovn-encap-type", "geneve"), ("ovn-encap-ip", "10.0.0.11")]
    {
        if set(key).is_none() {
            let hint = format!("ovs-vsctl set Open_vSwitch . external_ids:{key}={example}");
            return SWITCH.fail(object, format!("{key} is not set: this machine is no chassis"), hint);
        }
    }
    let is_gateway = engine.northbound.as_ref().is_ok_and(|northbound| northbound.gateways.contains(id));
    if is_gateway && set("ovn-bridge-mappings").is_none() {
        let hint = "ovs-vsctl set Open_vSwitch . external_ids:ovn-bridge-mappings=NETWORK:BRIDGE";
        return SWITCH.fail(object, "it carries uplinks, and ovn-bridge-mappings names no physical network", hint);
    }
    let datapath = match bridge.datapath.as_str() {
        "" | "system" => "kernel",
        "netdev" => "userspace",
        other => other,
    };
    let encapsulation = ["ovn-encap-type", "ovn-encap-ip"].map(|key| set(key).map_or("", String::as_str)).join(" ");
    SWITCH.ok(object, format!("chassis {id}, {datapath} datapath, {encapsulation}"))
}

/// How many chassis there are; none: it is not known.
fn chassis_count(engine: &OvnEvidence) -> Option<usize> {
    match (&engine.southbound, &engine.switch) {
        (Ok(Some(southbound)), _) => Some(southbound.chassis.len()),
        // A chassis has a tunnel to every other one.
        (_, Ok(switch)) => Some(switch.tunnels.len() + 1),
        _ => None,
    }
}

fn gateway(engine: &OvnEvidence) -> Option<DoctorFinding> {
    let northbound = engine.northbound.as_ref().ok()?;
    let gateways = &northbound.gateways;
    if gateways.is_empty() {
        return None;
    }
    let named = gateways.join(", ");
    if let Ok(Some(southbound)) = &engine.southbound {
        let known = |name: &&String| southbound.chassis.iter().any(|chassis| chassis.name == **name);
        if !gateways.iter().any(|name| known(&name)) {
            let hint = "correct the hosts of `--uplink` of `atollctl init`: they are the system-ids of chassis";
            return Some(GATEWAY.fail(
                named,
                "no chassis has one of these names: no pod reaches the external network",
                hint,
            ));
        }
    }
    let chassis = chassis_count(engine);
    Some(match (gateways.len(), chassis) {
        (1, _) => GATEWAY.warn(
            named,
            "it is the only one: nothing takes its place",
            "run `atollctl init` with uplinks of more hosts",
        ),
        (_, Some(chassis)) if chassis < FAILOVER => {
            let found = format!("{chassis} chassis in the cluster: with fewer than three it does not move");
            GATEWAY.warn(named, found, "add a third chassis; it needs no uplink")
        }
        (gateways, _) => GATEWAY.ok(named, format!("{gateways} chassis can carry it")),
    })
}

fn tunnels(engine: &OvnEvidence) -> Vec<DoctorFinding> {
    let Ok(switch) = &engine.switch else { return Vec::new() };
    let hint = "check the other machine, and that UDP 6081 (geneve) or 4789 (vxlan) passes between the two";
    let is_down = |state: &Option<String>| state.as_deref() == Some("down");
    let judge = |tunnel: &TunnelFacts| {
        let object = format!("{} to {}", tunnel.name, tunnel.remote);
        match tunnel {
            TunnelFacts { error: Some(error), .. } => {
                Some(TUNNEL.fail(object, error.clone(), "check `ovs-vswitchd.log` on this machine"))
            }
            TunnelFacts { bfd, .. } if is_down(bfd) => {
                Some(TUNNEL.warn(object, "BFD hears nothing of the other end", hint))
            }
            TunnelFacts { link, .. } if is_down(link) => Some(TUNNEL.warn(object, "its link is down", hint)),
            _ => None,
        }
    };
    let mut findings: Vec<_> = switch.tunnels.iter().filter_map(judge).collect();
    if findings.is_empty() {
        let bfd = switch.tunnels.iter().filter(|tunnel| tunnel.bfd.is_some()).count();
        findings.push(TUNNEL.ok("tunnels", format!("{}, BFD is up on {bfd}", switch.tunnels.len())));
    }
    findings
}

/// Interfaces of pods that are on the bridge and do not forward.
fn ports(engine: &OvnEvidence, site: &Site) -> Vec<DoctorFinding> {
    let Ok(switch) = &engine.switch else { return Vec::new() };
    let files = site.attachment_states.as_ref().map(Vec::as_slice).unwrap_or_default();
    let adding = |name: &str| {
        let mut files = files.iter().filter(|file| matches!(file.phase, AddState::Adding(_)));
        files.any(|file| file.phase.claim().is_some_and(|claim| claim.host_interface.as_str() == name))
    };
    let judge = |pod: &atoll_ovn::HostEndFacts| {
        let name = pod.interface.as_str();
        match &pod.error {
            Some(error) => {
                let hint = "`atollctl gc` removes it if its pod is gone; else delete the pod, which is made anew";
                Some(PORT.fail(name, format!("Open vSwitch cannot take it: {error}"), hint))
            }
            None if !pod.installed && !adding(name) => {
                let hint = "check ovn-controller on this machine, and the pod's port: `atollctl attachment show`";
                Some(PORT.warn(name, "its flows are not installed", hint))
            }
            None => None,
        }
    };
    let mut findings: Vec<_> = switch.pods.iter().filter_map(judge).collect();
    if findings.is_empty() {
        findings.push(PORT.ok("pods", format!("{}, each with its flows", count(switch.pods.len(), "interface"))));
    }
    findings
}

/// Rows of ours without an owner: in this machine's Open vSwitch, and in Northbound.
pub(super) fn owners(engine: &OvnEvidence, site: &Site) -> Vec<DoctorFinding> {
    let object = "rows of this cluster";
    let records = match &site.records {
        Ok(records) if records.damaged.is_empty() => records,
        Ok(_) => return vec![OWNER.skip(object, "some records cannot be read: one of them may be the owner")],
        Err(_) => return vec![OWNER.skip(object, "etcd did not answer: the owners are unknown")],
    };
    if site.attachment_states.is_err() || site.local_tombstones.is_err() {
        return vec![OWNER.skip(object, "this node's files cannot be read: one of them may name the owner")];
    }
    let known = known_interfaces(site, records);
    let mut findings = Vec::new();
    if let Ok(SwitchFacts { pods, .. }) = &engine.switch {
        let left = pods.iter().map(|pod| pod.interface.as_str()).filter(|name| !known.contains(*name));
        let finding =
            |name| OWNER.warn(name, "an Interface of Open vSwitch without a claim", "`atollctl gc` removes it");
        findings.extend(left.map(finding));
    }
    let owned = match &engine.owned {
        Ok(owned) => owned,
        Err(problem) => {
            findings.push(OWNER.skip(object, format!("Northbound was not read: {}", problem.text)));
            return findings;
        }
    };
    let (ports, networks): (Vec<_>, Vec<_>) = owned.iter().partition(|row| row.interface.is_some());
    let left = ports.iter().filter(|row| row.interface.as_ref().is_some_and(|name| !known.contains(name.as_str())));
    findings.extend(left.map(|row| {
        let hint =
            "`atollctl address check` compares all ports; if it names this one too: `ovn-nbctl lsp-del` with its id";
        OWNER.warn(
            row.uuid,
            format!("a port of this node in Northbound, of tenant {}, without a claim", row.tenant),
            hint,
        )
    }));
    findings.extend(networks_left(engine, &networks));
    if findings.is_empty() {
        let found = format!(
            "{} of tenants and {}, each with its owner",
            count(networks.len(), "row"),
            count(ports.len(), "port")
        );
        findings.push(OWNER.ok(object, found));
    }
    findings
}

/// Networks whose tenant has no record.
fn networks_left(engine: &OvnEvidence, networks: &[&OwnedRow]) -> Vec<DoctorFinding> {
    let known: &Probed<_> = &engine.incarnations;
    let known = match known {
        Ok(known) => known,
        Err(problem) => return vec![OWNER.skip("tenants", problem.text.clone())],
    };
    let mut left: BTreeMap<_, Vec<&OwnedRow>> = BTreeMap::new();
    for row in networks.iter().filter(|row| !known.contains(&row.incarnation)) {
        left.entry((&row.tenant, row.incarnation)).or_default().push(row);
    }
    let finding = |((tenant, incarnation), rows): ((&String, _), Vec<&OwnedRow>)| {
        let mut names: Vec<_> = rows.iter().take(NAMED).map(|row| format!("{} {}", row.table, row.uuid)).collect();
        if rows.len() > NAMED {
            names.push(format!("{} more", rows.len() - NAMED));
        }
        let found =
            format!("the network of incarnation {incarnation} of tenant {tenant} has no record: {}", names.join(", "));
        let hint = "if etcd was restored from a backup, that tenant is younger than the backup: delete these rows with \
                    `ovn-nbctl lr-del` and `ls-del`, once no pod uses them";
        OWNER.warn(format!("tenant {tenant}"), found, hint)
    };
    left.into_iter().map(finding).collect()
}
