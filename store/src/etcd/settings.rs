//! URLs and certificate files. An error in them is reported before a request is sent, and names the key of the
//! configuration.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use atoll_model::config::EtcdConfig;
use atoll_node::files::{CERTIFICATES, SECRET, read as files};
use etcd_client::{Certificate, Identity, TlsOptions};
use tonic::transport::Endpoint;

use super::failure::chain;
use super::limits::Limits;
use crate::StoreError;

/// How often an idle connection with an open watch is probed; etcd allows every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Time limit for the answer to a keep-alive.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(3);

/// One prepared endpoint for each URL; at least one.
pub(super) fn endpoints(config: &EtcdConfig, limits: &Limits) -> Result<Vec<(String, Endpoint)>, StoreError> {
    if config.endpoints.is_empty() {
        return Err(StoreError::Settings("etcd.endpoints: at least one URL is needed".to_owned()));
    }
    let tls = tls(config)?;
    config.endpoints.iter().map(|url| Ok((url.clone(), endpoint(url, tls.as_ref(), limits)?))).collect()
}

fn endpoint(url: &str, tls: Option<&TlsOptions>, limits: &Limits) -> Result<Endpoint, StoreError> {
    let wrong = |why: &str| StoreError::Settings(format!("etcd.endpoints: {url:?}: {why}"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(&chain(&error)))?;
    let uri = endpoint.uri();
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    if authority.is_none_or(|authority| authority.port().is_none()) {
        return Err(wrong("a URL of the form http://host:port or https://host:port is expected"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("nothing may follow the port"));
    }
    let endpoint = match (uri.scheme_str(), tls) {
        (Some("http"), None) => endpoint,
        (Some("https"), Some(tls)) => endpoint.tls_config(tls.clone()).map_err(|error| wrong(&chain(&error)))?,
        (Some("http"), Some(_)) => return Err(wrong("certificates are configured, so https:// is expected")),
        (Some("https"), None) => return Err(wrong("https:// needs etcd.ca")),
        _ => return Err(wrong("it must begin with http:// or https://")),
    };
    Ok(endpoint
        // For reconnects inside the library; our own limit ends first and has the better message.
        .connect_timeout(limits.connect + Duration::from_millis(100))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(false))
}

fn tls(config: &EtcdConfig) -> Result<Option<TlsOptions>, StoreError> {
    let EtcdConfig { ca, cert, key, .. } = config;
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(Identity::from_pem(read("etcd.cert", cert)?, secret("etcd.key", key)?)),
        (None, None) => None,
        (Some(_), None) => return Err(StoreError::Settings("etcd.cert needs etcd.key".to_owned())),
        (None, Some(_)) => return Err(StoreError::Settings("etcd.key needs etcd.cert".to_owned())),
    };
    let Some(ca) = ca else {
        let lonely = || Err(StoreError::Settings("etcd.cert needs etcd.ca".to_owned()));
        return identity.map_or(Ok(None), |_| lonely());
    };
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(read("etcd.ca", ca)?));
    Ok(Some(match identity {
        Some(identity) => options.identity(identity),
        None => options,
    }))
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    files::given(path, CERTIFICATES).map_err(|error| unreadable(setting, path, &error))
}

/// Reads a file that only its owner may read.
fn secret(setting: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    let failed = |error| unreadable(setting, path, &error);
    let file = files::open_given(path).map_err(failed)?;
    // The opened file is asked, not the path: what is checked is what is read.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(StoreError::Settings(format!(
            "{setting}: {path} has mode {mode:04o}: others can read the key; 0600 is expected (`chmod 0600 {path}`)"
        )));
    }
    files::contents(&file, SECRET).map_err(failed)
}

fn unreadable(setting: &str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Settings(format!("{setting}: {} cannot be read: {error}", path.display()))
}
