//! The machine of pods that are measured one at a time.

use anyhow::{Context as _, Result};
use atoll_testkit::lab::node::merge;
use atoll_testkit::lab::ovn::{CENTRAL, OvnLab, OvnMachine};
use serde_json::{Value, json};

/// The machine of pods that are measured one at a time.
pub(crate) fn first(lab: &OvnLab) -> Result<&OvnMachine> {
    lab.chassis.first().context("there are machines")
}

/// The configuration of a machine for plain TCP.
pub(crate) fn plain(machine: &OvnMachine) -> Value {
    let mut config = machine.config().clone();
    let remotes = json!({
        "northbound": [format!("tcp:{CENTRAL}:6651")], "southbound": [format!("tcp:{CENTRAL}:6652")],
        "ca": null, "cert": null, "key": null, "serverName": null,
    });
    merge(&mut config, &json!({ "ovn": remotes }));
    config
}
