//! How long the way to the peer and back is: the way itself, without what waits on it.

use std::time::{Duration, Instant};

use crate::limits::WINDOW_SLACK;

/// What pings have shown so far.
#[derive(Debug)]
pub(super) struct RoundTrip {
    measured: Option<Measured>,
}

#[derive(Debug)]
struct Measured {
    /// The way alone.
    base: Duration,
    /// One quarter of it is the last: TCP's eighth (RFC 6298, 2.3) is slow where a round trip takes long.
    smooth: Duration,
    at: Instant,
    /// Since when none was near `base`.
    far: Option<Instant>,
    /// The shortest and the longest of a probe that goes on.
    probed: Option<(Duration, Duration)>,
}

/// A way that was longer for all of this time may have become longer, or is never empty.
const DOUBT: Duration = Duration::from_secs(30);

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { measured: None }
    }

    /// One more; if it `is_probe`, windows are small for the sake of it.
    pub(super) fn note(&mut self, round_trip: Duration, is_probe: bool, now: Instant) {
        let Some(known) = &mut self.measured else {
            let (base, smooth, at) = (round_trip, round_trip, now);
            self.measured = Some(Measured { base, smooth, at, far: None, probed: None });
            return;
        };
        known.at = now;
        known.smooth = (known.smooth * 3 + round_trip) / 4;
        known.base = known.base.min(round_trip);
        known.far = if is_near(known.base, round_trip) { None } else { known.far.or(Some(now)) };
        if is_probe {
            let (least, most) = known.probed.unwrap_or((round_trip, round_trip));
            known.probed = Some((least.min(round_trip), most.max(round_trip)));
        }
    }

    /// Nobody has seen the way as it was for long: a probe would show what it is.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        let far = self.measured.as_ref().and_then(|known| known.far);
        far.is_some_and(|since| DOUBT <= now.saturating_duration_since(since))
    }

    /// A probe is over. If it `is_empty`, nothing waited on the way at the end: it is as long as it
    /// was seen to be. Round trips that differ have waited for what was sent again.
    pub(super) fn conclude(&mut self, is_empty: bool, now: Instant) {
        let Some(known) = &mut self.measured else { return };
        if let Some((least, most)) = known.probed.take()
            && is_empty
            && is_near(least, most)
        {
            known.base = least;
        }
        known.far = Some(now);
    }

    /// It should be measured again if it is `old`.
    pub(super) fn is_due(&self, old: Duration, now: Instant) -> bool {
        let fresh = |known: &Measured| now.saturating_duration_since(known.at) < old;
        !self.measured.as_ref().is_some_and(fresh)
    }

    /// The way alone; `None` before the first measurement.
    pub(super) fn base(&self) -> Option<Duration> {
        self.measured.as_ref().map(|known| known.base)
    }

    /// With what waits on the way, smoothed; `None` before the first measurement.
    pub(super) fn smooth(&self) -> Option<Duration> {
        self.measured.as_ref().map(|known| known.smooth)
    }

    /// More waits on the way than windows of the right size let wait.
    pub(super) fn is_congested(&self, slack: Duration) -> bool {
        let queues = |known: &Measured| (known.base + slack) * 2 < known.smooth;
        self.measured.as_ref().is_some_and(queues)
    }
}

/// So much longer is a way now and then.
fn is_near(base: Duration, round_trip: Duration) -> bool {
    round_trip <= base + base / 4 + WINDOW_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_shortest_counts_and_is_measured_again_when_it_is_old() {
        let now = Instant::now();
        let mut round_trip = RoundTrip::new();
        assert!(round_trip.is_due(ms(1000), now) && !round_trip.is_congested(WINDOW_SLACK));
        round_trip.note(ms(30), false, now);
        round_trip.note(ms(20), false, now);
        assert_eq!(
            (round_trip.base(), round_trip.is_congested(WINDOW_SLACK)),
            (Some(ms(20)), false)
        );
        let due = |after| round_trip.is_due(ms(1000), now + ms(after));
        assert!(!due(999) && due(1000));
    }

    #[test]
    fn a_way_that_was_longer_for_long_is_doubted_and_what_a_probe_saw_of_an_empty_one_counts() {
        let seen = [(true, 60, 48), (false, 60, 20), (true, 90, 20)];
        for (is_empty, most, base) in seen {
            let mut now = Instant::now();
            let mut round_trip = RoundTrip::new();
            round_trip.note(ms(20), false, now);
            for _ in 0..30 {
                now += ms(1000);
                assert!(!round_trip.is_doubtful(now));
                round_trip.note(ms(50), false, now);
            }
            now += ms(1000);
            assert!(round_trip.is_doubtful(now) && round_trip.base() == Some(ms(20)));
            for seen in [55, 48, most] {
                round_trip.note(ms(seen), true, now);
            }
            round_trip.conclude(is_empty, now);
            assert_eq!(round_trip.base(), Some(ms(base)));
            assert!(!round_trip.is_doubtful(now), "not again at once");
            // What was seen in that probe is of no use in the next.
            round_trip.conclude(true, now);
            assert_eq!(round_trip.base(), Some(ms(base)));
        }
    }

    #[test]
    fn one_good_moment_shows_that_the_way_is_the_same() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.note(ms(20), false, now);
        for count in 0..100 {
            now += ms(1000);
            round_trip.note(ms(if count % 8 == 0 { 25 } else { 900 }), false, now);
            assert!(!round_trip.is_doubtful(now));
        }
    }
}
