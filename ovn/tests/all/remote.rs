//! The client against real servers: one of its own, a cluster, TLS, and servers that misbehave.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atoll_ovn::ovsdb::{
    Database, DatabaseError, Freshness, Outcome, Remote, RemoteSettings, Row, RowCondition, RowOperation, TlsFiles,
    Value,
};
use atoll_testkit::authority::Authority;
use atoll_testkit::ovn::{OvsdbServer, Schema};
use atoll_testkit::process::free_ports;
use uuid::Uuid;

/// A database at these servers.
pub(crate) fn remote(schema: Schema, servers: &[String], tls: Option<TlsFiles>) -> Result<Remote, DatabaseError> {
    remote_within(schema, servers, tls, Duration::from_secs(10))
}

/// The same with a limit for an answer.
pub(crate) fn remote_within(
    schema: Schema,
    servers: &[String],
    tls: Option<TlsFiles>,
    request: Duration,
) -> Result<Remote, DatabaseError> {
    Remote::new(RemoteSettings {
        database: schema.database(),
        endpoints: servers.iter().map(|server| server.parse().expect("an endpoint")).collect(),
        tls,
        connect: Duration::from_secs(10),
        request,
        memory: None,
    })
}

pub(crate) fn northbound(servers: &[String]) -> Remote {
    remote(Schema::Northbound, servers, None).expect("the settings are right")
}

pub(crate) fn switch(uuid: Uuid, name: &str) -> RowOperation {
    RowOperation::Insert { table: "Logical_Switch", uuid, row: Row::from([("name", Value::one(name))]) }
}

pub(crate) fn read(uuid: Uuid) -> RowOperation {
    RowOperation::Select {
        table: "Logical_Switch",
        condition: vec![RowCondition::is(uuid)],
        columns: vec!["name", "ports"],
    }
}

pub(crate) async fn rows(
    database: &impl Database,
    operation: RowOperation,
    freshness: Freshness,
) -> Result<Vec<Row>, DatabaseError> {
    let outcomes = database.transact(vec![operation], freshness).await?;
    Ok(outcomes.into_iter().flat_map(Outcome::rows).collect())
}

#[tokio::test]
async fn a_member_that_is_gone_costs_one_attempt_and_a_leader_that_is_gone_an_election() {
    let mut servers = OvsdbServer::cluster(Schema::Northbound, 3);
    let database = northbound(&servers.iter().map(OvsdbServer::tcp).collect::<Vec<_>>());
    let mut made = Vec::new();
    for round in 0..3 {
        let uuid = Uuid::new_v4();
        database.transact(vec![switch(uuid, "one")], Freshness::Any).await.expect("inserted");
        made.push(uuid);
        for uuid in &made {
            assert_eq!(rows(&database, read(*uuid), Freshness::Current).await.expect("readable").len(), 1);
        }
        let leader = servers.iter().position(OvsdbServer::is_leader).expect("a leader");
        match round {
            0 => servers[leader].stop(),
            1 => {
                // Two of three are gone: no leader, no absence, no write.
                let rest = servers.iter().map(OvsdbServer::tcp).collect::<Vec<_>>();
                servers[leader].stop();
                let impatient = remote_within(Schema::Northbound, &rest, None, Duration::from_secs(2)).expect("right");
                let error = loop {
                    match rows(&impatient, read(Uuid::nil()), Freshness::Current).await {
                        // The last member still takes itself for a follower of a leader.
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                };
                assert!(
                    matches!(error, DatabaseError::Behind { .. } | DatabaseError::NotSent { .. }),
                    "nothing is absent here: {error:?}"
                );
                let old = rows(&impatient, read(made[0]), Freshness::Any).await.expect("an old copy");
                assert_eq!(old.len(), 1);
                let write = impatient.transact(vec![switch(Uuid::new_v4(), "x")], Freshness::Any).await;
                assert!(matches!(write, Err(DatabaseError::NoAnswer { .. })), "{write:?}");
                for server in &mut servers {
                    server.restart();
                }
            }
            _ => {}
        }
    }
}

/// A server with TLS that has the name `central`, and its port.
fn encrypted(authority: &Authority) -> (OvsdbServer, u16) {
    let (certificate, key) = authority.issue("server", "DNS:central");
    let [port] = free_ports();
    let server = OvsdbServer::start_with(Schema::Northbound, |_| {
        vec![
            format!("--remote=pssl:{port}:127.0.0.1"),
            format!("--private-key={}", key.display()),
            format!("--certificate={}", certificate.display()),
            format!("--ca-cert={}", authority.path("ca.pem").display()),
        ]
    });
    (server, port)
}

#[tokio::test]
async fn tls_trusts_one_authority_and_the_right_name() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (client, stranger) = (ours.issue("client", "DNS:node"), other.issue("stranger", "DNS:node"));
    let (server, port) = encrypted(&ours);
    let endpoint = [format!("ssl:127.0.0.1:{port}")];
    let tls = |ca: &Authority, (certificate, key): &(PathBuf, PathBuf), server_name: Option<&str>| {
        let (certificate, key) = (certificate.clone(), key.clone());
        Some(TlsFiles { ca: ca.path("ca.pem"), certificate, key, server_name: server_name.map(str::to_owned) })
    };
    let ask = async |tls| {
        let database = remote(Schema::Northbound, &endpoint, tls)?;
        let made = Uuid::new_v4();
        database.transact(vec![switch(made, "one")], Freshness::Any).await?;
        rows(&database, read(made), Freshness::Current).await
    };
    assert_eq!(ask(tls(&ours, &client, Some("central"))).await.map(|rows| rows.len()), Ok(1));
    for (tls, expected) in [
        (tls(&ours, &client, None), "central"),
        (tls(&other, &client, Some("central")), "certificate"),
        (tls(&ours, &stranger, Some("central")), "certificate"),
    ] {
        let error = ask(tls).await.expect_err("refused");
        assert!(matches!(error, DatabaseError::Denied { .. }), "{error:?}");
        assert!(error.to_string().to_lowercase().contains(expected), "{error}");
    }
    std::fs::set_permissions(&client.1, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
    let error = ask(tls(&ours, &client, Some("central"))).await.expect_err("others may read the key");
    assert!(matches!(&error, DatabaseError::Settings(text) if text.contains("chmod 0600")), "{error:?}");
    for (tls, endpoint) in [(None, &endpoint[0]), (tls(&ours, &client, None), &server.tcp())] {
        let error = remote(Schema::Northbound, std::slice::from_ref(endpoint), tls).err().expect("refused");
        assert!(matches!(&error, DatabaseError::Settings(text) if text.contains("ssl:")), "{error:?}");
    }
}

/// Accepts connections and answers nothing to the first `held`; passes the others on to `port`. Returns its own port.
fn busy(held: usize, port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let own = listener.local_addr().expect("bound").port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            if count.fetch_add(1, Ordering::Relaxed) < held {
                kept.push(stream);
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
            for (from, to) in [(&stream, &server), (&server, &stream)] {
                let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                // Either end may close first.
                std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            }
        }
    });
    (own, accepted)
}

