//! What no network lets through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use atoll_model::attachment::Mac;
use ipnetwork::IpNetwork;

use super::super::case::{CaseVerdict, Unmet, require, require_same};
use super::super::samples::{Families, network, port, prefix};
use super::forwarding::{far_away, made, pods_in};
use super::lab::{ForwardsPackets, Frame, Station};
use super::probe::{
    AttachedPod, Egress, PORT, Probe, between, claim, datagram, datagram_at, pod, raw, require_reaches,
    require_silence, within,
};
use crate::engine::Engine;
use crate::error::EngineFailure;
use crate::network::{Network, NetworkNextHop, NetworkRoute};
use crate::port::PodPort;

/// A pod of one tenant knows everything about another tenant: addresses, MACs, translated ports.
pub(super) async fn two_tenants_do_not_reach_each_other<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let external = subject.external().map_err(Unmet)?;
    let other = made(subject, 2, families).await?;
    let [target, neighbour] = pods_in(subject, &other, [(1, 2), (1, 3)], families).await?;
    // Routes that an owner of the first tenant adds: by a pod of its own, and by the other tenant's gateways.
    let plain = network(subject.provider(), 1, 2, families);
    let hop = port(&plain, 2, 3, 1, &subject.hosts()[0], families);
    let routes = target.port.addresses.iter().flat_map(|address| {
        let gateways = other.subnets.iter().flat_map(|subnet| &subnet.prefixes).map(|prefix| prefix.gateway);
        let hops = gateways.chain(hop.addresses.iter().copied()).filter(|hop| hop.is_ipv4() == address.is_ipv4());
        let destination = IpNetwork::from(*address);
        hops.map(move |hop| NetworkRoute { destination, next_hop: NetworkNextHop::Gateway(hop) })
    });
    let routed: Vec<_> = routes.collect();
    for routes in std::iter::once(Vec::new()).chain(routed.into_iter().map(|route| vec![route])) {
        let network = Network { routes, ..plain.clone() };
        subject.engine().ensure_network(&network).await?;
        let [one, near] = pods_in(subject, &network, [(1, 2), (2, 3)], families).await?;
        require_reaches(&one, &near).await?;
        for egress in Egress::of(subject, &external, &other) {
            let witness = within(&neighbour, &target, egress.address)?;
            let seen = egress.require(&target, &witness).await?.from;
            let (own, aim) = (one.address_like(egress.address)?, target.address_like(egress.address)?);
            let gateway = one.gateway_mac_like(own)?;
            let claimed = [own, neighbour.address_like(aim)?, target.gateway_like(aim)?, egress.address, aim];
            let mut frames = vec![
                // To the pod, and to the translated flow of the pod by its tenant's transit address.
                datagram(own, aim),
                datagram_at((own, PORT), seen),
                one.raw(target.mac(), aim)?,
            ];
            for source in claimed {
                frames.push(raw((one.mac(), source), (gateway, aim)));
                let (from, to) = ((one.mac(), SocketAddr::from((source, PORT))), (gateway, seen));
                frames.push(Frame::Raw { from, to, mark: String::new() });
            }
            let lost: Vec<_> =
                frames.into_iter().map(|frame| Probe::new(&one.station, frame, &target.station)).collect();
            require_silence(&lost, &[within(&one, &near, own)?, within(&neighbour, &target, own)?]).await?;
        }
        subject.engine().delete_network(&network).await?;
    }
    require_reaches(&neighbour, &target).await
}

