//! What an engine lacks, and what it must not touch.

use super::case::{CaseVerdict, EngineUnderTest, require, require_same};
use super::samples::{Families, network};
use crate::drift::Drift;
use crate::engine::Engine;
use crate::error::EngineFailure;
use crate::port::PortRemoval;

/// A network with an address family that the engine does not forward is refused before any effect.
pub(super) async fn a_family_that_the_engine_lacks_is_refused<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let wanted = network(subject.provider(), 1, 1, families);
    match subject.engine().ensure_network(&wanted).await {
        Ok(applied) => return require(false, || format!("it was made: {applied:?}")),
        Err(error) => {
            require_same(&error.failure, &EngineFailure::Unsupported, &format!("the failure of: {error}"))?;
            require(error.remedy.is_some(), || format!("no remedy: {error}"))?;
        }
    }
    // The same tenant in IPv4 does not exist either.
    let plain = network(subject.provider(), 1, 1, Families::V4);
    let drift = subject.engine().diff_network(&plain).await?;
    let router = plain.id.router();
    require(drift.iter().any(|drift| drift.id == router), || "the refused network has a router".to_owned())
}

/// No object of a network is deleted as a pod's port, although one of them has the given id.
pub(super) async fn a_port_that_is_no_pods_is_left_alone<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 1, families);
    let missing = subject.engine().diff_network(&network).await?;
    require(!missing.is_empty(), || "a network that does not exist lacks nothing".to_owned())?;
    subject.engine().ensure_network(&network).await?;
    let before = subject.engine().diff_network(&network).await?;
    for Drift { id, .. } in missing {
        subject.engine().delete_port(&PortRemoval { id, port: None, verified: false }).await?;
    }
    require_same(&subject.engine().diff_network(&network).await?, &before, "drift")
}

pub(super) async fn hosts_are_known_by_their_ids<S: EngineUnderTest>(subject: &S, _: Families) -> CaseVerdict {
    for id in subject.hosts() {
        require_same(&subject.engine().host_id(&id)?, &id, "the id of a host as the engine writes it")?;
        let host = subject.engine().host(&id).await?;
        require(host.as_ref().is_some_and(|host| host.alive), || format!("host {id} is not alive: {host:?}"))?;
    }
    let unknown = uuid::Uuid::from_u128(0xdead).into();
    require_same(&subject.engine().host(&unknown).await?, &None, "an unknown host")
}

pub(super) async fn host_sides_are_stable_and_listed<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let [one, other] = [1, 2].map(|number| network(subject.provider(), number, 1, families).id);
    let engine = subject.engine();
    require_same(&engine.host_side(one), &engine.host_side(one), "the host side of one network")?;
    let _ = engine.host_side(other);
    require(!engine.host_sides().is_empty(), || "no host side is listed".to_owned())
}
