//! This machine: configuration, names, secrets, certificates, addressing, kernel, plugin, network configurations,
//! container runtimes.

use atoll_model::cni::version::Version;
use atoll_model::config::Addressing;

use super::super::seen::{ConfigurationContent, Conflist, Conflists, DoctorEvidence, PluginBinary, Site};
use super::finding::{Check, DoctorFinding, time};
use crate::runtime::PLUGIN;
use crate::runtime::{LoadState, NoAnswer, Runtime, Status};

const CONFIG: Check = Check::new("config", "with a wrong configuration every ADD on this node fails with code 7");
const MACHINE: Check =
    Check::new("machine", "node name and host id are part of every pod's identity; an ADD needs both");
const SECRET: Check =
    Check::new("secret", "a secret that others can read is refused, and every call that needs it fails");
const CERTIFICATE: Check =
    Check::new("certificate", "when it ends, this node can reach nothing that it is for, and no pod can be added");
const KERNEL: Check = Check::new("kernel", "the plugin makes a veth pair between two network namespaces for each pod");
const BINARY: Check = Check::new("plugin", "the runtime starts this file for every pod that it adds or removes");
const CONFLIST: Check =
    Check::new("conflist", "the runtime takes the first network configuration by file name and no other");

const RUNTIME: Check = Check::new(
    "runtime",
    "the runtime starts the plugin, from where it looks and with what it has loaded; a file that it has not seen does nothing",
);
const ADDRESSING: Check = Check::new(
    "addressing",
    "the kubelet, kube-proxy and the API server know a pod by its address alone; of an address that several pods have, they reach none",
);

/// A certificate that expires within this time is a warning; seconds.
const SOON: u64 = 21 * 86_400;

pub(super) fn configuration(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    vec![match &seen.config {
        Ok((file, _)) => CONFIG.ok(file.display(), "it is valid"),
        Err(problem) => {
            CONFIG.problem("configuration", problem, "correct the file; docs/configuration.md has every key")
        }
    }]
}

pub(super) fn machine(site: &Site) -> Vec<DoctorFinding> {
    vec![match &site.machine {
        Ok(node) => MACHINE.ok(&node.name, format!("host id {}", node.host_id)),
        Err(problem) => MACHINE.problem("this machine", problem, "set `nodeName` and `hostId` in the configuration"),
    }]
}

pub(super) fn secrets(site: &Site) -> Vec<DoctorFinding> {
    let judge = |file: &super::super::seen::SecretFile| {
        let path = file.path.display();
        let object = format!("{} {path}", file.setting);
        match &file.mode {
            Ok(mode) if others(*mode) == 0 => SECRET.ok(object, format!("mode {mode:04o}")),
            Ok(mode) => {
                SECRET.fail(object, format!("mode {mode:04o}: others can read it"), format!("chmod 0600 {path}"))
            }
            Err(problem) => SECRET.problem(
                object,
                problem,
                &format!("put the secret there, with mode 0600, or correct `{}`", file.setting),
            ),
        }
    };
    site.secrets.iter().map(judge).collect()
}

/// The permission bits of group and others.
fn others(mode: u32) -> u32 {
    mode & 0o077
}

pub(super) fn certificates(site: &Site, now: u64) -> Vec<DoctorFinding> {
    let judge = |file: &super::super::seen::CertificateFile| {
        let object = format!("{} {}", file.setting, file.path.display());
        let renew = "renew it; the plugin reads the file anew at every call";
        match file.validity {
            Ok((begin, _)) if now < begin => CERTIFICATE.fail(
                object,
                format!("it is not valid before {} from now", time(begin - now)),
                "check this machine's clock (`timedatectl`), then the certificate",
            ),
            Ok((_, end)) if now >= end => CERTIFICATE.fail(object, format!("it ended {} ago", time(now - end)), renew),
            Ok((_, end)) if end - now < SOON => {
                CERTIFICATE.warn(object, format!("it ends in {}", time(end - now)), renew)
            }
            Ok((_, end)) => CERTIFICATE.ok(object, format!("valid for another {}", time(end - now))),
            Err(ref problem) => CERTIFICATE.problem(object, problem, "put a PEM certificate there"),
        }
    };
    site.certificates.iter().map(judge).collect()
}

pub(super) fn kernel(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    let kernel = &seen.kernel;
    let one = |object: &str, probed: &super::super::seen::Probed<()>, hint: &str| match probed {
        Ok(()) => KERNEL.ok(object, "works"),
        Err(problem) => KERNEL.problem(object, problem, hint),
    };
    let netns = one("network namespaces", &kernel.netns, "run as root; the kernel needs CONFIG_NET_NS");
    if kernel.netns.is_err() {
        return vec![netns];
    }
    let mut findings = vec![netns, one("veth", &kernel.veth, "`modprobe veth`, or a kernel with CONFIG_VETH")];
    if let Some(plane) = &kernel.plane {
        let nft = "install nftables; the kernel needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET";
        findings.push(one("nftables (local data plane)", &plane.nftables, nft));
        let bridge = "`modprobe bridge`, or a kernel with CONFIG_BRIDGE";
        findings.push(one("bridge (local data plane)", &plane.bridge, bridge));
    }
    findings
}

