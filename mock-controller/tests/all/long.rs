//! Long answers: a client that reads everything delays no other request, gets a consistent snapshot, and keeps no
//! unread data in memory. Measured by counting, not by time.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use atoll_mock_controller::server::MockServer;
use atoll_mock_controller::state::objects::{Bridge, Chain};
use atoll_mock_controller::{MockController, MockSettings, Tables};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

use crate::fixture::{bare_port, id};

/// The number of ports.
const PORTS: u32 = 40_000;

fn full() -> Tables {
    let mut tables = MockController::new(MockSettings::default()).tables().clone();
    tables.bridges.insert(id(1), Bridge::default());
    tables.chains = (0..10_000).map(|n| (Uuid::from_u128(1 << 64 | n), Chain::default())).collect();
    for key in 2..PORTS + 2 {
        tables.ports.insert(Uuid::from_u128(u128::from(key)), bare_port(id(1), key));
    }
    tables
}

async fn served<F: Future>(test: impl FnOnce(SocketAddr) -> F) -> F::Output {
    crate::fixture::served(MockServer::new(MockController::with_tables(MockSettings::default(), full())), test).await
}

/// Sends a request and closes this direction: the answer ends with the connection.
async fn ask(mut stream: TcpStream, request: &str) -> TcpStream {
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream
}

fn get(path: &str) -> String {
    // HTTP/1.0: the answer ends with the connection, and is not chunked.
    format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept: application/json\r\n\r\n")
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connects")
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    answer
}

fn body(answer: &[u8]) -> Value {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an end of the head");
    serde_json::from_slice(&answer[end + 4..]).expect("JSON")
}

async fn create(address: SocketAddr, n: u128) {
    let text = format!("{{\"id\":\"{}\",\"type\":\"Bridge\"}}", id(n));
    let request = format!(
        "POST /midonet-api/bridges/{}/ports HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        id(1),
        text.len()
    );
    let answer = rest(&mut ask(connect(address).await, &request).await).await;
    assert!(answer.starts_with(b"HTTP/1.0 201"), "{}", String::from_utf8_lossy(&answer));
}

/// While one client reads everything, others write: many of their requests are answered before its last byte, each while
/// the long answer yielded.
#[tokio::test]
async fn writers_continue_while_a_long_answer_is_read() {
    served(async |address| {
        for (number, path) in
            ["/midonet-api/ports", "/mock/dump", "/mock/orphans", &format!("/midonet-api/bridges/{}/ports", id(1))]
                .into_iter()
                .enumerate()
        {
            let (reading, written) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(0_u128)));
            let reader = async {
                let answer = rest(&mut ask(connect(address).await, &get(path)).await).await;
                reading.set(false);
                answer
            };
            let writer = async {
                while reading.get() {
                    create(address, (number as u128 + 1) << 32 | written.get()).await;
                    written.set(written.get() + 1);
                }
            };
            let (answer, ()) = tokio::join!(reader, writer);
            assert!(body(&answer).is_array() || body(&answer).is_object(), "{path}");
            // If the long answer blocked the others, one or two would be answered: before it begins, and after its end.
            assert!(written.get() >= 20, "{path}: {} were written meanwhile", written.get());
        }
    })
    .await;
}

/// A slow reader gets the objects as they were when its request arrived.
#[tokio::test]
async fn an_answer_is_of_one_moment() {
    served(async |address| {
        for (number, path) in ["/midonet-api/ports", "/mock/dump"].into_iter().enumerate() {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            let mut reader = ask(socket.connect(address).await.expect("connects"), &get(path)).await;
            let mut answer = vec![0; 1000];
            reader.read_exact(&mut answer).await.expect("it has begun");
            let before = usize::try_from(PORTS).expect("fits") + 1 + number * 5;
            for n in 0..5 {
                create(address, (number as u128 + 1) << 32 | n).await;
            }
            answer.extend(rest(&mut reader).await);
            let body = body(&answer);
            let ports = body.as_array().map(Vec::len).or_else(|| body["ports"].as_object().map(serde_json::Map::len));
            assert_eq!(ports, Some(before), "{path}");
        }
    })
    .await;
}

/// A hundred clients that request everything and read nothing share one copy.
#[tokio::test]
async fn clients_that_read_nothing_share_one_copy() {
    served(async |address| {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("readable");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
            line.trim_end_matches(" kB").trim().parse::<u64>().expect("a number")
        };
        create(address, 1 << 40).await;
        let before = resident();
        let mut deaf = Vec::new();
        for _ in 0..100 {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            let mut stream = ask(socket.connect(address).await.expect("connects"), &get("/mock/dump")).await;
            let mut begun = [0; 500];
            stream.read_exact(&mut begun).await.expect("it has begun");
            deaf.push(stream);
        }
        for n in 0..20 {
            create(address, 1 << 41 | n).await;
        }
        let more = resident().saturating_sub(before);
        // A whole dump is 10 MB.
        assert!(more < 100_000, "{more} kB for 100 who take nothing");
        drop(deaf);
    })
    .await;
}
