//! Bytes that may be moved, earned by time.

use std::time::{Duration, Instant};

use crate::limits::{PROBE_REST, PROBE_SAVED};

/// A bucket of bytes that fills at a rate and may be overdrawn once.
#[derive(Debug)]
pub struct Allowance {
    /// Bytes per second.
    rate: u64,
    left: i128,
    most: i128,
    filled: Instant,
}

impl Allowance {
    /// A full one.
    #[must_use]
    pub fn new(rate: u64, now: Instant) -> Self {
        let most = earned(rate, PROBE_SAVED);
        Self { rate, left: most, most, filled: now }
    }

    /// Something may be moved now.
    pub fn is_open(&mut self, now: Instant) -> bool {
        self.left = self
            .left
            .saturating_add(earned(self.rate, now.saturating_duration_since(self.filled)))
            .min(self.most);
        self.filled = self.filled.max(now);
        0 < self.left
    }

    /// `count` bytes are moved.
    pub fn spend(&mut self, count: u64) {
        self.left = self.left.saturating_sub(i128::from(count));
    }

    /// When an allowance that is used up is worth looking at again.
    #[must_use]
    pub fn opens_at(&self) -> Instant {
        let missing = u128::try_from(1_i128.saturating_sub(self.left)).unwrap_or_default();
        let nanos = missing.saturating_mul(1_000_000_000).div_ceil(u128::from(self.rate.max(1)));
        let rest = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.filled + rest.clamp(PROBE_REST, Duration::from_secs(3600))
    }
}

/// Bytes in nanobytes' worth of time would overflow 64 bits at a high rate.
fn earned(rate: u64, time: Duration) -> i128 {
    let whole = u128::from(rate).saturating_mul(time.as_nanos()) / 1_000_000_000;
    i128::try_from(whole).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_in_the_long_run_is_the_rate() {
        let start = Instant::now();
        let mut allowance = Allowance::new(1_000_000, start);
        let (mut now, mut moved) = (start, 0);
        while now < start + Duration::from_secs(10) {
            if allowance.is_open(now) {
                allowance.spend(30_000);
                moved += 30_000;
            } else {
                assert!(now < allowance.opens_at());
                now = allowance.opens_at();
            }
        }
        // What was saved up at the start, and the last piece.
        assert!((10_000_000..=10_080_000).contains(&moved), "{moved}");
    }

    #[test]
    fn what_is_not_used_is_not_saved_up_for_ever() {
        let start = Instant::now();
        let mut allowance = Allowance::new(1_000_000, start);
        assert!(allowance.is_open(start + Duration::from_secs(3600)));
        allowance.spend(50_000);
        assert!(!allowance.is_open(start + Duration::from_secs(3600)));
        assert!(allowance.is_open(start + Duration::from_secs(3600) + PROBE_REST));
    }

    #[test]
    fn a_rate_beyond_all_measure_does_no_harm() {
        let now = Instant::now();
        for rate in [0, 1, u64::MAX] {
            let mut allowance = Allowance::new(rate, now);
            allowance.spend(u64::MAX);
            assert!(!allowance.is_open(now) || rate == u64::MAX);
            assert!(now < allowance.opens_at());
            allowance.is_open(now + Duration::from_secs(1_000_000_000));
        }
    }
}
