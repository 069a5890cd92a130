//! Networks: ensure, diff, repair, delete.

use super::case::{CaseVerdict, EngineUnderTest, Unmet, require, require_same};
use super::samples::{self, Families, network};
use crate::drift::DriftKind;
use crate::engine::Engine;
use crate::network::{Network, NetworkNextHop, NetworkRoute};

/// The network is as described.
async fn require_complete<S: EngineUnderTest>(subject: &S, network: &Network) -> CaseVerdict {
    let drift = subject.engine().diff_network(network).await?;
    require(drift.is_empty(), || format!("the network of {} is not complete: {drift:?}", network.tenant))
}

/// Nothing of the network exists.
async fn require_absent<S: EngineUnderTest>(subject: &S, network: &Network) -> CaseVerdict {
    let drift = subject.engine().diff_network(network).await?;
    let rest: Vec<_> = drift.iter().filter(|drift| drift.difference != DriftKind::Missing).collect();
    require(!drift.is_empty() && rest.is_empty(), || format!("something of {} exists: {rest:?}", network.tenant))
}

pub(super) async fn a_network_is_complete_after_it_was_ensured<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    for subnets in 0..=3 {
        let network = network(subject.provider(), subnets, subnets, families);
        require_absent(subject, &network).await?;
        let applied = subject.engine().ensure_network(&network).await?;
        require(applied.created > 0, || format!("nothing was created: {applied:?}"))?;
        require_complete(subject, &network).await?;
    }
    Ok(())
}

pub(super) async fn ensuring_again_changes_nothing<S: EngineUnderTest>(subject: &S, families: Families) -> CaseVerdict {
    let network = network(subject.provider(), 1, 2, families);
    let first = subject.engine().ensure_network(&network).await?;
    let second = subject.engine().ensure_network(&network).await?;
    let changed = (second.created, second.updated, second.deleted);
    require_same(&changed, &(0, 0, 0), "created, updated and deleted by the second call")?;
    require_same(&second.kept, &first.created, "kept by the second call, of what the first one created")
}

pub(super) async fn a_network_that_was_never_made_is_missing_entirely<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 2, families);
    let drift = subject.engine().diff_network(&network).await?;
    require(!drift.is_empty(), || "the engine reports no drift of a network that does not exist".to_owned())?;
    require_absent(subject, &network).await?;
    let applied = subject.engine().ensure_network(&network).await?;
    require(applied.created >= drift.len(), || format!("drift of {} objects, but {applied:?}", drift.len()))
}

pub(super) async fn what_was_lost_is_shown_and_made_again<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 2, families);
    for id in [network.id.router(), network.id.subnet(2).object()] {
        subject.engine().ensure_network(&network).await?;
        require(subject.lose(id).await, || format!("the server has no object {id}"))?;
        let drift = subject.engine().diff_network(&network).await?;
        require(drift.iter().any(|drift| drift.id == id), || format!("the loss of {id} is not shown: {drift:?}"))?;
        subject.engine().ensure_network(&network).await?;
        require_complete(subject, &network).await?;
    }
    Ok(())
}

pub(super) async fn deleting_leaves_nothing_and_succeeds_again<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 2, families);
    subject.engine().ensure_network(&network).await?;
    let deleted = subject.engine().delete_network(&network).await?;
    require(deleted.deleted > 0, || format!("nothing was deleted: {deleted:?}"))?;
    require_absent(subject, &network).await?;
    subject.engine().delete_network(&network).await?;
    require_absent(subject, &network).await
}

pub(super) async fn two_networks_do_not_touch_each_other<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let [one, other] = [1, 2].map(|number| network(subject.provider(), number, 2, families));
    subject.engine().ensure_network(&one).await?;
    subject.engine().ensure_network(&other).await?;
    require_complete(subject, &one).await?;
    subject.engine().delete_network(&one).await?;
    require_absent(subject, &one).await?;
    require_complete(subject, &other).await
}

pub(super) async fn a_subnet_is_added_and_deleted_beside_another<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let small = network(subject.provider(), 1, 1, families);
    let large = network(subject.provider(), 1, 2, families);
    subject.engine().ensure_network(&small).await?;
    subject.engine().ensure_network(&large).await?;
    require_complete(subject, &large).await?;
    subject.engine().delete_subnet(&large, 2).await?;
    require_complete(subject, &small).await?;
    let drift = subject.engine().diff_network(&large).await?;
    let subnet = large.id.subnet(2).object();
    require(drift.iter().any(|drift| drift.id == subnet), || format!("subnet 2 still exists: {drift:?}"))?;
    subject.engine().delete_subnet(&large, 2).await?;
    require_complete(subject, &small).await
}

