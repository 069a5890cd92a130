//! Detects drift: compares every object of a graph with the controller and changes nothing. The comparisons are those of
//! applying, so that a plan shows what applying does.

use atoll_model::topology::{Kind, Topology};
use atoll_sdn_client::api::{ApiObject, Bridge, Chain, Port, Route, Router, Rule};
use atoll_sdn_client::compare::{FieldDifference, differences};
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::{Client, ErrorClass};
use atoll_sdn_client::{Dialect, Resource};
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::error::MidoNetError;
use crate::ownership::is_foreign;
use crate::step::CONCURRENCY;
use atoll_network::{DriftKind, EngineFailure};

/// An object of the graph.
#[derive(Clone, Copy)]
pub(crate) enum ObjectRef {
    Chain(Uuid),
    Router(Uuid),
    Bridge(Uuid),
    Port(Uuid),
    Route(Uuid),
}

impl ObjectRef {
    /// Its resource and id.
    pub(crate) fn object(self) -> (Resource, Uuid) {
        match self {
            Self::Chain(id) => (Resource::Chain, id),
            Self::Router(id) => (Resource::Router, id),
            Self::Bridge(id) => (Resource::Bridge, id),
            Self::Port(id) => (Resource::Port, id),
            Self::Route(id) => (Resource::Route, id),
        }
    }
}

/// An object that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectDrift {
    /// Its id.
    pub(crate) id: Uuid,
    /// What it is.
    pub(crate) kind: Kind,
    /// How it differs.
    pub(crate) difference: DriftKind,
}

/// The drift from `objects`, in the order of the ids.
pub(crate) async fn inspect<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    let all = objects
        .chains
        .keys()
        .copied()
        .map(ObjectRef::Chain)
        .chain(objects.routers.keys().copied().map(ObjectRef::Router))
        .chain(objects.bridges.keys().copied().map(ObjectRef::Bridge))
        .chain(objects.ports.keys().copied().map(ObjectRef::Port))
        .chain(objects.routes.keys().copied().map(ObjectRef::Route));
    let reads: Vec<_> = all.map(|object| one(client, objects, object)).collect();
    let found: Vec<Vec<ObjectDrift>> = stream::iter(reads).buffer_unordered(CONCURRENCY).try_collect().await?;
    let mut findings: Vec<ObjectDrift> = found.into_iter().flatten().collect();
    findings.sort_by_key(|finding| (finding.kind, finding.id));
    Ok(findings)
}

/// Reads the objects to be deleted, before anything is deleted. Objects of our ids that belong to another owner, device or
/// peer are an error that names all of them.
pub(crate) async fn refuse_foreign<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
    to_delete: Vec<ObjectRef>,
) -> Result<(), MidoNetError> {
    let reads: Vec<_> = to_delete.into_iter().map(|object| ownership(client, objects, object)).collect();
    let found: Vec<Vec<ObjectDrift>> = stream::iter(reads).buffer_unordered(CONCURRENCY).try_collect().await?;
    let mut foreign: Vec<String> = Vec::new();
    for ObjectDrift { id, kind, difference } in found.into_iter().flatten() {
        if let DriftKind::Foreign(differences) = difference {
            foreign.push(format!("{kind} {id} is not ours: {}", differences.join("; ")));
        }
    }
    foreign.sort();
    if foreign.is_empty() { Ok(()) } else { Err(not_deleted(foreign.join(". "))) }
}

/// Compares one object for its owner only: the rules of a chain are deleted with it, including rules that others added.
async fn ownership<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
    object: ObjectRef,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    match object {
        ObjectRef::Chain(id) => {
            let wanted = Chain::from_topology(id, &objects.chains[&id]);
            same(client, client.dialect().await?, Kind::Chain, &wanted).await
        }
        object => one(client, objects, object).await,
    }
}

fn not_deleted(message: String) -> MidoNetError {
    MidoNetError { object: "delete objects".to_owned(), failure: EngineFailure::Conflict, message }
}

async fn one<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
    object: ObjectRef,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    let dialect = client.dialect().await?;
    match object {
        ObjectRef::Chain(id) => chain(client, dialect, objects, id).await,
        ObjectRef::Router(id) => {
            same(client, dialect, Kind::Router, &Router::from_topology(id, &objects.routers[&id])).await
        }
        ObjectRef::Bridge(id) => {
            same(client, dialect, Kind::Bridge, &Bridge::from_topology(id, &objects.bridges[&id])).await
        }
        ObjectRef::Port(id) => port(client, dialect, &Port::from_topology(id, &objects.ports[&id])).await,
        ObjectRef::Route(id) => route(client, dialect, &Route::from_topology(id, &objects.routes[&id], dialect)).await,
    }
}

