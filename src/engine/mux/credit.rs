//! Credit: how many bytes a sender may still send. A receiver returns it only once the bytes have
//! left the process, so a slow reader at one end slows the writer at the other, and no queue in
//! between grows past its window.

use std::fmt;
use std::time::{Duration, Instant};

use super::span::{Counted, Span};
use super::trial::Advice;
use crate::limits::{WINDOW, WINDOW_MIN};

/// The peer sent more than it had credit for, or granted more than can be counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overdraft;

/// Windows, in what fits on the way: on one that is full, on one that may lose packets, and there if
/// somebody else waits.
const FULL: u32 = 2;
const LOSSY: u32 = 4;
const SHARED: u32 = 3;

/// What we may send.
#[derive(Debug)]
pub(super) struct SendCredit(u32);

/// What the peer may send.
#[derive(Debug)]
pub(super) struct RecvCredit {
    /// Granted and not yet used by the peer.
    granted: u32,
    /// Received and not yet drained.
    held: u32,
    /// What `granted` and `held` together may come to.
    window: u32,
    span: Span,
    /// What fits on the way at the speed at which bytes leave, one quarter of it by the last span.
    fits: u32,
    /// The trial in which the window shrank last, and what it was before.
    tried: (u32, u32),
}

/// What a session knows that windows go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The round trip, without what waits on the way.
    pub(super) base: Duration,
    /// What may wait on it beyond that.
    pub(super) slack: Duration,
    /// The round trip with what does wait.
    pub(super) round_trip: Duration,
    /// More than one stream receives.
    pub(super) is_shared: bool,
    /// More waits on it than should.
    pub(super) is_congested: bool,
    /// What waits on it is known to wait in a queue.
    pub(super) has_queue: bool,
    /// Whether windows should shrink.
    pub(super) advice: Advice,
    /// What a window may grow to.
    pub(super) most: u32,
}

impl SendCredit {
    pub(super) const fn new() -> Self {
        Self(WINDOW)
    }

    pub(super) const fn left(&self) -> u32 {
        self.0
    }

    /// Uses up as much of `want` as there is, and says how much that was.
    pub(super) fn charge(&mut self, want: usize) -> usize {
        let len = self.0.min(u32::try_from(want).unwrap_or(u32::MAX));
        self.0 -= len;
        len as usize
    }

    pub(super) fn grant(&mut self, more: u32) -> Result<(), Overdraft> {
        self.0 = self.0.checked_add(more).ok_or(Overdraft)?;
        Ok(())
    }
}

impl RecvCredit {
    pub(super) const fn new() -> Self {
        Self { granted: WINDOW, held: 0, window: WINDOW, span: Span::new(), fits: 0, tried: (0, 0) }
    }

    /// The peer has sent `len` bytes.
    pub(super) fn used(&mut self, len: u32) -> Result<(), Overdraft> {
        self.granted = self.granted.checked_sub(len).ok_or(Overdraft)?;
        self.held += len;
        Ok(())
    }

    /// We have drained `len` bytes. Returns a grant once it is worth a frame.
    pub(super) fn drained(&mut self, len: usize, now: Instant, way: Option<Way>) -> Option<u32> {
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(self.held);
        self.held -= len;
        if let Some(way) = way {
            self.resize(len, now, way);
        }
        let grant = self.window.saturating_sub(self.granted + self.held);
        // Four grants to a window: half of it in two would leave a sender idle that needs all.
        if grant < self.window / 4 {
            return None;
        }
        self.granted += grant;
        Some(grant)
    }

    /// A window is twice what fits on the way at the speed at which bytes leave here, and a little
    /// more: then a line is full, and what waits for it delays others by a round trip and a little
    /// more. While the window is what holds the sender back, the speed grows with it. Where packets
    /// are lost it would not: half a window leaves in a round trip when what is sent again takes one
    /// more. So it is twice as much while no trial goes on and no queue is known.
    fn resize(&mut self, len: u32, now: Instant, way: Way) {
        let count = match self.span.count(len.into(), now, way.base, way.round_trip) {
            Counted::Part => return,
            Counted::Pause => None,
            Counted::Whole(count) => Some(count),
        };
        if way.most < self.window {
            // Others want their share of the session.
            self.window = way.most.max(self.half());
        } else if let Some(count) = count {
            let fits = u32::try_from(count.within(way.base + way.slack)).unwrap_or(u32::MAX);
            self.fits = if self.fits == 0 { fits } else { self.fits - self.fits / 4 + fits / 4 };
            self.window = self.fitting(fits, way);
        }
    }

