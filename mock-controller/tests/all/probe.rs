//! A machine that lacks a feature: the program reports the feature, its purpose and the remedy, and does not start, or
//! starts and keeps closed what needs the feature. The faults are real: capabilities are dropped, `/proc/sys` is hidden or
//! read-only, the program `nft` is absent or refuses what a kernel without the feature refuses. Needs root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use atoll_model::port_security::PortSecurity;
use atoll_testkit::program::command;
use serde_json::{Value, json};

use crate::fixture::id;
use crate::http_life::{PROGRAM, Running};
use crate::plane::{
    BRIDGE, HOST, INNER, JSON, MAC, Netns, POD, ROUTER, Traces, create, is_active, network, wait_for, wire,
};

/// `dataplane probe` and `--dataplane`, after `prepare` has run in a shell with mounts and a network of its own.
fn both(prepare: &str, how: &str) -> [Output; 2] {
    let (netns, directory) = (Netns::new(), tempfile::tempdir().expect("a directory"));
    ["dataplane probe", "--listen 127.0.0.1:0 --dataplane --run-dir \"$RUN\""].map(|arguments| {
        let script = format!("set -e\nmount --make-rprivate /\n{prepare}\nexec {how} {PROGRAM} {arguments}");
        command("timeout")
            .args([
                "20",
                "nsenter",
                &format!("--net={}", netns.path().display()),
                "unshare",
                "--mount",
                "sh",
                "-c",
                &script,
            ])
            .env("RUN", directory.path())
            .output()
            .expect("it runs")
    })
}

/// The machine is refused, and both outputs contain every part.
fn assert_refused(prepare: &str, how: &str, parts: &[&str]) {
    let [probe, start] = both(prepare, how);
    assert_eq!((probe.status.code(), start.status.code()), (Some(3), Some(1)), "{how} {prepare}: {probe:?} {start:?}");
    let (probe, start) = (String::from_utf8_lossy(&probe.stdout), String::from_utf8_lossy(&start.stderr));
    assert!(start.contains("this machine cannot carry the data plane:\n  "), "{start}");
    for text in [&probe, &start] {
        assert!(parts.iter().all(|part| text.contains(part)), "{how} {prepare}: {parts:?} in {text}");
        // One cause is one line, without its consequences.
        let lines = text.lines().filter(|line| line.contains(", needed for "));
        assert!(lines.count() <= parts.len().max(3), "{text}");
    }
}

