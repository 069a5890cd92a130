//! A cluster of machines with OVN: a central machine with the databases and etcd, chassis with Open vSwitch, an external network.
//! All are network namespaces, and the datapath is in user space, so that no kernel module is needed.
//!
//! ```text
//!   central 172.20.1.1 ── manage ── chassis c1 172.20.1.11, c2 .12, c3 .13       databases and etcd
//!                         under ── chassis c1 172.20.0.11, c2 .12, c3 .13        tunnels
//!   out 192.0.2.1 ── ext ── every chassis                                        uplinks
//! ```
//!
//! Databases have a network of their own: a datapath in user space stops with its daemon, also while that has no database.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_cni_plugin::host_to_pod::HostToPodAddressing;
use atoll_cni_plugin::kernel::linux::Linux;
use atoll_model::ids::IfName;
use atoll_network::PodPort;
use atoll_node::netlink::offload;
use atoll_node::netns::{self, Netns};
use atoll_ovn::ovsdb::{Remote, RemoteSettings};
use atoll_ovn::{Ovn, Switch};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::lab::cni::Cni;
use crate::lab::ctl::Out;
use crate::lab::daemon::Daemon;
use crate::lab::netns::{LabNetns, output};
use crate::lab::node::{PREFIX, merge};
use crate::lab::place::LabPlace;
use crate::lab::pod::LabPod;
use crate::lab::{leftovers, servers, wait};
use crate::ovn::Packages;

/// The central machine.
pub const CENTRAL: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 1);
/// The MTU towards pods that a machine reaches without the plugin's verbs: it fits into a tunnel.
const REACHED_MTU: u32 = 1400;
/// Where etcd listens.
pub const ETCD: SocketAddr = SocketAddr::new(IpAddr::V4(CENTRAL), 2379);
/// The gateway of the external network.
pub const OUTSIDE: &str = "192.0.2.1";
/// The address of the provider router in the external network.
pub const UPLINK: &str = "192.0.2.2";
/// The name of the external network in `ovn-bridge-mappings`.
pub const PHYSICAL: &str = "ext";
/// Further names of physical networks, which are the same external network.
pub const FURTHER: [&str; 2] = ["ext1", "ext2"];

/// The members of Northbound: name of daemon and files, port for clients, port for each other. The first may be a server of its own.
const MEMBERS: [(&str, u16, u16); 3] = [("nb", 6641, 6643), ("nb-2", 6651, 6653), ("nb-3", 6661, 6663)];

/// Timeout for the start of a daemon on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The cluster.
#[derive(Debug)]
pub struct OvnLab {
    // Dropped in this order: daemons, namespaces, files.
    /// The chassis.
    pub chassis: Vec<OvnMachine>,
    daemons: BTreeMap<&'static str, Daemon>,
    /// The external network's namespace.
    pub out: LabNetns,
    central: LabNetns,
    under: LabNetns,
    members: usize,
    packages: Packages,
    place: LabPlace,
}

/// A machine with Open vSwitch.
#[derive(Debug)]
pub struct OvnMachine {
    /// Its name: system id, node name.
    pub name: String,
    daemons: BTreeMap<&'static str, Daemon>,
    /// Its namespace.
    pub netns: LabNetns,
    config: Value,
    directory: PathBuf,
    bin_dir: PathBuf,
    packages: Packages,
}

impl OvnLab {
    /// Starts everything for a test, with so many chassis, all of which reach the external network, and makes the cluster with
    /// `atollctl init`. `settings` override keys of the plugin's configuration.
    pub fn start(chassis: usize, settings: &Value) -> Result<Self> {
        Self::start_with_members(1, chassis, settings)
    }

    /// The same with so many members of Northbound: three are a cluster in RAFT, one is a server of its own.
    pub fn start_with_members(members: usize, chassis: usize, settings: &Value) -> Result<Self> {
        let mut lab = Self::start_servers(LabPlace::of_test()?, Packages::new(), members)?;
        for _ in 0..chassis {
            lab.add_chassis(settings)?;
        }
        lab.init()?;
        Ok(lab)
    }

    /// Starts the central machine and the networks; there is no chassis yet.
    pub fn start_central(place: LabPlace, packages: Packages) -> Result<Self> {
        Self::start_servers(place, packages, 1)
    }