    /// The window that is right when `fits` was what fitted in the last span.
    fn fitting(&mut self, fits: u32, way: Way) -> u32 {
        let window = self.window;
        let (tried, before) = self.tried;
        let is_trial = matches!(way.advice, Advice::Shrink { .. });
        // What comes at once after a lost packet was not on the way at once.
        let peak = fits.min(self.fits.saturating_add(self.fits / 2));
        let want = if is_trial {
            self.fits.saturating_mul(FULL)
        } else if way.has_queue {
            fits.saturating_mul(FULL)
        } else if way.is_shared && way.is_congested {
            self.fits.saturating_mul(SHARED)
        } else {
            peak.saturating_mul(LOSSY)
        };
        match way.advice {
            Advice::Free { failed } if failed != 0 && failed == tried => {
                self.tried = (0, 0);
                window.max(before).min(way.most)
            }
            Advice::Shrink { trial } if trial == tried => window,
            _ if window < want => want.min(window.saturating_mul(2)).min(way.most),
            Advice::Shrink { trial } => {
                let less = want.max(self.half()).min(window);
                if less < window {
                    self.tried = (trial, window);
                }
                less
            }
            Advice::Free { .. } => window,
        }
    }

    /// A window shrinks to no less at once.
    fn half(&self) -> u32 {
        WINDOW_MIN.max(self.window / 2)
    }

    /// The trial in which the window shrank last.
    pub(super) const fn tried(&self) -> u32 {
        self.tried.0
    }

    #[cfg(test)]
    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// Bytes of window beyond what every stream starts with. What had been granted before the window
    /// shrank counts until it has been used.
    pub(super) fn grown(&self) -> u32 {
        self.window.max(self.granted + self.held).saturating_sub(WINDOW)
    }
}

impl fmt::Display for Overdraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flow-control window exceeded")
    }
}

impl std::error::Error for Overdraft {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{WINDOW_MAX, WINDOW_SLACK, WINDOW_SPAN};

    const BASE: Duration = Duration::from_millis(20);

    /// On which a queue has been found.
    const fn way(advice: Advice) -> Way {
        Way {
            base: BASE,
            slack: WINDOW_SLACK,
            round_trip: BASE,
            is_shared: false,
            is_congested: false,
            has_queue: true,
            advice,
            most: WINDOW_MAX,
        }
    }

    #[test]
    fn a_sender_stops_at_its_window_and_resumes_on_a_grant() {
        let now = Instant::now();
        let (mut send, mut recv) = (SendCredit::new(), RecvCredit::new());
        assert_eq!(send.charge(WINDOW as usize + 9), WINDOW as usize);
        assert_eq!(send.charge(1), 0);
        recv.used(WINDOW).unwrap();
        assert_eq!(recv.used(1), Err(Overdraft));
        assert_eq!(recv.drained(WINDOW as usize / 4 - 1, now, None), None);
        assert_eq!(recv.drained(1, now, None), Some(WINDOW / 4));
        send.grant(WINDOW / 4).unwrap();
        assert_eq!(send.left(), WINDOW / 4);
        assert_eq!(send.grant(u32::MAX), Err(Overdraft));
    }

    #[test]
    fn a_sender_that_pauses_keeps_its_window() {
        let mut now = Instant::now();
        let mut recv = RecvCredit::new();
        for _ in 0..50 {
            now += Duration::from_secs(1);
            recv.used(1000).unwrap();
            recv.drained(1000, now, Some(way(Advice::Shrink { trial: 1 })));
        }
        assert_eq!(recv.window, WINDOW);
    }

