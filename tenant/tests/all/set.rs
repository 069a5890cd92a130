//! What operators set of a tenant: it comes into effect, it goes again, and no failure leaves it half done.

use atoll_records::{Phase, StaticRoute, Via};
use atoll_testkit::controller::InProcess;
use atoll_testkit::fault::{Fault, FaultPlan};
use atoll_testkit::store::{FaultyStore, MemoryStore};
use atoll_testkit::transport::FaultyTransport;
use std::time::Duration;

use atoll_mock_controller::Dialect;

use atoll_model::error::{Class, Classify as _};
use atoll_model::ids::TenantName;
use atoll_model::topology::RouteAction;

use crate::fixture::graph;
use atoll_network::Engine;
use atoll_store::Store;
use atoll_tenant::TenantError;
use atoll_tenant::admin::{self, Admin, Edit, Update};
use futures_util::future::join;

use crate::fixture::{DIALECTS, Fixture, engine, namespace};

const REQUEST_LIFETIME: Duration = Duration::from_secs(45);

fn red() -> TenantName {
    TenantName::new("red").expect("valid")
}

fn admin<'a, E: Engine>(fixture: &'a Fixture, controller: &'a E) -> Admin<'a, MemoryStore, E> {
    Admin { store: &fixture.store, engine: controller, config: &fixture.config }
}

fn route(destination: &str, via: Via) -> StaticRoute {
    StaticRoute { destination: destination.parse().expect("valid"), via }
}

fn add(routes: impl IntoIterator<Item = StaticRoute>) -> Edit {
    Edit { add_routes: routes.into_iter().collect(), ..Edit::default() }
}

/// An address of the tenant's subnet that a pod could have.
fn hop(fixture: &Fixture) -> Via {
    Via::Gateway(fixture.records("red").1.subnets[0].prefixes[0].cidr.iter().nth(9).expect("large"))
}

/// The routes to 10.9.0.0/16 in the controller.
fn made(fixture: &Fixture) -> Vec<RouteAction> {
    let routes = fixture.made().routes.into_values();
    routes.filter(|route| route.destination.to_string() == "10.9.0.0/16").map(|route| route.action).collect()
}

/// Before any change: the engine of these tests has no DNS of its own.
#[tokio::test(start_paused = true)]
async fn a_domain_that_the_engine_has_no_names_for_is_refused() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    let (engine, before) = (fixture.engine(), fixture.records("red").1);
    let domain = Update::To("red.internal".parse().expect("a domain"));
    let edit = Edit { pod_domain: domain, subnets: Update::To(4), ..Edit::default() };
    let error = admin::set(&admin(&fixture, &engine), &red(), &edit, REQUEST_LIFETIME, |_| {}).await;
    let error = error.expect_err("refused");
    assert_eq!(error.class(), Class::Unsupported, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--nameserver")), "{error}");
    assert_eq!(fixture.records("red").1, before);
    let edit = Edit { pod_domain: Update::Clear, ..edit };
    admin::set(&admin(&fixture, &engine), &red(), &edit, REQUEST_LIFETIME, |_| {}).await.expect("there is none");
}