pub(super) async fn tenants_may_have_equal_prefixes_if_the_engine_says_so<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let overlapping = subject.engine().capabilities().await?.overlapping;
    let one = made(subject, 1, families).await?;
    let other = Network { subnets: one.subnets.clone(), ..network(subject.provider(), 2, 2, families) };
    let made = subject.engine().ensure_network(&other).await;
    if !overlapping {
        return match made {
            Ok(applied) => {
                require(false, || format!("the engine says that prefixes may not overlap, and made {applied:?}"))
            }
            Err(error) => {
                require_same(&error.failure, &EngineFailure::Unsupported, &format!("the failure of: {error}"))
            }
        };
    }
    made?;
    let port_of = |network: &Network, place: (u8, u8)| {
        let same = port(&one, place.0, place.1, 1, &subject.hosts()[0], families);
        let own = port(network, place.0, place.1, 1, &subject.hosts()[0], families);
        PodPort { addresses: same.addresses, unique: false, ..own }
    };
    let external = subject.external().map_err(Unmet)?;
    let mut tenants = Vec::new();
    for network in [&one, &other] {
        let mut pods = Vec::new();
        for place in [(1, 2), (1, 3), (2, 2)] {
            pods.push(pod(subject, network, port_of(network, place)).await?);
        }
        tenants.push((network, pods));
    }
    for ((network, own), (_, others)) in [(&tenants[0], &tenants[1]), (&tenants[1], &tenants[0])] {
        for from in own {
            for (to, twin) in own.iter().zip(others).filter(|(to, _)| to.port.id != from.port.id) {
                require_reaches(from, to).await?;
                let lost = between(from, twin).collect::<Vec<_>>();
                let theirs: Vec<_> = others.iter().filter(|sender| sender.port.id != twin.port.id).collect();
                let witnesses = between(from, to).chain(between(theirs[0], twin)).collect::<Vec<_>>();
                require_silence(&lost, &witnesses).await?;
            }
        }
        for egress in Egress::of(subject, &external, network) {
            let witness = within(&own[1], &own[0], egress.address)?;
            let received = egress.require(&own[0], &witness).await?;
            // The answer reaches the pod that sent, and not the pod with the same address.
            let answer = egress.answer(&received, &own[0]);
            let stray = egress.answer(&received, &others[0]);
            require_silence(&[stray], &[answer, within(&others[1], &others[0], egress.address)?]).await?;
        }
    }
    Ok(())
}

pub(super) async fn only_answers_enter_from_the_external_network<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let external = subject.external().map_err(Unmet)?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (1, 3)], families).await?;
    for egress in Egress::of(subject, &external, &network) {
        let witness = within(&other, &one, egress.address)?;
        let received = egress.require(&one, &witness).await?;
        let own = one.address_like(egress.address)?;
        let to =
            |from: u16, to: SocketAddr| Probe::new(&external, datagram_at((egress.address, from), to), &one.station);
        let lost = [
            // Another sender, another port of the tenant's address, the pod itself.
            to(PORT + 1, received.from),
            to(PORT, (received.from.ip(), received.from.port() ^ 1).into()),
            to(PORT, (own, PORT).into()),
            to(PORT + 1, (own, PORT).into()),
        ];
        require_silence(&lost, &[egress.answer(&received, &one)]).await?;
    }
    Ok(())
}

pub(super) async fn a_pod_sends_from_its_own_addresses_only<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let pods = pods_in(subject, &network, [(1, 2), (1, 3), (1, 4), (2, 2)], families).await?;
    require_own_sources(&pods).await
}

/// A route that contains every address of its tenant leads to a pod. The pod gets no address of another by that.
pub(super) async fn a_next_hop_sends_from_no_address_of_another<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let plain = made(subject, 1, families).await?;
    let pods = pods_in(subject, &plain, [(1, 2), (1, 3), (1, 4), (2, 2)], families).await?;
    let [one, _, _, far] = &pods;
    let mut routes = Vec::new();
    for to in far_away(families, 7) {
        // Every address of the suite's tenants is in them (`samples`).
        let wide =
            if to.is_ipv4() { prefix(Ipv4Addr::new(10, 0, 0, 0), 8) } else { prefix(Ipv6Addr::from(0xfd << 120), 8) };
        routes.push(NetworkRoute { destination: wide, next_hop: NetworkNextHop::Gateway(one.address_like(to)?) });
    }
    let network = Network { routes, revision: plain.revision + 1, ..plain };
    subject.engine().ensure_network(&network).await?;
    for to in far_away(families, 7) {
        let source = far.address_like(to)?;
        let led = Probe::new(&far.station, datagram(source, to), &one.station);
        led.arrives_soon(&within(far, one, source)?).await?;
    }
    require_own_sources(&pods).await
}

