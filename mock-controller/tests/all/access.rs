//! Access to `/mock/`: by the unix socket, by root's processes on loopback, by a token. Needs root.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use atoll_testkit::program::{command, located};
use serde_json::Value;

use crate::http_life::{PROGRAM, Running, inside};
use crate::plane::{Netns, Traces};

/// A user that is neither root nor the controller's.
const UNPRIVILEGED: u32 = 65534;

/// The status and body of the answer to a written request.
fn answer(stream: &mut (impl Read + Write), request: &str) -> (u16, String) {
    // It may be refused before all of it is read.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n{headers}Connection: close\r\n\r\n")
}

/// A program of the base system, started as another user. Its real path is named: a link below the tree may be in a directory
/// that only root may enter.
fn unprivileged(program: &str) -> Command {
    let path = std::fs::canonicalize(located(program)).expect("it is there");
    let mut command = Command::new(path);
    command.env("PATH", "/usr/bin:/bin").uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    command
}

/// The status of a request of another user, whose own program connects, sends and reads.
fn as_unprivileged(address: &str, request: &str) -> u16 {
    let (host, port) = address.split_once(':').expect("an address");
    let script = "exec 3<>/dev/tcp/$0/$1; printf '%b' \"$2\" >&3; read -r _ status _ <&3; echo \"$status\"";
    let escaped = request.replace('\r', "\\r").replace('\n', "\\n");
    let output = unprivileged("bash").args(["-c", script, host, port, &escaped]).output();
    String::from_utf8_lossy(&output.expect("bash runs").stdout).trim().parse().unwrap_or(0)
}

#[test]
fn a_controller_without_data_plane_answers_every_user() {
    let server = Running::start(&[]);
    assert_eq!(as_unprivileged(&server.address, &get("/mock/dump", "")), 200);
    assert_eq!(as_unprivileged(&server.address, &get("/midonet-api/routers", "")), 200);
}

