//! Datagrams that must or must not arrive.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use atoll_model::attachment::Mac;

use super::super::case::{CaseVerdict, Unmet, require, require_same};
use super::lab::{ForwardsPackets, Frame, Received, Station};
use crate::engine::Engine;
use crate::network::{Network, NetworkSubnet, TransitLink};
use crate::port::PodPort;

/// The UDP port of every datagram, unless a case needs another one.
pub(super) const PORT: u16 = 7000;

/// A pod with its port.
pub(super) struct AttachedPod<S> {
    pub(super) station: S,
    pub(super) port: PodPort,
    subnet: NetworkSubnet,
}

impl<S: Station> AttachedPod<S> {
    pub(super) fn mac(&self) -> Mac {
        self.port.mac
    }

    /// Its address of the family of `other`.
    pub(super) fn address_like(&self, other: IpAddr) -> Result<IpAddr, Unmet> {
        let found = self.port.addresses.iter().find(|address| address.is_ipv4() == other.is_ipv4());
        found.copied().ok_or_else(|| Unmet(format!("port {} has no address of the family of {other}", self.port.id)))
    }

    /// The gateway of the family of `other`.
    pub(super) fn gateway_like(&self, other: IpAddr) -> Result<IpAddr, Unmet> {
        let mut gateways = self.subnet.prefixes.iter().map(|prefix| prefix.gateway);
        let found = gateways.find(|gateway| gateway.is_ipv4() == other.is_ipv4());
        found.ok_or_else(|| Unmet(format!("the subnet of port {} has no gateway for {other}", self.port.id)))
    }

    /// The MAC of that gateway, to which the pod has sent before.
    pub(super) fn gateway_mac_like(&self, other: IpAddr) -> Result<Mac, Unmet> {
        self.station.resolved(self.gateway_like(other)?).map_err(Unmet)
    }

    /// A frame of this pod with its own addresses to the next hop `mac`, whatever its kernel has resolved.
    pub(super) fn raw(&self, mac: Mac, to: IpAddr) -> Result<Frame, Unmet> {
        Ok(raw((self.mac(), self.address_like(to)?), (mac, to)))
    }
}

/// Makes a port and its pod, and waits until its packets are forwarded.
pub(super) async fn pod<S: ForwardsPackets>(
    subject: &S,
    network: &Network,
    port: PodPort,
) -> Result<AttachedPod<S::Station>, Unmet> {
    let found = network.subnets.iter().find(|subnet| subnet.ordinal == port.subnet.ordinal);
    let subnet = found.cloned().ok_or_else(|| Unmet(format!("the network has no subnet {}", port.subnet.ordinal)))?;
    let station = subject.attach(&port, &subnet).await.map_err(Unmet)?;
    let pod = AttachedPod { station, port, subnet };
    require_forwarding(subject, &pod).await?;
    Ok(pod)
}

/// Makes the port exist, connects the pod, and waits until its packets are forwarded: what an ADD does, the first or a
/// repeated one.
pub(super) async fn require_forwarding<S: ForwardsPackets>(
    subject: &S,
    AttachedPod { station, port, .. }: &AttachedPod<S::Station>,
) -> CaseVerdict {
    let engine = subject.engine_of(&port.location.host);
    let made = engine.ensure_port(port).await?;
    station.adapt(engine.plug(port).await?).map_err(Unmet)?;
    let limit = S::Station::LIMIT;
    let state = engine.wait_for_port(port, made, limit).await?;
    require(state.as_ref().is_some_and(|state| state.active), || {
        format!("port {} does not become active within {limit:?}: {state:?}", port.id)
    })
}

/// The frame with a mark that no other frame has.
fn marked(frame: &Frame) -> Frame {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut new = frame.clone();
    match &mut new {
        Frame::Datagram { mark, .. } | Frame::Raw { mark, .. } | Frame::Claim { mark, .. } => {
            *mark = format!("atoll-mark-{:08}", NEXT.fetch_add(1, Ordering::Relaxed));
        }
    }
    new
}

/// A datagram that the sender's kernel sends.
pub(super) fn datagram(from: IpAddr, to: IpAddr) -> Frame {
    datagram_at((from, PORT), (to, PORT))
}

