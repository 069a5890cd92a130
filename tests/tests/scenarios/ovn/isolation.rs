//! Isolation by packets: a pod sends with its own addresses only, and no route leads to another tenant.

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_testkit::lab::cni::PodInterface;
use atoll_testkit::lab::ovn::{OvnLab, UPLINK};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use atoll_testkit::lab::wait;
use atoll_testkit::plane::frame::{arp, contains, ethernet, hear_repeated, icmp6, ip, overhear, shoot, sniff, tap};
use serde_json::json;

use super::ask_outside;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// The MAC of no pod.
const STRANGE: &str = "02:00:5e:10:00:09";
/// All nodes of a link, in IPv6.
const ALL_NODES: &str = "33:33:00:00:00:01";

/// How often an ADD is repeated while its pod sends.
const ADDS: usize = 4;
/// The pause between two bursts of frames.
const PAUSE: Duration = Duration::from_millis(2);

/// Frames of a pod to a neighbour on another machine that it may not send, each with a mark.
fn forbidden(own: &PodInterface, victim: &PodInterface, to: &PodInterface) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let address = |at: &PodInterface| at.address.ip().octets();
    let (mac, to_mac) = (own.mac.parse()?, to.mac.parse()?);
    let mark = |name: &'static str| name.as_bytes();
    Ok(vec![
        (
            "another's address",
            ethernet(mac, to_mac, IPV4, &ip(address(victim), address(to), mark("another's address"))),
        ),
        ("no one's address", ethernet(mac, to_mac, IPV4, &ip([10, 128, 0, 99], address(to), mark("no one's address")))),
        ("the gateway's", ethernet(mac, to_mac, IPV4, &ip(own.gateway.octets(), address(to), mark("the gateway's")))),
        (
            "another's MAC",
            ethernet(victim.mac.parse()?, to_mac, IPV4, &ip(address(own), address(to), mark("another's MAC"))),
        ),
        (
            "a strange MAC",
            ethernet(STRANGE.parse()?, to_mac, IPV4, &ip(address(own), address(to), mark("a strange MAC"))),
        ),
        ("ARP reply", ethernet(mac, to_mac, ARP, &arp(2, (mac, address(victim)), address(to), mark("ARP reply")))),
        (
            "ARP of the gateway",
            ethernet(mac, to_mac, ARP, &arp(2, (mac, own.gateway.octets()), address(to), mark("ARP of the gateway"))),
        ),
        ("IPv6", ethernet(mac, ALL_NODES.parse()?, IPV6, &icmp6(136, mark("IPv6")))),
    ])
}

