//! A node reaches its own pods, and no others, whatever the overlap of tenants.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::Cni;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::{Banner, PORT, TcpServer, ask, ask_at, ping};
use atoll_testkit::lab::wait;
use serde_json::{Value, json};

use super::collect;

/// What every pod sees as the address of its node.
const SOURCE: Ipv4Addr = Ipv4Addr::new(169, 254, 128, 1);
/// The node's own address in the pool.
const NODE: Ipv4Addr = Ipv4Addr::new(169, 254, 128, 2);
/// The address of the first machine in the network of the databases.
const FIRST: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 11);
/// The port of the node that leads to a pod.
const HOST_PORT: u16 = 18_080;
/// Debian's plugin for it.
const PORTMAP: &str = "/usr/lib/cni/portmap";
/// How many ADDs are killed, at places in equal distances.
const KILLS: u64 = 10;
/// Limit for OVN to forward for a port that is new on a chassis.
const SOON: Duration = Duration::from_secs(30);

/// Asks the server of a pod from its node, as soon as OVN forwards for the node.
fn ask_pod(node: &OvnMachine, address: Ipv4Addr) -> Result<Banner> {
    let mut answer = None;
    wait::until("the node reaches its pod", SOON, || {
        answer = ask(&node.netns, address)?;
        ensure!(answer.is_some(), "nothing answers at {address}");
        Ok(())
    })?;
    answer.context("it was asked")
}

#[test]
fn a_node_reaches_its_own_pods_of_two_tenants_with_the_same_address() -> Result<()> {
    let lab = OvnLab::start(2, &json!({}))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let mut pods = Vec::new();
    for (tenant, chassis, name, address) in
        [("red", first, "red-1", 10), ("blue", first, "blue-1", 10), ("red", second, "red-2", 11)]
    {
        let pod = LabPod::new(tenant, name)?;
        let wished = format!("{};IP=10.128.0.{address}", pod.args());
        let interface = chassis.cni()?.call("ADD", &pod).with("CNI_ARGS", wished).run()?.attached()?;
        let server = TcpServer::start(&pod.netns, name)?;
        pods.push((pod, chassis, interface, server));
    }
    let here = first.host_to_pod()?;
    ensure!(here.len() == 2 && here.iter().all(|(_, pod)| *pod == pods[0].2.address.ip()), "{here:?}");
    let mut names = BTreeSet::new();
    for (address, _) in &here {
        let banner = ask_pod(first, *address)?;
        ensure!(banner.seen_as == SOURCE, "{banner:?}");
        names.insert(banner.name);
        ensure!(ping(&first.netns, *address)?, "the node pings {address}");
    }
    ensure!(names == BTreeSet::from(["red-1".to_owned(), "blue-1".to_owned()]), "{names:?} answered");
    for (pod, chassis, ..) in &pods {
        chassis.cni()?.del(pod)?;
    }
    for chassis in [first, second] {
        ensure!(chassis.host_to_pod()?.is_empty(), "{} has a way to a pod that is gone", chassis.name);
    }
    lab.finish_after_cleanup()
}

/// `portmap` behind Atoll, for one call.
fn portmap(node: &OvnMachine, command: &str, pod: &LabPod, result: &Value) -> Result<()> {
    let mappings = json!([{ "hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp" }]);
    let config = json!({
        "cniVersion": "1.0.0", "name": "atoll", "type": "portmap", "snat": true,
        "capabilities": { "portMappings": true }, "runtimeConfig": { "portMappings": mappings }, "prevResult": result,
    });
    let answer = Cni::new(&node.netns, PORTMAP.into(), config).call(command, pod).run()?;
    ensure!(answer.code == Some(0), "portmap {command}: {}{}", answer.stdout, answer.stderr);
    Ok(())
}