/// The first pod sends from its own addresses and MAC, and from no others.
async fn require_own_sources<S: Station>([one, near, victim, far]: &[AttachedPod<S>; 4]) -> CaseVerdict {
    for (from, to) in [(one, near), (one, far), (near, victim), (far, near), (far, victim), (near, far)] {
        require_reaches(from, to).await?;
    }
    for own in &one.port.addresses {
        let (gateway, gateway_mac) = (one.gateway_like(*own)?, one.gateway_mac_like(*own)?);
        let (to_near, to_far) = ((near.mac(), near.address_like(*own)?), (gateway_mac, far.address_like(*own)?));
        let claimed = victim.address_like(*own)?;
        let elsewhere = match own {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(192, 0, 2, 9)),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
        };
        let probe =
            |frame, to_far: bool| Probe::new(&one.station, frame, if to_far { &far.station } else { &near.station });
        // Frames of the same form with the pod's own addresses arrive.
        let honest = [
            probe(raw((one.mac(), *own), to_near), false),
            probe(raw((one.mac(), *own), to_far), true),
            probe(claim(one.mac(), one.mac(), *own), false),
        ];
        for probe in &honest {
            probe.arrives().await?;
        }
        let strange = Mac([2, 0xff, 0, 0, 0, 1]);
        let macs = [one.mac(), victim.mac(), gateway_mac, strange];
        let addresses = [*own, claimed, gateway, far.address_like(*own)?, elsewhere];
        let mut lost = Vec::new();
        for mac in macs {
            for address in addresses {
                if (mac, address) != (one.mac(), *own) {
                    lost.push(probe(raw((mac, address), to_near), false));
                    lost.push(probe(raw((mac, address), to_far), true));
                    lost.push(probe(claim(mac, mac, address), false));
                    lost.push(probe(claim(one.mac(), mac, address), false));
                    lost.push(probe(claim(mac, one.mac(), address), false));
                }
            }
        }
        // The frame's source or the claim alone is false.
        lost.push(probe(claim(strange, one.mac(), *own), false));
        lost.push(probe(claim(one.mac(), strange, *own), false));
        require_silence(&lost, &honest).await?;
    }
    // No claim has moved the victim's or the gateway's address.
    for (from, to) in [(near, victim), (far, victim), (near, far)] {
        require_reaches(from, to).await?;
    }
    Ok(())
}

pub(super) async fn a_service_prefix_is_not_routed_to_the_external_network<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let (v4, v6) = (Ipv4Addr::new(10, 96, 0, 1), Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 1));
    let services: Vec<IpAddr> = families.of(v4.into(), v6.into());
    let plain = network(subject.provider(), 1, 2, families);
    let with = Network { services: services.iter().copied().map(IpNetwork::from).collect(), ..plain };
    subject.engine().ensure_network(&with).await?;
    let external = subject.external().map_err(Unmet)?;
    let [one, other] = pods_in(subject, &with, [(1, 2), (2, 2)], families).await?;
    for egress in Egress::of(subject, &external, &with) {
        egress.require(&one, &within(&one, &other, egress.address)?).await?;
        for service in services.iter().filter(|service| service.is_ipv4() == egress.address.is_ipv4()) {
            let lost = Probe::new(&one.station, datagram(one.address_like(*service)?, *service), &external);
            require_silence(&[lost], &[egress.probe(&one)?]).await?;
        }
    }
    Ok(())
}
