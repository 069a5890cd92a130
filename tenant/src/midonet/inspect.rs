//! Looks at everything of a graph and changes nothing. The same comparisons as when it is applied, so that a plan says
//! what applying does.

use atoll_model::topology::{Kind, Topology};
use atoll_sdn_client::compare::{FieldDifference, differences};
use atoll_sdn_client::dialect::{Dialect, Resource};
use atoll_sdn_client::request::Scope;
use atoll_sdn_client::transport::Transport;
use atoll_sdn_client::wire::{Bridge, Chain, Object, Port, Route, Router, Rule};
use atoll_sdn_client::{Client, ErrorClass};
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::apply::AT_ONCE;
use super::mend::owned_otherwise;
use crate::controller::{ControllerError, Failure, Finding, Verdict};

/// One look.
#[derive(Clone, Copy)]
pub(super) enum Look {
    Chain(Uuid),
    Router(Uuid),
    Bridge(Uuid),
    Port(Uuid),
    Route(Uuid),
}

impl Look {
    /// What is looked at.
    pub(super) fn object(self) -> (Resource, Uuid) {
        match self {
            Self::Chain(id) => (Resource::Chain, id),
            Self::Router(id) => (Resource::Router, id),
            Self::Bridge(id) => (Resource::Bridge, id),
            Self::Port(id) => (Resource::Port, id),
            Self::Route(id) => (Resource::Route, id),
        }
    }
}

/// What is not as `objects` says, in the order of the ids.
pub(super) async fn inspect<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
) -> Result<Vec<Finding>, ControllerError> {
    let looks = objects
        .chains
        .keys()
        .copied()
        .map(Look::Chain)
        .chain(objects.routers.keys().copied().map(Look::Router))
        .chain(objects.bridges.keys().copied().map(Look::Bridge))
        .chain(objects.ports.keys().copied().map(Look::Port))
        .chain(objects.routes.keys().copied().map(Look::Route));
    let found: Vec<Vec<Finding>> =
        stream::iter(looks.map(|look| one(client, objects, look))).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut findings: Vec<Finding> = found.into_iter().flatten().collect();
    findings.sort_by_key(|finding| (finding.kind, finding.id));
    Ok(findings)
}

/// Looks at what is to be deleted, before anything is: an object of our id that belongs to another owner, device or
/// peer is an error that names all such objects.
pub(super) async fn refuse_foreign<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
    doomed: impl Iterator<Item = Look>,
) -> Result<(), ControllerError> {
    let found: Vec<Vec<Finding>> =
        stream::iter(doomed.map(|look| whose(client, objects, look))).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut foreign: Vec<String> = Vec::new();
    for Finding { id, kind, verdict } in found.into_iter().flatten() {
        if let Verdict::Foreign(differences) = verdict {
            foreign.push(format!("{kind} {id} is not ours: {}", differences.join("; ")));
        }
    }
    foreign.sort();
    if foreign.is_empty() { Ok(()) } else { Err(not_deleted(foreign.join(". "))) }
}

/// A look that asks only whose the object is: the rules of a chain go with it, whosever they are.
async fn whose<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
    look: Look,
) -> Result<Vec<Finding>, ControllerError> {
    match look {
        Look::Chain(id) => {
            let wanted = Chain::from_topology(id, &objects.chains[&id]);
            same(client, client.dialect().await?, Kind::Chain, &wanted).await
        }
        look => one(client, objects, look).await,
    }
}

fn not_deleted(message: String) -> ControllerError {
    ControllerError { object: "delete objects".to_owned(), failure: Failure::Conflict, message }
}

async fn one<T: Transport>(
    client: &Client<T>,
    objects: &Topology,
    look: Look,
) -> Result<Vec<Finding>, ControllerError> {
    let dialect = client.dialect().await?;
    match look {
        Look::Chain(id) => chain(client, dialect, objects, id).await,
        Look::Router(id) => {
            same(client, dialect, Kind::Router, &Router::from_topology(id, &objects.routers[&id])).await
        }
        Look::Bridge(id) => {
            same(client, dialect, Kind::Bridge, &Bridge::from_topology(id, &objects.bridges[&id])).await
        }
        Look::Port(id) => port(client, dialect, &Port::from_topology(id, &objects.ports[&id])).await,
        Look::Route(id) => route(client, dialect, &Route::from_topology(id, &objects.routes[&id], dialect)).await,
    }
}

