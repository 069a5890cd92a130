//! First in a chain with the standard plugins of Debian behind it: `portmap`, `bandwidth`, `tuning` and `firewall` as they
//! are, called as libcni calls a list.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, CniAnswer};
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use serde_json::{Value, json};

/// Directory of Debian's `containernetworking-plugins`.
const STANDARD: &str = "/usr/lib/cni";

/// A list of plugins, as libcni runs it: libcni/api.go, `AddNetworkList` and related functions.
struct Chain<'a> {
    atoll: Cni<'a>,
    node: &'a LabNode,
    version: &'static str,
    behind: Vec<Value>,
}

impl Chain<'_> {
    fn plugins(&self) -> Vec<(PathBuf, Value)> {
        let standard = self.behind.iter().map(|config| {
            let kind = config["type"].as_str().expect("a type");
            (PathBuf::from(STANDARD).join(kind), config.clone())
        });
        let atoll = atoll_testkit::lab::programs::path("atoll").expect("it is built");
        std::iter::once((atoll, self.atoll.config.clone())).chain(standard).collect()
    }

    /// Runs one plugin with what libcni puts into its configuration.
    fn run(
        &self,
        command: &str,
        pod: &LabPod,
        plugin: &(PathBuf, Value),
        previous: Option<&Value>,
    ) -> Result<CniAnswer> {
        let (program, config) = plugin;
        let mut config = config.clone();
        config["cniVersion"] = self.version.into();
        config["name"] = self.atoll.config["name"].clone();
        let asked = json!({
            "portMappings": [{ "HostPort": 18_080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" }],
            "bandwidth": { "IngressRate": 10_000_000, "IngressBurst": 10_000_000, "EgressRate": 0, "EgressBurst": 0 },
        });
        for (key, value) in asked.as_object().context("an object")? {
            if config["capabilities"][key] == true {
                config["runtimeConfig"][key] = value.clone();
            }
        }
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let cni = Cni::new(self.node.netns(), program.clone(), config);
        cni.call(command, pod).run()
    }

    /// The result of the last plugin.
    fn add(&self, pod: &LabPod) -> Result<Value> {
        let mut previous: Option<Value> = None;
        for plugin in self.plugins() {
            let answer = self.run("ADD", pod, &plugin, previous.as_ref())?;
            let result = answer.result().with_context(|| format!("ADD of {}", plugin.0.display()))?;
            ensure!(answer.stderr.is_empty(), "{}: {}", plugin.0.display(), answer.stderr);
            if let Some(before) = &previous {
                ensure!(result["ips"] == before["ips"] && result["routes"] == before["routes"], "{before}\n{result}");
            }
            previous = Some(result);
        }
        previous.context("a result")
    }

    fn check(&self, pod: &LabPod, result: &Value) -> Result<()> {
        // Debian's portmap (1.1.1) looks for the IPv6 chains of a pod without IPv6: its CHECK fails behind any plugin.
        for plugin in self.plugins().into_iter().filter(|(program, _)| !program.ends_with("portmap")) {
            let answer = self.run("CHECK", pod, &plugin, Some(result))?;
            answer.done().with_context(|| format!("CHECK of {}", plugin.0.display()))?;
        }
        Ok(())
    }

    fn del(&self, pod: &LabPod, result: &Value) -> Result<()> {
        for plugin in self.plugins().iter().rev() {
            let answer = self.run("DEL", pod, plugin, Some(result))?;
            answer.done().with_context(|| format!("DEL of {}", plugin.0.display()))?;
        }
        Ok(())
    }
}

fn mac(pod: &LabPod) -> Result<String> {
    let links: Vec<Value> = serde_json::from_str(&pod.netns.run("ip", &["-json", "link", "show", "dev", "eth0"])?)?;
    Ok(links.first().and_then(|link| link["address"].as_str()).context("a MAC")?.to_owned())
}

/// `bandwidth` needs the host interface in the node's own namespace, as with a cluster's agent: no local data plane.
#[test]
fn the_standard_plugins_work_behind_us() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    // Debian's plugins know no version after 1.0.0, and its firewall none before 0.4.0.
    for version in ["0.4.0", "1.0.0"] {
        let chain = Chain {
            atoll: node.cni(version)?,
            node: &node,
            version,
            behind: vec![
                json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }),
                json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
                json!({ "type": "tuning", "mac": "02:aa:bb:cc:dd:01", "sysctl": { "net.ipv4.conf.eth0.arp_filter": "1" } }),
                json!({ "type": "firewall", "backend": "iptables" }),
            ],
        };
        let pod = LabPod::new("red", &format!("chained-{version}"))?;
        let result = chain.add(&pod).with_context(|| version)?;
        assert_eq!(mac(&pod)?, "02:aa:bb:cc:dd:01", "tuning gave another MAC");
        let eth0 = result["interfaces"].as_array().context("a list")?.iter().find(|i| i["name"] == "eth0");
        assert_eq!(eth0.context("eth0")?["mac"], "02:aa:bb:cc:dd:01", "and says so");
        let address = result["ips"][0]["address"].as_str().context("an address")?;
        let address = address.split('/').next().unwrap_or_default().to_owned();
        let rules = node.netns().run("iptables-save", &[])?;
        assert!(rules.contains(&format!("{address}:80")) && rules.contains("CNI-FORWARD"), "{rules}");
        {
            chain.check(&pod, &result).with_context(|| version)?;
            // The result contains the settings of tuning and no others.
            pod.netns.run("ip", &["link", "set", "eth0", "address", "02:aa:bb:cc:dd:02"])?;
            let atoll = &chain.plugins()[0];
            assert_eq!(chain.run("CHECK", &pod, atoll, Some(&result))?.error_code()?, 104);
            pod.netns.run("ip", &["link", "set", "eth0", "address", "02:aa:bb:cc:dd:01"])?;
        }
        // An ADD once more finds its own interface although the MAC is not the one it made.
        let again = chain.run("ADD", &pod, &chain.plugins()[0], None)?.result()?;
        assert_eq!(again["ips"], result["ips"]);
        chain.del(&pod, &result).with_context(|| version)?;
        ensure!(
            !LabNode::links(&pod.netns)?.iter().any(|name| name == "eth0"),
            "{version}: the interface is still there"
        );
        leftovers::assert_none(&node)?;
        let rules = node.netns().run("iptables-save", &[])?;
        assert!(!rules.contains(&address), "{version}: {rules}");
    }
    node.finish()
}

/// A plugin before Atoll has created the interface: a second one of that name is refused.
#[test]
fn behind_another_plugin_we_refuse() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let pod = LabPod::new("red", "second")?;
    let mut config = cni.config.clone();
    config["prevResult"] = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.0.0.5/24" }] });
    let answer = cni.call("ADD", &pod).reading(config.to_string()).run()?;
    assert_eq!(answer.error_code()?, 2, "{}", answer.stdout);
    assert!(answer.stdout.contains("prevResult"), "{}", answer.stdout);
    node.finish()
}