    fn start_servers(place: LabPlace, packages: Packages, members: usize) -> Result<Self> {
        let under = place.netns("under")?;
        for bridge in ["under", "manage"] {
            under.run("ip", &["link", "add", bridge, "type", "bridge"])?;
            under.run("ip", &["link", "set", bridge, "up"])?;
        }
        let central = place.netns("central")?;
        wire(&under, "manage", "central", &central, "man0")?;
        central.run("ip", &["address", "add", &format!("{CENTRAL}/24"), "dev", "man0"])?;
        let out = place.netns("outside")?;
        out.run("ip", &["link", "add", "ext", "type", "bridge"])?;
        out.run("ip", &["address", "add", &format!("{OUTSIDE}/24"), "dev", "ext"])?;
        out.run("ip", &["link", "set", "ext", "up"])?;
        out.run("ip", &["route", "add", "100.64.0.0/10", "via", UPLINK, "mtu", "1442"])?;
        checksums_in_software(&out, "ext")?;

        let files = place.directory("central")?;
        let authority = Authority::at(&files);
        authority.issue("server", "DNS:central");
        authority.issue("client", "DNS:node");
        let daemons = start_servers(&packages, &place, &central, &files, &MEMBERS[..members])?;
        Ok(Self { chassis: Vec::new(), daemons, out, central, under, members, packages, place })
    }

    /// Starts one more chassis.
    pub fn add_chassis(&mut self, settings: &Value) -> Result<&OvnMachine> {
        let one = OvnMachine::start(self, settings)?;
        self.chassis.push(one);
        self.chassis.last().context("there is one")
    }

    /// Makes the cluster with `atollctl init`: every chassis has an uplink.
    pub fn init(&self) -> Result<()> {
        let hosts = self.chassis.iter().map(|chassis| format!("{UPLINK}/24,{OUTSIDE},{},{PHYSICAL}", chassis.name));
        let mut init = vec!["init".to_owned()];
        init.extend(hosts.flat_map(|uplink| ["--uplink".to_owned(), uplink]));
        let first = self.chassis.first().context("a cluster has a chassis")?;
        first.atollctl(&init.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    /// Waits until every chassis has what Northbound has.
    pub fn synchronize(&self) -> Result<()> {
        self.ctl("ovn-nbctl", &["--timeout=60", "--wait=hv", "sync"]).map(drop)
    }

    /// The socket of a database: `nb`, `sb`, and of further members of Northbound.
    pub fn socket(&self, database: &str) -> PathBuf {
        self.place.path().join("central").join(format!("{database}.sock"))
    }

    /// The names of the members of Northbound: `nb`, `nb-2`, `nb-3`.
    pub fn members(&self) -> Vec<&'static str> {
        MEMBERS[..self.members].iter().map(|(name, ..)| *name).collect()
    }

    /// Whether a member leads its cluster. One that stands still is an error.
    pub fn leads(&self, member: &str) -> Result<bool> {
        let status = member_status(&self.packages, &self.place.path().join("central"), member)?;
        Ok(status.contains("Role: leader"))
    }

    /// Where the databases listen for `ovn-nbctl`, `ovn-sbctl`.
    fn remotes(&self, program: &str) -> Vec<String> {
        let databases = if program == "ovn-nbctl" { self.members() } else { vec!["sb"] };
        databases.iter().map(|database| format!("unix:{}", self.socket(database).display())).collect()
    }

    /// A command of OVN against the databases: `ovn-nbctl`, `ovn-sbctl`.
    pub fn ctl(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.packages.command(program);
        output(command.arg(format!("--db={}", self.remotes(program).join(","))).args(args))
    }

    /// The engine as a process on this chassis has it, over the sockets of the databases.
    pub fn engine(&self, chassis: &OvnMachine) -> Result<Ovn<Remote>> {
        let database = |database, remotes: Vec<String>| {
            let endpoints = remotes.iter().map(|remote| remote.parse().map_err(anyhow::Error::msg));
            let endpoints = endpoints.collect::<Result<_>>()?;
            let (connect, request) = (TIMEOUT, TIMEOUT);
            let settings = RemoteSettings { database, endpoints, tls: None, connect, request, memory: None };
            Ok::<_, anyhow::Error>(Remote::new(settings)?)
        };
        let switch = Switch::new(
            database("Open_vSwitch", vec![format!("unix:{}", chassis.socket().display())])?,
            "br-int".to_owned(),
        );
        let northbound = database("OVN_Northbound", self.remotes("ovn-nbctl"))?;
        Ok(Ovn::new(northbound, Some(database("OVN_Southbound", self.remotes("ovn-sbctl"))?), Some(switch)))
    }

    /// The namespace of the databases and etcd.
    pub fn central(&self) -> &LabNetns {
        &self.central
    }

    /// The daemons that run: a daemon of a chassis has the name of the chassis in front. With their processes.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let central = self.daemons.iter().map(|(name, daemon)| ((*name).to_owned(), daemon.pid()));
        let chassis = self.chassis.iter().flat_map(|chassis| {
            chassis.daemons.iter().map(|(name, daemon)| (format!("{} {name}", chassis.name), daemon.pid()))
        });
        central.chain(chassis).collect()
    }

