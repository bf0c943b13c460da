//! Credit: how many bytes a sender may still send. A receiver returns it only once the bytes have
//! left the process, so a slow reader at one end slows the writer at the other, and no queue in
//! between grows past its window.

use std::fmt;
use std::time::{Duration, Instant};

use crate::limits::{WINDOW, WINDOW_MAX};

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
    /// Drained and not yet granted again.
    owed: u32,
    window: u32,
    last_grant: Option<Instant>,
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
        Self { granted: WINDOW, held: 0, owed: 0, window: WINDOW, last_grant: None }
    }

    /// The peer has sent `len` bytes.
    pub(super) fn used(&mut self, len: u32) -> Result<(), Overdraft> {
        self.granted = self.granted.checked_sub(len).ok_or(Overdraft)?;
        self.held += len;
        Ok(())
    }

    /// We have drained `len` bytes. Returns a grant once it is worth a frame.
    ///
    /// A window of which half is consumed in less than two round trips is what holds the sender
    /// back: it doubles, as long as `spare` bytes of the session's memory allow.
    pub(super) fn drained(
        &mut self,
        len: usize,
        now: Instant,
        round_trip: Option<Duration>,
        spare: u32,
    ) -> Option<u32> {
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(self.held);
        self.held -= len;
        self.owed += len;
        if self.owed < self.window / 2 {
            return None;
        }
        let hurried = self.last_grant.zip(round_trip).is_some_and(|(last, round_trip)| {
            now.saturating_duration_since(last) < round_trip.saturating_mul(2)
        });
        let growth = if hurried { self.window.min(WINDOW_MAX - self.window).min(spare) } else { 0 };
        self.window += growth;
        self.last_grant = Some(now);
        let grant = std::mem::take(&mut self.owed) + growth;
        self.granted += grant;
        Some(grant)
    }

    /// Bytes of window beyond what every stream starts with.
    pub(super) const fn grown(&self) -> u32 {
        self.window - WINDOW
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

    #[test]
    fn a_sender_stops_at_its_window_and_resumes_on_a_grant() {
        let now = Instant::now();
        let (mut send, mut recv) = (SendCredit::new(), RecvCredit::new());
        assert_eq!(send.charge(WINDOW as usize + 9), WINDOW as usize);
        assert_eq!(send.charge(1), 0);
        recv.used(WINDOW).unwrap();
        assert_eq!(recv.used(1), Err(Overdraft));
        assert_eq!(recv.drained(WINDOW as usize / 2 - 1, now, None, 0), None);
        assert_eq!(recv.drained(1, now, None, 0), Some(WINDOW / 2));
        send.grant(WINDOW / 2).unwrap();
        assert_eq!(send.left(), WINDOW / 2);
        assert_eq!(send.grant(u32::MAX), Err(Overdraft));
    }

    #[test]
    fn a_window_consumed_in_a_hurry_grows_within_the_session_s_memory() {
        let now = Instant::now();
        let rtt = Some(Duration::from_millis(100));
        let mut recv = RecvCredit::new();
        recv.used(WINDOW).unwrap();
        assert_eq!(recv.drained(WINDOW as usize / 2, now, rtt, u32::MAX), Some(WINDOW / 2));
        let soon = now + Duration::from_millis(150);
        let grant = recv.drained(WINDOW as usize / 2, soon, rtt, u32::MAX);
        assert_eq!((grant, recv.grown()), (Some(WINDOW / 2 + WINDOW), WINDOW));
        recv.used(WINDOW).unwrap();
        let soon = soon + Duration::from_millis(150);
        assert_eq!(recv.drained(WINDOW as usize, soon, rtt, 0), Some(WINDOW), "no memory left");
        recv.used(WINDOW).unwrap();
        let late = soon + Duration::from_millis(250);
        assert_eq!(recv.drained(WINDOW as usize, late, rtt, u32::MAX), Some(WINDOW), "no hurry");
    }
}
