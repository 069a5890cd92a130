//! The command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use atoll_model::attachment::Mac;
use atoll_model::ids::{Namespace, NodeName, PodName, TenantName};
use atoll_model::range::AddressRange;
use atoll_records::{StaticRoute, Uplink, Via};
use atoll_tenant::admin::Update;
use clap::{Parser, Subcommand, ValueEnum};
use ipnetwork::Ipv4Network;

use crate::explain::Asked;

const ABOUT: &str = "\
Questions and answers:
  Why has this pod no network?      atollctl attachment show NAMESPACE/POD    (on the pod's node)
  Is everything well on this node?  atollctl doctor
  Which pods has a tenant?          atollctl tenant show TENANT
  Who holds this address?           atollctl attachment show ADDRESS
  What would deleting a tenant do?  atollctl tenant delete TENANT --dry-run
  What is where?                    atollctl topology

Exit codes:
  0  done
  1  something else went wrong; the message says what
  2  the arguments are wrong
  3  the configuration is wrong, or disagrees with the cluster's
  4  there is no such object
  5  etcd, the controller or the container runtime is not available: the same command may work later
  6  refused: not allowed, in the way of something, or no room
  7  looked, and found something that needs you
  129, 130, 143  ended by a signal; the message says what was done and how to go on

Configuration: the file that the plugin uses, a conflist or its `atoll` entry alone. From --config, else from
ATOLL_CONFIG, else the first file with such an entry where the node's runtimes look (/etc/cni/net.d).";

/// Looks at and manages the tenants of Atoll.
#[derive(Debug, Parser)]
#[command(name = "atollctl", version, after_help = ABOUT, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Conflist, or the plugin's entry in it
    #[arg(long, global = true, env = "ATOLL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// For people, or for programs
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table or a tree
    Table,
    /// JSON; fields are added in later versions, never renamed
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the cluster's record, once, before the first pod does
    Init(Init),
    /// Draw tenants with their subnets and pods
    Topology(Topology),
    /// Tenants
    #[command(subcommand)]
    Tenant(Tenant),
    /// Subnets of a tenant
    #[command(subcommand)]
    Subnet(Subnet),
    /// Pods' interfaces
    #[command(subcommand)]
    Attachment(Attachment),
    /// Pods' addresses
    #[command(subcommand)]
    Address(Address),
    /// Look at everything that a pod's network needs, from this node, and say how to mend what is wrong
    Doctor(Doctor),
    /// Put plugin, secrets and network configuration in place, whole or not at all
    Install(Install),
    /// Take network configuration and plugin away again
    Uninstall(Uninstall),
    /// Collect what belongs to containers that are no more: for runtimes that never call the plugin's GC
    Gc(Gc),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  atollctl completion bash > /etc/bash_completion.d/atollctl")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options of `install`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plugin is written first and the network configuration last, each to a hidden temporary file that is synced and
renamed: killed at any point, every file is the old one or the new one. Twice is once. Running pods are not disturbed.
Plugin and configuration go where the node's runtimes look: as they say over their CRI sockets, else as their files say. A
configuration that is in place and that a runtime has not loaded is written anew, so that the runtime notices it.

Example: a new node
  atollctl install --conflist 10-atoll.conflist --secret password:/etc/atoll/password

Example: a new version of the plugin alone
  atollctl install --plugin ./atoll")]
pub(crate) struct Install {
    /// The plugin's binary; else `atoll` beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// The network configuration, a list with Atoll first; may be left out when one is in place
    #[arg(long, value_name = "FILE")]
    pub(crate) conflist: Option<PathBuf>,
    /// A secret and where it goes, with mode 0600; a directory stands for the files in it; may be repeated
    #[arg(long, value_name = "FILE:TARGET")]
    pub(crate) secret: Vec<Secret>,
    /// Also put this program there
    #[arg(long, value_name = "DIR")]
    pub(crate) cli_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) to: Target,
    /// Replace a network configuration of somebody else
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The network configuration goes first, the plugin last. A node that has pods of Atoll is refused: their DEL needs the plugin.
Records in etcd, secrets, logs and the directories `runDir` and `stateDir` stay.

Example: take a node out
  kubectl drain n1 --ignore-daemonsets
  atollctl uninstall")]
pub(crate) struct Uninstall {
    /// Also take this program away from there
    #[arg(long, value_name = "DIR")]
    pub(crate) cli_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) from: Target,
    /// Although pods use it, or although the network configuration is somebody else's
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Where an installation is.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Directory of plugins; else where the runtimes of the node look
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Directory of network configurations; else where the runtimes of the node look
    #[arg(long, value_name = "DIR")]
    pub(crate) conf_dir: Option<PathBuf>,
    /// CRI socket of the container runtime, may be repeated; else the usual ones of containerd, CRI-O and k3s
    #[arg(long, value_name = "SOCKET")]
    pub(crate) runtime_endpoint: Vec<PathBuf>,
    /// The node's root directory, seen from a container; every path of the node is below it
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) host_root: PathBuf,
    /// Name of our network configuration there; runtimes take the first by name
    #[arg(long, value_name = "NAME", default_value = "10-atoll.conflist", value_parser = file_name)]
    pub(crate) conf_name: String,
}

