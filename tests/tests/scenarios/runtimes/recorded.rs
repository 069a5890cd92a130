//! What runtimes send, compared with the files in `cni-plugin/tests/recorded/`, which other tests replay: a runtime
//! that sends something else is detected here.
//!
//! With `ATOLL_RECORD=1` the files are written instead. A version without files is compared with the newest earlier
//! one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use serde_json::{Value, json};

use super::cri::{Dns, Port};
use super::networks::Networks;
use super::recorder::{Recorded, Recorder};
use super::{containerd, podman};

/// The directory of the recordings.
fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cni-plugin/tests/recorded")
}

/// The recordings for a version: those of the newest version that is not newer.
fn recordings(runtime: &str, version: &str) -> Result<PathBuf> {
    let number = |version: &str| -> Vec<u32> { version.split('.').filter_map(|part| part.parse().ok()).collect() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(home()).context("cni-plugin/tests/recorded")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(recorded) = name.strip_prefix(&format!("{runtime}-")) {
            found.push((number(recorded), entry.path()));
        }
    }
    found.retain(|(recorded, _)| *recorded <= number(version));
    found
        .into_iter()
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("no recording of {runtime} {version} or older"))
}

/// Writes the recorded calls as `<what>-<number>-<verb>.json`, or compares them.
fn keep(runtime: &str, version: &str, what: &str, calls: &[Recorded]) -> Result<()> {
    let named =
        calls.iter().enumerate().map(|(at, call)| (format!("{what}-{}-{}.json", at + 1, call.verb), &call.text));
    if std::env::var_os("ATOLL_RECORD").is_some() {
        let directory = home().join(format!("{runtime}-{version}"));
        fs::create_dir_all(&directory)?;
        for (name, text) in named {
            fs::write(directory.join(name), text)?;
        }
        return Ok(());
    }
    let directory = recordings(runtime, version)?;
    let mut expected: Vec<String> =
        fs::read_dir(&directory)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    expected.retain(|name| name.rsplitn(3, '-').nth(2) == Some(what));
    expected.sort();
    let how = "if that is right, record it: see cni-plugin/tests/recorded/README.md";
    let sent: Vec<&str> = calls.iter().map(|call| call.verb.as_str()).collect();
    ensure!(expected.len() == calls.len(), "{what}: {runtime} {version} sent {sent:?}, not {expected:?}; {how}");
    for (name, text) in named {
        let file = directory.join(&name);
        let recorded = fs::read_to_string(&file).with_context(|| format!("{}; {how}", file.display()))?;
        ensure!(recorded == *text, "{name}: {runtime} {version} sends\n{text}\nand not\n{recorded}\n{how}");
    }
    Ok(())
}

/// A user's configuration, with every capability that the plugin may declare.
fn plugin() -> Value {
    json!({
        "type": "atoll", "nodeName": "node-1", "hostId": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "etcd": { "endpoints": ["http://127.0.0.1:2379"], "prefix": "/atoll/test" },
        "controller": { "endpoints": ["http://127.0.0.1:8181/midonet-api"] },
        "tenant": { "default": "laptop" },
        "capabilities": { "ips": true, "mac": true, "dns": true, "aliases": true, "portMappings": true, "bandwidth": true,
            "io.kubernetes.cri.pod-annotations": true },
    })
}

fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true } })
}

#[test]
fn containerd_sends_what_was_recorded() -> Result<()> {
    let (scratch, netns) = (Scratch::new(&unique_name())?, LabNetns::new()?);
    let recorder = Recorder::new(&scratch)?;
    let mut networks = Networks::new(&scratch, &recorder.stand_in()?)?;
    networks.add("atoll", &[plugin()])?;
    let containerd = containerd::Containerd::start_in(&netns, &scratch, &networks)?;
    let client = containerd.client()?;
    let version = containerd::version()?;
    let keep = |what: &str| keep("containerd", &version, what, &recorder.take()?);
    recorder.take()?;

    // Called for every Status() of the kubelet, if the runtime supports it.
    let ready = client.condition("NetworkReady")?;
    ensure!(ready.good, "the network is ready: {ready:?}");
    keep("status")?;

    let mut pod = containerd.pod("red", "one");
    let id = client.create(&pod)?;
    client.stop(&id)?;
    client.remove(&id)?;
    keep("plain")?;

    pod = containerd.pod("red", "two");
    pod.hostname = "two".to_owned();
    pod.dns = Some(Dns {
        servers: vec!["10.96.0.10".to_owned()],
        searches: vec!["red.svc.cluster.local".to_owned(), "cluster.local".to_owned()],
        options: vec!["ndots:5".to_owned()],
    });
    pod.ports = vec![Port { container: 80, host: 18080 }, Port { container: 443, host: 0 }];
    pod.annotations = [
        ("atoll.dev/subnet", "1"),
        ("atoll.dev/ips", "10.128.0.9"),
        ("atoll.dev/mac", "02:00:5E:10:00:09"),
        ("kubernetes.io/ingress-bandwidth", "10M"),
        ("kubernetes.io/egress-bandwidth", "20M"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let id = client.create(&pod)?;
    client.stop(&id)?;
    client.remove(&id)?;
    keep("requests")?;

    recorder.fail(true)?;
    let refused = client.create(&containerd.pod("red", "three")).expect_err("every ADD fails");
    ensure!(format!("{refused:#}").contains("recorded failure"), "{refused:#}");
    recorder.fail(false)?;
    keep("failed")?;

    containerd.finish()?;
    scratch.passed();
    Ok(())
}

#[test]
fn podman_sends_what_was_recorded() -> Result<()> {
    let (scratch, netns) = (Scratch::new(&unique_name())?, LabNetns::new()?);
    let recorder = Recorder::new(&scratch)?;
    let mut networks = Networks::new(&scratch, &recorder.stand_in()?)?;
    networks.add("one", &[plugin(), portmap()])?;
    networks.add("two", &[plugin()])?;
    let podman = podman::Podman::new_in(&netns, &scratch, &networks)?;
    let version = podman::version()?;
    let keep = |what: &str| keep("podman", &version, what, &recorder.take()?);

    podman.start("plain", &[])?;
    podman.remove(&["plain"])?;
    keep("plain")?;

    let network = "one:ip=10.128.0.9,mac=02:00:5E:10:00:09,alias=web";
    podman.start("requests", &["--network", network, "--publish", "18081:80"])?;
    podman.remove(&["requests"])?;
    keep("requests")?;

    podman.start("addresses", &["--network", "one:ip=10.128.0.9,ip=10.128.0.10"])?;
    podman.remove(&["addresses"])?;
    keep("addresses")?;

    // Without names podman assigns the interface names in any order.
    let named = ["--network", "one:interface_name=eth0", "--network", "two:interface_name=eth1"];
    podman.start("networks", &named)?;
    podman.remove(&["networks"])?;
    keep("networks")?;

    podman.start("again", &["--network", "two"])?;
    podman.run(&["network", "disconnect", "two", "again"])?;
    podman.run(&["network", "connect", "two", "again"])?;
    podman.remove(&["again"])?;
    keep("reconnect")?;

    recorder.fail(true)?;
    podman.start("failed", &[]).err().context("every ADD fails")?;
    podman.remove(&["failed"])?;
    recorder.fail(false)?;
    keep("failed")?;

    drop(podman);
    scratch.passed();
    Ok(())
}
