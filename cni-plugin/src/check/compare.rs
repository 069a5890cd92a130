//! The comparisons of CHECK: pure. Each returns what differs as sentences that name the object, what was expected and
//! what was found.

use atoll_model::attachment::Mac;
use atoll_model::cni::previous::PreviousInterface;
use atoll_model::route::{MAIN_TABLE, PodRoute};
use atoll_network::PortState;
use atoll_records::{AddressState, ClaimRecord};
use uuid::Uuid;

use super::evidence::{AttachmentRecords, CheckCall, KernelView};
use crate::kernel::{FoundRoute, Netns};

/// The pod's interface as `prevResult` has it.
pub(super) fn interface_in(call: &CheckCall) -> Option<&PreviousInterface> {
    let name = call.attachment.interface.as_str();
    let mut all = call.previous.interfaces.iter();
    all.find(|interface| interface.name == name && interface.sandbox.is_some())
}

/// The claim is of this pod, and its addresses are its own.
pub(super) fn claim(call: &CheckCall, claim: &ClaimRecord, records: &AttachmentRecords) -> Vec<String> {
    let mut differences = Vec::new();
    let shown = |name: Option<&atoll_model::ids::Namespace>| {
        name.map_or_else(|| "no namespace".to_owned(), |name| format!("namespace {name}"))
    };
    if claim.namespace != call.pod.namespace {
        let (found, expected) = (shown(claim.namespace.as_ref()), shown(call.pod.namespace.as_ref()));
        differences.push(format!("its claim is of {found}, expected {expected}"));
    }
    if claim.host_id != call.host_id {
        differences.push(format!("its claim is of host {}, expected {}", claim.host_id, call.host_id));
    }
    match &records.tenant {
        None => differences.push(format!("its tenant {} is gone", claim.tenant)),
        Some(tenant) if tenant.incarnation != claim.incarnation => {
            differences.push(format!("its tenant {} was deleted and made anew since", claim.tenant));
        }
        Some(_) => {}
    }
    for (address, owner) in claim.addresses.iter().zip(&records.owners) {
        let address = address.address.ip();
        match owner.as_ref().map(|owner| &owner.state) {
            Some(AddressState::Claimed { claim: owner, .. }) if *owner == claim.claim => {}
            Some(AddressState::Claimed { attachment, .. }) => {
                differences
                    .push(format!("address {address} is claimed by {attachment}, expected {}", claim.attachment));
            }
            Some(AddressState::CoolDown { .. }) | None => {
                differences.push(format!("address {address} has no claim, expected {}", claim.attachment));
            }
        }
    }
    if records.has_tombstone {
        differences.push("a DEL of it is unfinished: it has a tombstone".to_owned());
    }
    differences
}

/// The pod's end: there, ours, up, with the MAC and MTU of `prevResult`.
pub(super) fn interface(call: &CheckCall, mac: Mac, mtu: u32, seen: &KernelView) -> Vec<String> {
    let name = &call.attachment.interface;
    let Some(expected) = interface_in(call) else {
        return vec![format!("prevResult names no interface {name} in a sandbox")];
    };
    let mut differences = Vec::new();
    if !seen.is_sandbox {
        let sandbox = expected.sandbox.as_deref().unwrap_or_default();
        differences.push(format!("interface {name} is in {} now, prevResult has {sandbox}", call.sandbox));
    }
    let Some(found) = &seen.pod_end else {
        differences.push(match &seen.renamed {
            Some(renamed) => format!("interface {name} is called {renamed} now"),
            None => format!("interface {name} is missing in {}", call.sandbox),
        });
        return differences;
    };
    let is_ours = found.is_pod_end(&call.attachment);
    if !is_ours {
        let renamed = seen.renamed.as_ref().map(|renamed| format!(", ours is called {renamed} now"));
        differences.push(format!("interface {name} is not ours{}", renamed.unwrap_or_default()));
    }
    if !found.up {
        differences.push(format!("interface {name} is down, expected up"));
    }
    let expected_mac = expected.mac.unwrap_or(mac);
    if found.mac != Some(expected_mac) {
        let found = found.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        differences.push(format!("interface {name} has MAC {found}, expected {expected_mac}"));
    }
    let expected_mtu = expected.mtu.unwrap_or(mtu);
    if found.mtu != expected_mtu {
        differences.push(format!("interface {name} has MTU {}, expected {expected_mtu}", found.mtu));
    }
    differences
}

/// The claim's addresses are in `prevResult` and on the interface.
pub(super) fn addresses(call: &CheckCall, claim: &ClaimRecord, seen: &KernelView) -> Vec<String> {
    let name = &call.attachment.interface;
    let mut differences = Vec::new();
    let is_ours = |place: Option<usize>| {
        let interface = place.and_then(|place| call.previous.interfaces.get(place));
        interface.is_none_or(|interface| interface.name == name.as_str() && interface.sandbox.is_some())
    };
    let listed: Vec<_> = call.previous.addresses.iter().filter(|(place, _)| is_ours(*place)).map(|(_, a)| *a).collect();
    for address in claim.addresses.iter().map(|address| address.address) {
        if !listed.contains(&address) {
            differences.push(format!("prevResult lists {} for {name}, expected {address}", list(&listed)));
        }
        let Some(link) = &seen.pod_end else { continue };
        if !link.addresses.contains(&address) {
            differences.push(format!("interface {name} has address {}, expected {address}", list(&link.addresses)));
        }
    }
    differences
}

