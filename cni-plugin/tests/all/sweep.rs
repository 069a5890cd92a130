//! Everything that can go wrong at every effect of ADD and DEL: the process dies before it, after it, or with the request
//! on its way; the answer is lost; it is refused. Then the runtime does what runtimes do, or nothing at all; the late
//! request arrives early or late; the maximum request lifetime passes; and nothing may be left.
//!
//! A kernel operation cannot arrive late: it happens inside the call. That fault is left out for the wire.
//!
//! With OVN nothing waits for late requests: they arrive after everything, when another pod has the address, and change nothing.

use atoll_testkit::fault::Fault;
use std::net::IpAddr;
use std::time::Duration;

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::error::CallError;
use atoll_model::attachment::Mac;
use atoll_model::cni::result::AddResult;
use atoll_model::cni::version::Version;
use atoll_model::config::StatusMode;
use atoll_model::error::Classify;

use atoll_model::address_request::AddressRequest;
use atoll_sdn_client::dialect::Dialect;

use crate::check;
use crate::lab::{Detour, Lab, LabEngine, NETNS, ServerState, attachment, del};

const V5: LabEngine = LabEngine::MidoNet(Dialect::V5);
const V1: LabEngine = LabEngine::MidoNet(Dialect::V1);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// At an effect.
    Fault(usize, Fault),
    /// On the way to the controller.
    Detour(Detour),
}

/// What the runtime does after the call that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// ADD once more, then DEL.
    AddDel,
    /// DEL.
    Del,
    /// GC, once the attachment is old enough.
    Collect,
    /// Nothing, ever. Only after an answer: a runtime whose plugin dies calls DEL.
    Nothing,
}

/// When the late request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// Before the runtime's next call.
    Before,
    /// When the next ADD has begun, or has succeeded: a second later.
    Beside,
    /// After everything: just before the maximum request lifetime ends, or, with OVN, when another pod has the address.
    After,
}

/// Which call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    /// Of a pod that asks for two addresses and a MAC.
    AddWithRequest,
    /// Its DEL.
    DelWithRequest,
    /// Of a further interface.
    FurtherAdd,
    /// Of an unknown tenant.
    ColdAdd,
    /// Of a tenant whose subnet is full: it gets another.
    GrowingAdd,
    /// Of an attachment whose claim was lost: its port is there, with another address than the new claim's.
    LostAdd,
    /// That fails at its last step and undoes everything.
    UndoneAdd,
    Del,
    /// Resolving what a DEL left while the controller was down.
    RetryPending,
    /// Resolving a fence whose time has come: the port of its dead ADD came after its DEL.
    Fence,
    /// The DEL of a dead ADD whose port may still come, with an engine that fences.
    FencingDel,
    /// Of an attachment that the runtime has forgotten, and of one whose DEL left a tombstone.
    Gc,
}

