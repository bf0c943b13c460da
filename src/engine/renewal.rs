//! When a credential is asked for again: at about 80 % of its life, so that there is time to fail,
//! and at a random point around that, so that many clients do not come at once. A refresh that
//! fails cuts nothing; it is tried again until the credential has truly ended.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// The schedule of one credential.
#[derive(Clone, Debug)]
pub struct Renewal {
    due: Instant,
    ends: Instant,
    backoff: Backoff,
}

impl Renewal {
    /// A credential that came `now` and lives for `life`.
    #[must_use]
    pub fn new(now: Instant, life: Duration, random: u64) -> Self {
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX / 100);
        // From 75 % to 85 %.
        let spread = millis / 10;
        let wait = (millis / 4).saturating_mul(3).saturating_add(random % spread.saturating_add(1));
        Self {
            due: now + Duration::from_millis(wait),
            ends: now + life,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
        }
    }

    /// A credential of which a part of its life is over: it came from another process, or out of a
    /// file.
    #[must_use]
    pub fn resumed(now: Instant, elapsed: Duration, life: Duration, random: u64) -> Self {
        let new = Self::new(now, life, random);
        let sooner = |at: Instant| at.checked_sub(elapsed).unwrap_or(now).max(now);
        Self { due: sooner(new.due), ends: sooner(new.ends), ..new }
    }

    /// When to ask again.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// When the credential ends, whatever happens.
    #[must_use]
    pub const fn ends(&self) -> Instant {
        self.ends
    }

    /// The credential can still be used.
    #[must_use]
    pub fn is_good(&self, now: Instant) -> bool {
        now < self.ends
    }

    /// Asking has failed; it is due again after a while, also past the end.
    pub fn failed(&mut self, now: Instant, random: u64) {
        self.due = now + self.backoff.failed(random);
    }
}

const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn it_is_due_around_four_fifths_of_its_life() {
        let now = Instant::now();
        for random in [0, 1, u64::MAX / 3, u64::MAX] {
            let wait = Renewal::new(now, HOUR, random).due() - now;
            assert!(HOUR.mul_f64(0.75) <= wait && wait <= HOUR.mul_f64(0.85), "{wait:?}");
        }
        let (a, b) = (Renewal::new(now, HOUR, 1), Renewal::new(now, HOUR, 100_001));
        assert!(a.due() != b.due());
    }

    #[test]
    fn failing_cuts_nothing_before_the_end_and_goes_on_after_it() {
        let now = Instant::now();
        let mut renewal = Renewal::new(now, HOUR, 0);
        let mut at = renewal.due();
        for round in 0..200_u64 {
            renewal.failed(at, round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(at < renewal.due() && renewal.due() - at <= LAST_RETRY);
            assert_eq!(renewal.is_good(at), at < now + HOUR);
            at = renewal.due();
        }
        assert_eq!(renewal.ends(), now + HOUR);
        assert!(!renewal.is_good(now + HOUR));
    }

    #[test]
    fn a_credential_that_is_taken_over_keeps_its_end() {
        let now = Instant::now();
        let renewal = Renewal::resumed(now, HOUR / 2, HOUR, 0);
        assert_eq!((renewal.due() - now, renewal.ends() - now), (HOUR / 4, HOUR / 2));
        let late = Renewal::resumed(now, HOUR.mul_f64(0.9), HOUR, 0);
        assert_eq!(late.due(), now);
        assert!(late.is_good(now));
        for elapsed in [HOUR, 1000 * HOUR, Duration::MAX] {
            assert!(!Renewal::resumed(now, elapsed, HOUR, 0).is_good(now));
        }
    }

    #[test]
    fn a_credential_without_life_is_due_at_once() {
        let now = Instant::now();
        let renewal = Renewal::new(now, Duration::ZERO, 5);
        assert_eq!(renewal.due(), now);
        assert!(!renewal.is_good(now));
    }
}