#[test]
fn only_roots_processes_on_loopback_are_answered() {
    let server = Running::start(&["--mock-tcp", "root"]);
    for path in ["/mock/dump", "/mock/", "/mock", "/mock/orphans", "/mock/dataplane", "/mock/nonsense", "/mock/%64ump"]
    {
        assert_eq!(as_unprivileged(&server.address, &get(path, "")), 403, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request =
            format!("{method} /mock/reset HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(as_unprivileged(&server.address, &request), 403, "{method}");
    }
    assert_eq!(
        as_unprivileged(&server.address, &get("/midonet-api/routers", "")),
        200,
        "the API is the API's business"
    );
    assert_eq!(server.send("GET", "/mock/dump", "*/*", &Value::Null).0, 200, "this test is root's");
    let refused = server.send("GET", "/mock/nonsense", "*/*", &Value::Null);
    assert_eq!(refused.0, 404, "{refused:?}");
}

/// A peer that closes its socket at once leaves one that belongs to no process: the kernel shows it as root's.
#[test]
fn a_request_of_a_closed_connection_changes_nothing() {
    let server = Running::start(&["--mock-tcp", "root"]);
    let (host, port) = server.address.split_once(':').expect("an address");
    let router = serde_json::json!({ "tenantId": "t" });
    assert_eq!(server.send("POST", "/midonet-api/routers", "application/json", &router).0, 201);
    let request = "POST /mock/reset HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n";
    let script = "for i in $(seq 100); do { printf \"$2\" >&3; } 3>/dev/tcp/$0/$1; done";
    let status = unprivileged("bash").args(["-c", script, host, port, request]).status();
    assert!(status.expect("bash runs").success());
    // The server serves those connections before ours.
    assert_eq!(server.dump()["routers"].as_object().map(serde_json::Map::len), Some(2), "nothing was reset");
}

/// From another network namespace, as a pod would: as any user.
#[test]
fn a_pod_is_not_root_on_loopback() {
    let (node, pod) = (Netns::new(), Netns::new());
    let run = |args: &[&str]| {
        let status = command("ip").args(args).status().expect("ip runs");
        assert!(status.success(), "{args:?}");
    };
    let ends = ["-n", &node.0, "link", "add", "toward", "type", "veth", "peer", "name", "eth0", "netns", &pod.0];
    run(&ends);
    for (netns, link, address) in [(&node.0, "toward", "192.0.2.1/24"), (&pod.0, "eth0", "192.0.2.2/24")] {
        run(&["-n", netns, "address", "add", address, "dev", link]);
        run(&["-n", netns, "link", "set", link, "up"]);
    }
    let mut command = command("nsenter");
    command.arg(format!("--net={}", node.path().display())).arg(PROGRAM);
    command.args(["--listen", "0.0.0.0:0", "--mock-tcp", "root"]);
    let server = Running::begin(command, Some(&node.path()));
    let port: u16 = server.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let ask = |from: &Netns, to: [u8; 4], path: &str| {
        inside(&from.path(), || {
            let mut stream = TcpStream::connect(SocketAddr::from((to, port))).expect("connects");
            answer(&mut stream, &get(path, "")).0
        })
    };
    assert_eq!(ask(&pod, [192, 0, 2, 1], "/midonet-api/routers"), 200, "it can connect");
    assert_eq!(ask(&pod, [192, 0, 2, 1], "/mock/dump"), 403, "it is root, and somewhere else");
    assert_eq!(ask(&node, [192, 0, 2, 1], "/mock/dump"), 403, "not on loopback");
    assert_eq!(ask(&node, [127, 0, 0, 1], "/mock/dump"), 200);
}

#[test]
fn a_data_plane_restricts_it_unless_an_option_opens_it() {
    let (netns, directory) = (Netns::new(), tempfile::tempdir().expect("a directory"));
    let traces = Traces(directory.path().to_owned());
    let run_dir = directory.path().to_str().expect("a path");
    for (words, status) in [(&[][..], 403), (&["--mock-tcp", "anyone"][..], 200), (&["--mock-tcp", "off"][..], 403)] {
        let args = [&["--dataplane", "--run-dir", run_dir][..], words].concat();
        let server = Running::start_in(Some(&netns.path()), &args);
        let asked = inside(&netns.path(), || as_unprivileged(&server.address, &get("/mock/dump", "")));
        assert_eq!(asked, status, "{words:?}");
        let root = server.send("GET", "/mock/dump", "*/*", &Value::Null).0;
        assert_eq!(root, if words == ["--mock-tcp", "off"] { 403 } else { 200 }, "{words:?}: root");
        if root == 200 {
            // Only the data plane reports whether packets flow.
            let mode = serde_json::json!({ "mode": "at-once" });
            assert_eq!(server.send("PUT", "/mock/activation", "application/json", &mode).0, 409);
        }
        assert!(server.end("-TERM").success());
    }
    drop(traces);
}

#[test]
fn only_a_token_gives_access() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let path = file.to_str().expect("a path");
    let write = |text: &str, mode: u32| {
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    write("0123456789abcdef-token\n", 0o600);
    let server = Running::start(&["--mock-token-file", path]);
    let ask = |headers: &str| server.raw(get("/mock/dump", headers).as_bytes()).0;
    assert_eq!(ask("X-Mock-Token: 0123456789abcdef-token\r\n"), 200);
    assert_eq!(as_unprivileged(&server.address, &get("/mock/dump", "X-Mock-Token: 0123456789abcdef-token\r\n")), 200);
    for headers in [
        "",
        "X-Mock-Token: \r\n",
        "X-Mock-Token: 0123456789abcdef-toke\r\n",
        "X-Auth-Token: 0123456789abcdef-token\r\n",
    ] {
        assert_eq!(ask(headers), 403, "{headers:?}");
    }
    assert_eq!(server.raw(get("/midonet-api/routers", "").as_bytes()).0, 200, "the API has tokens of its own");

    for (text, mode, words) in [
        ("0123456789abcdef-token", 0o644, "its mode is 0644"),
        ("0123456789abcdef-token", 0o660, "chmod 0600"),
        ("short", 0o600, "at least 16"),
        ("", 0o600, "at least 16"),
        ("0123456789 abcdef token", 0o600, "at least 16"),
    ] {
        write(text, mode);
        let output = Command::new(PROGRAM).args(["--listen", "127.0.0.1:0", "--mock-token-file", path]).output();
        let stderr = String::from_utf8_lossy(&output.as_ref().expect("it runs").stderr).into_owned();
        assert_eq!(output.expect("it runs").status.code(), Some(1), "{text:?}: {stderr}");
        assert!(stderr.contains(path) && stderr.contains(words), "{text:?}: {stderr}");
        assert!(text.is_empty() || !stderr.contains(text), "{stderr}");
    }
    for args in [&["--mock-token-file", "/dev/zero"][..], &["--mock-token-file", "/no/such/file"]] {
        let output = Command::new(PROGRAM).args(["--listen", "127.0.0.1:0"]).args(args).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
    for args in [&["--mock-tcp", "all"][..], &["--mock-tcp", "off", "--mock-token-file", path]] {
        assert_eq!(Command::new(PROGRAM).args(args).output().expect("it runs").status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_socket_is_its_owners() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let path = directory.path().join("mock.sock");
    let name = path.to_str().expect("a path");
    let args = ["--mock-socket", name, "--mock-tcp", "off"];
    // With any umask.
    let mut command = command("bash");
    command.args(["-c", "umask 0; exec \"$0\" --listen 127.0.0.1:0 \"$@\"", PROGRAM]).args(args);
    let server = Running::begin(command, None);
    assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
    let ask = |request: &str| answer(&mut UnixStream::connect(&path).expect("connects"), request);
    let (status, dump) = ask(&get("/mock/dump", ""));
    assert!(status == 200 && dump.contains("MidoNet Provider Router"), "{dump}");
    let reset = "POST /mock/reset HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(reset).0, 204);
    assert_eq!(ask(&get("/midonet-api/routers", "")).0, 404, "the API is not there");
    assert_eq!(server.send("GET", "/mock/dump", "*/*", &Value::Null).0, 403, "TCP is off, also for root");

    // Another user is refused, even if the mode of the socket was changed.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("set");
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.sendall(sys.argv[2].encode()); sys.stdout.buffer.write(s.recv(65536))";
    let output = unprivileged("python3").args(["-c", script, name, &get("/mock/dump", "")]).output();
    assert!(!String::from_utf8_lossy(&output.expect("python3 runs").stdout).contains("200"));

    // A second controller does not replace it.
    let second = Command::new(PROGRAM).args(["--listen", "127.0.0.1:0"]).args(args).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && stderr.contains("is in use") && stderr.contains(name), "{stderr}");
    assert_eq!(ask(&get("/mock/", "")).0, 200, "the first goes on");

    // A killed controller leaves it, which does not prevent a restart; a controller that ends in order removes it.
    server.end("-KILL");
    assert!(path.exists());
    let again = Running::start(&args);
    assert_eq!(ask(&get("/mock/", "")).0, 200);
    assert!(again.end("-TERM").success());
    assert!(!path.exists());

    // Another kind of file is not replaced.
    std::fs::write(&path, "a file").expect("written");
    let refused = Command::new(PROGRAM).args(["--listen", "127.0.0.1:0"]).args(args).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "a file");
}

/// Hundreds of connections over TCP do not lock the socket's owner out.
#[test]
fn the_socket_has_a_connection_limit_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mock.sock");
    let server = Running::start(&["--mock-socket", path.to_str().expect("a path")]);
    let connections: Vec<TcpStream> = (0..1100).filter_map(|_| connect(&server.address)).collect();
    assert!(connections.len() > 1024);
    assert_eq!(answer(&mut UnixStream::connect(&path).expect("connects"), &get("/mock/", "")).0, 200);
}

fn connect(address: &str) -> Option<TcpStream> {
    TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(10)).ok()
}
