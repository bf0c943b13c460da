//! How fast bytes pass, counted for a round trip and a little more at a time.

use std::time::{Duration, Instant};

use crate::limits::WINDOW_SPAN;

/// The span that is being counted.
#[derive(Debug)]
pub(super) struct Span {
    /// `None` before the first bytes.
    since: Option<Instant>,
    bytes: u64,
}

/// What more bytes have made of a span.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Counted {
    /// It goes on.
    Part,
    /// It is over, and senders have paused in it, which says nothing about the way.
    Pause,
    /// It is over.
    Whole(Count),
}

/// So many bytes in so much time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

impl Span {
    pub(super) const fn new() -> Self {
        Self { since: None, bytes: 0 }
    }

    /// `len` bytes have passed. A span is as long as `way` and a little; who is silent for four times
    /// a `round_trip`, with what waits on it, has paused. The first bytes begin the first span and do
    /// not count: nobody knows how long they took.
    pub(super) fn count(
        &mut self,
        len: u64,
        now: Instant,
        way: Duration,
        round_trip: Duration,
    ) -> Counted {
        let Some(since) = self.since else {
            self.since = Some(now);
            return Counted::Part;
        };
        self.bytes = self.bytes.saturating_add(len);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < way + WINDOW_SPAN {
            return Counted::Part;
        }
        self.since = Some(now);
        let bytes = std::mem::take(&mut self.bytes);
        let is_pause = (round_trip.max(way) + WINDOW_SPAN) * 4 < elapsed;
        if is_pause { Counted::Pause } else { Counted::Whole(Count { bytes, elapsed }) }
    }
}

impl Count {
    /// Bytes in `time` at that speed.
    pub(super) fn within(self, time: Duration) -> u64 {
        let bytes = u128::from(self.bytes).saturating_mul(time.as_nanos());
        u64::try_from(bytes / self.elapsed.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_over_after_a_round_trip_and_a_little_and_a_pause_is_none() {
        let (mut span, mut now) = (Span::new(), Instant::now());
        let base = Duration::from_millis(20);
        let mut count = |len, after| {
            now += after;
            span.count(len, now, base, Duration::ZERO)
        };
        let whole = base + WINDOW_SPAN;
        assert_eq!(count(9, Duration::ZERO), Counted::Part);
        assert_eq!(count(100, whole - Duration::from_nanos(1)), Counted::Part);
        let counted = count(50, Duration::from_nanos(1));
        assert_eq!(counted, Counted::Whole(Count { bytes: 150, elapsed: whole }));
        let counted = count(7, whole * 4);
        assert_eq!(counted, Counted::Whole(Count { bytes: 7, elapsed: whole * 4 }));
        assert_eq!(count(7, whole * 4 + Duration::from_nanos(1)), Counted::Pause);
        assert_eq!(count(7, whole), Counted::Whole(Count { bytes: 7, elapsed: whole }));
    }

    #[test]
    fn who_waits_in_a_queue_has_not_paused() {
        let (start, base) = (Instant::now(), Duration::from_millis(20));
        let elapsed = (base + WINDOW_SPAN) * 5;
        for (round_trip, is_pause) in [(base, true), (base * 2, false)] {
            let mut span = Span::new();
            span.count(9, start, base, round_trip);
            let counted = span.count(7, start + elapsed, base, round_trip);
            assert_eq!(counted == Counted::Pause, is_pause, "{counted:?}");
        }
    }

    #[test]
    fn no_count_is_too_large() {
        let count = Count { bytes: u64::MAX, elapsed: Duration::ZERO };
        assert_eq!(count.within(Duration::MAX), u64::MAX);
        let count = Count { bytes: 3000, elapsed: Duration::from_millis(30) };
        assert_eq!(count.within(Duration::from_secs(1)), 100_000);
    }
}
