//! Who may use `/mock/`. It can remove every network at once, and the API's login does not protect it.
//!
//! | request from | answered |
//! |---|---|
//! | the unix socket, which only its owner and root can use | always |
//! | TCP, [`Access::Anyone`] | always: a controller for tests, with nothing behind it |
//! | TCP, [`Access::Root`] | on loopback, by a process of root or of the controller's own user, in its network namespace |
//! | TCP, [`Access::Token`] | with the token in `X-Mock-Token` |
//! | TCP, [`Access::Off`] | never |
//!
//! Written by hand: no maintained crate maps a TCP connection to the user of its peer, and `/proc/net/tcp` is one table.
//!
//! # Guarantees
//!
//! - A pod is never taken for a process of root on loopback, whatever its address, because it is in another network
//!   namespace.
//! - The kernel, not the peer, names the user of a socket. A peer that has closed its socket is not root's.
//! - Tokens are compared in constant time and never printed.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atoll_model::secret::Secret;
use atoll_node::files::{LIST, read};
use http::{HeaderMap, HeaderName};

/// The header that carries the token.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-mock-token");

/// The largest file of a token.
const TOKEN_FILE: u64 = 4096;
/// The shortest token.
const TOKEN_LEAST: usize = 16;

/// Who may use `/mock/` over TCP.
#[derive(Clone, Debug)]
pub enum Access {
    /// Every client that can connect.
    Anyone,
    /// Processes of root, and of the user that the controller runs as, on loopback.
    Root,
    /// Clients with this token.
    Token(Secret),
    /// No client; the unix socket remains.
    Off,
}

/// An error of the token file.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file could not be read.
    #[error("token file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not valid.
    #[error("token file {path}: {why}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

/// Reads a token: one line, without the space around it.
pub fn read_token(path: &Path) -> Result<Secret, TokenFileError> {
    let named = || path.display().to_string();
    let io = |source| TokenFileError::Io { path: named(), source };
    let wrong = |why: String| TokenFileError::Wrong { path: named(), why };
    let file = read::open_given(path).map_err(io)?;
    let there = file.metadata().map_err(io)?;
    if !there.is_file() || there.len() > TOKEN_FILE {
        return Err(wrong(format!("a regular file of at most {TOKEN_FILE} bytes is expected")));
    }
    if there.mode() & 0o077 != 0 {
        return Err(wrong(format!("its mode is {:04o}, so that others can use it: chmod 0600", there.mode() & 0o7777)));
    }
    let text = read::contents(&file, TOKEN_FILE).map_err(io)?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is not text".to_owned()))?;
    let token = text.trim();
    if token.len() < TOKEN_LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(format!(
            "one line of at least {TOKEN_LEAST} printable characters is expected: openssl rand -hex 32"
        )));
    }
    Ok(Secret::new(token))
}

/// The two addresses of a TCP connection, as the server sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionAddresses {
    pub(crate) own: SocketAddr,
    pub(crate) peer: SocketAddr,
}

impl Access {
    /// Whether a request over TCP is admitted. The error says what to do.
    pub(crate) fn admits(&self, ends: Option<ConnectionAddresses>, headers: &HeaderMap) -> Result<(), &'static str> {
        match self {
            Self::Anyone => Ok(()),
            Self::Root if ends.is_some_and(is_of_root) => Ok(()),
            Self::Root => Err("a data plane runs: /mock/ answers processes of root on loopback only; \
                               use --mock-socket, --mock-token-file or --mock-tcp anyone"),
            Self::Token(token) => match headers.get(TOKEN_HEADER) {
                Some(given) if same(given.as_bytes(), token.reveal().as_bytes()) => Ok(()),
                Some(_) => Err("the token in X-Mock-Token is not the one of --mock-token-file"),
                None => Err("a token is required in X-Mock-Token: the content of --mock-token-file"),
            },
            Self::Off => Err("/mock/ is answered on the unix socket only: --mock-socket"),
        }
    }
}

/// Compares in a time that depends on the lengths only.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    one.ct_eq(other).into()
}

// ---- the owner of a socket ---------------------------------------------------------------------------------------