/// All of these are silent: asked at once, because no answer takes as long as an answer may take.
fn all_silent(attempts: &[(&LabNetns, &str, Ipv4Addr, u16)]) -> Result<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = attempts
            .iter()
            .map(|(from, name, to, port)| {
                scope.spawn(move || {
                    let banner = ask_at(from, *to, *port)?;
                    ensure!(banner.is_none(), "{name} is answered by {to}: {banner:?}");
                    Ok(())
                })
            })
            .collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// With unique addresses: probes of `status.podIP`, a port of the node, and what neither pods nor neighbours get by it.
#[test]
fn a_host_port_leads_to_its_pod_and_pods_open_nothing_to_their_node() -> Result<()> {
    let lab = OvnLab::start(2, &json!({ "cluster": { "addressing": "unique" } }))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    first.netns.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
    let pods = [("red", "red-1"), ("blue", "blue-1"), ("red", "red-2")].map(|(tenant, name)| LabPod::new(tenant, name));
    let [red, blue, away] = pods;
    let (red, blue, away) = (red?, blue?, away?);
    let result = first.cni()?.call("ADD", &red).run()?.result()?;
    let address = |result: &Value| -> Result<Ipv4Addr> {
        let text = result["ips"][0]["address"].as_str().context("an address")?;
        Ok(text.split('/').next().unwrap_or_default().parse()?)
    };
    let red_at = address(&result)?;
    let blue_at = first.cni()?.add(&blue)?.address.ip();
    let away_at = second.cni()?.add(&away)?.address.ip();
    let servers = [(&red, "red-1"), (&blue, "blue-1"), (&away, "red-2")];
    let _servers = servers.map(|(pod, name)| TcpServer::start(&pod.netns, name));
    let _node = TcpServer::start(&first.netns, "node")?;

    for (to, name) in [(red_at, "red-1"), (blue_at, "blue-1")] {
        let banner = ask_pod(first, to)?;
        ensure!((banner.name.as_str(), banner.seen_as) == (name, SOURCE), "{to}: {banner:?}");
    }
    ensure!(ask(&red.netns, away_at)?.is_some_and(|banner| banner.name == "red-2"), "within the tenant");

    portmap(first, "ADD", &red, &result)?;
    for (from, name) in [(&first.netns, "the node"), (lab.central(), "a machine beside the node")] {
        let banner = ask_at(from, FIRST, HOST_PORT)?.with_context(|| name.to_owned())?;
        ensure!((banner.name.as_str(), banner.seen_as) == ("red-1", SOURCE), "{name}: {banner:?}");
    }

    // Pods, their machine and the central machine have a route.
    let by_node = ["169.254.128.0/17", "via", "169.254.128.1", "dev", "eth0"];
    for pod in [&red, &blue] {
        pod.netns.run("ip", &[&["route", "add"][..], &by_node].concat())?;
        pod.netns.run("ip", &["route", "add", &FIRST.to_string(), "via", "169.254.128.1", "dev", "eth0"])?;
    }
    let ends = first.netns.run("ip", &["-brief", "link", "show", "type", "veth"])?;
    for end in ends.split_whitespace().filter_map(|word| word.strip_prefix("ath")) {
        let end = format!("ath{}", end.split('@').next().unwrap_or_default());
        let metric = end.len().to_string();
        let route = [&away_at.to_string(), "via", "169.254.128.1", "dev", &end, "onlink", "metric", &metric];
        first.netns.run("ip", &[&["route", "append"][..], &route].concat())?;
    }
    for to in [red_at, blue_at] {
        lab.central().run("ip", &["route", "add", &to.to_string(), "via", &FIRST.to_string()])?;
    }
    let ways: Vec<_> = first.host_to_pod()?;
    let way_to = |pod: Ipv4Addr| ways.iter().find(|(_, of)| *of == pod).map(|(way, _)| *way).context("a way");
    let (red_way, blue_way) = (way_to(red_at)?, way_to(blue_at)?);
    all_silent(&[
        (&red.netns, "red", SOURCE, PORT),
        (&red.netns, "red", NODE, PORT),
        (&red.netns, "red", FIRST, PORT),
        (&red.netns, "red", blue_way, PORT),
        (&red.netns, "red", red_way, PORT),
        (&blue.netns, "blue", red_way, PORT),
        (&blue.netns, "blue", red_at, PORT),
        (&first.netns, "the node, of another node's pod", away_at, PORT),
        (lab.central(), "a neighbour, by the node", red_at, PORT),
        (lab.central(), "a neighbour, by the node", blue_at, PORT),
    ])?;

    // Without its rules the node forwards nothing to a pod, and still reaches its own.
    first.netns.run("nft", &["delete", "table", "inet", "atoll_host_to_pod"])?;
    all_silent(&[
        (lab.central(), "a neighbour", FIRST, HOST_PORT),
        (lab.central(), "a neighbour, by the node", red_at, PORT),
    ])?;
    ensure!(ask(&first.netns, red_at)?.is_some_and(|banner| banner.name == "red-1"), "its own pod");

    portmap(first, "DEL", &red, &result)?;
    for (pod, chassis) in [(&red, first), (&blue, first), (&away, second)] {
        chassis.cni()?.del(pod)?;
    }
    let routes = first.netns.run("ip", &["route", "show", "table", "2801795073"])?;
    ensure!(routes.is_empty(), "routes to pods that are gone: {routes}");
    lab.finish_after_cleanup()
}