    /// A daemon of the central machine, for the caller to stop and start; it ends with the value: the databases `nb` (and further
    /// [members](Self::members)) and `sb`, `ovn-northd`, `etcd`.
    pub fn take_daemon(&mut self, name: &str) -> Result<Daemon> {
        self.daemons.remove(name).with_context(|| format!("{name} is no daemon here, or was taken"))
    }

    /// The names of the logical ports of pods, with this condition of `ovn-nbctl find`.
    pub fn ports(&self, condition: &str) -> Result<Vec<String>> {
        let find = ["--bare", "--columns=name", "find", "Logical_Switch_Port", "external_ids:atoll-role=pod-port"];
        let condition = Some(condition).filter(|condition| !condition.is_empty());
        let found = self.ctl("ovn-nbctl", &find.into_iter().chain(condition).collect::<Vec<_>>())?;
        Ok(found.split_whitespace().map(str::to_owned).collect())
    }

    /// Remains of pods in etcd, in Northbound, and on each chassis in its Open vSwitch, kernel and files, one line each.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut left = leftovers::records(|below| servers::keys(&self.central, ETCD, PREFIX, below))?;
        left.extend(self.ports("")?.into_iter().map(|port| format!("Northbound: port {port}")));
        for chassis in &self.chassis {
            left.extend(chassis.plugged()?.into_iter().map(|row| format!("{}: {row}", chassis.name)));
            let ways = chassis.host_to_pod()?.into_iter();
            left.extend(ways.map(|(address, pod)| format!("{}: a way by {address} to {pod}", chassis.name)));
            left.extend(leftovers::of_machine(&chassis.netns, &chassis.directory.join("state"))?);
        }
        Ok(left)
    }

    /// Returns an error with the list if pods left anything.
    pub fn assert_nothing_left(&self) -> Result<()> {
        let left = self.leftovers()?;
        ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        Ok(())
    }

    /// The end of a scenario: its pods left nothing, and its files are deleted.
    pub fn finish(self) -> Result<()> {
        self.assert_nothing_left()?;
        self.passed();
        Ok(())
    }

    /// The end of a test without calls of the plugin: its files are deleted.
    pub fn passed(self) {
        self.place.passed();
    }

    /// The same with pending cleanup, which later calls of each chassis complete. On a busy machine every DEL may leave some:
    /// Northbound answered too late.
    pub fn finish_after_cleanup(self) -> Result<()> {
        self.clean_up(|| self.assert_nothing_left())?;
        self.finish()
    }

    /// Later calls of each chassis complete the pending cleanup, until `done`.
    pub fn clean_up(&self, done: impl Fn() -> Result<()>) -> Result<()> {
        wait::until("later calls complete the pending cleanup", TIMEOUT, || {
            for chassis in &self.chassis {
                chassis.cni()?.del(&LabPod::new("cleanup", "missing")?)?;
            }
            done()
        })
    }
}