#[tokio::test(start_paused = true)]
async fn routes_come_are_replaced_and_go() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let engine = fixture.engine();
        let admin = admin(&fixture, &engine);
        let wanted = [route("10.9.0.0/16", hop(&fixture)), route("169.254.169.254/32", Via::Reject)];
        admin::set(&admin, &red(), &add(wanted), REQUEST_LIFETIME, |_| {}).await.expect("set");
        fixture.assert_exactly(&["red"], "two routes");
        assert!(matches!(made(&fixture)[..], [RouteAction::Forward { gateway: Some(_), .. }]), "{:?}", made(&fixture));
        assert_eq!(admin::plan(&admin, &red()).await.expect("planned"), [], "{dialect:?}");

        // The subnet of the next hop stays while the route needs it.
        admin::add_subnet(&admin, &red(), &[], &[]).await.expect("added");
        let error = admin::delete_subnet(&admin, &red(), 1, Duration::ZERO, |_| {}).await.expect_err("needed");
        assert!(matches!(error, TenantError::Needed { .. }), "{error}");

        let (before, after) =
            admin::set(&admin, &red(), &add([route("10.9.0.0/16", Via::Blackhole)]), REQUEST_LIFETIME, |_| {})
                .await
                .expect("set");
        assert_eq!((before.routes.len(), after.routes.len(), after.retired.len()), (2, 2, 0));
        assert_eq!(made(&fixture), [RouteAction::BlackHole], "{dialect:?}: the other is gone");
        assert_eq!(after.phase, Phase::Active);
        fixture.assert_exactly(&["red"], "replaced");

        let destinations = after.routes.iter().map(|route| route.destination).collect();
        let nothing = Edit { remove_routes: destinations, ..Edit::default() };
        admin::set(&admin, &red(), &nothing, REQUEST_LIFETIME, |_| {}).await.expect("set");
        fixture.assert_exactly(&["red"], "none");
        assert_eq!(made(&fixture), [], "{dialect:?}");
        admin::delete_subnet(&admin, &red(), 1, Duration::ZERO, |_| {}).await.expect("not needed any more");
        fixture.assert_exactly(&["red"], "one subnet");
    }
}

#[tokio::test]
async fn setting_what_is_set_changes_nothing() {
    let fixture = Fixture::new(Dialect::V5);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    let engine = fixture.engine();
    let admin = admin(&fixture, &engine);
    let edit = Edit { subnets: Update::To(3), ..add([route("10.9.0.0/16", Via::Reject)]) };
    admin::set(&admin, &red(), &edit, REQUEST_LIFETIME, |_| {}).await.expect("set");
    let (there, requests) = (fixture.store.dump(), fixture.requests.get());
    admin::set(&admin, &red(), &edit, REQUEST_LIFETIME, |_| {}).await.expect("set");
    assert_eq!((fixture.store.dump(), fixture.requests.get()), (there, requests));
}

#[tokio::test(start_paused = true)]
async fn wherever_setting_fails_the_next_call_completes_it() {
    let mut points = 0;
    for dialect in DIALECTS {
        let effects = {
            let (fixture, plan) = (prepared(dialect).await, FaultPlan::none());
            assert_eq!(Box::pin(disturbed(&fixture, &plan)).await, Some(true), "nothing goes wrong");
            plan.passed()
        };
        for (at, effect) in effects.iter().enumerate() {
            for fault in Fault::ALL {
                let context = format!("{dialect:?}: {fault:?} at effect {at} ({effect})");
                let (fixture, plan) = (prepared(dialect).await, FaultPlan::none());
                plan.arm(at, fault);
                Box::pin(disturbed(&fixture, &plan)).await;
                plan.reset();
                points += 1;
                // A pod is admitted, and finds the tenant as in the record, before or after.
                fixture.resolve(&namespace("red")).await.unwrap_or_else(|error| panic!("{context}: {error}"));
                fixture.assert_exactly(&["red"], &context);
                let engine = fixture.engine();
                admin::set(&admin(&fixture, &engine), &red(), &edit(), REQUEST_LIFETIME, |_| {})
                    .await
                    .unwrap_or_else(|e| panic!("{context}: {e}"));
                let now = fixture.records("red").1;
                assert_eq!((now.phase, &now.routes, &now.retired[..]), (Phase::Active, &edit().add_routes, &[][..]));
                fixture.assert_exactly(&["red"], &context);
                plan.deliver_late().await;
                fixture.resolve(&namespace("red")).await.unwrap_or_else(|error| panic!("late: {context}: {error}"));
                if dialect == Dialect::V5 {
                    fixture.assert_exactly(&["red"], &format!("late: {context}"));
                }
            }
        }
        println!("{dialect:?}: {} effects", effects.len());
    }
    println!("setting: {points} points covered");
}

