//! One HTTP request to a server on loopback: enough to read the controller.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The body of a 2xx answer. To be called inside the server's namespace, see [`crate::lab::netns::LabNetns::within`].
pub fn request(method: &str, server: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Result<String> {
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&server, timeout).with_context(|| format!("connect to {server}"))?;
    stream.set_read_timeout(Some(timeout))?;
    // HTTP/1.0: the answer ends with the connection, and is not chunked.
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("{method} {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).unwrap_or("");
    if !status.starts_with('2') {
        bail!("{method} {path}: status {status}: {body}");
    }
    Ok(body.to_owned())
}

/// GET.
pub fn get(server: SocketAddr, path: &str) -> Result<String> {
    request("GET", server, path, &[], "")
}
