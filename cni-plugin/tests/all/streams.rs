//! The real binary and what its streams lead to: the one document is alone on standard output, wherever the log goes; a
//! document that did not arrive is an exit code; nothing waits for a reader of the log.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ground::variables;
use atoll_testkit::program::command;
use serde_json::{Value, json};

/// The directory of a call that logs.
struct Ground(crate::ground::Ground);

impl Ground {
    fn new() -> Self {
        Self(crate::ground::Ground::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// A file with the configuration of a call that logs to `log`.
    fn input(&self, log: &Path) -> File {
        let mut config = self.0.config();
        config["log"] = json!({ "file": log, "level": "trace" });
        fs::write(self.path("input"), config.to_string()).expect("written");
        File::open(self.path("input")).expect("there")
    }

    /// An ADD that is refused (there is no such namespace), so that there are both a document and lines of the log.
    fn add(&self, log: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll"));
        command.env_clear().envs(variables("ADD", "/nowhere")).stdin(self.input(log));
        command
    }
}

/// There is one document, and it is the error object of code 8.
#[track_caller]
fn alone(text: &[u8], when: &str) {
    let document: Value = serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("{when}: not one document ({error}): {}", String::from_utf8_lossy(text)));
    assert_eq!(document["code"], 8, "{when}: {document}");
}

#[test]
fn the_log_is_never_standard_output() {
    let ground = Ground::new();
    let out = ground.path("out");
    symlink("/proc/self/fd/1", ground.path("link")).expect("linked");
    symlink(ground.path("link"), ground.path("link-to-link")).expect("linked");
    for log in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"] {
        let output = ground.add(Path::new(log)).output().expect("it runs");
        alone(&output.stdout, log);
        assert!(String::from_utf8_lossy(&output.stderr).contains("no log in"), "{log}: {output:?}");
    }
    for log in ["link", "link-to-link", "out", "hard"] {
        // A regular file, which has the mode that its maker wanted.
        let file = OpenOptions::new().create(true).append(true).mode(0o644).open(&out).expect("made");
        let _ = fs::hard_link(&out, ground.path("hard"));
        ground.add(&ground.path(log)).stdout(file).status().expect("it runs");
        alone(&fs::read(&out).expect("there"), log);
        assert_eq!(fs::metadata(&out).expect("there").mode() & 0o777, 0o644, "{log}: it is not ours to change");
        for name in ["out", "hard"] {
            fs::remove_file(ground.path(name)).expect("there");
        }
    }
    // Both lead to one pipe: there must be no output beside the document.
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = ground.add(Path::new("/dev/stderr"));
    command.stdout(writer.try_clone().expect("a copy")).stderr(writer).status().expect("it runs");
    drop(command);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).expect("readable");
    alone(&text, "standard error is standard output");
}

#[test]
fn a_terminal_that_is_standard_output_is_no_log_by_any_name() {
    let ground = Ground::new();
    let script = format!("{} < {}", env!("CARGO_BIN_EXE_atoll"), ground.path("input").display());
    for log in ["/dev/tty", "/dev/stderr"] {
        drop(ground.input(Path::new(log)));
        // Gives the command a terminal for all three streams.
        let mut command = command("script");
        command
            .args(["-qec", &script, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(variables("ADD", "/nowhere"));
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        alone(&output.stdout, log);
    }
}

#[test]
fn the_log_is_never_where_the_request_is_read_from() {
    let ground = Ground::new();
    for log in ["/dev/stdin", "/proc/self/fd/0"] {
        alone(&ground.add(Path::new(log)).output().expect("it runs").stdout, log);
        let input = fs::read_to_string(ground.path("input")).expect("there");
        serde_json::from_str::<Value>(&input).unwrap_or_else(|error| panic!("{log}: {error}: {input}"));
    }
}

#[test]
fn what_standard_error_leads_to_may_be_the_log_and_is_never_put_aside() {
    let ground = Ground::new();
    symlink("/proc/self/fd/2", ground.path("log")).expect("linked");
    let error = ground.path("error");
    // Larger than the limit.
    File::create(&error).and_then(|file| file.set_len(11 << 20)).expect("made");
    let file = OpenOptions::new().append(true).open(&error).expect("there");
    let output = ground.add(&ground.path("log")).stderr(file).output().expect("it runs");
    alone(&output.stdout, "standard error");
    assert!(fs::metadata(&error).expect("there").len() > 11 << 20, "it was logged");
    assert!(fs::symlink_metadata(ground.path("log")).expect("there").is_symlink() && !ground.path("log.1").exists());
}

#[test]
fn nothing_waits_for_a_reader_of_the_log() {
    let ground = Ground::new();
    let pipe = ground.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let ends = |when: &str| {
        let mut child = ground.add(&pipe).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let begun = Instant::now();
        while child.try_wait().expect("a child").is_none() {
            if begun.elapsed() > Duration::from_mins(1) {
                child.kill().expect("it runs");
                panic!("{when}: it waits");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        alone(&child.wait_with_output().expect("ended").stdout, when);
    };
    ends("no reader");
    // A reader that reads nothing, and a pipe that is full.
    let mut reader =
        OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).expect("open");
    while reader.write(&[b'x'; 4096]).is_ok() {}
    ends("a full pipe");
}

#[test]
fn a_document_that_did_not_arrive_is_a_failure() {
    let ground = Ground::new();
    let log = ground.path("cni.log");
    let full = || File::options().write(true).open("/dev/full").expect("a device");
    let closed = || std::io::pipe().expect("a pipe").1;
    let version = |out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll"));
        command
            .env_clear()
            .envs(variables("VERSION", "/nowhere"))
            .stdin(Stdio::null())
            .stdout(out)
            .status()
            .expect("it runs")
    };
    assert!(version(Stdio::null()).success());
    assert_eq!(version(full().into()).code(), Some(1), "a full disk");
    assert_eq!(version(closed().into()).code(), Some(1), "a pipe without a reader");
    assert_eq!(version(File::open("/dev/null").expect("a device").into()).code(), Some(1), "opened for reading only");
    let status = ground.add(&log).stdout(full()).status().expect("it runs");
    assert_eq!(status.code(), Some(1));
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.contains("the answer could not be written to standard output"), "{text}");
}

/// The first file that is opened would be standard output, if that was closed: the standard library prevents this.
#[test]
fn nothing_of_ours_takes_the_place_of_a_closed_stream() {
    let ground = Ground::new();
    let log = ground.path("cni.log");
    drop(ground.input(&log));
    for closed in ["1<&-", "1<&- 2<&-", "2<&-"] {
        let script = format!("exec {} < {} {closed}", env!("CARGO_BIN_EXE_atoll"), ground.path("input").display());
        let mut command = command("sh");
        command.args(["-c", &script]).env_clear().envs(variables("ADD", "/nowhere"));
        assert_eq!(command.stdout(Stdio::null()).status().expect("it runs").code(), Some(1), "{closed}");
        let text = fs::read_to_string(&log).expect("a log");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            assert!(line["time"].is_string(), "{closed}: the document is in the log: {line}");
        }
        fs::remove_file(&log).expect("there");
    }
    let script = format!("exec {} 0<&- 1<&- 2<&-", env!("CARGO_BIN_EXE_atoll"));
    let mut command = command("sh");
    command.args(["-c", &script]).env_clear().envs(variables("ADD", "/nowhere"));
    assert_eq!(command.status().expect("it runs").code(), Some(1), "no input is no JSON");
}
