//! The choice of the next candidates. Pure.
//!
//! The first candidates are pseudo-random positions decided by the attachment, so that claimers who start together
//! seldom meet. One transaction tries [`CASES`] of them, each only if those before it are taken: in a subnet that is `f`
//! full all of them are with probability `f^3`, 1 in 8 at half full. A lost transaction brings the window of addresses
//! around its first candidate, and the next one tries some of those that it shows to be free. At 95 % a window of 64
//! shows three free addresses on average, and none at all once in 27 times.

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

/// The first candidates of so many positions: different ones, the preferred one first; fewer where there are fewer.
pub(crate) fn first(capacity: u128, seed: u64) -> Vec<u128> {
    let mut positions = Vec::new();
    for position in (0..CASES).map(|case| mix(seed, case) % capacity) {
        if !positions.contains(&position) {
            positions.push(position);
        }
    }
    positions
}

/// The first position of a candidate's window: the candidate, but at most so late that a full window fits.
pub(crate) fn window_start(capacity: u128, candidate: u128) -> u128 {
    candidate.min(capacity.saturating_sub(WINDOW))
}

/// The taken positions of a part of a subnet.
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
    /// The positions from `from` to before `end`, of which these are taken or reserved, in any order and repeatedly.
    pub(crate) fn new(from: u128, end: u128, mut taken: Vec<u128>) -> Self {
        taken.retain(|at| (from..end).contains(at));
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_picks_every_free_position_and_no_other(
            taken in proptest::collection::btree_set(0_u128..253, 0..253),
            reserved in proptest::collection::btree_set(0_u128..253, 0..20),
            candidate in 0_u128..253,
        ) {
            let from = window_start(253, candidate);
            let end = from + WINDOW;
            prop_assert!(from <= candidate && candidate < end && end <= 253);
            let window = Window::new(from, end, taken.iter().chain(&reserved).copied().collect());
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
        let mut hits = [0_u32; 16];
        for seed in 0..16_000 {
            let first = first(65_533, seed);
            let different: BTreeSet<_> = first.iter().collect();
            assert_eq!(different.len(), first.len());
            hits[usize::try_from(mix(seed, 0) % 16).expect("small")] += 1;
        }
        assert_eq!(super::first(1, 7), [0]);
        // 1000 expected each; 5 standard deviations are about 150.
        assert!(hits.iter().all(|hits| (850..1150).contains(hits)), "{hits:?}");
    }
}
