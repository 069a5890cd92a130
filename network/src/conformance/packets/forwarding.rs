//! What a network forwards.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_model::derive::NetworkPart;
use ipnetwork::IpNetwork;

use super::super::case::{CaseVerdict, Unmet, require, require_same};
use super::super::samples::{self, Families, network, port};
use super::lab::ForwardsPackets;
use super::probe::{
    AttachedPod, Egress, PORT, Probe, between, datagram, datagram_at, pod, raw, require_reaches, require_silence,
    require_silence_soon, within,
};
use crate::engine::Engine;
use crate::network::{Network, NetworkNextHop, NetworkRoute};
use crate::provider::{ProviderNetwork, provider_object};

/// The network of tenant `number` with two subnets, which exists.
pub(super) async fn made<S: ForwardsPackets>(subject: &S, number: u8, families: Families) -> Result<Network, Unmet> {
    let network = network(subject.provider(), number, 2, families);
    subject.engine().ensure_network(&network).await?;
    Ok(network)
}

/// Pod number `number` of a subnet.
pub(super) async fn pod_in<S: ForwardsPackets>(
    subject: &S,
    network: &Network,
    (ordinal, number): (u8, u8),
    families: Families,
) -> Result<AttachedPod<S::Station>, Unmet> {
    pod(subject, network, port(network, ordinal, number, 1, &subject.hosts()[0], families)).await
}

/// Pods at these places: subnet and number.
pub(super) async fn pods_in<S: ForwardsPackets, const N: usize>(
    subject: &S,
    network: &Network,
    places: [(u8, u8); N],
    families: Families,
) -> Result<[AttachedPod<S::Station>; N], Unmet> {
    let mut pods = Vec::new();
    for place in places {
        pods.push(pod_in(subject, network, place, families).await?);
    }
    pods.try_into().map_err(|_| Unmet(format!("{N} pods")))
}

pub(super) async fn pods_of_one_subnet_reach_each_other<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (1, 3)], families).await?;
    require_reaches(&one, &other).await?;
    require_reaches(&other, &one).await
}

pub(super) async fn pods_of_two_subnets_reach_each_other_by_their_router<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (2, 2)], families).await?;
    require_reaches(&one, &other).await?;
    require_reaches(&other, &one).await?;
    for probe in between(&one, &other) {
        let received = probe.arrives().await?;
        let gateway = other.gateway_mac_like(received.from.ip())?;
        require_same(&received.mac, &gateway, "the source of a frame from another subnet, which is its gateway's")?;
    }
    Ok(())
}

