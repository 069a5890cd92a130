//! The command line.

use std::path::PathBuf;

use atoll_tools::engine::ToolEngine;
use clap::Parser;

/// Two tenants with real pods on this machine, and a table of who reaches whom.
#[derive(Debug, Parser)]
pub(crate) struct QuickstartArgs {
    /// What makes the tenants' networks.
    #[arg(long, value_enum, default_value = "midonet")]
    pub(crate) engine: ToolEngine,
    /// The prefix of the names of all network namespaces.
    #[arg(long, default_value = "at-qs")]
    pub(crate) prefix: String,
    /// Sockets and namespaces of the data plane.
    #[arg(long, default_value = "/run/atoll-quickstart")]
    pub(crate) run_dir: PathBuf,
    /// Data, configuration and logs.
    #[arg(long, default_value = "/var/lib/atoll-quickstart")]
    pub(crate) state_dir: PathBuf,
    /// The directory of our programs.
    #[arg(long)]
    pub(crate) bin_dir: PathBuf,
    /// Print the facts as JSON, and nothing else, on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}