#[test]
fn missing_root_and_dropped_capabilities_are_reported() {
    assert_refused(
        "",
        "setpriv --reuid=65534 --clear-groups",
        &["root (the effective user is not root)", "run it as root"],
    );
    for (capability, what) in
        [("sys_admin", "network namespaces and the mounts"), ("net_admin", "links, routes and filters")]
    {
        let name = format!("the capability CAP_{}", capability.to_uppercase());
        assert_refused("", &format!("setpriv --bounding-set=-{capability}"), &[&name, what, "--privileged"]);
    }
    let unable = "setpriv --bounding-set=-sys_admin,-net_admin";
    assert_refused("", unable, &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
}

#[test]
fn a_hidden_proc_directory_is_reported() {
    let [probe, start] = both("mount -t tmpfs none /proc/sys/net\nmount -o remount,ro /proc/sys/net", "");
    for text in [&probe.stdout, &start.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(text.contains("settings of a namespace (ipv4/ip_forward: /proc/sys/net/ipv4/ip_forward"), "{text}");
        assert!(text.contains("/proc/sys must be mounted writable"), "{text}");
    }
    assert_eq!((probe.status.code(), start.status.code()), (Some(3), Some(1)));
    let [probe, start] = both("mount --bind /proc/sys /proc/sys\nmount -o remount,bind,ro /proc/sys", "");
    let report = String::from_utf8_lossy(&probe.stdout);
    assert!(report.contains("settings of a namespace (ipv4/ip_forward") && report.contains("Read-only"), "{report}");
    assert_eq!((probe.status.code(), start.status.code()), (Some(3), Some(1)));
    assert_refused("mount -t tmpfs none /proc", "", &["/proc (", "mount -t proc proc /proc"]);
    assert_refused("PATH=/nowhere", "/usr/bin/env", &["the program nft", "apt-get install nftables", "every filter"]);
}

/// `/proc/sys/net` without `bridge`, as on a machine where `br_netfilter` is not loaded. The settings of each namespace
/// are read through another `/proc`, because a mount shows those of one namespace only.
const WITHOUT_BR_NETFILTER: &str = "mkdir $RUN/proc\nmount -t proc proc $RUN/proc\nmount -t tmpfs none /proc/sys/net\n\
                                    for it in core ipv4 ipv6; do ln -s $RUN/proc/sys/net/$it /proc/sys/net/; done";

/// A feature that the data plane can do without: rules that need tracked flows stay closed, everything else works.
#[test]
fn without_bridged_packets_in_the_hooks_of_ip_it_starts_and_keeps_closed_what_needs_them() {
    let (netns, directory) = (Netns::new(), tempfile::tempdir().expect("a directory"));
    let script = format!(
        "set -e\nmount --make-rprivate /\n{WITHOUT_BR_NETFILTER}\n{PROGRAM} dataplane probe >$RUN/report\n\
         exec {PROGRAM} --listen 127.0.0.1:0 --dataplane --run-dir $RUN --host-id {HOST}"
    );
    let mut command = command("nsenter");
    command.arg(format!("--net={}", netns.path().display())).args(["unshare", "--mount", "sh", "-c", &script]);
    command.env("RUN", directory.path());
    let server = Running::begin(command, Some(&netns.path()));
    let report = fs::read_to_string(directory.path().join("report")).expect("written");
    assert!(report.starts_with("degraded: bridged packets") && report.contains("modprobe br_netfilter"), "{report}");
    assert_eq!(report.lines().count(), 1, "{report}");
    assert!(server.stderr.contains("does without bridged packets"), "{}", server.stderr);

    network(&server);
    let port = json!({ "id": POD, "type": "Bridge", "hostId": HOST, "interfaceName": "atmock0" });
    create(&server, &format!("/bridges/{BRIDGE}/ports"), &port);
    wire(&server.sees(&directory.path().join("dataplane").join(ROUTER.to_string())), &netns);
    wait_for("a port without such rules is active", || is_active(&server, POD));
    let chain = id(10);
    create(&server, "/chains", &json!({ "id": chain, "tenantId": "t", "name": "c" }));
    let rule = json!({ "type": "drop", "matchReturnFlow": true, "position": 1 });
    create(&server, &format!("/chains/{chain}/rules"), &rule);
    let path = format!("/midonet-api/ports/{POD}");
    let (_, _, mut port) = server.send("GET", &path, JSON, &Value::Null);
    port["inboundFilterId"] = json!(chain);
    assert_eq!(server.send("PUT", &path, JSON, &port).0, 204);
    wait_for("a port with such a rule is closed", || !is_active(&server, POD));
    let (_, _, report) = server.send("GET", "/mock/dataplane", JSON, &Value::Null);
    let error = report["errors"][ROUTER.to_string()].as_str().unwrap_or_default();
    assert!(error.contains("bridge-nf-call-iptables"), "{report}");
    assert!(server.end("-TERM").success());
}

/// A word of a rule that a kernel without the feature refuses, and the report.
const FEATURES: &[(&str, &str)] = &[
    ("table bridge", "filters on bridges"),
    ("icmp type echo-request", "filters of IP"),
    ("@nh,8,8", "raw bytes"),
    ("meta mark and 0x10000 or", "marks of packets"),
    ("ether_addr . ether_addr", "sets of several fields"),
    ("iifname vmap", "maps from interfaces to chains"),
    ("192.0.2.128/25 }", "sets of networks"),
    ("6 . 80-90", "sets of networks with further fields"),
    ("timeout 5m", "sets that packets write to"),
    ("counter drop", "counters"),
    ("iifname counter", "counters of what packets write"),
    ("ct direction", "connection tracking"),
    ("ct mark set", "marks of flows"),
    ("ct count", "counting of flows"),
    ("snat to", "translation of sources"),
    ("dnat to", "translation of destinations"),
    ("numgen", "random choice"),
    ("reject with", "reject"),
    ("rt nexthop", "the next hop"),
];

/// An `nft` that refuses input with this word, as a kernel without the feature does, and records its input.
fn refusing(directory: &Path, word: &str) -> String {
    let real = String::from_utf8(command("sh").args(["-c", "command -v nft"]).output().expect("sh runs").stdout);
    let real = real.expect("a path").trim().to_owned();
    let program = directory.join("nft");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -f ] || exec {real} \"$@\"\nscript=$(cat)\nprintf '%s\\n' \"$script\" >> '{}'\n\
         case $script in *'{word}'*) echo 'Error: Could not process rule: Operation not supported' >&2; exit 1;; esac\n\
         printf '%s\\n' \"$script\" | {real} -f -\n",
        directory.join("scripts").display()
    );
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    format!("PATH={}:$PATH", directory.display())
}