/// A tenant with a route that `edit` replaces.
async fn prepared(dialect: Dialect) -> Fixture {
    let fixture = Fixture::new(dialect);
    fixture.resolve(&namespace("red")).await.expect("resolved");
    let engine = fixture.engine();
    admin::set(
        &admin(&fixture, &engine),
        &red(),
        &add([route("10.9.0.0/16", hop(&fixture))]),
        REQUEST_LIFETIME,
        |_| {},
    )
    .await
    .expect("set");
    fixture
}

fn edit() -> Edit {
    add([route("10.9.0.0/16", Via::Reject)])
}

/// One setting that the plan may disturb. None: its process died. True: it succeeded.
async fn disturbed(fixture: &Fixture, plan: &FaultPlan) -> Option<bool> {
    let store = FaultyStore::new(fixture.store.clone(), plan.clone());
    let controller = engine(FaultyTransport::<InProcess>::new(fixture.mock.clone(), plan.clone()));
    let admin = Admin { store: &store, engine: &controller, config: &fixture.config };
    plan.run(set_red(&admin)).await
}

async fn set_red<S: Store, E: Engine>(admin: &Admin<'_, S, E>) -> bool {
    admin::set(admin, &red(), &edit(), REQUEST_LIFETIME, |_| {}).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_late_route_of_a_dead_build_is_deleted_after_the_request_lifetime() {
    for dialect in DIALECTS {
        let fixture = prepared(dialect).await;
        let engine = fixture.engine();
        let (cluster, record) = fixture.records("red");
        let count = |fixture: &Fixture| fixture.made().routes.len();
        let with_route = count(&fixture);
        let late = async {
            tokio::time::sleep(REQUEST_LIFETIME / 2).await;
            assert_eq!(count(&fixture), with_route - 1, "{dialect:?}: the route is gone by now");
            assert_eq!(fixture.records("red").1.retired.len(), 1, "and not forgotten yet");
            fixture
                .engine()
                .ensure_network(&graph(&cluster, &record).network)
                .await
                .expect("the controller knows no fencing");
            assert_eq!(count(&fixture), with_route, "{dialect:?}: and there again");
        };
        let remove = Edit { remove_routes: vec!["10.9.0.0/16".parse().expect("valid")], ..Edit::default() };
        let admin = admin(&fixture, &engine);
        let (set, ()) = join(admin::set(&admin, &red(), &remove, REQUEST_LIFETIME, |_| {}), late).await;
        let (_, after) = set.expect("set");
        assert_eq!((after.routes.len(), after.retired.len(), after.phase), (0, 0, Phase::Active));
        fixture.assert_exactly(&["red"], &format!("{dialect:?}: no route"));
    }
}

/// The route is set again between the two deletions: it stays.
#[tokio::test(start_paused = true)]
async fn a_route_that_comes_back_in_time_stays() {
    for dialect in DIALECTS {
        let fixture = prepared(dialect).await;
        let engine = fixture.engine();
        let wanted = fixture.records("red").1.routes;
        let admin = admin(&fixture, &engine);
        let again = async {
            tokio::time::sleep(REQUEST_LIFETIME / 2).await;
            let back = Edit { add_routes: wanted.clone(), ..Edit::default() };
            admin::set(&admin, &red(), &back, REQUEST_LIFETIME, |_| {}).await.expect("set");
        };
        let remove = Edit { remove_routes: vec!["10.9.0.0/16".parse().expect("valid")], ..Edit::default() };
        let (set, ()) = join(admin::set(&admin, &red(), &remove, REQUEST_LIFETIME, |_| {}), again).await;
        let (_, after) = set.expect("set");
        assert_eq!((after.routes, after.retired.len()), (wanted, 0));
        fixture.assert_exactly(&["red"], &format!("{dialect:?}: it is there"));
    }
}