/// A name that runtimes read, and no path.
fn file_name(text: &str) -> Result<String, String> {
    if text.contains('/') || text.starts_with('.') || !text.ends_with(".conflist") {
        return Err("a file name that ends with .conflist is expected".to_owned());
    }
    Ok(text.to_owned())
}

/// A secret and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

impl std::str::FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((source, target)) if !source.is_empty() && target.starts_with('/') => {
                Ok(Self { source: source.into(), target: target.into() })
            }
            _ => Err("FILE:TARGET is expected, TARGET with its whole path".to_owned()),
        }
    }
}

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works with etcd, the controller or both down; changes nothing; shows no secret. Exit code 0: nothing failed, there may be
warnings. 7: something failed.

Example: why do pods on this node get no network?
  atollctl doctor

Example: in a monitoring job
  atollctl doctor -o json | jq '.checks[] | select(.level == \"fail\")'

Example: with podman, which has no such socket
  podman ps --all --quiet --no-trunc > /run/containers.list
  atollctl doctor --sandboxes /run/containers.list")]
pub(crate) struct Doctor {
    /// Directory of the plugin's binary, may be repeated; else CNI_PATH, else where the runtimes look
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// Directory of the network configurations; else where the runtimes look
    #[arg(long, value_name = "DIR")]
    pub(crate) conf_dir: Option<PathBuf>,
    /// CRI socket of the container runtime, may be repeated; else the usual ones of containerd, CRI-O and k3s
    #[arg(long, value_name = "SOCKET", conflicts_with = "sandboxes")]
    pub(crate) runtime_endpoint: Vec<PathBuf>,
    /// The containers that are there, as for `gc`, for runtimes without a CRI socket; no runtime is asked then
    #[arg(long, value_name = "FILE")]
    pub(crate) sandboxes: Option<PathBuf>,
}

/// Options of `gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Looks twice, two deadlines (`timeoutSeconds`) apart, and collects what both looks agree on: this node's claims of this
network whose container the runtime does not name, host interfaces without a claim, and what earlier calls still owe.
A claim younger than the deadline, or one that a call works on, is left alone. An answer of the runtime that fails collects
nothing; an empty one does so only with --empty-is-true. Where several runtimes share the network, name all of them.

Example: what would be collected on this node?
  atollctl gc --dry-run

Example: with CRI-O
  atollctl gc --runtime-endpoint /run/crio/crio.sock

Example: with podman, which has no such socket
  podman ps --all --quiet --no-trunc > /run/containers.list
  atollctl gc --sandboxes /run/containers.list")]