#[test]
fn each_missing_feature_of_nftables_is_named() {
    for (word, what) in FEATURES {
        let directory = tempfile::tempdir().expect("a directory");
        let path = refusing(directory.path(), word);
        let [probe, start] = both(&path, "");
        let (stdout, stderr) = (String::from_utf8_lossy(&probe.stdout), String::from_utf8_lossy(&start.stderr));
        assert_eq!((probe.status.code(), start.status.code()), (Some(3), Some(1)), "{word}: {stdout} {stderr}");
        for text in [&stdout, &stderr] {
            assert!(text.contains(&format!("nftables: {what} (Error")), "{word}: {text}");
            assert!(text.contains("Operation not supported"), "{word}: {text}");
        }
    }
}

/// Words of the language of `nft` in its scripts: no names, no numbers, no strings.
fn words(scripts: &str) -> BTreeSet<String> {
    let (mut names, mut words) = (BTreeSet::new(), BTreeSet::new());
    for line in scripts.lines().map(str::trim).filter(|line| !line.starts_with("add ") && !line.starts_with("delete "))
    {
        let unquoted = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let of_line: Vec<_> = unquoted.split(|c: char| !(c.is_ascii_alphanumeric() || "_-@".contains(c))).collect();
        let name = match of_line[..] {
            ["table", _, name, ..] | ["chain" | "set" | "map", name, ..] => name,
            _ => "",
        };
        names.insert(name.to_owned());
        // Two digits of hexadecimal are part of a MAC.
        let is_hex = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let letters = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let is_word = |word: &&str| word.len() > 1 && letters(word) && !is_hex(word);
        words.extend(of_line.into_iter().filter(is_word).map(str::to_owned));
    }
    &words - &names
}

/// Rules of every kind, for a router's chain in or out, or a port's chain.
fn rules(routed: bool, port: bool) -> Vec<Value> {
    let mut rules = vec![
        json!({ "type": "accept", "nwSrcAddress": "192.0.2.0", "nwSrcLength": 24, "invNwSrc": true, "nwTos": 4 }),
        json!({ "type": "drop", "nwProto": 6, "tpSrc": { "start": 1, "end": 9 }, "matchForwardFlow": true }),
        json!({ "type": "return", "tpSrc": { "start": 8, "end": 8 }, "tpDst": { "start": 0, "end": 0 } }),
        json!({ "type": "reject", "condInvert": true, "nwProto": 17, "matchReturnFlow": true }),
        json!({ "type": "jump", "jumpChainId": id(50), "inPorts": [INNER] }),
        json!({ "type": "drop", "dlSrc": "02:00:00:00:00:01", "dlType": 0x0806 }),
    ];
    for n in 0..5 {
        let kind = ["accept", "drop", "reject", "return", "drop"][n];
        rules.push(json!({ "type": kind, "nwProto": 6, "tpDst": { "start": n, "end": n + n % 2 } }));
        rules.push(json!({ "type": "drop", "nwDstAddress": format!("198.51.{n}.0"), "nwDstLength": 24 }));
    }
    rules.sort_by_key(|rule| rule["nwDstAddress"].to_string());
    let target = |first: u8, ports: [u16; 2]| {
        json!({ "addressFrom": format!("203.0.113.{first}"),
        "addressTo": format!("203.0.113.{}", first + 1), "portFrom": ports[0], "portTo": ports[1] })
    };
    if !port {
        let kind = if routed { "snat" } else { "dnat" };
        let targets = |list: Vec<Value>| json!({ "type": kind, "flowAction": "accept", "natTargets": list });
        rules.push(targets(vec![target(1, [1024, 2048]), target(5, [7, 7])]));
        rules.push(targets(vec![target(9, [0, 0])]));
        rules.push(json!({ "type": format!("rev_{kind}"), "flowAction": "accept" }));
    }
    rules
}

