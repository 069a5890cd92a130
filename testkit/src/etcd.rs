//! A real etcd for one test: a child process with its own directory and ports, which ends with the test.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::process::{self, free_ports};
use crate::program::command;
use atoll_model::config::EtcdConfig;
use atoll_records::{ClusterRecord, Query};
use atoll_store::{Etcd, Store};

/// A cluster of one member. Killed when dropped; its directory stays when the test failed.
pub struct EtcdServer {
    child: Child,
    directory: PathBuf,
    /// Where it serves clients.
    pub url: String,
    arguments: Vec<String>,
    own_netns: bool,
}

/// Where a member listens.
#[derive(Clone, Copy)]
struct MemberAddress {
    address: Ipv4Addr,
    /// In a network namespace of its own, which is deleted with it.
    own_netns: bool,
}

const LOOPBACK: MemberAddress = MemberAddress { address: Ipv4Addr::LOCALHOST, own_netns: false };

/// Quick elections.
fn quick() -> Vec<String> {
    ["--heartbeat-interval", "50", "--election-timeout", "500"].map(str::to_owned).into()
}

impl EtcdServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(|_, _| Vec::new()).await
    }

    /// Starts one with more arguments, which may depend on its directory and on the port for clients.
    pub async fn start_with(more: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        // Another process may take the port between its choice and its use.
        for _ in 0..4 {
            let mut server = Self::attempt(&more);
            if server.is_up().await {
                return server;
            }
        }
        let mut server = Self::attempt(&more);
        assert!(server.is_up().await, "etcd does not start; see {}/log", server.directory.display());
        server
    }

    /// Starts members of one cluster, with quick elections.
    pub async fn cluster(members: usize) -> Vec<Self> {
        let ports: Vec<_> = (0..members).map(|_| free_ports()).collect();
        let name = |index| format!("m{index}");
        let all: Vec<_> = (0..members).map(|m| format!("{}=http://127.0.0.1:{}", name(m), ports[m][1])).collect();
        let start = |index: usize| Self::member(&name(index), LOOPBACK, ports[index], &all.join(","), |_, _| quick());
        let mut servers: Vec<_> = (0..members).map(start).collect();
        for server in &mut servers {
            assert!(server.is_up().await, "a member does not start; see {}/log", server.directory.display());
        }
        servers
    }

    /// Starts members of one cluster, each in a network namespace of its own. All are joined by a bridge in the namespace
    /// of this thread, which must be its own as well; [`Cable`] disconnects them from each other, but not from the test.
    pub async fn apart(members: u8) -> (Vec<Self>, Cable) {
        let cable = Cable::new();
        let all: Vec<_> = (0..members).map(|m| format!("m{m}=http://{}:2380", cable.address(m))).collect();
        let start = |m| {
            let place = MemberAddress { address: cable.address(m), own_netns: true };
            let server = Self::member(&format!("m{m}"), place, [2379, 2380], &all.join(","), |_, _| quick());
            cable.plug(m, &server);
            server
        };
        let mut servers: Vec<_> = (0..members).map(start).collect();
        for server in &mut servers {
            assert!(server.is_up().await, "a member does not start; see {}/log", server.directory.display());
        }
        (servers, cable)
    }

    fn attempt(more: impl Fn(&Path, u16) -> Vec<String>) -> Self {
        let ports = free_ports();
        Self::member("one", LOOPBACK, ports, &format!("one=http://127.0.0.1:{}", ports[1]), more)
    }

    fn member(
        name: &str,
        place: MemberAddress,
        ports: [u16; 2],
        cluster: &str,
        more: impl Fn(&Path, u16) -> Vec<String>,
    ) -> Self {
        // The memory file system: every transaction is an fsync.
        let directory = tempfile::Builder::new().prefix("at-etcd-").tempdir_in("/dev/shm").expect("a directory").keep();
        let [url, peers] = ports.map(|port| format!("http://{}:{port}", place.address));
        let mut arguments = more(&directory, ports[0]);
        for (option, value) in [
            ("--name", name),
            ("--logger", "zap"),
            ("--log-level", "warn"),
            ("--data-dir", &directory.join("data").display().to_string()),
            ("--listen-peer-urls", &peers),
            ("--initial-advertise-peer-urls", &peers),
            ("--initial-cluster", cluster),
        ] {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
        if !arguments.iter().any(|argument| argument == "--listen-client-urls") {
            arguments.extend(["--listen-client-urls", &url, "--advertise-client-urls", &url].map(str::to_owned));
        }
        let child = run(&directory, place.own_netns, &arguments);
        Self { child, directory, url, arguments, own_netns: place.own_netns }
    }

    /// Whether it is the leader of its cluster. It must be running.
    pub fn is_leader(&self) -> bool {
        // `endpoint status`: URL, id, version, size, leader, ...
        self.etcdctl(&["endpoint", "status"]).split(", ").nth(4) == Some("true")
    }

    /// Answers within 10 s, unless it has ended.
    pub async fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        let address: std::net::SocketAddr = self.url.trim_start_matches("http://").parse().unwrap_or_else(|_| {
            let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
            (Ipv4Addr::LOCALHOST, port).into()
        });
        while Instant::now() < deadline && self.child.try_wait().expect("our child").is_none() {
            if std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                // With TLS only the test itself can ask; without, an answer proves that there is a leader.
                if self.arguments.iter().any(|argument| argument == "--client-cert-auth") {
                    return true;
                }
                if self.store().read(vec![Query::key(ClusterRecord::at())]).await.is_ok() {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Its URL.
    pub fn config(&self) -> EtcdConfig {
        config(&[&self.url])
    }

    /// A client for it.
    pub fn store(&self) -> Etcd {
        Etcd::connect(&self.config()).expect("the settings are right")
    }

    /// Its directory: log, data, and what a test puts there.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sends a signal by name ([`process::signal`]).
    pub fn signal(&self, name: &str) {
        process::signal(&self.child, name);
    }

    /// Ends it with SIGKILL; its data stays.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same data and ports.
    pub async fn restart(&mut self) {
        self.stop();
        self.child = run(&self.directory, self.own_netns, &self.arguments);
        assert!(self.is_up().await, "etcd does not start again");
    }

    /// Runs `etcdctl` against it.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let output = command("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.url))
            .args(arguments)
            .output()
            .expect("etcdctl runs");
        assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            #[expect(clippy::print_stdout, reason = "for the person who reads the failure")]
            {
                let (directory, arguments) = (self.directory.display(), self.arguments.join(" "));
                println!("kept: {directory}/log and {directory}/data; to inspect it, start it again: etcd {arguments}");
            }
        } else {
            // A failure changes nothing for the test.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The configuration of a client, with a prefix of its own.
pub fn config(urls: &[&str]) -> EtcdConfig {
    EtcdConfig {
        endpoints: urls.iter().map(|url| (*url).to_owned()).collect(),
        prefix: "/atoll/at-test".to_owned(),
        ca: None,
        cert: None,
        key: None,
    }
}

/// Waits until the interface exists, then starts the member in its own namespace.
const WAIT_FOR_INTERFACE: &str =
    "until ip -o address show dev eth0 2>/dev/null | grep -q ' inet '; do sleep 0.02; done; exec etcd \"$@\"";

fn run(directory: &Path, own_netns: bool, arguments: &[String]) -> Child {
    let log = fs::File::options().create(true).append(true).open(directory.join("log")).expect("a log");
    // The kernel kills the child when the test's process ends, however it ends.
    command("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(if own_netns { &["unshare", "--net", "sh", "-c", WAIT_FOR_INTERFACE, "etcd"][..] } else { &["etcd"] })
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("setpriv and etcd are installed (apt-get install etcd-server)")
}

/// The bridge between members in separate namespaces. It is deleted with the thread's namespace.
pub struct Cable {
    network: [u8; 3],
    table: &'static str,
}

impl Cable {
    fn new() -> Self {
        // In a new namespace even the loopback is down.
        let up = shell("ip -o link show up");
        assert!(up.is_empty(), "the thread needs a network namespace of its own, not this one: {up}");
        for command in [
            "ip link set lo up",
            "ip link add at-bridge type bridge",
            "ip address add 10.0.0.254/24 dev at-bridge",
            "ip link set at-bridge up",
            "nft add table bridge at",
            "nft add chain bridge at cut { type filter hook forward priority 0 ; }",
        ] {
            shell(command);
        }
        Self { network: [10, 0, 0], table: "at" }
    }

    fn address(&self, member: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, member + 1)
    }

    /// Connects a member with an interface.
    fn plug(&self, member: u8, server: &EtcdServer) {
        let (pid, address) = (server.child.id(), self.address(member));
        let net = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while net(&pid.to_string()).is_none_or(|theirs| Some(theirs) == net("thread-self")) {
            assert!(Instant::now() < deadline, "the member has no namespace of its own");
            std::thread::sleep(Duration::from_millis(5));
        }
        shell(&format!("ip link add at-m{member} type veth peer name eth0 netns {pid}"));
        shell(&format!("ip link set at-m{member} master at-bridge up"));
        let inside = format!("nsenter --net=/proc/{pid}/ns/net ip");
        shell(&format!("{inside} link set lo up"));
        shell(&format!("{inside} link set eth0 up"));
        shell(&format!("{inside} address add {address}/24 dev eth0"));
    }

    /// Packets of `from` do not arrive at `to` any more.
    pub fn cut(&self, from: u8, to: u8) {
        let (from, to) = (self.address(from), self.address(to));
        let table = self.table;
        shell(&format!("nft add rule bridge {table} cut ip saddr {from} ip daddr {to} drop"));
    }

    /// All packets arrive again.
    pub fn heal(&self) {
        shell(&format!("nft flush chain bridge {} cut", self.table));
    }
}

fn shell(line: &str) -> String {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let output = command(program).args(words).output().expect("iproute2, nftables and util-linux are installed");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
