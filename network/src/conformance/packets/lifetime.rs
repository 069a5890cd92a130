//! What changes and deletions do to packets. A deletion takes effect some time after it is answered; from then on it lasts.

use super::super::case::{CaseVerdict, Unmet, require, require_same};
use super::super::ports::removal;
use super::super::samples::Families;
use super::forwarding::{far_away, made, pods_in, route_far_away};
use super::lab::{ForwardsPackets, Station};
use super::probe::{
    AttachedPod, Egress, Probe, between, datagram, require_forwarding, require_reaches, require_silence_soon, within,
};
use crate::engine::Engine;
use crate::network::{Network, NetworkNextHop};
use crate::port::PortRemoval;

/// Frames between two pods of one subnet in both directions, which depend on no resolved next hop.
fn direct<'a, S: Station>(one: &'a AttachedPod<S>, other: &'a AttachedPod<S>) -> Result<Vec<Probe<'a, S>>, Unmet> {
    let mut probes = Vec::new();
    for (from, to) in [(one, other), (other, one)] {
        for address in &to.port.addresses {
            probes.push(Probe::new(&from.station, from.raw(to.mac(), *address)?, &to.station));
        }
    }
    Ok(probes)
}

/// Frames between two pods of different subnets in both directions, to the gateways that they have resolved.
fn routed<'a, S: Station>(one: &'a AttachedPod<S>, other: &'a AttachedPod<S>) -> Result<Vec<Probe<'a, S>>, Unmet> {
    let mut probes = Vec::new();
    for (from, to) in [(one, other), (other, one)] {
        for address in &to.port.addresses {
            let gateway = from.gateway_mac_like(*address)?;
            probes.push(Probe::new(&from.station, from.raw(gateway, *address)?, &to.station));
        }
    }
    Ok(probes)
}

/// Frames of a pod to the external host, to the gateway that it has resolved.
fn outward<'a, S: Station>(from: &'a AttachedPod<S>, ways: &[Egress<'a, S>]) -> Result<Vec<Probe<'a, S>>, Unmet> {
    let probe = |way: &Egress<'a, S>| {
        let gateway = from.gateway_mac_like(way.address)?;
        Ok(Probe::new(&from.station, from.raw(gateway, way.address)?, way.external))
    };
    ways.iter().map(probe).collect()
}

/// Each of them arrives.
async fn require_arrival<S: Station>(probes: &[Probe<'_, S>]) -> CaseVerdict {
    for probe in probes {
        probe.arrives().await?;
    }
    Ok(())
}

/// The pod keeps its interface. Both ways to delete are used.
pub(super) async fn a_deleted_port_is_silent_and_one_that_is_ensured_again_forwards<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let external = subject.external().map_err(Unmet)?;
    let ways = Egress::of(subject, &external, &network);
    let [leaving, near, other, far] = &pods_in(subject, &network, [(1, 2), (1, 3), (1, 4), (2, 2)], families).await?;
    require_reaches(leaving, far).await?;
    require_reaches(far, leaving).await?;
    for way in &ways {
        way.require(leaving, &within(near, other, way.address)?).await?;
    }
    let mut all = direct(leaving, near)?;
    all.extend(routed(leaving, far)?);
    all.extend(outward(leaving, &ways)?);
    let witnesses: Vec<_> = between(near, other).chain(between(far, near)).collect();
    for removal in [removal(&leaving.port, true), PortRemoval::by_id(leaving.port.id)] {
        require_arrival(&all).await?;
        subject.engine().delete_port(&removal).await?;
        require_silence_soon(&all, &witnesses).await?;
        require_forwarding(subject, leaving).await?;
        // A datapath may remember for a moment what it decided while the port did not exist.
        for probe in &all {
            probe.arrives_soon(&witnesses[0]).await?;
        }
    }
    require_arrival(&all).await?;
    require_reaches(leaving, near).await?;
    require_reaches(leaving, far).await
}

