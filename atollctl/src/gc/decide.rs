//! Decides what is unwanted. Pure.
//!
//! An attachment is unwanted when its container is not among the runtime's, its claim is older than the deadline of a
//! call, and no call works on it. One of another network, which another runtime may serve, must also have no host end any
//! more: its network was renamed or removed. What may belong to a live container is kept.
//!
//! A time in the future was written by a clock that was ahead. It counts as long ago: the two observations are further
//! apart than any call lasts, and both must find the same claim.

use std::collections::BTreeSet;

use atoll_model::attachment::Attachment;
use atoll_model::ids::{ClaimId, ContainerId, IfName, NetworkName};

use super::observe::NodeObservation;
use crate::links::HostEnd;
use crate::nodefiles::{AddState, Lock, ObservedAttachment};

/// What may be collected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unwanted {
    /// Attachments, with the claim that was seen; none where only the attachment state knows of it.
    pub(super) attachments: Vec<(Attachment, Option<ClaimId>)>,
    /// Orphaned host ends: no record and no file names them.
    pub(super) links: Vec<HostEnd>,
    /// Attachment states of ADDs that died before they had a claim.
    pub(super) files: Vec<ObservedAttachment>,
}

impl Unwanted {
    pub(super) fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.links.is_empty() && self.files.is_empty()
    }
}

/// What is unwanted in one observation. `deadline`: of one call; `max_request_lifetime`: how long a request of a dead call may
/// still take effect; both in seconds.
pub(super) fn unwanted(
    observed: &NodeObservation,
    network: &NetworkName,
    deadline: u64,
    max_request_lifetime: u64,
) -> Unwanted {
    Unwanted {
        attachments: attachments(observed, network, deadline),
        links: if observed.is_damaged { Vec::new() } else { links(observed, network) },
        files: if observed.is_damaged { Vec::new() } else { files(observed, deadline + max_request_lifetime) },
    }
}

/// The attachments of a network, and of networks that no longer exist, whose containers no longer exist. `deadline`: of one call,
/// seconds.
pub(crate) fn attachments(
    observed: &NodeObservation,
    network: &NetworkName,
    deadline: u64,
) -> Vec<(Attachment, Option<ClaimId>)> {
    let old = |since: u64| since > observed.now || observed.now - since > deadline;
    let ends: BTreeSet<&str> = observed.links.iter().map(|link| link.name.as_str()).collect();
    let is_gone = |attachment: &Attachment| {
        let is_served = attachment.network == *network || !ends.contains(attachment.host_interface().as_str());
        is_served && !observed.sandboxes.has(attachment.container.as_str())
    };
    // A call that began less than a deadline ago may have released its lock.
    let is_idle = |attachment: &Attachment| {
        let hash = attachment.hash();
        let file = observed.attachment_states.iter().find(|file| file.hash == hash);
        file.is_none_or(|file| file.lock == Lock::Free && old(file.written))
    };
    let claims = observed.claims.iter().map(|claim| &claim.record);
    let mut found: Vec<_> = claims
        .filter(|claim| is_gone(&claim.attachment) && is_idle(&claim.attachment) && old(claim.since))
        .map(|claim| (claim.attachment.clone(), Some(claim.claim)))
        .collect();
    // etcd may have been restored from a backup: the claim is lost, the interface and files may exist.
    let claimed: BTreeSet<_> = observed.claims.iter().map(|claim| &claim.record.attachment).collect();
    let remembered = observed.attachment_states.iter().filter_map(|file| Some(&file.phase.claim()?.attachment));
    found.extend(
        remembered
            .filter(|attachment| !claimed.contains(attachment) && is_gone(attachment) && is_idle(attachment))
            .map(|attachment| (attachment.clone(), None)),
    );
    found.sort();
    found
}

