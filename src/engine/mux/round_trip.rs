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
    /// The least that was seen since `since`, none of it near `base`.
    recent: Option<(Instant, Duration)>,
}

/// A way that was longer for all of this time has become longer.
const CHANGE: Duration = Duration::from_secs(30);

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { measured: None }
    }

    pub(super) fn note(&mut self, round_trip: Duration, now: Instant) {
        let Some(known) = &mut self.measured else {
            self.measured =
                Some(Measured { base: round_trip, smooth: round_trip, at: now, recent: None });
            return;
        };
        known.at = now;
        known.smooth = (known.smooth * 3 + round_trip) / 4;
        known.base = known.base.min(round_trip);
        // What windows of the right size let wait stays below this.
        if round_trip < known.base * 3 + WINDOW_SLACK * 4 {
            known.recent = None;
            return;
        }
        let (since, least) = known.recent.unwrap_or((now, round_trip));
        let least = least.min(round_trip);
        if CHANGE <= now.saturating_duration_since(since) {
            (known.base, known.recent) = (least, None);
        } else {
            known.recent = Some((since, least));
        }
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
    fn one_good_moment_shows_that_the_way_is_the_same() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.note(ms(20), now);
        for count in 0..100 {
            now += ms(1000);
            round_trip.note(ms(if count % 8 == 0 { 25 } else { 900 }), now);
        }
        assert_eq!(round_trip.base(), Some(ms(20)));
    }
}