/// Prefixes whose length is not that of every other case, with the last address as the gateway.
pub(super) async fn a_subnet_of_any_length_and_gateway_is_served<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let mut network = network(subject.provider(), 1, 2, families);
    for prefix in &mut network.subnets[0].prefixes {
        let last = |base: IpAddr| match base {
            IpAddr::V4(base) => (IpAddr::from(Ipv4Addr::from(u32::from(base) + 14)), 28),
            IpAddr::V6(base) => (IpAddr::from(Ipv6Addr::from(u128::from(base) + 14)), 124),
        };
        let (gateway, length) = last(prefix.prefix.network());
        prefix.gateway = gateway;
        prefix.prefix = samples::prefix(prefix.prefix.network(), length);
    }
    subject.engine().ensure_network(&network).await?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (1, 13)], families).await?;
    let far = pod_in(subject, &network, (2, 2), families).await?;
    for (from, to) in [(&one, &other), (&one, &far), (&far, &other)] {
        require_reaches(from, to).await?;
    }
    // Address 20 is of the old prefix only. The gateway forwards it to no pod of the subnet.
    for probe in between(&far, &one) {
        let beyond = match probe.arrives().await?.from.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(10, 1, 1, 20)),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::new(0xfd00, 1, 1, 0, 0, 0, 0, 20)),
        };
        let lost = Probe::new(&far.station, datagram(far.address_like(beyond)?, beyond), &one.station);
        require_silence(&[lost], &between(&far, &one).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

pub(super) async fn every_address_of_a_port_is_served<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let network = made(subject, 1, families).await?;
    let wanted = port(&network, 1, 10, 3, &subject.hosts()[0], families);
    let many = pod(subject, &network, wanted).await?;
    let near = pod_in(subject, &network, (1, 2), families).await?;
    let far = pod_in(subject, &network, (2, 2), families).await?;
    for peer in [&near, &far] {
        for address in &many.port.addresses {
            let own = peer.address_like(*address)?;
            let there = Probe::new(&peer.station, datagram(own, *address), &many.station);
            let back = Probe::new(&many.station, datagram(*address, own), &peer.station);
            let witness: Vec<_> = between(&many, peer).collect();
            // Further addresses may take effect after the port is active.
            for probe in [there, back] {
                probe.arrives_soon(&witness[0]).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn a_pod_reaches_the_external_network_with_its_tenants_address<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let external = subject.external().map_err(Unmet)?;
    for number in [1, 2] {
        let network = made(subject, number, families).await?;
        let [one, other] = pods_in(subject, &network, [(1, 2), (2, 2)], families).await?;
        for egress in Egress::of(subject, &external, &network) {
            for (from, to) in [(&one, &other), (&other, &one)] {
                for witness in between(from, to) {
                    egress.require(from, &witness).await?;
                }
            }
        }
    }
    Ok(())
}

/// A destination of each family that no subnet and no other network has.
pub(super) fn far_away(families: Families, host: u8) -> Vec<IpAddr> {
    let (v4, v6) = (Ipv4Addr::new(10, 99, 0, host), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, u16::from(host)));
    families.of(v4.into(), v6.into())
}

/// A route for this destination alone.
pub(super) fn route_far_away(to: IpAddr, next_hop: NetworkNextHop) -> NetworkRoute {
    NetworkRoute { destination: IpNetwork::from(to), next_hop }
}

pub(super) async fn a_static_route_leads_to_its_next_hop<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let plain = made(subject, 1, families).await?;
    let external = subject.external().map_err(Unmet)?;
    let [one, hop] = pods_in(subject, &plain, [(1, 2), (2, 2)], families).await?;
    for egress in Egress::of(subject, &external, &plain) {
        let source = one.address_like(egress.address)?;
        let witness = within(&one, &hop, source)?;
        egress.require(&one, &witness).await?;
        // A destination that is the external host's own, and one that nothing has.
        let elsewhere = far_away(families, 7).into_iter().find(|to| to.is_ipv4() == source.is_ipv4());
        for (flow, to) in (1..).zip(std::iter::once(egress.address).chain(elsewhere)) {
            // Of a flow of its own: what becomes of flows is another case.
            let sent = |receiver| Probe::new(&one.station, datagram_at((source, PORT + flow), (to, PORT)), receiver);
            let gateway = NetworkNextHop::Gateway(hop.address_like(source)?);
            let with = |next_hop| Network { routes: vec![route_far_away(to, next_hop)], ..plain.clone() };
            subject.engine().ensure_network(&with(gateway)).await?;
            sent(&hop.station).arrives_soon_from(source, &witness).await?;
            require_silence(&[sent(&external)], &[sent(&hop.station)]).await?;
            subject.engine().delete_routes(&plain, &with(gateway).routes).await?;
            // The default route carries them again.
            sent(&external).arrives_soon(&witness).await?;
            for next_hop in [NetworkNextHop::Blackhole, NetworkNextHop::Reject] {
                subject.engine().ensure_network(&with(next_hop)).await?;
                let lost = [sent(&hop.station), sent(&external)];
                require_silence_soon(&lost, &[within(&one, &hop, source)?]).await?;
                subject.engine().delete_routes(&plain, &with(next_hop).routes).await?;
                sent(&external).arrives_soon(&witness).await?;
            }
        }
        egress.require(&one, &witness).await?;
    }
    Ok(())
}

/// A flow that leaves by another way than before has the source of that way, with an answer before or without.
pub(super) async fn a_flow_follows_a_changed_route<S: ForwardsPackets>(subject: &S, families: Families) -> CaseVerdict {
    let plain = made(subject, 1, families).await?;
    let external = subject.external().map_err(Unmet)?;
    let [one, hop] = pods_in(subject, &plain, [(1, 2), (2, 2)], families).await?;
    for egress in Egress::of(subject, &external, &plain) {
        let source = one.address_like(egress.address)?;
        let witness = within(&one, &hop, source)?;
        let next_hop = NetworkNextHop::Gateway(hop.address_like(source)?);
        let routed = Network { routes: vec![route_far_away(egress.address, next_hop)], ..plain.clone() };
        let inside = Probe::new(&one.station, datagram(source, egress.address), &hop.station);
        for answered in [false, true] {
            if answered {
                egress.require(&one, &witness).await?;
            } else {
                egress.require_outward(&one, &witness).await?;
            }
            subject.engine().ensure_network(&routed).await?;
            inside.arrives_soon_from(source, &witness).await?;
            subject.engine().delete_routes(&plain, &routed.routes).await?;
            // No datagram leaves with the pod's own address, not even while the change takes effect.
            egress.require_outward(&one, &witness).await?;
        }
        egress.require(&one, &witness).await?;
    }
    Ok(())
}

pub(super) async fn several_uplinks_carry_packets_if_the_engine_says_so<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let several = subject.engine().capabilities().await?.several_uplinks;
    let cluster = network(subject.provider(), 1, 0, families).id.cluster;
    let provider = ProviderNetwork { cluster, uplinks: subject.uplinks(families) };
    subject.engine().ensure_provider(&provider).await?;
    let network = network(provider_object(cluster, &NetworkPart::ProviderRouter), 1, 2, families);
    subject.engine().ensure_network(&network).await?;
    let external = subject.external().map_err(Unmet)?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (2, 2)], families).await?;
    for witness in between(&one, &other) {
        let mut uplinks = BTreeSet::new();
        for host in 1..=64 {
            // Documentation prefixes (RFC 5737, RFC 3849): only the default routes of the uplinks lead there.
            let to = match witness.arrives().await?.from.ip() {
                IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(192, 0, 2, host)),
                IpAddr::V6(_) => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host))),
            };
            let out = Probe::new(&one.station, datagram(one.address_like(to)?, to), &external);
            uplinks.insert(out.arrives_soon(&witness).await?.mac);
        }
        require(uplinks.len() == if several { 2 } else { 1 }, || {
            format!("the engine says {several} for several uplinks, and packets leave by {uplinks:?}")
        })?;
    }
    Ok(())
}