pub(crate) struct Gc {
    /// CRI socket of the container runtime, may be repeated; else the usual ones of containerd, CRI-O and k3s
    #[arg(long, value_name = "SOCKET", conflicts_with = "sandboxes")]
    pub(crate) runtime_endpoint: Vec<PathBuf>,
    /// The containers that are there: ids, one a line, or JSON; `-` is standard input. Read anew for the second look
    #[arg(long, value_name = "FILE")]
    pub(crate) sandboxes: Option<PathBuf>,
    /// It is true that there is no container at all
    #[arg(long)]
    pub(crate) empty_is_true: bool,
    /// Seconds between the two looks, if not two deadlines; a shorter time may collect a pod that just starts
    #[arg(long, value_name = "SECONDS")]
    pub(crate) pause: Option<u64>,
    /// Directory of the plugin's binary, may be repeated; else CNI_PATH, else where runtimes look
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// Say what would be collected, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: write the record, after a look at what it would be
  atollctl init --dry-run
  atollctl init

Example: adopt the router that leads outside, by its name
  atollctl init --provider-router 'Edge Router'

Example: make one, with its uplink on eth1 of a gateway host
  atollctl init --uplink 203.0.113.2/24,203.0.113.1,3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11,eth1

Example: etcd was restored from a backup; make every node forget what it remembers
  atollctl init --new-epoch")]
pub(crate) struct Init {
    /// Give a cluster that is there a new epoch: needed after etcd was restored from a backup
    #[arg(long)]
    pub(crate) new_epoch: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not compare the pools with this host's own routes
    #[arg(long)]
    pub(crate) ignore_routes: bool,
    /// Adopt the provider router of this id or name
    #[arg(long, value_name = "ID|NAME", conflicts_with = "uplink")]
    pub(crate) provider_router: Option<String>,
    /// Make a provider router with this way outside; may be given several times
    #[arg(long, value_name = "ADDRESS/LENGTH,GATEWAY,HOST,INTERFACE", value_parser = uplink)]
    pub(crate) uplink: Vec<Uplink>,
}

fn uplink(text: &str) -> Result<Uplink, String> {
    let [address, gateway, host, interface] = text.split(',').collect::<Vec<_>>()[..] else {
        return Err("ADDRESS/LENGTH,GATEWAY,HOST,INTERFACE, four parts".to_owned());
    };
    let address: Ipv4Network = address.parse().map_err(|_| format!("{address:?} is no address with a length"))?;
    let gateway: Ipv4Addr = gateway.parse().map_err(|_| format!("{gateway:?} is no address"))?;
    let host = host.parse().map_err(|_| format!("{host:?} is no UUID of a host"))?;
    let interface = interface.parse().map_err(|error| format!("{interface:?} is no interface: {error}"))?;
    if !address.contains(gateway) || address.ip() == gateway {
        return Err(format!("the gateway {gateway} must be another address of {address}"));
    }
    Ok(Uplink { address, gateway, host, interface })
}

/// Options of `topology`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: everything, as a tree
  atollctl topology

Example: one tenant as a picture
  atollctl topology red --dot | dot -Tsvg > red.svg")]
pub(crate) struct Topology {
    /// Only these tenants
    pub(crate) tenants: Vec<TenantName>,
    /// Graphviz DOT
    #[arg(long, conflicts_with = "output")]
    pub(crate) dot: bool,
    /// Do not ask the controller whether the pods' packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// List the tenants
    #[command(after_help = "Example:\n  atollctl tenant list\n  atollctl tenant list -o json | jq '.[].name'")]
    List,
    /// Show one tenant with its subnets and pods
    Show(Show),
    /// Create a tenant before any pod asks for it
    Create(Create),
    /// Show what `repair` would change in the controller, and change nothing
    #[command(after_help = "Example:\n  atollctl tenant plan red")]
    Plan {
        /// The tenant
        tenant: TenantName,
    },
    /// Make everything of a tenant in the controller what it should be
    Repair(Repair),
    /// Delete a tenant and everything it has
    Delete(Delete),
    /// List tenants that nobody uses, and delete them when told
    Prune(Prune),
    /// Set a tenant's quota, static routes and DNS
    Set(Set),
    /// Let a namespace into a tenant
    Join(Member),
    /// Take a namespace out of a tenant; its next pod gets a tenant of its own
    Leave(Member),
}

/// Options of `tenant create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: a tenant for two namespaces
  atollctl tenant create shop
  atollctl tenant join shop shop-frontend
  atollctl tenant join shop shop-backend")]
pub(crate) struct Create {
    /// Its name
    pub(crate) tenant: TenantName,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: after somebody deleted a bridge by hand
  atollctl tenant repair red --dry-run
  atollctl tenant repair red")]
pub(crate) struct Repair {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Say what would happen, and change nothing; the same as `plan`
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A tenant that has pods is not deleted; they are listed. With --force they lose network and addresses at once.
Reservations of its addresses are lifted. Deleting takes the quiet period (45 s by default): only then is it certain that nothing comes back. Interrupted, the same
command goes on where it stopped.

Example: what would deleting red do?
  atollctl tenant delete red --dry-run

Example: in a script
  atollctl tenant delete red --force --yes")]
pub(crate) struct Delete {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Delete it although it has pods
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask for the tenant's name before forcing
    #[arg(long)]
    pub(crate) yes: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A tenant is idle when it has no pods. How long it has been so is known from the first look on: every look remembers
which tenants it found idle, and every new pod makes that void. So look today, and delete in 30 days. Tenants that an
operator made, and those that have reservations, are listed and never pruned. Deleting takes the quiet period, as
`tenant delete` does; a tenant that is used again meanwhile stays.

Example: look, and remember
  atollctl tenant prune

Example: delete what nobody has used for 30 days
  atollctl tenant prune --days 30 --delete --yes")]
pub(crate) struct Prune {
    /// How long a tenant must have been idle
    #[arg(long, default_value_t = 30)]
    pub(crate) days: u64,
    /// Delete the tenants that were idle for so long
    #[arg(long)]
    pub(crate) delete: bool,
    /// Do not ask before deleting
    #[arg(long)]
    pub(crate) yes: bool,
    /// Say what would happen, and change nothing; this look is not remembered
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant set`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only what is given changes; `tenant show` shows what is set. A quota that is less than what the tenant has takes nothing
away. Routes are those of the tenant's router: they hold for all its pods, also for those that run. DNS is told to new
pods where neither the pod nor its node's configuration says anything.

Example: at most 4 subnets; as many addresses as they have
  atollctl tenant set red --max-subnets 4 --max-addresses none

Example: 10.9.0.0/16 is behind the pod 10.128.3.5, and nobody reaches the metadata service
  atollctl tenant set red --add-route 10.9.0.0/16=10.128.3.5 --add-route 169.254.169.254/32=reject

Example: name servers
  atollctl tenant set red --nameserver 10.128.3.9 --search red.example")]
pub(crate) struct Set {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Most subnets, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) max_subnets: Option<Update<u32>>,
    /// Most addresses, or `none`
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) max_addresses: Option<Update<u32>>,
    /// A static route; VIA is an address in one of the tenant's subnets, `reject` or `blackhole`
    #[arg(long, value_name = "NETWORK=VIA", value_parser = route)]
    pub(crate) add_route: Vec<StaticRoute>,
    /// Take the static route to this network away
    #[arg(long, value_name = "NETWORK")]
    pub(crate) remove_route: Vec<Ipv4Network>,
    /// A name server; any option of DNS replaces all that was set of it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) nameserver: Vec<Ipv4Addr>,
    /// The local domain
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// A domain of the search list
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) search: Vec<String>,
    /// An option of the resolver, such as `ndots:5`
    #[arg(long, value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Forget what was set of DNS
    #[arg(long, conflicts_with_all = ["nameserver", "domain", "search", "dns_option"])]
    pub(crate) no_dns: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn limit(text: &str) -> Result<Update<u32>, String> {
    match text {
        "none" => Ok(Update::Clear),
        number => match number.parse() {
            Ok(0) | Err(_) => Err("a number of at least 1, or `none`".to_owned()),
            Ok(number) => Ok(Update::To(number)),
        },
    }
}

fn route(text: &str) -> Result<StaticRoute, String> {
    let (destination, via) = text.split_once('=').ok_or("NETWORK=VIA, such as 10.9.0.0/16=10.128.3.5")?;
    let destination = destination.parse().map_err(|_| format!("{destination:?} is no network"))?;
    let via = match via {
        "reject" => Via::Reject,
        "blackhole" => Via::Blackhole,
        address => {
            Via::Gateway(address.parse().map_err(|_| format!("{address:?} is no address, `reject` or `blackhole`"))?)
        }
    };
    Ok(StaticRoute { destination, via })
}

/// Options of `tenant join` and `tenant leave`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Running pods keep their network until they are made again. A namespace that has pods moves only with --new-pods-only; the
pods that stay behind are listed.

Example: two namespaces share the tenant red, until they no longer do
  atollctl tenant join red blue --dry-run
  atollctl tenant join red blue
  atollctl tenant leave red blue")]
pub(crate) struct Member {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// The namespace
    pub(crate) namespace: Namespace,
    /// Move it although it has pods
    #[arg(long)]
    pub(crate) new_pods_only: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `tenant show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: which pods has tenant red?\n  atollctl tenant show red")]
pub(crate) struct Show {
    /// The tenant
    pub(crate) tenant: TenantName,
    /// Do not ask the controller whether the pods' packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

/// What to do with subnets.
#[derive(Debug, Subcommand)]
pub(crate) enum Subnet {
    /// List the subnets of all tenants, or of one
    #[command(after_help = "Example:\n  atollctl subnet list red")]
    List {
        /// The tenant
        tenant: Option<TenantName>,
    },
    /// Give a tenant another subnet
    #[command(after_help = "\
Example: a free part of the pool
  atollctl subnet add red

Example: a certain network, which must be a part of the pool
  atollctl subnet add red --cidr 10.130.0.0/20

Example: without the addresses that other machines in it have
  atollctl subnet add red --cidr 10.130.0.0/20 --exclude 10.130.0.2-10.130.0.9 10.130.15.254")]
    Add {
        /// The tenant
        tenant: TenantName,
        /// The network; a free part of the pool if not given
        #[arg(long)]
        cidr: Option<Ipv4Network>,
        /// Addresses of it that no pod gets: 10.130.0.7, 10.130.0.7-10.130.0.20 or 10.130.0.8/29
        #[arg(long, num_args = 1.., requires = "cidr", value_name = "RANGE")]
        exclude: Vec<AddressRange>,
        /// Say what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take an empty subnet away from a tenant (no pods, no reservations); takes the quiet period, as deleting a tenant does
    #[command(after_help = "Example:\n  atollctl subnet list red\n  atollctl subnet delete red 2")]
    Delete {
        /// The tenant
        tenant: TenantName,
        /// The subnet's number
        ordinal: u32,
        /// Say what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What to do with attachments.
#[derive(Debug, Subcommand)]
pub(crate) enum Attachment {
    /// List pods' interfaces with their addresses
    List(List),
    /// Take the pods of a dead node out of the network, so that their addresses are free
    EvictNode(EvictNode),
    /// Show everything that is known of one pod's network, and why it has none
    Show(ShowAttachment),
}

/// What to do with addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum Address {
    /// List addresses that are taken, cool down or are reserved
    #[command(after_help = "Example:\n  atollctl address list --tenant red")]
    List {
        /// Only of this tenant
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Keep an address for a pod
    Reserve(Reserve),
    /// Take a reservation back
    Release(Release),
    /// Compare addresses, claims, reservations, tombstones and ports with each other
    Check(Check),
}

/// Options of `address reserve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The pod gets this address and no other whenever it starts, on whatever node; nobody else gets it meanwhile. A pod has one
reservation. An address that another pod has is refused; a pod that has it already keeps it.

Example: the pod of a StatefulSet
  atollctl address reserve 10.128.3.7 --for shop/db-0 --dry-run
  atollctl address reserve 10.128.3.7 --for shop/db-0

Example: with a MAC
  atollctl address reserve 10.128.3.8 --for shop/db-1 --mac 02:00:0a:80:03:08")]
pub(crate) struct Reserve {
    /// The address
    pub(crate) address: Ipv4Addr,
    /// The pod that it is kept for
    #[arg(long = "for", value_name = "NAMESPACE/POD")]
    pub(crate) pod: PodRef,
    /// The MAC that the pod gets with it; the derived one if not given
    #[arg(long)]
    pub(crate) mac: Option<Mac>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `address release`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["address", "pod"]), after_help = "\
A pod that runs keeps its address; the next one gets any. With a MAC the reservation stays while its pod runs with that
MAC.

Example: by address, or by pod
  atollctl address release 10.128.3.7
  atollctl address release --for shop/db-0")]
pub(crate) struct Release {
    /// The address
    pub(crate) address: Option<Ipv4Addr>,
    /// The pod that it is kept for
    #[arg(long = "for", value_name = "NAMESPACE/POD")]
    pub(crate) pod: Option<PodRef>,
    /// The tenant, where several have the address
    #[arg(long, requires = "address")]
    pub(crate) tenant: Option<TenantName>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A pod, as `NAMESPACE/POD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodRef {
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// Its name.
    pub(crate) pod: PodName,
}

impl FromStr for PodRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, pod) = text.split_once('/').ok_or("NAMESPACE/POD is expected")?;
        let namespace = Namespace::new(namespace).map_err(|error| error.to_string())?;
        Ok(Self { namespace, pod: PodName::new(pod).map_err(|error| error.to_string())? })
    }
}

/// Options of `address check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is found is looked at again after the pause, and only what is the same then is told or mended. What --repair mends,
it mends with transactions that compare everything they rest on. It never frees an address that a claim has; what would
take a guess is left to you. Ends with 7 when something was found that is not mended, so that it can be run as a job.

Example: is everything as it should be?
  atollctl address check

Example: mend what can be mended
  atollctl address check --repair")]
pub(crate) struct Check {
    /// Mend what can be mended
    #[arg(long)]
    pub(crate) repair: bool,
    /// Seconds between the two looks; longer than a pod's start, else a pod that starts may be told as without a port
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) pause: u64,
    /// Do not ask the controller for the ports
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Options of `attachment evict-node`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is evicted by a timeout: a node is dead when its operator says so. The controller must call its host dead, or
--force must be said. It takes the deadline of a call and the quiet period (105 s by default): only then is it certain
that nothing the node has begun comes true. Interrupted, the same command goes on where it stopped. Until it is done the
node can attach no pod; after that it comes back by itself.

Example: what would be lost?
  atollctl attachment evict-node n1 --dry-run

Example: the machine is replaced by another one of the same name
  atollctl attachment evict-node n1 --forget")]
pub(crate) struct EvictNode {
    /// The node
    pub(crate) node: NodeName,
    /// Evict it although the controller calls its host alive
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask for the node's name before forcing
    #[arg(long)]
    pub(crate) yes: bool,
    /// The node is gone for good: delete its record, too
    #[arg(long)]
    pub(crate) forget: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `attachment show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it on the pod's node: interface, progress and log can only be looked at there. Exit code 0: nothing is wrong with it.
7: something is. 4: nobody has ever heard of it.

Example: why has this pod no network?
  atollctl attachment show red/web-0

Example: who holds this address?
  atollctl attachment show 10.128.3.7

Example: a container of the runtime
  atollctl attachment show 3f9a5b7c9d1e")]
pub(crate) struct ShowAttachment {
    /// NAMESPACE/POD, a pod's name, a container's id (or at least 6 characters of it), or an address
    #[arg(value_name = "WHAT")]
    pub(crate) what: Asked,
    /// Do not ask the controller whether the pod's packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Options of `attachment list`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Example: who holds 10.128.3.7?
  atollctl attachment list --address 10.128.3.7

Example: the pods of one node
  atollctl attachment list --node n1")]
pub(crate) struct List {
    /// Only of this tenant
    #[arg(long)]
    pub(crate) tenant: Option<TenantName>,
    /// Only of this namespace
    #[arg(long)]
    pub(crate) namespace: Option<Namespace>,
    /// Only of this pod
    #[arg(long)]
    pub(crate) pod: Option<String>,
    /// Only on this node
    #[arg(long)]
    pub(crate) node: Option<NodeName>,
    /// Only with this address
    #[arg(long)]
    pub(crate) address: Option<Ipv4Addr>,
    /// Do not ask the controller whether the pods' packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Args::command().debug_assert();
    }
}
