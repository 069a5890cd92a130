//! Where a server of a database is: `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`, as Open vSwitch writes it (`ovsdb(7)`,
//! "Active Database Connection Methods").

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseEndpoint {
    /// A Unix socket of this machine.
    Unix(PathBuf),
    /// TCP, in the clear.
    Tcp(Address),
    /// TLS.
    Ssl(Address),
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?}: {expected} is expected")]
pub struct NotEndpoint {
    given: String,
    expected: &'static str,
}

impl FromStr for DatabaseEndpoint {
    type Err = NotEndpoint;

    fn from_str(text: &str) -> Result<Self, NotEndpoint> {
        let wrong = |expected| NotEndpoint { given: text.to_owned(), expected };
        let address = |rest: &str| {
            let (host, port) = rest.rsplit_once(':')?;
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            // Only an IPv6 address has colons, and it stands in brackets.
            let host = match bare {
                Some(bare) => bare.parse::<std::net::Ipv6Addr>().ok().map(|_| bare)?,
                None => Some(host).filter(|host| !host.is_empty() && !host.contains([':', '/', ' ']))?,
            };
            Some(Address { host: host.to_owned(), port: port.parse().ok().filter(|port| *port > 0)? })
        };
        match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => Err(wrong("unix: with an absolute path")),
            Some(("tcp", rest)) => address(rest).map(Self::Tcp).ok_or_else(|| wrong("tcp:HOST:PORT")),
            Some(("ssl", rest)) => address(rest).map(Self::Ssl).ok_or_else(|| wrong("ssl:HOST:PORT")),
            _ => Err(wrong("unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT")),
        }
    }
}

impl fmt::Display for DatabaseEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Ssl(address) => write!(f, "ssl:{address}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse() {
            Ok(IpAddr::V6(host)) => write!(f, "[{host}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_the_same() {
        for text in [
            "unix:/run/openvswitch/db.sock",
            "tcp:10.0.0.1:6641",
            "tcp:[fd00::1]:6641",
            "ssl:central.example:6641",
            "ssl:[::1]:1",
        ] {
            assert_eq!(text.parse::<DatabaseEndpoint>().map(|endpoint| endpoint.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in [
            "",
            "unix",
            "unix:",
            "unix:db.sock",
            "tcp:",
            "tcp:host",
            "tcp::6641",
            "tcp:host:0",
            "tcp:host:65536",
            "tcp:fd00::1:6641",
            "tcp:[host]:6641",
            "ssl:a b:1",
            "http://host:6641",
            "ptcp:6641",
            "10.0.0.1:6641",
        ] {
            assert!(text.parse::<DatabaseEndpoint>().is_err(), "{text:?}");
        }
    }
}
