//! The choice of the next candidates. Pure.
//!
//! The first candidates are pseudo-random positions decided by the attachment, so that claimers who start together
//! seldom meet. One transaction tries [`CASES`] of them, each only if those before it are taken: in a subnet that is `f`
//! full all of them are with probability `f^3`, 1 in 8 at half full. A lost transaction brings the window of addresses
//! around its first candidate, and the next one tries some of those that it shows to be free. At 95 % a window of 64
//! shows three free addresses on average, and none at all once in 27 times.

use atoll_records::Answer;

use crate::pool::{PodRange, number};

/// How many candidates one transaction tries. Each makes the request a kilobyte longer.
pub(crate) const CASES: u32 = 3;

/// How many addresses a lost attempt shows.
pub(crate) const WINDOW: u128 = 64;

/// A pseudo-random number from a seed and the number of the attempt (the finaliser of `SplitMix64`).
pub(crate) fn mix(seed: u64, attempt: u32) -> u128 {
    let mut z = seed.wrapping_add(u64::from(attempt).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).into()
}

/// The first candidates of a subnet: different positions, the preferred one first; fewer in a subnet with less room.
pub(crate) fn first(pods: &PodRange, seed: u64) -> Vec<u128> {
    let mut positions = Vec::new();
    for position in (0..CASES).map(|case| mix(seed, case) % pods.capacity()) {
        if !positions.contains(&position) {
            positions.push(position);
        }
    }
    positions
}

/// The first position of a candidate's window: the candidate, but at most so late that a full window fits.
pub(crate) fn window_start(pods: &PodRange, candidate: u128) -> u128 {
    candidate.min(pods.capacity().saturating_sub(WINDOW))
}

/// The taken addresses of a part of a subnet, from its keys.
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
    /// Reads answers to queries for all keys of the positions from `from` to before `end`: taken, or reserved.
    pub(crate) fn read(pods: &PodRange, from: u128, end: u128, answers: [&Answer; 2]) -> Self {
        let addresses = answers.iter().flat_map(|answer| &answer.entries).filter_map(|entry| entry.key.address_part());
        let positions = addresses.filter_map(|address| pods.position(number(address.into())));
        let mut taken: Vec<_> = positions.filter(|at| (from..end).contains(at)).collect();
        taken.sort_unstable();
        taken.dedup();
        Self { from, end, taken }
    }

    /// Up to [`CASES`] different free positions, chosen by `random`; none when all that is known is taken.
    pub(crate) fn pick(&self, random: u128) -> Vec<u128> {
        let free = (self.end - self.from).saturating_sub(self.taken.len() as u128);
        let many = free.min(CASES.into());
        // Spread over the free addresses, so that two callers with different first candidates rarely have the same
        // second one.
        let rank = |case: u128| (random % free + case * (free / many)) % free;
        (0..many).map(|case| self.free(rank(case))).collect()
    }

    /// The free position of this rank: each taken one that is not behind it pushes it one further.
    fn free(&self, rank: u128) -> u128 {
        let push = |at, taken: &u128| if *taken <= at { at + 1 } else { at };
        self.taken.iter().fold(self.from + rank, push)
    }
}

#[cfg(test)]
mod tests {

    use atoll_model::ids::TenantName;
    use atoll_records::{AddressRecord, Entry, Key, Query};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;
    use crate::pool::{Block, v4};

    fn pods(prefix: u8) -> PodRange {
        let block = Block::new([10, 0, 0, 0].into(), prefix).expect("valid");
        PodRange::new(block, block.gateway().expect("has one"), &[]).expect("has room")
    }

    fn answer(pods: &PodRange, positions: &BTreeSet<u128>, from: u128, end: u128) -> Answer {
        let tenant = TenantName::new("red").expect("valid");
        let entry = |at: &u128| Entry {
            key: Key::from(AddressRecord::at(&tenant, 0, v4(pods.at(*at)))),
            value: Vec::new(),
            create_revision: 1,
            mod_revision: 1,
            lease: None,
        };
        Answer {
            query: Query::all(AddressRecord::all()),
            entries: positions.range(from..end).map(entry).collect(),
            more: false,
        }
    }

    proptest! {
        #[test]
        fn the_window_picks_every_free_position_and_no_other(
            taken in proptest::collection::btree_set(0_u128..253, 0..253),
            reserved in proptest::collection::btree_set(0_u128..253, 0..20),
            candidate in 0_u128..253,
        ) {
            let pods = pods(24);
            let from = window_start(&pods, candidate);
            let end = from + WINDOW;
            prop_assert!(from <= candidate && candidate < end && end <= pods.capacity());
            let (a, r) = (answer(&pods, &taken, from, end), answer(&pods, &reserved, from, end));
            let window = Window::read(&pods, from, end, [&a, &r]);
            let free: BTreeSet<_> = (from..end).filter(|at| !taken.contains(at) && !reserved.contains(at)).collect();
            let mut picked = BTreeSet::new();
            for random in 0..300 {
                let picks = window.pick(random);
                let different: BTreeSet<_> = picks.iter().copied().collect();
                prop_assert_eq!(different.len(), picks.len());
                prop_assert_eq!(picks.len(), free.len().min(CASES as usize));
                picked.extend(different);
            }
            prop_assert_eq!(&picked, &free);
        }
    }

    #[test]
    fn first_candidates_are_different_and_spread_evenly() {
        let (large, small) = (pods(16), pods(30));
        let mut hits = [0_u32; 16];
        for seed in 0..16_000 {
            let first = first(&large, seed);
            let different: BTreeSet<_> = first.iter().collect();
            assert_eq!(different.len(), first.len());
            hits[usize::try_from(mix(seed, 0) % 16).expect("small")] += 1;
        }
        assert_eq!(super::first(&small, 7), [0]);
        // 1000 expected each; 5 standard deviations are about 150.
        assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
    }
}