pub(super) async fn pods_of_several_hosts_are_served_if_the_engine_says_so<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let several = subject.engine().capabilities().await?.several_hosts;
    let network = made(subject, 1, families).await?;
    let elsewhere = port(&network, 1, 4, 1, &subject.hosts()[1], families);
    if several {
        let [here, near] = pods_in(subject, &network, [(1, 2), (1, 3)], families).await?;
        let there = pod(subject, &network, elsewhere).await?;
        let witnesses = between(&here, &near).zip(&there.port.addresses);
        for (witness, address) in witnesses {
            // A port is active on its own host; another one may hear of it later.
            let source = here.address_like(*address)?;
            for (from, to) in [(&here, &there), (&there, &here)] {
                within(from, to, source)?.arrives_soon_from(from.address_like(source)?, &witness).await?;
            }
        }
        require_reaches(&here, &there).await?;
        return require_reaches(&there, &here).await;
    }
    let station = subject.attach(&elsewhere, &network.subnets[0]).await.map_err(Unmet)?;
    subject.engine().ensure_port(&elsewhere).await?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (1, 3)], families).await?;
    for (source, destination) in one.port.addresses.iter().zip(&elsewhere.addresses) {
        let there = raw((one.mac(), *source), (elsewhere.mac, *destination));
        let back = raw((elsewhere.mac, *destination), (one.mac(), *source));
        let lost = [Probe::new(&one.station, there, &station), Probe::new(&station, back, &one.station)];
        let witnesses = [within(&one, &other, *source)?, within(&other, &one, *source)?];
        require_silence(&lost, &witnesses).await?;
    }
    let state = subject.engine().port(elsewhere.id).await?;
    require(state.as_ref().is_some_and(|state| !state.active), || {
        format!("the engine serves no second host, and its port is {state:?}")
    })
}

pub(super) async fn a_node_reaches_its_pods_if_the_engine_says_so<S: ForwardsPackets>(
    subject: &S,
    families: Families,
) -> CaseVerdict {
    let able = subject.engine().capabilities().await?.host_to_pod;
    let network = made(subject, 1, families).await?;
    let [one, other] = pods_in(subject, &network, [(1, 2), (1, 3)], families).await?;
    let node = subject.node().map_err(Unmet)?;
    for witness in between(&one, &other) {
        let own = witness.arrives().await?.from.ip();
        let any = if own.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let there = Probe::new(&node, datagram(any, own), &one.station);
        if !able {
            require_silence_soon(&[there], &[witness]).await?;
            continue;
        }
        let seen = there.arrives_soon(&witness).await?.from;
        let back = || Probe::new(&one.station, datagram_at((own, PORT), seen), &node);
        back().arrives().await?;
        // Only an answer reaches the node.
        let unasked = Probe::new(&one.station, datagram_at((own, PORT + 1), seen), &node);
        require_silence(&[unasked], &[back()]).await?;
    }
    Ok(())
}
