//! cnitool, the reference runtime of CNI: libcni with its cache of results, every verb.
//!
//! Debian has no such program; `.ci/cnitool` builds it, and `./run-tests --long` runs this with it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::netns::{LabNetns, output};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::reach::ping;
use serde_json::{Value, json};

use super::networks::{self, Networks};

/// cnitool on a node, with a private cache.
struct Cnitool<'a> {
    node: &'a LabNode,
    networks: Networks,
    program: PathBuf,
    cache: PathBuf,
}

impl<'a> Cnitool<'a> {
    fn new(node: &'a LabNode) -> Result<Self> {
        let program =
            std::env::var_os("ATOLL_CNITOOL").context("name the program in ATOLL_CNITOOL: see .ci/cnitool")?;
        let mut networks = Networks::new(node.scratch(), &programs::path("atoll")?)?;
        // It passes no Kubernetes namespace.
        let plugin = networks::plugin(node, json!({ "tenant": { "default": "laptop" } }))?;
        networks.add("plain", std::slice::from_ref(&plugin))?;
        networks.add("chained", &[plugin, json!({ "type": "tuning", "mac": "02:00:5e:10:00:09" })])?;
        Ok(Self { node, networks, program: program.into(), cache: node.scratch().dir("cni-cache")? })
    }

    /// Runs one verb. The path of the cache is fixed in libcni, so another directory is mounted there; only this
    /// process and the plugins see the mount.
    fn run(&self, verb: &str, network: &str, pod: &LabNetns) -> Result<String> {
        let mut command = self.node.netns().command("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            "mkdir -p /var/lib/cni && mount --bind \"$0\" /var/lib/cni && exec \"$@\"",
        ]);
        command.arg(&self.cache).arg(&self.program).arg(verb).arg(network).arg(pod.path());
        command.env("CNI_PATH", &self.networks.bin).env("NETCONFPATH", &self.networks.conf);
        output(&mut command).with_context(|| format!("cnitool {verb} {network}"))
    }

    fn cached(&self) -> Result<usize> {
        let results = self.cache.join("results");
        if !results.exists() {
            return Ok(0);
        }
        Ok(fs::read_dir(results)?.count())
    }
}

#[test]
#[ignore = "needs cnitool: .ci/cnitool, ATOLL_CNITOOL"]
fn cnitool_drives_every_verb() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cnitool = Cnitool::new(&node)?;
    let (one, two) = (LabNetns::new()?, LabNetns::new()?);
    let run = |verb: &str, pod: &LabNetns| cnitool.run(verb, "plain", pod);
    run("status", &one)?;

    let result: Value = serde_json::from_str(&run("add", &one)?)?;
    assert_eq!(result["cniVersion"], "1.1.0", "the highest that both know");
    run("add", &two)?;
    assert_eq!(cnitool.cached()?, 2, "what libcni remembers");
    let gateway = result["ips"][0]["gateway"].as_str().with_context(|| format!("a gateway: {result}"))?;
    ensure!(ping(&one, gateway.parse::<std::net::IpAddr>()?)?, "the gateway answers");

    // With the contents of libcni's cache.
    run("check", &one)?;
    one.run("ip", &["link", "set", "eth0", "down"])?;
    let down = run("check", &one).expect_err("the interface is down");
    ensure!(format!("{down:#}").contains("eth0"), "the error names it: {down:#}");

    run("del", &one)?;
    run("del", &one).context("again")?;
    assert_eq!(LabNode::links(&one)?, [""; 0], "no interface");
    assert_eq!(cnitool.cached()?, 1);

    // It deletes everything in its cache, then calls GC without a list of valid attachments.
    run("add", &one).context("after a DEL")?;
    run("gc", &one)?;
    assert_eq!(cnitool.cached()?, 0);
    for pod in [&one, &two] {
        assert_eq!(LabNode::links(pod)?, [""; 0], "no interface");
    }
    node.finish()
}

/// A plugin after Atoll may change the interface; it changes the result that CHECK gets as well.
#[test]
#[ignore = "needs cnitool: .ci/cnitool, ATOLL_CNITOOL"]
fn cnitool_checks_what_a_chained_plugin_changed() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cnitool = Cnitool::new(&node)?;
    let pod = LabNetns::new()?;
    let result: Value = serde_json::from_str(&cnitool.run("add", "chained", &pod)?)?;
    assert_eq!(result["cniVersion"], "1.0.0", "the highest that all of them know");
    ensure!(result["interfaces"].to_string().contains("02:00:5e:10:00:09"), "tuning changed the MAC: {result}");
    cnitool.run("check", "chained", &pod)?;
    cnitool.run("del", "chained", &pod)?;
    assert_eq!(LabNode::links(&pod)?, [""; 0], "no interface");
    node.finish()
}
