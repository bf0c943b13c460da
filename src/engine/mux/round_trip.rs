//! How long the way to the peer and back is: the way itself, without what waits on it, and for how
//! long too much has waited there.

use std::time::{Duration, Instant};

use crate::limits::WINDOW_SLACK;

/// What pings have shown so far.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct RoundTrip {
    measured: Option<Measured>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Measured {
    /// The way alone.
    base: Duration,
    /// One quarter of it is the last: TCP's eighth (RFC 6298, 2.3) is slow where a round trip takes long.
    smooth: Duration,
    at: Instant,
    /// For how long who shares the way has waited longer than need be, less half of the time in
    /// which nobody did.
    crowd: Duration,
    /// Since when none was near `base`, the least of that time, and whether all were near each other.
    recent: Option<(Instant, Duration, bool)>,
}

/// What was seen so long ago says nothing of what waits on the way now.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// A way that was longer for all of this time has become longer.
const CHANGE: Duration = Duration::from_secs(30);

/// Windows that are too large have shrunk by then, on a line that stays as it is: after so many round
/// trips of the way alone, or after so long if that is more.
const CROWD_WAYS: u32 = 16;
const CROWD: Duration = Duration::from_secs(1);

/// Round trips that it takes at least: one slow answer crowds nobody.
const CROWD_LEAST: u32 = 3;

impl RoundTrip {
    pub(super) const fn new() -> Self {
        Self { measured: None }
    }

    /// A ping was answered.
    pub(super) fn note(&mut self, round_trip: Duration, now: Instant) {
        let Some(known) = &mut self.measured else {
            let (base, smooth, crowd) = (round_trip, round_trip, Duration::ZERO);
            self.measured = Some(Measured { base, smooth, at: now, crowd, recent: None });
            return;
        };
        // Who waits for a slow answer has not been silent.
        let is_stale = known.is_stale(now.checked_sub(round_trip).unwrap_or(now));
        let elapsed = now.saturating_duration_since(known.at);
        known.at = now;
        known.smooth = if is_stale { round_trip } else { (known.smooth * 3 + round_trip) / 4 };
        known.base = known.base.min(round_trip);
        known.crowd = if is_stale {
            Duration::ZERO
        } else if known.queues(WINDOW_SLACK) {
            let most = known.crowd_from();
            let waited = elapsed.min(round_trip).min(most / CROWD_LEAST);
            (known.crowd + waited).min(most * 3 / 2)
        } else {
            known.crowd.saturating_sub(elapsed / 2)
        };
        // What windows of the right size let wait stays below this.
        if round_trip < known.base * 3 + WINDOW_SLACK * 4 {
            known.recent = None;
            return;
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
        self.measured.as_ref().is_some_and(|known| known.queues(slack))
    }

    /// It has done so for longer than windows need to become right, and not long ago; or the answer
    /// that would tell may still be on its way.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        let is_crowded =
            |known: &Measured| known.crowd_from() <= known.crowd && !known.is_stale(now);
        self.measured.as_ref().is_some_and(is_crowded)
    }
}

impl Measured {
    fn queues(&self, slack: Duration) -> bool {
        (self.base + slack) * 2 < self.smooth
    }

