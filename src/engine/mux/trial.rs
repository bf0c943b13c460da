//! Are windows too large for the way? What waits in a queue makes round trips long, and so do
//! packets that a line loses and TCP sends again: only a trial tells them apart. Windows shrink,
//! and if less is received then, nothing had waited and they take back what they had. A line that
//! loses packets would starve otherwise: less is received, windows go by what is, and shrink again.
//!
//! A probe is a trial for the sake of the round trip: a line that is always full, with a queue of the
//! right length, looks as one that has become longer. Windows are a small part of what they were in it,
//! and take that back whatever it shows: nothing waits on the way then, and few losses can meet it.

use std::mem;
use std::time::{Duration, Instant};

use super::span::{Count, Counted, Span};

/// Spans in which what is received counts, after one in which what had been granted before the shrink
/// still arrives. A span is a round trip with what waits on the way, and a little more.
const JUDGING: u8 = 2;

/// The same in a probe, at most: for as many round trips as it takes to believe them.
const PROBING: u8 = 6;

/// Spans until the next trial when windows took back what they had, at first. Twice as many each
/// time that they do so again, and at most four times as many.
const PAUSE: u8 = 4;

/// Speeds are in bytes per second.
const SECOND: Duration = Duration::from_secs(1);

/// See the module documentation. One for a session.
#[derive(Debug)]
pub(super) struct Trials {
    span: Span,
    /// Bytes per second, one quarter of it from the last span.
    speed: Option<u64>,
    /// In this span more waited than should when a window was granted anew.
    is_congested: bool,
    /// A window was granted anew in it.
    is_used: bool,
    /// The trial, if one is on, is a probe.
    is_probe: bool,
    /// A window has shrunk in this trial.
    has_shrunk: bool,
    /// The last trial that showed anything found a queue.
    has_queue: bool,
    /// And the last one found that smaller windows help nobody.
    are_vain: bool,
    /// Of the last trial, from 1 to less than the most.
    number: u32,
    stage: Stage,
    /// The pause after the last trial.
    pause: u8,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// `left` spans more without a trial; `failed` is the number of the last one if what shrank in it
    /// is to be taken back.
    Free { left: u8, failed: u32 },
    /// What is received counts from the next span on.
    Settling,
    /// What has been received since, and for how many more spans it counts.
    Judging { left: u8, begun: Instant, bytes: u64 },
}

/// What windows are to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Advice {
    /// Go by the way; and one that shrank in the trial of this number takes back what it had.
    Free { failed: u32 },
    /// Shrink, once in the trial of this number.
    Shrink { trial: u32 },
    /// Shrink to a small part, once, and take it back with the next advice.
    Probe,
}

/// What a probe has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Probed {
    /// Less was received: nothing waited on the way.
    Empty,
    /// As much as before was received, from a queue that is still there, or nothing that counts.
    Nothing,
}

impl Trials {
    pub(super) const fn new() -> Self {
        let stage = Stage::Free { left: 0, failed: 0 };
        Self {
            span: Span::new(),
            speed: None,
            is_congested: false,
            is_used: false,
            is_probe: false,
            has_shrunk: false,
            has_queue: false,
            are_vain: false,
            number: 0,
            stage,
            pause: 0,
        }
    }

    pub(super) const fn advice(&self) -> Advice {
        match self.stage {
            Stage::Free { failed, .. } => Advice::Free { failed },
            Stage::Settling | Stage::Judging { .. } => {
                let trial = self.number;
                if self.is_probe { Advice::Probe } else { Advice::Shrink { trial } }
            }
        }
    }

