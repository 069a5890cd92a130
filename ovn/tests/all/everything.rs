//! Reads bytes as the answers of a database: the function of the fuzz target, which the ordinary tests call as well.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use atoll_ovn::ovsdb::{
    ColumnKind, Database, DatabaseError, Freshness, Monitor, Mutation, Outcome, Remote, RemoteSettings, Row,
    RowCondition, RowOperation, RowWatch as _, Value,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use uuid::Uuid;

/// Far more than an answer of this size takes.
const LIMIT: Duration = Duration::from_secs(20);
/// The most that an error says, in bytes.
const LONGEST_TEXT: usize = 2_000;

/// What to send, and in pieces of how many bytes.
type Answer = Arc<Mutex<(Vec<u8>, usize)>>;

/// The server and the client's runtime of this process.
static READER: LazyLock<Reader> = LazyLock::new(|| {
    let answer = Answer::default();
    let endpoint = serve(Arc::clone(&answer));
    Reader { answer, endpoint, runtime: Builder::new_current_thread().enable_all().build().expect("a runtime") }
});

struct Reader {
    answer: Answer,
    endpoint: String,
    runtime: Runtime,
}

/// The fuzz target: a client asks a server that sends these bytes, and another one follows a table there. The number chooses how
/// current the answer has to be, and in which pieces it comes. Returns what the client has of it.
///
/// # Panics
/// There is no end within 20 s, or the text of an error has no bound.
pub(crate) fn fuzz((choice, text): (u8, &[u8])) -> Result<Vec<Outcome>, DatabaseError> {
    let reader = &*READER;
    let freshness = if choice % 2 == 0 { Freshness::Any } else { Freshness::Current };
    *reader.answer.lock().unwrap_or_else(PoisonError::into_inner) = (text.to_vec(), 1 + usize::from(choice / 4));
    let (asked, followed) = reader.runtime.block_on(async {
        // The server serves one connection at a time: a client ends before the next one begins.
        let asked = timeout(LIMIT, client(&reader.endpoint).transact(operations(), freshness)).await;
        (asked, timeout(LIMIT, follow(&client(&reader.endpoint))).await)
    });
    let asked = asked.expect("an outcome in time");
    let followed = followed.expect("the end of a watch in time");
    for error in asked.as_ref().err().into_iter().chain([&followed]) {
        let length = error.to_string().len();
        assert!(length < LONGEST_TEXT, "an error text of {length} bytes");
    }
    asked
}

/// A server that sends what it was given, in pieces, and closes. Returns its endpoint.
fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, piece) = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The client may be gone by now: then it has what it needs.
            let _ = stream.read(&mut [0; 4096]);
            let _ = answer.chunks(piece.max(1)).try_for_each(|piece| stream.write_all(piece));
            let _ = stream.shutdown(Shutdown::Write);
            while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
        }
    });
    format!("tcp:127.0.0.1:{port}")
}

fn client(endpoint: &str) -> Remote {
    let (connect, request) = (Duration::from_secs(10), Duration::from_secs(10));
    let endpoints = vec![endpoint.parse().expect("an endpoint")];
    let settings = RemoteSettings { database: "OVN_Northbound", endpoints, tls: None, connect, request, memory: None };
    Remote::new(settings).expect("the settings are right")
}

fn operations() -> Vec<RowOperation> {
    let condition = || vec![RowCondition::is(Uuid::from_u128(7))];
    vec![
        RowOperation::Select { table: "Logical_Switch", condition: condition(), columns: vec!["name", "ports"] },
        RowOperation::Mutate {
            table: "Logical_Switch",
            condition: condition(),
            column: "ports",
            mutation: Mutation::Insert(Value::one(Uuid::from_u128(8))),
        },
        RowOperation::Insert {
            table: "Logical_Switch_Port",
            uuid: Uuid::from_u128(8),
            row: Row::from([("name", Value::one("p"))]),
        },
    ]
}

/// Follows a table until the server closes.
async fn follow(database: &impl Database) -> DatabaseError {
    let columns = vec![("name", ColumnKind::Single), ("external_ids", ColumnKind::Map), ("ports", ColumnKind::Set)];
    let mut watch = match database.watch(Monitor { table: "Logical_Switch", condition: Vec::new(), columns }).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        if let Err(error) = watch.changed().await {
            return error;
        }
    }
}
