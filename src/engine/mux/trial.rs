//! Are windows too large for the way? What waits in a queue makes round trips long, and so do
//! packets that a line loses and TCP sends again. A queue that never runs empty keeps its line busy,
//! and what is received is steady; what waits for a lost packet comes at once, after a while in which
//! nothing does. So a trial begins where speeds are steady, and seldom elsewhere: windows shrink,
//! and if less is received then, nothing had waited and they take back what they had. A line that
//! loses packets would starve otherwise: less is received, windows go by what is, and shrink again.

use std::mem;
use std::time::{Duration, Instant};

use super::span::{Count, Counted, Span};

/// Spans in which what is received counts, after one in which what had been granted before the shrink
/// still arrives. A span is a round trip with what waits on the way, and a little more.
const JUDGING: u8 = 2;

/// Spans until the next trial when windows took back what they had, at first. Twice as many each
/// time that they do so again, and at most four times as many.
const PAUSE: u8 = 4;

/// Spans in which others wait until a trial where speeds are not steady.
const PAUSE_UNSTEADY: u8 = 32;

/// Speeds are steady when so many in a row are within an eighth of the one before.
const STEADY: u8 = 3;

/// Speeds are in bytes per second.
const SECOND: Duration = Duration::from_secs(1);

/// See the module documentation. One for a session.
#[derive(Debug)]
pub(super) struct Trials {
    span: Span,
    /// Bytes per second, one quarter of it from the last span.
    speed: Option<u64>,
    /// Of the last span alone, and how many in a row were about as fast as the one before.
    last: (u64, u8),
    /// In this span more waited than should when a window was granted anew.
    is_congested: bool,
    /// A window has shrunk in this trial.
    has_shrunk: bool,
    /// See [`Self::has_queue`].
    has_queue: bool,
    /// Of the last trial, from 1.
    number: u32,
    stage: Stage,
    /// The pause after the last trial.
    pause: u8,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// No trial for so many `spans` in which more waited than should; there is none for at least `pause`
    /// of them. `failed` is the number of the last one if it did.
    Free { spans: u8, pause: u8, failed: u32 },
    /// What is received counts from the next span on.
    Settling,
    /// What has been received since, and for how many more spans it counts.
    Judging { left: u8, since: Instant, bytes: u64 },
}

/// What windows are to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Advice {
    /// Go by the way; and one that shrank in the trial of this number takes back what it had.
    Free { failed: u32 },
    /// Shrink, once in the trial of this number.
    Shrink { trial: u32 },
}

impl Trials {
    pub(super) const fn new() -> Self {
        let stage = Stage::Free { spans: 0, pause: 0, failed: 0 };
        Self {
            span: Span::new(),
            speed: None,
            last: (0, 0),
            is_congested: false,
            has_shrunk: false,
            has_queue: false,
            number: 0,
            stage,
            pause: 0,
        }
    }

    pub(super) const fn advice(&self) -> Advice {
        match self.stage {
            Stage::Free { failed, .. } => Advice::Free { failed },
            Stage::Settling | Stage::Judging { .. } => Advice::Shrink { trial: self.number },
        }
    }

    /// Whether a trial has found a queue, and nothing since that there is none: another trial, or
    /// speeds that are not steady.
    pub(super) const fn has_queue(&self) -> bool {
        self.has_queue
    }

    /// A window was granted anew, and shrank last in the trial of number `tried`. It `is_congested` if
    /// more waits on the way than should. A window that nobody uses is not too large.
    pub(super) fn granted(&mut self, is_congested: bool, tried: u32) {
        self.is_congested |= is_congested;
        self.has_shrunk |= tried == self.number;
    }