async fn same<T: Transport, O: ApiObject>(
    client: &Client<T>,
    dialect: Dialect,
    kind: Kind,
    wanted: &O,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    let id = wanted.id().unwrap_or_default();
    let found = client.get::<O>(id).await?;
    let difference = match found {
        None => Some(DriftKind::Missing),
        Some(found) => drift_of(kind, &differences(dialect, wanted, &found)),
    };
    Ok(difference.map(|difference| ObjectDrift { id, kind, difference }).into_iter().collect())
}

/// A missing link can be created; a link to another port is not ours.
async fn port<T: Transport>(
    client: &Client<T>,
    dialect: Dialect,
    wanted: &Port,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    let (id, kind) = (wanted.id.unwrap_or_default(), Kind::Port);
    let Some(found) = client.get::<Port>(id).await? else {
        return Ok(vec![ObjectDrift { id, kind, difference: DriftKind::Missing }]);
    };
    let (link, rest): (Vec<_>, Vec<_>) =
        differences(dialect, wanted, &found).into_iter().partition(|difference| difference.field == "peerId");
    let mut findings: Vec<_> =
        drift_of(kind, &rest).map(|difference| ObjectDrift { id, kind, difference }).into_iter().collect();
    if !link.is_empty() {
        let sentences = sentences(&link);
        let difference = if found.peer_id.is_none() { DriftKind::Missing } else { DriftKind::Foreign(sentences) };
        findings.push(ObjectDrift { id, kind: Kind::Link, difference });
    }
    Ok(findings)
}

async fn route<T: Transport>(
    client: &Client<T>,
    dialect: Dialect,
    wanted: &Route,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    if !Resource::Route.has_server_id(dialect) {
        return same(client, dialect, Kind::Route, wanted).await;
    }
    let router = wanted.router_id.unwrap_or_default();
    let there = absent_is_empty(client.list::<Route>(&Scope::Of(Resource::Router, router)).await)?;
    let found = there.iter().any(|found| differences(dialect, wanted, found).is_empty());
    let missing = ObjectDrift { id: wanted.id.unwrap_or_default(), kind: Kind::Route, difference: DriftKind::Missing };
    Ok(if found { vec![] } else { vec![missing] })
}

async fn chain<T: Transport>(
    client: &Client<T>,
    dialect: Dialect,
    objects: &Topology,
    id: Uuid,
) -> Result<Vec<ObjectDrift>, MidoNetError> {
    let chain = &objects.chains[&id];
    let mut findings = same(client, dialect, Kind::Chain, &Chain::from_topology(id, chain)).await?;
    let there = absent_is_empty(client.list::<Rule>(&Scope::Of(Resource::Chain, id)).await)?;
    let mut from = 0;
    for rule in &chain.rules {
        let wanted = Rule::from_topology(id, from + 1, rule);
        let difference = match there.iter().position(|found| found.id == Some(rule.id)) {
            // A rule of this id in another chain is not ours, and creating ours would be refused.
            None => match client.get::<Rule>(rule.id).await? {
                None => Some(DriftKind::Missing),
                Some(found) => drift_of(Kind::Rule, &differences(dialect, &wanted, &found)),
            },
            Some(at) => {
                let differs = drift_of(Kind::Rule, &differences(dialect, &wanted, &there[at]));
                let late = (at < from).then(|| DriftKind::Differs(vec!["it comes before its predecessor".to_owned()]));
                from = from.max(at + 1);
                differs.or(late)
            }
        };
        findings.extend(difference.map(|difference| ObjectDrift { id: rule.id, kind: Kind::Rule, difference }));
    }
    Ok(findings)
}

fn drift_of(kind: Kind, differences: &[FieldDifference]) -> Option<DriftKind> {
    let sentences = sentences(differences);
    match (differences.is_empty(), is_foreign(kind, differences)) {
        (true, _) => None,
        (false, true) => Some(DriftKind::Foreign(sentences)),
        (false, false) => Some(DriftKind::Differs(sentences)),
    }
}

fn sentences(differences: &[FieldDifference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

/// A list below an object that does not exist is empty.
fn absent_is_empty<O>(list: Result<Vec<O>, atoll_sdn_client::ClientError>) -> Result<Vec<O>, MidoNetError> {
    match list {
        Err(error) if error.class == ErrorClass::Absent => Ok(Vec::new()),
        list => Ok(list?),
    }
}
