//! Lifecycles of tenants: five hundred leave nothing, and late requests of an earlier incarnation have no effect on a
//! later one.

use std::time::Duration;

use atoll_mock_controller::Dialect;
use atoll_model::ids::TenantName;
use atoll_tenant::admin::{self, Admin, Deletion};
use atoll_tenant::controller::Controller as _;
use atoll_tenant::graph::graph;

use crate::world::{DIALECTS, World, namespace};

const GENTLY: Deletion = Deletion { request_lifetime: Duration::from_secs(45), force: false };

#[tokio::test(start_paused = true)]
async fn five_hundred_tenants_created_and_deleted_leave_nothing() {
    for dialect in DIALECTS {
        let world = World::new(dialect);
        let engine = world.engine();
        let admin = Admin { store: &world.store, controller: &engine, config: &world.config };
        world.resolve(&namespace("first")).await.expect("it makes the cluster's record and the node's");
        let names: Vec<_> = (0..500).map(|n| TenantName::new(format!("t{n}")).expect("valid")).collect();
        let before = (world.mock.dump(), records(&world));
        for name in &names {
            world.resolve(&namespace(name.as_str())).await.expect("created");
        }
        assert_eq!(world.keys()["tenants"], 501);
        for (name, outcome) in admin::prune(&admin, &names, GENTLY.request_lifetime).await {
            outcome.unwrap_or_else(|error| panic!("{dialect:?}: {name}: {error}"));
        }
        assert_eq!(records(&world), before.1, "{dialect:?}: the store");
        assert_eq!(world.mock.dump(), before.0, "{dialect:?}: the controller");
    }
}

fn records(world: &World) -> Vec<(String, Vec<u8>)> {
    world.store.dump().into_iter().map(|entry| (entry.key.to_string(), entry.value)).collect()
}

#[tokio::test(start_paused = true)]
async fn late_requests_of_an_earlier_incarnation_do_not_affect_a_recreated_tenant() {
    for dialect in DIALECTS {
        let world = World::new(dialect);
        let (engine, red) = (world.engine(), TenantName::new("red").expect("valid"));
        let admin = Admin { store: &world.store, controller: &engine, config: &world.config };
        world.resolve(&namespace("red")).await.expect("resolved");
        let (cluster, old) = world.records("red");
        let earlier = graph(&cluster, &old);
        admin::delete(&admin, &red, GENTLY, |_| {}).await.expect("deleted");
        let place = world.resolve(&namespace("red")).await.expect("recreated");
        let new = world.records("red").1;
        assert_ne!(new.incarnation, old.incarnation);
        let living = world.made();

        // A build and an operator of the earlier incarnation wake up: one makes everything once more, the other deletes it.
        world.engine().apply(&earlier).await.expect("the controller knows no fencing");
        let both = world.made();
        assert!(living.ports.iter().all(|(id, port)| both.ports.get(id) == Some(port)), "{dialect:?}");
        assert!(living.routers.iter().all(|(id, router)| both.routers.get(id) == Some(router)), "{dialect:?}");
        assert!(living.chains.iter().all(|(id, chain)| both.chains.get(id) == Some(chain)), "{dialect:?}");
        assert_eq!(admin::plan(&admin, &red).await.expect("planned"), [], "{dialect:?}: as it should be");
        world.engine().remove(&earlier).await.expect("removed");
        world.assert_exactly(&["red"], "only the living");
        let again = world.resolve(&namespace("red")).await.expect("resolved");
        assert_eq!(again.guards(), place.guards(), "not noticed");
        if dialect == Dialect::V5 {
            assert_eq!(world.made(), living);
        }
    }
}
