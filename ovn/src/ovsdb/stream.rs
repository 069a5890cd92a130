//! Connects to a server: Unix socket, TCP, or TLS.
//!
//! # Guarantees
//! - TLS trusts one authority, the configured one, and the certificate must be for the name or address that was configured.
//! - Keys are read from files that only their owner may read, and are never shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_model::certificate;
use atoll_node::files::{CERTIFICATES, read};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::endpoint::{Address, DatabaseEndpoint};

/// What a connection needs of a stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Certificates of the client, and the authority of the servers. Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that signed the servers' certificates; the only one that is trusted.
    pub ca: PathBuf,
    /// The client's certificate.
    pub certificate: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
    /// The name in the servers' certificates; none: the host of the endpoint. Certificates that `ovs-pki` makes carry a name
    /// that need not be the host's.
    pub server_name: Option<String>,
}

/// TLS for connections to servers.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn new(files: &TlsFiles) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.ca)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", files.ca.display()))?;
        }
        let chain = certificates(&files.certificate)?;
        let key = read::private(&files.key).map_err(|problem| format!("{}: {problem}", files.key.display()))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| format!("{}: no private key in PEM is in it", files.key.display()))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("{}: {error}", files.certificate.display()))?;
        // Open vSwitch's servers set no context for sessions, and refuse every client that resumes one.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: files.server_name.clone() })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let pem = read::given(path, CERTIFICATES).map_err(|error| format!("{shown}: {error}"))?;
    let list: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| format!("{shown}: {error}"))?;
    if list.is_empty() { Err(format!("{shown}: no certificate in PEM is in it")) } else { Ok(list) }
}

/// Why there is no connection.
pub(super) enum NoConnection {
    /// The server cannot be reached.
    Unreachable(String),
    /// One side refuses the other's certificate.
    Denied(String),
    /// The settings cannot be used.
    Settings(String),
}

/// Connects. The caller limits the time.
pub(super) async fn connect(endpoint: &DatabaseEndpoint, tls: Option<&Tls>) -> Result<Box<dyn Stream>, NoConnection> {
    let unreachable = |error: std::io::Error| NoConnection::Unreachable(error.to_string());
    match endpoint {
        DatabaseEndpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
        DatabaseEndpoint::Tcp(address) => Ok(Box::new(tcp(address).await.map_err(unreachable)?)),
        DatabaseEndpoint::Ssl(address) => {
            let settings = |text: String| NoConnection::Settings(text);
            let tls = tls.ok_or_else(|| settings("ssl: needs `ca`, `cert` and `key`".to_owned()))?;
            let name = tls.server_name.as_ref().unwrap_or(&address.host);
            let server = ServerName::try_from(name.clone()).map_err(|error| settings(format!("{name:?}: {error}")))?;
            let stream = tcp(address).await.map_err(unreachable)?;
            let stream = TlsConnector::from(tls.config.clone()).connect(server, stream).await;
            stream.map(|stream| Box::new(stream) as Box<dyn Stream>).map_err(|error| handshake(&error))
        }
    }
}

async fn tcp(address: &Address) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A handshake that failed: a certificate was refused, or the connection broke.
fn handshake(error: &std::io::Error) -> NoConnection {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner @ rustls::Error::InvalidCertificate(_)) => NoConnection::Denied(inner.to_string()),
        _ if certificate::refusal(&error.to_string()).is_some() => NoConnection::Denied(error.to_string()),
        _ => NoConnection::Unreachable(error.to_string()),
    }
}