async fn same<T: Transport, O: Object>(
    client: &Client<T>,
    dialect: Dialect,
    kind: Kind,
    wanted: &O,
) -> Result<Vec<Finding>, ControllerError> {
    let id = wanted.id().unwrap_or_default();
    let found = client.get::<O>(id).await?;
    let verdict = match found {
        None => Some(Verdict::Missing),
        Some(found) => verdict(kind, &differences(dialect, wanted, &found)),
    };
    Ok(verdict.map(|verdict| Finding { id, kind, verdict }).into_iter().collect())
}

/// A link that is missing can be made; one to another port belongs to somebody else.
async fn port<T: Transport>(
    client: &Client<T>,
    dialect: Dialect,
    wanted: &Port,
) -> Result<Vec<Finding>, ControllerError> {
    let (id, kind) = (wanted.id.unwrap_or_default(), Kind::Port);
    let Some(found) = client.get::<Port>(id).await? else {
        return Ok(vec![Finding { id, kind, verdict: Verdict::Missing }]);
    };
    let (link, rest): (Vec<_>, Vec<_>) =
        differences(dialect, wanted, &found).into_iter().partition(|difference| difference.field == "peerId");
    let mut findings: Vec<_> = verdict(kind, &rest).map(|verdict| Finding { id, kind, verdict }).into_iter().collect();
    if !link.is_empty() {
        let said = sentences(&link);
        let verdict = if found.peer_id.is_none() { Verdict::Missing } else { Verdict::Foreign(said) };
        findings.push(Finding { id, kind: Kind::Link, verdict });
    }
    Ok(findings)
}

async fn route<T: Transport>(
    client: &Client<T>,
    dialect: Dialect,
    wanted: &Route,
) -> Result<Vec<Finding>, ControllerError> {
    if !dialect.chooses_id(Resource::Route) {
        return same(client, dialect, Kind::Route, wanted).await;
    }
    let router = wanted.router_id.unwrap_or_default();
    let there = absent_is_empty(client.list::<Route>(&Scope::Of(Resource::Router, router)).await)?;
    let found = there.iter().any(|found| differences(dialect, wanted, found).is_empty());
    let missing = Finding { id: wanted.id.unwrap_or_default(), kind: Kind::Route, verdict: Verdict::Missing };
    Ok(if found { vec![] } else { vec![missing] })
}

async fn chain<T: Transport>(
    client: &Client<T>,
    dialect: Dialect,
    objects: &Topology,
    id: Uuid,
) -> Result<Vec<Finding>, ControllerError> {
    let chain = &objects.chains[&id];
    let mut findings = same(client, dialect, Kind::Chain, &Chain::from_topology(id, chain)).await?;
    let there = absent_is_empty(client.list::<Rule>(&Scope::Of(Resource::Chain, id)).await)?;
    let mut from = 0;
    for rule in &chain.rules {
        let wanted = Rule::from_topology(id, from + 1, rule);
        let verdict = match there.iter().position(|found| found.id == Some(rule.id)) {
            // Not in this chain; in another one it is not ours, and making it would be refused.
            None => match client.get::<Rule>(rule.id).await? {
                None => Some(Verdict::Missing),
                Some(found) => verdict(Kind::Rule, &differences(dialect, &wanted, &found)),
            },
            Some(at) => {
                let differs = verdict(Kind::Rule, &differences(dialect, &wanted, &there[at]));
                let late = (at < from).then(|| Verdict::Differs(vec!["it comes before its predecessor".to_owned()]));
                from = from.max(at + 1);
                differs.or(late)
            }
        };
        findings.extend(verdict.map(|verdict| Finding { id: rule.id, kind: Kind::Rule, verdict }));
    }
    Ok(findings)
}

fn verdict(kind: Kind, differences: &[FieldDifference]) -> Option<Verdict> {
    let said = sentences(differences);
    match (differences.is_empty(), owned_otherwise(kind, differences)) {
        (true, _) => None,
        (false, true) => Some(Verdict::Foreign(said)),
        (false, false) => Some(Verdict::Differs(said)),
    }
}

fn sentences(differences: &[FieldDifference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

/// A list below an object that is not there.
fn absent_is_empty<O>(list: Result<Vec<O>, atoll_sdn_client::ClientError>) -> Result<Vec<O>, ControllerError> {
    match list {
        Err(error) if error.class == ErrorClass::Absent => Ok(Vec::new()),
        list => Ok(list?),
    }
}
