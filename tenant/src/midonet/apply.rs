//! Walks a graph: wave by wave to make it, by its parents to remove it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use atoll_model::topology::{Route, RouteAction, Topology};
use atoll_sdn_client::dialect::Resource;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, wire};
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::inspect::{Look, refuse_foreign};
use super::{mend, rules};
use crate::controller::{Applied, ControllerError};
use crate::waves::{Step, waves};

/// Requests on their way at once. A MidoNet takes one lock for every write: more would only wait there.
pub(super) const AT_ONCE: usize = 8;

/// What a step came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) created: usize,
    pub(super) mended: usize,
    pub(super) kept: usize,
    /// Requests one after the other.
    pub(super) rounds: usize,
}

impl Done {
    /// It was missing.
    pub(super) const CREATED: Self = Self { created: 1, mended: 0, kept: 0, rounds: 1 };
    /// It was there as it should be: a refusal and a look.
    pub(super) const KEPT: Self = Self { created: 0, mended: 0, kept: 1, rounds: 2 };

    /// It differed; `rounds` requests mended it.
    pub(super) const fn mended(rounds: usize) -> Self {
        Self { created: 0, mended: 1, kept: 0, rounds }
    }
}

/// Makes everything of `objects` exist as described.
pub(super) async fn apply<T: Transport>(client: &Client<T>, objects: &Topology) -> Result<Applied, ControllerError> {
    let dialect = client.dialect().await?;
    let walk = Walk { client, objects, fresh: RefCell::default() };
    let mut applied = Applied::default();
    for wave in waves(objects, dialect.binds_on_create()) {
        let done: Vec<Done> =
            stream::iter(wave.into_iter().map(|step| walk.step(step))).buffer_unordered(AT_ONCE).try_collect().await?;
        applied.created += done.iter().map(|done| done.created).sum::<usize>();
        applied.mended += done.iter().map(|done| done.mended).sum::<usize>();
        applied.kept += done.iter().map(|done| done.kept).sum::<usize>();
        applied.rounds += done.iter().map(|done| done.rounds).max().unwrap_or(0);
    }
    Ok(applied)
}

struct Walk<'a, T> {
    client: &'a Client<T>,
    objects: &'a Topology,
    /// Chains and ports that did not exist before this walk: nothing can refer to them yet.
    fresh: RefCell<BTreeSet<Uuid>>,
}

impl<T: Transport> Walk<'_, T> {
    async fn step(&self, step: Step) -> Result<Done, ControllerError> {
        let (client, objects) = (self.client, self.objects);
        match step {
            Step::Chain(id) => {
                let wanted = wire::Chain::from_topology(id, &objects.chains[&id]);
                Ok(self.note(id, mend::chain(client, &wanted).await?))
            }
            Step::Rule(chain, place) => {
                let rules = &objects.chains[&chain].rules;
                if self.fresh.borrow().contains(&chain) {
                    return rules::create(client, chain, place, &rules[place]).await;
                }
                // The rules of a chain that was there are looked at together, because they have an order.
                if place == 0 { rules::mend(client, chain, rules).await } else { Ok(Done::default()) }
            }
            Step::Router(id) => mend::router(client, &wire::Router::from_topology(id, &objects.routers[&id])).await,
            Step::Bridge(id) => mend::bridge(client, &wire::Bridge::from_topology(id, &objects.bridges[&id])).await,
            Step::Port { id, peer } => {
                let wanted = wire::Port { peer_id: peer, ..wire::Port::from_topology(id, &objects.ports[&id]) };
                Ok(self.note(id, mend::port(client, &wanted).await?))
            }
            Step::Link(port, peer) => mend::link(client, port, peer).await,
            Step::Route(id) => {
                let route = &objects.routes[&id];
                let port = match &route.action {
                    RouteAction::Forward { port, .. } | RouteAction::Local { port } => Some(port),
                    RouteAction::BlackHole | RouteAction::Reject => None,
                };
                let fresh = port.is_some_and(|port| self.fresh.borrow().contains(port));
                mend::route(client, id, route, fresh).await
            }
        }
    }

    fn note(&self, id: Uuid, done: Done) -> Done {
        if done.created > 0 {
            self.fresh.borrow_mut().insert(id);
        }
        done
    }
}

/// Deletes everything of `objects`. Parents take their children along (MidoNet REST API, section "Cascade summary"):
/// bridges with the pods' ports, the router with its ports and routes, then the provider's end, which takes the
/// provider's route, and last the chains, because a device whose chain is gone would be open.
///
/// Whatever is deleted by its id is looked at first. When one of these objects is not ours, nothing is deleted.
pub(super) async fn remove<T: Transport>(client: &Client<T>, objects: &Topology) -> Result<Applied, ControllerError> {
    let dialect = client.dialect().await?;
    let ours = |id: &Uuid| objects.routers.contains_key(id) || objects.bridges.contains_key(id);
    let elsewhere = objects.ports.iter().filter(|(_, port)| !ours(&port.device.id())).map(|(id, _)| *id);
    let waves: [Vec<Look>; 4] = [
        objects.bridges.keys().copied().map(Look::Bridge).collect(),
        objects.routers.keys().copied().map(Look::Router).collect(),
        elsewhere.map(Look::Port).collect(),
        objects.chains.keys().copied().map(Look::Chain).collect(),
    ];
    // Routes that go with no parent, because neither their router nor their port goes.
    let alone = |route: &&Route| match &route.action {
        RouteAction::Forward { port, .. } | RouteAction::Local { port } => !objects.ports.contains_key(port),
        RouteAction::BlackHole | RouteAction::Reject => true,
    };
    let routes: Vec<_> = objects.routes.iter().filter(|(_, route)| !ours(&route.router) && alone(route)).collect();
    // Where the controller chooses the ids of routes, they are known by their fields, of which the router is one.
    let known_by_id = routes.iter().filter(|_| !dialect.chooses_id(Resource::Route));
    let lone = known_by_id.map(|(id, _)| Look::Route(**id));
    refuse_foreign(client, objects, waves.iter().flatten().copied().chain(lone)).await?;

    let mut applied = Applied::default();
    let routes: Vec<_> =
        routes.into_iter().map(|(id, route)| wire::Route::from_topology(*id, route, dialect)).collect();
    applied.rounds += usize::from(!routes.is_empty());
    applied.deleted += routes.len();
    stream::iter(routes.iter().map(|route| client.delete_route(route)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    for wave in waves {
        applied.rounds += usize::from(!wave.is_empty());
        applied.deleted += wave.len();
        stream::iter(wave.into_iter().map(Look::object).map(|(resource, id)| client.delete(resource, id)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
    Ok(applied)
}
