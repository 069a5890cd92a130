//! The world as it is: etcd, MidoNet's REST API, the Linux kernel. Nothing is connected here; the first request does it.

use std::path::PathBuf;

use atoll_model::clock;
use atoll_model::config::Config;
use atoll_node::files::make;
use atoll_node::paths;
use atoll_sdn_client::transport::TransportError;
use atoll_sdn_client::{Client, ClientSettings, Http, configured};
use atoll_store::{Etcd, StoreError};
use atoll_tenant::{Cache, MidoNet};

use crate::course::Course;
use crate::error::Error;
use crate::graves::Graves;
use crate::journal::Journals;
use crate::reach::Reach;
use crate::tally::{Counted, Tally};
use crate::wire::linux::Linux;
use crate::world::{Machine, World};
use atoll_tenant::machine;

/// The world of the plugin.
pub type Real = World<Counted<Reach<Etcd, StoreError>>, MidoNet<Counted<Reach<Http, TransportError>>>, Linux>;

/// What a verb needs of the servers' settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Nothing can be done without them: wrong settings are an error.
    Needed,
    /// What is local is done without them: wrong settings are a server that is away.
    MayBeAway,
}

/// Makes a world as the configuration says. An error is one of the settings: a URL, a certificate file.
pub fn world(config: Config, course: Course, servers: Servers) -> Result<Real, Error> {
    let tally = Tally::new();
    let cache = cache(&config);
    let counted = |reach| Counted::new(reach, tally.clone());
    let client = configured::client(&config.controller, Some(&cache), |http| counted(Reach::Possible(http)));
    let client = match client {
        Err(error) if servers == Servers::MayBeAway => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the controller counts as away");
            let endpoint = config.controller.endpoints.join(", ");
            let away = TransportError::NotSent { endpoint, reason: error.to_string() };
            Client::new(counted(Reach::Impossible(away)), ClientSettings::default())
        }
        client => client?,
    };
    let etcd = match Etcd::connect(&config.etcd) {
        Ok(etcd) => {
            etcd.remember(paths::etcd_endpoint(&cache));
            Reach::Possible(etcd)
        }
        Err(error) if servers == Servers::MayBeAway => {
            tracing::warn!(error = &error as &dyn std::error::Error, "etcd counts as away");
            let endpoints = config.etcd.endpoints.join(", ");
            Reach::Impossible(StoreError::Unavailable { endpoints, reason: error.to_string() })
        }
        Err(error) => return Err(error.into()),
    };
    let node = machine::name(&config)?;
    let under = {
        let (config, course) = (config.clone(), course.clone());
        Box::new(move |prefix: &str| {
            let mut config = config.clone();
            prefix.clone_into(&mut config.etcd.prefix);
            world(config, course.clone(), Servers::MayBeAway)
                .map(|world| World { earlier_prefixes: Vec::new(), ..world })
        })
    };
    Ok(World {
        store: Counted::new(etcd, tally.clone()),
        controller: MidoNet::new(client),
        wire: Linux::new(),
        tally,
        other_names: machine::other_names(&config, &node),
        earlier_prefixes: machine::earlier_prefixes(&config),
        under,
        machine: Machine { host_id: machine::agent(&config).ok(), machine_id: machine::machine_id() },
        node,
        cache: Cache::new(&config.state_dir, &config.etcd.prefix),
        journals: Journals::new(&config.run_dir),
        graves: Graves::new(&config.state_dir, &config.etcd.prefix),
        clock: clock::now,
        course,
        config,
    })
}

/// The directory of what may be lost. Without it nothing is remembered, which costs some requests per call.
fn cache(config: &Config) -> PathBuf {
    let directory = paths::cache(&config.state_dir);
    if let Err(error) = make::private(&config.state_dir, paths::CACHE) {
        tracing::warn!(%error, directory = %directory.display(), "there is no place for a cache");
    }
    directory
}