    /// `len` bytes have arrived, on whichever stream; `round_trip` is with what waits on the way.
    pub(super) fn received(&mut self, len: usize, now: Instant, round_trip: Duration) {
        let count = match self.span.count(len as u64, now, round_trip, round_trip) {
            Counted::Part => return,
            Counted::Pause => return self.forget(),
            Counted::Whole(count) => count,
        };
        let is_congested = mem::take(&mut self.is_congested);
        let last = count.within(SECOND);
        let is_due = self.is_due_after(last) && is_congested;
        self.stage = match self.stage {
            Stage::Free { .. } if is_due => {
                self.number = self.number.wrapping_add(1).max(1);
                self.has_shrunk = false;
                Stage::Settling
            }
            Stage::Free { spans, pause, failed } => {
                let speed = self.speed.map_or(last, |speed| speed - speed / 4 + last / 4);
                self.speed = Some(speed);
                Stage::Free { spans: spans.saturating_add(u8::from(is_congested)), pause, failed }
            }
            Stage::Settling => Stage::Judging { left: JUDGING, since: now, bytes: 0 },
            Stage::Judging { left, since, bytes: so_far } => {
                let bytes = so_far.saturating_add(count.bytes);
                let elapsed = now.saturating_duration_since(since);
                match left {
                    0 | 1 => self.judge(Count { bytes, elapsed }.within(SECOND)),
                    _ => Stage::Judging { left: left - 1, since, bytes },
                }
            }
        };
    }

    /// Notes the speed of the last span, and says whether it is time for a trial.
    fn is_due_after(&mut self, speed: u64) -> bool {
        let (before, steady) = self.last;
        let is_steady = speed.abs_diff(before) <= before / 8;
        // Once may be somebody who comes or goes.
        self.has_queue &= is_steady || steady != 0;
        self.last = (speed, if is_steady { steady.saturating_add(1) } else { 0 });
        let Stage::Free { spans, pause, .. } = self.stage else { return false };
        let wait = if STEADY <= self.last.1 { pause } else { PAUSE_UNSTEADY };
        self.speed.is_some() && wait <= spans
    }

    /// Senders have paused. How fast they were is long ago, and a trial that was on has shown nothing.
    fn forget(&mut self) {
        (self.speed, self.last, self.is_congested) = (None, (0, 0), false);
        let failed = match self.stage {
            Stage::Free { failed, .. } => failed,
            Stage::Settling | Stage::Judging { .. } => self.number,
        };
        self.stage = Stage::Free { spans: 0, pause: 0, failed };
    }

