//! The world as it is: etcd, MidoNet's REST API, the Linux kernel. Nothing is connected here; the first request does it.

use std::path::PathBuf;

use atoll_files::make;
use atoll_model::config::Config;
use atoll_model::record;
use atoll_sdn_client::{Http, configured};
use atoll_store::Etcd;
use atoll_tenant::{Cache, MidoNet};

use crate::course::Course;
use crate::error::Error;
use crate::graves::Graves;
use crate::journal::Journals;
use crate::tally::{Counted, Tally};
use crate::wire::linux::Linux;
use crate::world::World;
use atoll_tenant::machine;

/// The world of the plugin.
pub type Real = World<Counted<Etcd>, MidoNet<Counted<Http>>, Linux>;

/// Makes a world as the configuration says. An error is one of the settings: a URL, a certificate file.
pub fn world(config: Config, course: Course) -> Result<Real, Error> {
    let tally = Tally::new();
    let cache = cache(&config);
    let client = configured::client(&config.controller, Some(&cache), |http| Counted::new(http, tally.clone()))?;
    let etcd = Etcd::connect(&config.etcd)?;
    etcd.remember(cache.join("etcd-endpoint"));
    Ok(World {
        store: Counted::new(etcd, tally.clone()),
        controller: MidoNet::new(client),
        wire: Linux::new(),
        tally,
        node: machine::name(&config)?,
        cache: Cache::new(&config.state_dir, &config.etcd.prefix),
        journals: Journals::new(&config.run_dir),
        graves: Graves::new(&config.state_dir),
        clock: record::now,
        course,
        config,
    })
}

/// The directory of what may be lost. Without it nothing is remembered, which costs some requests per call.
fn cache(config: &Config) -> PathBuf {
    let directory = config.state_dir.join("cache");
    if let Err(error) = make::private(&config.state_dir, "cache") {
        tracing::warn!(%error, directory = %directory.display(), "there is no place for a cache");
    }
    directory
}