/// The effects of `overlapping` on a node with a kubelet, and what it does not affect.
pub(super) fn addressing(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    let Ok((_, config)) = &seen.config else { return Vec::new() };
    if config.cluster.addressing != Addressing::Overlapping {
        return Vec::new();
    }
    if !seen.has_kubelet {
        return vec![
            ADDRESSING.ok("overlapping", "several tenants may use one address; no kubelet is here that would mind"),
        ];
    }
    let found = "several tenants may use one address, and a kubelet works here: http, tcp and gRPC probes, Services and \
                 hostPort do not work";
    let hint = "use exec probes; or a new cluster with `unique` (docs/operations.md, \"Overlapping addresses and Kubernetes\")";
    vec![ADDRESSING.warn("overlapping", found, hint)]
}

/// `, where containerd looks`.
fn by(readers: &str) -> String {
    if readers.is_empty() { String::new() } else { format!(", where {readers} looks") }
}

pub(super) fn plugins(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    seen.plugins.iter().flat_map(plugin).collect()
}

fn plugin(plugin: &PluginBinary) -> Vec<DoctorFinding> {
    let own = env!("CARGO_PKG_VERSION");
    let install = "atollctl install (docs/operations.md)";
    let places: Vec<_> = plugin.directories.iter().map(|path| path.display().to_string()).collect();
    let (places, by) = (places.join(", "), by(&plugin.readers));
    let mut findings = vec![match &plugin.found {
        None => {
            let elsewhere = plugin.elsewhere.as_ref();
            let elsewhere = elsewhere.map_or_else(String::new, |path| format!("; {} is not read", path.display()));
            BINARY.fail(PLUGIN, format!("there is none in {places}{by}{elsewhere}"), format!("{install}, or --bin-dir"))
        }
        Some((path, Ok(version))) if version == own => BINARY.ok(path.display(), format!("version {version}{by}")),
        Some((path, Ok(version))) => BINARY.warn(
            path.display(),
            format!("version {version}, while this atollctl is {own}"),
            format!("install both from one release: {install}"),
        ),
        Some((path, Err(problem))) => BINARY.problem(path.display(), problem, install),
    }];
    findings.extend(plugin.missing.iter().map(|kind| {
        let hint =
            "install it there (Debian: containernetworking-plugins), or take it out of the network configuration";
        BINARY.fail(kind, format!("a network names it, and there is none in {places}{by}"), hint)
    }));
    findings
}

pub(super) fn conflists(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    seen.conflists.iter().flat_map(conflist).collect()
}

fn conflist(conflists: &Conflists) -> Vec<DoctorFinding> {
    let directory = conflists.directory.display();
    let none = |found: String| {
        let hint = "`atollctl install` puts it there, last of all; until then the runtime starts no pod with Atoll";
        let readers = &conflists.readers;
        let by = if readers.is_empty() { String::new() } else { format!("; {readers} looks there") };
        vec![CONFLIST.warn(directory.to_string(), format!("{found}{by}"), hint)]
    };
    let files = match &conflists.files {
        Ok(files) => files,
        Err(problem) => return none(problem.text.clone()),
    };
    let Some((ours, content)) = conflists.ours() else {
        let mut findings = none(format!("no network configuration in it has a plugin of type \"{PLUGIN}\""));
        findings.extend(files.iter().filter_map(unusable));
        return findings;
    };
    let mut findings = Vec::new();
    if let Some(first) = files.first().filter(|first| first.path != ours.path) {
        let first_path = first.path.display();
        let found = match &first.content {
            Ok(_) => format!("the runtime takes {first_path} instead, which comes first by name"),
            Err(problem) => format!("{first_path} comes first by name and cannot be used: {}", problem.text),
        };
        let hint = format!("remove {first_path}, or give Atoll's file a name that comes before it");
        findings.push(CONFLIST.fail(ours.path.display(), found, hint));
    }
    findings.extend(content_of(ours, content));
    let is_another = |file: &&Conflist| {
        let names_us = |content: &ConfigurationContent| content.plugins.iter().any(|plugin| plugin == PLUGIN);
        file.path != ours.path && file.content.as_ref().is_ok_and(names_us)
    };
    findings.extend(files.iter().filter(is_another).map(|file| {
        let found =
            format!("it has Atoll's plugin too, and {} comes first by name: it does nothing", ours.path.display());
        let hint = "remove it, unless a multiplexer (Multus) names it; `--config FILE` checks it";
        CONFLIST.warn(file.path.display(), found, hint)
    }));
    findings
}

/// An unreadable file that may be ours.
fn unusable(file: &Conflist) -> Option<DoctorFinding> {
    let problem = file.content.as_ref().err()?;
    Some(CONFLIST.problem(
        file.path.display(),
        problem,
        "correct it, or remove it: some runtimes load nothing beside it",
    ))
}