    /// A probe is on, and most of what had been granted before it has arrived: since when.
    pub(super) const fn probes_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Judging { begun, .. } if self.is_probe => Some(begun),
            _ => None,
        }
    }

    /// Whether a trial has found a queue, and none since has found that there was none.
    pub(super) const fn has_queue(&self) -> bool {
        self.has_queue
    }

    /// Whether smaller windows were tried last without help to anybody.
    pub(super) const fn are_vain(&self) -> bool {
        self.are_vain
    }

    /// A window was granted anew, and `has_shrunk` as it should. It `is_congested` if more waits on the
    /// way than should. A window that nobody uses is not too large.
    pub(super) fn granted(&mut self, is_congested: bool, has_shrunk: bool) {
        self.is_used = true;
        self.is_congested |= is_congested;
        self.has_shrunk |= has_shrunk;
    }

    /// `len` bytes have arrived, on whichever stream; `round_trip` is with what waits on the way.
    /// Whoever `wants_probe` does so until it knows enough. Returns what one has shown.
    pub(super) fn received(
        &mut self,
        len: usize,
        now: Instant,
        round_trip: Duration,
        wants_probe: bool,
    ) -> Option<Probed> {
        let count = match self.span.count(len as u64, now, round_trip, round_trip) {
            Counted::Part => return None,
            Counted::Pause => return self.forget(),
            Counted::Whole(count) => count,
        };
        let is_congested = mem::take(&mut self.is_congested);
        let is_used = mem::take(&mut self.is_used);
        match self.stage {
            Stage::Free { left, failed } => {
                let last = count.within(SECOND);
                // While it rises nobody knows what to hold against it.
                let rises = self.speed.is_none_or(|speed| speed.saturating_add(speed / 4) < last);
                let is_probe = wants_probe && is_used;
                if left == 0 && (is_probe || is_congested) && !rises {
                    self.begin(is_probe);
                } else {
                    let speed = self.speed.map_or(last, |speed| speed - speed / 4 + last / 4);
                    self.speed = Some(speed);
                    self.stage = Stage::Free { left: left.saturating_sub(1), failed };
                }
                None
            }
            Stage::Settling => {
                let left = if self.is_probe { PROBING } else { JUDGING };
                self.stage = Stage::Judging { left, begun: now, bytes: 0 };
                None
            }
            Stage::Judging { left, begun, bytes } => {
                let bytes = bytes.saturating_add(count.bytes);
                let is_enough = self.is_probe && !wants_probe;
                if 1 < left && !is_enough {
                    self.stage = Stage::Judging { left: left - 1, begun, bytes };
                    return None;
                }
                let elapsed = now.saturating_duration_since(begun);
                self.judge(Count { bytes, elapsed }.within(SECOND))
            }
        }
    }

    fn begin(&mut self, is_probe: bool) {
        self.number = (self.number + 1) % u32::MAX;
        self.number = self.number.max(1);
        (self.is_probe, self.has_shrunk) = (is_probe, false);
        self.stage = Stage::Settling;
    }

    /// Senders have paused. How fast they were is long ago, and a trial that was on has shown nothing.
    fn forget(&mut self) -> Option<Probed> {
        (self.speed, self.is_congested, self.is_used) = (None, false, false);
        if matches!(self.stage, Stage::Free { .. }) {
            return None;
        }
        self.stage = Stage::Free { left: 0, failed: self.number };
        self.is_probe.then_some(Probed::Nothing)
    }

    /// If a tenth less is received, what is missing had been let through by the windows.
    fn judge(&mut self, speed: u64) -> Option<Probed> {
        let before = self.speed.unwrap_or(0);
        let has_queue = before - before / 10 <= speed;
        if self.is_probe {
            self.stage = Stage::Free { left: PAUSE, failed: 0 };
            let is_empty = self.has_shrunk && !has_queue;
            return Some(if is_empty { Probed::Empty } else { Probed::Nothing });
        }
        self.are_vain = !self.has_shrunk || !has_queue;
        if !self.has_shrunk {
            self.stage = Stage::Free { left: PAUSE, failed: self.number };
            return None;
        }
        self.has_queue = has_queue;
        let (pause, failed) = match has_queue {
            true => (0, 0),
            false => ((self.pause * 2).clamp(PAUSE, PAUSE * 4), self.number),
        };
        self.pause = pause;
        self.stage = Stage::Free { left: pause, failed };
        None
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
        is_doubtful: bool,
        probed: Vec<Probed>,
    }

    impl Receiver {
        fn new() -> Self {
            let (now, trials) = (Instant::now(), Trials::new());
            Self { now, trials, is_doubtful: false, probed: Vec::new() }
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
            let has_shrunk = !matches!(self.trials.advice(), Advice::Free { .. });
            self.trials.granted(is_congested, has_shrunk);
            let probed = self.trials.received(len, self.now, ROUND_TRIP, self.is_doubtful);
            self.probed.extend(probed);
            self.now += ROUND_TRIP + WINDOW_SPAN;
        }
    }

    #[test]
    fn windows_take_back_what_they_had_when_less_is_received_and_wait_longer_each_time() {
        let mut line = Receiver::new();
        // A span ends with the bytes after it, and one shows how fast they leave.
        assert_eq!(line.until_other(1000), (3, Advice::Shrink { trial: 1 }));
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
        assert!(!line.trials.has_queue() && !line.trials.are_vain());
        for (len, has_queue) in [(950, true), (500, false), (950, true)] {
            assert!(matches!(line.until_other(1000).1, Advice::Shrink { .. }));
            assert_eq!(line.trials.has_queue(), !has_queue, "not judged yet");
            line.until_other(len);
            assert_eq!((line.trials.has_queue(), line.trials.are_vain()), (has_queue, !has_queue));
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
            let _ = line.trials.received(1000, line.now, ROUND_TRIP, false);
            line.now += ROUND_TRIP + WINDOW_SPAN;
        }
        assert!(!line.trials.has_queue() && line.trials.are_vain());
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
    fn a_doubt_starts_a_probe_which_says_nothing_of_windows() {
        for (len, shown) in [(700, Probed::Empty), (950, Probed::Nothing)] {
            let mut line = Receiver::new();
            line.span(1000, false);
            line.span(1000, false);
            line.is_doubtful = true;
            assert_eq!(line.until_other(1000), (1, Advice::Probe));
            assert_eq!(line.trials.probes_since(), None, "what had been granted still arrives");
            let now = line.now;
            line.span(1000, false);
            assert_eq!(line.trials.probes_since(), Some(now));
            assert_eq!(line.until_other(len), (PROBING, Advice::Free { failed: 0 }));
            assert_eq!(line.probed, [shown]);
            assert!(
                !line.trials.has_queue() && !line.trials.are_vain(),
                "of windows it says nothing"
            );
            line.is_doubtful = false;
            assert_eq!(line.until_other(1000).1, Advice::Shrink { trial: 2 }, "a trial again");
        }
    }

    #[test]
    fn a_probe_ends_when_enough_is_known() {
        let mut line = Receiver::new();
        line.until_other(1000);
        line.until_other(500);
        line.is_doubtful = true;
        assert_eq!(line.until_other(1000), (PAUSE + 1, Advice::Probe));
        line.span(500, false);
        line.span(500, false);
        line.is_doubtful = false;
        assert_eq!(line.until_other(500), (1, Advice::Free { failed: 0 }));
        assert_eq!(line.probed, [Probed::Empty]);
        line.now += ROUND_TRIP * 10;
        line.span(1, false);
        assert!(line.trials.are_vain(), "neither that nor a pause says anything of windows");
    }

    #[test]
    fn a_probe_in_which_nothing_shrank_or_senders_paused_shows_nothing() {
        for pause in [false, true] {
            let mut line = Receiver::new();
            line.until_other(1000);
            line.until_other(950);
            line.is_doubtful = true;
            assert!(matches!(line.until_other(1000).1, Advice::Probe));
            line.now += if pause { ROUND_TRIP * 10 } else { Duration::ZERO };
            for _ in 0..=PROBING {
                let probed = line.trials.received(500, line.now, ROUND_TRIP, true);
                line.probed.extend(probed);
                line.now += ROUND_TRIP + WINDOW_SPAN;
            }
            assert_eq!(line.probed, [Probed::Nothing]);
            assert!(line.trials.has_queue(), "as before");
        }
    }

    #[test]
    fn who_uses_no_window_is_not_probed() {
        let mut line = Receiver::new();
        for _ in 0..100 {
            assert_eq!(line.trials.received(100, line.now, ROUND_TRIP, true), None);
            line.now += ROUND_TRIP + WINDOW_SPAN;
        }
        assert_eq!(line.trials.advice(), Advice::Free { failed: 0 });
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
