//! Address requests of pods from every source, verified with packets.

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, CniCall};
use atoll_testkit::lab::leftovers;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use ipnetwork::Ipv4Network;
use serde_json::{Value, json};

const MAC: &str = "02:00:5E:10:00:09";

/// The addresses of a result.
fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()?.split('/').next().map(str::to_owned)).collect()
}

/// A pod answers for all of its addresses and may send from them; packets from an address that it took itself are
/// dropped.
#[test]
fn a_pod_sends_from_all_its_addresses_and_no_other() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let neighbour = LabPod::new("red", "neighbour")?;
    let at = cni.add(&neighbour)?;
    let subnet = Ipv4Network::new(at.address.network(), at.address.prefix())?;
    let address = |n: u32| subnet.nth(n).context("the subnet is large enough");
    let requested = [address(30)?, address(31)?, address(32)?];
    let pod = LabPod::new("red", "requesting")?;
    let [first, second, third] = requested.map(|address| address.to_string());
    let args = format!("{};IP={first};MAC={MAC}", pod.args());
    let mut config = cni.config.clone();
    config["runtimeConfig"] = json!({ "ips": [format!("{second}/{}", subnet.prefix()), third, first] });
    let result = cni.call("ADD", &pod).with("CNI_ARGS", args.as_str()).reading(config.to_string()).run()?.result()?;
    ensure!(addresses(&result) == [first.clone(), second.clone(), third], "{result}");
    let eth0 = result["interfaces"].as_array().context("a list")?.iter().find(|i| i["name"] == "eth0");
    ensure!(eth0.context("eth0")?["mac"] == MAC.to_lowercase(), "in lower case: {result}");
    for address in requested {
        ensure!(ping(&neighbour.netns, address)?, "{address} does not answer");
        let source = address.to_string();
        let target = at.address.ip().to_string();
        pod.netns.run("ping", &["-n", "-c", "1", "-W", "2", "-I", &source, &target]).with_context(|| source)?;
    }
    let stolen = address(40)?.to_string();
    pod.netns.run("ip", &["address", "add", &format!("{stolen}/{}", subnet.prefix()), "dev", "eth0"])?;
    let target = at.address.ip().to_string();
    let spoken = pod.netns.run("ping", &["-n", "-c", "1", "-W", "1", "-I", &stolen, &target]);
    ensure!(spoken.is_err(), "it spoke with an address that it was not given");

    config["prevResult"] = result.clone();
    cni.call("CHECK", &pod).with("CNI_ARGS", args.as_str()).reading(config.to_string()).run()?.done()?;
    // A taken address: all requested addresses or none, and never a substitute.
    let other = LabPod::new("red", "other")?;
    let args = format!("{};IP={second}", other.args());
    let refused = cni.call("ADD", &other).with("CNI_ARGS", args).run()?;
    refused.error_code()?;
    ensure!(refused.stdout.contains(&second), "{}", refused.stdout);
    ensure!(LabNode::links(&other.netns)?.is_empty());

    cni.del(&pod)?;
    cni.del(&neighbour)?;
    node.finish()
}

/// A pod gets the address of a deleted pod. A neighbour that has cached the old MAC reaches the new pod immediately.
#[test]
fn a_neighbour_learns_who_has_an_address_now() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let neighbour = LabPod::new("red", "neighbour")?;
    cni.add(&neighbour)?;
    let first = LabPod::new("red", "first")?;
    let address = cni.add(&first)?.address.ip();
    ensure!(ping(&neighbour.netns, address)?, "the first owner");
    let remembered = |mac: &str| -> Result<bool> {
        Ok(neighbour.netns.run("ip", &["neigh", "show", &address.to_string()])?.contains(mac))
    };
    let mac_of = |pod: &LabPod| -> Result<String> {
        let link: Value = serde_json::from_str(&pod.netns.run("ip", &["-json", "link", "show", "eth0"])?)?;
        Ok(link[0]["address"].as_str().context("a MAC")?.to_owned())
    };
    ensure!(remembered(&mac_of(&first)?)?, "the neighbour knows the first owner");
    cni.del(&first)?;
    let second = LabPod::new("red", "second")?;
    let args = format!("{};IP={address}", second.args());
    cni.call("ADD", &second).with("CNI_ARGS", args).run()?.result()?;
    // The neighbour sent no ARP request: it received the announcement. A frame takes some time.
    let mac = mac_of(&second)?;
    for _ in 0..500 {
        if remembered(&mac)? {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    ensure!(remembered(&mac)?, "the neighbour still sends to the pod that went");
    ensure!(ping(&neighbour.netns, address)?, "the second owner");
    cni.del(&second)?;
    cni.del(&neighbour)?;
    node.finish()
}

/// A pod with several interfaces on one network, a neighbour in the same subnet, and the runtime's side.
struct Interfaces<'a> {
    cni: &'a Cni<'a>,
    neighbour: &'a LabPod,
    pod: LabPod,
}

impl<'a> Interfaces<'a> {
    fn new(cni: &'a Cni<'a>, neighbour: &'a LabPod) -> Result<Self> {
        Ok(Self { cni, neighbour, pod: LabPod::new("red", "both")? })
    }

