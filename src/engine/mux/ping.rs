//! Pings: a round trip each, a sign of life, and word of a crowd. A receiver knows for how long who
//! waits behind what it receives has waited too long; its pings tell the sender, who may have others
//! to send and somewhere else to send them.

use std::time::{Duration, Instant};

use super::round_trip::STALE;
use super::session::header;
use crate::wire::mux::{CROWDED, Flags, Header, Kind, StreamId};

/// Longer than any line of use takes, the time for a packet that is sent again and again included.
const OVERDUE: Duration = Duration::from_secs(5);

/// Those of one end of a session.
#[derive(Debug)]
pub(super) struct Pings {
    /// When our last one left, if it is unanswered.
    asked: Option<Instant>,
    /// Its value.
    value: u32,
    /// When the peer said last that it is crowded, if its last one did.
    crowded: Option<Instant>,
}

impl Pings {
    pub(super) const fn new() -> Self {
        Self { asked: None, value: 0, crowded: None }
    }

    /// One of ours, with `value` or the one after the last, if none is unanswered.
    pub(super) fn ask(
        &mut self,
        value: Option<u32>,
        is_crowded: bool,
        now: Instant,
    ) -> Option<Header> {
        if self.asked.is_some() {
            return None;
        }
        let value = value.unwrap_or_else(|| self.value.wrapping_add(1)) & !CROWDED;
        self.value = if is_crowded { value | CROWDED } else { value };
        self.asked = Some(now);
        Some(header(Kind::Ping, Flags::SYN, StreamId(0), self.value))
    }

    /// The peer has answered `value`. Returns the round trip; an answer to nothing, or to an older
    /// question, is of no use and no harm.
    pub(super) fn answered(&mut self, value: u32, now: Instant) -> Option<Duration> {
        let at = self.asked.take_if(|_| self.value == value)?;
        Some(now.saturating_duration_since(at))
    }

    /// The answer to one of the peer's.
    pub(super) const fn answer(&mut self, value: u32, now: Instant) -> Header {
        self.crowded = if value & CROWDED == 0 { None } else { Some(now) };
        header(Kind::Ping, Flags::ACK, StreamId(0), value)
    }

    /// The peer said so, and not long ago.
    pub(super) fn peer_is_crowded(&self, now: Instant) -> bool {
        self.crowded.is_some_and(|at| now.saturating_duration_since(at) < STALE)
    }

    /// An answer is so late that it may never come.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.asked.is_some_and(|at| OVERDUE <= now.saturating_duration_since(at))
    }

    /// When the one left that has no answer yet.
    pub(super) const fn unanswered(&self) -> Option<Instant> {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_at_a_time_and_an_answer_to_another_is_none() {
        let (mut pings, now) = (Pings::new(), Instant::now());
        let asked = pings.ask(Some(7), false, now).unwrap();
        assert_eq!((asked.kind, asked.flags, asked.length), (Kind::Ping, Flags::SYN, 7));
        assert_eq!(pings.ask(None, false, now), None);
        let then = now + Duration::from_millis(20);
        assert_eq!(pings.answered(8, then), None);
        assert_eq!(pings.unanswered(), Some(now));
        assert!(pings.is_overdue(now + OVERDUE) && !pings.is_overdue(now + OVERDUE / 2));
        assert_eq!(pings.answered(7, then), Some(Duration::from_millis(20)));
        assert_eq!(pings.answered(7, then), None, "twice");
    }

    #[test]
    fn a_crowd_is_told_with_every_value_and_until_the_next_one_or_for_a_while() {
        let now = Instant::now();
        for value in [None, Some(0), Some(1), Some(CROWDED), Some(u32::MAX)] {
            let (mut near, mut far) = (Pings::new(), Pings::new());
            for is_crowded in [false, true, false] {
                let asked = near.ask(value, is_crowded, now).unwrap();
                let answer = far.answer(asked.length, now);
                assert_eq!(far.peer_is_crowded(now), is_crowded);
                assert!(!far.peer_is_crowded(now + STALE), "it was long ago");
                assert_eq!((answer.flags, answer.length), (Flags::ACK, asked.length));
                assert!(near.answered(answer.length, now).is_some());
                assert!(!near.peer_is_crowded(now), "an answer says nothing of its sender");
            }
        }
    }
}
