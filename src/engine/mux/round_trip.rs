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
    /// Since when none was near `base`, the least of that time, and whether all were near each other.
    recent: Option<(Instant, Duration, bool)>,
}

/// What was seen so long ago says nothing of what waits on the way now.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// A way that was longer for all of this time has become longer.
const CHANGE: Duration = Duration::from_secs(30);

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { measured: None }
    }

    /// A ping was answered. Returns whether the one before it is too long ago to be compared with.
    pub(super) fn note(&mut self, round_trip: Duration, now: Instant) -> bool {
        let Some(known) = &mut self.measured else {
            self.measured =
                Some(Measured { base: round_trip, smooth: round_trip, at: now, recent: None });
            return false;
        };
        // Who waits for a slow answer has not been silent.
        let is_stale = known.is_stale(now.checked_sub(round_trip).unwrap_or(now));
        known.at = now;
        known.smooth = if is_stale { round_trip } else { (known.smooth * 3 + round_trip) / 4 };
        known.base = known.base.min(round_trip);
        // What windows of the right size let wait stays below this.
        if round_trip < known.base * 3 + WINDOW_SLACK * 4 {
            known.recent = None;
            return is_stale;
        }
        let (since, least, agree) = known.recent.unwrap_or((now, round_trip, true));
        let (least, most) = (least.min(round_trip), least.max(round_trip));
        // Round trips that differ wait for what is sent again, and now and then not.
        let agree = agree && most <= least + least / 4 + WINDOW_SLACK;
        known.recent = Some((since, least, agree));
        if CHANGE <= now.saturating_duration_since(since) {
            known.recent = None;
            known.base = if agree { least } else { known.base };
        }
        is_stale
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

    /// It was measured not long ago, or the answer may still be on its way.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.measured.as_ref().is_some_and(|known| !known.is_stale(now))
    }

    /// More waits on the way than windows of the right size let wait.
    pub(super) fn is_congested(&self, slack: Duration) -> bool {
        let queues = |known: &Measured| (known.base + slack) * 2 < known.smooth;
        self.measured.as_ref().is_some_and(queues)
    }
}

impl Measured {
    fn is_stale(&self, now: Instant) -> bool {
        STALE.max(self.smooth * 2) <= now.saturating_duration_since(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_shortest_counts_and_a_queue_is_told_from_a_longer_way() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        assert!(round_trip.is_due(ms(1000), now) && !round_trip.is_congested(WINDOW_SLACK));
        round_trip.note(ms(30), now);
        round_trip.note(ms(20), now);
        assert_eq!(
            (round_trip.base(), round_trip.is_congested(WINDOW_SLACK)),
            (Some(ms(20)), false)
        );
        let due = |after| round_trip.is_due(ms(1000), now + ms(after));
        assert!(!due(999) && due(1000));
        // Our own queue, for however long.
        for _ in 0..60 {
            now += ms(1000);
            round_trip.note(ms(60), now);
        }
        assert_eq!(
            (round_trip.base(), round_trip.is_congested(WINDOW_SLACK)),
            (Some(ms(20)), true)
        );
        for _ in 0..30 {
            now += ms(1000);
            round_trip.note(ms(200), now);
            assert_eq!(round_trip.base(), Some(ms(20)));
        }
        now += ms(1000);
        round_trip.note(ms(210), now);
        assert_eq!(
            (round_trip.base(), round_trip.is_congested(WINDOW_SLACK)),
            (Some(ms(200)), false)
        );
    }

    #[test]
    fn what_is_long_ago_says_nothing_of_what_waits_now() {
        let (mut round_trip, now) = (RoundTrip::new(), Instant::now());
        assert!(!round_trip.is_fresh(now));
        for seen in [20, 900] {
            assert!(!round_trip.note(ms(seen), now));
        }
        assert!(round_trip.is_congested(WINDOW_SLACK));
        assert!(round_trip.is_fresh(now + STALE - ms(1)) && !round_trip.is_fresh(now + STALE));
        let later = now + STALE + ms(30);
        assert!(round_trip.note(ms(30), later));
        assert!(!round_trip.is_congested(WINDOW_SLACK), "as if it were the first");
        // An answer may take longer than that.
        assert!(!round_trip.note(STALE * 2, later + STALE * 2));
        assert!(round_trip.is_congested(WINDOW_SLACK) && round_trip.smooth() < Some(STALE));
        (0..20).for_each(|_| assert!(!round_trip.note(ms(4000), later + STALE * 2)));
        assert!(round_trip.is_fresh(later + STALE * 2 + ms(7000)));
    }

    #[test]
    fn one_good_moment_shows_that_the_way_is_the_same_and_so_do_those_that_differ() {
        for (now_and_then, mostly) in [(25, 900), (150, 200)] {
            let mut now = Instant::now();
            let mut round_trip = RoundTrip::new();
            round_trip.note(ms(20), now);
            for count in 0..100 {
                now += ms(1000);
                round_trip.note(ms(if count % 8 == 0 { now_and_then } else { mostly }), now);
            }
            assert_eq!(round_trip.base(), Some(ms(20)), "{now_and_then} {mostly}");
        }
    }
}
