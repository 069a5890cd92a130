//! This machine: configuration, names, secrets, certificates, kernel, plugin, network configurations.

use atoll_model::cni::version::Version;

use super::super::seen::{Conflist, Content, Seen, Site};
use super::{Check, Finding, time};
use crate::settings::PLUGIN;

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

/// A certificate that ends within this time is told, seconds.
const SOON: u64 = 21 * 86_400;

pub(super) fn configuration(seen: &Seen) -> Vec<Finding> {
    vec![match &seen.config {
        Ok((file, _)) => CONFIG.ok(file.display(), "it is valid"),
        Err(problem) => {
            CONFIG.problem("configuration", problem, "correct the file; docs/configuration.md has every key")
        }
    }]
}

pub(super) fn machine(site: &Site) -> Vec<Finding> {
    vec![match &site.machine {
        Ok(node) => MACHINE.ok(&node.name, format!("host id {}", node.host_id)),
        Err(problem) => MACHINE.problem("this machine", problem, "set `nodeName` and `hostId` in the configuration"),
    }]
}

pub(super) fn secrets(site: &Site) -> Vec<Finding> {
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

/// What group and others may do.
fn others(mode: u32) -> u32 {
    mode & 0o077
}

pub(super) fn certificates(site: &Site, now: u64) -> Vec<Finding> {
    let judge = |file: &super::super::seen::CertificateFile| {
        let object = format!("{} {}", file.setting, file.path.display());
        let renew = "renew it; the plugin reads the file anew at every call";
        match file.validity {
            Ok((begin, _)) if now < begin => CERTIFICATE.fail(
                object,
                format!("it is not valid before {} from now", time(begin - now)),
                "look at this machine's clock (`timedatectl`), then at the certificate",
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

pub(super) fn kernel(seen: &Seen) -> Vec<Finding> {
    let kernel = &seen.kernel;
    let one = |object: &str, look: &super::super::seen::Look<()>, hint: &str| match look {
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

pub(super) fn plugin(seen: &Seen) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let install = "atollctl install (docs/operations.md)";
    vec![match &seen.plugin.found {
        None => {
            let places: Vec<_> = seen.plugin.directories.iter().map(|path| path.display().to_string()).collect();
            BINARY.fail(PLUGIN, format!("there is none in {}", places.join(", ")), format!("{install}, or --bin-dir"))
        }
        Some((path, Ok(version))) if version == own => BINARY.ok(path.display(), format!("version {version}")),
        Some((path, Ok(version))) => BINARY.warn(
            path.display(),
            format!("version {version}, while this atollctl is {own}"),
            format!("install both from one release: {install}"),
        ),
        Some((path, Err(problem))) => BINARY.problem(path.display(), problem, install),
    }]
}

pub(super) fn conflists(seen: &Seen) -> Vec<Finding> {
    let directory = seen.conflists.directory.display();
    let none = |found: String| {
        let hint = "`atollctl install` puts it there, last of all; until then the runtime starts no pod with Atoll";
        vec![CONFLIST.warn(directory.to_string(), found, hint)]
    };
    let files = match &seen.conflists.files {
        Ok(files) => files,
        Err(problem) => return none(problem.text.clone()),
    };
    let is_ours = |file: &&Conflist| {
        file.content.as_ref().is_ok_and(|content| content.plugins.iter().any(|plugin| plugin == PLUGIN))
    };
    let Some(ours) = files.iter().find(is_ours) else {
        return none(format!("no network configuration in it has a plugin of type \"{PLUGIN}\""));
    };
    let mut findings = Vec::new();
    if let Some(first) = files.first().filter(|first| first.path != ours.path) {
        let found = format!("the runtime takes {} instead, which comes first by name", first.path.display());
        let hint = format!("remove {}, or give Atoll's file a name that comes before it", first.path.display());
        findings.push(CONFLIST.fail(ours.path.display(), found, hint));
    }
    if let Ok(content) = &ours.content {
        findings.extend(content_of(ours, content));
    }
    findings
}

fn content_of(file: &Conflist, content: &Content) -> Vec<Finding> {
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
            "say \"cniVersion\": \"1.0.0\"",
        )),
        versions if versions.iter().any(|version| spoken.contains(&version.as_str())) => {}
        versions => findings.push(CONFLIST.fail(
            path.to_string(),
            format!("cniVersion {} is none that the plugin speaks", versions.join(", ")),
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
