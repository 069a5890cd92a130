//! A real `ovsdb-server` for one test: a child process with its own directory and ports, which ends with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::Packages;
use crate::process::{self, free_ports};
use crate::program::command;

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// OVN's Northbound.
    Northbound,
    /// OVN's Southbound.
    Southbound,
    /// Open vSwitch's own.
    Switch,
}

impl Schema {
    /// The name of the database.
    pub fn database(self) -> &'static str {
        match self {
            Self::Northbound => "OVN_Northbound",
            Self::Southbound => "OVN_Southbound",
            Self::Switch => "Open_vSwitch",
        }
    }

    /// The file of its schema in the packages.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Northbound => "ovn-nb.ovsschema",
            Self::Southbound => "ovn-sb.ovsschema",
            Self::Switch => "vswitch.ovsschema",
        }
    }
}

/// One server with one database. Killed when dropped; its directory stays when the test failed.
pub struct OvsdbServer {
    packages: Packages,
    schema: Schema,
    directory: PathBuf,
    /// The client port on loopback.
    pub port: u16,
    arguments: Vec<String>,
    child: Child,
}

impl OvsdbServer {
    /// Starts a server of its own, on a Unix socket and a TCP port of loopback.
    pub fn start(schema: Schema) -> Self {
        Self::start_with(schema, |_| Vec::new())
    }

    /// Starts a server with more arguments, which may depend on its directory.
    pub fn start_with(schema: Schema, more: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let packages = Packages::new();
        let directory = directory();
        let database = directory.join("db");
        tool(&packages, &["create", &shown(&database), &shown(&packages.schema(schema.file()))]);
        let more = more(&directory);
        Self::run(packages, schema, directory, more)
    }

    /// Starts the members of one cluster.
    pub fn cluster(schema: Schema, members: usize) -> Vec<Self> {
        let ports: Vec<[u16; 1]> = (0..members).map(|_| free_ports()).collect();
        let address = |member: usize| format!("tcp:127.0.0.1:{}", ports[member][0]);
        let mut servers: Vec<Self> = Vec::new();
        for member in 0..members {
            let (packages, directory) = (Packages::new(), directory());
            let database = directory.join("db");
            if member == 0 {
                let schema = packages.schema(schema.file());
                tool(&packages, &["create-cluster", &shown(&database), &shown(&schema), &address(0)]);
            } else {
                tool(&packages, &["join-cluster", &shown(&database), schema.database(), &address(member), &address(0)]);
            }
            servers.push(Self::run(packages, schema, directory, Vec::new()));
        }
        for server in &servers {
            server.wait_until("it has joined its cluster", || server.status().contains("Status: cluster member"));
        }
        servers
    }

    fn run(packages: Packages, schema: Schema, directory: PathBuf, more: Vec<String>) -> Self {
        // Another process may take the port between its choice and its use: the server then ends.
        let [port] = free_ports();
        let mut arguments = vec![
            shown(&directory.join("db")),
            format!("--remote=punix:{}", shown(&directory.join("sock"))),
            format!("--remote=ptcp:{port}:127.0.0.1"),
            format!("--unixctl={}", shown(&directory.join("ctl"))),
            format!("--log-file={}", shown(&directory.join("log"))),
            "-vconsole:off".to_owned(),
        ];
        arguments.extend(more);
        let child = spawn(&packages, &arguments);
        let mut server = Self { packages, schema, directory, port, arguments, child };
        server.wait();
        server
    }

    /// Its directory: database, log, and what a test puts there.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where it is on its Unix socket.
    pub fn unix(&self) -> String {
        format!("unix:{}", shown(&self.directory.join("sock")))
    }

    /// Where it is on TCP.
    pub fn tcp(&self) -> String {
        format!("tcp:127.0.0.1:{}", self.port)
    }

    /// Waits until it answers.
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(self.directory.join("sock")).is_err() {
            let ended = self.child.try_wait().expect("our child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it does not start; see {}/log",
                shown(&self.directory)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal by name ([`process::signal`]).
    pub fn signal(&self, name: &str) {
        process::signal(&self.child, name);
    }

    /// Ends it with SIGKILL; its data stay.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same data and ports.
    pub fn restart(&mut self) {
        self.stop();
        let _ = fs::remove_file(self.directory.join("sock"));
        self.child = spawn(&self.packages, &self.arguments);
        self.wait();
    }

    /// How it describes its place in its cluster (`ovsdb-server(1)`, `cluster/status`).
    pub fn status(&self) -> String {
        let ctl = shown(&self.directory.join("ctl"));
        let status =
            self.packages.command("ovs-appctl").args(["-t", &ctl, "cluster/status", self.schema.database()]).output();
        String::from_utf8_lossy(&status.expect("ovs-appctl runs").stdout).into_owned()
    }

    /// Whether it leads its cluster.
    pub fn is_leader(&self) -> bool {
        self.status().contains("Role: leader")
    }

    /// Executes a transaction by Open vSwitch's own client: an independent witness. Returns its answer.
    pub fn transact(&self, operations: &serde_json::Value) -> serde_json::Value {
        let mut all = vec![serde_json::Value::from(self.schema.database())];
        all.extend(operations.as_array().cloned().unwrap_or_default());
        let output = self
            .packages
            .command("ovsdb-client")
            .args(["transact", &self.unix(), &serde_json::Value::from(all).to_string()])
            .output()
            .expect("ovsdb-client runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !condition() {
            assert!(Instant::now() < deadline, "not in time: {what}; see {}/log", shown(&self.directory));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for OvsdbServer {
    fn drop(&mut self) {
        // It may stand still.
        self.stop();
        if std::thread::panicking() {
            #[expect(clippy::print_stdout, reason = "for the person who reads the failure")]
            {
                println!("kept: {} (database, log)", shown(&self.directory));
            }
        } else {
            // A failure changes nothing for the test.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn directory() -> PathBuf {
    // The memory file system: every transaction is an fsync. The name is short: it holds a Unix socket.
    tempfile::Builder::new().prefix("at-ovsdb-").tempdir_in("/dev/shm").expect("a directory").keep()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn tool(packages: &Packages, arguments: &[&str]) {
    let output = packages.command("ovsdb-tool").args(arguments).output().expect("ovsdb-tool runs");
    assert!(output.status.success(), "ovsdb-tool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn spawn(packages: &Packages, arguments: &[String]) -> Child {
    // The kernel kills the child when the test's process ends, however it ends.
    let mut server = command("setpriv");
    server.args(["--pdeathsig", "KILL"]);
    packages.behind(&mut server, "ovsdb-server");
    server.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    server.spawn().expect("setpriv and ovsdb-server run")
}