/// Whether the peer is on loopback and its socket belongs to a process of root, or of our own user.
fn is_of_root(ends: ConnectionAddresses) -> bool {
    if !canonical(ends.peer).ip().is_loopback() {
        return false;
    }
    // The kernel shows a closed socket with user root and without an inode, and from then on. If the second read still
    // shows an inode, the first one showed the owner.
    let (first, second) = (owner_of(ends), owner_of(ends));
    let own = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    matches!((first, second), (Some(first), Some(second))
        if first == second && first.inode != 0 && (first.user == 0 || first.user == own))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    inode: u64,
}

/// The owner of the peer's socket; `None` when it is not in this network namespace.
fn owner_of(ends: ConnectionAddresses) -> Option<Owner> {
    // The thread's own table: another thread may be in another namespace.
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .filter_map(|table| read::text(Path::new(table), LIST).ok())
        .find_map(|table| owner(&table, ends))
}

/// Finds the peer's socket in a table in the format of `/proc/net/tcp` (proc_pid_net(5)).
fn owner(table: &str, ends: ConnectionAddresses) -> Option<Owner> {
    let (local, remote) = (canonical(ends.peer), canonical(ends.own));
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, here, there, _, _, _, _, user, _, inode, ..] = fields[..] else { return None };
        let fits = address(here)? == local && address(there)? == remote;
        fits.then_some(())?;
        Some(Owner { user: user.parse().ok()?, inode: inode.parse().ok()? })
    })
}

/// `0100007F:1F90`: the address in 32-bit words in the kernel's byte order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in words.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word).ok().filter(|word| word.len() == 8)?;
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    let address = match *bytes.as_slice() {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(canonical(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?)))
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn ends(own: &str, peer: &str) -> ConnectionAddresses {
        ConnectionAddresses { own: own.parse().expect("an address"), peer: peer.parse().expect("an address") }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1FF5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n\
            1: 0100007F:C001 0100007F:1FF5 01 00000000:00000000 00:00000000 00000000  1000        0 22 1 0 20 4 30 10 -1\n\
            2: 0100007F:C002 0100007F:1FF5 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n\
            3: nonsense\n";
        let found = |peer: &str| owner(table, ends("127.0.0.1:8181", peer));
        assert_eq!(found("127.0.0.1:49153"), Some(Owner { user: 1000, inode: 22 }));
        assert_eq!(found("127.0.0.1:49154"), Some(Owner { user: 0, inode: 0 }));
        assert_eq!(found("127.0.0.1:49155"), None);
        assert_eq!(
            owner(table, ends("[::ffff:127.0.0.1]:8181", "[::ffff:127.0.0.1]:49153")).map(|one| one.user),
            Some(1000)
        );
        let six = "head\n0: 0000000000000000FFFF00000100007F:C001 0000000000000000FFFF00000100007F:1FF5 01 0 0 0 7 0 5 0\n\
            1: 00000000000000000000000001000000:C002 00000000000000000000000001000000:1FF5 01 0:0 0:0 0 8 0 6 0\n";
        assert_eq!(owner(six, ends("[::1]:8181", "[::1]:49154")), Some(Owner { user: 8, inode: 6 }));
    }

    #[test]
    fn a_connection_belongs_to_its_owner_and_a_closed_one_to_no_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
        let (own, from) = listener.accept().expect("accepted");
        let ends = ConnectionAddresses { own: own.local_addr().expect("an address"), peer: from };
        // This test runs as the controller's own user.
        assert!(is_of_root(ends));
        drop(peer);
        assert!(!is_of_root(ends), "a socket that its process has closed belongs to no process");
    }

    #[test]
    fn a_peer_that_is_not_on_loopback_is_not_looked_up() {
        assert!(!is_of_root(ends("192.0.2.1:8181", "192.0.2.1:49153")));
    }

    #[test]
    fn a_token_is_whole_or_wrong() {
        let access = Access::Token(Secret::new("0123456789abcdef"));
        let ask = |token: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(token.map(|token| (TOKEN_HEADER, token.parse().expect("a value"))));
            access.admits(None, &headers).is_ok()
        };
        assert!(ask(Some("0123456789abcdef")));
        for wrong in [None, Some(""), Some("0123456789abcde"), Some("0123456789abcdef0"), Some("0123456789abcdeF")] {
            assert!(!ask(wrong), "{wrong:?}");
        }
        assert!(!format!("{access:?}").contains("0123"));
    }
}