/// The databases, northd and etcd.
fn start_servers(
    packages: &Packages,
    place: &LabPlace,
    netns: &LabNetns,
    files: &Path,
    members: &[(&'static str, u16, u16)],
) -> Result<BTreeMap<&'static str, Daemon>> {
    let at = |name: &str| files.join(name).display().to_string();
    let keys = [("private-key", "server.key"), ("certificate", "server.pem"), ("ca-cert", "ca.pem")];
    let keys = keys.map(|(option, file)| format!("--{option}={}", at(file)));
    let mut daemons = BTreeMap::new();
    let mut serve = |name: &'static str, schema: &str, remote: String, from: &[&str]| {
        let file = at(&format!("{name}.db"));
        let mut create = packages.command("ovsdb-tool");
        let [how, addresses @ ..] = from else { unreachable!("it has a command") };
        create.args([how, file.as_str(), schema]).args(addresses);
        output(&mut create)?;
        let mut args = vec![
            file,
            format!("--remote=punix:{}", at(&format!("{name}.sock"))),
            remote,
            format!("--unixctl={}", at(&format!("{name}.ctl"))),
        ];
        args.extend(keys.iter().cloned());
        args.push("-vconsole:warn".to_owned());
        daemons.insert(name, start(packages, place, netns, "ovsdb-server", &args, files, &at(&format!("{name}.log")))?);
        wait_for_socket(&files.join(format!("{name}.sock")))
    };
    let [northbound, southbound] =
        ["ovn-nb.ovsschema", "ovn-sb.ovsschema"].map(|schema| packages.schema(schema).display().to_string());
    let peer = |(_, _, port): &(&str, u16, u16)| format!("ssl:127.0.0.1:{port}");
    if let [(name, ..)] = members {
        serve(name, &northbound, "--remote=db:OVN_Northbound,NB_Global,connections".to_owned(), &["create"])?;
    } else {
        for (number, member) in members.iter().enumerate() {
            let (own, first) = (peer(member), peer(&members[0]));
            let remote = format!("--remote=pssl:{}:0.0.0.0", member.1);
            if number == 0 {
                serve(member.0, &northbound, remote, &["create-cluster", &own])?;
            } else {
                serve(member.0, "OVN_Northbound", remote, &["join-cluster", &own, &first])?;
            }
            wait::until("a member has joined its cluster", TIMEOUT, || {
                let status = member_status(packages, files, member.0)?;
                ensure!(status.contains("Status: cluster member"), "{}: {status}", member.0);
                Ok(())
            })?;
        }
    }
    serve("sb", &southbound, "--remote=db:OVN_Southbound,SB_Global,connections".to_owned(), &["create"])?;
    let connection = |port: &str| {
        let set = ["set-connection", port, "--", "set", "connection", ".", "inactivity_probe=60000"];
        std::iter::once("--").chain(set).map(str::to_owned).collect()
    };
    let sockets: Vec<_> = members.iter().map(|(name, ..)| format!("unix:{}", at(&format!("{name}.sock")))).collect();
    for (program, remotes, connection) in [
        // The members of a cluster are one machine here: one row of ports cannot serve them all.
        ("ovn-nbctl", sockets.join(","), if members.len() == 1 { connection("pssl:6641:0.0.0.0") } else { Vec::new() }),
        ("ovn-sbctl", format!("unix:{}", at("sb.sock")), connection("pssl:6642:0.0.0.0")),
    ] {
        output(packages.command(program).arg(format!("--db={remotes}")).arg("init").args(connection))?;
    }
    // A member that stands still is noticed by probes, which a socket of this machine has not.
    let northbound = if members.len() == 1 {
        sockets
    } else {
        members.iter().map(|(_, port, _)| format!("ssl:127.0.0.1:{port}")).collect()
    };
    let mut northd = vec![
        format!("--ovnnb-db={}", northbound.join(",")),
        format!("--ovnsb-db=unix:{}", at("sb.sock")),
        format!("--unixctl={}", at("northd.ctl")),
        "-vconsole:warn".to_owned(),
    ];
    northd.extend(keys);
    daemons.insert("ovn-northd", start(packages, place, netns, "ovn-northd", &northd, files, &at("northd.log"))?);
    let etcd = servers::etcd_at(ETCD, netns, place.lifetime(), &files.join("etcd"), &files.join("etcd.log"))?;
    daemons.insert("etcd", etcd);
    Ok(daemons)
}

/// How a member of Northbound describes its place in its cluster.
fn member_status(packages: &Packages, files: &Path, member: &str) -> Result<String> {
    let control = files.join(format!("{member}.ctl")).display().to_string();
    output(packages.command("ovs-appctl").args(["--timeout=5", "-t", &control, "cluster/status", "OVN_Northbound"]))
}