    /// If a tenth less is received, what is missing had been let through by the windows.
    fn judge(&mut self, speed: u64) -> Stage {
        if !self.has_shrunk {
            return Stage::Free { spans: 0, pause: PAUSE, failed: self.number };
        }
        let before = self.speed.unwrap_or(0);
        self.has_queue = before - before / 10 <= speed;
        if self.has_queue {
            self.pause = 0;
            return Stage::Free { spans: 0, pause: 0, failed: 0 };
        }
        self.pause = (self.pause * 2).clamp(PAUSE, PAUSE * 4);
        Stage::Free { spans: 0, pause: self.pause, failed: self.number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WINDOW_SPAN;

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    struct Receiver {
        now: Instant,
        trials: Trials,
    }

    impl Receiver {
        fn new() -> Self {
            Self { now: Instant::now(), trials: Trials::new() }
        }

        /// Spans in each of which `len` bytes arrive, until the advice is another.
        fn until_other(&mut self, len: usize) -> (u8, Advice) {
            let (before, mut spans) = (self.trials.advice(), 0);
            while self.trials.advice() == before && spans < u8::MAX {
                self.span(len, true);
                spans += 1;
            }
            (spans, self.trials.advice())
        }

        /// A span in which `len` bytes arrive. Windows shrink in every trial.
        fn span(&mut self, len: usize, is_congested: bool) {
            let tried = match self.trials.advice() {
                Advice::Shrink { trial } => trial,
                Advice::Free { .. } => 0,
            };
            self.trials.granted(is_congested, tried);
            self.trials.received(len, self.now, ROUND_TRIP);
            self.now += ROUND_TRIP + WINDOW_SPAN;
        }
    }

    #[test]
    fn windows_take_back_what_they_had_when_less_is_received_and_wait_longer_each_time() {
        let mut line = Receiver::new();
        // A span ends with the bytes after it, and the first has nothing to be held against.
        assert_eq!(line.until_other(1000), (2 + STEADY, Advice::Shrink { trial: 1 }));
        assert_eq!(line.until_other(800), (1 + JUDGING, Advice::Free { failed: 1 }));
        for (trial, pause) in [(2, PAUSE), (3, PAUSE * 2), (4, PAUSE * 4), (5, PAUSE * 4)] {
            assert_eq!(line.until_other(1000), (pause + 1, Advice::Shrink { trial }));
            let (spans, advice) = line.until_other(800);
            assert_eq!((spans, advice), (1 + JUDGING, Advice::Free { failed: trial }));
        }
    }

    #[test]
    fn windows_stay_small_when_as_much_is_received() {
        let mut line = Receiver::new();
        line.until_other(1000);
        assert_eq!(line.until_other(950), (1 + JUDGING, Advice::Free { failed: 0 }));
        assert_eq!(line.until_other(950), (1, Advice::Shrink { trial: 2 }), "without a pause");
    }

    #[test]
    fn a_queue_is_known_once_found_and_until_a_trial_fails() {
        let mut line = Receiver::new();
        assert!(!line.trials.has_queue());
        for (len, has_queue) in [(950, true), (500, false), (950, true)] {
            assert!(matches!(line.until_other(1000).1, Advice::Shrink { .. }));
            assert_eq!(line.trials.has_queue(), !has_queue, "not judged yet");
            line.until_other(len);
            assert_eq!(line.trials.has_queue(), has_queue);
        }
    }

    #[test]
    fn no_trial_begins_while_more_is_received_each_time() {
        let mut line = Receiver::new();
        for len in (0..10).map(|power| 1000 << power) {
            line.span(len, true);
            assert_eq!(line.trials.advice(), Advice::Free { failed: 0 });
        }
        assert_eq!(line.until_other(512_000).1, Advice::Shrink { trial: 1 });
    }

    #[test]
    fn a_trial_in_which_nothing_shrank_shows_nothing() {
        let mut line = Receiver::new();
        line.until_other(1000);
        for _ in 0..=JUDGING {
            line.trials.received(1000, line.now, ROUND_TRIP);
            line.now += ROUND_TRIP + WINDOW_SPAN;
        }
        assert!(!line.trials.has_queue());
        assert_eq!(
            line.trials.advice(),
            Advice::Free { failed: 1 },
            "who shrank unseen takes it back"
        );
        assert_eq!(line.until_other(1000), (PAUSE + 1, Advice::Shrink { trial: 2 }));
    }

    #[test]
    fn after_a_pause_of_the_senders_a_trial_is_taken_back_and_speeds_begin_anew() {
        let mut line = Receiver::new();
        line.until_other(1000);
        line.now += ROUND_TRIP * 10;
        assert_eq!(line.until_other(1), (1, Advice::Free { failed: 1 }));
        assert!(!line.trials.has_queue());
        // Less than before the pause, and nothing is held against that.
        assert_eq!(line.until_other(10).1, Advice::Shrink { trial: 2 });
        line.until_other(10);
        assert!(line.trials.has_queue());
    }

    #[test]
    fn a_trial_is_rare_where_speeds_are_not_steady_and_a_queue_is_forgotten_there() {
        let mut line = Receiver::new();
        line.until_other(1000);
        line.until_other(1000);
        assert!(line.trials.has_queue());
        for begun in 2..5 {
            let lens = [1200, 1000].into_iter().cycle();
            let before = line.trials.advice();
            let spans = lens.take_while(|&len| {
                line.span(len, true);
                line.trials.advice() == before
            });
            assert_eq!(spans.count(), usize::from(PAUSE_UNSTEADY), "{begun}");
            assert!(!line.trials.has_queue());
            assert_eq!(line.trials.advice(), Advice::Shrink { trial: begun });
            line.until_other(500);
        }
    }

    #[test]
    fn who_has_long_been_there_and_begins_to_receive_more_is_in_no_trial_at_once() {
        for pauses in [false, true] {
            let mut line = Receiver::new();
            (0..100).for_each(|_| line.span(10, false));
            if pauses {
                line.now += ROUND_TRIP * 10;
            }
            for len in [100, 400, 900, 1600, 2500, 3600] {
                line.span(len, true);
                assert_eq!(line.trials.advice(), Advice::Free { failed: 0 }, "{len}");
            }
        }
    }

    #[test]
    fn an_empty_way_starts_no_trial() {
        let mut line = Receiver::new();
        for _ in 0..100 {
            line.span(1000, false);
        }
        assert_eq!(line.trials.advice(), Advice::Free { failed: 0 });
    }
}
