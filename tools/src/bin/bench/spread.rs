//! Samples of one quantity, and their median and tenths. Pure.

use serde::Serialize;

/// The summary of samples: the middle, and where the lowest and the highest tenth begin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) p10: f64,
    pub(crate) p90: f64,
    pub(crate) samples: usize,
}

impl Spread {
    /// There are no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted.get((sorted.len().checked_sub(1)? * percent + 50) / 100).copied();
        Some(Self { median: at(50)?, p10: at(10)?, p90: at(90)?, samples: sorted.len() })
    }

    /// One number that does not vary.
    pub(crate) fn exactly(number: f64) -> Self {
        Self { median: number, p10: number, p90: number, samples: 1 }
    }
}

/// The mean: for counts, where "1.5 on average" is the target.
pub(crate) fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / u32::try_from(samples.len()).map_or(f64::NAN, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_tenths_in_any_order() {
        let mut samples: Vec<f64> = (0..=100).map(f64::from).collect();
        samples.reverse();
        let spread = Spread::of(&samples).expect("samples");
        assert_eq!((spread.p10, spread.median, spread.p90, spread.samples), (10.0, 50.0, 90.0, 101));
        assert_eq!(Spread::of(&[7.0]).map(|one| (one.p10, one.p90)), Some((7.0, 7.0)));
        assert_eq!(Spread::of(&[]), None);
        assert!((mean(&[1.0, 2.0]) - 1.5).abs() < 1e-9);
    }
}
