//! The program over real HTTP, by raw requests: the whole lifecycle of a tenant, hostile connections, restarts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atoll_testkit::program::command;
use serde_json::{Value, json};

use crate::fixture::id;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mock-controller");

/// A running program; it is killed with the test.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    /// What it printed to standard error until it listened.
    pub(crate) stderr: String,
    /// The network namespace that it runs in, when not ours.
    netns: Option<PathBuf>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(None, args)
    }

    pub(crate) fn start_in(netns: Option<&Path>, args: &[&str]) -> Self {
        let mut command = match netns {
            Some(netns) => {
                let mut command = command("nsenter");
                command.arg(format!("--net={}", netns.display())).arg(PROGRAM);
                command
            }
            None => Command::new(PROGRAM),
        };
        command.args(["--listen", "127.0.0.1:0"]).args(args);
        Self::begin(command, netns)
    }

    /// Starts a command that becomes the program, and waits until it listens.
    pub(crate) fn begin(mut command: Command, netns: Option<&Path>) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut stderr = String::new();
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        while !stderr.contains("listening on") {
            let read = lines.read_line(&mut stderr).expect("it prints its address");
            assert!(read > 0, "it ends: {stderr}");
        }
        let url =
            stderr.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_else(|| panic!("{stderr}"));
        let address = url["http://".len()..].split('/').next().expect("a host").to_owned();
        Self { child, address, stderr, netns: netns.map(Path::to_owned) }
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A path in the program's mount namespace.
    pub(crate) fn sees(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").expect("absolute"))
    }

    fn connect(&self) -> TcpStream {
        let stream = match &self.netns {
            Some(netns) => inside(netns, || TcpStream::connect(&self.address)),
            None => TcpStream::connect(&self.address),
        };
        let stream = stream.expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }

    /// One request on a connection of its own: status, head, body.
    pub(crate) fn raw(&self, request: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        // The server may refuse before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, head, answer.get(end + 4..).unwrap_or_default().to_vec())
    }

    pub(crate) fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> (u16, String, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let kind = if method == "GET" { "Accept" } else { "Content-Type" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{kind}: {media}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let (status, head, body) = self.raw(request.as_bytes());
        (status, head, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Creates and returns the URL's path of the new object.
    fn create(&self, path: &str, kind: &str, body: &Value) -> String {
        let media = format!("application/vnd.org.midonet.{kind}+json");
        let (status, head, answer) = self.send("POST", &format!("/midonet-api{path}"), &media, body);
        assert_eq!(status, 201, "POST {path}: {answer}");
        let location = head.lines().find_map(|line| line.to_lowercase().strip_prefix("location: ").map(str::to_owned));
        let location = location.unwrap_or_default();
        let prefix = format!("http://{}", self.address);
        location.strip_prefix(&prefix).unwrap_or(&location).to_owned()
    }

    fn get(&self, path: &str, kind: &str) -> Value {
        let media = format!("application/vnd.org.midonet.{kind}+json");
        let (status, _, body) = self.send("GET", path, &media, &Value::Null);
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    fn delete(&self, path: &str) -> u16 {
        self.send("DELETE", path, "application/json", &Value::Null).0
    }

    pub(crate) fn dump(&self) -> Value {
        self.send("GET", "/mock/dump", "*/*", &Value::Null).2
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    pub(crate) fn end(mut self, signal: &str) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(command("kill").args([signal, &pid]).status().expect("kill runs").success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs `work` in a network namespace, on a thread of its own, because a namespace belongs to a thread. Sockets that it opens
/// stay in that namespace.
pub(crate) fn inside<T: Send>(netns: &Path, act: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(netns).expect("the namespace is there");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            act()
        });
        thread.join().expect("the thread ends")
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_tenants_life_by_raw_requests() {
    let server = Running::start(&["--host-id", "11111111-2222-3333-4444-555555555555"]);
    let before = server.dump();
    let (status, head, token) =
        server.send("POST", "/midonet-api/login", "x\r\nAuthorization: Basic YWRtaW46YWRtaW4=", &Value::Null);
    assert_eq!(status, 200, "{head}");
    assert!(token["key"].as_str().is_some_and(|key| head.contains(&format!("set-cookie: sessionId={key}"))), "{head}");

    let root = server.get("/midonet-api/", "Application-v5");
    assert_eq!(root["version"], "v5.0");
    assert_eq!(root["routers"], format!("http://{}/midonet-api/routers", server.address));
    let provider = server.get("/midonet-api/routers", "collection.Router-v3")[0]["id"].clone();
    let provider = provider.as_str().expect("an id");

    let owned = |n: u128| json!({ "id": id(n), "name": "n", "tenantId": "t" });
    let inbound = server.create("/chains", "Chain-v1", &owned(1));
    let outbound = server.create("/chains", "Chain-v1", &owned(2));
    let mut router = owned(3);
    router["inboundFilterId"] = json!(id(1));
    router["outboundFilterId"] = json!(id(2));
    let router = server.create("/routers", "Router-v3", &router);
    let port = |n: u128, address: &str| {
        json!({ "id": id(n), "type": "Router", "networkAddress": "100.64.0.0",
        "networkLength": 30, "portAddress": address })
    };
    let far = server.create(&format!("/routers/{provider}/ports"), "Port-v3", &port(4, "100.64.0.1"));
    server.create(&format!("/routers/{}/ports", id(3)), "Port-v3", &port(5, "100.64.0.2"));
    server.create(&format!("/ports/{}/link", id(5)), "PortLink-v1", &json!({ "peerId": id(4) }));
    let route = json!({ "type": "Normal", "srcNetworkAddr": "0.0.0.0", "srcNetworkLength": 0, "dstNetworkAddr": "0.0.0.0",
        "dstNetworkLength": 0, "nextHopPort": id(5), "nextHopGateway": "100.64.0.1" });
    server.create(&format!("/routers/{}/routes", id(3)), "Route-v1", &route);
    let snat = json!({ "type": "snat", "flowAction": "accept", "outPorts": [id(5)],
        "natTargets": [{ "addressFrom": "100.64.0.2", "addressTo": "100.64.0.2", "portFrom": 1, "portTo": 65535 }] });
    server.create(&format!("/chains/{}/rules", id(2)), "Rule-v2", &snat);
    let bridge = server.create("/bridges", "Bridge-v4", &owned(6));
    let pod = server.create(&format!("/bridges/{}/ports", id(6)), "Port-v3", &json!({ "id": id(7), "type": "Bridge" }));
    let bound = server.create(
        "/hosts/11111111-2222-3333-4444-555555555555/ports",
        "HostInterfacePort-v1",
        &json!({ "portId": id(7), "interfaceName": "v0" }),
    );
    let read = server.get(&pod, "Port-v3");
    assert_eq!((&read["active"], &read["interfaceName"]), (&json!(true), &json!("v0")), "{read}");
    let typed: atoll_sdn_client::api::Port = serde_json::from_value(read).expect("the client's type reads it");
    assert!(typed.active);

    let (_, _, requests) = server.send("GET", "/mock/requests", "*/*", &Value::Null);
    assert_eq!(requests["counters"]["POST /routers/{}/ports"], 2, "{requests}");
    assert_eq!(requests["rounds"], requests["count"], "one after the other: every request waited for the last");

    for path in [&bound, &bridge, &router, &far, &inbound, &outbound] {
        assert_eq!(server.delete(path), 204, "{path}");
    }
    assert_eq!(server.dump(), before, "nothing is left");
    assert!(server.end("-TERM").success(), "it ends cleanly");
}

/// Without a delay the server may answer each request before the next one arrives, which looks sequential.
#[test]
fn concurrent_requests_are_one_round() {
    let server = Running::start(&[]);
    let slow = json!({ "times": 0, "fault": { "kind": "delay", "milliseconds": 1000 } });
    assert_eq!(server.send("POST", "/mock/faults", "application/json", &slow).0, 204);
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| server.get("/midonet-api/routers", "collection.Router-v3"));
            }
        });
    }
    let (_, _, requests) = server.send("GET", "/mock/requests", "*/*", &Value::Null);
    assert_eq!((&requests["count"], &requests["rounds"]), (&json!(10), &json!(2)), "{requests}");
}