async fn lab(verb: Verb, engine: LabEngine) -> Lab {
    match verb {
        Verb::ColdAdd => Lab::cold_with(engine),
        Verb::Add => Lab::warm_with(engine).await,
        Verb::AddWithRequest => requesting(engine).await,
        Verb::FurtherAdd => {
            let lab = Lab::warm_with(engine).await;
            lab.interface.set("eth1");
            lab
        }
        Verb::DelWithRequest => {
            let lab = requesting(engine).await;
            lab.add().await.expect("it works without faults");
            lab
        }
        Verb::LostAdd => {
            let lab = Lab::warm_with(engine).await;
            lab.add().await.expect("it works without faults");
            lab.lose_claim().await;
            lab
        }
        Verb::GrowingAdd => Lab::full_with(engine).await,
        Verb::Del => {
            let lab = Lab::warm_with(engine).await;
            lab.add().await.expect("it works without faults");
            lab
        }
        Verb::UndoneAdd => {
            let lab = Lab::warm_with(engine).await;
            lab.bad_route.set(true);
            lab
        }
        Verb::Gc => {
            let lab = Lab::warm_with(engine).await;
            let buried =
                AddCall { attachment: attachment("buried", "eth0"), sandbox: "/netns/other".to_owned(), ..lab.call() };
            lab.plugin().add(&buried).await.expect("it works without faults");
            lab.controller_state.set(ServerState::Refusing);
            lab.plugin().del(&del(&buried)).await.expect("it leaves a tombstone");
            lab.controller_state.set(ServerState::Fine);
            lab.add().await.expect("it works without faults");
            lab.pass(120).await;
            lab
        }
        Verb::Fence => {
            let lab = Lab::warm_with(engine).await;
            Box::pin(die(&lab, Verb::Add, creation(engine), Fault::CrashLate)).await;
            if engine == LabEngine::Ovn {
                lab.controller_state.set(ServerState::Refusing);
            }
            lab.del().await.expect("it leaves a fence");
            lab.controller_state.set(ServerState::Fine);
            lab.plan.deliver_late().await;
            assert_eq!(lab.pod_ports().len(), 1, "there is something to delete");
            if engine != LabEngine::Ovn {
                lab.pass_request_lifetime().await;
            }
            lab
        }
        Verb::FencingDel => {
            let lab = Lab::warm_with(engine).await;
            Box::pin(die(&lab, Verb::Add, creation(engine), Fault::CrashLate)).await;
            lab
        }
        Verb::RetryPending => {
            let lab = Lab::warm_with(engine).await;
            lab.add().await.expect("it works without faults");
            lab.controller_state.set(ServerState::Refusing);
            lab.del().await.expect("it leaves a tombstone");
            lab.controller_state.set(ServerState::Fine);
            lab
        }
    }
}

/// What is in the name of the effect that makes a port.
fn creation(engine: LabEngine) -> &'static str {
    match engine {
        LabEngine::MidoNet(_) => "POST",
        LabEngine::Ovn => "Logical_Switch_Port",
    }
}

/// The pod asks for the addresses 7 and 9 of the first subnet, and for a MAC.
async fn requesting(engine: LabEngine) -> Lab {
    let lab = Lab::warm_with(engine).await;
    let subnet = lab.first_subnet();
    let addresses = [7, 9].map(|n| subnet.nth(n).expect("it is large enough").into()).to_vec();
    lab.requested.replace(AddressRequest { addresses, mac: Some(Mac([2, 0, 0x5e, 0x10, 0, 9])), subnet: None });
    lab
}

/// Runs the verb under the plan: none, it died; else whether it succeeded.
async fn run(lab: &Lab, verb: Verb) -> Option<Result<Option<AddResult>, String>> {
    let call = async {
        match verb {
            Verb::Add
            | Verb::FurtherAdd
            | Verb::AddWithRequest
            | Verb::ColdAdd
            | Verb::LostAdd
            | Verb::GrowingAdd
            | Verb::UndoneAdd => lab.add().await.map(Some).map_err(|error| error.to_string()),
            Verb::Del | Verb::DelWithRequest | Verb::FencingDel => {
                lab.del().await.map(|()| None).map_err(|error| error.to_string())
            }
            Verb::RetryPending | Verb::Fence => {
                lab.retry_pending_cleanup().await;
                Ok(None)
            }
            Verb::Gc => lab.collect().await.map(|()| None).map_err(|error| error.to_string()),
        }
    };
    let answer = lab.plan.run(call).await;
    lab.bad_route.set(false);
    answer
}

/// The effects of a verb when nothing goes wrong.
async fn effects(verb: Verb, engine: LabEngine) -> Vec<String> {
    let lab = Box::pin(lab(verb, engine)).await;
    lab.plan.reset();
    let answer = Box::pin(run(&lab, verb)).await.expect("no call dies");
    assert_eq!(answer.is_err(), verb == Verb::UndoneAdd, "{answer:?}");
    lab.plan.passed()
}

fn no_interface(lab: &Lab, when: &str) {
    assert_eq!(lab.links(), vec![], "{when}: the interface is still there");
}

/// A call dies at its first effect of this name.
async fn die(lab: &Lab, verb: Verb, effect: &str, fault: Fault) {
    lab.plan.arm_named(effect, fault);
    assert!(Box::pin(run(lab, verb)).await.is_none(), "it dies");
    lab.plan.reset();
}

