//! The end of the program: signals, and lost output.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atoll_testkit::program::command;

use crate::http_life::{PROGRAM, Running};

fn send(signal: &str, process: u32) {
    assert!(command("kill").args([signal, &process.to_string()]).status().expect("it runs").success());
}

/// A shell command that becomes the program.
fn script(before: &str) -> Running {
    let mut command = command("sh");
    command.args(["-c", &format!("{before}exec {PROGRAM} --listen 127.0.0.1:0")]);
    Running::begin(command, None)
}

#[test]
fn a_hangup_of_the_terminal_does_not_end_it() {
    for before in ["", "trap '' HUP; "] {
        let server = script(before);
        for _ in 0..3 {
            send("-HUP", server.id());
            assert!(server.dump()["routers"].is_object(), "{before}: it goes on");
        }
        assert_eq!(server.end("-TERM").code(), Some(0), "{before}");
    }
}

#[test]
fn the_first_process_of_a_pid_namespace_ends_in_order() {
    for signal in ["-TERM", "-INT"] {
        let mut command = command("unshare");
        command.args(["--pid", "--fork", "--kill-child", PROGRAM, "--listen", "127.0.0.1:0"]);
        let server = Running::begin(command, None);
        let children = format!("/proc/{0}/task/{0}/children", server.id());
        let children = std::fs::read_to_string(children).expect("readable");
        send("-HUP", children.trim().parse().expect("one process"));
        assert!(server.dump()["routers"].is_object(), "it goes on");
        send(signal, children.trim().parse().expect("one process"));
        assert_eq!(server.wait().code(), Some(0), "{signal}");
    }
}

/// A request that never ends keeps an orderly end waiting for two seconds: long enough for a second signal.
#[test]
fn a_second_signal_ends_it_at_once() {
    for [first, second] in [["-TERM", "-INT"], ["-INT", "-TERM"]] {
        let server = script("");
        let mut stream = TcpStream::connect(&server.address).expect("it listens");
        stream
            .write_all(b"POST /midonet-api/routers HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
            .expect("sent");
        // Requests are handled in order: the request before has begun.
        assert!(server.dump()["routers"].is_object());
        send(first, server.id());
        send(second, server.id());
        assert_eq!(server.wait().code(), Some(1), "{first} {second}: it was not given the time to end in order");
    }
}

/// A pipe whose reader has closed it.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn output_that_does_not_arrive_is_a_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state.json");
    let server = Running::start(&["--state", state.to_str().expect("text")]);
    assert_eq!(server.end("-TERM").code(), Some(0));
    let state = state.to_str().expect("text");
    let check = ["dataplane", "check", "--topology", state];
    let all: [&[&str]; 6] = [
        &["--help"],
        &["--version"],
        &["dataplane", "probe"],
        &["dataplane", "probe", "--help"],
        &check,
        &[check.as_slice(), &["--json"]].concat(),
    ];
    for arguments in all {
        let run = |out: Stdio| {
            let output =
                Command::new(PROGRAM).args(arguments).stdout(out).stderr(Stdio::piped()).output().expect("it runs");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, stderr) = run(Stdio::null());
        assert!(matches!(code, Some(0 | 3)), "{arguments:?}: {stderr}");
        for out in [
            File::options().write(true).open("/dev/full").expect("a device").into(),
            closed(),
            File::open("/dev/null").expect("a device").into(),
        ] {
            let (code, stderr) = run(out);
            assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
            assert!(stderr.contains("standard output could not be written"), "{arguments:?}: {stderr}");
        }
    }
}

/// The file and its lock have the documented names, and an orderly end removes the lock.
#[test]
fn an_orderly_end_leaves_the_objects_and_no_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.json");
    let server = Running::start(&["--state", path.to_str().expect("text")]);
    let lock = directory.path().join("state.json.lock");
    assert!(lock.exists());
    assert_eq!(server.end("-INT").code(), Some(0));
    assert!(path.exists() && !lock.exists() && !Path::new(&format!("{}.new", path.display())).exists());
}

impl Running {
    /// Waits for its end.
    fn wait(mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
