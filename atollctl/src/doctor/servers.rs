//! Probes etcd and the controller, each endpoint by itself and all at once, and reads this node's files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::config::{Config, ControllerConfig, EtcdConfig};
use atoll_node::files::read as files;
use atoll_records::{ClusterRecord, NodeRecord, Query, ReadError, TombstoneRecord, Versioned};
use atoll_sdn_client::Resource;
use atoll_sdn_client::request::{self, Scope};
use atoll_sdn_client::transport::{ApiRequest, Transport as _};
use atoll_sdn_client::{Client, Http, HttpSettings, api, configured};
use atoll_store::{Etcd, Limits, Store as _};
use atoll_tenant::{Node, admin};
use futures_util::future::{join, join_all};
use http::header::{DATE, HeaderMap};
use tokio::time::{Instant, timeout};

use super::limit::{LIMIT, in_time};
use super::ovn;
use super::seen::{
    CertificateFile, ControllerEndpoint, EngineEvidence, EtcdEndpoint, HostRecords, MidoNetEvidence, Probed, Problem,
    Records, SecretFile, Site,
};
use crate::settings::{self, Settings};
use crate::{certificate, gc, links, nodefiles};

/// The most tunnel zones whose members are read; usually there is one.
const ZONES: usize = 16;

pub(super) async fn probe(settings: &Settings) -> Site {
    let config = &settings.config;
    let machine =
        settings::identify(config).await.map_err(|failure| Problem { text: failure.message(), hint: failure.hint() });
    let etcd = join_all(config.etcd.endpoints.iter().map(|url| etcd_endpoint(&config.etcd, url)));
    let records = in_time(records(config, machine.as_ref().ok()));
    let engine = Box::pin(engine(settings, &machine));
    let ((etcd, records), mut engine) = join(join(etcd, records), engine).await;
    if let EngineEvidence::Ovn(seen) = &mut engine {
        Box::pin(ovn::rows(seen, settings, machine.as_ref().ok(), records.as_ref().ok())).await;
    }
    Site {
        machine,
        network: gc::network(settings).ok(),
        secrets: secrets(config),
        certificates: certificates(config),
        etcd,
        engine,
        records,
        links: links::host_ends(&config.run_dir).map_err(|error| Problem::new(error.to_string())),
        attachment_states: nodefiles::attachments(&config.run_dir).map_err(|error| Problem::new(error.to_string())),
        local_tombstones: nodefiles::local_tombstones(&config.state_dir)
            .map_err(|error| Problem::new(error.to_string())),
    }
}

async fn engine(settings: &Settings, machine: &Probed<Node>) -> EngineEvidence {
    let config = &settings.config;
    if let Some(config) = &config.ovn {
        return EngineEvidence::Ovn(Box::new(ovn::probe(settings, config).await));
    }
    let controllers = join_all(config.controller.endpoints.iter().map(|url| controller(&config.controller, url)));
    let host = in_time(host(&config.controller, machine));
    let (controllers, host) = join(controllers, host).await;
    EngineEvidence::MidoNet(MidoNetEvidence { controllers, host })
}

fn secrets(config: &Config) -> Vec<SecretFile> {
    let mode = |path: &Path| {
        let file = files::open_given(path).map_err(|error| Problem::new(error.to_string()))?;
        let metadata = file.metadata().map_err(|error| Problem::new(error.to_string()))?;
        if metadata.len() == 0 {
            return Err(Problem::new("it is empty"));
        }
        Ok(metadata.permissions().mode() & 0o7777)
    };
    let named = settings::files(config).into_iter().filter(|file| file.is_secret);
    named.map(|file| SecretFile { setting: file.setting, path: file.path.to_owned(), mode: mode(file.path) }).collect()
}

fn certificates(config: &Config) -> Vec<CertificateFile> {
    let named = settings::files(config).into_iter().filter(|file| !file.is_secret);
    named
        .map(|file| {
            let validity = certificate::validity(file.path).map_err(Problem::new);
            CertificateFile { setting: file.setting, path: file.path.to_owned(), validity }
        })
        .collect()
}

