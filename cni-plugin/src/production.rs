//! The plugin in production: etcd, the configured engine and the Linux kernel. Nothing is connected here; the first request does it.

use std::path::{Path, PathBuf};

use atoll_engines::AnyEngine;
use atoll_midonet::MidoNet;
use atoll_model::clock;
use atoll_model::config::Config;
use atoll_node::attachments::AttachmentStates;
use atoll_node::files::make;
use atoll_node::paths;
use atoll_node::tombstones::LocalTombstones;
use atoll_ovn::ovsdb::{DatabaseError, Remote};
use atoll_sdn_client::transport::TransportError;
use atoll_sdn_client::{Client, ClientSettings, Http, configured};
use atoll_store::{Etcd, StoreError};
use atoll_tenant::Cache;

use crate::call_trace::CallTrace;
use crate::error::CallError;
use crate::in_flight::{InFlightRequests, Tracked};
use crate::kernel::linux::Linux;
use crate::plugin::{MachineIds, Plugin};
use crate::server::ConfiguredServer;
use atoll_tenant::machine;

/// The plugin with real servers and the real kernel.
pub type ProductionPlugin = Plugin<Tracked<ConfiguredServer<Etcd, StoreError>>, ProductionEngine, Linux>;

/// Whether a verb needs the servers' settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Nothing can be done without them: wrong settings are an error.
    Needed,
    /// Local work is done without them: wrong settings have the effect of a server that is down.
    MayBeAway,
}

/// Makes the plugin as configured.
///
/// # Errors
/// A setting is wrong: a URL, a certificate file.
pub fn plugin(config: Config, trace: CallTrace, servers: Servers) -> Result<ProductionPlugin, CallError> {
    let in_flight = InFlightRequests::new();
    let cache = cache(&config);
    let engine = engine(&config, &cache, servers, &in_flight)?;
    let etcd = match Etcd::connect(&config.etcd) {
        Ok(etcd) => {
            etcd.remember(paths::etcd_endpoint(&cache));
            ConfiguredServer::Usable(etcd)
        }
        Err(error) if servers == Servers::MayBeAway => {
            tracing::warn!(error = &error as &dyn std::error::Error, "etcd counts as unreachable");
            let endpoints = config.etcd.endpoints.join(", ");
            ConfiguredServer::Unusable(StoreError::Unavailable { endpoints, reason: error.to_string() })
        }
        Err(error) => return Err(error.into()),
    };
    let node = machine::name(&config)?;
    let with_prefix = {
        let (config, trace) = (config.clone(), trace.clone());
        Box::new(move |prefix: &str| {
            let mut config = config.clone();
            prefix.clone_into(&mut config.etcd.prefix);
            plugin(config, trace.clone(), Servers::MayBeAway)
                .map(|plugin| Plugin { earlier_prefixes: Vec::new(), ..plugin })
        })
    };
    let host_id = machine::known_host_id(&config, &engine);
    Ok(Plugin {
        store: Tracked::new(etcd, in_flight.clone()),
        engine,
        kernel: Linux::new(),
        in_flight,
        other_names: machine::other_names(&config, &node),
        earlier_prefixes: machine::earlier_prefixes(&config),
        with_prefix,
        machine: MachineIds { host_id, machine_id: machine::machine_id() },
        node,
        cache: Cache::new(&config.state_dir, &config.etcd.prefix),
        attachment_states: AttachmentStates::new(&config.run_dir),
        local_tombstones: LocalTombstones::new(&config.state_dir, &config.etcd.prefix),
        clock: clock::now,
        trace,
        config,
    })
}

/// Any engine, over requests that are counted.
pub type ProductionEngine =
    AnyEngine<Tracked<ConfiguredServer<Http, TransportError>>, Tracked<ConfiguredServer<Remote, DatabaseError>>>;

/// The engine that the configuration names.
fn engine(
    config: &Config,
    cache: &Path,
    servers: Servers,
    in_flight: &InFlightRequests,
) -> Result<ProductionEngine, CallError> {
    if let Some(ovn) = &config.ovn {
        let database = |remote: Result<Remote, DatabaseError>| {
            let server = match remote {
                Ok(remote) => ConfiguredServer::Usable(remote),
                Err(error) if servers == Servers::MayBeAway => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a database counts as unreachable");
                    let endpoint = ovn.northbound.join(", ");
                    ConfiguredServer::Unusable(DatabaseError::NotSent { endpoint, reason: error.to_string() })
                }
                Err(error) => return Err(error),
            };
            Ok(Tracked::new(server, in_flight.clone()))
        };
        return Ok(AnyEngine::Ovn(atoll_engines::ovn(ovn, Some(cache), database)?));
    }
    let tracked = |server| Tracked::new(server, in_flight.clone());
    let client = configured::client(&config.controller, Some(cache), |http| tracked(ConfiguredServer::Usable(http)));
    let client = match client {
        Err(error) if servers == Servers::MayBeAway => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the controller counts as unreachable");
            let endpoint = config.controller.endpoints.join(", ");
            let away = TransportError::NotSent { endpoint, reason: error.to_string() };
            Client::new(tracked(ConfiguredServer::Unusable(away)), ClientSettings::default())
        }
        client => client?,
    };
    let namespaces = paths::router_namespaces(&config.run_dir);
    Ok(AnyEngine::MidoNet(MidoNet::new(client).with_router_namespaces(namespaces)))
}

/// The directory of what may be lost. Without it nothing is remembered, which costs some requests per call.
fn cache(config: &Config) -> PathBuf {
    let directory = paths::cache(&config.state_dir);
    if let Err(error) = make::private(&config.state_dir, paths::CACHE) {
        tracing::warn!(%error, directory = %directory.display(), "there is no place for a cache");
    }
    directory
}