#[test]
fn a_restart_keeps_what_was_answered_even_after_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state.json");
    let args = ["--state", file.to_str().expect("a path"), "--host-id", "11111111-2222-3333-4444-555555555555"];
    let server = Running::start(&args);
    for n in 0..20 {
        server.create("/routers", "Router-v3", &json!({ "id": id(n), "tenantId": "t" }));
    }
    server.delete(&format!("/midonet-api/routers/{}", id(3)));
    let before = server.dump();
    server.end("-KILL");
    let server = Running::start(&args);
    assert_eq!(server.dump(), before);
    assert_eq!(before["routers"].as_object().map(serde_json::Map::len), Some(20));
    server.create("/routers", "Router-v3", &json!({ "id": id(3), "tenantId": "t" }));
    assert!(server.end("-INT").success());

    std::fs::write(&file, "nonsense").expect("written");
    let refused = Command::new(PROGRAM).args(["--listen", "127.0.0.1:0"]).args(args).output().expect("it runs");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("is damaged in line 1"), "{words}");
}

#[test]
fn hostile_connections() {
    let server = Running::start(&[]);
    let before = server.dump();
    let status = |request: &str| server.raw(request.as_bytes()).0;
    let huge = format!(
        "POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        2 << 20,
        "x".repeat(2 << 20)
    );
    assert_eq!(status(&huge), 413);
    let chunked = format!(
        "POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{}0\r\n\r\n",
        format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16)).repeat(40)
    );
    assert_eq!(status(&chunked), 413, "a body without a length is bounded too");
    assert_eq!(status("GET /midonet-api/../mock/reset HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 404);
    assert_eq!(status("POST /midonet-api/%2e%2e/mock/reset HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 404);
    assert_eq!(status("GET /etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 404);
    assert_eq!(
        status("GET http://elsewhere/midonet-api/nonsense HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        404
    );
    assert!([400, 404].contains(&status("CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")));
    assert_eq!(status("nonsense\r\n\r\n"), 400);
    let fields = "X-Y: z\r\n".repeat(5000);
    assert_eq!(status(&format!("GET /midonet-api HTTP/1.1\r\nHost: x\r\n{fields}\r\n")), 431);
    assert_eq!(status("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 404);

    // Hundreds of clients that send nothing, or half a request, do not lock others out.
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..300 {
        let mut stream = server.connect();
        if n % 2 == 0 {
            stream
                .write_all(b"POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
                .expect("sent");
        }
        idle.push(stream);
    }
    let started = Instant::now();
    assert_eq!(server.dump(), before);
    assert!(started.elapsed() < Duration::from_secs(5));
    // Nor do they delay its end.
    let started = Instant::now();
    assert!(server.end("-TERM").success());
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(idle);
}

/// Some clients close their sending side after their last request. They get the complete answer, also a long or a
/// delayed one.
#[test]
fn a_client_that_closed_its_sending_side_is_answered_whole() {
    let server = Running::start(&[]);
    let slow = json!({ "times": 0, "path": "/routers", "fault": { "kind": "delay", "milliseconds": 300 } });
    assert_eq!(server.send("POST", "/mock/faults", "application/json", &slow).0, 204);
    for n in 0..1000 {
        server.create("/chains", "Chain-v1", &json!({ "id": id(n), "tenantId": "t" }));
    }
    for (path, count) in [("/midonet-api/routers", 1), ("/midonet-api/chains", 1000)] {
        let mut stream = server.connect();
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: no answer: {answer}"));
        assert!(head.starts_with("HTTP/1.0 200"), "{path}: {head}");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: cut: {error}"));
        assert_eq!(body.as_array().map(Vec::len), Some(count), "{path}");
    }
    // Also the answer to a change, whose outcome the client would not know otherwise.
    let mut stream = server.connect();
    let text = r#"{"tenantId":"t"}"#;
    let request = format!(
        "POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Every answer of the API has the CORS headers.
#[test]
fn what_the_server_refuses_itself_has_the_headers_too() {
    let server = Running::start(&[]);
    let long = format!("Content-Length: {}\r\n\r\n{}", 2 << 20, "x".repeat(2 << 20));
    for (request, status) in [
        (format!("POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{long}"), 413),
        ("GET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), 404),
        (
            "OPTIONS /midonet-api/routers HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\nConnection: close\r\n\r\n"
                .to_owned(),
            200,
        ),
    ] {
        let (answered, head, _) = server.raw(request.as_bytes());
        assert_eq!(answered, status, "{head}");
        assert!(head.contains("access-control-allow-headers: Origin, X-Auth-Token"), "{status}: {head}");
    }
    let fault = json!({ "fault": { "kind": "status", "status": 500 } });
    assert_eq!(server.send("POST", "/mock/faults", "application/json", &fault).0, 204);
    let (status, head, _) = server.send("GET", "/midonet-api/routers", "application/json", &Value::Null);
    assert!(status == 500 && head.contains("access-control-allow-headers"), "{head}");
}

/// Many clients with large unfinished bodies do not make the process grow without bound: some get 503, and small requests
/// are answered.
#[test]
fn unfinished_bodies_are_bounded_in_sum() {
    let server = Running::start(&[]);
    let piece = vec![b'x'; (1 << 20) - 16];
    let mut senders = Vec::new();
    for _ in 0..80 {
        let mut stream = server.connect();
        let head = format!("POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 20);
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&piece));
        senders.push(stream);
    }
    let mut busy = 0;
    for stream in &mut senders {
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        let mut begin = [0; 12];
        busy += usize::from(stream.read_exact(&mut begin).is_ok() && &begin == b"HTTP/1.1 503");
    }
    assert!(busy >= 10, "{busy} of 80 got 503");
    let (status, ..) = server.send("GET", "/midonet-api/routers", "application/json", &Value::Null);
    assert_eq!(status, 200);
    drop(senders);
    // Their memory is released.
    let started = Instant::now();
    let large = json!({ "tenantId": "t", "description": "x".repeat(1 << 19) });
    while server.send("POST", "/midonet-api/routers", "application/json", &large).0 != 201 {
        assert!(started.elapsed() < Duration::from_secs(10), "what they held is kept");
    }
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Running::start(&[]);
    let mut stream = server.connect();
    let request =
        format!("GET /midonet-api/routers HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n", server.address);
    // Pipelined: answered in order.
    stream.write_all(request.repeat(50).as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    for _ in 0..50 {
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("an answer");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON").as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn the_command_line_explains_itself() {
    let help = Command::new(PROGRAM).arg("--help").output().expect("it runs");
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["--listen", "--dialect", "--dataplane", "--state", "Examples:", "/mock/"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    for args in [&["--dialect", "7"][..], &["--activation", "soon"], &["--listen", "nowhere"], &["--nonsense"]] {
        let refused = Command::new(PROGRAM).args(args).output().expect("it runs");
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
    }
    let first = Running::start(&[]);
    let second = Command::new(PROGRAM).args(["--listen", &first.address]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&second.stderr).contains("cannot listen on"));
    assert!(!second.status.success());
}
