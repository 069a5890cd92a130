//! Hand-made frames: what leaves a pod's port and what does not.

mod lab;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_model::attachment::Mac;
use lab::*;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recv, send, socket,
};

/// A socket that sends and receives whole frames on `eth0` of a pod.
fn tap(pod: &Path) -> OwnedFd {
    on_thread(pod, || {
        let flags = SockFlag::SOCK_NONBLOCK;
        let tap = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("root");
        let link = nix::ifaddrs::getifaddrs()
            .expect("interfaces")
            .filter(|i| i.interface_name == "eth0")
            .filter_map(|i| i.address)
            .find(|a| a.family() == Some(AddressFamily::Packet))
            .and_then(|a| a.as_link_addr().copied())
            .expect("eth0 is there");
        bind(tap.as_raw_fd(), &link).expect("bound to eth0");
        tap
    })
    .join()
    .expect("the pod is there")
}

fn sniff(pod: &Path) -> OwnedFd {
    on_thread(pod, || {
        let flags = SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("root")
    })
    .join()
    .expect("the pod is there")
}

fn ethernet(source: Mac, destination: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0[..], &kind.to_be_bytes()[..], payload].concat()
}

/// An IPv4 packet with a UDP datagram that says `marker`.
fn ip(source: [u8; 4], destination: [u8; 4], marker: &[u8]) -> Vec<u8> {
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

fn arp(operation: u16, sender: (Mac, [u8; 4]), target: [u8; 4], marker: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender.0.0);
    packet.extend(sender.1);
    packet.extend([0; 6]);
    packet.extend(target);
    packet.extend(marker);
    packet
}

const A: [u8; 4] = [10, 9, 0, 101];
const B: [u8; 4] = [10, 9, 0, 102];
const GATEWAY: [u8; 4] = [10, 9, 0, 1];
const ALL: Mac = Mac([0xff; 6]);

