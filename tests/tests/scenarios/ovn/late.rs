//! Requests of the plugin that Northbound executes late: after the runtime's DEL, and when another pod has the address.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::{Cni, CniAnswer};
use atoll_testkit::lab::ovn::{OvnLab, OvnMachine};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::reach::ping;
use atoll_testkit::lab::wait;
use nix::sys::signal::Signal;
use serde_json::json;

use super::collect;

const MEMBERS: usize = 3;
/// The member behind the relay.
const MEMBER: &str = "nb-3";
/// The address that the late pod had, and that another one gets.
const ADDRESS: &str = "10.128.0.50";
/// What a request contains that makes something.
const INSERT: &[u8] = b"\"op\":\"insert\"";
/// The limit of a call that is not answered, in seconds.
const PATIENCE: u64 = 10;
/// The bound of a DEL during an outage, including process start and a busy machine.
const AT_MOST: Duration = Duration::from_secs(4);
/// Limit for a cluster that has its members again.
const LIMIT: Duration = Duration::from_mins(1);

/// Passes requests on to a member, also when the client is gone. While it holds, it keeps what begins with an insertion.
struct Relay {
    socket: PathBuf,
    state: Arc<(Mutex<Passed>, Condvar)>,
}

#[derive(Default)]
struct Passed {
    holds: bool,
    held: usize,
    requests: usize,
    answers: String,
}

impl Relay {
    fn to(member: &Path, socket: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&socket).context("listen")?;
        let state: Arc<(Mutex<Passed>, Condvar)> = Arc::default();
        let (member, kept) = (member.to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The member has ended with its test.
                let Ok(server) = UnixStream::connect(&member) else { return };
                let ends = client.try_clone().and_then(|from| Ok((from, server.try_clone()?)));
                let Ok((from, to)) = ends else { return };
                let (asked, answered) = (Arc::clone(&kept), Arc::clone(&kept));
                std::thread::spawn(move || pass(from, to, |piece| request(&asked, piece)));
                std::thread::spawn(move || {
                    pass(server, client, |piece| {
                        locked(&answered).answers.push_str(&String::from_utf8_lossy(piece));
                    });
                });
            }
        });
        Ok(Self { socket, state })
    }

    /// From now on, or no longer, insertions are kept.
    fn hold(&self, holds: bool) {
        locked(&self.state).holds = holds;
        self.state.1.notify_all();
    }

    /// How many requests are kept.
    fn held(&self) -> usize {
        locked(&self.state).held
    }

    /// Waits until the member has answered every request. Returns all its answers.
    fn answers(&self) -> Result<String> {
        let mut answers = String::new();
        wait::until("the member answers everything", LIMIT, || {
            let passed = locked(&self.state);
            let count = passed.answers.matches("\"result\":").count();
            ensure!(count == passed.requests, "{count} answers to {} requests", passed.requests);
            answers.clone_from(&passed.answers);
            Ok(())
        })?;
        Ok(answers)
    }
}

fn locked(state: &(Mutex<Passed>, Condvar)) -> std::sync::MutexGuard<'_, Passed> {
    state.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A piece of a request: counted, and kept while the relay holds and it makes something.
fn request(state: &(Mutex<Passed>, Condvar), piece: &[u8]) {
    let mut passed = locked(state);
    let is_in = |text: &[u8]| piece.windows(text.len()).filter(|window| *window == text).count();
    passed.requests += is_in(b"\"method\":");
    if is_in(INSERT) > 0 {
        passed.held += 1;
        let mut passed = state.1.wait_while(passed, |passed| passed.holds);
        if let Ok(passed) = &mut passed {
            passed.held -= 1;
        }
    }
}

/// Copies until `from` ends. `to` may be gone: what it would get is only seen.
fn pass(mut from: impl Read, mut to: impl Write, mut see: impl FnMut(&[u8])) {
    let mut piece = vec![0; 1 << 20];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        see(&piece[..read]);
        let _ = to.write_all(&piece[..read]);
    }
}

/// A cluster with a relay to one member, and the tenant of the pods.
fn started() -> Result<(OvnLab, Relay)> {
    let lab = OvnLab::start_with_members(MEMBERS, 2, &json!({ "cooldownSeconds": 0 }))?;
    let member = lab.socket(MEMBER);
    let relay = Relay::to(&member, member.with_file_name("relay.sock"))?;
    Ok((lab, relay))
}

/// A runtime whose plugin has this limit, and these members of Northbound.
fn runtime<'a>(machine: &'a OvnMachine, seconds: u64, northbound: Option<&Relay>) -> Result<Cni<'a>> {
    let mut cni = machine.cni()?;
    cni.config["timeoutSeconds"] = json!(seconds);
    if let Some(relay) = northbound {
        cni.config["ovn"]["northbound"] = json!([format!("unix:{}", relay.socket.display())]);
    }
    Ok(cni)
}