/// The routes that we made, as far as `prevResult` still has them, are in the namespace. One to the same destination
/// through another interface is as good: of several networks the first one wins.
pub(super) fn routes(call: &CheckCall, ours: &[PodRoute], seen: &KernelView) -> Vec<String> {
    let Some(link) = &seen.pod_end else { return Vec::new() };
    let is_expected = |route: &&PodRoute| call.previous.routes.contains(&route.destination);
    let missing = |route: &PodRoute| {
        let same = |found: &&FoundRoute| {
            found.route.destination == route.destination
                && found.route.table.unwrap_or(MAIN_TABLE) == route.table.unwrap_or(MAIN_TABLE)
                && found.route.priority.unwrap_or(0) == route.priority.unwrap_or(0)
        };
        let mut all = seen.routes.iter().filter(same).peekable();
        let found = all.peek().map(|found| found.route.gateway);
        if all.any(|found| !found.interfaces.contains(&link.index) || found.route.gateway == route.gateway) {
            return None;
        }
        let by = |gateway: Option<std::net::IpAddr>| gateway.map_or_else(|| "no gateway".to_owned(), |g| g.to_string());
        Some(match found {
            Some(gateway) => {
                format!("the route to {} goes by {}, expected {}", route.destination, by(gateway), by(route.gateway))
            }
            None => format!("the route to {route} is missing"),
        })
    };
    ours.iter().filter(is_expected).filter_map(missing).collect()
}

/// The rules by source of a further interface, and the table that they lead to.
pub(super) fn policy_routing(claim: &ClaimRecord, own: &[PodRoute], seen: &KernelView) -> Vec<String> {
    let Some(link) = &seen.pod_end else { return Vec::new() };
    let rules = crate::policy_routing::rules(claim).into_iter().filter(|rule| !seen.rules.contains(rule));
    let rules = rules.map(|rule| format!("policy rule {rule} is missing"));
    let is_there = |route: &PodRoute| {
        seen.routes.iter().any(|found| found.interfaces.contains(&link.index) && found.route.is_instead_of(route))
    };
    let routes = own.iter().filter(|route| !is_there(route)).map(|route| format!("the route to {route} is missing"));
    rules.chain(routes).collect()
}

/// The host end: it exists, is ours, is up, is the peer of the pod's end, and is attached if there is a bridge for it.
pub(super) fn host_end(claim: &ClaimRecord, seen: &KernelView) -> Vec<String> {
    let name = &claim.host_interface;
    let Some((netns, link)) = &seen.host_end else { return vec![format!("host end {name} is missing")] };
    let mut differences = Vec::new();
    if !link.is_ours() {
        differences.push(format!("host end {name} in {netns} is not ours"));
    }
    if let Some(pod) = &seen.pod_end
        && (link.peer != Some(pod.index) || pod.peer != Some(link.index))
    {
        differences.push(format!("host end {name} in {netns} is not the other end of {}", pod.name));
    }
    if !link.up {
        differences.push(format!("host end {name} in {netns} is down, expected up"));
    }
    // A router's namespace is made by the local data plane, which attaches host ends to bridges. Otherwise the controller's
    // agent attaches them, and the port shows whether it did.
    if link.master.is_none() && matches!(netns, Netns::At(_)) {
        differences.push(format!("host end {name} in {netns} is detached, expected on a bridge"));
    }
    differences
}

/// The port: there, on the bridge of the claim's subnet, bound to this host and interface, active.
pub(super) fn port(claim: &ClaimRecord, bridge: Option<Uuid>, found: Option<&PortState>) -> Vec<String> {
    let id = claim.port;
    let Some(found) = found else { return vec![format!("port {id} is missing")] };
    let mut differences = Vec::new();
    if let Some(bridge) = bridge.filter(|bridge| *bridge != found.belongs_to) {
        differences.push(format!("port {id} belongs to {}, expected bridge {bridge}", found.belongs_to));
    }
    let expected = format!("interface {} of host {}", claim.host_interface, claim.host_id);
    match &found.location {
        Some((host, interface)) => {
            let found = format!("interface {interface} of host {host}");
            if found != expected {
                differences.push(format!("port {id} is bound to {found}, expected {expected}"));
            }
        }
        None => differences.push(format!("port {id} is not bound, expected {expected}")),
    }
    if !found.active {
        differences.push(format!("port {id} is not active"));
    }
    differences
}

fn list<T: ToString>(all: &[T]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") }
}
