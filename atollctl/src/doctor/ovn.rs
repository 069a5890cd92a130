//! Probes the databases of OVN, each member by itself and each database as a whole, and this machine's Open vSwitch.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_engines::{AnyEngine, ovn_members};
use atoll_model::clock;
use atoll_model::config::OvnConfig;
use atoll_model::ids::{ClusterId, Incarnation};
use atoll_network::EngineError;
use atoll_ovn::ovsdb::{MemberState, Remote};
use atoll_ovn::{Ovn, unusable};
use atoll_records::{ClusterRecord, Query, TenantRecord};
use atoll_store::{Etcd, Store as _};
use atoll_tenant::Node;
use futures_util::future::{join, join_all};
use tokio::time::Instant;

use super::limit::in_time;
use super::ovn_controller;
use super::seen::{DatabaseMember, OvnEvidence, Probed, Problem, Records};
use crate::settings::Settings;

/// How long northd and the chassis have for confirming a configuration: what an eviction gives them.
pub(super) const CONFIRMATION: Duration = Duration::from_secs(15);

/// Members without the newest entry are asked once more after this time: an entry takes one round trip to all of them.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn probe(settings: &Settings, config: &OvnConfig) -> OvnEvidence {
    let members = members(config);
    let asked = async {
        let engine = engine(settings)?;
        let cluster = in_time(cluster(settings)).await.ok().flatten();
        let now = i64::try_from(clock::now()).unwrap_or_default();
        let northbound = in_time_of(engine.inspect_northbound(cluster));
        // The limit of a confirmation is longer than that of an answer.
        let (progress, northbound) = join(engine.progress(now, CONFIRMATION), northbound).await;
        // What each chassis has confirmed is read after the wait for it.
        let southbound = in_time_of(engine.inspect_southbound()).await;
        Ok((progress.map_err(|error| Problem::of(&error)), northbound, southbound))
    };
    let ((members, controller), asked) = join(join(members, in_time(controller())), asked).await;
    let not_read = || Problem::new("it was not read");
    let all = |problem: Problem| (Err(problem.clone()), Err(problem.clone()), Err(problem));
    let (progress, northbound, southbound) = asked.unwrap_or_else(all);
    OvnEvidence {
        members,
        northbound,
        southbound,
        progress,
        controller: controller.ok().flatten(),
        switch: Err(not_read()),
        owned: Err(not_read()),
        incarnations: Err(not_read()),
    }
}

async fn controller() -> Probed<Option<String>> {
    Ok(ovn_controller::version().await)
}

/// Reads what is compared with the claims: it must be read after them.
pub(super) async fn rows(
    seen: &mut OvnEvidence,
    settings: &Settings,
    machine: Option<&Node>,
    records: Option<&Records>,
) {
    let engine = match engine(settings) {
        Ok(engine) => engine,
        Err(problem) => {
            seen.switch = Err(problem);
            return;
        }
    };
    let absent = || Problem::new("`ovn.local` is not configured");
    seen.switch = in_time_of(engine.inspect_switch()).await.and_then(|switch| switch.ok_or_else(absent));
    let cluster = records.and_then(|records| records.cluster.as_ref());
    let (Some(machine), Some(cluster)) = (machine, cluster) else { return };
    seen.owned = in_time_of(engine.owned(cluster.id, &machine.name)).await;
    seen.incarnations = in_time(incarnations(settings)).await;
    if let (Ok(owned), Ok(known)) = (&mut seen.owned, &seen.incarnations)
        && owned.iter().any(|row| !known.contains(&row.incarnation))
    {
        // A tenant that was deleted meanwhile has no rows now.
        if let Ok(now) = in_time_of(engine.owned(cluster.id, &machine.name)).await {
            owned.retain(|row| now.contains(row));
        }
    }
}

async fn in_time_of<T>(work: impl Future<Output = Result<T, EngineError>>) -> Probed<T> {
    in_time(async { work.await.map_err(|error| Problem::of(&error)) }).await
}

fn engine(settings: &Settings) -> Probed<Ovn<Remote>> {
    match settings.controller() {
        Ok(AnyEngine::Ovn(engine)) => Ok(engine),
        Ok(AnyEngine::MidoNet(_)) => Err(Problem::new("the engine is not OVN")),
        Err(failure) => Err(Problem { text: failure.message(), hint: failure.hint() }),
    }
}

async fn cluster(settings: &Settings) -> Probed<Option<ClusterId>> {
    let store = Etcd::connect(&settings.config.etcd).map_err(|error| Problem::of(&error))?;
    let read = store.read(vec![Query::key(ClusterRecord::at())]).await.map_err(|error| Problem::of(&error))?;
    let cluster = read.get(&ClusterRecord::at()).map_err(|error| Problem::of(&error))?;
    Ok(cluster.map(|cluster| cluster.record.id))
}

async fn incarnations(settings: &Settings) -> Probed<BTreeSet<Incarnation>> {
    let store = Etcd::connect(&settings.config.etcd).map_err(|error| Problem::of(&error))?;
    let all = TenantRecord::all();
    let read = store.read(vec![Query::all(&all)]).await.map_err(|error| Problem::of(&error))?;
    let listed = read.list(&all).map_err(|error| Problem::of(&error))?;
    if let Some(damaged) = listed.damaged.first() {
        return Err(Problem::new(format!("{damaged}; it may be the owner")));
    }
    Ok(listed.records.into_iter().map(|tenant| tenant.record.incarnation).collect())
}

async fn members(config: &OvnConfig) -> Vec<DatabaseMember> {
    let clients = ovn_members(config);
    let ask_all = || join_all(clients.iter().map(|(_, database, client)| member(database, client.as_ref())));
    let first = ask_all().await;
    let newest = |database| {
        let states = clients.iter().zip(&first).filter(move |((_, of, _), _)| *of == database);
        states.filter_map(|(_, state)| state.as_ref().ok()?.1.index).max()
    };
    let is_behind = |(place, state): (usize, &Probed<(Duration, MemberState)>)| {
        let database = clients.get(place).map(|(_, database, _)| *database);
        state.as_ref().is_ok_and(|(_, state)| state.index < database.and_then(newest))
    };
    let states = if first.iter().enumerate().any(is_behind) {
        tokio::time::sleep(AGAIN).await;
        ask_all().await
    } else {
        first.clone()
    };
    let member = |((url, database, _), state): (&(String, &'static str, _), _)| DatabaseMember {
        url: url.clone(),
        database,
        state,
        newest: newest(*database),
    };
    clients.iter().zip(states).map(member).collect()
}

async fn member(database: &'static str, client: Result<&Remote, &EngineError>) -> Probed<(Duration, MemberState)> {
    in_time(async {
        let client = client.map_err(Problem::of)?;
        let begun = Instant::now();
        let state = client.states().await.into_iter().next().map(|(_, state)| state);
        let state = state.ok_or_else(|| Problem::new("no member is configured"))?;
        Ok((begun.elapsed(), state.map_err(|error| Problem::of(&unusable(database, error)))?))
    })
    .await
}
