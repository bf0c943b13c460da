//! The one mechanism for retries: exponential delays with full jitter.

use std::time::Duration;

/// How long to wait before the next attempt: a random time below a ceiling that doubles with each
/// failure, between `first` and `most` (full jitter, so that many agents do not return at once).
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// The first ceiling is `first`, the last is `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// An attempt has failed: how long to wait, given `random` bits.
    pub fn failed(&mut self, random: u64) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
        let floor = u64::try_from(self.first.as_millis()).unwrap_or(u64::MAX) / 2;
        Duration::from_millis(floor.max(random % (millis + 1)))
    }

    /// An attempt has succeeded and lasted: the next failure starts from the beginning.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_ceiling_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            last = backoff.failed(u64::MAX - 1);
            assert!(Duration::from_millis(250) <= last && last <= Duration::from_secs(30));
        }
        assert!(Duration::ZERO < last);
        backoff.succeeded();
        assert!(backoff.failed(7_777_777) <= Duration::from_millis(500));
    }
}
