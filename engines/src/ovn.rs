//! The databases of OVN, as the configuration names them.

use std::path::Path;
use std::time::Duration;

use atoll_model::config::OvnConfig;
use atoll_network::EngineError;
use atoll_node::paths;
use atoll_ovn::ovsdb::{Database, DatabaseEndpoint, DatabaseError, Remote, RemoteSettings, TlsFiles};
use atoll_ovn::{Ovn, Switch, unusable};

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
    let files = config.ca.clone().zip(config.cert.clone()).zip(config.key.clone());
    let tls = files.map(|((ca, certificate), key)| {
        let server_name = config.server_name.clone();
        TlsFiles { ca, certificate, key, server_name }
    });
    let database = |database: &'static str, servers: &[String], tls: Option<TlsFiles>, memory| {
        let endpoints = servers.iter().map(|server| parse(server)).collect::<Result<Vec<_>, _>>();
        let remote = endpoints.and_then(|endpoints| {
            Remote::new(RemoteSettings { database, endpoints, tls, connect: CONNECT, request: REQUEST, memory })
        });
        wrap(remote).map_err(|error| unusable(database, error))
    };
    let southbound = match config.southbound.as_slice() {
        [] => None,
        servers => Some(database("OVN_Southbound", servers, tls.clone(), None)?),
    };
    let local = database("Open_vSwitch", std::slice::from_ref(&config.local), None, None)?;
    let northbound = database("OVN_Northbound", &config.northbound, tls, cache.map(paths::northbound_endpoint))?;
    Ok(Ovn::new(northbound, southbound, Some(Switch::new(local, config.bridge.clone()))))
}

fn parse(server: &str) -> Result<DatabaseEndpoint, DatabaseError> {
    server.parse().map_err(|problem| DatabaseError::Settings(format!("ovn: {problem}")))
}
