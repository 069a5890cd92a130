//! The databases of OVN, as the configuration names them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::config::OvnConfig;
use atoll_network::EngineError;
use atoll_node::paths;
use atoll_ovn::ovsdb::{Database, DatabaseEndpoint, DatabaseError, Remote, RemoteSettings, TlsFiles};
use atoll_ovn::{Ovn, Switch, unusable};

const NORTHBOUND: &str = "OVN_Northbound";
const SOUTHBOUND: &str = "OVN_Southbound";

/// Limit for a connection, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(2);
/// Limit for an answer. An election takes a cluster two seconds.
const REQUEST: Duration = Duration::from_secs(5);

/// Makes the engine. `wrap` makes each of its databases of what connects to it, or decides what a database is whose settings
/// cannot be used. `cache`: the directory that keeps the member that worked last. Nothing is connected; the first request
/// does it.
///
/// # Errors
/// A setting cannot be used (a server, a certificate file), and `wrap` passes that on.
pub fn ovn<D: Database>(
    config: &OvnConfig,
    cache: Option<&Path>,
    wrap: impl Fn(Result<Remote, DatabaseError>) -> Result<D, DatabaseError>,
) -> Result<Ovn<D>, EngineError> {
    let database = |database: &'static str, remote| wrap(remote).map_err(|error| unusable(database, error));
    let southbound = match config.southbound.as_slice() {
        [] => None,
        servers => Some(database(SOUTHBOUND, remote(config, SOUTHBOUND, servers, None))?),
    };
    let local = OvnConfig { ca: None, cert: None, key: None, ..config.clone() };
    let local = database("Open_vSwitch", remote(&local, "Open_vSwitch", std::slice::from_ref(&config.local), None))?;
    let memory = cache.map(paths::northbound_endpoint);
    let northbound = database(NORTHBOUND, remote(config, NORTHBOUND, &config.northbound, memory))?;
    Ok(Ovn::new(northbound, southbound, Some(Switch::new(local, config.bridge.clone()))))
}

/// Each configured member of Northbound and Southbound by itself: the member, the name of its database, and a client of it.
///
/// # Errors
/// Of each client: a setting cannot be used.
pub fn ovn_members(config: &OvnConfig) -> Vec<(String, &'static str, Result<Remote, EngineError>)> {
    let of = |database: &'static str, servers: &[String]| {
        let member = |server: &String| {
            let remote = remote(config, database, std::slice::from_ref(server), None);
            (server.clone(), database, remote.map_err(|error| unusable(database, error)))
        };
        servers.iter().map(member).collect::<Vec<_>>()
    };
    let mut members = of(NORTHBOUND, &config.northbound);
    members.extend(of(SOUTHBOUND, &config.southbound));
    members
}

fn remote(
    config: &OvnConfig,
    database: &'static str,
    servers: &[String],
    memory: Option<PathBuf>,
) -> Result<Remote, DatabaseError> {
    let files = config.ca.clone().zip(config.cert.clone()).zip(config.key.clone());
    let tls = files.map(|((ca, certificate), key)| {
        let server_name = config.server_name.clone();
        TlsFiles { ca, certificate, key, server_name }
    });
    let endpoints = servers.iter().map(|server| parse(server)).collect::<Result<Vec<_>, _>>()?;
    Remote::new(RemoteSettings { database, endpoints, tls, connect: CONNECT, request: REQUEST, memory })
}

fn parse(server: &str) -> Result<DatabaseEndpoint, DatabaseError> {
    server.parse().map_err(|problem| DatabaseError::Settings(format!("ovn: {problem}")))
}
