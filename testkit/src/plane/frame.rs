//! Frames that are built, sent and captured.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_model::attachment::Mac;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send, setsockopt, socket,
    sockopt,
};

use super::on_thread;

/// A socket that sends and receives whole frames on `eth0` of a pod.
pub fn tap(pod: &Path) -> OwnedFd {
    tap_on(pod, "eth0")
}

/// A socket that sends and receives whole frames on an interface.
pub fn tap_on(netns: &Path, interface: &str) -> OwnedFd {
    let interface = interface.to_owned();
    on_thread(netns, move || {
        let flags = SockFlag::SOCK_NONBLOCK;
        let tap = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("root");
        let link = nix::ifaddrs::getifaddrs()
            .expect("interfaces")
            .filter(|i| i.interface_name == interface)
            .filter_map(|i| i.address)
            .find(|a| a.family() == Some(AddressFamily::Packet))
            .and_then(|a| a.as_link_addr().copied())
            .expect("the interface is there");
        bind(tap.as_raw_fd(), &link).expect("bound to it");
        enlarge(&tap);
        tap
    })
    .join()
    .expect("the pod is there")
}

/// A sniffer: a socket that receives the frames of every interface of a namespace.
pub fn sniff(pod: &Path) -> OwnedFd {
    on_thread(pod, || {
        let flags = SockFlag::SOCK_NONBLOCK;
        let ear = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("root");
        enlarge(&ear);
        ear
    })
    .join()
    .expect("the pod is there")
}

/// On a busy machine frames may arrive, or be sent, faster than the socket is read: it captures both.
fn enlarge(socket: &OwnedFd) {
    setsockopt(socket, sockopt::RcvBufForce, &(16 << 20)).expect("root");
}

/// A frame.
pub fn ethernet(source: Mac, destination: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0[..], &kind.to_be_bytes()[..], payload].concat()
}

/// An IPv4 packet with a UDP datagram that contains `marker`.
pub fn ip(source: [u8; 4], destination: [u8; 4], marker: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(8 + marker.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_length).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded once is enough for 20 bytes");
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0x1b, 0x58, 0x1b, 0x58]);
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(marker);
    packet
}

/// An ARP packet, followed by further bytes.
pub fn arp(operation: u16, sender: (Mac, [u8; 4]), target: [u8; 4], marker: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender.0.0);
    packet.extend(sender.1);
    packet.extend([0; 6]);
    packet.extend(target);
    packet.extend(marker);
    packet
}

/// A packet of this protocol; `fragment` is the field of flags and offset, `options` a multiple of four bytes.
pub fn ip_of(
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let length = u16::try_from(20 + options.len() + payload.len()).unwrap();
    let mut packet = vec![0x40 | words, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    let sum = checksum(&packet, 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum.
pub fn udp(to: u16, payload: &[u8]) -> Vec<u8> {
    udp_from(7000, to, payload)
}

/// A UDP datagram without a checksum, with both ports.
pub fn udp_from(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// A TCP segment with these flags.
pub fn tcp(source: [u8; 4], destination: [u8; 4], to: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [&7000_u16.to_be_bytes()[..], &to.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let length = u32::try_from(segment.len()).unwrap();
    let pseudo: u32 =
        [source, destination].concat().chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    let sum = checksum(&segment, pseudo + 6 + length);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let two = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum = bytes.chunks(2).map(two).fold(start, u32::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// An IPv6 packet with a UDP datagram.
pub fn udp_over_ip6(from: SocketAddrV6, to: SocketAddrV6, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let head = [from.port().to_be_bytes(), to.port().to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    ip6(17, 64, *from.ip(), *to.ip(), [&head[..], payload].concat(), 6)
}

/// An unsolicited neighbour advertisement to all nodes of the link: `target` has this MAC. `marker` is in an option for
/// experiments (RFC 4727), which receivers skip.
pub fn neighbour_advertisement(source: Ipv6Addr, target: Ipv6Addr, mac: Mac, marker: &[u8]) -> Vec<u8> {
    // Override (RFC 4861, section 4.4), target link-layer address.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let units = (2 + marker.len()).div_ceil(8);
    message.extend([253, u8::try_from(units).unwrap()]);
    message.extend(marker);
    message.resize(32 + 8 * units, 0);
    ip6(58, 255, source, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), message, 2)
}

/// An IPv6 packet. `place`: where the payload has its checksum, which also covers a pseudo header (RFC 8200, section 8.1).
fn ip6(protocol: u8, hops: u8, source: Ipv6Addr, destination: Ipv6Addr, mut payload: Vec<u8>, place: usize) -> Vec<u8> {
    let addresses = [source.octets(), destination.octets()].concat();
    let length = u16::try_from(payload.len()).unwrap();
    let pseudo = addresses.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum::<u32>();
    let sum = checksum(&payload, pseudo + u32::from(length) + u32::from(protocol));
    payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[protocol, hops], &addresses, &payload].concat()
}

/// An ICMPv6 message to all nodes on the link.
pub fn icmp6(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let (source, broadcast) = (
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 9, 1],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    );
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([58, 255]);
    packet.extend([source, broadcast].concat());
    packet.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

/// An IPv6 packet with a router alert before its payload.
pub fn hop_by_hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let length = u16::from_be_bytes([packet[4], packet[5]]) + 8;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = 0;
    packet.splice(40..40, [58, 0, 5, 2, 0, 0, 1, 0]);
    packet
}

/// Sends a frame.
pub fn shoot(from: &OwnedFd, frame: &[u8], name: &str) {
    assert_eq!(send(from.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()), "{name}");
}

/// All frames up to one with this mark.
pub fn hear(ear: &OwnedFd, last: &[u8]) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !contains(&heard, last) {
        assert!(Instant::now() < deadline, "the last frame did not arrive");
        match overhear(ear) {
            Some(frame) => heard.push(frame),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    heard
}

/// The same for a frame that is sent until it arrives: a switch under load may drop any frame, and the first of a flow above all.
pub fn hear_repeated(ear: &OwnedFd, last: &[u8], send: impl Fn()) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !contains(&heard, last) {
        assert!(Instant::now() < deadline, "the last frame did not arrive, however often it was sent");
        send();
        std::thread::sleep(Duration::from_millis(5));
        heard.extend(std::iter::from_fn(|| overhear(ear)));
    }
    heard
}

/// The next captured frame, if there is one.
pub fn overhear(ear: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = [0; 4096];
    match recv(ear.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => Some(buffer[..length].to_vec()),
        Err(Errno::EAGAIN) => None,
        Err(error) => panic!("{error}"),
    }
}

/// True when some frame has this mark.
pub fn contains(heard: &[Vec<u8>], marker: &[u8]) -> bool {
    heard.iter().any(|frame| frame.windows(marker.len()).any(|window| window == marker))
}
