//! How much may wait for a socket. What has been queued there is past all taking of turns: a
//! keystroke waits for it. So it is as much as the socket takes in a moment, which is little on a
//! slow line, and on a fast one as much as makes a system call worth while.

use std::time::{Duration, Instant};

use crate::limits::{QUEUE_MAX, QUEUE_MIN, QUEUE_TIME};

/// See the module documentation.
#[derive(Debug)]
pub struct Pace {
    share: usize,
    span: Option<Span>,
}

#[derive(Debug)]
struct Span {
    since: Instant,
    taken: usize,
    /// The socket has refused something.
    was_full: bool,
}

/// Shorter times say more about the scheduler than about the line.
const SPAN: Duration = Duration::from_millis(50);

/// After so long there was no line to measure.
const PAUSE: Duration = Duration::from_secs(1);

impl Pace {
    /// Of a socket that nothing is known of.
    #[must_use]
    pub const fn new() -> Self {
        Self { share: QUEUE_MAX, span: None }
    }

    /// Bytes that may wait, from [`QUEUE_MIN`] to [`QUEUE_MAX`].
    #[must_use]
    pub const fn share(&self) -> usize {
        self.share
    }

    /// The socket has taken `len` bytes, and refused others if it `is_full`. Returns whether the
    /// share is another one now.
    #[must_use]
    pub fn note(&mut self, len: usize, is_full: bool, now: Instant) -> bool {
        let span = self.span.get_or_insert(Span { since: now, taken: 0, was_full: false });
        span.taken = span.taken.saturating_add(len);
        span.was_full |= is_full;
        let elapsed = now.saturating_duration_since(span.since);
        if elapsed < SPAN {
            return false;
        }
        let in_time = span.taken as u128 * QUEUE_TIME.as_nanos() / elapsed.as_nanos();
        let share = match span.was_full && elapsed < PAUSE {
            true => usize::try_from(in_time).unwrap_or(QUEUE_MAX).clamp(QUEUE_MIN, QUEUE_MAX),
            false => QUEUE_MAX,
        };
        self.span = None;
        std::mem::replace(&mut self.share, share) != share
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that is always full and takes `step` bytes each millisecond.
    fn full(pace: &mut Pace, now: &mut Instant, step: usize, millis: u32) -> usize {
        (0..millis)
            .filter(|_| {
                *now += Duration::from_millis(1);
                pace.note(step, true, *now)
            })
            .count()
    }

    #[test]
    fn little_waits_for_a_slow_line_and_more_for_a_fast_one() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        assert_eq!(pace.share(), QUEUE_MAX);
        assert_eq!(full(&mut pace, &mut now, 1250, 500), 1, "told once");
        assert_eq!(pace.share(), QUEUE_MIN, "10 Mbit/s");
        full(&mut pace, &mut now, 12_500, 200);
        assert!((60_000..70_000).contains(&pace.share()), "100 Mbit/s: {}", pace.share());
        full(&mut pace, &mut now, 125_000, 200);
        assert_eq!(pace.share(), QUEUE_MAX, "1 Gbit/s");
    }

    #[test]
    fn a_socket_that_refuses_nothing_or_was_left_alone_is_not_slow() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            assert!(!pace.note(10, false, now), "the source is slow, not the line");
        }
        full(&mut pace, &mut now, 1250, 500);
        assert_eq!(pace.share(), QUEUE_MIN);
        now += PAUSE * 2;
        assert!(pace.note(10, true, now));
        assert_eq!(pace.share(), QUEUE_MAX);
    }
}
