//! The process dies before each single change that it makes to the kernel. The next run completes the work: the
//! kernel's state is that of an undisturbed run, a second run changes nothing, and other traffic is not affected.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use atoll_model::topology::*;
use atoll_testkit::plane::*;
use atoll_testkit::program::command;
use atoll_testkit::steps::Steps;
use uuid::Uuid;

const BYSTANDER: TenantObjects = TenantObjects(9);
const SUBNET: &str = "10.9.0.0/24";

/// Other traffic: a ping every 5 ms and a TCP stream, both translated on their way to the external network.
struct Traffic {
    ping: Option<Child>,
    stop: Arc<AtomicBool>,
    stream: Option<JoinHandle<()>>,
}

impl Drop for Traffic {
    /// A test that failed leaves no program running.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(mut ping) = self.ping.take() {
            let _ = ping.kill();
            let _ = ping.wait();
        }
    }
}

impl Traffic {
    fn start(lab: &Lab, from: &Path) -> Self {
        let listener =
            on_thread(&lab.external_network(), || TcpListener::bind("0.0.0.0:7009").unwrap()).join().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        });
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let stream = on_thread(from, move || {
            let mut stream = TcpStream::connect("203.0.113.1:7009").unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut byte = [7];
            while !stopped.load(Ordering::Relaxed) {
                stream.write_all(&byte).unwrap();
                stream.read_exact(&mut byte).expect("the stream lives");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let ping = command("nsenter")
            .arg(format!("--net={}", from.display()))
            .args(["ping", "-n", "-q", "-i0.005", "203.0.113.1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { ping: Some(ping), stop, stream: Some(stream) }
    }

    /// Nothing was lost.
    fn assert_whole(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stream.take().unwrap().join().expect("the stream lives");
        let ping = self.ping.take().unwrap();
        let id = nix::unistd::Pid::from_raw(ping.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
        let report = String::from_utf8(ping.wait_with_output().unwrap().stdout).unwrap();
        let line = report.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let number = |n: usize| line.split(", ").nth(n).unwrap().split(' ').next().unwrap().parse::<u32>().unwrap();
        // The last one may still be on its way.
        assert!(number(0) > 50 && number(0) - number(1) <= 1, "{line}");
    }
}

/// What the kernel shows of everything that the plane makes, in no order that could differ.
fn kernel(lab: &Lab) -> BTreeMap<String, Vec<String>> {
    let script = "printf 'link\\naddr\\nroute show table all proto 201\\nrule\\n\
                  neigh show nud permanent\\n' | ip -4 -br -batch -; bridge -d link; bridge fdb | grep -v 33:33: ; \
                  sysctl -n net.ipv4.ip_forward net.ipv4.fwmark_reflect net.ipv4.conf.all.arp_ignore";
    let mut paths: Vec<PathBuf> = std::fs::read_dir(lab.planes()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.push("/proc/thread-self/ns/net".into());
    paths.sort();
    let show = |path: PathBuf| {
        let words = |program, arguments: &[&str]| String::from_utf8(attempt(&path, program, arguments).stdout).unwrap();
        let shown = at_first_step(&words("nft", &["-y", "list", "ruleset"])) + &words("sh", &["-c", script]);
        // Elements of a set come in any order, and several to a line.
        let elements = |line: &str| line.contains("elements = {") || line.trim_end().ends_with([',', '}']);
        let (sets, mut lines): (Vec<_>, Vec<_>) =
            without_traffic(&shown).map(str::to_owned).partition(|line| elements(line));
        lines.extend(sets.iter().flat_map(|line| line.split([',', '{', '}'])).map(|part| part.trim().to_owned()));
        // What was counted is no state.
        for line in &mut lines {
            let words: Vec<&str> = line.split(' ').collect();
            let counts = |n: usize| n > 0 && matches!(words[n - 1], "packets" | "bytes");
            let kept = (0..words.len()).filter(|n| !counts(*n)).map(|n| words[n]);
            *line = kept.collect::<Vec<_>>().join(" ");
        }
        lines.retain(|line| !line.contains("\" counter packets"));
        for line in &mut lines {
            // How far the kernel is with carriers.
            let words =
                line.split_whitespace().filter(|w| !matches!(*w, "linkdown" | "UP" | "DOWN" | "LOWERLAYERDOWN"));
            // The other end of a link has a name where its index happens to be that of an interface here.
            let words = words.map(|word| word.split_once('@').map_or(word, |(name, _)| name));
            let words: Vec<_> = words.map(|word| word.replace("NO-CARRIER,", "").replace(",LOWER_UP", "")).collect();
            *line = words.join(" ");
        }
        lines.sort();
        (path.file_name().unwrap().to_string_lossy().into_owned(), lines)
    };
    paths.into_iter().map(show).collect()
}

/// A ruleset without the elements that packets add to sets: who was refused something, who sends. They are no state.
fn without_traffic(ruleset: &str) -> impl Iterator<Item = &str> {
    let (mut dynamic, mut inside) = (false, false);
    ruleset.lines().filter(move |line| {
        let words = line.trim_start();
        if words.starts_with("set ") || words.starts_with("map ") || words.starts_with("chain ") {
            dynamic = false;
        }
        dynamic |= words.starts_with("flags dynamic");
        let begins = dynamic && words.starts_with("elements = {");
        let dropped = begins || inside;
        inside = dropped && !line.contains('}');
        !dropped
    })
}

/// What one has and the other has not.
fn difference(golden: &BTreeMap<String, Vec<String>>, found: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let lacks = |sign: &str, a: &BTreeMap<String, Vec<String>>, b: &BTreeMap<String, Vec<String>>| {
        let mut lines = Vec::new();
        for (name, here) in a {
            let mut there = b.get(name).cloned().unwrap_or_default();
            for line in here {
                match there.iter().position(|other| other == line) {
                    Some(place) => drop(there.swap_remove(place)),
                    None => lines.push(format!("{sign} {name}: {line}")),
                }
            }
        }
        lines
    };
    [lacks("-", golden, found), lacks("+", found, golden)].concat()
}

/// A part of a sweep, `.0` of `.1`: a long one is several tests, so that each ends in time also on a busy machine. Together
/// they die before every change.
#[derive(Clone, Copy)]
struct Part(usize, usize);

const WHOLE: Part = Part(0, 1);

/// Goes from `before` to what is `there` and dies before each change of its part on the way, at least `least` in all
/// parts; and `back`.
fn sweep(
    before: &[Object],
    there: &[TopologyChange],
    back: &[TopologyChange],
    pods: &[(TenantObjects, u8)],
    least: usize,
    part: Part,
) {
    let mut topology = provider();
    let bystander = BYSTANDER.objects(SUBNET).into_iter().chain([BYSTANDER.pod_port(1)]);
    for change in put(bystander.chain(before.iter().cloned())) {
        topology.apply(change);
    }
    let mut after = topology.clone();
    for change in there.iter().cloned() {
        after.apply(change);
    }
    let mut lab = Lab::start(topology.clone());
    let other = lab.wire(BYSTANDER, 1, Some(&lab.namespace(BYSTANDER)));
    lab.wait_active(BYSTANDER.pod(1), true);
    // Interfaces of pods wait in our own namespace, and come back to it.
    let wired: Vec<_> = pods.iter().map(|(tenant, n)| (lab.wire(*tenant, *n, None), tenant.pod(*n))).collect();

    let arrive = |lab: &Lab| {
        let report = lab.plane().report();
        assert!(report.errors.is_empty() && report.unsupported.is_empty(), "{report:#?}");
        for (_, port) in &wired {
            lab.wait_active(*port, after.ports.contains_key(port));
        }
    };
    // A port that goes takes its interface along only where it had come.
    for (_, port) in wired.iter().filter(|(_, port)| topology.ports.contains_key(port)) {
        lab.wait_active(*port, true);
    }
    lab.submit(there.to_vec());
    arrive(&lab);
    lab.restart(after.clone());
    let golden = kernel(&lab);
    let traffic = Traffic::start(&lab, &other);
    for dies in (part.0..).step_by(part.1) {
        lab.submit(back.to_vec());
        let steps = Steps::dies_after(dies);
        lab.steps = Some(Arc::clone(&steps));
        lab.restart(topology.clone());
        assert_eq!(steps.made(), Vec::<String>::new(), "there was nothing to do yet");
        lab.submit(there.to_vec());
        lab.steps = None;
        let made = steps.made();
        if made.len() < dies {
            assert!(dies > least, "{made:#?}");
            break;
        }
        let when = format!("died before change {dies}, after {:?}", made.last());
        lab.active.lock().unwrap().clear();
        lab.restart(after.clone());
        arrive(&lab);
        for (pod, port) in &wired {
            if after.ports.contains_key(port) {
                // A link that was moved has lost its carrier for a moment.
                wait(
                    || format!("{when}: {port}"),
                    || attempt(pod, "ping", &["-c1", "-W0.2", "-n", "203.0.113.1"]).status.success(),
                );
            }
        }
        lab.restart(after.clone());
        assert_eq!(lab.plane().report().changes, 0, "{when}: the second run");
        // Namespaces and carriers go in their own time.
        wait(|| format!("{when}: {:#?}", difference(&golden, &kernel(&lab))), || kernel(&lab) == golden);
    }
    traffic.assert_whole();
}

fn tenant(n: u128) -> Vec<Object> {
    TenantObjects(n).objects(SUBNET).into_iter().chain([TenantObjects(n).pod_port(1)]).collect()
}

fn removed(objects: &[Object]) -> Vec<TopologyChange> {
    objects.iter().rev().map(|object| TopologyChange::Remove(object.id())).collect()
}

fn while_two_tenants_are_built(part: Part) {
    let objects: Vec<_> = [1, 2].into_iter().flat_map(tenant).collect();
    sweep(&[], &put(objects.clone()), &removed(&objects), &[(TenantObjects(1), 1), (TenantObjects(2), 1)], 90, part);
}

#[test]
fn while_two_tenants_are_built_first_quarter() {
    while_two_tenants_are_built(Part(0, 4));
}

#[test]
fn while_two_tenants_are_built_second_quarter() {
    while_two_tenants_are_built(Part(1, 4));
}

#[test]
fn while_two_tenants_are_built_third_quarter() {
    while_two_tenants_are_built(Part(2, 4));
}

#[test]
fn while_two_tenants_are_built_last_quarter() {
    while_two_tenants_are_built(Part(3, 4));
}

#[test]
fn while_a_tenant_is_torn_down() {
    let objects = tenant(1);
    sweep(&objects, &removed(&objects), &put(objects.clone()), &[(TenantObjects(1), 1)], 5, WHOLE);
}

#[test]
fn while_a_port_comes() {
    let port = [TenantObjects(1).pod_port(1)];
    let objects = TenantObjects(1).objects(SUBNET);
    sweep(&objects, &put(port.clone()), &removed(&port), &[(TenantObjects(1), 1)], 5, WHOLE);
}

#[test]
fn while_a_port_goes() {
    let port = [TenantObjects(1).pod_port(1)];
    let objects: Vec<_> = TenantObjects(1).objects(SUBNET).into_iter().chain(port.clone()).collect();
    sweep(&objects, &removed(&port), &put(port), &[(TenantObjects(1), 1)], 5, WHOLE);
}

#[test]
fn while_rules_and_routes_are_replaced() {
    let objects = tenant(1);
    let changed = |object: &Object| match object {
        Object::Chain(id, chain) => {
            let rule = Rule {
                id: Uuid::from_u128(0x999),
                condition: Condition {
                    protocol: Some(Test::is(6)),
                    destination_port: Some(Test::is((81, 81))),
                    ..Condition::default()
                },
                action: RuleAction::Drop,
            };
            let mut chain = chain.clone();
            chain.rules.insert(0, rule);
            Some(Object::Chain(*id, chain))
        }
        _ => None,
    };
    let mut there: Vec<_> = objects.iter().filter_map(changed).collect();
    let black = Route {
        action: RouteAction::BlackHole,
        source: net("10.9.0.0/25"),
        ..route(TenantObjects(1).router(), "198.51.100.0/24", TenantObjects(1).uplink(), None)
    };
    there.push(Object::Route(Uuid::from_u128(0x998), black));
    let mut back = put(objects.iter().filter(|object| matches!(object, Object::Chain(..))).cloned());
    back.push(TopologyChange::Remove(Uuid::from_u128(0x998)));
    sweep(&objects, &put(there), &back, &[(TenantObjects(1), 1)], 3, WHOLE);
}

#[test]
fn while_a_bridge_is_linked_and_its_pods_move_even_changes() {
    while_a_bridge_is_linked_and_its_pods_move(Part(0, 2));
}

#[test]
fn while_a_bridge_is_linked_and_its_pods_move_odd_changes() {
    while_a_bridge_is_linked_and_its_pods_move(Part(1, 2));
}

fn while_a_bridge_is_linked_and_its_pods_move(part: Part) {
    let ends = |linked: bool| {
        let end = move |object: &Object| match object.clone() {
            Object::Port(id, port) if [TenantObjects(1).gateway(), TenantObjects(1).bridge_port()].contains(&id) => {
                Some(Object::Port(id, Port { peer: port.peer.filter(|_| linked), ..port }))
            }
            _ => None,
        };
        tenant(1).iter().filter_map(end).collect::<Vec<_>>()
    };
    let mut objects = tenant(1);
    objects.extend(ends(false));
    sweep(&objects, &put(ends(true)), &put(ends(false)), &[(TenantObjects(1), 1)], 10, part);
}