#[test]
fn adds_that_are_killed_leave_nothing_that_gc_does_not_collect() -> Result<()> {
    let lab = OvnLab::start(1, &json!({}))?;
    let [chassis] = lab.chassis.as_slice() else { unreachable!("there is one") };
    let cni = chassis.cni()?;
    let whole = LabPod::new("red", "whole")?;
    cni.add(&whole)?;
    cni.del(&whole)?;
    let gone = || -> Result<()> {
        for _ in 0..2 {
            collect(chassis, [])?;
        }
        let left = chassis.host_to_pod_sides()?.len();
        ensure!(left == 0, "{left} sides are left");
        let find = ["--bare", "--columns=name", "find", "Interface", "external_ids:atoll=host-to-pod"];
        let interfaces = chassis.vsctl(&find)?;
        ensure!(interfaces.trim().is_empty(), "Interfaces are left: {interfaces}");
        let links = chassis.netns.run("ip", &["-brief", "link", "show", "type", "veth"])?;
        ensure!(!links.contains("ath") && !links.contains("ato"), "links are left: {links}");
        Ok(())
    };
    gone()?;
    // Each one makes what all pods of the subnet share.
    let pod = LabPod::new("red", "traced")?;
    let whole = cni.call("ADD", &pod).count_stops()?;
    cni.del(&pod)?;
    gone()?;
    let mut killed = 0;
    for number in 0..KILLS {
        let stop = whole * number / KILLS;
        let pod = LabPod::new("red", &format!("killed-{number}"))?;
        killed += u64::from(cni.call("ADD", &pod).kill_at(stop)?);
        let when = format!("killed at {stop} of {whole}");
        if number % 2 == 0 {
            cni.add(&pod).with_context(|| when.clone())?;
            let [(address, _)] = chassis.host_to_pod()?[..] else {
                anyhow::bail!("{when}: {:?}", chassis.host_to_pod())
            };
            let _server = TcpServer::start(&pod.netns, &pod.name)?;
            let banner = ask_pod(chassis, address).with_context(|| when.clone())?;
            ensure!(banner.name == pod.name, "{when}: {banner:?}");
        }
        wait::until("DEL leaves nothing", SOON, || {
            cni.del(&pod)?;
            lab.assert_nothing_left()
        })
        .with_context(|| when.clone())?;
        gone().context(when)?;
    }
    ensure!(killed >= KILLS / 2, "only {killed} ADDs were still running when they were killed: the places are wrong");
    lab.finish_after_cleanup()
}
