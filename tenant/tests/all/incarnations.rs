//! Lifecycles of tenants: five hundred leave nothing, and late requests of an earlier incarnation have no effect on a
//! later one.

use std::time::Duration;

use crate::fixture::graph;
use atoll_mock_controller::Dialect;
use atoll_model::ids::TenantName;
use atoll_network::Engine as _;
use atoll_tenant::admin::{self, Admin, Deletion};

use crate::fixture::{DIALECTS, Fixture, namespace};

const GENTLY: Deletion = Deletion { request_lifetime: Duration::from_secs(45), force: false };

#[tokio::test(start_paused = true)]
async fn five_hundred_tenants_created_and_deleted_leave_nothing() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let engine = fixture.engine();
        let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
        fixture.resolve(&namespace("first")).await.expect("it makes the cluster's record and the node's");
        let names: Vec<_> = (0..500).map(|n| TenantName::new(format!("t{n}")).expect("valid")).collect();
        let before = (fixture.mock.dump(), records(&fixture));
        for name in &names {
            fixture.resolve(&namespace(name.as_str())).await.expect("created");
        }
        assert_eq!(fixture.keys()["tenants"], 501);
        for (name, outcome) in admin::prune(&admin, &names, GENTLY.request_lifetime).await {
            outcome.unwrap_or_else(|error| panic!("{dialect:?}: {name}: {error}"));
        }
        assert_eq!(records(&fixture), before.1, "{dialect:?}: the store");
        assert_eq!(fixture.mock.dump(), before.0, "{dialect:?}: the controller");
    }
}

fn records(fixture: &Fixture) -> Vec<(String, Vec<u8>)> {
    fixture.store.dump().into_iter().map(|entry| (entry.key.to_string(), entry.value)).collect()
}

#[tokio::test(start_paused = true)]
async fn late_requests_of_an_earlier_incarnation_do_not_affect_a_recreated_tenant() {
    for dialect in DIALECTS {
        let fixture = Fixture::new(dialect);
        let (engine, red) = (fixture.engine(), TenantName::new("red").expect("valid"));
        let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
        fixture.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, old) = fixture.records("red");
        let earlier = graph(&cluster, &old);
        admin::delete(&admin, &red, GENTLY, |_| {}).await.expect("deleted");
        let place = fixture.resolve(&namespace("red")).await.expect("recreated");
        let new = fixture.records("red").1;
        assert_ne!(new.incarnation, old.incarnation);
        let living = fixture.made();

        // A build and an operator of the earlier incarnation wake up: one makes everything once more, the other deletes it.
        fixture.engine().ensure_network(&earlier.network).await.expect("the controller knows no fencing");
        let both = fixture.made();
        assert!(living.ports.iter().all(|(id, port)| both.ports.get(id) == Some(port)), "{dialect:?}");
        assert!(living.routers.iter().all(|(id, router)| both.routers.get(id) == Some(router)), "{dialect:?}");
        assert!(living.chains.iter().all(|(id, chain)| both.chains.get(id) == Some(chain)), "{dialect:?}");
        assert_eq!(admin::plan(&admin, &red).await.expect("planned"), [], "{dialect:?}: as it should be");
        fixture.engine().delete_network(&earlier.network).await.expect("removed");
        fixture.assert_exactly(&["red"], "only the living");
        let again = fixture.resolve(&namespace("red")).await.expect("resolved");
        assert_eq!(again.guards(), place.guards(), "not noticed");
        if dialect == Dialect::V5 {
            assert_eq!(fixture.made(), living);
        }
    }
}
