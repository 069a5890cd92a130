//! Every field of every object of a tenant is changed from outside: a plan shows it, a repair restores it, and foreign
//! objects stay.

use std::time::Duration;

use atoll_model::ids::TenantName;
use atoll_sdn_client::Resource;
use atoll_sdn_client::{Client, api};
use atoll_tenant::admin::{self, Admin};
use atoll_testkit::controller::InProcess;
use uuid::Uuid;

use crate::fixture::{DIALECTS, Fixture, client, namespace};

/// How an object is changed.
struct Drift {
    what: &'static str,
    resource: Resource,
    id: Uuid,
    /// The field can be put; else the object is deleted and made again with another value.
    edit: Edit,
}

enum Edit {
    Router(fn(&mut api::Router)),
    Bridge(fn(&mut api::Bridge)),
    Port(fn(&mut api::Port)),
    PortAnew(fn(&mut api::Port)),
    Rule(fn(&mut api::Rule)),
    Route(fn(&mut api::Route)),
}

/// Every change there is to one tenant. A chain filters nothing of ours but through its rules; its name is for people.
fn drifts(fixture: &Fixture) -> Vec<Drift> {
    let made = fixture.made();
    let mut drifts = Vec::new();
    let mut add = |what, resource, id, edit| drifts.push(Drift { what, resource, id, edit });
    for id in made.routers.keys() {
        add("router down", Resource::Router, *id, Edit::Router(|router| router.admin_state_up.0 = false));
        add(
            "router without inbound filter",
            Resource::Router,
            *id,
            Edit::Router(|router| router.inbound_filter_id = None),
        );
        add(
            "router without outbound filter",
            Resource::Router,
            *id,
            Edit::Router(|router| router.outbound_filter_id = None),
        );
        add(
            "router with swapped filters",
            Resource::Router,
            *id,
            Edit::Router(|router| {
                std::mem::swap(&mut router.inbound_filter_id, &mut router.outbound_filter_id);
            }),
        );
    }
    for id in made.bridges.keys() {
        add("bridge down", Resource::Bridge, *id, Edit::Bridge(|bridge| bridge.admin_state_up.0 = false));
    }
    for (id, port) in &made.ports {
        add("port down", Resource::Port, *id, Edit::Port(|port| port.admin_state_up.0 = false));
        if matches!(port.device, atoll_model::topology::Device::Router { .. }) {
            add(
                "port with another MAC",
                Resource::Port,
                *id,
                Edit::PortAnew(|port| port.port_mac = Some("02:00:00:00:00:99".to_owned())),
            );
            add(
                "port with another address",
                Resource::Port,
                *id,
                Edit::PortAnew(|port| {
                    port.network_address = Some("192.0.2.0".to_owned());
                    port.port_address = Some("192.0.2.9".to_owned());
                }),
            );
        }
    }
    for rule in made.chains.values().flat_map(|chain| &chain.rules) {
        add(
            "rule of another kind",
            Resource::Rule,
            rule.id,
            Edit::Rule(|rule| {
                (rule.kind, rule.nat_targets, rule.flow_action) = (Some("drop".to_owned()), None, None);
                rule.nw_proto = Some(6);
            }),
        );
        add("rule with another condition", Resource::Rule, rule.id, Edit::Rule(|rule| rule.nw_proto = Some(17)));
        add(
            "rule inverted",
            Resource::Rule,
            rule.id,
            Edit::Rule(|rule| {
                rule.match_return_flow = !rule.match_return_flow;
            }),
        );
    }
    for id in made.routes.keys() {
        add(
            "route with another destination",
            Resource::Route,
            *id,
            Edit::Route(|route| {
                (route.dst_network_addr, route.dst_network_length) = (Some("192.0.2.0".to_owned()), Some(24));
            }),
        );
        add("route with another weight", Resource::Route, *id, Edit::Route(|route| route.weight = 200));
        add(
            "route to nowhere",
            Resource::Route,
            *id,
            Edit::Route(|route| {
                (route.kind, route.next_hop_port, route.next_hop_gateway) = (Some("BlackHole".to_owned()), None, None);
            }),
        );
    }
    drifts
}

