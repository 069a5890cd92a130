//! etcd, the controller, and the controller's records of this machine.

use std::time::Duration;

use atoll_store::etcd::MemberStatus;

use super::super::seen::{ControllerEndpoint, DoctorEvidence, EngineEvidence, EtcdEndpoint, MidoNetEvidence, Site};
use super::finding::{Check, DoctorFinding};
use crate::output::count;

const ETCD: Check = Check::new(
    "etcd",
    "without etcd no pod can be added; running pods go on, and DEL records pending cleanup in local tombstones",
);
const CONTROLLER: Check = Check::new(
    "controller",
    "without the controller no pod can be added; running pods go on, and DEL records pending cleanup in etcd",
);
const CLOCK: Check = Check::new(
    "clock",
    "certificates and tokens are judged by the clock; nothing else of Atoll compares two machines' clocks",
);
const HOST: Check = Check::new(
    "host",
    "a pod's port is bound to this host id; packets flow only while the controller's agent on this machine lives",
);
const TUNNEL_ZONE: Check = Check::new(
    "tunnel-zone",
    "hosts of one tunnel zone carry each other's packets; a host in none is cut off from pods on other hosts",
);

/// A slower answer is reported: an ADD takes at least one round trip to each server.
pub(super) const SLOW: Duration = Duration::from_millis(100);
/// The default quota of etcd is 2 GiB; beyond it, etcd accepts no writes.
const LARGE: u64 = 3 << 29;
/// `Date` has whole seconds, and the answer takes some time to arrive.
const SKEW: i64 = 5;

pub(super) fn etcd(site: &Site) -> Vec<DoctorFinding> {
    site.etcd.iter().map(etcd_endpoint).collect()
}

fn etcd_endpoint(endpoint: &EtcdEndpoint) -> DoctorFinding {
    let url = &endpoint.url;
    let (member, read) = match (&endpoint.member, &endpoint.read) {
        (Ok(member), Ok(read)) => (member, *read),
        (Ok(member), Err(problem)) => {
            let hint = "check the other members: without a majority etcd answers no reads (`etcdctl endpoint status --cluster`)";
            let mut finding = ETCD.problem(url, problem, hint);
            finding.found = format!("version {}, but a read fails: {}", member.version, finding.found);
            return finding;
        }
        (Err(problem), _) => return ETCD.problem(url, problem, "check that etcd runs and is reachable from this node"),
    };
    let found = described(member, read);
    if !member.troubles.is_empty() {
        let hint = "`etcdctl alarm list`; for NOSPACE: compact, `etcdctl defrag`, then `etcdctl alarm disarm` (docs/troubleshooting.md)";
        return ETCD.fail(url, format!("{found}; alarms: {}", member.troubles.join(", ")), hint);
    }
    if !member.has_leader {
        return ETCD.fail(
            url,
            format!("{found}; it knows no leader"),
            "check the other members: a majority must be up",
        );
    }
    if member.is_learner {
        return ETCD.warn(url, found, "name members that vote in `etcd.endpoints`; a learner answers no reads");
    }
    if member.size > LARGE {
        let hint = "give etcd more room (`--quota-backend-bytes`), or compact and defragment it";
        return ETCD.warn(url, format!("{found}; by default etcd takes no writes beyond 2 GiB"), hint);
    }
    if read > SLOW {
        return ETCD.warn(url, found, "check etcd's disk (`etcd_disk_wal_fsync_duration_seconds`) and the way to it");
    }
    ETCD.ok(url, found)
}

fn described(member: &MemberStatus, read: Duration) -> String {
    let role = match (member.is_leader, member.is_learner) {
        (true, _) => "leader",
        (_, true) => "learner",
        _ => "follower",
    };
    let size = bytes(member.size);
    format!("version {}, {role}, a read takes {}, {size} of data", member.version, milliseconds(read))
}

pub(super) fn controllers(engine: &MidoNetEvidence) -> Vec<DoctorFinding> {
    engine.controllers.iter().map(controller).collect()
}

