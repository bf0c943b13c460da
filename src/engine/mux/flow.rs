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
        let began = now.checked_sub(round_trip);
        let is_probe = self.trials.probes_since().is_some_and(|since| Some(since) <= began);
        self.round_trip.note(round_trip, is_probe, now);
    }

    /// A round trip should be measured. Who sends much is worth knowing the way to; while little is
    /// sent, the way is seen as it is. In a probe it is what counts.
    pub(super) fn is_due(&self, is_busy: bool, now: Instant) -> bool {
        let old = match self.trials.probes_since() {
            Some(_) => Duration::ZERO,
            None if is_busy => BUSY,
            None => CALM,
        };
        self.round_trip.is_due(old, now)
    }

    /// `len` bytes have arrived, on whichever stream.
    pub(super) fn received(&mut self, len: usize, now: Instant) {
        let Some(round_trip) = self.round_trip.smooth() else { return };
        let wants_probe = self.round_trip.wants_probe(now);
        if let Some(probed) = self.trials.received(len, now, round_trip, wants_probe) {
            self.round_trip.conclude(probed, now);
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
        if grant.is_some() {
            let is_congested = self.round_trip.is_congested(self.slack());
            self.trials.granted(is_congested, recv.has_followed(self.trials.advice()));
        }
        self.grown = self.grown - before + recv.grown();
        grant
    }

    /// A stream is gone.
    pub(super) fn forget(&mut self, recv: &RecvCredit) {
        self.grown -= recv.grown();
    }

    /// Who shares the session with what is received here waits for longer than two round trips and a
    /// little, and smaller windows have not helped, as on a way that loses packets. What was seen long
    /// ago is over.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        let is_long = self.round_trip.is_congested(WINDOW_SLACK);
        self.trials.are_vain() && is_long && self.round_trip.is_fresh(now)
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
            has_queue: self.trials.has_queue(),
            advice: self.trials.advice(),
            most: WINDOW_MAX.min(WINDOW + share),
        })
    }

    fn slack(&self) -> Duration {
        if 1 < self.company.count() { WINDOW_SLACK_SHARED } else { WINDOW_SLACK }
    }

    /// What the way is known for.
    #[cfg(test)]
    pub(super) fn base(&self) -> Duration {
        self.round_trip.base().expect("it was measured")
    }

    /// Others have taken all that there was.
    #[cfg(test)]
    pub(super) const fn fill(&mut self) {
        self.grown = SESSION_GROWTH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_millis(50);

    struct Peer {
        flow: Flow,
        recv: RecvCredit,
        visit: Visit,
        credit: u32,
        now: Instant,
    }

    impl Peer {
        /// A span, in which the sender uses what it was granted.
        fn span(&mut self) {
            self.now += LONG + BASE;
            let part = self.credit / 4;
            for _ in 0..4 {
                self.recv.used(part).expect("it was granted");
                self.flow.received(part as usize, self.now);
                let Self { flow, recv, visit, .. } = self;
                let grant = flow.drained(recv, visit, part as usize, self.now);
                self.credit = self.credit - part + grant.unwrap_or(0);
            }
        }
    }

    /// One that has answered after [`LONG`] for a minute, when a probe has just begun to judge.
    fn probed() -> Peer {
        let (flow, recv) = (Flow::new(), RecvCredit::new());
        let (visit, credit, now) = (Visit::default(), WINDOW, Instant::now());
        let mut peer = Peer { flow, recv, visit, credit, now };
        peer.flow.measured(BASE, peer.now);
        for _ in 0..1000 {
            peer.span();
            if peer.flow.trials.probes_since().is_some() {
                return peer;
            }
            peer.flow.measured(LONG, peer.now);
        }
        panic!("no probe");
    }

    #[test]
    fn what_was_asked_before_a_probe_does_not_count() {
        for (early, base) in [(Duration::from_millis(1), BASE), (Duration::ZERO, LONG)] {
            let mut peer = probed();
            // In a probe nothing else is worth as much.
            assert!(peer.flow.is_due(true, peer.now) && peer.flow.is_due(false, peer.now));
            for _ in 0..3 {
                peer.flow.measured(LONG, peer.now + LONG - early);
            }
            while peer.flow.trials.probes_since().is_some() {
                peer.span();
            }
            assert_eq!(peer.flow.base(), base);
        }
    }
}
