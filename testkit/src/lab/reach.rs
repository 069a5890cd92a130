//! Reachability. Addresses of two tenants overlap, so an answer alone proves nothing: every server sends its name.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::netns::LabNetns;

/// The port of every server here.
pub const PORT: u16 = 7000;
/// The time without a packet that counts as no answer.
const SILENCE: Duration = Duration::from_secs(2);

/// A TCP server inside a namespace that answers every connection with its name and the address it sees.
#[derive(Debug)]
pub struct TcpServer {
    // Taken in `drop`.
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// The name of the server.
    pub name: String,
    /// The source address of the request, as the server saw it.
    pub seen_as: Ipv4Addr,
}

impl TcpServer {
    /// Starts one inside `netns`.
    pub fn start(netns: &LabNetns, name: &str) -> Result<Self> {
        let listener = netns.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listen"))?;
        // A connection cannot end the loop: the loopback interface of the namespace may be down.
        listener.set_nonblocking(true)?;
        let (name, stop) = (name.to_owned(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        // A socket stays in the namespace where it was opened, wherever its thread is.
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that has closed the connection needs no answer.
                    Ok((mut stream, peer)) => drop(stream.write_all(format!("{name} {}", peer.ip()).as_bytes())),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { thread: Some(thread), stop })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic, and `drop` has no caller for an error.
            drop(thread.join());
        }
    }
}

/// Asks the server at `to` from inside `from`; none means no answer.
pub fn ask(from: &LabNetns, to: Ipv4Addr) -> Result<Option<Banner>> {
    ask_at(from, to, PORT)
}

/// The same at another port, which is forwarded to a server.
pub fn ask_at(from: &LabNetns, to: Ipv4Addr, port: u16) -> Result<Option<Banner>> {
    from.within(|| {
        let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from((to, port)), SILENCE) else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(SILENCE))?;
        let mut text = String::new();
        if stream.read_to_string(&mut text).is_err() {
            return Ok(None);
        }
        let (name, seen_as) = text.split_once(' ').with_context(|| format!("a strange banner: {text:?}"))?;
        Ok(Some(Banner { name: name.to_owned(), seen_as: seen_as.parse()? }))
    })
}

/// Pings `to` from inside `from`: true when an answer comes, to the first of several packets that is not lost.
pub fn ping(from: &LabNetns, to: impl Into<IpAddr>) -> Result<bool> {
    let status = from
        .command("ping")
        .args(["-n", "-q", "-c", "1", "-i", "0.2", "-w", &SILENCE.as_secs().to_string(), &to.into().to_string()])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .context("start ping (Debian package iputils-ping)")?;
    // 1: no answer; 2: no route, or no interface.
    Ok(status.success())
}
