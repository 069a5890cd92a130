//! Standard output of a process: what it prints arrives whole, or the process reports that it did not. A child of the test prints; what
//! is to be its standard output comes as its standard input, because the test harness prints as well.

use std::fs::File;
use std::io::{Read as _, pipe, stdin, stdout};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use atoll_node::files::print;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// How many bytes the child prints.
const SIZE: &str = "AT_PRINT";
/// The exit code of a child whose output did not arrive: that of a test that failed.
const LOST: i32 = 101;

fn text(size: usize) -> String {
    ('a'..='z').cycle().take(size).collect()
}

#[test]
fn child() {
    let Ok(size) = std::env::var(SIZE) else { return };
    let harness = stdout().as_fd().try_clone_to_owned().expect("a descriptor");
    nix::unistd::dup2_stdout(stdin()).expect("a descriptor");
    let arrived = print::or_say(&text(size.parse().expect("a number")), "but it is done");
    nix::unistd::dup2_stdout(harness).expect("a descriptor");
    assert!(arrived, "this is the exit code");
}

fn start(size: usize, output: impl Into<Stdio>) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--nocapture"])
        .env(SIZE, size.to_string())
        .stdin(output)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// The exit code of the child, and what it printed.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_slow_reader_of_a_pipe_that_does_not_block_gets_all() {
    let (mut reader, writer) = pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("our own pipe");
    // It holds a page, so that it is full again and again.
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("our own pipe");
    let size = 1 << 22;
    let child = start(size, OwnedFd::from(writer));
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("a text");
    assert_eq!((read.len(), read == text(size)), (size, true));
    assert_eq!(end(child), (Some(0), String::new()));
}

#[test]
fn a_failed_write_is_reported_with_its_cause_and_the_call_goes_on() {
    let full = || File::options().write(true).open("/dev/full").expect("a device");
    let (code, printed) = end(start(1, full()));
    assert_eq!(code, Some(LOST));
    for part in ["standard output could not be written", "No space left", "but it is done", "make room"] {
        assert!(printed.contains(part), "{part} is not in: {printed}");
    }
    assert_eq!(end(start(0, full())), (Some(0), String::new()), "nothing was to be printed");

    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let (code, printed) = end(start(1, OwnedFd::from(writer)));
    assert_eq!(code, Some(LOST));
    assert!(printed.contains("Broken pipe"), "{printed}");
}
