//! Ports of pods: ensure, read, list, delete.

use std::collections::BTreeSet;

use super::case::{CaseVerdict, EngineUnderTest, require, require_same};
use super::samples::{Families, network, port};
use crate::engine::Engine;
use crate::error::EngineFailure;
use crate::network::Network;
use crate::port::{PodPort, PortRemoval};

/// A network with two subnets, which exists.
async fn made<S: EngineUnderTest>(subject: &S, families: Families) -> Result<Network, super::case::Unmet> {
    let network = network(subject.provider(), 1, 2, families);
    subject.engine().ensure_network(&network).await?;
    Ok(network)
}

pub(super) fn removal(port: &PodPort, verified: bool) -> PortRemoval {
    PortRemoval { id: port.id, port: Some(port.clone()), verified }
}

/// The port exists as described.
async fn require_as_described<S: EngineUnderTest>(subject: &S, port: &PodPort) -> CaseVerdict {
    let Some(state) = subject.engine().port(port.id).await? else {
        return require(false, || format!("port {} does not exist", port.id));
    };
    let difference = port.difference(&state);
    require(difference.is_none(), || format!("port {}: {}", port.id, difference.unwrap_or_default()))
}

/// The port is refused because its subnet or host does not exist.
async fn require_absent_parent<S: EngineUnderTest>(subject: &S, port: &PodPort) -> CaseVerdict {
    match subject.engine().ensure_port(port).await {
        Ok(state) => require(false, || format!("the port was made: {state:?}")),
        Err(error) => require_same(&error.failure, &EngineFailure::Absent, &format!("the failure of: {error}")),
    }
}

pub(super) async fn a_port_is_as_it_was_described<S: EngineUnderTest>(subject: &S, families: Families) -> CaseVerdict {
    let network = made(subject, families).await?;
    for (number, host) in (2..).zip(subject.hosts()) {
        let wanted = port(&network, 1, number, 1, &host, families);
        require_same(&subject.engine().port(wanted.id).await?, &None, "the port before it was made")?;
        let state = subject.engine().ensure_port(&wanted).await?;
        require_same(&wanted.difference(&state), &None, "the state that was returned")?;
        require_as_described(subject, &wanted).await?;
    }
    Ok(())
}

pub(super) async fn ensuring_a_port_again_changes_nothing<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, families).await?;
    let wanted = port(&network, 1, 2, 1, &subject.hosts()[0], families);
    subject.engine().ensure_port(&wanted).await?;
    require_as_described(subject, &wanted).await?;
    let before = subject.engine().port(wanted.id).await?;
    subject.engine().ensure_port(&wanted).await?;
    require_same(&subject.engine().port(wanted.id).await?, &before, "the port after the second call")
}

pub(super) async fn a_port_of_an_absent_network_is_refused<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 1, families);
    let wanted = port(&network, 1, 2, 1, &subject.hosts()[0], families);
    require_absent_parent(subject, &wanted).await
}

pub(super) async fn a_port_of_an_absent_host_is_refused<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, families).await?;
    let unknown = uuid::Uuid::from_u128(0xdead).into();
    let wanted = port(&network, 1, 2, 1, &unknown, families);
    if subject.engine().capabilities().await?.checks_hosts {
        return require_absent_parent(subject, &wanted).await;
    }
    let state = subject.engine().ensure_port(&wanted).await?;
    require(!state.active, || format!("the port of an absent host is active: {state:?}"))
}

pub(super) async fn a_subnet_lists_the_ports_of_its_pods_and_no_others<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = network(subject.provider(), 1, 2, families);
    let (first, second) = (network.id.subnet(1), network.id.subnet(2));
    require_same(&subject.engine().ports(first).await?, &Vec::new(), "ports of a subnet that does not exist")?;
    subject.engine().ensure_network(&network).await?;
    require_same(&subject.engine().ports(first).await?, &Vec::new(), "ports of an empty subnet")?;
    let mut expected = BTreeSet::new();
    for number in 2..6 {
        let wanted = port(&network, 1, number, 1, &subject.hosts()[usize::from(number % 2)], families);
        subject.engine().ensure_port(&wanted).await?;
        expected.insert(wanted.id);
    }
    let found: BTreeSet<_> = subject.engine().ports(first).await?.into_iter().collect();
    require_same(&found, &expected, "ports of subnet 1")?;
    require_same(&subject.engine().ports(second).await?, &Vec::new(), "ports of subnet 2")
}

pub(super) async fn a_deleted_port_is_gone_and_deleting_succeeds_again<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, families).await?;
    for (number, verified) in [(2, false), (3, true)] {
        let wanted = port(&network, 1, number, 1, &subject.hosts()[0], families);
        let id_only = PortRemoval { id: wanted.id, port: None, verified: false };
        for removal in [removal(&wanted, verified), id_only] {
            subject.engine().ensure_port(&wanted).await?;
            require_as_described(subject, &wanted).await?;
            subject.engine().delete_port(&removal).await?;
            require_same(&subject.engine().port(wanted.id).await?, &None, "the deleted port")?;
            subject.engine().delete_port(&removal).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_port_with_several_addresses_is_made_and_deleted<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, families).await?;
    let wanted = port(&network, 1, 2, 3, &subject.hosts()[0], families);
    subject.engine().ensure_port(&wanted).await?;
    require_as_described(subject, &wanted).await?;
    subject.engine().ensure_port(&wanted).await?;
    require_as_described(subject, &wanted).await?;
    subject.engine().delete_port(&removal(&wanted, true)).await?;
    require_same(&subject.engine().port(wanted.id).await?, &None, "the deleted port")?;
    let drift = subject.engine().diff_network(&network).await?;
    require(drift.is_empty(), || format!("the network changed with the port: {drift:?}"))
}

pub(super) async fn deleting_a_network_takes_its_ports_along<S: EngineUnderTest>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, families).await?;
    let wanted = port(&network, 1, 2, 1, &subject.hosts()[0], families);
    subject.engine().ensure_port(&wanted).await?;
    require_as_described(subject, &wanted).await?;
    subject.engine().delete_network(&network).await?;
    require_same(&subject.engine().port(wanted.id).await?, &None, "the port of the deleted network")
}
