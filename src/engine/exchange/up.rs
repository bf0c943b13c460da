//! The upstream's side: response heads and bodies, and the switch to an upgraded connection.

use std::time::Instant;

use super::{Answer, End, Event, Exchange, Failure, Flight, Link, Output, Phase, Side, Wait};
use crate::limits::{INTERIM_RESPONSES_MAX, UPSTREAM_IDLE_TIMEOUT};
use crate::wire::h1::{
    BodyReader, BodyWriter, Framing, RequestHead, ResponseHead, Unwritable, Version, strip,
};

impl Exchange {
    /// The connection asked for with [`Event::Connect`] is up.
    pub fn up_connected(&mut self, now: Instant, out: &mut Output) {
        self.up = Side::default();
        if self.phase == Phase::Waiting {
            self.start(now, out);
        } else {
            // Whoever wanted it has gone meanwhile.
            self.link = Link::None;
            out.end_up(End::Close);
        }
    }

    /// The connection asked for with [`Event::Connect`] could not be made, or will not be: the
    /// caller reads `why`, a sentence.
    pub fn up_failed(&mut self, why: &str, now: Instant, out: &mut Output) {
        self.link = Link::None;
        if matches!(self.phase, Phase::Deciding | Phase::Waiting) {
            self.fail(Failure::Unreachable(why.to_owned()), now, out);
        }
    }

    /// Takes bytes from the upstream.
    pub fn handle_up(&mut self, data: &[u8], now: Instant, out: &mut Output) {
        self.last_traffic = now;
        if self.up.inbox.is_empty() {
            let used = self.take_up(data, now, out);
            self.up.inbox.extend_from_slice(data.get(used..).unwrap_or_default());
        } else {
            self.up.inbox.extend_from_slice(data);
            self.pump_up(now, out);
        }
    }

    /// Sends the head of [`Event::Response`] down, as the role has changed it, and the body after
    /// it as it comes.
    pub fn answer(&mut self, head: &ResponseHead, now: Instant, out: &mut Output) {
        let keep = self.may_keep_down();
        let Some(flight) = self.flight.as_mut() else { return };
        let Answer::WithRole { framing } = flight.answer else { return };
        let switches = head.upgrade().is_some() && head.status() == 101;
        let down = match (framing, flight.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (Framing::None | Framing::Length(_), _) => framing,
        };
        flight.keep_down = keep && framing != Framing::UntilClose;
        if head.write(down, flight.keep_down, &mut out.down).is_err() {
            self.fail(Failure::Unwritable, now, out);
            return;
        }
        self.timers.cancel(Wait::BodyRate);
        if switches {
            self.switch(now, out);
            return;
        }
        flight.answer = Answer::Flowing {
            reader: BodyReader::new(framing),
            writer: match down {
                Framing::Chunked => BodyWriter::Chunked,
                Framing::None | Framing::Length(_) | Framing::UntilClose => BodyWriter::Plain,
            },
            ends_with_connection: down == Framing::UntilClose,
        };
        if matches!(framing, Framing::None | Framing::Length(0)) {
            self.response_done(now, out);
        }
        self.pump_up(now, out);
        if self.up.finished && self.phase == Phase::Relaying {
            self.up_finished(now, out);
        }
    }

    /// Whether [`Self::retry`] can still be called for the response that waits.
    #[must_use]
    pub fn can_retry(&self) -> bool {
        let waits =
            |flight: &Flight| !flight.body_sent && matches!(flight.answer, Answer::WithRole { .. });
        self.flight.as_ref().is_some_and(waits)
    }

    /// Instead of [`Self::answer`]: drops the response and its connection, and sends `head` on a
    /// new one. Does nothing unless [`Self::can_retry`].
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when the head cannot be written; the response still waits for its answer.
    pub fn retry(&mut self, head: &RequestHead, out: &mut Output) -> Result<(), Unwritable> {
        if !self.can_retry() {
            return Ok(());
        }
        let Some(flight) = self.flight.as_mut() else { return Ok(()) };
        flight.head.clear();
        head.write(&mut flight.head)?;
        flight.answer = Answer::Awaited;
        flight.interim = 0;
        self.timers.cancel(Wait::BodyRate);
        self.phase = Phase::Waiting;
        self.drop_up(End::Abort, out);
        self.link = Link::Connecting;
        self.events.push_back(Event::Connect);
        Ok(())
    }

    /// Gives up an upstream connection that is not in use, so that the next request gets a new one.
    pub fn retire_up(&mut self, out: &mut Output) {
        if self.link == Link::Idle {
            self.drop_up(End::Close, out);
        }
    }

    /// Ends the upstream connection and forgets what came over it.
    pub(super) fn drop_up(&mut self, end: End, out: &mut Output) {
        if self.link != Link::None {
            out.end_up(end);
        }
        self.link = Link::None;
        self.up = Side::default();
        self.timers.cancel(Wait::UpstreamIdle);
    }

