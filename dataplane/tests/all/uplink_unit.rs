//! What pods may reach on their own node, if `deploy/systemd/atoll-outside.service` makes it their uplink: what its two lists
//! name, and ICMP; nothing else.

#![allow(clippy::unwrap_used, reason = "a laboratory that does not work is a failed test")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::topology::Topology;
use atoll_testkit::plane::*;

/// Addresses of the node: as pods see it, another one, and that of a DNS cache for the node.
const ADDRESSES: [&str; 3] = ["203.0.113.1", "192.0.2.1", "169.254.20.10"];
/// Ports by which a machine in a cluster is asked: ssh, DNS, `NodePort`s, API server, kubelet, etcd.
const PORTS: [u16; 6] = [22, 53, 30000, 6443, 10250, 2379];

/// Runs the unit's lines as systemd would, with these settings in place of its own of the same name.
fn unit(instead: &[&str]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd/atoll-outside.service");
    let text = std::fs::read_to_string(file).unwrap();
    let values =
        |key: &str| text.lines().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect::<Vec<_>>();
    let own = values("Environment=").into_iter().map(|it| it.trim_matches('"').to_owned());
    let settings = own.chain(instead.iter().map(|it| (*it).to_owned()));
    let exports = settings.map(|it| format!("export '{it}'\n")).collect::<Vec<_>>().concat();
    for line in values("ExecStart=") {
        let (line, must) = line.strip_prefix('-').map_or((line.as_str(), true), |line| (line, false));
        let done = attempt(node(), "sh", &["-c", &format!("{exports}{line}")]);
        assert!(done.status.success() || !must, "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

fn serve_everything() {
    for port in PORTS {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|mut it| drop(it.write_all(b"node"))));
        // One for each address, which answers by that address.
        for address in ADDRESSES {
            let socket = UdpSocket::bind((address, port)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            });
        }
    }
}

/// The ports of the node at `address` that answer `pod`, by TCP and by UDP. All are asked at once.
fn open(pod: &Path, address: &str) -> (Vec<u16>, Vec<u16>) {
    let ask = |port: u16, tcp: bool| {
        let to: SocketAddr = format!("{address}:{port}").parse().unwrap();
        on_thread(pod, move || {
            let patience = Duration::from_secs(2);
            if tcp {
                return TcpStream::connect_timeout(&to, patience).is_ok();
            }
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.send_to(b"hello", to).is_ok() && socket.recv(&mut [0; 100]).is_ok()
        })
    };
    let [tcp, udp] = [true, false].map(|tcp| PORTS.map(|port| (port, ask(port, tcp))));
    let answered = |asked: [(u16, std::thread::JoinHandle<bool>); 6]| {
        asked.into_iter().filter_map(|(port, asked)| asked.join().unwrap().then_some(port)).collect()
    };
    (answered(tcp), answered(udp))
}

#[test]
fn a_pod_reaches_on_its_node_what_is_listed_and_nothing_else() {
    let mut lab = Lab::start(Topology::default());
    lab.plane.take().unwrap().stop();
    run("ip", &["link", "set", "lo", "up"]);
    for address in &ADDRESSES[1..] {
        run("ip", &["addr", "add", &format!("{address}/32"), "dev", "lo"]);
    }
    unit(&[]);
    serve_everything();
    lab.restart(provider());
    let red = lab.tenant(1);
    let pod: PathBuf = lab.pod(red, 1);
    let all = |expected: (Vec<u16>, Vec<u16>), what: &str| {
        for address in ADDRESSES {
            assert_eq!(open(&pod, address), expected, "{what}: {address}");
            assert!(pings(&pod, address), "{what}: {address}");
        }
    };
    all((vec![53, 6443], vec![53]), "as the unit is");
    // The node asks itself by another interface.
    assert_eq!(open(node(), "192.0.2.1").0, PORTS);
    unit(&["PODS_TCP=10250, 30000-30100"]);
    all((vec![30000, 10250], vec![53]), "with a list of one's own");
    unit(&["PODS_TCP=", "PODS_UDP=dns?"]);
    all((vec![], vec![]), "empty, and wrong");
}
