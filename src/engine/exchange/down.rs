//! The caller's side: heads, decisions, request bodies.

use std::time::Instant;

use super::{Answer, End, Event, Exchange, Failure, Flight, Link, Output, Patience, Phase, Wait};
use crate::limits::{BODY_RATE_WINDOW, DRAIN_MAX};
use crate::wire::h1::{Framing, RequestHead, ResponseHead, Scan, Unwritable};

/// A buffer that grew for a burst is given back once it is empty.
const KEPT_CAPACITY: usize = 4 * 1024;

impl Exchange {
    /// Takes bytes from the caller.
    pub fn handle_down(&mut self, data: &[u8], now: Instant, out: &mut Output) {
        self.last_traffic = now;
        if self.down.inbox.is_empty() {
            let used = self.take_down(data, now, out);
            self.down.inbox.extend_from_slice(data.get(used..).unwrap_or_default());
        } else {
            self.down.inbox.extend_from_slice(data);
            self.pump_down(now, out);
        }
    }

    /// Lets the request through: `head` is the head of [`Event::Request`], stripped of what belongs
    /// to one hop, its `Host` and identity put in by the role.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when the head cannot be written as it is. The request still waits for its
    /// decision then, and only [`Self::respond`] is left.
    pub fn forward(
        &mut self,
        head: &RequestHead,
        patience: Patience,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), Unwritable> {
        let (Phase::Deciding, Some(flight)) = (self.phase, self.flight.as_mut()) else {
            return Ok(());
        };
        flight.head.clear();
        head.write(&mut flight.head)?;
        flight.long_running = patience == Patience::LongRunning;
        self.known = true;
        self.phase = Phase::Waiting;
        if self.link == Link::Idle {
            self.start(now, out);
        } else {
            self.link = Link::Connecting;
            self.events.push_back(Event::Connect);
        }
        Ok(())
    }

    /// Answers the request from here: nothing of it goes upstream. Possible until an upstream
    /// connection stands.
    pub fn respond(&mut self, head: &ResponseHead, body: &[u8], now: Instant, out: &mut Output) {
        match self.phase {
            Phase::Deciding => (),
            Phase::Waiting => self.drop_up(End::Abort, out),
            Phase::Reading | Phase::Relaying | Phase::Raw | Phase::Draining | Phase::Gone => return,
        }
        self.skip_body();
        let keep = self.may_keep_down();
        let is_head = self.flight.as_ref().is_some_and(|flight| &*flight.method == "HEAD");
        let framing = Framing::Length(body.len() as u64);
        if head.write(framing, keep, &mut out.down).is_err() {
            self.fail(Failure::Unwritable, now, out);
            return;
        }
        if !is_head {
            out.down.extend_from_slice(body);
        }
        self.flight = None;
        self.after_response(keep, now, out);
    }