/// The server has one thread: of many calls at once, some wait for their TLS handshake.
#[tokio::test]
async fn a_server_that_is_busy_with_others_is_asked_again() {
    let ours = Authority::new();
    let client = ours.issue("client", "DNS:node");
    let (_server, port) = encrypted(&ours);
    for (held, expected) in [(0, 1), (1, 2), (2, 3), (3, 3)] {
        let (busy, accepted) = busy(held, port);
        let database = Remote::new(RemoteSettings {
            database: Schema::Northbound.database(),
            endpoints: vec![format!("ssl:127.0.0.1:{busy}").parse().expect("an endpoint")],
            tls: Some(TlsFiles {
                ca: ours.path("ca.pem"),
                certificate: client.0.clone(),
                key: client.1.clone(),
                server_name: Some("central".to_owned()),
            }),
            connect: Duration::from_secs(1),
            request: Duration::from_secs(10),
            memory: None,
        });
        let database = database.expect("the settings are right");
        let answer = database.transact(vec![switch(Uuid::new_v4(), "one")], Freshness::Any).await;
        assert_eq!(accepted.load(Ordering::Relaxed), expected, "{held} connections are not answered: {answer:?}");
        match answer {
            Ok(_) => assert!(held < 3, "it is answered"),
            Err(error) => assert!(matches!(error, DatabaseError::NotSent { .. }) && held == 3, "{error:?}"),
        }
    }
}

/// A server that reads one request, sends this and closes. Returns its address.
fn misbehaving(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        // As many connections as one test makes.
        for stream in listener.incoming().take(2).flatten() {
            let (mut stream, mut request) = (stream, [0; 4096]);
            // It may be gone: then the test has what it needs.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer);
        }
    });
    format!("tcp:127.0.0.1:{port}")
}

#[tokio::test]
async fn what_is_not_ovsdb_is_an_error_and_not_an_absence() {
    for (answer, expected) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "NotDatabase"),
        ("", "NoAnswer"),
        ("{\"id\":1,\"result\":[", "NoAnswer"),
        ("{\"id\":7,\"result\":[],\"error\":null}", "NotDatabase"),
        ("{\"id\":1,\"result\":[],\"error\":null}", "Unreadable"),
        ("{\"id\":1,\"result\":[{\"rows\":[{\"name\":1.5}]}],\"error\":null}", "Unreadable"),
        ("{\"id\":1,\"result\":null,\"error\":\"unknown method\"}", "NotDatabase"),
        ("{\"id\":1,\"result\":null,\"error\":{\"error\":\"unknown database\"}}", "NotDatabase"),
        ("{\"id\":\"echo\",\"method\":\"echo\",\"params\":[]}", "NoAnswer"),
    ] {
        let database = northbound(&[misbehaving(answer.as_bytes().to_vec())]);
        let error = rows(&database, read(Uuid::nil()), Freshness::Any).await.expect_err(answer);
        assert!(format!("{error:?}").starts_with(expected), "{answer}: {error:?}");
    }
    // More of them than are kept.
    let flood = "{\"id\":null,\"method\":\"update3\",\"params\":[]}".repeat(2000);
    let database = northbound(&[misbehaving(flood.into_bytes())]);
    let error = rows(&database, read(Uuid::nil()), Freshness::Any).await.expect_err("a flood");
    assert!(matches!(error, DatabaseError::NotDatabase { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_made_again() {
    let mut server = OvsdbServer::start(Schema::Northbound);
    let database = northbound(&[server.tcp()]);
    let uuid = Uuid::new_v4();
    database.transact(vec![switch(uuid, "one")], Freshness::Any).await.expect("inserted");
    server.restart();
    let second = Uuid::new_v4();
    database.transact(vec![switch(second, "two")], Freshness::Any).await.expect("the next request notices");
    assert_eq!(rows(&database, read(uuid), Freshness::Current).await.expect("readable").len(), 1);
}