#[test]
fn the_probe_asks_for_each_word_that_filters_have() {
    let (netns, directory) = (Netns::new(), tempfile::tempdir().expect("a directory"));
    let traces = Traces(directory.path().to_owned());
    let scripts = directory.path().join("scripts");
    refusing(directory.path(), "refuses nothing");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").expect("a path"));
    let command = || {
        let mut command = command("nsenter");
        command.arg(format!("--net={}", netns.path().display())).arg(PROGRAM).env("PATH", &path);
        command
    };
    let probe = command().args(["dataplane", "probe"]).output().expect("it runs");
    assert_eq!(probe.status.code(), Some(0), "{probe:?}");
    let tried = words(&fs::read_to_string(&scripts).expect("recorded"));
    let mut program = command();
    program.args(["--listen", "127.0.0.1:0", "--dataplane", "--host-id", HOST, "--run-dir"]).arg(directory.path());
    let server = Running::begin(program, Some(&netns.path()));
    // The probe's input at the start is not a filter.
    fs::remove_file(&scripts).expect("removed");
    network(&server);
    let vif = PortSecurity {
        mac: MAC.parse().expect("a MAC"),
        address: "10.0.0.5".parse().expect("an address"),
        unique: true,
    };
    let bound = |n: u128, vif: Value| {
        json!({ "id": id(n), "type": "Bridge", "hostId": HOST, "interfaceName": format!("atmock{n}"),
        "vifId": vif, "inboundFilterId": id(43), "outboundFilterId": id(43) })
    };
    for n in 40..=43 {
        create(&server, "/chains", &json!({ "id": id(n), "tenantId": "t", "name": "c" }));
    }
    create(&server, "/chains", &json!({ "id": id(50), "tenantId": "t", "name": "jumped" }));
    for (chain, rules) in [(40, rules(false, false)), (41, rules(true, false)), (43, rules(false, true))] {
        for rule in rules.into_iter().rev() {
            create(&server, &format!("/chains/{}/rules", id(chain)), &rule);
        }
    }
    create(&server, &format!("/bridges/{BRIDGE}/ports"), &bound(60, json!(vif.to_vif_id())));
    create(&server, &format!("/bridges/{BRIDGE}/ports"), &bound(61, Value::Null));
    let router = json!({ "name": "r", "tenantId": "t", "inboundFilterId": id(40), "outboundFilterId": id(41) });
    assert_eq!(server.send("PUT", &format!("/midonet-api/routers/{ROUTER}"), JSON, &router).0, 204);
    // A router with two links counts as shared.
    for n in [70, 72] {
        let port = |n: u128, last: u8| {
            json!({ "id": id(n), "type": "Router", "networkAddress": "100.64.0.0", "networkLength": 30,
            "portAddress": format!("100.64.0.{last}") })
        };
        create(&server, "/routers", &json!({ "id": id(n + 10), "tenantId": "u", "name": "u" }));
        create(&server, &format!("/routers/{}/ports", id(n + 10)), &port(n + 1, 2));
        create(&server, &format!("/routers/{ROUTER}/ports"), &port(n, 1));
        create(&server, &format!("/ports/{}/link", id(n)), &json!({ "peerId": id(n + 1) }));
    }
    let down = json!({ "name": "u", "tenantId": "u", "adminStateUp": false });
    assert_eq!(server.send("PUT", &format!("/midonet-api/routers/{}", id(80)), JSON, &down).0, 204);
    // All changes that were answered before are programmed when this is answered.
    create(&server, "/routers", &json!({ "id": id(90), "tenantId": "u", "name": "last" }));
    let (_, _, report) = server.send("GET", "/mock/dataplane", JSON, &Value::Null);
    assert_eq!(report["errors"], json!({}), "{report}");
    assert!(server.end("-TERM").success());
    let written = words(&fs::read_to_string(&scripts).expect("recorded"));
    assert!(written.len() > 80, "{written:?}");
    for word in ["numgen", "snat", "dnat", "reject", "count", "vmap", "interval", "nexthop", "meta"] {
        assert!(written.contains(word), "{word} is not in {written:?}");
    }
    let untried: Vec<_> = written.difference(&tried).collect();
    assert!(untried.is_empty(), "filters have words that the probe does not ask for: {untried:?}");
    drop(traces);
}
