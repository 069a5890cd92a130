//! STATUS: could an ADD on this node work, as far as this node alone can tell?
//!
//! It fails for what is local and would make every ADD fail: configuration, credentials file, host id, kernel. An outage
//! of etcd or the controller is not among these: it would turn every node of the cluster NotReady at once, and with that
//! move pods which run well.

use std::path::Path;

use atoll_model::config::Config;
use atoll_sdn_client::configured;

use crate::error::Error;
use crate::node;
use crate::wire::Wire;

/// Checks this node.
pub async fn status(config: &Config, wire: &impl Wire) -> Result<(), Error> {
    node::identify(config)?;
    configured::check_secret(&config.controller).map_err(Error::Password)?;
    // Reading our own links needs netlink and the permission to use it.
    wire.kind(Path::new("/proc/thread-self/ns/net")).await?;
    wire.list(&crate::wire::Netns::Own).await?;
    Ok(())
}
