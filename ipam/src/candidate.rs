//! Which address to try next. Pure.
//!
//! The first candidate is a pseudo-random position decided by the attachment, so that claimers who start together
//! seldom meet. In a subnet that is `f` full it is free with probability `1 - f`: up to half full the expected number
//! of probes is at most `1 / (1 - f) <= 2`, and in fact at most `1 + f`, because a lost attempt brings the window of
//! keys around its candidate and the next one is chosen among those that it shows to be free. At 95 % the window of 64
//! keys shows about three free addresses, and none at all only once in 26 times.

use atoll_store::Answer;

use crate::pool::{PodRange, number};

/// How many address keys a lost attempt brings back.
pub(crate) const WINDOW: usize = 64;

/// A pseudo-random number from a seed and the number of the attempt (the finaliser of `SplitMix64`).
pub(crate) fn mix(seed: u64, attempt: u32) -> u128 {
    let mut z = seed.wrapping_add(u64::from(attempt).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).into()
}

/// Where the window of a candidate begins: at the candidate, but never so late that a full window would not fit.
pub(crate) fn window_start(pods: PodRange, candidate: u128) -> u128 {
    candidate.min(pods.capacity().saturating_sub(WINDOW as u128))
}

/// What keys show about a part of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first position that is known.
    from: u128,
    /// The first position behind what is known.
    end: u128,
    /// The positions that are taken, in order.
    taken: Vec<u128>,
}

impl Window {
    /// Reads answers to queries for the keys from position `from` on: addresses that are taken, or reserved. An answer
    /// that was cut off by its limit says nothing about what is behind its last key.
    pub(crate) fn read(pods: PodRange, from: u128, answers: &[&Answer]) -> Self {
        let of = |answer: &Answer| -> Vec<u128> {
            answer.entries.iter().filter_map(|entry| entry.key.address_part()).map(|a| number(a.into())).collect()
        };
        let known = |answer: &&Answer| match of(answer).last() {
            Some(last) if answer.more => pods.before(last + 1),
            _ => pods.capacity(),
        };
        let end = answers.iter().map(known).min().unwrap_or(from).max(from);
        let numbers = answers.iter().flat_map(|answer| of(answer));
        let mut taken: Vec<_> =
            numbers.filter_map(|number| pods.position(number)).filter(|at| (from..end).contains(at)).collect();
        taken.sort_unstable();
        taken.dedup();
        Self { from, end, taken }
    }

    /// The first position behind what is known.
    pub(crate) fn end(&self) -> u128 {
        self.end
    }

    /// A free position, chosen by `random`; none when all that is known is taken.
    pub(crate) fn pick(&self, random: u128) -> Option<u128> {
        let free = (self.end - self.from).checked_sub(self.taken.len() as u128).filter(|free| *free > 0)?;
        // The k-th free position: each taken one that is not behind it pushes it one further.
        let push = |at, taken: &u128| if *taken <= at { at + 1 } else { at };
        Some(self.taken.iter().fold(self.from + random % free, push))
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::TenantName;
    use atoll_store::{Entry, Key};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;
    use crate::pool::{Block, v4};

    fn pods(prefix: u8) -> PodRange {
        let block = Block::new([10, 0, 0, 0].into(), prefix).expect("valid");
        PodRange::new(block, block.gateway().expect("has one")).expect("has room")
    }

    fn answer(pods: PodRange, positions: &BTreeSet<u128>, from: u128, limit: usize) -> Answer {
        let tenant = TenantName::new("red").expect("valid");
        let entry = |at: &u128| Entry {
            key: Key::address(&tenant, 0, v4(pods.at(*at))),
            value: Vec::new(),
            create_revision: 1,
            mod_revision: 1,
            lease: None,
        };
        let behind: Vec<_> = positions.iter().filter(|at| **at >= from).collect();
        Answer { entries: behind.iter().take(limit).map(|at| entry(at)).collect(), more: behind.len() > limit }
    }

    proptest! {
        #[test]
        fn the_window_picks_every_free_position_and_no_other(
            taken in proptest::collection::btree_set(0_u128..253, 0..253),
            reserved in proptest::collection::btree_set(0_u128..253, 0..20),
            candidate in 0_u128..253,
        ) {
            let pods = pods(24);
            let from = window_start(pods, candidate);
            prop_assert!(from <= candidate);
            let (a, r) = (answer(pods, &taken, from, WINDOW), answer(pods, &reserved, from, WINDOW));
            let window = Window::read(pods, from, &[&a, &r]);
            let free: BTreeSet<_> = (from..window.end()).filter(|at| !taken.contains(at) && !reserved.contains(at)).collect();
            let picked: BTreeSet<_> = (0..300).filter_map(|random| window.pick(random)).collect();
            prop_assert_eq!(&picked, &free);
            // Nothing that is not known is promised, and a whole window is known.
            prop_assert!(window.end() >= (from + WINDOW as u128).min(pods.capacity()));
        }
    }

    #[test]
    fn first_candidates_spread_evenly() {
        let mut hits = [0_u32; 16];
        for seed in 0..16_000 {
            hits[usize::try_from(mix(seed, 0) % 16).expect("small")] += 1;
        }
        // 1000 expected each; 5 standard deviations are about 150.
        assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
    }
}
