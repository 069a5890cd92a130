//! The ways of a further interface of a pod (`eth1`, `net2`): whatever is sent from its addresses leaves through it, also
//! where another interface of the pod is in the same subnet or has the default route. Pure.
//!
//! Its number, which its name ends in, gives everything: the metric of its routes in `main`, behind those of the
//! interfaces before it, and the table that its addresses' packets are looked up in. So it does not matter in which order
//! a runtime attaches interfaces, and an interface says nothing about another one.

use std::collections::BTreeSet;

use atoll_model::ids::IfName;
use atoll_model::record::ClaimRecord;
use atoll_model::route::{MAIN_TABLE, Route};

use crate::wire::SourceRule;

/// The first table of ours; interface number n has the n-th after it.
const TABLES: u32 = 0xa701_0000;

/// The number of a further interface; none: it is the pod's first one, or its name does not end in a number.
pub(crate) fn number(interface: &IfName) -> Option<u32> {
    let name = interface.as_str();
    let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    digits.parse().ok().filter(|number| *number > 0)
}

/// The table for what is sent from the addresses of a further interface.
pub(crate) fn table(interface: &IfName) -> Option<u32> {
    number(interface).map(|number| TABLES + (number & 0xffff))
}

/// Which packets are looked up there.
pub(crate) fn rules(claim: &ClaimRecord) -> Vec<SourceRule> {
    let table = table(&claim.attachment.interface);
    let rule = |table| claim.addresses.iter().map(move |a| SourceRule { source: a.address.ip(), table });
    table.into_iter().flat_map(rule).collect()
}

/// What they find there: the subnet, and every route of the interface in `main`.
pub(crate) fn routes(claim: &ClaimRecord, main: &[Route]) -> Vec<Route> {
    let Some(table) = table(&claim.attachment.interface) else { return Vec::new() };
    let subnets: BTreeSet<_> = claim.addresses.iter().map(|a| (a.address.network(), a.address.prefix())).collect();
    let subnets = subnets.into_iter().filter_map(|(network, prefix)| ipnetwork::Ipv4Network::new(network, prefix).ok());
    let subnets = subnets.map(|subnet| Route::plain(subnet, None));
    let others = main.iter().filter(|route| route.table.unwrap_or(MAIN_TABLE) == MAIN_TABLE).cloned();
    subnets.chain(others).map(|route| Route { table: Some(table), ..route }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> IfName {
        name.parse().expect("valid")
    }

    #[test]
    fn the_first_interface_has_the_way_out() {
        let names = ["eth0", "eth1", "net12", "wlan", "v6net00", "7", "eth99999999999"];
        assert_eq!(names.map(|it| number(&name(it))), [None, Some(1), Some(12), None, None, Some(7), None]);
    }

    #[test]
    fn every_further_interface_has_a_table_and_the_first_has_none() {
        let tables = ["eth0", "eth1", "eth2", "net1"].map(|it| table(&name(it)));
        assert_eq!(tables, [None, Some(0xa701_0001), Some(0xa701_0002), Some(0xa701_0001)]);
    }
}
