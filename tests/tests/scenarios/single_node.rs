//! A single node without MidoNet, as described in `docs/operations.md`: the unit connects the pods to the external
//! network, and they reach only the listed ports of the machine.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::json;

const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const MACHINE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Runs the unit's lines for `what` on the node, as systemd would; lines with a dash may fail.
fn unit(node: &LabNode, what: &str) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let text = std::fs::read_to_string(page.join("deploy/systemd/atoll-outside.service"))?;
    let values = |key| text.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='));
    let settings = values("Environment").map(|it| format!("export {it}\n")).collect::<Vec<_>>().concat();
    let lines: Vec<_> = values(what).collect();
    ensure!(!lines.is_empty(), "the unit has no {what}");
    for line in lines {
        let command = |line: &str| format!("{settings}{line}");
        match line.strip_prefix('-') {
            Some(line) => drop(node.netns().run("sh", &["-c", &command(line)])),
            None => drop(node.netns().run("sh", &["-c", &command(line)])?),
        }
    }
    Ok(())
}

#[test]
fn the_host_is_the_uplink_and_protected_from_its_pods() -> Result<()> {
    let mut node = LabNode::start(json!({}))?;
    // Before the first start of the controller; the unit is idempotent.
    node.stop_controller()?;
    let (program, run_dir) = (programs::path("mock-controller")?, node.run_dir());
    let purge = ["dataplane", "purge", "--run-dir", run_dir.to_str().context("a path")?];
    node.netns().run(program.to_str().context("a path")?, &purge)?;
    unit(&node, "ExecStart")?;
    unit(&node, "ExecStart")?;
    node.start_controller()?;

    let internet = LabNetns::new()?;
    let peer = internet.path().display().to_string();
    node.netns().run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", &peer])?;
    for (netns, device, address) in [(node.netns(), "lan0", MACHINE), (&internet, "eth0", INTERNET)] {
        netns.run("ip", &["address", "add", &format!("{address}/24"), "dev", device])?;
        netns.run("ip", &["link", "set", device, "up"])?;
    }
    // With a route to the tenants, the external network still opens no flow to a pod.
    internet.run("ip", &["route", "add", "default", "via", &MACHINE.to_string()])?;
    let _servers = [TcpServer::start(&internet, "internet")?, TcpServer::start(node.netns(), "machine")?];

    let init = ["init", "--dry-run"];
    ensure!(
        node.atollctl(&init).is_err_and(|error| error.to_string().contains("--ignore-routes")),
        "the route is seen"
    );
    node.atollctl(&[init.as_slice(), &["--ignore-routes"]].concat())?;
    let pods = ["red", "blue"].map(|tenant| LabPod::new(tenant, tenant)).into_iter().collect::<Result<Vec<_>>>()?;
    let cni = node.cni("1.0.0")?;
    let added = pods.iter().map(|pod| cni.add(pod)).collect::<Result<Vec<_>>>()?;
    let _own = pods.iter().map(|pod| TcpServer::start(&pod.netns, &pod.name)).collect::<Result<Vec<_>>>()?;
    let reaches = || -> Result<()> {
        for pod in &pods {
            let banner = ask(&pod.netns, INTERNET)?
                .with_context(|| format!("{} does not reach the external network", pod.name))?;
            ensure!((banner.name.as_str(), banner.seen_as) == ("internet", MACHINE), "{}: {banner:?}", pod.name);
            ensure!(ping(&pod.netns, MACHINE)?, "{} may ping the machine", pod.name);
        }
        Ok(())
    };
    reaches()?;
    node.kill_controller()?;
    node.start_controller()?;
    unit(&node, "ExecStart")?;
    reaches()?;
    // All checks that expect no answer run concurrently.
    let own = pods.iter().flat_map(|pod| [(&pod.netns, MACHINE), (&pod.netns, Ipv4Addr::new(203, 0, 113, 1))]);
    let asked: Vec<_> = own.chain(added.iter().map(|at| (&internet, at.address.ip()))).collect();
    std::thread::scope(|scope| {
        let asking: Vec<_> = asked.iter().map(|(from, to)| (to, scope.spawn(move || ask(from, *to)))).collect();
        asking.into_iter().try_for_each(|(to, asking)| {
            let answer = asking.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
            ensure!(answer.is_none(), "{to} is answered by {answer:?}");
            Ok(())
        })
    })?;
    pods.iter().try_for_each(|pod| node.cni("1.0.0")?.del(pod).map(drop))?;
    unit(&node, "ExecStop")?;
    let left = node.netns().run("sh", &["-c", "nft list tables; ip -o link show"])?;
    ensure!(!left.contains("atoll_outside") && !left.contains("atoll-out"), "{left}");
    node.finish()
}
