//! Names of pods: OVN itself answers what a pod asks for, whatever server it asks, in its own tenant alone.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ovn::OvnLab;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::wait;
use serde_json::json;

/// The type of a question for IPv4 addresses (RFC 1035, section 3.2.2).
const A: u16 = 1;
/// The type of a question for IPv6 addresses (RFC 3596).
const AAAA: u16 = 28;

/// How long packets are waited for. OVN answers within milliseconds.
const SILENCE: Duration = Duration::from_secs(5);
/// Limit for a change to reach every chassis, on a busy machine.
const CHANGE: Duration = Duration::from_mins(1);

/// A question (RFC 1035, section 4.1) with an id of its own.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut packet = [id.to_be_bytes(), [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("at most 63 bytes"));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend([kind.to_be_bytes(), [0, 1]].concat());
    packet
}

/// The id and the IPv4 addresses of an answer.
fn answer(packet: &[u8], asked: usize) -> Option<(u16, Vec<Ipv4Addr>)> {
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let mut addresses = Vec::new();
    // Records follow the question.
    let mut at = asked;
    for _ in 0..number(6)? {
        // The end of the name: a pointer, or the root.
        while !matches!(*packet.get(at)?, 0 | 0xc0..) {
            at += usize::from(packet[at]) + 1;
        }
        at += if packet[at] == 0 { 1 } else { 2 };
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        at += 10;
        if let (A, [a, b, c, d]) = (kind, packet.get(at..at + length)?) {
            addresses.push(Ipv4Addr::new(*a, *b, *c, *d));
        }
        at += length;
    }
    Some((number(0)?, addresses))
}

/// What a pod learns of names from a server. The last one must be answered: those before it that are not are not answered at all.
fn resolve(from: &LabPod, server: IpAddr, names: &[(&str, u16)]) -> Result<Vec<Option<Vec<Ipv4Addr>>>> {
    from.netns.within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(SILENCE))?;
        let mut found = vec![None; names.len()];
        for (id, (name, kind)) in (0..).zip(names) {
            socket.send_to(&question(id, name, *kind), (server, 53))?;
        }
        let mut packet = [0; 1500];
        while found.last().is_some_and(Option::is_none) {
            let (length, _) = socket.recv_from(&mut packet).context("the last question has no answer")?;
            let id = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
            let (name, kind) = names.get(id).context("an answer to what was not asked")?;
            let (_, addresses) =
                answer(&packet[..length], question(0, name, *kind).len()).context("no answer of DNS")?;
            found[id] = Some(addresses);
        }
        Ok(found)
    })
}

#[test]
fn pods_find_each_other_by_name_in_their_own_tenant() -> Result<()> {
    let lab = OvnLab::start(2, &json!({}))?;
    let [first, second] = lab.chassis.as_slice() else { unreachable!("there are two") };
    first.atollctl(&["tenant", "create", "red", "blue"])?;
    for (tenant, namespace) in [("red", "red"), ("red", "green"), ("blue", "blue")] {
        first.atollctl(&["tenant", "join", tenant, namespace])?;
    }
    // Two tenants may have one domain: names are as apart as addresses.
    for tenant in ["red", "blue"] {
        let set = first.atollctl(&["tenant", "set", tenant, "--pod-domain", "atoll.internal"])?;
        ensure!(set.contains("names  in atoll.internal"), "{set}");
        ensure!(first.atollctl(&["tenant", "plan", tenant])?.contains("nothing would change"), "{tenant}");
    }
    let pods = [("red", "client"), ("red", "web"), ("green", "web"), ("blue", "client")];
    let pods = pods.map(|(namespace, name)| LabPod::new(namespace, name));
    let [red, web, late_web, blue] = pods.map(|pod| pod.expect("a pod"));
    first.cni()?.add(&red)?;
    let web_at = second.cni()?.add(&web)?.address.ip();
    first.cni()?.add(&blue)?;

    // The gateway, and a server that does not exist.
    let servers: [IpAddr; 2] = ["10.128.0.1".parse()?, "198.51.100.53".parse()?];
    let names = ["web.atoll.internal", "WEB.red.atoll.internal"];
    let questions = [(names[0], AAAA), ("other.atoll.internal", A), (names[0], A), (names[1], A)];
    for server in servers {
        wait::until("the other machine's pod has a name", CHANGE, || {
            let found = resolve(&red, server, &questions)?;
            let at_web = Some(vec![web_at]);
            ensure!(found == [None, None, at_web.clone(), at_web], "{found:?} by {server}");
            Ok(())
        })?;
        let found = resolve(&blue, server, &[(names[0], A), (names[1], A), ("client.blue.atoll.internal", A)])?;
        ensure!(matches!(found.as_slice(), [None, None, Some(_)]), "another tenant's names: {found:?}");
    }

    // Of two pods with one name the last one is found, and the first one takes only its own names along.
    let late_at = second.cni()?.add(&late_web)?.address.ip();
    let has = |short: Option<Ipv4Addr>, long: Option<Ipv4Addr>| {
        wait::until("names are as they should be", CHANGE, || {
            let questions = [
                (names[0], A),
                ("web.red.atoll.internal", A),
                ("web.green.atoll.internal", A),
                ("client.atoll.internal", A),
            ];
            let found = resolve(&red, servers[0], &questions)?;
            let expected = [short, long, short].map(|at| at.map(|at| vec![at]));
            ensure!(found[..3] == expected, "{found:?}, not {expected:?}");
            Ok(())
        })
    };
    has(Some(late_at), Some(web_at))?;
    second.cni()?.del(&web)?;
    has(Some(late_at), None)?;
    second.cni()?.del(&late_web)?;
    has(None, None)?;
    let records = lab.ctl("ovn-nbctl", &["--bare", "--columns=records", "list", "DNS"])?;
    ensure!(!records.contains("web."), "names of pods that are gone: {records}");

    // Without a domain nothing is answered, at once.
    first.atollctl(&["tenant", "set", "red", "--pod-domain", "none"])?;
    let records = lab.ctl("ovn-nbctl", &["--bare", "--columns=records", "list", "DNS"])?;
    ensure!(!records.contains("client.red.") && records.contains("client.blue."), "{records}");
    for pod in [&red, &blue] {
        first.cni()?.del(pod)?;
    }
    lab.finish_after_cleanup()
}
