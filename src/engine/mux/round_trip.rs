//! How long the way to the peer and back is: the way itself, without what waits on it.

use std::time::{Duration, Instant};

use super::trial::Probed;
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
    probe: Option<Box<Probe>>,
}

/// Round trips of a probe that goes on.
#[derive(Debug)]
struct Probe {
    count: u8,
    least: Duration,
    most: Duration,
}

/// A way that was longer for all of this time may have become longer, or is never empty. A probe takes
/// some round trips in which little is received.
const DOUBT: Duration = Duration::from_secs(60);

/// So many round trips, all alike, are no accident.
const ENOUGH: u8 = 3;

/// What was seen so long ago says nothing of now.
const STALE: Duration = Duration::from_secs(5);

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { measured: None }
    }

    /// One more; if it `is_probe`, windows were small for the sake of it when it began.
    pub(super) fn note(&mut self, round_trip: Duration, is_probe: bool, now: Instant) {
        let Some(known) = &mut self.measured else {
            let (base, smooth, at) = (round_trip, round_trip, now);
            self.measured = Some(Measured { base, smooth, at, far: None, probe: None });
            return;
        };
        if STALE <= now.saturating_duration_since(known.at) {
            (known.smooth, known.far) = (round_trip, None);
        }
        known.at = now;
        known.smooth = (known.smooth * 3 + round_trip) / 4;
        known.base = known.base.min(round_trip);
        known.far = if is_near(known.base, round_trip) { None } else { known.far.or(Some(now)) };
        if is_probe {
            known.probe.get_or_insert_with(|| Box::new(Probe::NEW)).note(round_trip);
        }
    }

    /// Nobody has seen the way as it was for long: a probe would show what it is, until it has.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        let Some(known) = &self.measured else { return false };
        match (&known.probe, known.far) {
            (Some(probe), _) => probe.count < ENOUGH,
            (None, far) => far.is_some_and(|since| DOUBT <= now.saturating_duration_since(since)),
        }
    }

    /// A probe is over. If nothing waited on the way, it is as long as it was seen to be; round trips
    /// that differ have waited for what was sent again.
    pub(super) fn conclude(&mut self, probed: Probed, now: Instant) {
        let Some(known) = &mut self.measured else { return };
        if let Some(probe) = known.probe.take()
            && probed == Probed::Empty
            && probe.agrees()
        {
            known.base = probe.least;
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

    /// It was measured not long ago, or the answer is still on its way.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        let fresh = |known: &Measured| {
            now.saturating_duration_since(known.at) < STALE.max(known.smooth * 2)
        };
        self.measured.as_ref().is_some_and(fresh)
    }

    /// More waits on the way than windows of the right size let wait.
    pub(super) fn is_congested(&self, slack: Duration) -> bool {
        let queues = |known: &Measured| (known.base + slack) * 2 < known.smooth;
        self.measured.as_ref().is_some_and(queues)
    }
}

impl Probe {
    const NEW: Self = Self { count: 0, least: Duration::MAX, most: Duration::ZERO };

    fn note(&mut self, round_trip: Duration) {
        self.least = self.least.min(round_trip);
        self.most = self.most.max(round_trip);
        self.count = self.count.saturating_add(1);
    }

    fn agrees(&self) -> bool {
        ENOUGH <= self.count && is_near(self.least, self.most)
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

    /// Of a way of 20 ms which has taken 50 for a minute.
    fn doubted() -> (RoundTrip, Instant) {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.note(ms(20), false, now);
        for _ in 0..60 {
            now += ms(1000);
            assert!(!round_trip.wants_probe(now));
            round_trip.note(ms(50), false, now);
        }
        now += ms(1000);
        assert!(round_trip.wants_probe(now) && round_trip.base() == Some(ms(20)));
        (round_trip, now)
    }

    #[test]
    fn what_a_probe_saw_of_an_empty_way_counts_if_it_agrees_with_itself() {
        for (probed, seen, base) in [
            (Probed::Empty, &[55, 48, 60][..], 48),
            (Probed::Empty, &[55, 48, 90], 20),
            (Probed::Empty, &[48, 48], 20),
            (Probed::Nothing, &[55, 48, 60], 20),
        ] {
            let (mut round_trip, now) = doubted();
            for seen in seen {
                assert!(round_trip.wants_probe(now));
                round_trip.note(ms(*seen), true, now);
            }
            assert_eq!(round_trip.wants_probe(now), seen.len() < 3);
            round_trip.conclude(probed, now);
            assert_eq!(round_trip.base(), Some(ms(base)), "{probed:?} {seen:?}");
            assert!(!round_trip.wants_probe(now), "not again at once");
            round_trip.note(ms(60), true, now);
            round_trip.conclude(Probed::Empty, now);
            assert_eq!(
                round_trip.base(),
                Some(ms(base)),
                "what was seen before has been forgotten"
            );
        }
    }

    #[test]
    fn a_way_that_was_taken_for_longer_than_it_is_is_as_short_as_a_probe_finds_it() {
        let (mut round_trip, now) = doubted();
        (0..3).for_each(|_| round_trip.note(ms(88), true, now));
        round_trip.conclude(Probed::Empty, now);
        assert_eq!(round_trip.base(), Some(ms(88)));
        round_trip.note(ms(25), true, now);
        round_trip.conclude(Probed::Nothing, now);
        assert_eq!(round_trip.base(), Some(ms(25)));
    }

    #[test]
    fn what_is_long_ago_says_nothing() {
        let (mut round_trip, now) = doubted();
        round_trip.note(ms(900), false, now);
        assert!(round_trip.is_congested(WINDOW_SLACK) && round_trip.is_fresh(now + STALE - ms(1)));
        assert!(!round_trip.is_fresh(now + STALE));
        round_trip.note(ms(30), false, now + STALE);
        assert!(!round_trip.is_congested(WINDOW_SLACK), "as if it were the first");
        round_trip.note(ms(60), false, now + STALE);
        assert!(!round_trip.wants_probe(now + DOUBT));
        // An answer may take longer than that.
        (0..20).for_each(|_| round_trip.note(ms(4000), false, now + STALE));
        assert!(round_trip.is_fresh(now + STALE + ms(7000)));
    }

    #[test]
    fn one_good_moment_shows_that_the_way_is_the_same() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.note(ms(20), false, now);
        for count in 0..100 {
            now += ms(1000);
            round_trip.note(ms(if count % 8 == 0 { 25 } else { 900 }), false, now);
            assert!(!round_trip.wants_probe(now));
        }
    }
}
