//! URLs of servers.

/// `http[s]://host[:port]`, with a path if `with_path`; no query, no fragment.
pub(super) fn is_base_url(url: &str, with_path: bool) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else { return false };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        // An IPv6 host stands in brackets.
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, "")) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, None),
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return false,
            },
            _ => return false,
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let host_is_plain = !host.is_empty()
        && (authority.starts_with('[') || host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)));
    let port_is_plain = port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
    let path_is_plain = path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#'));
    host_is_plain && port_is_plain && path_is_plain && (with_path || path.is_empty())
}