impl OvnMachine {
    fn start(lab: &OvnLab, settings: &Value) -> Result<Self> {
        let number = lab.chassis.len() + 1;
        let name = format!("c{number}");
        let directory = lab.place.directory(&name)?;
        let netns = lab.place.netns(&name)?;
        let central = lab.place.path().join("central");
        let config = configuration(&name, &directory, &central, lab.members, settings);
        wire(&lab.under, "under", &name, &netns, "und0")?;
        wire(&lab.under, "manage", &format!("{name}-man"), &netns, "man0")?;
        netns.run("ip", &["address", "add", &format!("172.20.1.{}/24", 10 + number), "dev", "man0"])?;
        wire(&lab.out, "ext", &name, &netns, "ext0")?;
        checksums_in_software(&lab.out, &name)?;
        let (packages, bin_dir) = (lab.packages.clone(), lab.place.bin_dir().to_owned());
        let mut chassis = Self { name, daemons: BTreeMap::new(), netns, config, directory, bin_dir, packages };
        let file = chassis.config_file();
        let text = serde_json::to_string_pretty(&chassis.config)?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        chassis.start_daemons(&lab.place, &format!("172.20.0.{}", 10 + number))?;
        Ok(chassis)
    }

    fn start_daemons(&mut self, place: &LabPlace, address: &str) -> Result<()> {
        let directory = self.directory.clone();
        let at = |name: &str| directory.join(name).display().to_string();
        let schema = self.packages.schema("vswitch.ovsschema").display().to_string();
        output(self.packages.command("ovsdb-tool").args(["create", &at("conf.db"), &schema]))?;
        let args = [
            at("conf.db"),
            format!("--remote=punix:{}", at("db.sock")),
            format!("--unixctl={}", at("ovsdb.ctl")),
            "-vconsole:warn".to_owned(),
        ];
        self.daemon(place, "ovsdb-server", &args)?;
        wait_for_socket(&self.socket())?;
        self.vsctl(&["--no-wait", "init"])?;
        let file = |name: &str| place.path().join("central").join(name).display().to_string();
        let mappings = std::iter::once(PHYSICAL).chain(FURTHER).map(|name| format!("{name}:br-ex"));
        let mappings = mappings.collect::<Vec<_>>().join(",");
        self.vsctl(&["--no-wait", "set-ssl", &file("client.key"), &file("client.pem"), &file("ca.pem")])?;
        self.vsctl(&[
            "--no-wait",
            "set",
            "Open_vSwitch",
            ".",
            &format!("external_ids:system-id={}", self.name),
            &format!("external_ids:ovn-remote=ssl:{CENTRAL}:6642"),
            "external_ids:ovn-encap-type=geneve",
            &format!("external_ids:ovn-encap-ip={address}"),
            "external_ids:ovn-bridge-datapath-type=netdev",
            &format!("external_ids:ovn-bridge-mappings={mappings}"),
            "external_ids:ovn-monitor-all=true",
            "external_ids:ovn-remote-probe-interval=60000",
        ])?;
        let socket = format!("unix:{}", at("db.sock"));
        self.daemon(
            place,
            "ovs-vswitchd",
            &[socket.clone(), format!("--unixctl={}", at("vswitchd.ctl")), "-vconsole:warn".to_owned()],
        )?;
        for bridge in ["br-int", "br-phy", "br-ex"] {
            self.vsctl(&["--timeout=60", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev"])?;
        }
        self.vsctl(&["--timeout=60", "set", "Bridge", "br-int", "fail_mode=secure"])?;
        for (bridge, port) in [("br-phy", "und0"), ("br-ex", "ext0")] {
            self.vsctl(&["--timeout=60", "add-port", bridge, port])?;
        }
        self.restore_tunnel_address()?;
        self.daemon(place, "ovn-controller", &[socket, "-vconsole:warn".to_owned()])
    }

    /// Gives the end of its tunnels its address. A datapath in user space loses those of its bridges with its daemon.
    pub fn restore_tunnel_address(&self) -> Result<()> {
        // A tunnel of this datapath finds its own address on a bridge only.
        let address = self.vsctl(&["get", "Open_vSwitch", ".", "external_ids:ovn-encap-ip"])?;
        let address = format!("{}/24", address.trim().trim_matches('"'));
        wait::until("the bridge has its address", TIMEOUT, || {
            self.netns.run("ip", &["address", "replace", &address, "dev", "br-phy"])?;
            self.netns.run("ip", &["link", "set", "br-phy", "up"]).map(drop)
        })
    }

    fn daemon(&mut self, place: &LabPlace, program: &'static str, args: &[String]) -> Result<()> {
        let log = self.directory.join(format!("{program}.log"));
        let log = log.display().to_string();
        let daemon = start(&self.packages, place, &self.netns, program, args, &self.directory, &log)?;
        self.daemons.insert(program, daemon);
        Ok(())
    }

    /// A daemon of this machine, for the caller to stop and start; it ends with the value: `ovsdb-server`, `ovs-vswitchd`,
    /// `ovn-controller`.
    pub fn take_daemon(&mut self, program: &str) -> Result<Daemon> {
        self.daemons.remove(program).with_context(|| format!("{program} is no daemon here, or was taken"))
    }

    /// The rows of Open vSwitch that belong to pods: table and name.
    pub fn plugged(&self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for table in ["Interface", "Port"] {
            let find = ["--timeout=10", "--bare", "--columns=name", "find", table, "external_ids:atoll=pod"];
            rows.extend(self.vsctl(&find)?.split_whitespace().map(|name| format!("{table} {name}")));
        }
        Ok(rows)
    }

    /// How this machine reaches its own pods, as the rules of the kernel have it: an address of its own and the pod's, for each.
    pub fn host_to_pod(&self) -> Result<Vec<(Ipv4Addr, Ipv4Addr)>> {
        let mut found = Vec::new();
        for netns in self.host_to_pod_sides()? {
            let list = ["-j", "list", "map", "inet", "atoll_host_to_pod", "pods"];
            let listed: Value = serde_json::from_str(&netns.run("nft", &list)?)?;
            let maps =
                listed["nftables"].as_array().into_iter().flatten().filter_map(|it| it["map"]["elem"].as_array());
            for element in maps.flatten() {
                let key = element[0]["elem"]["val"].as_str().unwrap_or_default();
                found.push((key.parse()?, element[1].as_str().unwrap_or_default().parse()?));
            }
        }
        Ok(found)
    }

    /// Lets this machine reach the pod of a port, by the plugin's own code. Returns the machine's interface towards it.
    pub fn reach_pod(&self, engine: &Ovn<Remote>, port: &PodPort, networks: &[IpNetwork]) -> Result<IfName> {
        self.host_to_pod_addressing(engine, async |node| {
            node.add(port, networks, REACHED_MTU).await?;
            Ok(node.side(port.subnet).context("OVN has a port for it")?.node_end())
        })
    }

    /// Removes what was made for it, as GC does.
    pub fn reach_nothing(&self, engine: &Ovn<Remote>) -> Result<()> {
        self.host_to_pod_addressing(engine, async |node| {
            for _ in 0..2 {
                for side in node.sides()? {
                    node.collect(&side, |_| true).await?;
                }
            }
            Ok(())
        })
    }

    fn host_to_pod_addressing<T: Send>(
        &self,
        engine: &Ovn<Remote>,
        work: impl AsyncFnOnce(&HostToPodAddressing<'_, Ovn<Remote>, Linux>) -> Result<T> + Send,
    ) -> Result<T> {
        let run_dir = self.directory.join("run");
        self.netns.within(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work(&HostToPodAddressing::new(engine, &Linux::new(), &run_dir)))
        })
    }

    /// The namespaces by which this machine reaches its pods, one for each subnet.
    pub fn host_to_pod_sides(&self) -> Result<Vec<LabNetns>> {
        let directory = self.directory.join("run/host-to-pod");
        let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
        let paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        Ok(paths.into_iter().filter(|path| netns::is_pinned(path)).map(LabNetns::at).collect())
    }

    /// Runs `ovs-vsctl` against this machine's Open vSwitch.
    pub fn vsctl(&self, args: &[&str]) -> Result<String> {
        let db = format!("--db=unix:{}", self.socket().display());
        output(self.packages.command("ovs-vsctl").arg(db).args(args))
    }

    /// The socket of its Open vSwitch's database.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("db.sock")
    }

