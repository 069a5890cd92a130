//! Answers of databases, mutated: nothing that a server sends makes the client panic, hang, grow or print without bound.
//!
//! `AT_SEED` repeats a run, `ATOLL_SCHEDULES` sets how many answers there are (`./run-tests --long` has more).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_ovn::ovsdb::{
    ColumnKind, Database, DatabaseError, Freshness, Monitor, Mutation, Row, RowCondition, RowOperation, RowWatch as _,
    Value,
};
use atoll_testkit::mutate::Mutator;
use tokio::time::timeout;
use uuid::Uuid;

use crate::remote::northbound;

/// Far more than an answer of this size takes.
const LIMIT: Duration = Duration::from_secs(20);
/// The most that reading all answers may add to the memory of this process, KiB.
const GROWTH: u64 = 64 << 10;

/// Answers to the first request of a connection, whatever it is, and what a server sends besides.
const CORPUS: [&str; 10] = [
    r#"{"id":1,"result":[{"rows":[{"name":"one","ports":["set",[]]}]},{"count":1},{}],"error":null}"#,
    r#"{"id":1,"result":[{"rows":[{"name":"one","ports":["uuid","00000000-0000-0000-0000-000000000007"]}]},{"count":0},{}],"error":null}{"id":2,"result":[{"rows":[{"leader":true,"connected":true,"model":"clustered","index":5,"sid":["uuid","00000000-0000-0000-0000-000000000009"]}]}],"error":null}"#,
    r#"{"id":1,"result":[{"rows":[]},{"count":1},{"error":"timed out","details":"\"where\" clause test failed"},null],"error":null}"#,
    r#"{"id":1,"result":[{},{},{},{"error":"constraint violation","details":"identical values (p5) for index on column \"name\""}],"error":null}"#,
    r#"{"id":1,"result":[{},{"error":"duplicate uuid","details":"This UUID would duplicate a UUID already present"},null],"error":null}"#,
    r#"{"id":1,"result":null,"error":{"error":"unknown database","details":"OVN_Northbound"}}"#,
    r#"{"id":"echo","method":"echo","params":[]}{"id":1,"result":[{"rows":[]},{"count":0},{}],"error":null}"#,
    r#"{"id":1,"result":[false,"00000000-0000-0000-0000-000000000001",{"Logical_Switch":{"00000000-0000-0000-0000-000000000007":{"initial":{"name":"a","external_ids":["map",[["k","v"]]],"ports":["set",[]]}}}}],"error":null}"#,
    r#"{"id":null,"method":"update3","params":["m","00000000-0000-0000-0000-000000000002",{"Logical_Switch":{"00000000-0000-0000-0000-000000000007":{"modify":{"external_ids":["map",[["k","w"]]]}},"00000000-0000-0000-0000-000000000008":{"delete":null}}}]}"#,
    r#"{"id":null,"method":"update3","params":["m","00000000-0000-0000-0000-000000000003",{"Logical_Switch":{"00000000-0000-0000-0000-000000000009":{"insert":{"name":"b"}}}}]}"#,
];

/// A server that sends what it was given, in pieces, and closes. Returns its endpoint.
fn serve(answer: Arc<Mutex<(Vec<u8>, usize)>>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, piece) = answer.lock().expect("no panic while it is held").clone();
            // The client may be gone by now: then it has what it needs.
            let _ = stream.read(&mut [0; 4096]);
            let _ = answer.chunks(piece.max(1)).try_for_each(|piece| stream.write_all(piece));
            let _ = stream.shutdown(Shutdown::Write);
            while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
        }
    });
    format!("tcp:127.0.0.1:{port}")
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
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

#[tokio::test]
async fn mutated_answers_are_outcomes_or_errors() {
    let answers = std::env::var("ATOLL_SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(1_500);
    let answer = Arc::new(Mutex::new((Vec::new(), 1)));
    let server = [serve(Arc::clone(&answer))];
    let corpus: Vec<&[u8]> = CORPUS.iter().map(|text| text.as_bytes()).collect();
    let mut mutator = Mutator::seeded(0x0e5d_b000);
    let (mut before, mut outcomes, mut errors) = (0, 0, 0);
    for number in 0..answers {
        let text = if number < corpus.len() { corpus[number].to_vec() } else { mutator.mutation(&corpus, &[], 3) };
        let shown = String::from_utf8_lossy(&text).into_owned();
        *answer.lock().expect("no panic while it is held") = (text, 1 + mutator.below(64));
        let freshness = if number % 2 == 0 { Freshness::Any } else { Freshness::Current };
        let asked = timeout(LIMIT, northbound(&server).transact(operations(), freshness)).await;
        let followed = timeout(LIMIT, follow(&northbound(&server))).await;
        let asked = asked.unwrap_or_else(|_| panic!("answer {number}: no outcome: {shown}"));
        let mut texts = vec![followed.unwrap_or_else(|_| panic!("answer {number}: no end: {shown}")).to_string()];
        match asked {
            Ok(_) => outcomes += 1,
            Err(error) => {
                errors += 1;
                texts.push(error.to_string());
            }
        }
        for text in texts {
            assert!(text.len() < 2_000, "answer {number}: an error text of {} bytes: {shown}", text.len());
        }
        if number == 200 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{answers} answers cost {grown} KiB");
    assert!(outcomes > 0 && errors > outcomes, "{outcomes} outcomes, {errors} errors: they mean something");
}

/// Together they are larger than one message may be.
#[tokio::test]
async fn large_notifications_before_an_answer_are_refused() {
    let large = format!(r#"{{"id":null,"method":"update3","params":["{}"]}}"#, "x".repeat(1 << 20));
    let answer = Arc::new(Mutex::new((large.repeat(80).into_bytes(), 1 << 20)));
    let server = [serve(answer)];
    let asked = timeout(LIMIT, northbound(&server).transact(operations(), Freshness::Any)).await.expect("an end");
    assert!(matches!(asked, Err(DatabaseError::NotDatabase { .. })), "{asked:?}");
}
