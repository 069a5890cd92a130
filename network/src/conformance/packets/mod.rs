//! Packets: who reaches whom, and who does not.
//!
//! A test of an engine that forwards packets on its machine implements [`ForwardsPackets`] and calls [`run`].
//!
//! | module | cases |
//! |---|---|
//! | `forwarding` | what a network forwards |
//! | `isolation` | what no network lets through |
//! | `lifetime` | what changes and deletions do to packets |
//! | [`lab`] | what the test of an engine provides |
//! | `probe` | datagrams that must or must not arrive |
//!
//! # Guarantees
//! - "Does not arrive" is shown by a later datagram that does. No case waits for a time.
//! - What the engine's capabilities say is what packets do, also where they say that it cannot.

mod forwarding;
mod isolation;
pub mod lab;
mod lifetime;
mod probe;

pub use self::lab::{ForwardsPackets, Frame, Received, Station};
use super::case::{CaseReport, forwards};
use super::samples::Families;

suite! { ForwardsPackets:
    forwarding::pods_of_one_subnet_reach_each_other,
    forwarding::pods_of_two_subnets_reach_each_other_by_their_router,
    forwarding::a_subnet_of_any_length_and_gateway_is_served,
    forwarding::every_address_of_a_port_is_served,
    forwarding::a_pod_reaches_the_external_network_with_its_tenants_address,
    forwarding::a_static_route_leads_to_its_next_hop,
    forwarding::a_flow_follows_a_changed_route,
    forwarding::several_uplinks_carry_packets_if_the_engine_says_so,
    forwarding::pods_of_several_hosts_are_served_if_the_engine_says_so,
    forwarding::a_node_reaches_its_pods_if_the_engine_says_so,
    isolation::two_tenants_do_not_reach_each_other,
    isolation::tenants_may_have_equal_prefixes_if_the_engine_says_so,
    isolation::only_answers_enter_from_the_external_network,
    isolation::a_pod_sends_from_its_own_addresses_only,
    isolation::a_next_hop_sends_from_no_address_of_another,
    isolation::a_service_prefix_is_not_routed_to_the_external_network,
    lifetime::a_deleted_port_is_silent_and_one_that_is_ensured_again_forwards,
    lifetime::a_port_that_is_ensured_twice_keeps_forwarding,
    lifetime::a_deleted_subnet_forwards_nothing,
    lifetime::a_deleted_network_forwards_nothing_and_one_that_is_made_again_does,
    lifetime::a_removed_route_carries_nothing,
    lifetime::a_withdrawn_route_carries_nothing,
    lifetime::what_was_lost_forwards_again_after_it_was_ensured,
}

/// Runs every case, each on a fresh subject, for every combination of address families that the engine forwards.
pub async fn run<S: ForwardsPackets>(fresh: impl AsyncFn() -> S) -> Vec<CaseReport> {
    run_only(fresh, |_, _| true).await
}

/// As [`run`], only the cases that are wanted, by their name and their address families.
pub async fn run_only<S: ForwardsPackets>(
    fresh: impl AsyncFn() -> S,
    is_wanted: impl Fn(&str, Families) -> bool,
) -> Vec<CaseReport> {
    let mut reports = Vec::new();
    for families in Families::ALL {
        match forwards(&fresh().await, families).await {
            Ok(true) => {
                run_cases(&fresh, |case| is_wanted(case, families), families, &mut reports).await;
            }
            Ok(false) => {}
            Err(error) => reports.push(CaseReport::new("capabilities", families, Err(error.into()))),
        }
    }
    reports
}