    /// The plugin's configuration here.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The file that has it, for `atollctl`.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("atoll.json")
    }

    /// A runtime on this machine.
    pub fn cni(&self) -> Result<Cni<'_>> {
        Ok(Cni::new(&self.netns, self.program("atoll")?, self.config.clone()))
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.bin_dir.join(name);
        ensure!(path.is_file(), "{} is not built", path.display());
        Ok(path)
    }

    /// The output of an operator's `atollctl` on this machine; its failure is an error with its text.
    pub fn atollctl(&self, args: &[&str]) -> Result<String> {
        let out = self.run_atollctl(args, &json!({}))?;
        ensure!(out.code == 0, "atollctl {args:?}: exit code {}: {}{}", out.code, out.stderr, out.stdout);
        Ok(out.stdout)
    }

    /// The same whatever its exit code is. `settings` override keys of the configuration.
    pub fn run_atollctl(&self, args: &[&str], settings: &Value) -> Result<Out> {
        let mut config = self.config.clone();
        merge(&mut config, settings);
        let file = self.directory.join("atollctl.json");
        fs::write(&file, config.to_string()).with_context(|| format!("write {}", file.display()))?;
        let mut command = self.netns.command(self.program("atollctl")?);
        command.env("PATH", crate::program::search_path()).env("ATOLL_CONFIG", &file).args(args);
        command.env("OVN_RUNDIR", &self.directory);
        Out::of(&command.stdin(Stdio::null()).output().context("start atollctl")?)
    }
}

