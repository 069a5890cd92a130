//! Seeded mutations of a corpus, for the tests that run a fuzz target's function without a fuzzer.
//!
//! A fuzz target needs a nightly compiler; its function does not. The ordinary tests call the same function with every text of
//! the corpus and with a bounded number of mutations, so that a fresh clone with stable cargo runs it.

/// Splitmix64: spreads mutations well enough, and gives the same sequence on every machine.
pub struct Mutator {
    state: u64,
}

/// Pieces that parsers often handle wrongly.
const PIECES: [&[u8]; 15] = [
    b"null",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"-9223372036854775808",
    b"\"\"",
    b"[]",
    b"{}",
    b"true",
    b"\"\\ud800\"",
    b"\xff",
    b",",
    b"{\"type\":",
    b"/",
    b"%2f",
];

impl Mutator {
    /// A mutator with the seed of `AT_SEED`, or with `seed`. Prints the seed, so that a failure can be repeated.
    #[expect(clippy::print_stdout, reason = "the runner shows the output of a failed test")]
    pub fn seeded(seed: u64) -> Self {
        let state = std::env::var("AT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
        println!("AT_SEED={state}");
        Self { state }
    }

    /// A number below `limit`, or 0.
    ///
    /// # Panics
    ///
    /// Never: a remainder of a `usize` fits into one.
    pub fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (limit.max(1) as u64)).expect("a remainder of a usize")
    }

    /// A text of the corpus after one to `most` mutations. `pieces`: further pieces to insert.
    pub fn mutation(&mut self, corpus: &[&[u8]], pieces: &[&[u8]], most: usize) -> Vec<u8> {
        let mut text = corpus[self.below(corpus.len())].to_vec();
        for _ in 0..=self.below(most) {
            self.mutate(&mut text, corpus, pieces);
        }
        text
    }

    fn mutate(&mut self, text: &mut Vec<u8>, corpus: &[&[u8]], pieces: &[&[u8]]) {
        let at = self.below(text.len());
        match self.below(7) {
            0 if self.below(4) == 0 => text.truncate(at),
            0 | 1 if !text.is_empty() => text[at] = self.below(256).to_le_bytes()[0],
            2 => {
                let piece = self.below(PIECES.len() + pieces.len());
                let piece = PIECES.get(piece).or_else(|| pieces.get(piece - PIECES.len())).copied().unwrap_or_default();
                drop(text.splice(at..at, piece.iter().copied()));
            }
            3 if !text.is_empty() => drop(text.drain(at..(at + self.below(8)).min(text.len()))),
            // A part of another text, inserted or appended.
            4 | 5 => {
                let other = corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                let part = &other[from..(from + self.below(400)).min(other.len())];
                let at = if self.below(2) == 0 { at } else { text.len() };
                drop(text.splice(at..at, part.iter().copied()));
            }
            // A part of the same text, repeated.
            _ => {
                let part = text[at..(at + self.below(300)).min(text.len())].to_vec();
                text.extend_from_slice(&part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence() {
        let corpus: [&[u8]; 2] = [b"{\"a\":1}", b"[]"];
        let sequence = || {
            let mut mutator = Mutator { state: 7 };
            (0..100).map(|_| mutator.mutation(&corpus, &[b"x"], 4)).collect::<Vec<_>>()
        };
        assert_eq!(sequence(), sequence());
        assert!(sequence().iter().any(|text| !corpus.contains(&text.as_slice())));
    }
}