/// What is late arrives a second after the ADD has begun, which is over then or waits for just that.
async fn add_beside_late(lab: &Lab) -> Result<AddResult, CallError> {
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.plan.deliver_late().await;
    };
    // An ADD that waits sees the node's clock go on.
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Lab::set_clock(1);
        }
    };
    let adding = async {
        tokio::select! {
            answer = lab.add() => answer,
            () = ticking => unreachable!("it never ends"),
        }
    };
    futures_util::future::join(adding, late).await.0
}

/// The pod has all that it needs, and nothing else is there.
#[track_caller]
pub(crate) fn assert_runs(lab: &Lab, when: &str) {
    let claims = lab.claims();
    assert_eq!(claims.len(), 1, "{when}: a running pod has a claim");
    assert_eq!(lab.pod_ports(), [claims[0].port], "{when}: a running pod has the port of its claim and no other");
    assert_eq!(lab.links().len(), 2, "{when}: a running pod has an interface");
    let requested = lab.requested.borrow().clone();
    let seeds: Vec<_> = requested.addresses.iter().skip(1).zip(requested.mac).map(|(a, mac)| (*a, mac)).collect();
    assert_eq!(lab.seeds(), seeds, "{when}: its port has all its addresses");
    assert_eq!(lab.seeded_macs(), seeds.len(), "{when}: and its MAC is behind that port alone");
    lab.assert_connected(&claims[0], when);
    lab.assert_reached(&claims[0], when);
    lab.assert_ports_have_claims(when);
}

async fn point(verb: Verb, engine: LabEngine, disturbance: Disturbance, then: Then, late: Late, name: &str) -> bool {
    let when = format!("{engine:?}: {verb:?}, {disturbance:?} ({name}), then {then:?}, late requests {late:?}");
    let lab = Box::pin(lab(verb, engine)).await;
    match disturbance {
        Disturbance::Fault(at, fault) => lab.plan.arm(at, fault),
        Disturbance::Detour(detour) => lab.detour(Some(detour)),
    }
    let answer = Box::pin(run(&lab, verb)).await;
    // Not the effect of that number in an earlier run: a claim that meets a taken address commits once more.
    let struck = match disturbance {
        Disturbance::Fault(at, _) => lab.plan.passed().into_iter().nth(at).unwrap_or_default(),
        Disturbance::Detour(_) => String::new(),
    };
    lab.plan.reset();
    lab.detour(None);
    if matches!(disturbance, Disturbance::Fault(_, Fault::CrashLate)) && struck.starts_with("kernel:") {
        // No operation of the kernel arrives late.
        return false;
    }
    if late == Late::Before {
        lab.plan.deliver_late().await;
    }
    if verb != Verb::LostAdd {
        lab.assert_ports_have_claims(&when);
    }
    let mut address = first_address(&lab);
    let succeeded = matches!(answer, Some(Ok(_)));
    let must_call = match verb {
        // After a successful ADD there is a pod; after a DEL that failed or died the runtime calls again.
        Verb::Add
        | Verb::FurtherAdd
        | Verb::AddWithRequest
        | Verb::ColdAdd
        | Verb::LostAdd
        | Verb::GrowingAdd
        | Verb::UndoneAdd => succeeded || answer.is_none(),
        // After a failed GC the attachment may still exist: the runtime calls GC again.
        Verb::Del | Verb::DelWithRequest | Verb::FencingDel | Verb::Gc => !succeeded,
        Verb::RetryPending | Verb::Fence => false,
    };
    if then == Then::Nothing && must_call {
        return false;
    }
    if matches!(verb, Verb::Del | Verb::DelWithRequest | Verb::FencingDel | Verb::Gc) && succeeded {
        no_interface(&lab, &when);
    }
    if then == Then::AddDel {
        let claimed = lab.claims().first().map(|claim| claim.addresses[0].address);
        let again = if late == Late::Beside { add_beside_late(&lab).await } else { lab.add().await };
        let again = again.unwrap_or_else(|error| panic!("{when}: the retried ADD: {error:?}"));
        if let Some(claimed) = claimed {
            assert_eq!(again.addresses[0].0, claimed, "{when}: another address");
        }
        if let Some(Ok(Some(first))) = answer {
            assert_eq!(again, first, "{when}: another result");
        }
        assert_runs(&lab, &when);
        address = first_address(&lab);
        // A later call on this node must not take it for pending cleanup.
        lab.retry_pending_cleanup().await;
        assert_eq!((lab.claims().len(), lab.pod_ports().len(), lab.links().len()), (1, 1, 2), "{when}: it was drained");
    }
    if then == Then::Collect {
        lab.pass(120).await;
        lab.collect().await.unwrap_or_else(|error| panic!("{when}: GC: {error:?}"));
        no_interface(&lab, &when);
        if verb == Verb::FurtherAdd {
            // GC knows no namespace. Rules by source go with it, or with the next ADD in it.
            lab.kernel.remove_netns(NETNS.as_ref());
            lab.kernel.add_netns(NETNS);
        }
    }
    if matches!(then, Then::AddDel | Then::Del) {
        lab.del().await.unwrap_or_else(|error| panic!("{when}: DEL: {error:?}"));
        no_interface(&lab, &when);
        lab.del().await.unwrap_or_else(|error| panic!("{when}: DEL again: {error:?}"));
    }
    lab.retry_pending_cleanup().await;
    lab.assert_ports_have_claims(&when);
    if engine == LabEngine::Ovn {
        give_away(&lab, address, is_left_to_gc(&struck), &when).await;
        return true;
    }
    lab.plan.deliver_late().await;
    lab.assert_ports_have_claims(&when);
    lab.pass_request_lifetime().await;
    for _ in 0..2 {
        lab.retry_pending_cleanup().await;
    }
    lab.assert_empty(&when);
    true
}