#[test]
fn a_pod_sends_with_its_own_addresses_only() -> Result<()> {
    let lab = OvnLab::start(2, &json!({}))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let pods = ["attacker", "victim", "target"].map(|name| LabPod::new("red", name));
    let [attacker, victim, target] = pods;
    let (attacker, victim, target) = (attacker?, victim?, target?);
    let own = first.cni()?.add(&attacker)?;
    let (of_victim, to) = (second.cni()?.add(&victim)?, second.cni()?.add(&target)?);
    ensure!(ping(&attacker.netns, to.address.ip())?, "they reach each other");

    let (sender, ear) = (tap(attacker.netns.path()), sniff(target.netns.path()));
    let frames = forbidden(&own, &of_victim, &to)?;
    let permitted = |mark: &str| -> Result<Vec<u8>> {
        let packet = ip(own.address.ip().octets(), to.address.ip().octets(), mark.as_bytes());
        Ok(ethernet(own.mac.parse()?, to.mac.parse()?, IPV4, &packet))
    };
    // Twice: the first frame of a kind may be forwarded later than those behind it.
    for last in ["the first end", "the second end"] {
        for (name, frame) in &frames {
            shoot(&sender, frame, name);
        }
        let end = permitted(last)?;
        let heard = hear_repeated(&ear, last.as_bytes(), || shoot(&sender, &end, last));
        for (name, _) in &frames {
            ensure!(!contains(&heard, name.as_bytes()), "the target received a frame with {name}");
        }
    }

    // Also while a repeated ADD replaces the Interface.
    let mut heard = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let adding = scope.spawn(|| (0..ADDS).try_for_each(|_| first.cni()?.add(&attacker).map(drop)));
        while !adding.is_finished() {
            for (name, frame) in &frames {
                shoot(&sender, frame, name);
            }
            heard.extend(std::iter::from_fn(|| overhear(&ear)));
            std::thread::sleep(PAUSE);
        }
        adding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let end = permitted("the third end")?;
    heard.extend(hear_repeated(&ear, b"the third end", || shoot(&sender, &end, "the third end")));
    for (name, _) in &frames {
        ensure!(!contains(&heard, name.as_bytes()), "the target received a frame with {name} during an ADD");
    }

    // The same frames arrive as soon as the port's rules are taken away: it is these that refuse them.
    let [port] =
        <[String; 1]>::try_from(lab.ports("external_ids:atoll-node=c1")?).map_err(|all| anyhow::anyhow!("{all:?}"))?;
    lab.ctl("ovn-nbctl", &["--wait=hv", "lsp-set-port-security", &port])?;
    heard.clear();
    wait::until("frames without port security arrive", Duration::from_secs(20), || {
        for (name, frame) in &frames {
            shoot(&sender, frame, name);
        }
        heard.extend(std::iter::from_fn(|| overhear(&ear)));
        let missing: Vec<_> =
            frames.iter().map(|(name, _)| *name).filter(|name| !contains(&heard, name.as_bytes())).collect();
        ensure!(missing.is_empty(), "{missing:?} do not arrive");
        Ok(())
    })?;

    first.cni()?.del(&attacker)?;
    for pod in [&victim, &target] {
        second.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}

/// The addresses of the tenants differ, so that an unwanted route would lead somewhere.
#[test]
fn no_route_leads_to_another_tenant() -> Result<()> {
    let lab = OvnLab::start(2, &json!({ "cluster": { "addressing": "unique" } }))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (red, blue) = (LabPod::new("red", "red")?, LabPod::new("blue", "blue")?);
    let neighbour = LabPod::new("red", "neighbour")?;
    let (red_at, blue_at) = (first.cni()?.add(&red)?, second.cni()?.add(&blue)?);
    second.cni()?.add(&neighbour)?;
    ensure!(!red_at.address.contains(blue_at.address.ip()), "{red_at:?} and {blue_at:?} do not overlap");
    let _servers = [(&red, "red"), (&blue, "blue")].map(|(pod, name)| TcpServer::start(&pod.netns, name));
    let outside = TcpServer::start(&lab.out, "outside")?;
    // The addresses by which the tenants' packets leave.
    let (red_transit, blue_transit) = (ask_outside(&red)?.seen_as, ask_outside(&blue)?.seen_as);
    ensure!(red_transit != blue_transit, "each tenant has its own transit address");
    ensure!(ask(&neighbour.netns, red_at.address.ip())?.is_some(), "the server in red answers red");

    // Outside knows a way to everything by the provider router.
    for address in [&red_at, &blue_at] {
        let prefix = format!("{}/{}", address.address.network(), address.address.prefix());
        lab.out.run("ip", &["route", "add", &prefix, "via", UPLINK])?;
    }
    let attempts = [
        (&blue.netns, "blue", red_at.address.ip(), red_transit),
        (&red.netns, "red", blue_at.address.ip(), blue_transit),
        (&lab.out, "outside", red_at.address.ip(), red_transit),
    ];
    // At once: no answer takes as long as an answer may take.
    std::thread::scope(|scope| {
        let mut silent = Vec::new();
        for (from, name, there, by) in attempts {
            silent.push(scope.spawn(move || {
                ensure!(!ping(from, there)?, "{name} pings {there}");
                Ok(())
            }));
            silent.extend([there, by].map(|to| {
                scope.spawn(move || {
                    let banner = ask(from, to)?;
                    ensure!(banner.is_none(), "{name} is answered by {to}: {banner:?}");
                    Ok(())
                })
            }));
        }
        silent.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    drop(outside);
    first.cni()?.del(&red)?;
    for pod in [&blue, &neighbour] {
        second.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}