/// A datagram with these ports.
pub(super) fn datagram_at(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Frame {
    Frame::Datagram { from: from.into(), to: to.into(), mark: String::new() }
}

/// A datagram in a frame with these addresses.
pub(super) fn raw(from: (Mac, IpAddr), to: (Mac, IpAddr)) -> Frame {
    let at = |(mac, address): (Mac, IpAddr)| (mac, SocketAddr::from((address, PORT)));
    Frame::Raw { from: at(from), to: at(to), mark: String::new() }
}

/// A claim that `mac` has `address`, in a frame from `frame`.
pub(super) fn claim(frame: Mac, mac: Mac, address: IpAddr) -> Frame {
    Frame::Claim { frame, mac, address, mark: String::new() }
}

/// A frame with its sender and the station that does or does not receive it. Each time it is sent, it has another mark.
pub(super) struct Probe<'a, S> {
    pub(super) sender: &'a S,
    pub(super) frame: Frame,
    pub(super) receiver: &'a S,
}

impl<'a, S: Station> Probe<'a, S> {
    pub(super) fn new(sender: &'a S, frame: Frame, receiver: &'a S) -> Self {
        Self { sender, frame, receiver }
    }

    /// The frame arrives, as it was sent.
    pub(super) async fn arrives(&self) -> Result<Received, Unmet> {
        let frame = marked(&self.frame);
        self.sender.send(&frame).map_err(Unmet)?;
        let received = self.receiver.receive(frame.mark()).await;
        received.ok_or_else(|| Unmet(format!("it does not arrive: {frame:?}")))
    }

    /// The frame arrives once a change has taken effect. `witness` arrives all the time; it makes the pauses.
    pub(super) async fn arrives_soon(&self, witness: &Probe<'_, S>) -> Result<Received, Unmet> {
        self.arrives_soon_if(witness, |_| true).await
    }

    /// The frame arrives from `source` once a change has taken effect. It may arrive from another source until then.
    pub(super) async fn arrives_soon_from(&self, source: IpAddr, witness: &Probe<'_, S>) -> Result<Received, Unmet> {
        self.arrives_soon_if(witness, |received| received.from.ip() == source).await
    }

    async fn arrives_soon_if(
        &self,
        witness: &Probe<'_, S>,
        fits: impl Fn(&Received) -> bool,
    ) -> Result<Received, Unmet> {
        let until = Instant::now() + S::LIMIT;
        loop {
            let frame = marked(&self.frame);
            self.sender.send(&frame).map_err(Unmet)?;
            witness.arrives().await?;
            let received = self.receiver.received(frame.mark());
            match received.iter().find(|received| fits(received)) {
                Some(received) => return Ok(*received),
                None if Instant::now() < until => {}
                None => return Err(Unmet(format!("not within {:?}, but {received:?}: {frame:?}", S::LIMIT))),
            }
        }
    }
}

/// Datagrams from one pod to another, one for each family that both have.
pub(super) fn between<'a, S: Station>(
    from: &'a AttachedPod<S>,
    to: &'a AttachedPod<S>,
) -> impl Iterator<Item = Probe<'a, S>> + use<'a, S> {
    let pairs = from.port.addresses.iter().zip(&to.port.addresses);
    pairs.map(|(source, destination)| Probe::new(&from.station, datagram(*source, *destination), &to.station))
}

/// A datagram from one pod to another, of the family of `like`.
pub(super) fn within<'a, S: Station>(
    from: &'a AttachedPod<S>,
    to: &'a AttachedPod<S>,
    like: IpAddr,
) -> Result<Probe<'a, S>, Unmet> {
    Ok(Probe::new(&from.station, datagram(from.address_like(like)?, to.address_like(like)?), &to.station))
}

/// One pod reaches the other, which sees its address.
pub(super) async fn require_reaches<S: Station>(from: &AttachedPod<S>, to: &AttachedPod<S>) -> CaseVerdict {
    for (probe, source) in between(from, to).zip(&from.port.addresses) {
        let received = probe.arrives().await?;
        require_same(&received.from.ip(), source, "the source of a datagram between two pods")?;
    }
    Ok(())
}

