//! How much may wait for a socket. What has been queued there is past all taking of turns: a
//! keystroke waits for it. So it is as much as the socket takes in a moment, which is little on a
//! slow line, and on a fast one as much as makes a system call worth while.
//!
//! The kernel may have more than that of what cannot be sent yet: TCP that finds nothing to send at a
//! moment learns nothing about the line. BBR, for one, stays in its first phase then, in which it
//! sends nearly three times as fast as the line is.

use std::time::{Duration, Instant};

use crate::limits::{QUEUE_MAX, QUEUE_MIN, QUEUE_TIME, UNSENT_MAX, UNSENT_TIME};

/// See the module documentation.
#[derive(Debug)]
pub struct Pace {
    shares: Shares,
    span: Option<Span>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shares {
    queue: usize,
    unsent: usize,
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

/// Of a socket that nothing is known of.
const UNKNOWN: Shares = Shares { queue: QUEUE_MAX, unsent: QUEUE_MAX };

impl Pace {
    /// Of a socket that nothing is known of.
    #[must_use]
    pub const fn new() -> Self {
        Self { shares: UNKNOWN, span: None }
    }

    /// Bytes that may wait for the socket, from [`QUEUE_MIN`] to [`QUEUE_MAX`].
    #[must_use]
    pub const fn queue_bytes(&self) -> usize {
        self.shares.queue
    }

    /// Bytes that may wait in the kernel until they can be sent, from [`QUEUE_MIN`] to
    /// [`UNSENT_MAX`].
    #[must_use]
    pub const fn unsent_bytes(&self) -> usize {
        self.shares.unsent
    }

    /// The socket has taken `len` bytes, and refused others if it `is_full`. Returns whether other
    /// amounts may wait now.
    #[must_use]
    pub fn note(&mut self, len: usize, is_full: bool, now: Instant) -> bool {
        let span = self.span.get_or_insert(Span { since: now, taken: 0, was_full: false });
        span.taken = span.taken.saturating_add(len);
        span.was_full |= is_full;
        let elapsed = now.saturating_duration_since(span.since);
        if elapsed < SPAN {
            return false;
        }
        let within = |time: Duration, most: usize| {
            let bytes = span.taken as u128 * time.as_nanos() / elapsed.as_nanos();
            usize::try_from(bytes).unwrap_or(most).clamp(QUEUE_MIN, most)
        };
        let shares = if PAUSE <= elapsed {
            UNKNOWN
        } else if span.was_full {
            Shares { queue: within(QUEUE_TIME, QUEUE_MAX), unsent: within(UNSENT_TIME, UNSENT_MAX) }
        } else {
            // Less may have come than would fill it, which says nothing of the line.
            Shares { unsent: self.shares.unsent.max(QUEUE_MAX), ..UNKNOWN }
        };
        self.span = None;
        std::mem::replace(&mut self.shares, shares) != shares
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
        assert_eq!((pace.queue_bytes(), pace.unsent_bytes()), (QUEUE_MAX, QUEUE_MAX));
        full(&mut pace, &mut now, 1250, 500);
        assert_eq!(pace.queue_bytes(), QUEUE_MIN, "10 Mbit/s");
        assert!(
            (120_000..140_000).contains(&pace.unsent_bytes()),
            "10 Mbit/s: {}",
            pace.unsent_bytes()
        );
        full(&mut pace, &mut now, 12_500, 200);
        assert!(
            (60_000..70_000).contains(&pace.queue_bytes()),
            "100 Mbit/s: {}",
            pace.queue_bytes()
        );
        assert_eq!(pace.unsent_bytes(), UNSENT_MAX, "100 Mbit/s");
        assert_eq!(full(&mut pace, &mut now, 125_000, 200), 1, "told once");
        assert_eq!((pace.queue_bytes(), pace.unsent_bytes()), (QUEUE_MAX, UNSENT_MAX), "1 Gbit/s");
    }

    #[test]
    fn a_socket_that_refuses_nothing_or_was_left_alone_is_not_slow() {
        let (mut pace, mut now) = (Pace::new(), Instant::now());
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            assert!(!pace.note(10, false, now), "the source is slow, not the line");
        }
        full(&mut pace, &mut now, 12_500, 200);
        // The first of these have a span with the last of those.
        let seen = [100, 100].map(|millis| {
            for _ in 0..millis {
                now += Duration::from_millis(1);
                let _ = pace.note(10, false, now);
            }
            (pace.queue_bytes(), pace.unsent_bytes())
        });
        assert!(seen[0] == seen[1] && seen[0].0 == QUEUE_MAX && QUEUE_MAX < seen[0].1, "{seen:?}");
        full(&mut pace, &mut now, 1250, 500);
        assert_eq!(pace.queue_bytes(), QUEUE_MIN);
        now += PAUSE * 2;
        assert!(pace.note(10, true, now));
        assert_eq!((pace.queue_bytes(), pace.unsent_bytes()), (QUEUE_MAX, QUEUE_MAX));
    }
}
