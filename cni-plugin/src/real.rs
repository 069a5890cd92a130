//! The world as it is: etcd, MidoNet's REST API, the Linux kernel. Nothing is connected here; the first request does it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use atoll_model::config::{ApiVersion, Config, ControllerConfig};
use atoll_model::record;
use atoll_sdn_client::credentials::Credentials;
use atoll_sdn_client::dialect::Dialect;
use atoll_sdn_client::session::SessionFile;
use atoll_sdn_client::{Client, Http, HttpSettings, Settings};
use atoll_store::Etcd;
use atoll_tenant::{Cache, MidoNet};

use crate::error::Error;
use crate::graves::Graves;
use crate::journal::Journals;
use crate::node;
use crate::tally::{Counted, Tally};
use crate::wire::linux::Linux;
use crate::world::World;

/// The world of the plugin.
pub type Real = World<Counted<Etcd>, MidoNet<Counted<Http>>, Linux>;

/// Makes a world as the configuration says. An error is one of the settings: a URL, a certificate file.
pub fn world(config: Config) -> Result<Real, Error> {
    let tally = Tally::new();
    let http = Http::new(&HttpSettings {
        endpoints: config.controller.endpoints.clone(),
        ca: config.controller.ca.clone(),
        ..HttpSettings::default()
    })?;
    let client = Client::new(Counted::new(http, tally.clone()), settings(&config));
    Ok(World {
        store: Counted::new(Etcd::connect(&config.etcd)?, tally.clone()),
        controller: MidoNet::new(client),
        wire: Linux::new(),
        tally,
        node: node::name(&config)?,
        cache: Cache::new(&config.state_dir, &config.etcd.prefix),
        journals: Journals::new(&config.run_dir),
        graves: Graves::new(&config.state_dir),
        clock: record::now,
        config,
    })
}

/// Who we are towards the controller; none: it needs no login.
pub(crate) fn credentials(config: &ControllerConfig) -> Option<Credentials> {
    let (username, password_file) = config.username.clone().zip(config.password_file.clone())?;
    Some(Credentials { username, password_file, project: config.project.clone() })
}

fn settings(config: &Config) -> Settings {
    let ControllerConfig { endpoints, version, username, project, .. } = &config.controller;
    let mut scope: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    scope.extend([username.as_deref().unwrap_or_default(), project]);
    let directory = config.state_dir.join("cache");
    // Without it nothing is remembered, which costs two requests per call.
    if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory) {
        tracing::warn!(%error, directory = %directory.display(), "there is no place for a cache");
    }
    Settings {
        dialect: match version {
            ApiVersion::Auto => None,
            ApiVersion::V1 => Some(Dialect::V1),
            ApiVersion::V5 => Some(Dialect::V5),
        },
        credentials: credentials(&config.controller),
        session_file: Some(SessionFile::new(directory.join("controller"), &scope)),
    }
}
