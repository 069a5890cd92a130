//! Applies a graph, level by level, and removes it, by its parents.

use std::collections::BTreeSet;
use std::sync::Mutex;

use atoll_model::sync::locked;
use atoll_model::topology::{Route, RouteAction, Topology};
use atoll_sdn_client::Resource;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, Dialect, api};
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::error::MidoNetError;
use crate::inspect::{ObjectRef, refuse_foreign};
use crate::levels::{BuildStep, dependency_levels};
use crate::step::{CONCURRENCY, StepResult};
use crate::{repair, rules};
use atoll_network::Applied;

/// Makes everything of `objects` exist as described.
pub(crate) async fn apply<T: Transport>(client: &Client<T>, objects: &Topology) -> Result<Applied, MidoNetError> {
    let dialect = client.dialect().await?;
    let walk = Walk { client, objects, new: Mutex::default() };
    let mut applied = Applied::default();
    for level in dependency_levels(objects, dialect.binds_on_create()) {
        let steps: Vec<_> = level.into_iter().map(|step| walk.step(step)).collect();
        let results: Vec<StepResult> = stream::iter(steps).buffer_unordered(CONCURRENCY).try_collect().await?;
        applied.created += results.iter().map(|result| result.created).sum::<usize>();
        applied.updated += results.iter().map(|result| result.updated).sum::<usize>();
        applied.kept += results.iter().map(|result| result.kept).sum::<usize>();
        applied.rounds += results.iter().map(|result| result.rounds).max().unwrap_or(0);
    }
    Ok(applied)
}

struct Walk<'a, T> {
    client: &'a Client<T>,
    objects: &'a Topology,
    /// Chains and ports that were created by this walk: nothing refers to them yet.
    new: Mutex<BTreeSet<Uuid>>,
}

impl<T: Transport> Walk<'_, T> {
    async fn step(&self, step: BuildStep) -> Result<StepResult, MidoNetError> {
        let (client, objects) = (self.client, self.objects);
        match step {
            BuildStep::Chain(id) => {
                let wanted = api::Chain::from_topology(id, &objects.chains[&id]);
                Ok(self.note(id, repair::chain(client, &wanted).await?))
            }
            BuildStep::Rule(chain, place) => {
                let rules = &objects.chains[&chain].rules;
                if locked(&self.new).contains(&chain) {
                    return rules::create(client, chain, place, &rules[place]).await;
                }
                // The rules of an existing chain are compared together, because they have an order.
                if place == 0 { rules::repair(client, chain, rules).await } else { Ok(StepResult::default()) }
            }
            BuildStep::Router(id) => {
                repair::device(client, &api::Router::from_topology(id, &objects.routers[&id])).await
            }
            BuildStep::Bridge(id) => {
                repair::device(client, &api::Bridge::from_topology(id, &objects.bridges[&id])).await
            }
            BuildStep::Port { id, peer } => {
                let wanted = api::Port { peer_id: peer, ..api::Port::from_topology(id, &objects.ports[&id]) };
                Ok(self.note(id, repair::port(client, &wanted).await?))
            }
            BuildStep::Link(port, peer) => repair::link(client, port, peer).await,
            BuildStep::Route(id) => {
                let route = &objects.routes[&id];
                let port = match &route.action {
                    RouteAction::Forward { port, .. } | RouteAction::Local { port } => Some(port),
                    RouteAction::BlackHole | RouteAction::Reject => None,
                };
                let is_new_port = port.is_some_and(|port| locked(&self.new).contains(port));
                repair::route(client, id, route, is_new_port).await
            }
        }
    }

    fn note(&self, id: Uuid, result: StepResult) -> StepResult {
        if result.created > 0 {
            locked(&self.new).insert(id);
        }
        result
    }
}

/// Deletes everything of `objects`. Deleting a parent deletes its children (MidoNet REST API, section "Cascade summary"):
/// bridges with the pods' ports, the router with its ports and routes, then the provider's end, which takes the
/// provider's route, and last the chains, because a device whose chain is deleted is unfiltered.
///
/// Every object that is deleted by its id is read first. When one of them is not ours, nothing is deleted.
pub(crate) async fn remove<T: Transport>(client: &Client<T>, objects: &Topology) -> Result<Applied, MidoNetError> {
    let Removal { by_id, routes, levels } = Removal::of(objects, client.dialect().await?);
    refuse_foreign(client, objects, by_id).await?;
    let mut applied = Applied::default();
    applied.rounds += usize::from(!routes.is_empty());
    applied.deleted += routes.len();
    let deletions: Vec<_> = routes.iter().map(|route| client.delete_route(route)).collect();
    stream::iter(deletions).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    for level in levels {
        applied.rounds += usize::from(!level.is_empty());
        applied.deleted += level.len();
        let objects = level.into_iter().map(ObjectRef::object);
        let deletions: Vec<_> = objects.map(|(resource, id)| client.delete(resource, id)).collect();
        stream::iter(deletions).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    }
    Ok(applied)
}

/// What is deleted of a set of objects, and in which order. Pure.
struct Removal {
    /// Everything that is deleted by its id: it is read first.
    by_id: Vec<ObjectRef>,
    /// Routes that no parent takes along, because neither their router nor their port is deleted. They go first.
    routes: Vec<api::Route>,
    /// All else, one level after the other.
    levels: [Vec<ObjectRef>; 4],
}

impl Removal {
    fn of(objects: &Topology, dialect: Dialect) -> Self {
        let ours = |id: &Uuid| objects.routers.contains_key(id) || objects.bridges.contains_key(id);
        let of_others = objects.ports.iter().filter(|(_, port)| !ours(&port.device.id())).map(|(id, _)| *id);
        let levels: [Vec<ObjectRef>; 4] = [
            objects.bridges.keys().copied().map(ObjectRef::Bridge).collect(),
            objects.routers.keys().copied().map(ObjectRef::Router).collect(),
            of_others.map(ObjectRef::Port).collect(),
            objects.chains.keys().copied().map(ObjectRef::Chain).collect(),
        ];
        let has_no_parent = |route: &Route| match &route.action {
            RouteAction::Forward { port, .. } | RouteAction::Local { port } => !objects.ports.contains_key(port),
            RouteAction::BlackHole | RouteAction::Reject => true,
        };
        let lone = || objects.routes.iter().filter(|(_, route)| !ours(&route.router) && has_no_parent(route));
        let mut by_id: Vec<_> = levels.iter().flatten().copied().collect();
        // Where the controller chooses the ids of routes, their fields identify them, of which the router is one.
        if !Resource::Route.has_server_id(dialect) {
            by_id.extend(lone().map(|(id, _)| ObjectRef::Route(*id)));
        }
        let routes = lone().map(|(id, route)| api::Route::from_topology(*id, route, dialect)).collect();
        Self { by_id, routes, levels }
    }
}
