//! The two servers of a node: etcd and the controller. In a namespace of their own they use well-known ports.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use uuid::Uuid;

use crate::lab::daemon::{Daemon, Lifetime};
use crate::lab::http;
use crate::lab::netns::LabNetns;

/// Where etcd listens.
pub const ETCD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2379);
/// Where the controller listens.
pub const CONTROLLER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8181);
/// The controller's API below its address.
pub const API: &str = "/midonet-api";

/// Timeout for the start of a server on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The keys of etcd below `<root>/v2/<below>`, without that root, and their values. They are JSON, or empty.
pub fn keys(netns: &LabNetns, endpoint: SocketAddr, root: &str, below: &str) -> Result<Vec<(String, Value)>> {
    let prefix = format!("{root}/v2/{below}");
    let endpoint = format!("--endpoints=http://{endpoint}");
    let out = netns.run("etcdctl", &[&endpoint, "get", "--prefix", &prefix, "--print-value-only=false"])?;
    let lines: Vec<&str> = out.lines().collect();
    lines
        .chunks(2)
        .map(|pair| {
            let value = pair.get(1).filter(|text| !text.is_empty()).map_or(Ok(Value::Null), |text| {
                serde_json::from_str(text).with_context(|| format!("the value of {}", pair[0]))
            })?;
            Ok((pair[0].trim_start_matches(root).trim_start_matches("/v2/").to_owned(), value))
        })
        .collect()
}

/// Starts Debian's etcd on `data` and waits until it is healthy.
pub fn etcd(netns: &LabNetns, lifetime: Lifetime, data: &Path, log: &Path) -> Result<Daemon> {
    etcd_at(ETCD, netns, lifetime, data, log)
}

/// The same at another address.
pub fn etcd_at(address: SocketAddr, netns: &LabNetns, lifetime: Lifetime, data: &Path, log: &Path) -> Result<Daemon> {
    let args = [
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://{address}"),
        format!("--advertise-client-urls=http://{address}"),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--log-level=warn".to_owned(),
        "--logger=zap".to_owned(),
        // One member: there is no election to wait for.
        "--heartbeat-interval=50".to_owned(),
        "--election-timeout=500".to_owned(),
    ];
    let mut daemon =
        Daemon::start(netns, lifetime, Path::new("etcd"), &args, log).context("Debian package etcd-server")?;
    daemon.wait_until(TIMEOUT, || {
        let health = netns.within(|| http::get(address, "/health"))?;
        ensure!(health.contains("\"true\""), "health: {health}");
        Ok(())
    })?;
    Ok(daemon)
}

/// How the controller is started.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// Its data plane pins the routers' namespaces below this directory.
    pub run_dir: PathBuf,
    /// The id of its agent on this machine.
    pub host_id: Uuid,
    /// Where it keeps its objects over a restart.
    pub state: Option<PathBuf>,
    /// Packets flow. Without, a bound port is active at once and nothing else happens.
    pub dataplane: bool,
}

/// Starts the mock controller and waits until it answers.
pub fn controller(
    netns: &LabNetns,
    lifetime: Lifetime,
    program: &Path,
    options: &ControllerOptions,
    log: &Path,
) -> Result<Daemon> {
    let mut args: Vec<String> = ["--listen", &CONTROLLER.to_string(), "--dialect", "5"].map(Into::into).into();
    if options.dataplane {
        args.extend(["--dataplane".to_owned(), "--run-dir".to_owned(), options.run_dir.display().to_string()]);
    }
    args.extend(["--host-id".to_owned(), options.host_id.to_string()]);
    if !options.run_dir.exists() {
        // As the programs make it (docs/operations.md), whatever the umask of the test is.
        std::fs::create_dir(&options.run_dir).with_context(|| format!("make {}", options.run_dir.display()))?;
        std::fs::set_permissions(&options.run_dir, std::fs::Permissions::from_mode(0o700))?;
    }
    args.extend(["--mock-socket".to_owned(), options.run_dir.join("mock.sock").display().to_string()]);
    if let Some(state) = &options.state {
        args.extend(["--state".to_owned(), state.display().to_string()]);
    }
    let mut daemon = Daemon::start(netns, lifetime, program, &args, log)?;
    daemon.wait_until(TIMEOUT, || netns.within(|| http::get(CONTROLLER, "/mock/")).map(drop))?;
    Ok(daemon)
}
