//! What servers of one test share: ports without a listener, and signals.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::program::command;

/// Ports of loopback without a listener. Another process may take one before its use.
///
/// # Panics
/// The kernel has none left.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

/// Sends a signal by name, to this process only. After `STOP` none of its threads runs: one on another processor stops only some
/// time after `kill` has returned, and may answer a request until then.
///
/// # Panics
/// The process is gone, or does not stop.
pub fn signal(child: &Child, name: &str) {
    let done = command("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(done.expect("kill runs").success());
    let deadline = Instant::now() + Duration::from_mins(1);
    while name == "STOP" && !stands_still(child) {
        assert!(Instant::now() < deadline, "it does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the kernel has stopped every thread (`proc(5)`, the field after the name in `stat`).
fn stands_still(child: &Child) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it is there");
    let states = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    states.into_iter().all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}
