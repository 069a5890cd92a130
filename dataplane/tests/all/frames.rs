//! Hand-made frames: what leaves a pod's port and what does not.

use atoll_model::attachment::Mac;
use atoll_testkit::plane::frame::*;
use atoll_testkit::plane::*;

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
    for (name, kind) in
        [("router advertisement", 134), ("neighbour solicitation", 135), ("neighbour advertisement", 136)]
    {
        frame(name, false, &|m| ethernet(a, Mac([0x33, 0x33, 0, 0, 0, 1]), 0x86dd, &icmp6(kind, m)));
    }
    frame("multicast listener report", false, &|m| {
        ethernet(a, Mac([0x33, 0x33, 0, 0, 0, 0x16]), 0x86dd, &hop_by_hop(&icmp6(143, m)))
    });
    frame("ipv6 in ipv4's clothes", false, &|m| ethernet(a, b, 0x0800, &icmp6(134, m)));
    frame("vlan in a service vlan", false, &|m| {
        let inner = [&[0, 5, 8, 0][..], &ip(A, B, m)].concat();
        ethernet(a, b, 0x88a8, &[&[0, 6, 0x81, 0][..], &inner].concat())
    });
    frame("arp in a vlan", false, &|m| {
        ethernet(a, ALL, 0x8100, &[&[0, 5, 8, 6][..], &arp(1, (a, GATEWAY), B, m)].concat())
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
        shoot(&out, frame, name);
    }
    // A last one that passes tells that all others have been through.
    shoot(&out, &ethernet(mac(1), mac(2), 0x0800, &ip(A, B, b"<last>")), "last");
    let heard = hear(&ear, b"<last>");
    for (name, passes, frame) in &frames {
        // A cut frame carries no whole marker: its tail will do.
        let mark = &frame[frame.len().saturating_sub(10)..];
        let mark = if *name == "spanning tree" { b"<spanning tree>" } else { mark };
        assert_eq!(contains(&heard, mark), *passes, "{name}");
    }
    assert!(pings(&a, "10.9.0.102"), "no frame has misled the bridge");
    assert!(pings(&b, "10.9.0.1"));
}