fn links(observed: &NodeObservation, network: &NetworkName) -> Vec<HostEnd> {
    let claims = observed.claims.iter().map(|claim| claim.record.host_interface.to_string());
    let pending = observed.tombstones.iter().map(|tombstone| tombstone.attachment.host_interface().to_string());
    let files =
        observed.attachment_states.iter().filter_map(|file| Some(file.phase.claim()?.host_interface.to_string()));
    let known: BTreeSet<String> =
        claims.chain(pending).chain(files).chain(possible_host_ends(observed, network)).collect();
    observed.links.iter().filter(|link| !known.contains(&link.name)).cloned().collect()
}

/// The host ends that containers of the runtime may have, whatever etcd has: their names derive from the containers'
/// ids. Interface names are those that runtimes and multiplexers use.
fn possible_host_ends(observed: &NodeObservation, network: &NetworkName) -> Vec<String> {
    let stems = ["eth", "net"].into_iter().flat_map(|stem| (0..16).map(move |number| format!("{stem}{number}")));
    let interfaces: Vec<IfName> = stems.filter_map(|name| IfName::new(name).ok()).collect();
    let mut names = Vec::new();
    for container in observed.sandboxes.iter().filter_map(|id| ContainerId::new(id).ok()) {
        names.extend(interfaces.iter().map(|interface| {
            let (node, network) = (observed.node.clone(), network.clone());
            let attachment = Attachment { node, network, container: container.clone(), interface: interface.clone() };
            attachment.host_interface().to_string()
        }));
    }
    names
}

/// An ADD that died before it had a claim: its file names no attachment. Its in-flight requests cannot take effect
/// any more after the maximum request lifetime.
fn files(observed: &NodeObservation, age: u64) -> Vec<ObservedAttachment> {
    let claims = observed.claims.iter().map(|claim| claim.record.attachment.hash());
    let known: BTreeSet<_> =
        claims.chain(observed.tombstones.iter().map(|tombstone| tombstone.attachment.hash())).collect();
    let is_orphaned = |file: &&ObservedAttachment| {
        matches!(file.phase, AddState::Adding(None) | AddState::Unreadable)
            && file.lock == Lock::Free
            && (file.written > observed.now || observed.now - file.written > age)
            && !known.contains(&file.hash)
    };
    observed.attachment_states.iter().filter(is_orphaned).cloned().collect()
}

