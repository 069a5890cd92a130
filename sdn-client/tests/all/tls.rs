//! TLS: only the configured CA is trusted, and a client certificate is presented if one is configured.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::error::{Class, Classify as _};
use atoll_sdn_client::http::{Http, HttpSettings};
use atoll_sdn_client::transport::{ApiRequest, Transport, TransportError};
use atoll_testkit::authority::Authority;
use bytes::Bytes;
use http::{HeaderMap, Method};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A server that answers one connection; `clients` is the authority whose certificates it demands.
fn serve(authority: &Authority, san: &str, clients: Option<&Authority>) -> String {
    drop(rustls::crypto::ring::default_provider().install_default());
    let (certificate, key) = authority.issue("server", san);
    let certificates = CertificateDer::pem_file_iter(certificate).expect("PEM").collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(key).expect("key");
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(clients.path("ca.pem")).expect("PEM")).expect("CA");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("verifier");
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let config = Arc::new(builder.with_single_cert(certificates, key).expect("certificate"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("connection");
        tcp.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        let mut stream = StreamOwned::new(ServerConnection::new(config).expect("connection"), tcp);
        let mut head = [0; 4096];
        if stream.read(&mut head).is_ok_and(|n| n > 0) {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"));
            stream.conn.send_close_notify();
            drop(stream.flush());
        }
    });
    format!("https://127.0.0.1:{port}/midonet-api")
}

async fn get(settings: &HttpSettings) -> Result<u16, TransportError> {
    let request =
        ApiRequest { method: Method::GET, path: "/".to_owned(), headers: HeaderMap::new(), body: Bytes::new() };
    Http::new(settings).expect("settings").send(request).await.map(|response| response.status)
}

fn settings(url: String, ca: Option<PathBuf>) -> HttpSettings {
    HttpSettings { endpoints: vec![url], ca, ..HttpSettings::default() }
}

#[tokio::test]
async fn only_the_configured_authority_is_trusted() {
    let (ours, other) = (Authority::new(), Authority::new());
    let url = serve(&ours, "IP:127.0.0.1", None);
    assert_eq!(get(&settings(url, Some(ours.path("ca.pem")))).await, Ok(200));
    let url = serve(&ours, "IP:127.0.0.1", None);
    let error = get(&settings(url, Some(other.path("ca.pem")))).await.expect_err("not trusted");
    assert!(matches!(&error, TransportError::NotSent { reason, .. } if reason.contains("certificate")), "{error}");
    let url = serve(&ours, "IP:127.0.0.2", None);
    let error = get(&settings(url, Some(ours.path("ca.pem")))).await.expect_err("another name");
    assert!(matches!(error, TransportError::NotSent { .. }), "{error}");
}

/// The keys of TLS are as secret as a password.
#[test]
fn a_client_key_that_others_can_read_is_refused() {
    let ours = Authority::new();
    let (certificate, key) = ours.issue("client", "DNS:client");
    let settings = HttpSettings {
        identity: Some((certificate, key.clone())),
        ..settings("https://127.0.0.1:1/midonet-api".to_owned(), Some(ours.path("ca.pem")))
    };
    assert!(Http::new(&settings).is_ok());
    for wide in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(wide)).expect("chmod");
        match Http::new(&settings) {
            Err(TransportError::Settings(text)) => {
                assert!(text.contains("client.key") && text.contains(&format!("{wide:04o}")), "{text}");
            }
            other => panic!("{wide:04o}: {:?}", other.err()),
        }
    }
}

/// A certificate that is valid between two moments (`YYYYMMDDHHMMSSZ`), with its key.
fn issue_for(authority: &Authority, name: &str, from: &str, until: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = authority.issue(name, "DNS:client");
    let settings = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
        policy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\nsubjectAltName=DNS:client\n";
    for (file, text) in [("ca.conf", settings), ("index", ""), ("serial", "77\n")] {
        std::fs::write(authority.path(file), text).expect("write");
    }
    let arguments = format!("ca -config ca.conf -batch -notext -in {name}.csr -cert ca.pem -keyfile ca.key");
    authority.openssl(&format!("{arguments} -out {name}.pem -startdate {from} -enddate {until}"));
    (certificate, key)
}

/// Not as a broken pipe, whether or not the server's alert arrives before it closes the connection.
#[tokio::test]
async fn an_expired_client_certificate_is_named() {
    let ours = Authority::new();
    for (from, until, words) in [
        ("20200101000000Z", "20200102000000Z", "it expired on Thu, 02 Jan 2020 00:00:00 GMT"),
        ("20980101000000Z", "20990101000000Z", "it is not valid before Wed, 01 Jan 2098 00:00:00 GMT"),
    ] {
        let identity = issue_for(&ours, "client", from, until);
        let url = serve(&ours, "IP:127.0.0.1", Some(&ours));
        let settings = HttpSettings { identity: Some(identity), ..settings(url, Some(ours.path("ca.pem"))) };
        let error = get(&settings).await.expect_err("out of time");
        assert!(matches!(&error, TransportError::Denied { reason, .. } if reason.contains(words)), "{error}");
        assert_eq!(error.class(), Class::Denied);
        assert!(error.to_string().contains("controller.cert"), "{error}");
        let unused = HttpSettings { endpoints: vec!["https://127.0.0.1:1/midonet-api".to_owned()], ..settings };
        assert!(matches!(get(&unused).await, Err(TransportError::NotSent { .. })));
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_one_is_configured() {
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = Some(ours.path("ca.pem"));
    let with = |url: String, authority: &Authority| HttpSettings {
        identity: Some(authority.issue("client", "DNS:client")),
        ..settings(url, ca.clone())
    };
    assert_eq!(get(&with(serve(&ours, "IP:127.0.0.1", Some(&ours)), &ours)).await, Ok(200));
    get(&with(serve(&ours, "IP:127.0.0.1", Some(&ours)), &other)).await.expect_err("a certificate of another CA");
    get(&settings(serve(&ours, "IP:127.0.0.1", Some(&ours)), ca.clone())).await.expect_err("no certificate");
}
