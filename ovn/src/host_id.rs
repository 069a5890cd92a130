//! The identity of this machine's chassis, as a file has it.

use std::path::Path;

use atoll_model::ids::HostId;
use atoll_network::{EngineError, EngineFailure};
use atoll_node::files::{TEXT, read};

use crate::error::{SWITCH, engine_error};

/// Where Debian's `ovs-ctl` keeps the identity that it gives to Open vSwitch at each start.
pub(crate) const FILE: &str = "/etc/openvswitch/system-id.conf";

/// This machine's chassis, as the file has it. Connecting a pod compares it with what Open vSwitch says.
pub(crate) fn recorded(file: &Path) -> Result<HostId, EngineError> {
    let text = read::text(file, TEXT).map_err(|error| error.to_string());
    let id = text.and_then(|text| HostId::new(text.trim()).map_err(|error| error.to_string()));
    id.map_err(|problem| {
        let remedy = "set `hostId` to what `ovs-vsctl get Open_vSwitch . external_ids:system-id` says";
        let what = format!("read the system id in {}", file.display());
        engine_error(SWITCH, what, EngineFailure::Settings, problem, remedy)
    })
}
