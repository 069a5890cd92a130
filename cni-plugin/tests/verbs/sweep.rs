//! Everything that can go wrong at every effect of ADD and DEL: the process dies before it, after it, or with the request
//! on its way; the answer is lost; it is refused. Then the runtime does what runtimes do, or nothing at all; the late
//! request arrives early or late; the quiet period passes; and nothing may be left.
//!
//! A kernel operation cannot arrive late: it happens inside the call. That fault is left out for the wire.

use atoll_cni_plugin::add::AddCall;
use atoll_model::attachment::Mac;
use atoll_model::cni::result::Attached;
use atoll_model::fault::Fault;
use atoll_model::wish::Wish;

use crate::lab::{Detour, Lab, Mood, NETNS, attachment, del};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
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
    /// After everything, just before the quiet period ends.
    After,
}

/// Which call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    /// Of a pod that asks for two addresses and a MAC.
    WishingAdd,
    /// Its DEL.
    WishedDel,
    /// Of a further interface.
    FurtherAdd,
    /// Of a tenant that nobody has heard of.
    ColdAdd,
    /// Of a tenant whose subnet is full: it gets another.
    GrowingAdd,
    /// That fails at its last step and undoes everything.
    UndoneAdd,
    Del,
    /// Settling what a DEL left while the controller was down.
    Drain,
    /// Of an attachment that the runtime has forgotten, and of one whose DEL left a tombstone.
    Gc,
}

async fn lab(verb: Verb) -> Lab {
    match verb {
        Verb::ColdAdd => Lab::cold(),
        Verb::Add => Lab::warm().await,
        Verb::WishingAdd => wishing().await,
        Verb::FurtherAdd => {
            let lab = Lab::warm().await;
            lab.interface.set("eth1");
            lab
        }
        Verb::WishedDel => {
            let lab = wishing().await;
            lab.add().await.expect("it works without faults");
            lab
        }
        Verb::GrowingAdd => Lab::full().await,
        Verb::Del => {
            let lab = Lab::warm().await;
            lab.add().await.expect("it works without faults");
            lab
        }
        Verb::UndoneAdd => {
            let lab = Lab::warm().await;
            lab.bad_route.set(true);
            lab
        }
        Verb::Gc => {
            let lab = Lab::warm().await;
            let buried =
                AddCall { attachment: attachment("buried", "eth0"), sandbox: "/netns/other".to_owned(), ..lab.call() };
            lab.world().add(&buried).await.expect("it works without faults");
            lab.controller_mood.set(Mood::Refusing);
            lab.world().del(&del(&buried)).await.expect("it leaves a tombstone");
            lab.controller_mood.set(Mood::Fine);
            lab.add().await.expect("it works without faults");
            lab.pass(120).await;
            lab
        }
        Verb::Drain => {
            let lab = Lab::warm().await;
            lab.add().await.expect("it works without faults");
            lab.controller_mood.set(Mood::Refusing);
            lab.del().await.expect("it leaves a tombstone");
            lab.controller_mood.set(Mood::Fine);
            lab
        }
    }
}

/// The pod asks for the addresses 7 and 9 of the first subnet, and for a MAC.
async fn wishing() -> Lab {
    let lab = Lab::warm().await;
    let subnet = lab.first_subnet();
    let addresses = [7, 9].map(|n| subnet.nth(n).expect("it is large enough")).to_vec();
    lab.wish.replace(Wish { addresses, mac: Some(Mac([2, 0, 0x5e, 0x10, 0, 9])), subnet: None });
    lab
}