async fn etcd_endpoint(config: &EtcdConfig, url: &str) -> EtcdEndpoint {
    let single = EtcdConfig { endpoints: vec![url.to_owned()], ..config.clone() };
    let limits = Limits { request: Duration::from_secs(3), ..Limits::default() };
    let asked = async {
        let store = Etcd::with_limits(&single, limits).map_err(|error| Problem::of(&error))?;
        // The first request connects; the second one is measured.
        let member = store.status().await.map_err(|error| Problem::of(&error));
        let begun = Instant::now();
        let read = store.read(vec![Query::key(ClusterRecord::at())]).await;
        Ok((member, read.map(|_| begun.elapsed()).map_err(|error| Problem::of(&error))))
    };
    let identity = config.cert.clone().zip(config.key.clone());
    let (asked, clock) = join(in_time(asked), clock_of(url, config.ca.clone(), identity, "/version")).await;
    let (member, read) = asked.unwrap_or_else(|problem: Problem| (Err(problem.clone()), Err(problem)));
    EtcdEndpoint { url: url.to_owned(), member, read, clock }
}

fn http(
    url: &str,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
) -> Result<Http, atoll_sdn_client::transport::TransportError> {
    let request_timeout = Duration::from_secs(3);
    Http::new(&HttpSettings {
        endpoints: vec![url.to_owned()],
        ca,
        identity,
        request_timeout,
        ..HttpSettings::default()
    })
}

/// A server's clock less ours, seconds, from the `Date` of an answer (RFC 9110, section 6.6.1); none: it has no date.
async fn clock_of(url: &str, ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>, path: &str) -> Option<i64> {
    let get = ApiRequest {
        method: http::Method::GET,
        path: path.to_owned(),
        headers: HeaderMap::new(),
        body: Vec::new().into(),
    };
    let answer = timeout(LIMIT, Box::pin(http(url, ca, identity).ok()?.send(get))).await.ok()?.ok()?;
    skew(&answer.headers)
}

fn skew(headers: &HeaderMap) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let theirs = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(theirs).ok()?.checked_sub_unsigned(atoll_model::clock::now())
}

async fn controller(config: &ControllerConfig, url: &str) -> ControllerEndpoint {
    let single = ControllerConfig { endpoints: vec![url.to_owned()], ..config.clone() };
    let (root, login) = join(root(&single, url), login(&single)).await;
    let (root, clock) = match root {
        Ok((took, dialect, clock)) => (Ok((took, dialect)), clock),
        Err(problem) => (Err(problem), None),
    };
    let (login, writable) = match login {
        Ok(writable) => (Ok(()), Ok(writable)),
        Err(problem) => (Err(problem.clone()), Err(problem)),
    };
    ControllerEndpoint { url: url.to_owned(), root, login, writable, clock }
}

/// The root document needs no login. Asked twice: the first request connects, the second one is measured.
async fn root(config: &ControllerConfig, url: &str) -> Probed<(Duration, String, Option<i64>)> {
    in_time(async {
        let identity = config.cert.clone().zip(config.key.clone());
        let http = http(url, config.ca.clone(), identity).map_err(|error| Problem::of(&error))?;
        http.send(request::root()).await.map_err(|error| Problem::of(&error))?;
        let begun = Instant::now();
        let answer = http.send(request::root()).await.map_err(|error| Problem::of(&error))?;
        let took = begun.elapsed();
        let dialect = match client(config)?.dialect().await {
            Ok(dialect) => dialect.to_string(),
            Err(error) => return Err(Problem::of(&error)),
        };
        Ok((took, dialect, skew(&answer.headers)))
    })
    .await
}

fn client(config: &ControllerConfig) -> Probed<Client<Http>> {
    let client = configured::client(config, None, |http| http).map_err(|error| Problem::of(&error))?;
    Ok(client.until(Instant::now() + LIMIT))
}

