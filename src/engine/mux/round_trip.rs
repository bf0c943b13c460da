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
    /// The shortest of all.
    shortest: Duration,
    probe: Option<Box<Probe>>,
}

/// Round trips of a probe that goes on.
#[derive(Debug, Default)]
struct Probe {
    count: u8,
    least: Duration,
    most: Duration,
}

/// A way that was longer for all of this time may have become longer, or is never empty.
const DOUBT: Duration = Duration::from_secs(30);

/// So many round trips that are alike are no accident.
const ENOUGH: u8 = 3;

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { measured: None }
    }

    /// One more; if it `is_probe`, windows were small for the sake of it when it began.
    pub(super) fn note(&mut self, round_trip: Duration, is_probe: bool, now: Instant) {
        let Some(known) = &mut self.measured else {
            let (base, smooth, at, shortest) = (round_trip, round_trip, now, round_trip);
            self.measured = Some(Measured { base, smooth, at, far: None, shortest, probe: None });
            return;
        };
        known.at = now;
        known.smooth = (known.smooth * 3 + round_trip) / 4;
        known.base = known.base.min(round_trip);
        known.shortest = known.shortest.min(round_trip);
        known.far = if is_near(known.base, round_trip) { None } else { known.far.or(Some(now)) };
        if is_probe {
            known.probe.get_or_insert_default().note(round_trip);
        }
    }

    /// Nobody has seen the way as it was for long: a probe would show what it is. Where round trips
    /// are known to be long for another reason, that is less likely, and so takes longer.
    pub(super) fn is_doubtful(&self, has_reason: bool, now: Instant) -> bool {
        let far = self.measured.as_ref().and_then(|known| known.far);
        let doubt = if has_reason { DOUBT * 4 } else { DOUBT };
        far.is_some_and(|since| doubt <= now.saturating_duration_since(since))
    }

    /// A probe is over. If nothing waited on the way, it is as long as it was seen to be; round trips
    /// that differ have waited for what was sent again. If something did, it is shorter than it was
    /// taken for, unless it never was shorter.
    pub(super) fn conclude(&mut self, probed: Probed, now: Instant) {
        let Some(known) = &mut self.measured else { return };
        let probe = known.probe.take().filter(|probe| probe.agrees());
        match probed {
            Probed::Empty => known.base = probe.map_or(known.base, |probe| probe.least),
            Probed::Queue => known.base = (known.base / 2).max(known.shortest),
            Probed::Nothing => (),
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

impl Probe {
    fn note(&mut self, round_trip: Duration) {
        self.least = if self.count == 0 { round_trip } else { self.least.min(round_trip) };
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

    /// Of a way of 20 ms which has taken 50 for half a minute.
    fn doubted() -> (RoundTrip, Instant) {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new();
        round_trip.note(ms(20), false, now);
        for _ in 0..30 {
            now += ms(1000);
            assert!(!round_trip.is_doubtful(false, now));
            round_trip.note(ms(50), false, now);
        }
        now += ms(1000);
        assert!(round_trip.is_doubtful(false, now) && round_trip.base() == Some(ms(20)));
        assert!(
            !round_trip.is_doubtful(true, now) && round_trip.is_doubtful(true, now + DOUBT * 3)
        );
        (round_trip, now)
    }

    #[test]
    fn what_a_probe_saw_of_an_empty_way_counts_if_it_agrees_with_itself() {
        for (probed, seen, base) in [
            (Probed::Empty, &[55, 48, 60][..], 48),
            (Probed::Empty, &[55, 48, 90], 20),
            (Probed::Empty, &[48, 48], 20),
            (Probed::Queue, &[55, 48, 60], 20),
            (Probed::Nothing, &[55, 48, 60], 20),
        ] {
            let (mut round_trip, now) = doubted();
            for seen in seen {
                round_trip.note(ms(*seen), true, now);
            }
            round_trip.conclude(probed, now);
            assert_eq!(round_trip.base(), Some(ms(base)), "{probed:?} {seen:?}");
            assert!(!round_trip.is_doubtful(false, now), "not again at once");
            round_trip.note(ms(70), true, now);
            round_trip.conclude(Probed::Empty, now);
            assert_eq!(
                round_trip.base(),
                Some(ms(base)),
                "what was seen before has been forgotten"
            );
        }
    }

    #[test]
    fn a_way_that_was_taken_for_longer_than_it_is_becomes_shorter_with_each_probe() {
        let (mut round_trip, now) = doubted();
        for _ in 0..3 {
            round_trip.note(ms(88), true, now);
        }
        round_trip.conclude(Probed::Empty, now);
        for base in [88, 44, 22, 20, 20] {
            assert_eq!(round_trip.base(), Some(ms(base)));
            round_trip.conclude(Probed::Queue, now);
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
            assert!(!round_trip.is_doubtful(false, now));
        }
    }
}
