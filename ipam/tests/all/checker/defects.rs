//! Defects that the checker must find: rewritings of each case of a transaction as it passes. `index` is the number of
//! the case in its transaction.

use atoll_records::{ClaimRecord, decode, encode};
use atoll_store::{Case, Compare, StoreChange};

fn key(condition: &Compare) -> &str {
    match condition {
        Compare::Absent(key) | Compare::Modified(key, _) | Compare::Created(key, _) => key.as_str(),
    }
}

fn forget(case: &mut Case, prefix: &str) {
    case.compare.retain(|condition| !key(condition).starts_with(prefix));
}

fn releases(case: &Case) -> bool {
    case.then.iter().any(|change| matches!(change, StoreChange::Delete(key) if key.as_str().starts_with("v2/claims/")))
}

fn claims(case: &Case) -> bool {
    case.then
        .iter()
        .any(|change| matches!(change, StoreChange::Put { key, .. } if key.as_str().starts_with("v2/claims/")))
}

/// None.
pub(crate) fn none(_: usize, _: &mut Case) {}

/// A claim does not check whether the address is taken.
pub(crate) fn owner_not_checked(_: usize, case: &mut Case) {
    if !releases(case) {
        forget(case, "v2/addresses/");
    }
}

/// Only the first of several candidates is checked.
pub(crate) fn later_cases_not_checked(index: usize, case: &mut Case) {
    if claims(case) && index > 0 {
        forget(case, "v2/addresses/");
    }
}

/// Of several addresses only the first is checked.
pub(crate) fn later_addresses_not_checked(_: usize, case: &mut Case) {
    if claims(case) {
        let mut first = true;
        case.compare
            .retain(|condition| !key(condition).starts_with("v2/addresses/") || std::mem::replace(&mut first, false));
    }
}

/// Of several addresses only the first is released.
pub(crate) fn later_addresses_not_released(_: usize, case: &mut Case) {
    if releases(case) {
        let mut first = true;
        case.then.retain(|change| {
            !change.key().as_str().starts_with("v2/addresses/") || std::mem::replace(&mut first, false)
        });
    }
}

/// A claim does not check whether the attachment has one.
pub(crate) fn attachment_not_checked(_: usize, case: &mut Case) {
    case.compare
        .retain(|condition| !matches!(condition, Compare::Absent(key) if key.as_str().starts_with("v2/claims/")));
}

/// A release is guarded by the owner's name alone: it accepts any claim of the attachment, and frees its address.
pub(crate) fn guarded_by_owner_only(_: usize, case: &mut Case) {
    if releases(case) {
        forget(case, "v2/claims/");
        forget(case, "v2/addresses/");
    }
}

/// A release frees the address and leaves the claim to whom it may concern.
pub(crate) fn released_by_address_only(_: usize, case: &mut Case) {
    if releases(case) {
        forget(case, "v2/claims/");
        forget(case, "v2/addresses/");
        case.then.retain(|change| !change.key().as_str().starts_with("v2/claims/"));
    }
}

/// A released address is free at once.
pub(crate) fn cooldown_skipped(_: usize, case: &mut Case) {
    for change in &mut case.then {
        if let StoreChange::Put { key, lease: Some(_), .. } = change {
            *change = StoreChange::Delete(key.clone());
        }
    }
}

/// A claim trusts the cached tenant.
pub(crate) fn cache_not_compared(_: usize, case: &mut Case) {
    forget(case, "v2/tenants/");
}

/// A claim does not check whether its attachment was released since it was made.
pub(crate) fn release_mark_ignored(_: usize, case: &mut Case) {
    forget(case, "v2/released/");
}

/// A claim walks past the fence of its own dead predecessor.
pub(crate) fn fence_ignored(_: usize, case: &mut Case) {
    forget(case, "v2/tombstones/");
}

/// A claim does not check whether its address is reserved for another pod.
pub(crate) fn reservation_not_checked(_: usize, case: &mut Case) {
    if claims(case) {
        forget(case, "v2/reservations/");
    }
}

/// A claim does not check whether an address is reserved for its pod.
pub(crate) fn reserved_for_not_checked(_: usize, case: &mut Case) {
    if claims(case) {
        forget(case, "v2/reserved-for/");
    }
}

/// A reservation does not check whether the address is taken.
pub(crate) fn reserved_over_a_claim(_: usize, case: &mut Case) {
    if case.then.iter().any(|change| change.key().as_str().starts_with("v2/reservations/")) {
        forget(case, "v2/addresses/");
    }
}

/// Lifting a reservation leaves what points back to it.
pub(crate) fn half_lifted(_: usize, case: &mut Case) {
    case.then
        .retain(|change| !matches!(change, StoreChange::Delete(key) if key.as_str().starts_with("v2/reserved-for/")));
}

/// A claim does not check whether its MAC is taken.
pub(crate) fn mac_not_checked(_: usize, case: &mut Case) {
    if !releases(case) {
        forget(case, "v2/macs/");
    }
}

/// A release leaves the MAC behind.
pub(crate) fn mac_not_released(_: usize, case: &mut Case) {
    if releases(case) {
        case.then.retain(|change| !change.key().as_str().starts_with("v2/macs/"));
    }
}

/// A claim writes no record of its address of IPv6.
pub(crate) fn second_family_without_record(_: usize, case: &mut Case) {
    if claims(case) {
        case.then.retain(|change| !is_of_ipv6(change));
    }
}

/// A claim has no address of IPv6.
pub(crate) fn claimed_by_half(index: usize, case: &mut Case) {
    second_family_without_record(index, case);
    for change in &mut case.then {
        if let StoreChange::Put { key, value, .. } = change
            && key.as_str().starts_with("v2/claims/")
        {
            let mut claim: ClaimRecord = decode(value).expect("a claim");
            claim.addresses.retain(|claimed| claimed.address.is_ipv4());
            *value = encode(&claim);
        }
    }
}

fn is_of_ipv6(change: &StoreChange) -> bool {
    change.key().as_str().starts_with("v2/addresses/") && change.key().address_part().is_some_and(|a| a.is_ipv6())
}
