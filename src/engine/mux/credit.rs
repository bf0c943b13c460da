//! Credit: how many bytes a sender may still send. A receiver returns it only once the bytes have
//! left the process, so a slow reader at one end slows the writer at the other, and no queue in
//! between grows past its window.

use std::fmt;
use std::time::{Duration, Instant};

use crate::limits::{WINDOW, WINDOW_MIN, WINDOW_SPAN};

/// The peer sent more than it had credit for, or granted more than can be counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overdraft;

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
    /// Since when bytes are counted to know how fast they leave, and how many there were.
    span: Option<(Instant, u32)>,
}

/// What a session knows that windows go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The round trip, without what waits on the way.
    pub(super) base: Duration,
    /// What may wait on it beyond that.
    pub(super) slack: Duration,
    /// More waits there than should.
    pub(super) is_congested: bool,
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
        Self { granted: WINDOW, held: 0, window: WINDOW, span: None }
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
    /// more. While the window is what holds the sender back, the speed grows with it.
    fn resize(&mut self, len: u32, now: Instant, way: Way) {
        let Some((since, before)) = self.span else {
            self.span = Some((now, 0));
            return;
        };
        let bytes = before.saturating_add(len);
        let (elapsed, span) = (now.saturating_duration_since(since), way.base + WINDOW_SPAN);
        if elapsed < span {
            self.span = Some((since, bytes));
            return;
        }
        self.span = Some((now, 0));
        // A pause of the sender's says nothing about the way.
        if span * 4 < elapsed {
            return;
        }
        let unit = (way.base + way.slack).as_nanos();
        let fit = u128::from(bytes) * unit / elapsed.as_nanos().max(1);
        let want = u32::try_from(fit * 2).unwrap_or(u32::MAX);
        let half = WINDOW_MIN.max(self.window / 2);
        if way.most < self.window {
            self.window = way.most.max(half);
        } else if self.window < want {
            self.window = want.min(self.window.saturating_mul(2)).min(way.most);
        } else if way.is_congested {
            self.window = want.max(half);
        }
    }

    /// Bytes of window beyond what every stream starts with.
    pub(super) const fn grown(&self) -> u32 {
        self.window.saturating_sub(WINDOW)
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
    use std::collections::VecDeque;

    use super::*;
    use crate::limits::{WINDOW_MAX, WINDOW_SLACK, WINDOW_SLACK_SHARED};

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

    /// A line that carries `rate` bytes per second, and a sender that always has something.
    struct Line {
        now: Instant,
        rate: u64,
        base: Duration,
        slack: Duration,
        credit: u32,
        /// Sent, and waiting for the line.
        queue: u64,
        on_way: VecDeque<(Instant, u32)>,
        grants: VecDeque<(Instant, u32)>,
    }

    impl Line {
        fn new(mbits: u64, ms: u64, slack: Duration) -> Self {
            let (now, base) = (Instant::now(), Duration::from_millis(ms));
            let (on_way, grants) = (VecDeque::new(), VecDeque::new());
            Self {
                now,
                rate: mbits * 125_000,
                base,
                slack,
                credit: WINDOW,
                queue: 0,
                on_way,
                grants,
            }
        }

        /// How long the last byte sent waits for the line.
        fn waits(&self) -> Duration {
            Duration::from_secs_f64(self.queue as f64 / self.rate as f64)
        }

        /// Twenty seconds of it.
        fn run(&mut self, recv: &mut RecvCredit, most: u32) {
            for _ in 0..20_000 {
                self.now += Duration::from_millis(1);
                let now = self.now;
                while let Some((_, grant)) = self.grants.pop_front_if(|(at, _)| *at <= now) {
                    self.credit += grant;
                }
                self.queue += u64::from(std::mem::take(&mut self.credit));
                let through = self.queue.min(self.rate / 1000);
                self.queue -= through;
                self.on_way.push_back((now + self.base / 2, u32::try_from(through).unwrap()));
                while let Some((_, len)) = self.on_way.pop_front_if(|(at, _)| *at <= now) {
                    recv.used(len).unwrap();
                    let (base, slack) = (self.base, self.slack);
                    let is_congested = base + slack * 2 < self.waits();
                    let way = Way { base, slack, is_congested, most };
                    if let Some(grant) = recv.drained(len as usize, now, Some(way)) {
                        self.grants.push_back((now + self.base / 2, grant));
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_fills_a_line_and_lets_nobody_else_wait() {
        let ways =
            [10, 100, 1000].into_iter().flat_map(|mbits| [1, 20, 100, 300].map(|ms| (mbits, ms)));
        for (mbits, ms) in ways {
            for slack in [WINDOW_SLACK, WINDOW_SLACK_SHARED] {
                let (mut line, mut recv) = (Line::new(mbits, ms, slack), RecvCredit::new());
                line.run(&mut recv, WINDOW_MAX);
                let fit = line.rate as f64 * line.base.as_secs_f64();
                let window = f64::from(recv.window);
                assert!(fit * 1.3 <= window, "{mbits} Mbit/s, {ms} ms: {window} for {fit}");
                // The smallest window is 50 ms of 10 Mbit/s.
                let least = Duration::from_secs_f64(f64::from(WINDOW_MIN) / line.rate as f64);
                let bearable = (line.base + slack * 2).max(least);
                assert!(line.waits() <= bearable, "{mbits} Mbit/s, {ms} ms: {:?}", line.waits());
            }
        }
    }

    #[test]
    fn a_window_keeps_to_its_share_and_shrinks_to_it() {
        let (mut line, mut recv) = (Line::new(1000, 100, WINDOW_SLACK), RecvCredit::new());
        line.run(&mut recv, WINDOW_MAX);
        assert!(20_000_000 < recv.grown());
        line.run(&mut recv, 1_000_000);
        assert!(recv.window <= 1_000_000, "{}", recv.window);
    }

    #[test]
    fn a_sender_that_pauses_keeps_its_window() {
        let mut now = Instant::now();
        let mut recv = RecvCredit::new();
        let (base, slack) = (Duration::from_millis(20), WINDOW_SLACK);
        let way = Way { base, slack, is_congested: true, most: WINDOW_MAX };
        for _ in 0..50 {
            now += Duration::from_secs(1);
            recv.used(1000).unwrap();
            recv.drained(1000, now, Some(way));
        }
        assert_eq!(recv.window, WINDOW);
    }
}