    /// A call for one interface; each has a network configuration of its own.
    fn call(&self, verb: &str, interface: &str) -> CniCall<'_> {
        let mut config = self.cni.config.clone();
        config["name"] = format!("net-{interface}").into();
        self.cni.call(verb, &self.pod).with("CNI_IFNAME", interface).reading(config.to_string())
    }

    /// Adds the interfaces in this order and returns their addresses, all of which answer.
    fn add(&self, order: &[&str]) -> Result<Vec<String>> {
        let mut added = Vec::new();
        for interface in order {
            added.extend(addresses(&self.call("ADD", interface).run()?.result()?));
        }
        self.ensure_answers(&added)?;
        Ok(added)
    }

    fn delete(&self, interface: &str) -> Result<()> {
        self.call("DEL", interface).run()?.done().map(drop)
    }

    fn ensure_answers(&self, addresses: &[String]) -> Result<()> {
        addresses.iter().try_for_each(|address| {
            ensure!(ping(&self.neighbour.netns, address.parse::<std::net::IpAddr>()?)?, "{address} does not answer");
            Ok(())
        })
    }

    /// The policy rules of an interface are deleted with it, although its namespace remains.
    fn ensure_no_rules(&self) -> Result<()> {
        let rules = self.pod.netns.run("ip", &["rule", "show"])?;
        ensure!(rules.lines().count() == 3, "only local, main and default should exist: {rules}");
        Ok(())
    }
}

/// Two interfaces in one subnet, in both orders: the interface that receives an ARP request answers it. Each port
/// passes only its own addresses.
#[test]
fn two_interfaces_in_one_subnet_answer_for_themselves() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let neighbour = LabPod::new("red", "neighbour")?;
    cni.add(&neighbour)?;
    for order in [["eth0", "eth1"], ["eth1", "eth0"]] {
        let pod = Interfaces::new(&cni, &neighbour)?;
        let added = pod.add(&order).with_context(|| format!("{order:?}"))?;
        pod.delete("eth1")?;
        pod.ensure_no_rules()?;
        let eth0 = order.iter().position(|interface| *interface == "eth0").context("one of the two")?;
        pod.ensure_answers(&added[eth0..=eth0]).with_context(|| format!("{order:?}: after the DEL of eth1"))?;
        pod.delete("eth0")?;
    }
    cni.del(&neighbour)?;
    node.finish()
}

/// `net1` of another plugin or configuration and `eth1` have separate routing tables. Two names that would share a
/// table are refused with an explanation.
#[test]
fn equal_numbers_in_names_of_interfaces_share_nothing() -> Result<()> {
    let node = LabNode::start(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let neighbour = LabPod::new("red", "neighbour")?;
    cni.add(&neighbour)?;
    for order in [["eth1", "net1"], ["net1", "eth1"]] {
        let pod = Interfaces::new(&cni, &neighbour)?;
        let added = pod.add(&["eth0", order[0], order[1]]).with_context(|| format!("{order:?}"))?;
        let refused = pod.call("ADD", "eth65537").run()?;
        refused.error_code()?;
        let text = &refused.stdout;
        ensure!(text.contains("eth65537") && text.contains("eth1 of the same pod"), "{order:?}: {text}");
        // Deleting one interface does not affect the other.
        pod.delete("eth65537")?;
        pod.delete(order[1])?;
        pod.ensure_answers(&added[..2]).with_context(|| format!("{order:?}: after the DEL of {}", order[1]))?;
        pod.delete(order[0])?;
        pod.ensure_no_rules()?;
        pod.delete("eth0")?;
    }
    cni.del(&neighbour)?;
    node.finish()
}

/// One request in each source; a request that is never permitted is refused with its source.
#[test]
fn every_source_of_a_request_is_read() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let cni = node.cni("1.0.0")?;
    let first = LabPod::new("red", "first")?;
    let subnet = cni.add(&first)?.address;
    let requested = Ipv4Network::new(subnet.network(), subnet.prefix())?.nth(50).context("large enough")?.to_string();
    let annotated =
        |key: &str, value: &str| json!({ "runtimeConfig": { "io.kubernetes.cri.pod-annotations": { key: value } } });
    let whole = format!("{}/{}", subnet.network(), subnet.prefix());
    for (place, over, expected) in [
        ("args.cni.ips", json!({ "args": { "cni": { "ips": [requested] } } }), Ok(true)),
        ("runtimeConfig.ips", json!({ "runtimeConfig": { "IPs": [requested] } }), Ok(true)),
        ("annotation", annotated("atoll.dev/ips", &requested), Ok(true)),
        ("annotation of eth0", annotated("atoll.dev/ips.eth0", &requested), Ok(true)),
        ("annotation of eth1", annotated("atoll.dev/ips.eth1", &requested), Ok(false)),
        ("subnet by number", annotated("atoll.dev/subnet", "1"), Ok(false)),
        ("subnet by network", annotated("atoll.dev/subnet", &whole), Ok(false)),
        ("subnet of the network", json!({ "subnet": whole }), Ok(false)),
        ("no subnet", annotated("atoll.dev/subnet", "77"), Err("77")),
        ("another subnet", json!({ "subnet": "192.0.2.0/24" }), Err("192.0.2.0/24")),
        ("an address of no subnet", annotated("atoll.dev/ips", "192.0.2.7"), Err("192.0.2.7")),
        ("a malformed one", annotated("atoll.dev/mac", "02:00"), Err("annotation atoll.dev/mac")),
    ] {
        let pod = LabPod::new("red", "pod")?;
        let mut config = cni.config.clone();
        atoll_testkit::lab::node::merge(&mut config, &over);
        let answer = cni.call("ADD", &pod).reading(config.to_string()).run()?;
        match expected {
            Ok(is_met) => {
                let given = addresses(&answer.result().with_context(|| place)?);
                ensure!((given == [requested.clone()]) == is_met, "{place}: {given:?}");
            }
            Err(says) => {
                answer.error_code().with_context(|| place)?;
                ensure!(answer.stdout.contains(says), "{place}: {}", answer.stdout);
                ensure!(LabNode::links(&pod.netns)?.is_empty(), "{place}");
            }
        }
        cni.del(&pod)?;
    }
    cni.del(&first)?;
    leftovers::assert_none(&node)?;
    node.finish()
}