    /// From what on [`Self::crowd`] is one.
    fn crowd_from(&self) -> Duration {
        CROWD.max(self.base * CROWD_WAYS)
    }

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
        let (mut round_trip, mut now) = (RoundTrip::new(), Instant::now());
        round_trip.note(ms(20), now);
        round_trip.note(ms(900), now);
        assert!(round_trip.is_congested(WINDOW_SLACK));
        now += STALE + ms(30);
        round_trip.note(ms(30), now);
        assert!(!round_trip.is_congested(WINDOW_SLACK), "as if it were the first");
        // An answer may take longer than that.
        now += STALE * 2;
        round_trip.note(STALE * 2, now);
        assert!(round_trip.is_congested(WINDOW_SLACK) && round_trip.smooth() < Some(STALE));
        (0..20).for_each(|_| round_trip.note(ms(4000), now));
        let crowded = |after| {
            let (mut round_trip, mut now) = (round_trip.clone(), now);
            for _ in 0..CROWD_LEAST {
                now += ms(4000);
                round_trip.note(ms(4000), now);
            }
            round_trip.is_crowded(now + after)
        };
        assert!(crowded(ms(7900)) && !crowded(ms(8000)));
    }

    /// A way of `base`; the time after which it is crowded, of round trips that take turns.
    fn crowded_after(base: u64, turns: &[u64]) -> Option<Duration> {
        let start = Instant::now();
        let (mut round_trip, mut now) = (RoundTrip::new(), start);
        round_trip.note(ms(base), now);
        turns.iter().cycle().take(1000).find_map(|&turn| {
            now += ms(turn);
            round_trip.note(ms(turn), now);
            round_trip.is_crowded(now).then(|| now.saturating_duration_since(start))
        })
    }

    #[test]
    fn a_way_is_crowded_once_somebody_has_waited_too_long_for_sixteen_of_it_or_a_second() {
        for (base, wait, least) in [(10, 40, 1000), (100, 250, 1600), (300, 900, 4800)] {
            let after = crowded_after(base, &[wait]).unwrap();
            // Some answers pass until the last ones are long on average.
            assert!(ms(least) <= after && after <= ms(least + wait * 5), "{base}: {after:?}");
        }
        assert_eq!(
            crowded_after(100, &[200]),
            None,
            "nobody waits for longer than windows let wait"
        );
        // Packets that are sent again make round trips long, and now and then none is.
        let mostly = crowded_after(300, &[1200, 300, 900]).unwrap();
        assert!(mostly < ms(10_000), "{mostly:?}");
        assert_eq!(crowded_after(300, &[300, 300, 300, 300, 900]), None);
    }

    #[test]
    fn a_crowd_is_over_when_nobody_has_waited_for_a_while_or_nothing_was_measured() {
        let (mut round_trip, mut now) = (RoundTrip::new(), Instant::now());
        let mut pass = |round_trip: &mut RoundTrip, wait, count| {
            for _ in 0..count {
                now += ms(wait);
                round_trip.note(ms(wait), now);
            }
            now
        };
        pass(&mut round_trip, 100, 1);
        let now = pass(&mut round_trip, 250, 100);
        assert!(round_trip.is_crowded(now + STALE - ms(1)) && !round_trip.is_crowded(now + STALE));
        // It counts for half as much again at most, and as that twice.
        let now = pass(&mut round_trip, 100, 15);
        assert!(round_trip.is_crowded(now));
        let now = pass(&mut round_trip, 100, 10);
        assert!(!round_trip.is_crowded(now));
        let now = pass(&mut round_trip, 250, 100);
        round_trip.note(ms(250), now + STALE + ms(250));
        assert!(!round_trip.is_crowded(now + STALE + ms(250)), "who was silent begins anew");
    }

    #[test]
    fn a_slow_answer_alone_crowds_nobody() {
        for slow in [300, 1000, 4000] {
            let (mut round_trip, mut now) = (RoundTrip::new(), Instant::now());
            round_trip.note(ms(20), now);
            for turn in [slow, 20, 20, 20, 20, 20, 20, 20] {
                now += ms(turn);
                round_trip.note(ms(turn), now);
                assert!(!round_trip.is_crowded(now), "{slow}");
            }
        }
    }

    #[test]
    fn rare_answers_count_for_as_long_as_they_took() {
        let (mut round_trip, mut now) = (RoundTrip::new(), Instant::now());
        round_trip.note(ms(10), now);
        for _ in 0..20 {
            now += ms(4000);
            round_trip.note(ms(45), now);
            assert!(!round_trip.is_crowded(now));
        }
        for _ in 0..5 {
            now += ms(4000);
            round_trip.note(ms(45), now);
        }
        assert!(round_trip.is_crowded(now));
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
