//! What makes the tenants' networks, as the command lines name it.

use clap::ValueEnum;

/// What makes the tenants' networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ToolEngine {
    /// The mock controller with its data plane: one machine.
    Midonet,
    /// OVN: several machines.
    Ovn,
}