pub(crate) fn first_address(lab: &Lab) -> Option<IpAddr> {
    lab.claims().first().map(|claim| claim.addresses[0].address.ip())
}

/// The effect is of the node's Open vSwitch, or of how the node reaches its pods. What a call could not disconnect there, or
/// connects late, is GC's.
fn is_left_to_gc(effect: &str) -> bool {
    effect.starts_with("switch:") || effect.starts_with("kernel: host to pod:")
}

/// Nothing has to be waited for: all is gone, and another pod has the address when the late requests arrive. They change
/// nothing of it, and leave nothing.
pub(crate) async fn give_away(lab: &Lab, address: Option<IpAddr>, is_left: bool, when: &str) {
    if is_left {
        lab.assert_empty_but_what_gc_collects(when);
    } else {
        lab.assert_empty(when);
    }
    // The address is in cool-down.
    lab.pass(60).await;
    let requested = AddressRequest { addresses: address.into_iter().collect(), ..AddressRequest::default() };
    let sandbox = "/netns/other".to_owned();
    let next = AddCall { attachment: attachment("next", "eth0"), requested, sandbox, ..lab.call() };
    let given =
        Box::pin(lab.plugin().add(&next)).await.unwrap_or_else(|error| panic!("{when}: the next pod: {error:?}"));
    assert!(address.is_none_or(|address| given.addresses[0].0.ip() == address), "{when}: it has the address");
    lab.plan.deliver_late().await;
    lab.retry_pending_cleanup().await;
    let when = format!("{when}, beside the next pod");
    let claims = lab.claims();
    assert_eq!(claims.len(), 1, "{when}: claims");
    assert_eq!(lab.pod_ports(), [claims[0].port], "{when}: ports");
    assert_eq!(lab.links().len(), 2, "{when}: links");
    lab.assert_connected(&claims[0], &when);
    if !is_left {
        lab.assert_reached(&claims[0], &when);
    }
    lab.assert_ports_have_claims(&when);
    Box::pin(lab.plugin().del(&del(&next))).await.unwrap_or_else(|error| panic!("{when}: its DEL: {error:?}"));
    if !is_left {
        lab.assert_empty(&when);
    }
    lab.collect().await.unwrap_or_else(|error| panic!("{when}: GC: {error:?}"));
    lab.assert_empty(&when);
    // What the pods of a subnet shared goes with the second GC that finds none.
    lab.collect().await.unwrap_or_else(|error| panic!("{when}: GC again: {error:?}"));
    lab.assert_no_sides(&when);
}

