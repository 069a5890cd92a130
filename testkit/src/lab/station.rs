//! Stations of the conformance suite of `atoll-network`: namespaces whose frames it sends and captures.
//!
//! # Guarantees
//! Everything that a pod's interface receives is captured, whatever the pod's kernel does with it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use atoll_model::attachment::Mac;
use atoll_model::sync::locked;
use atoll_network::conformance::packets::{Frame, Received, Station};
use atoll_network::{DatapathNeeds, HostSide, NetworkSubnet, PodPort};
use atoll_node::netlink::offload;
use atoll_node::netns::Netns;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::AsRawFd as _;
use tokio::time::Instant;

use crate::lab::netns::LabNetns;
use crate::plane::frame;

/// The pod's interface.
const INTERFACE: &str = "eth0";
/// A part of every mark. Frames without it are not kept.
const MARK: &[u8] = b"atoll-mark-";
/// The pause between two attempts to read a frame.
const PAUSE: Duration = Duration::from_millis(1);

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// All nodes of a link, in IPv6.
const ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const BROADCAST: Mac = Mac([0xff; 6]);

/// A network namespace whose frames are sent and captured.
pub struct LabStation {
    netns: LabNetns,
    capture: OwnedFd,
    /// The capturing socket belongs to one interface, by which it sends too.
    sends_frames: bool,
    /// The pod's address of IPv6: the source of its claims.
    own: Option<Ipv6Addr>,
    before_end: Option<Box<dyn FnOnce()>>,
    captured: Mutex<Vec<Vec<u8>>>,
}

impl LabStation {
    /// A station for all interfaces of a namespace that exists. It sends datagrams only.
    pub fn at(netns: &Path) -> Self {
        Self::capturing(netns, frame::sniff(netns))
    }

    fn capturing(netns: &Path, capture: OwnedFd) -> Self {
        let netns = LabNetns::at(netns);
        Self { netns, capture, sends_frames: false, own: None, before_end: None, captured: Mutex::default() }
    }

    /// A namespace that exists, of which only what passes one interface is captured. It sends datagrams only.
    pub fn behind(netns: &Path, interface: &str) -> Self {
        Self::capturing(netns, frame::tap_on(netns, interface))
    }

    /// A pod as a node makes it: a namespace with an interface of the port's MAC and addresses, and a default route by each
    /// gateway of `subnet`. The host end is at `side`, where `node` is the machine's own namespace.
    pub fn pod(node: &Path, side: &HostSide, port: &PodPort, subnet: &NetworkSubnet) -> Result<Self> {
        let host = match side {
            HostSide::NamespaceOrHost(namespace) if namespace.exists() => namespace.as_path(),
            HostSide::Host | HostSide::NamespaceOrHost(_) => node,
        };
        let (host, netns) = (LabNetns::at(host), LabNetns::new()?);
        let (name, mac) = (port.location.interface.as_str(), port.mac.to_string());
        let pod = netns.path().to_str().context("the path of a namespace is text")?.to_owned();
        let ends = ["link", "add", name, "type", "veth", "peer", "name", INTERFACE, "address", &mac, "netns", &pod];
        host.run("ip", &ends)?;
        // A host end has no address of its own: Open vSwitch would take it for the end of a tunnel.
        host.run("ip", &["link", "set", name, "addrgenmode", "none", "up"])?;
        for address in &port.addresses {
            let prefix = subnet.prefixes.iter().find(|prefix| prefix.gateway.is_ipv4() == address.is_ipv4());
            let length = prefix.context("each address has a prefix")?.prefix.prefix();
            let text = format!("{address}/{length}");
            let without_detection: &[&str] = if address.is_ipv6() { &["nodad"] } else { &[] };
            netns.run("ip", &[&["address", "add", &text, "dev", INTERFACE], without_detection].concat())?;
        }
        netns.run("ip", &["link", "set", INTERFACE, "up"])?;
        for prefix in &subnet.prefixes {
            netns.run("ip", &["route", "add", "default", "via", &prefix.gateway.to_string()])?;
        }
        let capture = frame::tap_on(netns.path(), INTERFACE);
        let own = port.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        Ok(Self { netns, capture, sends_frames: true, own, before_end: None, captured: Mutex::default() })
    }

    /// Gives the pod a neighbour on its link.
    pub fn add_neighbour(&self, address: IpAddr) -> Result<()> {
        self.netns.run("ip", &["route", "add", &address.to_string(), "dev", INTERFACE]).map(drop)
    }

    /// What a station's node does before the station goes.
    #[must_use]
    pub fn before_end(mut self, work: impl FnOnce() + 'static) -> Self {
        self.before_end = Some(Box::new(work));
        self
    }