    #[test]
    fn a_window_shrinks_once_in_a_trial_and_takes_back_what_it_had_if_that_failed() {
        let mut now = Instant::now();
        let mut recv = RecvCredit::new();
        let mut span = |recv: &mut RecvCredit, advice| {
            recv.used(50_000).unwrap();
            recv.drained(50_000, now, Some(way(advice)));
            now += BASE + WINDOW_SPAN;
            recv.window
        };
        let shrink = |trial| Advice::Shrink { trial };
        let free = |failed| Advice::Free { failed };
        assert_eq!(span(&mut recv, free(0)), WINDOW);
        assert_eq!(span(&mut recv, shrink(1)), WINDOW / 2);
        assert_eq!(span(&mut recv, shrink(1)), WINDOW / 2, "once");
        assert_eq!(span(&mut recv, free(0)), WINDOW / 2, "it went well");
        assert_eq!(span(&mut recv, shrink(2)), 100_000);
        assert_eq!(span(&mut recv, free(2)), WINDOW / 2);
        assert_eq!(span(&mut recv, free(2)), WINDOW / 2, "once");
        assert_eq!(span(&mut recv, free(9)), WINDOW / 2, "it had no part in that one");
    }

    #[test]
    fn a_window_goes_by_what_is_known_of_the_way() {
        for ([has_queue, is_shared, is_congested], times) in [
            ([true, true, true], FULL),
            ([true, false, false], FULL),
            ([false, true, true], SHARED),
            ([false, true, false], LOSSY),
            ([false, false, true], LOSSY),
        ] {
            let (mut now, mut recv) = (Instant::now(), RecvCredit::new());
            let free = Advice::Free { failed: 0 };
            let way = Way { has_queue, is_shared, is_congested, ..way(free) };
            for _ in 0..10 {
                recv.used(200_000).unwrap();
                recv.drained(200_000, now, Some(way));
                now += BASE + WINDOW_SLACK;
            }
            assert_eq!(recv.window, 200_000 * times, "{has_queue} {is_shared} {is_congested}");
        }
    }

    #[test]
    fn bursts_count_for_little() {
        for (is_shared, most) in [(false, 150_000 * LOSSY), (true, 130_000 * SHARED)] {
            let (mut now, mut recv) = (Instant::now(), RecvCredit::new());
            let free = Advice::Free { failed: 0 };
            let way = Way { has_queue: false, is_shared, is_congested: true, ..way(free) };
            for len in [20_000, 20_000, 20_000, 190_000].into_iter().cycle().take(80) {
                recv.used(len).unwrap();
                recv.drained(len as usize, now, Some(way));
                now += BASE + WINDOW_SLACK;
            }
            assert!(recv.window <= most, "{is_shared} {}", recv.window);
        }
    }

    #[test]
    fn what_was_granted_counts_until_it_is_used() {
        let (mut now, mut recv) = (Instant::now(), RecvCredit::new());
        let mut span = |recv: &mut RecvCredit, len, advice| {
            recv.used(len).unwrap();
            recv.drained(len as usize, now, Some(way(advice)));
            now += BASE + WINDOW_SPAN;
        };
        for _ in 0..20 {
            let len = recv.granted;
            span(&mut recv, len, Advice::Free { failed: 0 });
        }
        assert_eq!(recv.window, WINDOW_MAX);
        let trials = 50;
        for trial in 1..=trials {
            span(&mut recv, 1000, Advice::Shrink { trial });
        }
        assert_eq!(recv.window, WINDOW_MIN);
        assert_eq!(recv.grown(), WINDOW_MAX - WINDOW - trials * 1000);
        let left = recv.granted;
        span(&mut recv, left, Advice::Free { failed: 0 });
        assert_eq!(recv.grown(), recv.window.saturating_sub(WINDOW), "it was used");
    }

    #[test]
    fn who_pauses_leaves_others_their_share() {
        let way = Way { most: WINDOW / 2, ..way(Advice::Free { failed: 0 }) };
        let (mut now, mut recv) = (Instant::now(), RecvCredit::new());
        for _ in 0..3 {
            recv.used(10).unwrap();
            recv.drained(10, now, Some(way));
            now += Duration::from_secs(10);
        }
        assert_eq!(recv.window, WINDOW / 2);
    }
}