fn controller(endpoint: &ControllerEndpoint) -> DoctorFinding {
    let url = &endpoint.url;
    let hint =
        "check that the controller runs, that the URL has the API's path, and that it is reachable from this node";
    let (took, dialect) = match &endpoint.root {
        Ok(root) => root,
        Err(problem) => return CONTROLLER.problem(url, problem, hint),
    };
    let found = format!("dialect {dialect}, an answer takes {}", milliseconds(*took));
    match (&endpoint.login, &endpoint.writable) {
        (Err(problem), _) => {
            let mut finding = CONTROLLER.problem(url, problem, "check `controller.username` and the password file");
            finding.found = format!("{found}; {}", finding.found);
            finding
        }
        (_, Ok(false)) => CONTROLLER.fail(
            url,
            format!("{found}; it takes no changes now"),
            "it is being upgraded, or was made read-only; check its system state",
        ),
        _ if *took > SLOW => CONTROLLER.warn(url, found, "check the controller's load and the way to it"),
        _ => CONTROLLER.ok(url, found),
    }
}

pub(super) fn clocks(site: &Site) -> Vec<DoctorFinding> {
    let etcd = site.etcd.iter().filter_map(|endpoint| Some((endpoint.url.as_str(), endpoint.clock?)));
    let controllers = match &site.engine {
        EngineEvidence::MidoNet(engine) => engine.controllers.as_slice(),
        // OVN's databases send no time.
        EngineEvidence::Ovn(_) => &[],
    };
    let controllers = controllers.iter().filter_map(|endpoint| Some((endpoint.url.as_str(), endpoint.clock?)));
    let clocks: Vec<_> = etcd.chain(controllers).collect();
    let Some((_, low)) = clocks.iter().min_by_key(|(_, skew)| *skew) else {
        return vec![CLOCK.skip("servers", "no server sent its time")];
    };
    let high = clocks.iter().map(|(_, skew)| *skew).max().unwrap_or(*low);
    let wrong = clocks.iter().filter(|(_, skew)| skew.abs() > SKEW);
    let mut findings: Vec<_> = wrong
        .map(|(url, skew)| {
            let (direction, by) = if *skew > 0 { ("ahead of", *skew) } else { ("behind", -*skew) };
            let found = format!("its clock is {by} s {direction} this node's");
            CLOCK.warn(url, found, "synchronise both machines' clocks (NTP); `timedatectl` shows whether they are")
        })
        .collect();
    if findings.is_empty() {
        let found = format!("all within {} s of this node's, {} s of each other", SKEW, high - low);
        findings.push(CLOCK.ok(count(clocks.len(), "server"), found));
    }
    findings
}

pub(super) fn host(engine: &MidoNetEvidence, site: &Site, seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    let Ok(machine) = &site.machine else { return vec![HOST.skip("host id", "the host id is not known")] };
    let id = &machine.host_id;
    let host = match &engine.host {
        Ok(host) => host,
        Err(problem) => return vec![HOST.skip(id, format!("the controller did not answer: {}", problem.text))],
    };
    let Some((name, alive)) = &host.found else {
        let hint = "start the controller's agent on this machine, or correct `hostId` (the agent's id is in /etc/midonet_host_id.properties)";
        return vec![HOST.fail(id, "the controller knows no such host", hint)];
    };
    let host_finding = if *alive {
        HOST.ok(id, format!("known as {name}, alive"))
    } else {
        let hint = "start the agent on this machine and check its log (`systemctl status midolman`)";
        HOST.fail(id, format!("known as {name}, but its agent is not alive"), hint)
    };
    let zone = if host.zones.is_empty() {
        let hint = "add the host to the tunnel zone of the other hosts, with the address that they reach it by";
        let uses_plane = seen.kernel.plane.is_some();
        let found = if uses_plane { "in none; the local data plane needs none" } else { "in none" };
        if uses_plane { TUNNEL_ZONE.ok(name, found) } else { TUNNEL_ZONE.warn(name, found, hint) }
    } else {
        TUNNEL_ZONE.ok(name, format!("member of {}", host.zones.join(", ")))
    };
    vec![host_finding, zone]
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{}.{} ms", time.as_micros() / 1000, time.as_micros() % 1000 / 100)
}

fn bytes(size: u64) -> String {
    match size {
        0..1_048_576 => format!("{} KiB", size >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", size >> 20),
        _ => format!("{}.{} GiB", size >> 30, (size >> 20) % 1024 * 10 / 1024),
    }
}
