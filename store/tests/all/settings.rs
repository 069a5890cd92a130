//! Settings: errors in them are reported before a request is sent; TLS with client certificates against a real etcd.

use atoll_records::ClusterRecord;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use atoll_model::config::EtcdConfig;
use atoll_model::error::Classify as _;
use atoll_records::{Key, Query};
use atoll_store::{Etcd, Store, StoreChange, StoreError, Txn};
use atoll_testkit::etcd::{EtcdServer, config};
use atoll_testkit::program::command;

fn refused(config: &EtcdConfig) -> String {
    match Etcd::connect(config) {
        Err(StoreError::Settings(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted: {config:?}"),
    }
}

#[tokio::test]
async fn wrong_urls_are_reported_by_name() {
    for (url, expected) in [
        ("", "etcd.endpoints"),
        ("127.0.0.1:2379", "http://"),
        ("ftp://127.0.0.1:2379", "http://"),
        ("http://", "etcd.endpoints"),
        ("http://host:port", "etcd.endpoints"),
        ("http://127.0.0.1:2379/v3", "follow the port"),
        ("http://127.0.0.1:2379?x=1", "follow the port"),
        ("http://user:word@127.0.0.1:2379", "http://host:port"),
        ("https://127.0.0.1:2379", "etcd.ca"),
    ] {
        let text = refused(&config(&[url]));
        assert!(text.contains(expected), "{url:?}: {text}");
    }
    assert!(refused(&config(&[])).contains("at least one"));
}

/// A CA, and one certificate signed by it for `name`; made with openssl, as an operator would.
fn certificates(directory: &Path, name: &str) -> [PathBuf; 3] {
    let path = |file: &str| directory.join(file).display().to_string();
    let openssl = |arguments: &str| {
        let done = command("openssl").args(arguments.split_whitespace()).output().expect("openssl runs");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    let key_type = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    if !Path::new(&ca).exists() {
        openssl(&format!("req -x509 {key_type} -keyout {ca_key} -out {ca} -days 2 -subj /CN=ca"));
    }
    let (cert, key, request, extensions) =
        (path(&format!("{name}.pem")), path(&format!("{name}.key")), path("request"), path("extensions"));
    let usage = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
    fs::write(&extensions, usage).expect("written");
    openssl(&format!("req {key_type} -keyout {key} -out {request} -subj /CN={name}"));
    openssl(&format!(
        "x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -out {cert} -days 2 -extfile {extensions}"
    ));
    [ca, cert, key].map(PathBuf::from)
}

/// A certificate of the CA in `directory` that is valid between two moments (`YYYYMMDDHHMMSSZ`), with its key.
fn certificate_of_time(directory: &Path, name: &str, from: &str, until: &str) -> [PathBuf; 2] {
    let [_, _, key] = certificates(directory, name);
    let settings = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
        x509_extensions=x\n[p]\ncommonName=supplied\n[x]\nsubjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth\n";
    for (file, text) in [("ca.conf", settings), ("index", ""), ("serial", "77\n")] {
        fs::write(directory.join(file), text).expect("written");
    }
    let arguments = format!(
        "ca -config ca.conf -batch -notext -in request -cert ca.pem -keyfile ca.key -out {name}.pem -startdate {from} -enddate {until}"
    );
    let done = command("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl runs");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    [directory.join(format!("{name}.pem")), key]
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// The error of a commit with a certificate that is expired or not valid yet: it is denied, or its outcome is unknown.
async fn commit_error(config: &EtcdConfig) -> String {
    let change = StoreChange::Put { key: Key::from(ClusterRecord::at()), value: vec![], lease: None };
    let store = Etcd::connect(config).expect("the settings are right");
    match store.commit(Txn { then: vec![change], ..Txn::default() }).await {
        Err(StoreError::Denied(reason) | StoreError::Unknown { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A commit that is turned away with an alert has certainly not happened. The alert may get lost.
async fn commit_is_denied(config: &EtcdConfig) -> bool {
    let change = StoreChange::Put { key: Key::from(ClusterRecord::at()), value: vec![], lease: None };
    for _ in 0..50 {
        let store = Etcd::connect(config).expect("the settings are right");
        match store.commit(Txn { then: vec![change.clone()], ..Txn::default() }).await {
            Err(StoreError::Denied(_)) => return true,
            Err(StoreError::Unknown { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    false
}

async fn read(config: &EtcdConfig) -> Result<(), StoreError> {
    Etcd::connect(config)?.read(vec![Query::key(ClusterRecord::at())]).await.map(drop)
}

/// Never admitted, and the reason is reported: not each time, because the alert may get lost if the server closes the
/// connection right after it.
async fn is_denied(config: &EtcdConfig) -> bool {
    for _ in 0..50 {
        match read(config).await {
            Err(StoreError::Denied(_)) => return true,
            // Not without a word of what it may be.
            Err(StoreError::Unavailable { reason, .. }) => {
                assert!(
                    config.cert.is_none() || reason.contains("perhaps it does not take this node's certificate"),
                    "{reason}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    false
}

#[tokio::test]
async fn etcd_with_client_certificates() {
    let server = EtcdServer::start_with(|directory, port| {
        let [ca, cert, key] = certificates(directory, "server").map(|path| path.display().to_string());
        let url = format!("https://127.0.0.1:{port}");
        let files = ["--client-cert-auth", "--trusted-ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
        let urls = ["--listen-client-urls", &url, "--advertise-client-urls", &url];
        files.iter().chain(&urls).map(|text| (*text).to_owned()).collect()
    })
    .await;
    let [ca, cert, key] = certificates(server.directory(), "node");
    let url = server.url.replace("http://", "https://");
    let good = EtcdConfig { ca: Some(ca), cert: Some(cert), key: Some(key.clone()), ..config(&[&url]) };
    mode(&key, 0o600);
    assert_eq!(read(&good).await, Ok(()));

    for wide in [0o640, 0o604, 0o660] {
        mode(&key, wide);
        let text = refused(&good);
        assert!(text.contains("etcd.key") && text.contains(&format!("{wide:04o}")), "{text}");
    }
    mode(&key, 0o400);
    assert_eq!(read(&good).await, Ok(()));

    let anonymous = EtcdConfig { cert: None, key: None, ..good.clone() };
    assert!(is_denied(&anonymous).await, "etcd wants a certificate");

    // The certificate's dates are reported each time, also if the alert of the server is lost: they are in the certificate.
    for (name, from, until, expected) in [
        ("expired", "20200101000000Z", "20200102000000Z", "it expired on Thu, 02 Jan 2020 00:00:00 GMT"),
        ("early", "20980101000000Z", "20990101000000Z", "it is not valid before Wed, 01 Jan 2098 00:00:00 GMT"),
    ] {
        let [cert, key] = certificate_of_time(server.directory(), name, from, until);
        mode(&key, 0o600);
        let out_of_time = EtcdConfig { cert: Some(cert.clone()), key: Some(key), ..good.clone() };
        for _ in 0..20 {
            let error = read(&out_of_time).await.expect_err(name);
            let StoreError::Denied(text) = &error else { panic!("{name}: {error}") };
            assert!(text.contains(expected) && text.contains(&cert.display().to_string()), "{text}");
            assert!(
                error.hint().is_some_and(|hint| hint.contains("certificate that etcd takes")),
                "{:?}",
                error.hint()
            );
            let error = commit_error(&out_of_time).await;
            assert!(error.contains(expected), "{error}");
        }
        // Without a server it is not to blame.
        let no_server = EtcdConfig { endpoints: vec!["https://127.0.0.1:1".to_owned()], ..out_of_time };
        assert!(matches!(read(&no_server).await, Err(StoreError::Unavailable { .. })));
    }

    let other = tempfile::tempdir().expect("a directory");
    let [other_ca, other_cert, other_key] = certificates(other.path(), "other");
    mode(&other_key, 0o600);
    let foreign = EtcdConfig { cert: Some(other_cert), key: Some(other_key), ..good.clone() };
    assert!(is_denied(&foreign).await, "etcd does not know this CA");
    assert!(commit_is_denied(&foreign).await, "etcd has read nothing");

    let deceived = EtcdConfig { ca: Some(other_ca), ..good.clone() };
    let error = read(&deceived).await.expect_err("we do not know the server's CA");
    assert!(matches!(&error, StoreError::Unavailable { reason, .. } if reason.contains("certificate")), "{error}");

    let plain = EtcdConfig { endpoints: vec![server.url.clone()], ..good.clone() };
    assert!(refused(&plain).contains("https://"), "certificates without TLS are a mistake");
    let half = EtcdConfig { key: None, ..good.clone() };
    assert!(refused(&half).contains("etcd.key"));
    let other_half = EtcdConfig { cert: None, ..good.clone() };
    assert!(refused(&other_half).contains("etcd.cert"));
    let without_ca = EtcdConfig { ca: None, endpoints: vec![server.url.clone()], ..good.clone() };
    assert!(refused(&without_ca).contains("etcd.ca"), "a certificate that would never be shown is a mistake");
    let absent = EtcdConfig { ca: Some("/nonexistent/ca.pem".into()), ..good.clone() };
    assert!(refused(&absent).contains("/nonexistent/ca.pem"));
    let garbage = server.directory().join("garbage.pem");
    fs::write(&garbage, "not a certificate").expect("written");
    let damaged = EtcdConfig { cert: Some(garbage), ..good };
    assert!(refused(&damaged).contains("etcd"), "a damaged certificate is found before anything is sent");
}