#[expect(clippy::print_stderr, reason = "how much was covered is part of the result")]
fn eprint_points(verb: impl std::fmt::Debug, points: usize, effects: usize) {
    eprintln!("{verb:?}: {points} points covered, {effects} effects");
}

async fn sweep(verb: Verb, thens: &[Then]) {
    sweep_with(verb, V5, thens).await;
}

async fn sweep_with(verb: Verb, engine: LabEngine, thens: &[Then]) {
    let effects = Box::pin(effects(verb, engine)).await;
    assert!(effects.len() > 2, "{effects:?}");
    let mut points = 0;
    for (at, name) in effects.iter().enumerate() {
        for fault in Fault::ALL {
            if fault == Fault::CrashLate && name.starts_with("kernel:") {
                continue;
            }
            let lates: &[Late] = match fault {
                Fault::CrashLate => &[Late::Before, Late::Beside, Late::After],
                // The dead ADD's request is on its way whatever happens to this call.
                _ if verb == Verb::FencingDel => &[Late::Before, Late::After],
                _ => &[Late::Before],
            };
            for then in thens {
                for late in lates.iter().filter(|late| **late != Late::Beside || *then == Then::AddDel) {
                    let point = point(verb, engine, Disturbance::Fault(at, fault), *then, *late, name);
                    points += usize::from(Box::pin(point).await);
                }
            }
        }
    }
    eprint_points(verb, points, effects.len());
}

/// A gateway answers a request in the controller's place, or that one and all that follow: with an empty body, and in the
/// form of the API's own errors. Its answer has no information on a port.
async fn detours(verb: Verb) {
    let effects = Box::pin(effects(verb, V5)).await;
    let requests: Vec<_> = effects.iter().filter(|name| name.starts_with("controller:")).collect();
    assert!(!requests.is_empty(), "{effects:?}");
    let mut points = 0;
    for (after, name) in requests.iter().enumerate() {
        for body in ["", r#"{"message":"Not Found","code":404}"#] {
            // Twice is once more than a request is repeated.
            for times in [1, 2, usize::MAX] {
                for then in ALL {
                    let disturbance = Disturbance::Detour(Detour { after, times, body });
                    points += usize::from(Box::pin(point(verb, V5, disturbance, then, Late::Before, name)).await);
                }
            }
        }
    }
    eprint_points(verb, points, requests.len());
}

const ALL: [Then; 4] = [Then::AddDel, Then::Del, Then::Collect, Then::Nothing];

