//! What the windows of a session go by: how long its way is, who shares it, what trials have shown,
//! and how much of the memory for all of them is taken.

use std::time::{Duration, Instant};

use super::company::{Company, Visit};
use super::credit::{RecvCredit, Way};
use super::round_trip::RoundTrip;
use super::trial::Trials;
use crate::limits::{SESSION_GROWTH, WINDOW, WINDOW_MAX, WINDOW_SLACK, WINDOW_SLACK_SHARED};

/// How old a round trip may be while much is received, and while little is.
const BUSY: Duration = Duration::from_millis(20);
const CALM: Duration = Duration::from_millis(100);

/// See the module documentation. Of what one end of a session receives.
#[derive(Debug)]
pub(super) struct Flow {
    round_trip: RoundTrip,
    company: Company,
    trials: Trials,
    /// What windows have grown by.
    grown: u32,
}

impl Flow {
    pub(super) const fn new() -> Self {
        Self {
            round_trip: RoundTrip::new(),
            company: Company::new(),
            trials: Trials::new(),
            grown: 0,
        }
    }

    /// A ping was answered after `round_trip`.
    pub(super) fn measured(&mut self, round_trip: Duration, now: Instant) {
        self.round_trip.note(round_trip, now);
    }

    /// A round trip should be measured. Who sends much is worth knowing the way to; while little is
    /// sent, the way is seen as it is.
    pub(super) fn is_due(&self, is_busy: bool, now: Instant) -> bool {
        self.round_trip.is_due(if is_busy { BUSY } else { CALM }, now)
    }

    /// `len` bytes have arrived, on whichever stream.
    pub(super) fn received(&mut self, len: usize, now: Instant) {
        if let Some(round_trip) = self.round_trip.smooth() {
            self.trials.received(len, now, round_trip);
        }
    }

    /// `len` bytes of a stream have left the process. Returns what its peer may send more, once that
    /// is worth a frame.
    pub(super) fn drained(
        &mut self,
        recv: &mut RecvCredit,
        visit: &mut Visit,
        len: usize,
        now: Instant,
    ) -> Option<u32> {
        self.company.meet(visit, now);
        let before = recv.grown();
        let way = self.way(before);
        let grant = recv.drained(len, now, way);
        if let (Some(_), Some(way)) = (grant, way) {
            self.trials.granted(way.is_congested, recv.tried());
        }
        self.grown = self.grown - before + recv.grown();
        grant
    }

    /// A stream is gone.
    pub(super) fn forget(&mut self, recv: &RecvCredit) {
        self.grown -= recv.grown();
    }

    /// Who shares the session with what is received here waits for longer than two round trips and a
    /// little, and has done so for as long as windows need to shrink, as on a way that loses packets.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        self.round_trip.is_crowded(now)
    }

    /// The round trip without what waits on the way, once it has been measured.
    pub(super) fn base(&self) -> Option<Duration> {
        self.round_trip.base()
    }

    /// For a window that has grown by `grown`.
    fn way(&self, grown: u32) -> Option<Way> {
        let base = self.round_trip.base()?;
        let spare = SESSION_GROWTH - self.grown;
        // A quarter of what others have left is there for who comes next.
        let share = (grown + spare) / 4 * 3;
        Some(Way {
            base,
            slack: self.slack(),
            round_trip: self.round_trip.smooth().unwrap_or(base),
            is_shared: self.is_shared(),
            is_congested: self.round_trip.is_congested(self.slack()),
            has_queue: self.trials.has_queue(),
            advice: self.trials.advice(),
            most: WINDOW_MAX.min(WINDOW + share),
        })
    }

    fn slack(&self) -> Duration {
        if self.is_shared() { WINDOW_SLACK_SHARED } else { WINDOW_SLACK }
    }

    fn is_shared(&self) -> bool {
        1 < self.company.count()
    }

    /// Others have taken all that there was.
    #[cfg(test)]
    pub(super) const fn fill(&mut self) {
        self.grown = SESSION_GROWTH;
    }
}