    fn send_datagram(&self, from: SocketAddr, to: SocketAddr, mark: &str) -> Result<()> {
        let sent =
            self.netns.within(|| Ok(UdpSocket::bind(from).and_then(|socket| socket.send_to(mark.as_bytes(), to))))?;
        match sent {
            Ok(_) => Ok(()),
            // The interface is gone, or no route leads there.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AddrNotAvailable
                        | ErrorKind::NetworkUnreachable
                        | ErrorKind::HostUnreachable
                        | ErrorKind::NetworkDown
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("send from {from} to {to}")),
        }
    }

    fn send_frame(&self, bytes: &[u8]) -> Result<()> {
        if !self.sends_frames {
            bail!("this station sends datagrams only");
        }
        match send(self.capture.as_raw_fd(), bytes, MsgFlags::empty()) {
            // The interface is gone, or its other end is (`ENOBUFS`).
            Ok(_) | Err(Errno::ENXIO | Errno::ENODEV | Errno::ENETDOWN | Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(error).context("send a frame"),
        }
    }

    fn send_as_described(&self, what: &Frame) -> Result<()> {
        match what {
            Frame::Datagram { from, to, mark } => self.send_datagram(*from, *to, mark),
            Frame::Raw { from: (source_mac, SocketAddr::V4(from)), to: (mac, SocketAddr::V4(to)), mark } => {
                let udp = frame::udp_from(from.port(), to.port(), mark.as_bytes());
                let packet = frame::ip_of(UDP, from.ip().octets(), to.ip().octets(), 0, &[], &udp);
                self.send_frame(&frame::ethernet(*source_mac, *mac, IPV4, &packet))
            }
            Frame::Claim { frame: source_mac, mac, address: IpAddr::V4(address), mark } => {
                let address = address.octets();
                let request = frame::arp(1, (*mac, address), address, mark.as_bytes());
                self.send_frame(&frame::ethernet(*source_mac, BROADCAST, ARP, &request))
            }
            Frame::Raw { from: (source_mac, SocketAddr::V6(from)), to: (mac, SocketAddr::V6(to)), mark } => {
                let packet = frame::udp_over_ip6(*from, *to, mark.as_bytes());
                self.send_frame(&frame::ethernet(*source_mac, *mac, IPV6, &packet))
            }
            // From the pod's own address: only the claim is false.
            Frame::Claim { frame: source_mac, mac, address: IpAddr::V6(address), mark } => {
                let source = self.own.context("a pod without an address of IPv6 claims one")?;
                let packet = frame::neighbour_advertisement(source, *address, *mac, mark.as_bytes());
                self.send_frame(&frame::ethernet(*source_mac, ALL_NODES, IPV6, &packet))
            }
            Frame::Raw { .. } => bail!("a frame of two families: {what:?}"),
        }
    }

    /// Reads what has arrived since the last call.
    fn read_all(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        let mut captured = locked(&self.captured);
        while let Some(frame) = frame::overhear(&self.capture) {
            if contains(&frame, MARK) {
                captured.push(frame);
            }
        }
        captured
    }

    /// The frames with this mark that have arrived.
    fn captured(&self, mark: &str) -> Vec<Received> {
        self.read_all()
            .iter()
            .filter(|frame| contains(frame, mark.as_bytes()))
            .filter_map(|frame| read(frame))
            .collect()
    }
}

/// The host end goes at once, so that a pod that follows can have its name. The kernel deletes a namespace some time later.
impl Drop for LabStation {
    fn drop(&mut self) {
        if let Some(work) = self.before_end.take() {
            work();
        }
        if self.sends_frames {
            // It may be gone already.
            drop(self.netns.run("ip", &["link", "delete", INTERFACE]));
        }
    }
}

impl Station for LabStation {
    const LIMIT: Duration = Duration::from_secs(20);

    fn adapt(&self, needs: DatapathNeeds) -> Result<(), String> {
        if !needs.checksums {
            return Ok(());
        }
        let interface = INTERFACE.parse().map_err(|_| format!("{INTERFACE} is the name of an interface"))?;
        let netns = Netns::At(self.netns.path().to_owned());
        offload::compute_checksums(&netns, &interface).map_err(|error| error.to_string())
    }

    fn send(&self, frame: &Frame) -> Result<(), String> {
        // A station's own frames are captured as well. Unread, those of a case that sends many would fill the socket, and
        // what arrives after them would be lost.
        drop(self.read_all());
        self.send_as_described(frame).map_err(|error| format!("{error:#}"))
    }

    fn resolved(&self, next_hop: IpAddr) -> Result<Mac, String> {
        let next_hop = next_hop.to_string();
        let table = self.netns.run("ip", &["neighbour", "show", &next_hop]).map_err(|error| format!("{error:#}"))?;
        let mac = table.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).and_then(|mac| mac.parse().ok());
        mac.ok_or_else(|| format!("{next_hop} is not resolved: {table:?}"))
    }

    async fn receive(&self, mark: &str) -> Option<Received> {
        let until = Instant::now() + Self::LIMIT;
        loop {
            if let Some(received) = self.captured(mark).first() {
                return Some(*received);
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn received(&self, mark: &str) -> Vec<Received> {
        self.captured(mark)
    }
}

fn contains(frame: &[u8], mark: &[u8]) -> bool {
    frame.windows(mark.len()).any(|window| window == mark)
}

/// Reads a frame with a datagram or a claim; none: it has neither. An ICMP error repeats the datagram that caused it, and
/// is none.
fn read(frame: &[u8]) -> Option<Received> {
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let port = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    let from = match u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?) {
        IPV4 if packet.get(9) == Some(&UDP) => SocketAddr::new(v4(12)?, port(usize::from(packet.first()? & 0x0f) * 4)?),
        IPV6 if packet.get(6) == Some(&UDP) => SocketAddr::new(v6(8)?, port(40)?),
        IPV6 if packet.get(6) == Some(&ICMP6) && packet.get(40) == Some(&NEIGHBOUR_ADVERTISEMENT) => {
            SocketAddr::new(v6(48)?, 0)
        }
        ARP => SocketAddr::new(v4(14)?, 0),
        _ => return None,
    };
    Some(Received { mac, from })
}