/// What both observations contain. The same attachment with another claim is another; so is a link with another number, and
/// a file that was written in between.
pub(super) fn agreed(first: &Unwanted, second: Unwanted) -> Unwanted {
    let same_link = |link: &HostEnd| {
        first
            .links
            .iter()
            .any(|other| (&other.place, &other.name, other.index) == (&link.place, &link.name, link.index))
    };
    Unwanted {
        attachments: second.attachments.into_iter().filter(|one| first.attachments.contains(one)).collect(),
        links: second.links.into_iter().filter(same_link).collect(),
        files: second.files.into_iter().filter(|file| first.files.contains(file)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::{ClaimId, ContainerId, IfName, Incarnation, NodeName, TenantName};
    use atoll_node::netns::Netns;
    use atoll_records::{ClaimRecord, FIRST_ENGINE, SCHEMA, TombstoneKind, TombstoneRecord, Unknown, Versioned};
    use uuid::Uuid;

    use super::*;
    use crate::gc::sandboxes::Sandboxes;

    const NOW: u64 = 1_000_000;
    const DEADLINE: u64 = 60;
    const MAX_REQUEST_LIFETIME: u64 = 45;

    fn network() -> NetworkName {
        NetworkName::new("atoll").expect("valid")
    }

    fn attachment(network: &str, container: &str) -> Attachment {
        Attachment {
            node: NodeName::new("n1").expect("valid"),
            network: NetworkName::new(network).expect("valid"),
            container: ContainerId::new(container).expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        }
    }

    fn claim(attachment: Attachment, since: u64) -> Versioned<ClaimRecord> {
        let record = ClaimRecord {
            v: SCHEMA,
            engine: FIRST_ENGINE.to_owned(),
            claim: ClaimId(Uuid::from_u128(1)),
            tenant: TenantName::new("red").expect("valid"),
            incarnation: Incarnation(Uuid::from_u128(2)),
            namespace: None,
            pod: None,
            pod_uid: None,
            addresses: vec![],
            port: Uuid::from_u128(3),
            host_interface: attachment.host_interface(),
            mac: attachment.mac(),
            host_id: Uuid::from_u128(4).into(),
            since,
            attachment,
            deletions_until: 0,
            creations_until: 0,
            names: Vec::new(),
            unknown: Unknown::new(),
        };
        Versioned { record, create_revision: 5, mod_revision: 6 }
    }

    fn file(attachment: &Attachment, lock: Lock, phase: AddState, written: u64) -> ObservedAttachment {
        let hash = attachment.hash();
        ObservedAttachment { path: format!("/run/atoll/attachments/{hash}").into(), hash, lock, phase, written }
    }

    fn link(attachment: &Attachment) -> HostEnd {
        HostEnd { place: Netns::Own, name: attachment.host_interface().to_string(), index: 9, carrier: true }
    }

    fn observation(sandboxes: &[&str]) -> NodeObservation {
        NodeObservation {
            node: NodeName::new("n1").expect("valid"),
            now: NOW,
            claims: vec![],
            tombstones: vec![],
            is_damaged: false,
            attachment_states: vec![],
            links: vec![],
            sandboxes: sandboxes.iter().map(|id| (*id).to_owned()).collect::<Sandboxes>(),
        }
    }

    fn judge(observed: &NodeObservation) -> Unwanted {
        unwanted(observed, &network(), DEADLINE, MAX_REQUEST_LIFETIME)
    }

    #[test]
    fn a_claim_goes_only_when_it_is_old_idle_of_this_network_and_its_container_is_no_more() {
        let (dead, live) = (attachment("atoll", "dead"), attachment("atoll", "live"));
        let mut seen = observation(&["live"]);
        seen.claims = vec![
            claim(dead.clone(), 0),
            claim(live.clone(), 0),
            claim(attachment("atoll", "young"), NOW - DEADLINE),
            claim(attachment("other", "elsewhere"), 0),
        ];
        // The host end of a pod that another runtime may serve.
        seen.links = vec![link(&attachment("other", "elsewhere"))];
        assert_eq!(judge(&seen).attachments, [(dead.clone(), Some(ClaimId(Uuid::from_u128(1))))]);
        for (lock, written) in [(Lock::Held, 0), (Lock::Free, NOW - DEADLINE)] {
            seen.attachment_states = vec![file(&dead, lock, AddState::Done(None), written)];
            assert!(judge(&seen).is_empty(), "{lock:?} {written}");
        }
        seen.attachment_states = vec![file(&dead, Lock::Free, AddState::Done(None), 0)];
        assert_eq!(judge(&seen).attachments.len(), 1, "finished long ago");
    }

    #[test]
    fn a_claim_of_another_network_goes_when_it_has_no_interface_any_more() {
        let mut seen = observation(&["live"]);
        let gone = attachment("renamed", "dead");
        seen.claims = vec![claim(gone.clone(), 0), claim(attachment("renamed", "live"), 0)];
        assert_eq!(judge(&seen).attachments, [(gone.clone(), Some(ClaimId(Uuid::from_u128(1))))]);
        seen.links = vec![link(&gone)];
        assert!(judge(&seen).attachments.is_empty(), "it may be a pod");
    }

    #[test]
    fn a_claim_with_a_future_time_is_not_young() {
        let mut seen = observation(&["live"]);
        let dead = attachment("atoll", "dead");
        seen.claims = vec![claim(dead.clone(), NOW + 86_400)];
        seen.attachment_states = vec![file(&dead, Lock::Free, AddState::Done(None), NOW + 86_400)];
        assert_eq!(judge(&seen).attachments.len(), 1);
    }

    #[test]
    fn what_only_a_file_remembers_goes_too_unless_its_container_lives() {
        let (dead, live) = (attachment("atoll", "dead"), attachment("atoll", "live"));
        let mut seen = observation(&["live"]);
        let remembered = |at: &Attachment| AddState::Done(Some(Box::new(claim(at.clone(), 0).record)));
        seen.attachment_states =
            vec![file(&dead, Lock::Free, remembered(&dead), 0), file(&live, Lock::Free, remembered(&live), 0)];
        seen.links = vec![link(&dead), link(&live)];
        let found = judge(&seen);
        assert_eq!((found.attachments, found.links), (vec![(dead, None)], vec![]), "DEL takes its interface along");
    }

    #[test]
    fn an_interface_that_no_record_or_file_names_is_removed() {
        let at = |container: &str| attachment("atoll", container);
        let mut seen = observation(&["live"]);
        seen.claims = vec![claim(at("claimed"), 0), claim(attachment("other", "elsewhere"), 0)];
        let adding = AddState::Adding(Some(Box::new(claim(at("adding"), 0).record)));
        seen.attachment_states = vec![file(&at("adding"), Lock::Held, adding, NOW)];
        seen.tombstones = vec![TombstoneRecord {
            v: SCHEMA,
            engine: FIRST_ENGINE.to_owned(),
            kind: TombstoneKind::Delete,
            attachment: at("pending"),
            port: None,
            not_before: 0,
            since: 0,
            note: String::new(),
            deletion_sent: false,
            unknown: Unknown::new(),
        }];
        let elsewhere = attachment("other", "elsewhere");
        seen.links = ["claimed", "adding", "pending", "live", "dead"].map(|container| link(&at(container))).to_vec();
        seen.links.push(link(&elsewhere));
        assert_eq!(judge(&seen).links, [link(&at("dead"))]);
        seen.is_damaged = true;
        assert_eq!(judge(&seen).links, [], "the record that cannot be read may be its claim");
    }

    #[test]
    fn a_file_without_a_name_goes_when_no_request_of_its_add_can_come_any_more() {
        let dead = attachment("atoll", "dead");
        let mut seen = observation(&[]);
        let long_ago = NOW - DEADLINE - MAX_REQUEST_LIFETIME - 1;
        for (phase, lock, written, goes) in [
            (AddState::Adding(None), Lock::Free, long_ago, true),
            (AddState::Unreadable, Lock::Free, long_ago, true),
            (AddState::Adding(None), Lock::Held, long_ago, false),
            (AddState::Adding(None), Lock::Free, long_ago + 1, false),
            (AddState::Done(None), Lock::Free, long_ago, false),
        ] {
            seen.attachment_states = vec![file(&dead, lock, phase, written)];
            assert_eq!(!judge(&seen).files.is_empty(), goes, "{:?}", seen.attachment_states);
        }
    }

    #[test]
    fn only_what_both_observations_contain_is_collected() {
        let (dead, other) = (attachment("atoll", "dead"), attachment("atoll", "other"));
        let file = file(&dead, Lock::Free, AddState::Adding(None), 1);
        let first = Unwanted {
            attachments: vec![(dead.clone(), Some(ClaimId(Uuid::from_u128(1)))), (other.clone(), None)],
            links: vec![link(&dead), link(&other)],
            files: vec![file.clone()],
        };
        assert_eq!(agreed(&first, first.clone()), first);
        let second = Unwanted {
            attachments: vec![(dead.clone(), Some(ClaimId(Uuid::from_u128(2)))), (other.clone(), None)],
            links: vec![HostEnd { index: 10, ..link(&dead) }, HostEnd { carrier: false, ..link(&other) }],
            files: vec![ObservedAttachment { written: 2, ..file }],
        };
        let both = agreed(&first, second);
        assert_eq!(both.attachments, [(other.clone(), None)], "claimed anew in between");
        assert_eq!(both.links, [HostEnd { carrier: false, ..link(&other) }], "made anew in between");
        assert_eq!(both.files, [], "written in between");
        assert!(agreed(&Unwanted::default(), first).is_empty());
    }
}