pub(super) fn runtimes(seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    seen.runtimes.iter().flat_map(|runtime| one_runtime(runtime, seen)).collect()
}

fn one_runtime(runtime: &Runtime, seen: &DoctorEvidence) -> Vec<DoctorFinding> {
    let places: Vec<_> = runtime.places.bin.iter().map(|path| path.display().to_string()).collect();
    let directories = format!(
        "plugins from {}, configurations from {} (according to {})",
        places.join(", "),
        runtime.places.conf.display(),
        runtime.places.source
    );
    let mut findings: Vec<_> = runtime
        .problems
        .iter()
        .map(|problem| {
            let hint = "correct the file, and restart the runtime; until then its defaults are assumed here";
            RUNTIME.warn(&runtime.name, format!("its configuration cannot be read: {problem}"), hint)
        })
        .collect();
    findings.push(match &runtime.status {
        Err(NoAnswer::NoCri) => RUNTIME.ok(&runtime.name, "it serves no CRI, so it starts no pods of Kubernetes"),
        Err(why) => {
            let found = format!("it does not answer at {}: {why}; {directories}", runtime.socket.display());
            RUNTIME.warn(
                &runtime.name,
                found,
                "start it (`systemctl status`), or name its socket with --runtime-endpoint",
            )
        }
        Ok(status) => network(runtime, status, seen, &directories),
    });
    findings
}

/// Whether a runtime has loaded our network configuration.
fn network(runtime: &Runtime, status: &Status, seen: &DoctorEvidence, directories: &str) -> DoctorFinding {
    let renew = "`atollctl install` writes the configuration anew, which a runtime notices; then restart the runtime";
    let ours = seen.conflists.iter().filter_map(Conflists::ours);
    let ours = ours.into_iter().find(|(file, _)| file.path.parent() == Some(runtime.places.conf.as_path()));
    let fail = |found: String| RUNTIME.fail(&runtime.name, format!("{found}; {directories}"), renew);
    if let Err(why) = &status.network {
        return fail(format!("its network is not ready: {why}"));
    }
    let Some((file, content)) = ours else {
        return RUNTIME.ok(&runtime.name, format!("its network is ready; {directories}"));
    };
    let path = file.path.display();
    match status.load_state(&content.document) {
        LoadState::Current => RUNTIME.ok(&runtime.name, format!("its network is ready, and is {path}; {directories}")),
        LoadState::Unknown => RUNTIME.ok(&runtime.name, format!("its network is ready; {directories}")),
        LoadState::Older => fail(format!("it still has an older text of {path}")),
        LoadState::Nothing => fail(format!("it has loaded no network, although {path} is there")),
        LoadState::Others(names) => fail(format!("it has loaded the network {} instead of {path}", names.join(", "))),
    }
}

fn content_of(file: &Conflist, content: &ConfigurationContent) -> Vec<DoctorFinding> {
    let path = file.path.display();
    let mut findings = Vec::new();
    if let Some(refused) = &content.refused {
        findings.push(CONFLIST.fail(
            path.to_string(),
            refused.clone(),
            "correct it; docs/configuration.md has every key",
        ));
    }
    for (capability, remedy) in &content.unserved {
        let found = format!("Atoll's entry declares the capability {capability}: an ADD that asks for it is refused");
        findings.push(CONFLIST.warn(path.to_string(), found, *remedy));
    }
    if content.name.as_deref().is_none_or(str::is_empty) {
        findings.push(CONFLIST.fail(
            path.to_string(),
            "it has no name",
            "give the list a `name`: it names the network",
        ));
    }
    if !content.is_list {
        let hint = "make it a list: {\"cniVersion\", \"name\", \"plugins\": [...]}, in a file that ends with .conflist";
        findings.push(CONFLIST.warn(
            path.to_string(),
            "it is a single configuration, which newer runtimes ignore",
            hint,
        ));
    }
    if content.plugins.first().is_some_and(|first| first != PLUGIN) {
        let found =
            format!("{} comes before {PLUGIN} in its chain", content.plugins.first().map_or("", String::as_str));
        let hint = "put atoll first: it makes the interface, portmap, bandwidth, tuning and firewall go behind it";
        findings.push(CONFLIST.fail(path.to_string(), found, hint));
    }
    let spoken = Version::ALL.map(Version::as_str);
    match content.versions.as_slice() {
        [] => findings.push(CONFLIST.warn(
            path.to_string(),
            "it has no cniVersion, which counts as 0.1.0",
            "set \"cniVersion\": \"1.0.0\"",
        )),
        versions if versions.iter().any(|version| spoken.contains(&version.as_str())) => {}
        versions => findings.push(CONFLIST.fail(
            path.to_string(),
            format!("cniVersion {} is not supported by the plugin", versions.join(", ")),
            format!("choose one of {}; 1.0.0 suits every runtime of today", spoken.join(", ")),
        )),
    }
    if findings.is_empty() {
        let found =
            format!("first by name, version {}, chain {}", content.versions.join(", "), content.plugins.join(" -> "));
        findings.push(CONFLIST.ok(path.to_string(), found));
    }
    findings
}