fn configuration(name: &str, directory: &Path, central: &Path, members: usize, settings: &Value) -> Value {
    let northbound: Vec<_> = MEMBERS[..members].iter().map(|(_, port, _)| format!("ssl:{CENTRAL}:{port}")).collect();
    let at = |file: &str| central.join(file).display().to_string();
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "atoll", "type": "atoll",
        "nodeName": name, "hostId": name, "runDir": directory.join("run"), "stateDir": directory.join("state"),
        "mtu": "auto", "quietPeriodSeconds": 0, "timeoutSeconds": 60,
        "etcd": { "endpoints": [format!("http://{ETCD}")], "prefix": PREFIX },
        "ovn": {
            "northbound": northbound, "southbound": [format!("ssl:{CENTRAL}:6642")],
            "ca": at("ca.pem"), "cert": at("client.pem"), "key": at("client.key"), "serverName": "central",
            "local": format!("unix:{}", directory.join("db.sock").display()),
        },
        "cluster": { "addressing": "overlapping" },
        "log": { "file": directory.join("cni.log"), "level": "debug" },
    });
    merge(&mut config, settings);
    config
}

/// Starts a program of the packages in a namespace. What it makes besides is in `directory`.
fn start(
    packages: &Packages,
    place: &LabPlace,
    netns: &LabNetns,
    program: &str,
    args: &[String],
    directory: &Path,
    log: &str,
) -> Result<Daemon> {
    let (path, libraries) = packages.located(program);
    let mut all = vec![format!("LD_LIBRARY_PATH={}", libraries.to_string_lossy())];
    all.extend(
        ["OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR"].map(|name| format!("{name}={}", directory.display())),
    );
    all.push(path.display().to_string());
    all.extend(args.iter().cloned());
    Daemon::start(netns, place.lifetime(), Path::new("env"), &all, Path::new(log))
}

fn wait_for_socket(path: &Path) -> Result<()> {
    wait::until("a database server listens", TIMEOUT, || {
        std::os::unix::net::UnixStream::connect(path).with_context(|| path.display().to_string()).map(drop)
    })
}

/// A cable from a bridge of one machine to another machine.
fn wire(bridge_netns: &LabNetns, bridge: &str, port: &str, machine: &LabNetns, interface: &str) -> Result<()> {
    let other = machine.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    bridge_netns.run("ip", &["link", "add", port, "type", "veth", "peer", "name", interface, "netns", &other])?;
    bridge_netns.run("ip", &["link", "set", port, "master", bridge, "up"])?;
    // A link-local address would be taken for the end of a tunnel.
    machine.run("ip", &["link", "set", interface, "addrgenmode", "none", "up"])?;
    Ok(())
}

/// The datapath in user space takes frames as they are: checksums that are left to hardware are never filled in.
fn checksums_in_software(netns: &LabNetns, interface: &str) -> Result<()> {
    let interface = interface.parse()?;
    Ok(offload::compute_checksums(&Netns::At(netns.path().to_owned()), &interface)?)
}
