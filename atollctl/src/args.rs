//! The command line: its global options and the tree of commands. The arguments and the help of a command are in the
//! command's own file.

use std::path::PathBuf;

use atoll_model::ids::TenantName;
use clap::{Parser, Subcommand};

use crate::attachment::ListAttachments;
use crate::change::{Create, Repair};
use crate::check::CheckAttachments;
use crate::delete::Delete;
use crate::doctor::Doctor;
use crate::evict::EvictNode;
use crate::explain::ShowAttachment;
use crate::gc::Gc;
use crate::init::Init;
use crate::install::{Install, Uninstall};
use crate::member::Member;
use crate::output::OutputFormat;
use crate::prune::Prune;
use crate::reservation::{Release, Reserve};
use crate::set::Set;
use crate::subnet::SubnetCommand;
use crate::tenant::Show;
use crate::topology::ShowTopology;

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
  5  etcd, the engine or the container runtime is not available: the same command may work later
  6  refused: not allowed, in the way of something, or no room
  7  checked, and found something that needs you
  129, 130, 143  ended by a signal; the message says what was done and how to go on

Configuration: the file that the plugin uses, a conflist or only its `atoll` entry. From --config, else from
ATOLL_CONFIG, else the first file with such an entry where the node's runtimes look (/etc/cni/net.d).";

/// Shows and manages the tenants of Atoll.
#[derive(Debug, Parser)]
#[command(name = "atollctl", version, after_help = ABOUT, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Conflist, or the plugin's entry in it
    #[arg(long, global = true, env = "ATOLL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Output for people, or for programs
    #[arg(long, short, global = true, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the cluster's record, before the first pod does
    Init(Init),
    /// Show tenants with their subnets and pods as a tree
    Topology(ShowTopology),
    /// Tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Subnets of a tenant
    #[command(subcommand)]
    Subnet(SubnetCommand),
    /// Pods' interfaces
    #[command(subcommand)]
    Attachment(AttachmentCommand),
    /// Pods' addresses
    #[command(subcommand)]
    Address(AddressCommand),
    /// Check everything that a pod's network needs, from this node, and report how to repair faults
    Doctor(Doctor),
    /// Install plugin, secrets and network configuration, each file completely or not at all
    Install(Install),
    /// Remove network configuration and plugin
    Uninstall(Uninstall),
    /// Remove attachments of containers that no longer exist, for runtimes that never call the plugin's GC
    Gc(Gc),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  atollctl completion bash > /etc/bash_completion.d/atollctl")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Commands for tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// List the tenants
    #[command(after_help = "Example:\n  atollctl tenant list\n  atollctl tenant list -o json | jq '.[].name'")]
    List,
    /// Show one tenant with its subnets and pods
    Show(Show),
    /// Create tenants before their first pods
    Create(Create),
    /// Show what `repair` would change in the engine, and change nothing
    #[command(after_help = "Example:\n  atollctl tenant plan red")]
    Plan {
        /// The tenant
        tenant: TenantName,
    },
    /// Create and update the objects of a tenant in the engine until they match its record
    Repair(Repair),
    /// Delete a tenant with all of its objects
    Delete(Delete),
    /// List idle tenants, and delete them on request
    Prune(Prune),
    /// Set a tenant's quota, static routes and DNS
    Set(Set),
    /// Admit a namespace to a tenant
    Join(Member),
    /// Remove a namespace from a tenant; its next pod gets a tenant of its own
    Leave(Member),
}

/// Commands for attachments.
#[derive(Debug, Subcommand)]
pub(crate) enum AttachmentCommand {
    /// List pods' interfaces with their addresses
    List(ListAttachments),
    /// Remove the pods of a dead node from the network and release their addresses
    EvictNode(EvictNode),
    /// Show all records of one pod's network, and why it has none
    Show(ShowAttachment),
}

/// Commands for addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum AddressCommand {
    /// List addresses that are taken, in cool-down or reserved
    #[command(after_help = "Example:\n  atollctl address list --tenant red")]
    List {
        /// Only of this tenant
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Reserve an address for a pod
    Reserve(Reserve),
    /// Delete a reservation
    Release(Release),
    /// Compare addresses, claims, reservations, tombstones and ports with each other
    Check(CheckAttachments),
}

impl Command {
    /// How to continue after a command that changes something; none: it changes nothing.
    pub(crate) fn remains(&self) -> Option<String> {
        let again = "the same command goes on from here";
        let seen = |tenant: &dyn std::fmt::Display| {
            format!("`atollctl tenant plan {tenant}` shows what is missing, `atollctl tenant repair {tenant}` makes it")
        };
        let (dry_run, words) = match self {
            Command::Topology(_)
            | Command::Doctor(_)
            | Command::Completion { .. }
            | Command::Tenant(TenantCommand::List | TenantCommand::Show(_) | TenantCommand::Plan { .. })
            | Command::Subnet(SubnetCommand::List { .. })
            | Command::Attachment(AttachmentCommand::List(_) | AttachmentCommand::Show(_))
            | Command::Address(AddressCommand::List { .. }) => return None,
            Command::Init(options) => (options.dry_run, format!("{again}; `--dry-run` shows what it would do")),
            Command::Install(options) => {
                (options.dry_run, format!("{again}; every file is the old one or the new one"))
            }
            Command::Uninstall(options) => (options.dry_run, format!("{again}; every file is there or gone")),
            Command::Gc(options) => (options.dry_run, format!("{again}; what was taken apart stays so")),
            Command::Tenant(TenantCommand::Create(options)) => {
                let names: Vec<_> = options.tenants.iter().map(|name| seen(name)).collect();
                (options.dry_run, names.join("; "))
            }
            Command::Tenant(TenantCommand::Repair(options)) => (options.dry_run, seen(&options.tenant)),
            Command::Tenant(TenantCommand::Delete(options)) => {
                (options.dry_run, format!("{again}; until then the tenant gets no new pods"))
            }
            Command::Tenant(TenantCommand::Prune(options)) => (options.dry_run || !options.delete, again.to_owned()),
            Command::Tenant(TenantCommand::Set(options)) => (options.dry_run, seen(&options.tenant)),
            Command::Tenant(TenantCommand::Join(options) | TenantCommand::Leave(options)) => {
                (options.dry_run, format!("{again}, or finds it done"))
            }
            Command::Subnet(SubnetCommand::Add { tenant, dry_run, .. }) => {
                (*dry_run, format!("`atollctl subnet list {tenant}` shows whether it is there; {}", seen(tenant)))
            }
            Command::Subnet(SubnetCommand::Delete { dry_run, .. }) => (*dry_run, again.to_owned()),
            Command::Attachment(AttachmentCommand::EvictNode(options)) => {
                (options.dry_run, format!("{again}; until then no pod of that node can be added"))
            }
            Command::Address(AddressCommand::Reserve(options)) => {
                (options.dry_run, format!("{again}, or finds it done"))
            }
            Command::Address(AddressCommand::Release(options)) => {
                (options.dry_run, format!("{again}, or finds nothing to do"))
            }
            Command::Address(AddressCommand::Check(options)) => (!options.repair, again.to_owned()),
        };
        (!dry_run).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_hint_is_printed_only_after_a_change() {
        let remains = |line: &str| Args::parse_from(line.split(' ')).command.remains();
        for line in ["atollctl tenant list", "atollctl tenant delete red --dry-run", "atollctl address check"] {
            assert_eq!(remains(line), None, "{line}");
        }
        let red = remains("atollctl tenant create red").expect("it changes something");
        assert!(red.contains("tenant repair red"), "{red}");
    }
}
