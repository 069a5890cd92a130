//! Real sockets: servers that are slow, close early, never end or do not exist.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use atoll_sdn_client::http::{Http, HttpSettings, LARGEST_ANSWER};
use atoll_sdn_client::transport::{ApiRequest, ApiResponse, Transport, TransportError};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

/// A server that passes each connection to `serve` after the head of a request, until it is dropped.
struct Server {
    url: String,
    heads: mpsc::Receiver<String>,
    stop: Option<(std::net::SocketAddr, JoinHandle<()>)>,
}

impl Server {
    fn start(serve: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let (send, heads) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("connection");
                // A dropped client may leave its socket in an async runtime that no longer runs.
                stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
                stream.set_write_timeout(Some(Duration::from_secs(1))).expect("timeout");
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => break,
                    }
                }
                if head == b"stop\r\n\r\n" {
                    return;
                }
                if head.is_empty() {
                    continue;
                }
                drop(send.send(String::from_utf8_lossy(&head).into_owned()));
                serve(&mut stream);
            }
        });
        Self { url: format!("http://{address}/midonet-api"), heads, stop: Some((address, thread)) }
    }

    fn answering(text: &'static str) -> Self {
        Self::start(move |stream| drop(stream.write_all(text.as_bytes())))
    }

    fn heads(&self) -> Vec<String> {
        self.heads.try_iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((address, thread)) = self.stop.take() {
            if let Ok(mut stream) = TcpStream::connect(address) {
                drop(stream.write_all(b"stop\r\n\r\n"));
            }
            drop(thread.join());
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

/// An address without a listener.
fn unused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    format!("http://{}/midonet-api", listener.local_addr().expect("address"))
}

fn http(endpoints: &[&str]) -> Http {
    let endpoints = endpoints.iter().map(|&url| url.to_owned()).collect();
    let settings = HttpSettings {
        endpoints,
        connect_timeout: Duration::from_millis(500),
        request_timeout: Duration::from_millis(700),
        ..HttpSettings::default()
    };
    Http::new(&settings).expect("settings")
}

fn get() -> ApiRequest {
    ApiRequest { method: Method::GET, path: "/routers".to_owned(), headers: HeaderMap::new(), body: Bytes::new() }
}

async fn send(http: &Http) -> Result<ApiResponse, TransportError> {
    http.send(get()).await
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made() {
    let server = Server::answering(OK);
    let mut request = get();
    request.method = Method::POST;
    request.path = "/routers?tenant_id=a%20b".to_owned();
    request.headers.insert("content-type", HeaderValue::from_static("application/vnd.org.midonet.Router-v3+json"));
    request.body = Bytes::from_static(b"{}");
    let response = http(&[&format!("{}/", server.url)]).send(request).await.expect("answer");
    assert_eq!((response.status, &response.body[..]), (200, &b"{}"[..]));
    let head = &server.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("post /midonet-api/routers?tenant_id=a%20b http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/vnd.org.midonet.router-v3+json\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-length: 2\r\n"), "{head}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::answering(OK);
    let location = other.url.clone();
    let server = Server::start(move |stream| {
        let text =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        drop(stream.write_all(text.as_bytes()));
    });
    assert_eq!(send(&http(&[&server.url])).await.expect("answer").status, 302);
    assert_eq!(other.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refused_connection_means_not_sent_and_the_next_endpoint_is_tried() {
    let error = send(&http(&[&unused()])).await.expect_err("nothing listens");
    assert!(matches!(error, TransportError::NotSent { .. }), "{error}");
    let (first, second) = (unused(), Server::answering(OK));
    let http = http(&[&first, &second.url]);
    for _ in 0..3 {
        assert_eq!(send(&http).await.expect("answer").status, 200);
    }
    assert_eq!(second.heads().len(), 3);
}

#[tokio::test]
async fn an_endpoint_is_kept_until_it_fails() {
    let (first, second) = (Server::answering(OK), Server::answering(OK));
    let http = http(&[&first.url, &second.url]);
    for _ in 0..3 {
        send(&http).await.expect("answer");
    }
    assert_eq!((first.heads().len(), second.heads().len()), (3, 0));
}

#[tokio::test]
async fn the_next_process_begins_with_the_endpoint_that_worked() {
    let folder = tempfile::tempdir().expect("folder");
    let memory = folder.path().join("endpoint");
    let (dead, alive) = (unused(), Server::answering(OK));
    let settings = |urls: [&str; 2]| HttpSettings {
        endpoints: urls.map(str::to_owned).to_vec(),
        memory: Some(memory.clone()),
        ..HttpSettings::default()
    };
    let http = Http::new(&settings([&dead, &alive.url])).expect("settings");
    send(&http).await.expect("answer");
    assert_eq!(std::fs::read_to_string(&memory).expect("memory"), alive.url);
    // Without the stored endpoint this one would be tried first.
    let first = Server::answering(OK);
    send(&Http::new(&settings([&first.url, &alive.url])).expect("settings")).await.expect("answer");
    assert_eq!((first.heads().len(), alive.heads().len()), (0, 2));
    for nonsense in ["http://elsewhere", "", "\u{0}"] {
        std::fs::write(&memory, nonsense).expect("write");
        send(&Http::new(&settings([&first.url, &alive.url])).expect("settings")).await.expect("answer");
        assert_eq!((first.heads().len(), alive.heads().len()), (1, 0), "{nonsense:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "no temporary file is left");
}

#[tokio::test]
async fn a_slow_endpoint_is_tried_last_by_the_next_process() {
    let folder = tempfile::tempdir().expect("folder");
    let silent = Server::start(|_| std::thread::sleep(Duration::from_secs(1)));
    let alive = Server::answering(OK);
    let process = || {
        let endpoints = vec![silent.url.clone(), alive.url.clone()];
        let memory = Some(folder.path().join("endpoint"));
        Http::new(&HttpSettings { endpoints, memory, ..HttpSettings::default() }).expect("settings")
    };
    // A caller that gives up immediately shows nothing about the endpoint; a DEL gives up after a second.
    for (milliseconds, tried) in [(50, 1), (600, 2)] {
        tokio::time::timeout(Duration::from_millis(milliseconds), send(&process())).await.expect_err("silent");
        assert_eq!(alive.heads().len(), 0, "{tried}: it may have been executed");
    }
    assert_eq!(send(&process()).await.expect("the next one").status, 200);
    assert_eq!(alive.heads().len(), 1);
}

#[tokio::test]
async fn a_gateway_error_is_returned_and_moves_on() {
    for status in ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"] {
        let ill = Server::start(move |stream| {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            drop(stream.write_all(text.as_bytes()));
        });
        let healthy = Server::answering(OK);
        let http = http(&[&ill.url, &healthy.url]);
        assert_eq!(send(&http).await.expect("answer").status.to_string(), status[..3]);
        assert_eq!(healthy.heads().len(), 0, "it may have been executed: only the caller may repeat it");
        assert_eq!(send(&http).await.expect("answer").status, 200);
        assert_eq!(send(&http).await.expect("answer").status, 200);
        assert_eq!((ill.heads().len(), healthy.heads().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_failed_endpoint_is_tried_last() {
    let ill = || Server::answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let (first, second, third) = (ill(), ill(), Server::answering(OK));
    let http = http(&[&first.url, &second.url, &third.url]);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(send(&http).await.expect("answer").status);
    }
    assert_eq!(statuses, [503, 503, 200, 200, 200]);
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_breaks_off_is_no_answer() {
    let silent = Server::start(|_| std::thread::sleep(Duration::from_secs(1)));
    let rude = Server::start(|_| {});
    let cut = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":");
    let cut_chunks = Server::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n");
    let garbage = Server::answering("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    let slow = Server::start(|stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"));
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
    });
    for (name, server) in [
        ("silent", silent),
        ("rude", rude),
        ("cut", cut),
        ("cut chunks", cut_chunks),
        ("garbage", garbage),
        ("slow", slow),
    ] {
        let second = Server::answering(OK);
        let http = http(&[&server.url, &second.url]);
        let start = Instant::now();
        let error = send(&http).await.expect_err(name);
        assert!(matches!(error, TransportError::NoAnswer { .. }), "{name}: {error}");
        assert!(error.to_string().contains(&server.url), "{name}: {error}");
        assert!(start.elapsed() < Duration::from_millis(1500), "{name}: {:?}", start.elapsed());
        assert_eq!(second.heads().len(), 0, "{name}: it may have been executed");
        assert_eq!(send(&http).await.expect("the next one").status, 200, "{name}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_left() {
    let endless = Server::start(|stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    let settings = HttpSettings { endpoints: vec![endless.url.clone()], ..HttpSettings::default() };
    let error = send(&Http::new(&settings).expect("settings")).await.expect_err("endless");
    assert!(matches!(error, TransportError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains(&LARGEST_ANSWER.to_string()), "{error}");
}

/// 20 000 ports are 20 MiB.
#[tokio::test]
async fn a_list_may_be_larger_than_an_object() {
    const SIZE: usize = 20 << 20;
    let server =
        Server::start(|stream| {
            drop(stream.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n").as_bytes(),
            ));
            drop(stream.write_all(&vec![b' '; SIZE]));
        });
    let http =
        Http::new(&HttpSettings { endpoints: vec![server.url.clone()], ..HttpSettings::default() }).expect("settings");
    let mut list = get();
    list.headers.insert("accept", HeaderValue::from_static("application/vnd.org.midonet.collection.Port-v3+json"));
    assert_eq!(http.send(list).await.expect("a list").body.len(), SIZE);
    assert!(matches!(send(&http).await, Err(TransportError::Unusable { .. })), "nothing else is as large");
}

#[tokio::test]
async fn a_truncated_answer_is_an_error() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\"");
    let error = send(&http(&[&server.url])).await.expect_err("cut off");
    assert!(
        matches!(&error, TransportError::NoAnswer { reason, .. } if reason.contains("cut off after 5 bytes")),
        "{error}"
    );
}

#[tokio::test]
async fn no_request_accepts_a_compressed_answer() {
    let server = Server::answering(OK);
    send(&http(&[&server.url])).await.expect("answer");
    let head = server.heads()[0].to_ascii_lowercase();
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn an_endless_head_is_left() {
    for piece in ["HTTP/1.1 100 Continue\r\n\r\n", "X-Y: z\r\n"] {
        let endless = Server::start(move |stream| {
            if piece.starts_with('X') {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\n"));
            }
            let many = piece.repeat(1000);
            // It ends only when the client closes the connection: a client that did not would hang for ever.
            while stream.write_all(many.as_bytes()).is_ok() {}
        });
        let error = send(&http(&[&endless.url])).await.expect_err(piece);
        assert!(matches!(error, TransportError::NoAnswer { .. }), "{piece}: {error}");
    }
}

#[test]
fn wrong_settings_are_named() {
    let wrong = |change: &dyn Fn(&mut HttpSettings)| {
        let mut settings = HttpSettings { endpoints: vec!["http://127.0.0.1:1".to_owned()], ..HttpSettings::default() };
        change(&mut settings);
        match Http::new(&settings) {
            Err(TransportError::Settings(text)) => text,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        }
    };
    assert!(wrong(&|s| s.endpoints.clear()).contains("no endpoint"));
    for url in ["127.0.0.1:8181", "ftp://a/", "http://", "x y", ""] {
        assert!(wrong(&|s| s.endpoints = vec![url.to_owned()]).contains(&format!("{url:?}")), "{url}");
    }
    let secret = wrong(&|s| s.endpoints = vec!["http://u:pa55@h/".to_owned()]);
    assert!(secret.contains("user") && !secret.contains("pa55"), "{secret}");
    let secure = |s: &mut HttpSettings, ca: &std::path::Path| {
        s.endpoints = vec!["https://127.0.0.1:1".to_owned()];
        s.ca = Some(ca.to_owned());
    };
    let absent = std::path::Path::new("/nonexistent/ca.pem");
    assert!(wrong(&|s| secure(s, absent)).contains("/nonexistent/ca.pem"));
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "no certificate").expect("write");
    assert!(wrong(&|s| secure(s, &path)).contains("no PEM certificate"));
    assert!(wrong(&|s| s.endpoints = vec!["https://127.0.0.1:1".to_owned()]).contains("https:// needs a CA"));
    for mixed in [&["http://127.0.0.1:1"][..], &["https://127.0.0.1:1", "http://127.0.0.1:2"]] {
        let in_the_clear = wrong(&|s| {
            secure(s, &path);
            s.endpoints = mixed.iter().map(|&url| url.to_owned()).collect();
        });
        assert!(in_the_clear.contains("https:// is expected"), "{in_the_clear}");
    }
}