fn frames(gateway: Mac) -> Vec<(&'static str, bool, Vec<u8>)> {
    let (a, b, foreign) = (mac(1), mac(2), Mac([2, 0, 0, 0, 9, 0x77]));
    let mut frames = Vec::new();
    let mut frame = |name: &'static str, passes: bool, make: &dyn Fn(&[u8]) -> Vec<u8>| {
        let marker = format!("<{name}>");
        frames.push((name, passes, make(marker.as_bytes())));
    };
    let tagged = |tag: u16, vlan: u16, m: &[u8]| {
        ethernet(a, b, tag, &[&vlan.to_be_bytes()[..], &0x0800_u16.to_be_bytes()[..], &ip(A, B, m)[..]].concat())
    };
    frame("ip", true, &|m| ethernet(a, b, 0x0800, &ip(A, B, m)));
    frame("ip to all", true, &|m| ethernet(a, ALL, 0x0800, &ip(A, B, m)));
    frame("arp request", true, &|m| ethernet(a, ALL, 0x0806, &arp(1, (a, A), B, m)));
    frame("arp probe", true, &|m| ethernet(a, ALL, 0x0806, &arp(1, (a, [0; 4]), A, m)));
    frame("arp reply", true, &|m| ethernet(a, b, 0x0806, &arp(2, (a, A), B, m)));

    frame("foreign address", false, &|m| ethernet(a, b, 0x0800, &ip([10, 9, 0, 150], B, m)));
    frame("address of b", false, &|m| ethernet(a, b, 0x0800, &ip(B, B, m)));
    frame("address of the gateway", false, &|m| ethernet(a, b, 0x0800, &ip(GATEWAY, B, m)));
    frame("no address", false, &|m| ethernet(a, b, 0x0800, &ip([0; 4], B, m)));
    frame("foreign mac", false, &|m| ethernet(foreign, b, 0x0800, &ip(A, B, m)));
    frame("mac of b", false, &|m| ethernet(b, ALL, 0x0800, &ip(A, B, m)));
    frame("mac of the gateway", false, &|m| ethernet(gateway, b, 0x0800, &ip(A, B, m)));
    frame("vlan 5", false, &|m| tagged(0x8100, 5, m));
    frame("vlan 0", false, &|m| tagged(0x8100, 0, m));
    frame("service vlan", false, &|m| tagged(0x88a8, 5, m));
    frame("two vlans", false, &|m| {
        let inner = [&[0, 5, 8, 0][..], &ip(A, B, m)].concat();
        ethernet(a, b, 0x8100, &[&[0, 6, 0x81, 0][..], &inner].concat())
    });
    frame("ipv6", false, &|m| ethernet(a, b, 0x86dd, &[&[0x60; 40][..], m].concat()));
    frame("spanning tree", false, &|m| {
        ethernet(a, Mac([1, 0x80, 0xc2, 0, 0, 0]), 38, &[&[0x42, 0x42, 3][..], m, &[0; 30]].concat())
    });
    frame("lldp", false, &|m| ethernet(a, Mac([1, 0x80, 0xc2, 0, 0, 0xe]), 0x88cc, m));
    frame("mpls", false, &|m| ethernet(a, b, 0x8847, &[&[0, 0, 1, 64][..], &ip(A, B, m)].concat()));
    frame("pppoe", false, &|m| ethernet(a, b, 0x8864, &[&[0x11, 0, 0, 1, 0, 40, 0, 0x21][..], &ip(A, B, m)].concat()));
    frame("reverse arp", false, &|m| ethernet(a, ALL, 0x8035, &arp(3, (a, A), B, m)));
    frame("unknown type", false, &|m| ethernet(a, b, 0x88b5, m));
    frame("ip of version 6", false, &|m| {
        let mut packet = ip([10, 9, 0, 150], B, m);
        packet[0] = 0x65;
        ethernet(a, b, 0x0800, &packet)
    });
    frame("cut ip header", false, &|m| ethernet(a, b, 0x0800, &m[..10.min(m.len())]));
    frame("arp of the gateway", false, &|m| ethernet(a, ALL, 0x0806, &arp(2, (a, GATEWAY), B, m)));
    frame("arp of b", false, &|m| ethernet(a, ALL, 0x0806, &arp(2, (a, B), B, m)));
    frame("arp of a foreign mac", false, &|m| ethernet(a, ALL, 0x0806, &arp(2, (foreign, A), B, m)));
    frame("arp of the gateway's mac", false, &|m| ethernet(a, ALL, 0x0806, &arp(2, (gateway, A), B, m)));
    frame("arp under a foreign mac", false, &|m| ethernet(foreign, ALL, 0x0806, &arp(2, (a, A), B, m)));
    frame("arp of long addresses", false, &|m| {
        let mut packet = arp(1, (a, A), B, m);
        packet[4] = 8;
        ethernet(a, ALL, 0x0806, &packet)
    });
    frame("arp for another protocol", false, &|m| {
        let mut packet = arp(1, (a, A), B, m);
        packet[2..4].copy_from_slice(&[0x86, 0xdd]);
        ethernet(a, ALL, 0x0806, &packet)
    });
    frames
}

#[test]
fn only_ip_and_arp_of_the_pod_itself_leave_its_port() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    assert!(pings(&a, "10.9.0.1"));
    let gateway = inside(&a, "ip", &["neigh", "show", "10.9.0.1"]);
    let gateway: Mac = gateway.split_whitespace().nth(4).expect("a MAC").parse().expect("a MAC");
    let (out, ear) = (tap(&a), sniff(&b));
    let frames = frames(gateway);
    for (name, _, frame) in &frames {
        assert_eq!(send(out.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()), "{name}");
    }
    // A last one that passes tells that all others have been through.
    let last = ethernet(mac(1), mac(2), 0x0800, &ip(A, B, b"<last>"));
    send(out.as_raw_fd(), &last, MsgFlags::empty()).expect("sent");
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !contains(&heard, b"<last>") {
        assert!(Instant::now() < deadline, "the last frame did not arrive");
        let mut buffer = [0; 2048];
        match recv(ear.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => heard.push(buffer[..length].to_vec()),
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    for (name, passes, frame) in &frames {
        // A cut frame carries no whole marker: its tail will do.
        let mark = &frame[frame.len().saturating_sub(10)..];
        let mark = if *name == "spanning tree" { b"<spanning tree>" } else { mark };
        assert_eq!(contains(&heard, mark), *passes, "{name}");
    }
    assert!(pings(&a, "10.9.0.102"), "no frame has misled the bridge");
    assert!(pings(&b, "10.9.0.1"));
}

fn contains(heard: &[Vec<u8>], marker: &[u8]) -> bool {
    heard.iter().any(|frame| frame.windows(marker.len()).any(|window| window == marker))
}
