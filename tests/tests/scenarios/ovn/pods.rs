//! Pods of two tenants with the same addresses, on different machines.

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde_json::json;

use super::ask_outside;

#[test]
fn pods_on_two_machines_reach_each_other_and_no_other_tenant() -> Result<()> {
    let lab = OvnLab::start(3, &json!({}))?;
    let [first, second, ..] = lab.chassis.as_slice() else { unreachable!("there are three") };
    let mut pods = Vec::new();
    for (tenant, chassis, name, address) in
        [("red", first, "red-1", 10), ("red", second, "red-2", 11), ("blue", second, "blue-1", 10)]
    {
        let pod = LabPod::new(tenant, name)?;
        let wished = format!("{};IP=10.128.0.{address}", pod.args());
        let interface = chassis.cni()?.call("ADD", &pod).with("CNI_ARGS", wished).run()?.attached()?;
        let server = TcpServer::start(&pod.netns, name)?;
        pods.push((pod, interface, server));
    }
    let [(red_1, at_1, _), (red_2, at_2, _), (_, blue_at, _)] = pods.as_slice() else {
        unreachable!("there are three")
    };
    ensure!(blue_at.address == at_1.address, "the tenants' addresses overlap");
    for (from, to, name) in [(red_1, at_2, "red-2"), (red_2, at_1, "red-1")] {
        ensure!(ping(&from.netns, to.address.ip())?, "{} pings {name}", from.name);
        let banner = ask(&from.netns, to.address.ip())?.with_context(|| format!("{} asks {name}", from.name))?;
        ensure!(banner.name == name, "{} is answered by {}", from.name, banner.name);
    }
    // What the tunnel leaves of the 1500 bytes between the machines.
    let link = red_1.netns.run("ip", &["-oneline", "link", "show", "eth0"])?;
    ensure!(link.contains(" mtu 1442 "), "{}: {link}", red_1.name);
    let largest = (1442 - 20 - 8).to_string();
    red_1.netns.run("ping", &["-c", "1", "-w", "10", "-M", "do", "-s", &largest, &at_2.address.ip().to_string()])?;
    let outside = TcpServer::start(&lab.out, "outside")?;
    for (pod, ..) in &pods {
        let banner = ask_outside(pod)?;
        ensure!(banner.seen_as.octets()[..2] == [100, 64], "{banner:?}");
    }
    drop(outside);
    for ((pod, ..), chassis) in pods.iter().zip([first, second, second]) {
        chassis.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}