async fn change(client: &Client<InProcess>, drift: &Drift) {
    async fn there<O: api::ApiObject>(client: &Client<InProcess>, id: Uuid) -> O {
        client.get(id).await.expect("answered").expect("there")
    }
    let gone = async || client.delete(drift.resource, drift.id).await.expect("deleted");
    match drift.edit {
        Edit::Router(edit) => {
            let mut found = there(client, drift.id).await;
            edit(&mut found);
            client.update(&found).await.expect(drift.what);
        }
        Edit::Bridge(edit) => {
            let mut found = there(client, drift.id).await;
            edit(&mut found);
            client.update(&found).await.expect(drift.what);
        }
        Edit::Port(edit) => {
            let mut found = there(client, drift.id).await;
            edit(&mut found);
            client.update(&found).await.expect(drift.what);
        }
        Edit::PortAnew(edit) => {
            let mut found: api::Port = there(client, drift.id).await;
            gone().await;
            edit(&mut found);
            found.peer_id = None;
            client.create(&found).await.expect(drift.what);
        }
        Edit::Rule(edit) => {
            let mut found = there(client, drift.id).await;
            gone().await;
            edit(&mut found);
            client.create(&found).await.expect(drift.what);
        }
        Edit::Route(edit) => {
            let mut found = there(client, drift.id).await;
            gone().await;
            edit(&mut found);
            client.create(&found).await.expect(drift.what);
        }
    }
}

#[tokio::test]
async fn every_field_that_is_changed_from_outside_is_shown_and_repaired() {
    let red = TenantName::new("red").expect("valid");
    let mut points = 0;
    for dialect in DIALECTS {
        let count = {
            let fixture = Fixture::new(dialect);
            fixture.resolve(&namespace("red")).await.expect("resolved");
            drifts(&fixture).len()
        };
        for n in 0..count {
            let fixture = Fixture::new(dialect);
            fixture.resolve(&namespace("red")).await.expect("resolved");
            fixture.resolve(&namespace("blue")).await.expect("resolved");
            let engine = fixture.engine();
            let admin = Admin { store: &fixture.store, engine: &engine, config: &fixture.config };
            // Ids differ from fixture to fixture, their order does not matter: the n-th of this one's own tenant.
            let all = {
                let mut alone = drifts(&fixture);
                let (cluster, record) = fixture.records("red");
                let objects = crate::fixture::graph(&cluster, &record).objects;
                let rules: Vec<_> = objects.chains.values().flat_map(|c| &c.rules).map(|rule| rule.id).collect();
                let routes: Vec<_> = fixture
                    .made()
                    .routes
                    .into_iter()
                    .filter(|(_, r)| objects.routes.values().any(|o| o == r))
                    .map(|(id, _)| id)
                    .collect();
                alone.retain(|drift| {
                    objects.routers.contains_key(&drift.id)
                        || objects.bridges.contains_key(&drift.id)
                        || objects.ports.contains_key(&drift.id)
                        || rules.contains(&drift.id)
                        || routes.contains(&drift.id)
                });
                alone
            };
            let drift = &all[n];
            let context = format!("{dialect:?}: {} ({})", drift.what, drift.id);
            change(&client(&fixture), drift).await;
            let plan = admin::plan(&admin, &red).await.expect("planned");
            assert!(!plan.is_empty(), "{context}: not seen");
            let before = fixture.made();
            assert_eq!(before, fixture.made(), "{context}: a plan changes nothing");
            admin::repair(&admin, &red, Duration::from_secs(45))
                .await
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(admin::plan(&admin, &red).await.expect("planned"), [], "{context}");
            assert_eq!(
                admin::plan(&admin, &TenantName::new("blue").expect("valid")).await.expect("planned"),
                [],
                "{context}"
            );
            points += 1;
        }
    }
    println!("drift: {points} changes repaired");
}