/// Sends every frame of `probes`, then every witness, and returns the frames that arrived. The witnesses arrive.
async fn arrived<S: Station>(probes: &[Probe<'_, S>], witnesses: &[Probe<'_, S>]) -> Result<Vec<Frame>, Unmet> {
    let mut sent = Vec::new();
    for probe in probes {
        let frame = marked(&probe.frame);
        probe.sender.send(&frame).map_err(Unmet)?;
        sent.push((probe.receiver, frame));
    }
    for witness in witnesses {
        witness.arrives().await?;
    }
    let arrived = sent.into_iter().filter(|(receiver, frame)| !receiver.received(frame.mark()).is_empty());
    Ok(arrived.map(|(_, frame)| frame).collect())
}

/// None of `probes` arrives, although the witnesses, which are sent later, do.
pub(super) async fn require_silence<S: Station>(probes: &[Probe<'_, S>], witnesses: &[Probe<'_, S>]) -> CaseVerdict {
    let arrived = arrived(probes, witnesses).await?;
    require(arrived.is_empty(), || format!("it arrives: {arrived:?}"))
}

/// None of `probes` arrives once a change has taken effect, and none arrives again after that.
pub(super) async fn require_silence_soon<S: Station>(
    probes: &[Probe<'_, S>],
    witnesses: &[Probe<'_, S>],
) -> CaseVerdict {
    let until = Instant::now() + S::LIMIT;
    loop {
        let arrived = arrived(probes, witnesses).await?;
        if arrived.is_empty() {
            break;
        }
        require(Instant::now() < until, || format!("it still arrives after {:?}: {arrived:?}", S::LIMIT))?;
    }
    for _ in 0..3 {
        require_silence(probes, witnesses).await?;
    }
    Ok(())
}

/// What leaves a tenant's network.
pub(super) struct Egress<'a, S> {
    /// The external host.
    pub(super) external: &'a S,
    /// Its address.
    pub(super) address: IpAddr,
    /// The tenant's transit address of the same family.
    transit: IpAddr,
}

impl<'a, S: Station> Egress<'a, S> {
    /// One for each family that the network and the external host have.
    pub(super) fn of<L: ForwardsPackets<Station = S>>(subject: &L, external: &'a S, network: &Network) -> Vec<Self> {
        let links = network.transit.iter();
        let ways = links.filter_map(|TransitLink { tenant, .. }| {
            let transit = tenant.ip();
            let addresses = subject.external_addresses();
            let address = addresses.into_iter().find(|address| address.is_ipv4() == transit.is_ipv4())?;
            Some(Self { external, address, transit })
        });
        ways.collect()
    }

    /// A datagram of the pod to the external host.
    pub(super) fn probe(&self, from: &'a AttachedPod<S>) -> Result<Probe<'a, S>, Unmet> {
        let frame = datagram(from.address_like(self.address)?, self.address);
        Ok(Probe::new(&from.station, frame, self.external))
    }

    /// The external host's answer to a datagram that it received from the pod.
    pub(super) fn answer(&self, received: &Received, to: &'a AttachedPod<S>) -> Probe<'a, S> {
        Probe::new(self.external, datagram_at((self.address, PORT), received.from), &to.station)
    }

    /// The pod reaches the external host with the tenant's address, once the network has taken effect, and receives its
    /// answer. Returns what the external host received.
    pub(super) async fn require(&self, from: &'a AttachedPod<S>, witness: &Probe<'_, S>) -> Result<Received, Unmet> {
        let received = self.require_outward(from, witness).await?;
        let answer = self.answer(&received, from).arrives().await?;
        require_same(
            &answer.from,
            &SocketAddr::from((self.address, PORT)),
            "the source of the external host's answer",
        )?;
        Ok(received)
    }

    /// As [`Egress::require`], without an answer.
    pub(super) async fn require_outward(
        &self,
        from: &'a AttachedPod<S>,
        witness: &Probe<'_, S>,
    ) -> Result<Received, Unmet> {
        let received = self.probe(from)?.arrives_soon(witness).await?;
        require_same(&received.from.ip(), &self.transit, "the source of a datagram on the external network")?;
        Ok(received)
    }
}