#[tokio::test(start_paused = true)]
async fn add_leaks_nothing_wherever_it_fails() {
    sweep(Verb::Add, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_add_of_a_tenant_leaks_nothing_wherever_it_fails() {
    sweep(Verb::ColdAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_that_makes_its_tenant_grow_leaks_nothing_wherever_it_fails() {
    // A DEL right after it meets nothing that it does not meet after a cold ADD.
    sweep(Verb::GrowingAdd, &[Then::AddDel, Then::Nothing]).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_that_is_undone_leaks_nothing_wherever_that_fails() {
    sweep(Verb::UndoneAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn resolving_tombstones_leaks_nothing_wherever_it_fails() {
    sweep(Verb::RetryPending, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_whose_claim_was_lost_leaks_nothing_wherever_it_fails() {
    for engine in [V5, V1] {
        sweep_with(Verb::LostAdd, engine, &[Then::AddDel]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn resolving_a_fence_leaks_nothing_wherever_it_fails() {
    for engine in [V5, V1] {
        sweep_with(Verb::Fence, engine, &ALL).await;
    }
}

/// The runtime knows the attachment, so that nothing is undone; its DEL must know what the ADD had on its way.
#[tokio::test(start_paused = true)]
async fn an_add_that_fails_over_a_finished_one_does_not_forget_what_it_has_on_its_way() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    die(&lab, Verb::Del, "DELETE", Fault::CrashAfter).await;
    lab.controller_state.set(ServerState::Slow);
    lab.add().await.expect_err("its port is not answered for");
    lab.controller_state.set(ServerState::Fine);
    lab.del().await.expect("works");
    lab.retry_pending_cleanup().await;
    assert!(lab.catch_up().await > 0, "now the port comes");
    lab.assert_ports_have_claims("it came late");
    lab.pass_request_lifetime().await;
    lab.retry_pending_cleanup().await;
    lab.assert_empty("at the end");
}

#[tokio::test(start_paused = true)]
async fn an_add_with_requests_leaks_nothing_wherever_it_fails() {
    sweep(Verb::AddWithRequest, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_of_a_further_interface_leaks_nothing_wherever_it_fails() {
    sweep(Verb::FurtherAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn the_del_of_an_add_with_requests_leaks_nothing_wherever_it_fails() {
    sweep(Verb::DelWithRequest, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn gc_leaks_nothing_wherever_it_fails() {
    sweep(Verb::Gc, &ALL).await;
}

/// The other API: a port is made in two requests.
#[tokio::test(start_paused = true)]
async fn with_the_older_api_nothing_leaks_wherever_it_fails() {
    for verb in [Verb::Add, Verb::UndoneAdd, Verb::Del, Verb::DelWithRequest, Verb::RetryPending] {
        sweep_with(verb, V1, &[Then::AddDel, Then::Del]).await;
    }
}

/// Two calls die in a row, each at every effect; an ADD succeeds; then their in-flight requests arrive. The pod keeps its
/// network, and its DEL leaves nothing.
#[tokio::test(start_paused = true)]
async fn whatever_died_before_the_pod_of_an_add_keeps_its_port() {
    let all = [[LATE, LATE], [LATE, Fault::CrashAfter], [Fault::CrashAfter, LATE]];
    for engine in [V5, V1] {
        rows_of_dying_calls(engine, &[Late::Beside], &all).await;
    }
}

/// With OVN they also arrive after everything.
#[tokio::test(start_paused = true)]
async fn with_ovn_whatever_died_before_the_pod_of_an_add_keeps_its_port() {
    rows_of_dying_calls(LabEngine::Ovn, &[Late::Beside, Late::After], &[[LATE, LATE]]).await;
}

const LATE: Fault = Fault::CrashLate;

async fn rows_of_dying_calls(engine: LabEngine, lates: &[Late], all: &[[Fault; 2]]) {
    use Verb::{Add, Del, UndoneAdd};
    let mut points = 0;
    for late in lates {
        for (begun, dying) in [(Add, [Del, Add]), (Add, [Del, Del]), (UndoneAdd, [Del, Add]), (Add, [Add, Del])] {
            // The last of the three: the first works, or is the dead one itself.
            let dies = |verb, effect, fault| Step { verb, effect, fault };
            let mut first = 0;
            loop {
                let mut second = 0;
                let mut is_over = true;
                loop {
                    let mut is_last = true;
                    for faults in all {
                        let steps = [dies(dying[0], first, faults[0]), dies(dying[1], second, faults[1])];
                        let [one, two] = Box::pin(in_a_row(engine, begun, steps, *late)).await;
                        points += 1;
                        is_over &= !one;
                        is_last &= !two;
                    }
                    if is_last {
                        break;
                    }
                    second += 1;
                }
                if is_over {
                    break;
                }
                first += 1;
            }
        }
    }
    eprint_points(Add, points, 0);
}

/// A call that dies.
#[derive(Clone, Copy, Debug)]
struct Step {
    verb: Verb,
    effect: usize,
    fault: Fault,
}

/// Lets these calls die in a row, then an ADD succeed and a DEL take it apart. Which of them had the effect at which it was
/// to die.
async fn in_a_row(engine: LabEngine, begun: Verb, steps: [Step; 2], late: Late) -> [bool; 2] {
    let when = format!("{engine:?}: after {begun:?}, {steps:?}, late requests {late:?}");
    let mut is_left = false;
    let lab = match begun {
        Verb::UndoneAdd => lab(begun, engine).await,
        _ => lab(Verb::Add, engine).await,
    };
    // Of a first ADD only what it leaves counts.
    drop(run(&lab, begun).await);
    let mut died = [false; 2];
    for (place, step) in steps.iter().enumerate() {
        lab.plan.arm(step.effect, step.fault);
        died[place] = run(&lab, step.verb).await.is_none();
        let at = lab.plan.passed().into_iter().nth(step.effect).unwrap_or_default();
        lab.plan.reset();
        is_left |= is_left_to_gc(&at);
        // No operation of the kernel arrives late.
        if died[place] && step.fault == Fault::CrashLate && at.starts_with("kernel:") {
            return died;
        }
    }
    let added = if late == Late::Beside { add_beside_late(&lab).await } else { lab.add().await };
    added.unwrap_or_else(|error| panic!("{when}: {error:?}"));
    assert_runs(&lab, &when);
    let address = first_address(&lab);
    lab.retry_pending_cleanup().await;
    assert_runs(&lab, &when);
    lab.del().await.unwrap_or_else(|error| panic!("{when}: DEL: {error:?}"));
    lab.assert_ports_have_claims(&when);
    if engine == LabEngine::Ovn {
        lab.retry_pending_cleanup().await;
        give_away(&lab, address, is_left, &when).await;
        return died;
    }
    lab.pass_request_lifetime().await;
    for _ in 0..2 {
        lab.retry_pending_cleanup().await;
    }
    lab.assert_empty(&when);
    died
}

/// Only what may be hit by a late deletion has another id.
#[tokio::test(start_paused = true)]
async fn a_ports_id_changes_only_after_a_deletion_that_may_still_arrive() {
    let lab = Lab::warm().await;
    let port = |lab: &Lab| lab.claims()[0].port;
    lab.add().await.expect("works");
    let first = port(&lab);
    lab.add().await.expect("works");
    assert_eq!(port(&lab), first, "an ADD again");
    lab.del().await.expect("works");
    lab.add().await.expect("works");
    assert_eq!(port(&lab), first, "a DEL whose requests were all answered");

    die(&lab, Verb::Del, "DELETE", Fault::CrashLate).await;
    lab.add().await.expect("works");
    let second = port(&lab);
    assert_ne!(second, first, "a deletion is on its way");
    lab.del().await.expect("works");
    lab.add().await.expect("works");
    let third = port(&lab);
    assert!(third != first && third != second, "it still is, also for the claim after that one");
    assert_eq!(lab.plan.deliver_late().await, 1);
    assert_runs(&lab, "the deletion has arrived");
    lab.del().await.expect("works");
    lab.pass_request_lifetime().await;
    lab.pass_request_lifetime().await;
    lab.add().await.expect("works");
    assert_eq!(port(&lab), first, "none can be on its way any more");
    lab.del().await.expect("works");
    lab.assert_empty("at the end");
}

#[tokio::test(start_paused = true)]
async fn del_leaks_nothing_wherever_it_fails() {
    sweep(Verb::Del, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_gateways_that_answer_for_the_controller_leaks_nothing() {
    for verb in [
        Verb::Add,
        Verb::AddWithRequest,
        Verb::UndoneAdd,
        Verb::Del,
        Verb::DelWithRequest,
        Verb::RetryPending,
        Verb::Gc,
    ] {
        detours(verb).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_gateways_before_the_first_add_of_a_tenant_leaks_nothing() {
    detours(Verb::ColdAdd).await;
}

/// Everything above, with OVN: no time passes for late requests.
async fn with_ovn(verb: Verb, thens: &[Then]) {
    sweep_with(verb, LabEngine::Ovn, thens).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_an_add_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::Add, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_a_del_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::Del, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_the_del_of_a_dead_add_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::FencingDel, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_resolving_tombstones_and_fences_leaks_nothing_wherever_it_fails() {
    for verb in [Verb::RetryPending, Verb::Fence] {
        with_ovn(verb, &ALL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_ovn_an_add_that_is_undone_leaks_nothing_wherever_that_fails() {
    with_ovn(Verb::UndoneAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_the_first_add_of_a_tenant_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::ColdAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_an_add_that_makes_its_tenant_grow_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::GrowingAdd, &[Then::AddDel, Then::Nothing]).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_an_add_whose_claim_was_lost_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::LostAdd, &[Then::AddDel]).await;
}

#[tokio::test(start_paused = true)]
async fn with_ovn_requests_of_pods_leak_nothing_wherever_a_call_fails() {
    for verb in [Verb::AddWithRequest, Verb::DelWithRequest, Verb::FurtherAdd] {
        with_ovn(verb, &ALL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_ovn_gc_leaks_nothing_wherever_it_fails() {
    with_ovn(Verb::Gc, &ALL).await;
}

/// A call that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Check,
    /// That asks the servers too.
    Status,
}

impl Reading {
    async fn run(self, lab: &Lab, attached: &AddResult) -> Result<(), CallError> {
        match self {
            Self::Check => check::check(lab, &check::call(lab, attached, Version::V1_1_0)).await,
            Self::Status => {
                let mut plugin = lab.plugin();
                plugin.config.status = StatusMode::Strict;
                // The lab's engine knows this host.
                plugin.config.host_id = Some(lab.call().node.host_id);
                Box::pin(plugin.status()).await
            }
        }
    }
}

/// Everything that a call could change.
fn everything(lab: &Lab) -> impl PartialEq + std::fmt::Debug {
    (lab.etcd.dump(), lab.pod_ports(), lab.interfaces(), lab.connected(), lab.links(), lab.leftovers())
}

/// The codes of a CHECK and of a STATUS that could not read the kernel.
const UNREADABLE_NODE: &[u32] = &[103, 50];
/// The code of one that could not read a server.
const TRY_AGAIN: &[u32] = &[11];

async fn reading(engine: LabEngine, reading: Reading) {
    let pod = async || {
        let lab = Box::pin(lab(Verb::Del, engine)).await;
        let attached = lab.add().await.expect("an ADD again has the same result");
        lab.plan.reset();
        (lab, attached)
    };
    let (lab, attached) = Box::pin(pod()).await;
    reading.run(&lab, &attached).await.expect("it works without faults");
    let effects = lab.plan.passed();
    let asked = |what: &[&str]| effects.iter().any(|effect| what.iter().any(|what| effect.starts_with(what)));
    assert!(asked(&["store:"]) && asked(&["northbound:", "switch:", "controller:"]), "{effects:?}");
    let mut points = 0;
    for (at, name) in effects.iter().enumerate() {
        for fault in Fault::ALL {
            let when = format!("{engine:?}: {reading:?}, {fault:?} at {at} ({name})");
            let (lab, attached) = Box::pin(pod()).await;
            let before = everything(&lab);
            lab.plan.arm(at, fault);
            let answer = lab.plan.run(reading.run(&lab, &attached)).await;
            lab.plan.reset();
            lab.plan.deliver_late().await;
            if let Some(Err(error)) = answer {
                // What could not be read is no difference of the pod.
                let code = error.class().cni_code();
                let expected = if name.starts_with("kernel:") { UNREADABLE_NODE } else { TRY_AGAIN };
                assert!(expected.contains(&code), "{when}: code {code}, not one of {expected:?}: {error:?}");
            }
            assert_eq!(everything(&lab), before, "{when}: it changed something");
            assert_runs(&lab, &when);
            reading.run(&lab, &attached).await.unwrap_or_else(|error| panic!("{when}: once more: {error:?}"));
            lab.del().await.unwrap_or_else(|error| panic!("{when}: DEL: {error:?}"));
            lab.assert_empty(&when);
            points += 1;
        }
    }
    eprint_points(reading, points, effects.len());
}

#[tokio::test(start_paused = true)]
async fn check_and_status_change_nothing_wherever_they_fail() {
    for which in [Reading::Check, Reading::Status] {
        reading(V5, which).await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_ovn_check_and_status_change_nothing_wherever_they_fail() {
    for which in [Reading::Check, Reading::Status] {
        reading(LabEngine::Ovn, which).await;
    }
}