    /// The upstream connection stands, and a head waits for it.
    pub(super) fn start(&mut self, now: Instant, out: &mut Output) {
        let Some(flight) = self.flight.as_mut() else { return };
        self.phase = Phase::Relaying;
        self.link = Link::Busy;
        self.timers.cancel(Wait::UpstreamIdle);
        out.up.append(&mut flight.head);
        if flight.continue_due && self.down.inbox.is_empty() {
            out.down.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        flight.continue_due = false;
        if flight.body.is_done() {
            self.request_sent(now);
        } else {
            self.timers.set(Wait::BodyRate, now + BODY_RATE_WINDOW);
            self.pump_down(now, out);
        }
        // A body that was already here and is malformed has taken its head back with it.
        if self.phase == Phase::Relaying && self.down.finished {
            self.on_half_closed_caller(now, out);
        }
    }

    /// Goes on with what has been kept of the caller's bytes.
    pub(super) fn pump_down(&mut self, now: Instant, out: &mut Output) {
        let mut inbox = std::mem::take(&mut self.down.inbox);
        let used = self.take_down(&inbox, now, out);
        inbox.drain(..used.min(inbox.len()));
        if !inbox.is_empty() || inbox.capacity() <= KEPT_CAPACITY {
            self.down.inbox = inbox;
        }
    }

    /// After a response: the next request, or the end.
    pub(super) fn after_response(&mut self, keep: bool, now: Instant, out: &mut Output) {
        if !keep {
            self.end_down(now, out);
            return;
        }
        self.phase = Phase::Reading;
        self.down.scan = Scan::default();
        let idle = if self.known { self.times.idle } else { self.times.stranger_idle };
        self.timers.set(Wait::Idle, now + idle);
        self.pump_down(now, out);
    }

    /// Whether the caller's connection outlives the response that is about to begin.
    pub(super) fn may_keep_down(&self) -> bool {
        let wanted = self.flight.as_ref().is_some_and(|flight| flight.keep_down);
        wanted && self.request_is_read() && !self.closing && !self.down.finished
    }

    /// Uses as much as it can of `data` and returns how much that was.
    fn take_down(&mut self, data: &[u8], now: Instant, out: &mut Output) -> usize {
        let mut used = 0;
        while let Some(rest) = data.get(used..).filter(|rest| !rest.is_empty()) {
            let step = match self.phase {
                Phase::Reading => self.read_head(rest, now, out),
                Phase::Relaying => self.relay_body(rest, now, out),
                Phase::Raw => {
                    out.up.extend_from_slice(rest);
                    rest.len()
                }
                Phase::Draining => self.discard(rest, out),
                Phase::Gone => rest.len(),
                Phase::Deciding | Phase::Waiting => 0,
            };
            if step == 0 {
                break;
            }
            used = used.saturating_add(step);
        }
        used
    }

    fn read_head(&mut self, rest: &[u8], now: Instant, out: &mut Output) -> usize {
        if self.timers.get(Wait::Head).is_none() {
            self.timers.cancel(Wait::Idle);
            self.timers.set(Wait::Head, now + self.times.head);
        }
        match RequestHead::read(rest, &mut self.down.scan) {
            Ok(None) => 0,
            Ok(Some((head, used))) => {
                self.timers.cancel(Wait::Head);
                self.phase = Phase::Deciding;
                self.flight = Some(Flight::new(&head));
                self.events.push_back(Event::Request(head));
                used
            }
            Err(rule) => {
                self.fail(Failure::Malformed(rule), now, out);
                rest.len()
            }
        }
    }

    fn relay_body(&mut self, rest: &[u8], now: Instant, out: &mut Output) -> usize {
        let Some(flight) = self.flight.as_mut() else { return 0 };
        if flight.body.is_done() {
            return 0;
        }
        let piece = match flight.body.read(rest) {
            Ok(piece) => piece,
            Err(rule) => {
                self.fail(Failure::Malformed(rule), now, out);
                return rest.len();
            }
        };
        let data = rest.get(piece.data).unwrap_or_default();
        flight.writer.write(&mut out.up, data);
        flight.body_sent |= !data.is_empty();
        flight.rate = flight.rate.map(|rate| rate.saturating_add(piece.consumed as u64));
        if flight.body.is_done() {
            flight.writer.finish(&mut out.up);
            flight.body_sent = true;
            self.request_sent(now);
        }
        piece.consumed
    }

    /// The request is on its way as a whole: now the upstream's time runs.
    fn request_sent(&mut self, now: Instant) {
        self.timers.cancel(Wait::BodyRate);
        let Some(flight) = &self.flight else { return };
        if matches!(flight.answer, Answer::Awaited) && !flight.long_running {
            self.timers.set(Wait::ResponseHead, now + self.times.response_head);
        }
    }

    /// Drops what is here of the body of a request that goes nowhere.
    fn skip_body(&mut self) {
        let Some(flight) = self.flight.as_mut() else { return };
        let mut used: usize = 0;
        while let Some(rest) = self.down.inbox.get(used..).filter(|rest| !rest.is_empty()) {
            match flight.body.read(rest) {
                Ok(piece) if piece.consumed > 0 => used = used.saturating_add(piece.consumed),
                Ok(_) => break,
                Err(_) => {
                    flight.keep_down = false;
                    break;
                }
            }
        }
        self.down.inbox.drain(..used.min(self.down.inbox.len()));
    }

    /// After the last response a caller may finish what it was sending, within reason: closing at
    /// once would reset the connection, and the response might be lost.
    fn discard(&mut self, rest: &[u8], out: &mut Output) -> usize {
        self.drained = self.drained.saturating_add(rest.len());
        if self.drained > DRAIN_MAX {
            self.gone(out);
        }
        rest.len()
    }
}