/// ADD of a pod that asks for the address.
fn add_with_address(cni: &Cni<'_>, pod: &LabPod) -> Result<CniAnswer> {
    cni.call("ADD", pod).with("CNI_ARGS", format!("{};IP={ADDRESS}", pod.args())).run()
}

/// The names of the ports with the address, as Northbound has them.
fn ports_with_address(lab: &OvnLab) -> Result<Vec<String>> {
    let find = ["--format=csv", "--data=bare", "--no-headings", "--columns=name,addresses", "find"];
    let found =
        lab.ctl("ovn-nbctl", &[&find[..], &["Logical_Switch_Port", "external_ids:atoll-role=pod-port"]].concat())?;
    Ok(found.lines().filter(|line| line.ends_with(&format!(" {ADDRESS}"))).map(str::to_owned).collect())
}

/// The other pod has the address alone, packets flow, and DEL of all leaves nothing.
fn other_pod_has_the_address(lab: OvnLab, first: &LabPod, other: &LabPod) -> Result<()> {
    let [here, there] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let ports = ports_with_address(&lab)?;
    ensure!(ports.len() == 1 && lab.ports("")?.len() == 2, "one port has the address: {ports:?}, {:?}", lab.ports("")?);
    ensure!(lab.ports("external_ids:atoll-node=c2")?.len() == 1, "it is the other pod's: {ports:?}");
    ensure!(
        ping(&first.netns, ADDRESS.parse::<std::net::IpAddr>()?)?,
        "the first pod does not reach the one that has the address"
    );
    here.cni()?.del(first)?;
    there.cni()?.del(other)?;
    lab.finish_after_cleanup()
}

#[test]
fn an_insertion_that_arrives_when_another_pod_has_the_address_is_refused() -> Result<()> {
    let (lab, relay) = started()?;
    let [here, there] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (first, late, other) =
        (LabPod::new("red", "first")?, LabPod::new("red", "late")?, LabPod::new("red", "other")?);
    here.cni()?.add(&first)?;

    relay.hold(true);
    let refused = add_with_address(&runtime(here, PATIENCE, Some(&relay))?, &late)?;
    ensure!(refused.error_code()? == 11, "the runtime may try again: {}", refused.stdout);
    ensure!(relay.held() > 0, "nothing is on its way: {}", refused.stdout);
    here.cni()?.del(&late)?;
    add_with_address(&there.cni()?, &other)?.attached().context("another pod gets the address")?;

    relay.hold(false);
    let answers = relay.answers()?;
    ensure!(answers.contains("timed out"), "the late insertion is refused: {answers}");
    other_pod_has_the_address(lab, &first, &other)
}

#[test]
fn an_insertion_that_waits_for_a_quorum_makes_no_second_port() -> Result<()> {
    let (mut lab, relay) = started()?;
    let others = lab.members().into_iter().filter(|member| *member != MEMBER);
    let others = others.map(|member| lab.take_daemon(member)).collect::<Result<Vec<_>>>()?;
    let [here, there] = lab.chassis.as_slice() else { unreachable!("there are two") };
    let (first, late, other) =
        (LabPod::new("red", "first")?, LabPod::new("red", "late")?, LabPod::new("red", "other")?);
    here.cni()?.add(&first)?;

    others.iter().try_for_each(|member| member.send(Signal::SIGSTOP))?;
    relay.hold(true);
    let refused = add_with_address(&runtime(here, PATIENCE, Some(&relay))?, &late)?;
    ensure!(refused.error_code()? == 11, "the runtime may try again: {}", refused.stdout);
    ensure!(relay.held() > 0, "nothing is on its way: {}", refused.stdout);
    relay.hold(false);
    let took = here.cni()?.del(&late)?;
    ensure!(took < AT_MOST, "DEL without a quorum took {took:?}");
    let impatient = runtime(there, PATIENCE, None)?;
    let taken = add_with_address(&impatient, &other)?;
    ensure!(taken.code != Some(0), "another pod gets the address, although its port may still come: {}", taken.stdout);
    impatient.del(&other)?;

    others.iter().try_for_each(|member| member.send(Signal::SIGCONT))?;
    wait::until("another pod gets the address", LIMIT, || {
        // Later calls complete what is pending.
        collect(here, [&first])?;
        add_with_address(&there.cni()?, &other)?.attached().map(drop)
    })?;
    relay.answers()?;
    other_pod_has_the_address(lab, &first, &other)
}
