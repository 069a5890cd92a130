//! Expected and actual reachability. The tenants' addresses overlap, so the answer must name its sender: a request to
//! the address of another tenant's pod may be answered by a pod of the same tenant.

use std::net::Ipv4Addr;

use anyhow::Result;
use atoll_testkit::lab::netns::LabNetns;
use atoll_testkit::lab::reach::{TcpServer, ask, ping};
use serde::Serialize;

/// A pod, gateway or host that sends or answers requests.
pub(crate) struct TrafficEndpoint {
    /// Its name, which its server sends.
    pub(crate) name: String,
    /// Its tenant; none for the external network.
    pub(crate) tenant: Option<String>,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// The gateway it uses; none for the external network.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Its network namespace.
    pub(crate) netns: LabNetns,
}

/// The expected answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expected {
    /// Ping is answered, and TCP by the server with this name.
    Answer(String),
    /// Ping is answered; there is no TCP server.
    Ping,
    /// No answer.
    Nothing,
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    /// The sender of the request.
    pub(crate) from: String,
    /// The endpoint that the request is meant for.
    pub(crate) to: String,
    /// The address of the request.
    pub(crate) address: Ipv4Addr,
    /// The expected answer.
    pub(crate) expected: Expected,
    /// Ping was answered.
    pub(crate) ping: bool,
    /// The name that the TCP server sent.
    pub(crate) tcp: Option<String>,
    /// The source address that the server saw.
    pub(crate) seen_as: Option<Ipv4Addr>,
    /// Whether the answer is the expected one.
    pub(crate) ok: bool,
}

/// The expected answer to a request of `from` to the address of `to`.
fn expected(from: &TrafficEndpoint, to: &TrafficEndpoint, everyone: &[TrafficEndpoint]) -> Expected {
    if to.tenant.is_none() || to.tenant == from.tenant {
        return Expected::Answer(to.name.clone());
    }
    let own = everyone.iter().find(|one| one.tenant == from.tenant && one.address == to.address);
    match own {
        Some(own) => Expected::Answer(own.name.clone()),
        // The gateways of overlapping subnets have one address too.
        None if from.gateway == Some(to.address) => Expected::Ping,
        None => Expected::Nothing,
    }
}

/// Sends requests from every endpoint to every other one, concurrently.
pub(crate) fn measure(everyone: &[TrafficEndpoint]) -> Result<Vec<Cell>> {
    let _servers: Vec<TcpServer> =
        everyone.iter().map(|one| TcpServer::start(&one.netns, &one.name)).collect::<Result<_>>()?;
    let mut questions = Vec::new();
    for from in everyone.iter().filter(|one| one.tenant.is_some()) {
        for to in everyone.iter().filter(|to| to.name != from.name) {
            questions.push((from, to.name.clone(), to.address, expected(from, to, everyone)));
        }
        if let Some(gateway) = from.gateway {
            questions.push((from, "gateway".to_owned(), gateway, Expected::Ping));
        }
    }
    std::thread::scope(|scope| {
        let asked: Vec<_> = questions
            .into_iter()
            .map(|(from, to, address, expected)| scope.spawn(move || question(from, to, address, expected)))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn question(from: &TrafficEndpoint, to: String, address: Ipv4Addr, expected: Expected) -> Result<Cell> {
    let ping = ping(&from.netns, address)?;
    let banner = if expected == Expected::Ping { None } else { ask(&from.netns, address)? };
    let (tcp, seen_as) = banner.map_or((None, None), |banner| (Some(banner.name), Some(banner.seen_as)));
    let ok = match &expected {
        Expected::Answer(name) => ping && tcp.as_ref() == Some(name),
        Expected::Ping => ping,
        Expected::Nothing => !ping && tcp.is_none(),
    };
    Ok(Cell { from: from.name.clone(), to, address, expected, ping, tcp, seen_as, ok })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, tenant: Option<&str>, last: u8) -> TrafficEndpoint {
        TrafficEndpoint {
            name: name.to_owned(),
            tenant: tenant.map(str::to_owned),
            address: Ipv4Addr::new(10, 0, 0, last),
            gateway: tenant.map(|_| Ipv4Addr::new(10, 0, 0, 1)),
            netns: LabNetns::at("/nowhere"),
        }
    }

    #[test]
    fn a_foreign_address_is_answered_by_the_tenants_own_pod_or_not_at_all() {
        let all = [
            endpoint("red-1", Some("red"), 2),
            endpoint("red-2", Some("red"), 3),
            endpoint("blue-1", Some("blue"), 3),
            endpoint("blue-2", Some("blue"), 4),
            endpoint("outside", None, 9),
        ];
        let from_red = |to: usize| expected(&all[0], &all[to], &all);
        assert_eq!(from_red(1), Expected::Answer("red-2".to_owned()));
        assert_eq!(from_red(2), Expected::Answer("red-2".to_owned()), "blue-1 has the address of red-2");
        assert_eq!(from_red(3), Expected::Nothing);
        assert_eq!(from_red(4), Expected::Answer("outside".to_owned()));
    }
}
