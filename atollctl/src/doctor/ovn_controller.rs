//! Asks this machine's ovn-controller for its version, which no database has: over its control socket, as `ovn-appctl` does
//! (`ovn-appctl(8)`). Its requests and answers are JSON-RPC, one object behind the other.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::net::UnixStream;

/// Where OVN's daemons have their sockets if `OVN_RUNDIR` names no other directory.
const DIRECTORY: &str = "/run/ovn";

/// An answer that is longer is none: bytes.
const LARGEST: usize = 64 << 10;

/// The version; none: none runs here that answers.
pub(super) async fn version() -> Option<String> {
    let directory = std::env::var_os("OVN_RUNDIR").map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
    for socket in sockets(&directory) {
        match ask(&socket).await {
            Ok(answer) => return version_in(&answer),
            // A daemon that was killed leaves its socket.
            Err(error) => tracing::debug!(%error, socket = %socket.display(), "no answer"),
        }
    }
    None
}

/// The sockets of ovn-controller: the name has its process id.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id = name.strip_prefix("ovn-controller.").and_then(|rest| rest.strip_suffix(".ctl"));
        id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    files.filter(is_meant).collect()
}

async fn ask(socket: &Path) -> io::Result<Value> {
    let stream = UnixStream::connect(socket).await?;
    let request = json!({"id": 0, "method": "version", "params": []}).to_string();
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let mut answer = Vec::new();
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut answer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if answer.len() > LARGEST => return Err(io::ErrorKind::InvalidData.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if let Ok(whole) = serde_json::from_slice(&answer) {
            return Ok(whole);
        }
    }
}

/// The last word of the first line: `ovn-controller 23.03.1`.
fn version_in(answer: &Value) -> Option<String> {
    let line = answer["result"].as_str()?.lines().next()?;
    let version = line.strip_prefix("ovn-controller ")?.split_whitespace().next_back()?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_first_line() {
        let answer = |text: &str| json!({"id": 0, "result": text, "error": null});
        let lines = "ovn-controller 23.03.1\nOpen vSwitch Library 3.1.1\nSB DB Schema 20.27.0\n";
        assert_eq!(version_in(&answer(lines)).as_deref(), Some("23.03.1"));
        for none in [answer(""), answer("ovs-vswitchd (Open vSwitch) 3.1.1"), json!(null), json!({"result": 7})] {
            assert_eq!(version_in(&none), None, "{none}");
        }
    }
}
