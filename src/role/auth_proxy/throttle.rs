//! What one session may cost before it has proved anything: refused credentials, and signatures
//! to verify.

use std::time::{Duration, Instant};

use crate::limits::{REFUSAL_NOTE_REFILL, REFUSAL_NOTES, REFUSAL_REFILL, REFUSALS, VERIFICATIONS};

/// How much a session may try.
#[derive(Clone, Copy, Debug)]
pub struct Guesses {
    /// Refused credentials in a row; one more every three seconds.
    pub refusals: u32,
    /// Credentials to verify in a second.
    pub verifications: u32,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { refusals: REFUSALS, verifications: VERIFICATIONS }
    }
}

/// Both allowances of a session.
#[derive(Debug)]
pub(super) struct Throttle {
    refusals: Bucket,
    verifications: Bucket,
    notes: Bucket,
    /// Refusals that were not written down since the last one that was.
    left_out: u64,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u32,
    most: u32,
    each: Duration,
    refilled: Instant,
}

impl Throttle {
    pub(super) fn new(guesses: Guesses, now: Instant) -> Self {
        let Guesses { refusals, verifications } = guesses;
        let each = Duration::from_secs(1) / verifications.max(1);
        Self {
            refusals: Bucket::new(refusals, REFUSAL_REFILL, now),
            verifications: Bucket::new(verifications, each, now),
            notes: Bucket::new(REFUSAL_NOTES, REFUSAL_NOTE_REFILL, now),
            left_out: 0,
        }
    }

    /// Whether one more credential may be looked at now.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        self.refusals.refill(now);
        self.refusals.left > 0 && self.verifications.take(now)
    }

    /// Whether one more refusal may be written down, and how many were not since the last.
    pub(super) fn may_note(&mut self, now: Instant) -> Option<u64> {
        if self.notes.take(now) {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }

    /// A credential was refused.
    pub(super) fn on_refused(&mut self, now: Instant) {
        self.refusals.take(now);
    }
}

impl Bucket {
    pub(super) const fn new(most: u32, each: Duration, now: Instant) -> Self {
        Self { left: most, most, each, refilled: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_nanos();
        let earned = passed / self.each.as_nanos().max(1);
        let room = self.most - self.left;
        match u32::try_from(earned) {
            Ok(earned) if earned < room => {
                self.left += earned;
                self.refilled += self.each * earned;
            }
            Ok(_) | Err(_) => {
                self.left = self.most;
                self.refilled = now;
            }
        }
    }

    /// Nothing of it has been used lately.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left == self.most
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_written_down_in_part_and_counted_in_full() {
        let now = Instant::now();
        let mut throttle = Throttle::new(Guesses::default(), now);
        for _ in 0..REFUSAL_NOTES {
            assert_eq!(throttle.may_note(now), Some(0));
        }
        for _ in 0..10_000 {
            assert_eq!(throttle.may_note(now), None);
        }
        assert_eq!(throttle.may_note(now + REFUSAL_NOTE_REFILL), Some(10_000));
    }

    #[test]
    fn a_flood_of_refused_credentials_is_no_longer_looked_at_until_time_has_passed() {
        let now = Instant::now();
        let mut throttle = Throttle::new(Guesses::default(), now);
        for _ in 0..REFUSALS {
            assert!(throttle.admits(now));
            throttle.on_refused(now);
        }
        assert!(!throttle.admits(now));
        assert!(!throttle.admits(now + REFUSAL_REFILL / 2));
        assert!(throttle.admits(now + REFUSAL_REFILL));
        throttle.on_refused(now + REFUSAL_REFILL);
        assert!(!throttle.admits(now + REFUSAL_REFILL));
        let rested = now + REFUSAL_REFILL * REFUSALS * 2;
        assert!((0..REFUSALS).all(|_| throttle.admits(rested)));
    }

    #[test]
    fn good_credentials_are_verified_up_to_a_rate() {
        let now = Instant::now();
        let mut throttle = Throttle::new(Guesses::default(), now);
        assert!((0..VERIFICATIONS).all(|_| throttle.admits(now)));
        assert!(!throttle.admits(now));
        assert!(throttle.admits(now + Duration::from_secs(1)));
    }
}
