//! Policy routing of a further interface of a pod (`eth1`, `net2`): what is sent from its addresses leaves through it, also if
//! another interface of the pod is in the same subnet or has the default route. Pure.
//!
//! The name of the interface determines the metric of its routes in `main`, after those of the interfaces before it, and the
//! table for packets from its addresses. So the order in which a runtime attaches interfaces does not matter. Two names get
//! different metrics and tables, also `eth1` and `net1`. There are more names than numbers: two names that get the same
//! number are rare, [`conflicting_interface`] finds them, and the second interface is refused.

use std::collections::BTreeSet;

use atoll_model::ids::IfName;
use atoll_model::route::{MAIN_TABLE, PodRoute};
use atoll_records::ClaimRecord;
use uuid::Uuid;

use crate::kernel::PolicyRule;

/// The table of `eth<n>` is the n-th after this one.
const TABLES: u32 = 0xa701_0000;
/// Names with another beginning than the pod's usual ones: their tables are these and those after them.
const OTHER_TABLES: u32 = 0xa702_0000;
/// How many of those there are: up to 0xa7ff_ffff.
const OTHERS: u32 = 0x00fe_0000;
/// How the interfaces of a pod are usually called.
const USUAL: &str = "eth";
/// The number of metrics for each prefix of names: one for each interface number.
const STRIDE: u32 = 0x1_0000;
/// Names hashes of names; a constant of this project.
const SPACE: Uuid = Uuid::from_u128(0x2c64_3b7e_90d1_4f0b_9f2a_6d51_c7e8_1b43);

/// The beginning of the name of a further interface, and its number; `None`: it is the pod's first one, or its name does not
/// end in a number.
fn parts(interface: &IfName) -> Option<(&str, u32)> {
    let name = interface.as_str();
    let (stem, digits) = name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    digits.parse().ok().filter(|number| *number > 0).map(|number: u32| (stem, number & (STRIDE - 1)))
}

/// A number below `end` for a text.
fn hash(text: &str, end: u32) -> u32 {
    let [a, b, c, d, ..] = Uuid::new_v5(&SPACE, text.as_bytes()).into_bytes();
    u32::from_be_bytes([a, b, c, d]) % end
}

/// The metric of a further interface's routes: its number, so that `eth1` comes before `eth2`. Other names
/// have higher metrics, in the order of their numbers.
pub(crate) fn metric(interface: &IfName) -> Option<u32> {
    let (stem, number) = parts(interface)?;
    let before = if stem == USUAL { 0 } else { (1 + hash(stem, 0x7fff)) * STRIDE };
    Some(before + number)
}

/// The table for what is sent from the addresses of a further interface.
pub(crate) fn table(interface: &IfName) -> Option<u32> {
    let (stem, number) = parts(interface)?;
    Some(if stem == USUAL { TABLES + number } else { OTHER_TABLES + hash(interface.as_str(), OTHERS) })
}

/// The first of other interfaces of a pod with which this one would share its table, or the metric of its routes.
pub(crate) fn conflicting_interface<'a>(
    interface: &IfName,
    others: impl Iterator<Item = &'a IfName>,
) -> Option<&'a IfName> {
    let (table, metric) = (table(interface)?, metric(interface));
    let mut others = others.filter(|other| *other != interface);
    others.find(|other| self::table(other) == Some(table) || self::metric(other) == metric)
}

/// The rules that select that table.
pub(crate) fn rules(claim: &ClaimRecord) -> Vec<PolicyRule> {
    let table = table(&claim.attachment.interface);
    let rule = |table| claim.addresses.iter().map(move |a| PolicyRule::from_address(a.address.ip(), table));
    table.into_iter().flat_map(rule).collect()
}

/// The routes of that table: the subnet, and every route of the interface in `main`.
pub(crate) fn routes(claim: &ClaimRecord, main: &[PodRoute]) -> Vec<PodRoute> {
    let Some(table) = table(&claim.attachment.interface) else { return Vec::new() };
    let subnets: BTreeSet<_> = claim.addresses.iter().map(|a| (a.address.network(), a.address.prefix())).collect();
    let subnets = subnets.into_iter().filter_map(|(network, prefix)| ipnetwork::IpNetwork::new(network, prefix).ok());
    let subnets = subnets.map(|subnet| PodRoute::plain(subnet, None));
    let others = main.iter().filter(|route| route.table.unwrap_or(MAIN_TABLE) == MAIN_TABLE).cloned();
    subnets.chain(others).map(|route| PodRoute { table: Some(table), ..route }).collect()
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
        let numbers = names.map(|it| parts(&name(it)).map(|(_, number)| number));
        assert_eq!(numbers, [None, Some(1), Some(12), None, None, Some(7), None]);
        let metrics = ["eth0", "eth1", "eth12"].map(|it| metric(&name(it)));
        assert_eq!(metrics, [None, Some(1), Some(12)]);
    }

    #[test]
    fn every_further_interface_has_a_table_and_a_metric_of_its_own() {
        let tables = ["eth0", "eth1", "eth2"].map(|it| table(&name(it)));
        assert_eq!(tables, [None, Some(0xa701_0001), Some(0xa701_0002)]);
        let stems = ["eth", "net", "lan", "data", "sriov", "macvlan", "ens", "veth", ""];
        let names: Vec<_> =
            stems.iter().flat_map(|stem| (1..200).map(move |number| name(&format!("{stem}{number}")))).collect();
        let all = |of: fn(&IfName) -> Option<u32>| names.iter().filter_map(of).collect::<BTreeSet<_>>();
        assert_eq!((all(table).len(), all(metric).len()), (names.len(), names.len()));
        assert!(all(table).iter().all(|table| (0xa701_0001..=0xa7ff_ffff).contains(table)));
        assert!(metric(&name("net1")) < metric(&name("net2")) && metric(&name("eth9")) < metric(&name("net1")));
        assert_eq!(conflicting_interface(&name("eth1"), names.iter()), None);
    }

    #[test]
    fn two_names_that_would_share_a_table_or_a_metric_are_refused() {
        // Numbers are counted up to 65535.
        let (one, same) = (name("eth1"), name("eth65537"));
        assert_eq!(
            conflicting_interface(&one, [name("eth0"), one.clone(), name("net1"), same.clone()].iter()),
            Some(&same)
        );
        assert_eq!(conflicting_interface(&name("eth0"), [same].iter()), None, "the first one has neither");
    }
}