    /// The response has gone down completely.
    pub(super) fn response_done(&mut self, now: Instant, out: &mut Output) {
        let whole = self.request_is_read();
        let Some(flight) = self.flight.take() else { return };
        self.events.push_back(Event::Complete);
        self.timers.cancel(Wait::CallerReads);
        self.timers.cancel(Wait::UpstreamReads);
        self.timers.cancel(Wait::ResponseHead);
        match (whole, flight.keep_up && !self.up.finished) {
            (true, true) => {
                self.link = Link::Idle;
                self.up.scan = crate::wire::h1::Scan::default();
                self.timers.set(Wait::UpstreamIdle, now + UPSTREAM_IDLE_TIMEOUT);
            }
            (true, false) => self.drop_up(End::Close, out),
            // The rest of the body must not be taken for a request by anyone.
            (false, _) => self.drop_up(End::Abort, out),
        }
        self.after_response(whole && flight.keep_down, now, out);
    }

    /// Goes on with what has been kept of the upstream's bytes.
    fn pump_up(&mut self, now: Instant, out: &mut Output) {
        let mut inbox = std::mem::take(&mut self.up.inbox);
        let used = self.take_up(&inbox, now, out);
        inbox.drain(..used.min(inbox.len()));
        if !inbox.is_empty() {
            self.up.inbox = inbox;
        }
    }

    /// Uses as much as it can of `data` and returns how much that was.
    fn take_up(&mut self, data: &[u8], now: Instant, out: &mut Output) -> usize {
        let mut used = 0;
        while let Some(rest) = data.get(used..).filter(|rest| !rest.is_empty()) {
            let step = match self.phase {
                Phase::Relaying => self.relay_response(rest, now, out),
                Phase::Raw => {
                    out.down.extend_from_slice(rest);
                    rest.len()
                }
                Phase::Reading | Phase::Deciding | Phase::Draining => {
                    // Bytes that nobody asked for: the connection is out of step.
                    self.drop_up(End::Abort, out);
                    rest.len()
                }
                Phase::Waiting | Phase::Gone => rest.len(),
            };
            if step == 0 {
                break;
            }
            used = used.saturating_add(step);
        }
        used
    }

    fn relay_response(&mut self, rest: &[u8], now: Instant, out: &mut Output) -> usize {
        let Some(flight) = self.flight.as_mut() else { return rest.len() };
        match &mut flight.answer {
            Answer::Awaited => self.read_response(rest, now, out),
            Answer::WithRole { .. } => 0,
            Answer::Flowing { reader, writer, .. } => {
                let piece = match reader.read(rest) {
                    Ok(piece) => piece,
                    Err(rule) => {
                        self.fail(Failure::BadResponse(rule), now, out);
                        return rest.len();
                    }
                };
                writer.write(&mut out.down, rest.get(piece.data).unwrap_or_default());
                if reader.is_done() {
                    writer.finish(&mut out.down);
                    self.response_done(now, out);
                }
                piece.consumed
            }
        }
    }

    fn read_response(&mut self, rest: &[u8], now: Instant, out: &mut Output) -> usize {
        let (head, used) = match ResponseHead::read(rest, &mut self.up.scan) {
            Ok(None) => return 0,
            Ok(Some(found)) => found,
            Err(rule) => {
                self.fail(Failure::BadResponse(rule), now, out);
                return rest.len();
            }
        };
        self.up.scan = crate::wire::h1::Scan::default();
        if self.judge_response(head, out) {
            return used;
        }
        self.fail(Failure::UnexpectedResponse, now, out);
        rest.len()
    }

    /// Gives a head to the role, or passes an interim one on. False if it must not be there.
    fn judge_response(&mut self, mut head: ResponseHead, out: &mut Output) -> bool {
        let Some(flight) = self.flight.as_mut() else { return false };
        strip(&mut head.fields);
        if head.is_interim() && head.status() != 101 {
            flight.interim += 1;
            // The one that answers an expectation is ours to send, and was sent.
            if head.status() != 100 && flight.version == Version::Http11 {
                // Stripped, so it can be written.
                let _ = head.write(Framing::None, true, &mut out.down);
            }
            return flight.interim <= INTERIM_RESPONSES_MAX;
        }
        let as_asked = match (flight.upgrade, head.status()) {
            (Some(asked), 101) => head.upgrade() == Some(asked),
            (None, 101) => false,
            (Some(_), status) => status >= 400,
            (None, _) => true,
        };
        if !as_asked {
            return false;
        }
        let framing = head.framing(&flight.method);
        flight.keep_up =
            head.keep_alive() && framing != Framing::UntilClose && flight.upgrade.is_none();
        flight.answer = Answer::WithRole { framing };
        self.timers.cancel(Wait::ResponseHead);
        self.events.push_back(Event::Response(head));
        true
    }

    /// Both sides have agreed: from here on bytes are bytes.
    fn switch(&mut self, now: Instant, out: &mut Output) {
        self.phase = Phase::Raw;
        self.timers = crate::engine::timers::Timers::new();
        self.timers.set(Wait::Traffic, now + self.times.upgraded_idle);
        self.events.push_back(Event::Upgraded);
        self.pump_down(now, out);
        self.pump_up(now, out);
        if self.up.finished {
            self.up_finished(now, out);
        }
    }
}
