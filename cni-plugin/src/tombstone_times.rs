//! Times that an earlier call wrote down, read by a clock that may have been set since. Pure.
//!
//! Guarantee: nothing waits longer than from now on for the longest time that it may wait. A time further ahead was written
//! by a clock that was ahead, which is reported where it is found.

use atoll_records::{TombstoneKind, TombstoneRecord};

/// When a tombstone may be resolved, seconds since 1970. `longest`: the maximum request lifetime, seconds.
///
/// A tombstone that claims to be written in the future was written before now all the same: it waits from now on for as
/// long as it was to wait from then on.
pub(crate) fn retry_at(tombstone: &TombstoneRecord, now: u64, longest: u64) -> u64 {
    let TombstoneRecord { not_before, since, .. } = *tombstone;
    if since > now { now + not_before.saturating_sub(since).min(longest) } else { not_before.min(now + longest) }
}

/// Until when late requests may arrive, according to a tombstone, in seconds since 1970; 0: none can.
pub(crate) fn late_requests_until(tombstone: &TombstoneRecord, now: u64, longest: u64) -> u64 {
    match tombstone.kind {
        TombstoneKind::Fence => retry_at(tombstone, now, longest),
        TombstoneKind::Delete => 0,
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::attachment::Attachment;
    use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};
    use atoll_records::{FIRST_ENGINE, SCHEMA, Unknown};

    use super::*;

    fn fence(since: u64, not_before: u64) -> TombstoneRecord {
        let attachment = Attachment {
            node: NodeName::new("n").expect("valid"),
            network: NetworkName::new("net").expect("valid"),
            container: ContainerId::new("c").expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        };
        let (v, kind, note) = (SCHEMA, TombstoneKind::Fence, String::new());
        let (port, engine, deletion_sent, unknown) = (None, FIRST_ENGINE.to_owned(), false, Unknown::new());
        TombstoneRecord { v, kind, attachment, port, engine, not_before, since, note, deletion_sent, unknown }
    }

    #[test]
    fn nothing_waits_longer_than_the_longest_time_from_now() {
        const NOW: u64 = 1000;
        const LONGEST: u64 = 60;
        for (since, not_before, expected) in [
            (990, 1050, 1050),
            (900, 960, 960),
            // A clock that was a year ahead: it waits as long as it was to wait.
            (9000, 9060, 1060),
            (9000, 9020, 1020),
            (9000, 9000, 1000),
            (9000, 90_000, 1060),
            // It was set back after it was read once.
            (990, 9000, 1060),
            (9000, 10, 1000),
        ] {
            assert_eq!(retry_at(&fence(since, not_before), NOW, LONGEST), expected, "{since} {not_before}");
        }
        let delete = TombstoneRecord { kind: TombstoneKind::Delete, ..fence(990, 1050) };
        assert_eq!(
            (late_requests_until(&delete, NOW, LONGEST), late_requests_until(&fence(990, 1050), NOW, LONGEST)),
            (0, 1050)
        );
    }
}