pub(super) async fn a_route_is_added_replaced_and_removed<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let plain = network(subject.provider(), 1, 1, families);
    let gateway = samples::port(&plain, 1, 9, 1, &subject.hosts()[0], families).addresses[0];
    let destination = match families {
        Families::V6 => "fd99::/64",
        Families::V4 | Families::Both => "10.99.0.0/16",
    };
    // Both are valid networks.
    let destination = destination.parse().expect("a valid network");
    let route = |next_hop| NetworkRoute { destination, next_hop };
    let with = |routes: &[NetworkRoute], removed: &[NetworkRoute], revision| Network {
        routes: routes.to_vec(),
        removed_routes: removed.to_vec(),
        revision,
        ..plain.clone()
    };
    let (first, second) = (route(NetworkNextHop::Gateway(gateway)), route(NetworkNextHop::Blackhole));
    let added = with(&[first], &[], 2);
    subject.engine().ensure_network(&plain).await?;
    subject.engine().ensure_network(&added).await?;
    require_complete(subject, &added).await?;
    let replaced = with(&[second], &[first], 3);
    subject.engine().ensure_network(&replaced).await?;
    require_complete(subject, &replaced).await?;
    let missing = async |network: &Network| {
        let mut drift = subject.engine().diff_network(network).await?;
        // An engine may record a next hop elsewhere too, which is then to be updated.
        drift.retain(|drift| !matches!(drift.difference, DriftKind::Differs(_)));
        Ok::<_, Unmet>(drift.len())
    };
    require_same(&missing(&added).await?, &1, "objects of the replaced route that are missing")?;
    let removed = with(&[], &[second], 4);
    subject.engine().ensure_network(&removed).await?;
    require_same(&missing(&replaced).await?, &1, "objects of the removed route that are missing")?;
    subject.engine().delete_routes(&removed, &[second]).await?;
    require_complete(subject, &plain).await
}

pub(super) async fn a_deleted_network_can_be_made_again<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 1, families);
    for _ in 0..2 {
        subject.engine().ensure_network(&network).await?;
        require_complete(subject, &network).await?;
        subject.engine().delete_network(&network).await?;
        require_absent(subject, &network).await?;
    }
    Ok(())
}

pub(super) async fn what_only_an_older_revision_has_is_withdrawn<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let blackhole = |destination: &str| NetworkRoute {
        // Both are valid networks.
        destination: destination.parse().expect("a valid network"),
        next_hop: NetworkNextHop::Blackhole,
    };
    let (kept, gone) = match families {
        Families::V6 => (blackhole("fd98::/64"), blackhole("fd99::/64")),
        Families::V4 | Families::Both => (blackhole("10.98.0.0/16"), blackhole("10.99.0.0/16")),
    };
    let stale = Network { routes: vec![kept, gone], ..network(subject.provider(), 1, 2, families) };
    let mut current = Network { routes: vec![kept], revision: 2, ..stale.clone() };
    current.subnets.truncate(1);
    subject.engine().ensure_network(&current).await?;
    // A writer that was paused between reading its record and applying it.
    subject.engine().ensure_network(&stale).await?;
    if !subject.engine().diff_network(&stale).await?.is_empty() {
        // The engine compares revisions: then it applies nothing of an older one.
        require_complete(subject, &current).await?;
    }
    subject.engine().withdraw_network(&stale, Some(&current)).await?;
    require_complete(subject, &current).await?;
    let drift = subject.engine().diff_network(&stale).await?;
    let subnet = stale.id.subnet(2).object();
    require(drift.iter().any(|drift| drift.id == subnet), || format!("subnet 2 still exists: {drift:?}"))?;
    let again = subject.engine().withdraw_network(&current, Some(&current)).await?;
    require_same(&again.rounds, &0, "requests to withdraw nothing")?;
    require_complete(subject, &current).await?;
    subject.engine().withdraw_network(&stale, None).await?;
    require_absent(subject, &stale).await
}
