//! Clients that send slowly, send nothing or do not read: each connection is closed after the timeout, and none locks others out.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use atoll_mock_controller::server::MockServer;
use atoll_mock_controller::state::objects::Chain;
use atoll_mock_controller::{MockController, MockSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_millis(400);
/// The margin for a loaded machine.
const SLACK: Duration = Duration::from_secs(10);
/// The least size of a dump.
const DUMP: usize = 4_000_000;

/// A server with a short timeout, while `test` runs.
async fn served<F: Future>(test: impl FnOnce(SocketAddr) -> F) -> F::Output {
    // An answer that is larger than all buffers of the connection.
    let mut tables = MockController::new(MockSettings::default()).tables().clone();
    tables.chains = (0..60_000).map(|id| (Uuid::from_u128(id), Chain::default())).collect();
    let controller = MockController::with_tables(MockSettings::default(), tables);
    crate::fixture::served(MockServer::new(controller).client_timeout(TIMEOUT), test).await
}

/// Reads until the server closes; returns the text and the duration.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let (started, mut answer) = (Instant::now(), Vec::new());
    // A reset ends the connection as well.
    let _ = timeout(TIMEOUT + SLACK, stream.read_to_end(&mut answer)).await.expect("the server closes it");
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
}

#[tokio::test]
async fn an_incomplete_request_is_closed_after_its_time() {
    served(async |address| {
        let post = "POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
        let begun = format!("{post}Content-Length: 10\r\n\r\n{{");
        let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\n{{");
        for (what, sent, status) in [
            ("nothing", "", ""),
            ("half a line", "GET /midonet", ""),
            ("half a head", "GET /midonet-api HTTP/1.1\r\nHost: x\r\n", ""),
            ("half a body", begun.as_str(), "408"),
            ("half a chunk", chunked.as_str(), "408"),
            ("nothing more", "GET /mock/faults HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(sent.as_bytes()).await.expect("sent");
            let (answer, took) = until_closed(&mut stream).await;
            assert_eq!(answer.split(' ').nth(1).unwrap_or_default(), status, "{what}: {answer}");
            assert!(took >= TIMEOUT / 2, "{what}: {took:?} is shorter than the timeout");
        }
    })
    .await;
}

#[tokio::test]
async fn single_bytes_do_not_extend_the_time_of_a_request() {
    served(async |address| {
        for begin in
            ["GET /midonet-api HTTP/1.1\r\nX: ", "POST /midonet-api/routers HTTP/1.1\r\nContent-Length: 999\r\n\r\n"]
        {
            let (mut read, mut write) = TcpStream::connect(address).await.expect("connects").into_split();
            write.write_all(begin.as_bytes()).await.expect("sent");
            let drip = async {
                while write.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(TIMEOUT / 10).await;
                }
            };
            let mut answer = Vec::new();
            let closed = async { drop(read.read_to_end(&mut answer).await) };
            let both = async {
                tokio::select! { () = drip => {}, () = closed => {} }
            };
            timeout(TIMEOUT + SLACK, both).await.expect("the server closes it");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_disconnected() {
    served(async |address| {
        let connect = async || {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            let mut stream = socket.connect(address).await.expect("connects");
            let request = b"GET /mock/dump HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.expect("sent");
            stream
        };
        let mut deaf = connect().await;
        let (whole, _) = until_closed(&mut connect().await).await;
        assert!(whole.len() > DUMP, "who reads gets everything: {}", whole.len());
        tokio::time::sleep(TIMEOUT * 5).await;
        let (some, _) = until_closed(&mut deaf).await;
        assert!(some.len() < whole.len(), "what is read too late is what was on its way, not {}", some.len());
    })
    .await;
}
