//! The routes of this machine.

use std::net::Ipv4Addr;
use std::path::Path;

use atoll_node::files::{LIST, read};
use ipnetwork::Ipv4Network;

/// The kernel's table of IPv4 routes (proc(5), `/proc/net/route`).
const ROUTES: &str = "/proc/net/route";

/// A route of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRoute {
    pub(crate) interface: String,
    pub(crate) destination: Ipv4Network,
}

/// This host's routes, without the default route, which overlaps everything.
pub(crate) fn routes() -> std::io::Result<Vec<HostRoute>> {
    Ok(parse(&read::text(Path::new(ROUTES), LIST)?))
}

/// Addresses are hexadecimal numbers in the host's byte order.
fn parse(table: &str) -> Vec<HostRoute> {
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()));
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (destination, mask) = (address(fields.get(1)?)?, address(fields.get(7)?)?);
            let destination = Ipv4Network::with_netmask(destination, mask).ok()?;
            Some(HostRoute { interface: (*fields.first()?).to_owned(), destination })
        })
        .filter(|route| route.destination.prefix() > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read_as_the_kernel_writes_them() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     broken line\n";
        let route = HostRoute { interface: "eth0".to_owned(), destination: "192.168.2.0/24".parse().expect("valid") };
        assert_eq!(parse(table), [route]);
    }
}