/// Runs the verb under the plan: none, it died; else whether it succeeded.
async fn run(lab: &Lab, verb: Verb) -> Option<Result<Option<Attached>, String>> {
    let call = async {
        match verb {
            Verb::Add | Verb::FurtherAdd | Verb::WishingAdd | Verb::ColdAdd | Verb::GrowingAdd | Verb::UndoneAdd => {
                lab.add().await.map(Some).map_err(|error| error.to_string())
            }
            Verb::Del | Verb::WishedDel => lab.del().await.map(|()| None).map_err(|error| error.to_string()),
            Verb::Drain => {
                lab.drain().await;
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
async fn effects(verb: Verb) -> Vec<String> {
    let lab = lab(verb).await;
    lab.plan.reset();
    let answer = run(&lab, verb).await.expect("nobody dies");
    assert_eq!(answer.is_err(), verb == Verb::UndoneAdd, "{answer:?}");
    lab.plan.passed()
}

fn no_interface(lab: &Lab, when: &str) {
    assert_eq!(lab.links(), vec![], "{when}: the interface is still there");
}

async fn point(verb: Verb, harm: Harm, then: Then, late: Late, name: &str) -> bool {
    let when = format!("{verb:?}, {harm:?} ({name}), then {then:?}, late requests {late:?}");
    let lab = lab(verb).await;
    match harm {
        Harm::Fault(at, fault) => lab.plan.arm(at, fault),
        Harm::Detour(detour) => lab.detour(Some(detour)),
    }
    let answer = run(&lab, verb).await;
    lab.plan.reset();
    lab.detour(None);
    if late == Late::Before {
        lab.plan.deliver_late().await;
    }
    lab.assert_ports_have_claims(&when);
    let succeeded = matches!(answer, Some(Ok(_)));
    let must_call = match verb {
        // After a successful ADD there is a pod; after a DEL that failed or died the runtime calls again.
        Verb::Add | Verb::FurtherAdd | Verb::WishingAdd | Verb::ColdAdd | Verb::GrowingAdd | Verb::UndoneAdd => {
            succeeded || answer.is_none()
        }
        // After a GC that failed the attachment may still be there: whoever collects calls again.
        Verb::Del | Verb::WishedDel | Verb::Gc => !succeeded,
        Verb::Drain => false,
    };
    if then == Then::Nothing && must_call {
        return false;
    }
    if matches!(verb, Verb::Del | Verb::WishedDel | Verb::Gc) && succeeded {
        no_interface(&lab, &when);
    }
    if then == Then::AddDel {
        let claimed = lab.claims().first().map(|claim| claim.addresses[0].address);
        let again = lab.add().await.unwrap_or_else(|error| panic!("{when}: the retried ADD: {error:?}"));
        if let Some(claimed) = claimed {
            assert_eq!(again.addresses[0].0, claimed, "{when}: another address");
        }
        if let Some(Ok(Some(first))) = answer {
            assert_eq!(again, first, "{when}: another result");
        }
        assert_eq!(lab.claims().len(), 1, "{when}: a running pod has a claim");
        assert_eq!(lab.pod_ports().len(), 1, "{when}: a running pod has a port");
        assert_eq!(lab.links().len(), 2, "{when}: a running pod has an interface");
        let wished = lab.wish.borrow().clone();
        let seeds: Vec<_> = wished.addresses.iter().skip(1).zip(wished.mac).map(|(a, mac)| (*a, mac)).collect();
        assert_eq!(lab.seeds(), seeds, "{when}: it may speak with all its addresses");
        // A later call on this node must not mistake it for something owed.
        lab.drain().await;
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
    lab.drain().await;
    lab.assert_ports_have_claims(&when);
    lab.plan.deliver_late().await;
    lab.assert_ports_have_claims(&when);
    lab.pass_quiet_period().await;
    for _ in 0..2 {
        lab.drain().await;
    }
    lab.assert_empty(&when);
    true
}

#[expect(clippy::print_stderr, reason = "how much was covered is part of the result")]
fn eprint_points(verb: Verb, points: usize, effects: usize) {
    eprintln!("{verb:?}: {points} points covered, {effects} effects");
}

async fn sweep(verb: Verb, thens: &[Then]) {
    let effects = effects(verb).await;
    assert!(effects.len() > 2, "{effects:?}");
    let mut points = 0;
    for (at, name) in effects.iter().enumerate() {
        for fault in Fault::ALL {
            if fault == Fault::CrashLate && name.starts_with("wire:") {
                continue;
            }
            let lates: &[Late] = if fault == Fault::CrashLate { &[Late::Before, Late::After] } else { &[Late::Before] };
            for then in thens {
                for late in lates {
                    let point = point(verb, Harm::Fault(at, fault), *then, *late, name);
                    points += usize::from(Box::pin(point).await);
                }
            }
        }
    }
    eprint_points(verb, points, effects.len());
}

/// A gateway answers a request in the controller's place, or that one and all that follow: with nothing, and in the form
/// of the API's own errors. It says nothing about a port.
async fn detours(verb: Verb) {
    let effects = effects(verb).await;
    let requests: Vec<_> = effects.iter().filter(|name| name.starts_with("controller:")).collect();
    assert!(!requests.is_empty(), "{effects:?}");
    let mut points = 0;
    for (after, name) in requests.iter().enumerate() {
        for body in ["", r#"{"message":"Not Found","code":404}"#] {
            // Twice is once more than a request is repeated.
            for times in [1, 2, usize::MAX] {
                for then in ALL {
                    let harm = Harm::Detour(Detour { after, times, body });
                    points += usize::from(Box::pin(point(verb, harm, then, Late::Before, name)).await);
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
async fn settling_tombstones_leaks_nothing_wherever_it_fails() {
    sweep(Verb::Drain, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_with_wishes_leaks_nothing_wherever_it_fails() {
    sweep(Verb::WishingAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_of_a_further_interface_leaks_nothing_wherever_it_fails() {
    sweep(Verb::FurtherAdd, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn the_del_of_an_add_with_wishes_leaks_nothing_wherever_it_fails() {
    sweep(Verb::WishedDel, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn gc_leaks_nothing_wherever_it_fails() {
    sweep(Verb::Gc, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn del_leaks_nothing_wherever_it_fails() {
    sweep(Verb::Del, &ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_gateways_that_answer_for_the_controller_leaks_nothing() {
    for verb in [Verb::Add, Verb::WishingAdd, Verb::UndoneAdd, Verb::Del, Verb::WishedDel, Verb::Drain, Verb::Gc] {
        detours(verb).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_gateways_before_the_first_add_of_a_tenant_leaks_nothing() {
    detours(Verb::ColdAdd).await;
}