pub(super) async fn a_port_that_is_ensured_twice_keeps_forwarding<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let [one, other, near, far] = pods_in(subject, &network, [(1, 2), (2, 2), (1, 3), (2, 3)], families).await?;
    require_reaches(&one, &other).await?;
    for _ in 0..3 {
        for pod in [&one, &other] {
            subject.engine().ensure_port(&pod.port).await?;
            subject.engine().ensure_network(&network).await?;
            require_reaches(&one, &other).await?;
            require_reaches(&other, &one).await?;
            // A pod that is connected anew may lose packets until its datapath has forgotten the connection before.
            require_forwarding(subject, pod).await?;
            for witness in between(&near, &far) {
                let source = witness.arrives().await?.from.ip();
                within(&one, &other, source)?.arrives_soon(&witness).await?;
                within(&other, &one, source)?.arrives_soon(&witness).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn a_deleted_subnet_forwards_nothing<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let external = subject.external().map_err(Unmet)?;
    let ways = Egress::of(subject, &external, &network);
    let [one, other, gone, gone_too] = &pods_in(subject, &network, [(1, 2), (1, 3), (2, 2), (2, 3)], families).await?;
    for (from, to) in [(one, gone), (gone, one), (gone, gone_too)] {
        require_reaches(from, to).await?;
    }
    for way in &ways {
        way.require(gone, &within(one, other, way.address)?).await?;
    }
    let mut all = direct(gone, gone_too)?;
    all.extend(routed(one, gone)?);
    all.extend(outward(gone, &ways)?);
    require_arrival(&all).await?;
    subject.engine().delete_subnet(&network, 2).await?;
    let witnesses: Vec<_> = between(one, other).collect();
    require_silence_soon(&all, &witnesses).await?;
    require_same(&subject.engine().port(gone.port.id).await?, &None, "the port of the deleted subnet")
}

pub(super) async fn a_deleted_network_forwards_nothing_and_one_that_is_made_again_does<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let external = subject.external().map_err(Unmet)?;
    let staying = made(subject, 2, families).await?;
    let [stays, stays_too] = pods_in(subject, &staying, [(1, 2), (2, 2)], families).await?;
    let witnesses: Vec<_> = between(&stays, &stays_too).collect();
    for _ in 0..2 {
        let network = made(subject, 1, families).await?;
        let ways = Egress::of(subject, &external, &network);
        let [one, other, far] = &pods_in(subject, &network, [(1, 2), (1, 3), (2, 2)], families).await?;
        require_reaches(one, far).await?;
        require_reaches(far, one).await?;
        for way in &ways {
            way.require(one, &within(other, one, way.address)?).await?;
        }
        let mut all = direct(one, other)?;
        all.extend(routed(one, far)?);
        all.extend(outward(one, &ways)?);
        require_arrival(&all).await?;
        subject.engine().delete_network(&network).await?;
        require_silence_soon(&all, &witnesses).await?;
    }
    for way in Egress::of(subject, &external, &staying) {
        way.require(&stays, &within(&stays, &stays_too, way.address)?).await?;
    }
    Ok(())
}

/// A pod, the next hop of a route, and what the route carries.
async fn require_route_ends<S: ForwardsPackets>(
    subject: &S,
    families: Families,
    end: impl AsyncFn(&Network, &Network) -> CaseVerdict,
) -> CaseVerdict {
    let plain = made(subject, 1, families).await?;
    let [one, hop] = pods_in(subject, &plain, [(1, 2), (2, 2)], families).await?;
    let gateways = |to: &std::net::IpAddr| hop.address_like(*to).map(NetworkNextHop::Gateway);
    let mut routes = Vec::new();
    for to in far_away(families, 7) {
        routes.push(route_far_away(to, gateways(&to)?));
    }
    // Records grow older: an engine may refuse one that is older than what it has.
    for revision in [2, 4] {
        let with = Network { routes: routes.clone(), revision, ..plain.clone() };
        subject.engine().ensure_network(&with).await?;
        let carried = || {
            far_away(families, 7)
                .into_iter()
                .map(|to| Ok(Probe::new(&one.station, datagram(one.address_like(to)?, to), &hop.station)))
        };
        let carried = carried().collect::<Result<Vec<_>, Unmet>>()?;
        let witnesses: Vec<_> = between(&one, &hop).collect();
        for (probe, witness) in carried.iter().zip(&witnesses) {
            probe.arrives_soon(witness).await?;
        }
        end(&with, &plain).await?;
        require_silence_soon(&carried, &witnesses).await?;
    }
    Ok(())
}

pub(super) async fn a_removed_route_carries_nothing<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    require_route_ends(subject, families, async |with, without| {
        let current = Network { removed_routes: with.routes.clone(), revision: with.revision + 1, ..without.clone() };
        subject.engine().ensure_network(&current).await?;
        Ok(())
    })
    .await
}

/// A writer was paused between reading its record and applying it.
pub(super) async fn a_withdrawn_route_carries_nothing<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    require_route_ends(subject, families, async |stale, without| {
        let current = Network { revision: stale.revision + 1, ..without.clone() };
        subject.engine().withdraw_network(stale, Some(&current)).await?;
        Ok(())
    })
    .await
}

pub(super) async fn what_was_lost_forwards_again_after_it_was_ensured<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let [one, other, near, far] = pods_in(subject, &network, [(1, 2), (1, 3), (2, 2), (2, 3)], families).await?;
    let external = subject.external().map_err(Unmet)?;
    // The subnet takes the ports of its pods along.
    let subnet = network.id.subnet(1).object();
    require_reaches(&one, &other).await?;
    require(subject.lose(subnet).await, || format!("the server has no object {subnet}"))?;
    subject.engine().ensure_network(&network).await?;
    for pod in [&one, &other] {
        require_forwarding(subject, pod).await?;
    }
    for witness in between(&near, &far) {
        let source = witness.arrives().await?.from.ip();
        within(&one, &other, source)?.arrives_soon(&witness).await?;
        within(&other, &one, source)?.arrives_soon(&witness).await?;
    }
    require_reaches(&one, &other).await?;
    require_reaches(&other, &one).await?;
    for way in Egress::of(subject, &external, &network) {
        way.require(&one, &within(&one, &other, way.address)?).await?;
    }
    Ok(())
}