/// Reads the system's state, which takes a login. True: the controller accepts changes.
async fn login(config: &ControllerConfig) -> Probed<bool> {
    in_time(async {
        let client = client(config)?;
        let state = client.system_state().await.map_err(|error| Problem::of(&error))?;
        let is = |value: &Option<String>, wanted: &str| value.as_deref().is_none_or(|value| value == wanted);
        Ok(is(&state.state, "ACTIVE") && is(&state.availability, "READWRITE"))
    })
    .await
}

async fn host(config: &ControllerConfig, machine: &Probed<Node>) -> Probed<HostRecords> {
    let id = &machine.as_ref().map_err(Clone::clone)?.host_id;
    let id = id.as_str().parse().map_err(|_| Problem::new(format!("host id {id} is no UUID")))?;
    let client = client(config)?;
    let failed = |error| Problem::of(&error);
    let Some(host) = client.get::<api::Host>(id).await.map_err(failed)? else {
        return Ok(HostRecords { found: None, zones: Vec::new() });
    };
    let mut zones = Vec::new();
    for zone in client.list::<api::TunnelZone>(&Scope::All).await.map_err(failed)?.into_iter().take(ZONES) {
        let Some(zone_id) = zone.id else { continue };
        let scope = Scope::Of(Resource::TunnelZone, zone_id);
        let members = client.list::<api::TunnelZoneHost>(&scope).await.map_err(failed)?;
        if members.iter().any(|member| member.host_id == Some(id)) {
            zones.push(zone.name.unwrap_or_else(|| zone_id.to_string()));
        }
    }
    Ok(HostRecords { found: Some((host.name.unwrap_or_else(|| id.to_string()), host.alive)), zones })
}

async fn records(config: &Config, machine: Option<&Node>) -> Probed<Records> {
    let store = Etcd::connect(&config.etcd).map_err(|error| Problem::of(&error))?;
    let own = machine.map(|node| &node.name);
    let mut queries = vec![Query::key(ClusterRecord::at())];
    if let Some(name) = own {
        queries.push(Query::key(NodeRecord::at(name)));
        queries.extend(atoll_ipam::NodeRecords::queries(name));
    }
    let snapshot = store.read(queries).await.map_err(|error| Problem::of(&error))?;
    // Tombstones of other nodes need an operator's credential: a node's own may not read them.
    let all = TombstoneRecord::all();
    let everywhere = store.read(vec![Query::all(&all)]).await.ok();
    let mut damaged = Vec::new();
    let cluster = read(snapshot.get(&ClusterRecord::at()), &mut damaged);
    let node = own.and_then(|name| read(snapshot.get(&NodeRecord::at(name)), &mut damaged));
    let of_node = own.and_then(|name| atoll_ipam::NodeRecords::read(&snapshot, name).ok()).unwrap_or_default();
    damaged.extend(of_node.damaged.iter().map(ToString::to_string));
    let claims = of_node.claims;
    let mut tombstones: Vec<_> = of_node.tombstones.into_iter().map(|tombstone| tombstone.record).collect();
    if let Some(listed) = everywhere.and_then(|everywhere| everywhere.list(&all).ok()) {
        let others = listed.records.into_iter().map(|tombstone| tombstone.record);
        tombstones.extend(others.filter(|tombstone| own.is_none_or(|own| tombstone.attachment.node != *own)));
    }
    Ok(Records {
        disagreement: cluster
            .as_ref()
            .and_then(|cluster| admin::agree(&config.cluster, settings::engine_name(config), cluster).err())
            .map(|error| Problem::of(&error)),
        impostor: machine
            .zip(node.as_ref())
            .and_then(|(machine, node)| admin::same(machine, node).err())
            .map(|error| Problem::of(&error)),
        cluster,
        node,
        claims,
        tombstones,
        damaged,
    })
}

/// The record, if it can be read; else its key goes to `damaged`.
fn read<R>(read: Result<Option<Versioned<R>>, ReadError>, damaged: &mut Vec<String>) -> Option<R> {
    match read {
        Ok(found) => found.map(|versioned| versioned.record),
        Err(error) => {
            damaged.extend(error.damaged_key().map(ToString::to_string));
            None
        }
    }
}
