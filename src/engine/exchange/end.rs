//! How exchanges and connections end, as planned or not, and what happens when time is up.

use std::time::Instant;

use super::{Answer, End, Event, Exchange, Failure, Output, Phase, Wait, event, status_response};
use crate::engine::timers::Timers;
use crate::limits::{BODY_RATE_WINDOW, DRAIN_TIMEOUT};
use crate::wire::h1::{BodyReader, Framing};

impl Exchange {
    /// The caller will send no more. One that waits for an ordinary response still gets it; a watch
    /// ends, because that is how a caller leaves it.
    pub fn down_finished(&mut self, now: Instant, out: &mut Output) {
        self.down.finished = true;
        match self.phase {
            Phase::Reading | Phase::Draining => self.gone(out),
            Phase::Deciding | Phase::Waiting | Phase::Gone => (),
            Phase::Relaying => self.on_half_closed_caller(now, out),
            Phase::Raw if self.up.finished => self.raw_ended(End::Close, out),
            Phase::Raw => out.end_up(End::Finish),
        }
    }

    /// The caller's connection is gone.
    pub fn down_lost(&mut self, out: &mut Output) {
        match self.phase {
            Phase::Raw => self.raw_ended(End::Abort, out),
            Phase::Deciding | Phase::Waiting | Phase::Relaying => self.caller_gone(out),
            Phase::Reading | Phase::Draining | Phase::Gone => self.gone(out),
        }
    }

    /// The upstream will send no more, and said so.
    pub fn up_finished(&mut self, now: Instant, out: &mut Output) {
        self.up.finished = true;
        match self.phase {
            Phase::Raw if self.down.finished => self.raw_ended(End::Close, out),
            Phase::Raw => out.end_down(End::Finish),
            Phase::Relaying => match self.flight.as_mut().map(|flight| &mut flight.answer) {
                // What it had sent before is still with the role.
                Some(Answer::WithRole { .. }) => (),
                Some(Answer::Flowing { reader: BodyReader::UntilClose, writer, .. }) => {
                    writer.finish(&mut out.down);
                    self.response_done(now, out);
                }
                Some(Answer::Awaited | Answer::Flowing { .. }) | None => {
                    self.upstream_gone(now, out);
                }
            },
            Phase::Waiting => self.upstream_gone(now, out),
            Phase::Reading | Phase::Deciding | Phase::Draining | Phase::Gone => {
                self.drop_up(End::Close, out);
            }
        }
    }

    /// The upstream connection is gone, and bytes may be missing.
    pub fn up_lost(&mut self, now: Instant, out: &mut Output) {
        match self.phase {
            Phase::Raw => self.raw_ended(End::Abort, out),
            Phase::Relaying | Phase::Waiting => self.upstream_gone(now, out),
            Phase::Reading | Phase::Deciding | Phase::Draining | Phase::Gone => {
                self.drop_up(End::Abort, out);
            }
        }
    }

    /// The same, with a sentence for a caller who has read nothing of a response yet.
    pub fn up_broken(&mut self, why: &str, now: Instant, out: &mut Output) {
        match self.phase {
            Phase::Waiting | Phase::Relaying => {
                self.fail(Failure::Unreachable(why.to_owned()), now, out);
            }
            Phase::Reading | Phase::Deciding | Phase::Raw | Phase::Draining | Phase::Gone => {
                self.up_lost(now, out);
            }
        }
    }

    /// Ends what is in flight because the caller's credential has expired. A response that flows
    /// ends without its last chunk, so that a client cannot take it for whole.
    pub fn cut(&mut self, now: Instant, out: &mut Output) {
        match self.phase {
            Phase::Raw => self.raw_ended(End::Close, out),
            Phase::Deciding | Phase::Waiting | Phase::Relaying => {
                self.fail(Failure::Cut, now, out);
            }
            Phase::Reading => self.end_down(now, out),
            Phase::Draining | Phase::Gone => (),
        }
    }

    /// Wants no further request: an idle connection ends now, a busy one after its response.
    pub fn close_when_idle(&mut self, now: Instant, out: &mut Output) {
        self.closing = true;
        if self.is_idle() {
            self.end_down(now, out);
        }
    }

    /// Takes note that time has passed.
    pub fn handle_deadline(&mut self, now: Instant, out: &mut Output) {
        while let Some(wait) = self.timers.expire(now) {
            match wait {
                Wait::Idle => self.end_down(now, out),
                Wait::Head => self.fail(Failure::SlowCaller, now, out),
                Wait::BodyRate => self.check_rate(now, out),
                Wait::ResponseHead | Wait::UpstreamReads => {
                    self.fail(Failure::SlowUpstream(self.upstream()), now, out);
                }
                Wait::CallerReads => self.fail(Failure::StalledCaller, now, out),
                Wait::UpstreamIdle => self.retire_up(out),
                Wait::Drain => self.gone(out),
                Wait::Traffic => {
                    let at = self.last_traffic + self.times.upgraded_idle;
                    if at > now {
                        self.timers.set(Wait::Traffic, at);
                    } else {
                        self.raw_ended(End::Close, out);
                    }
                }
            }
        }
    }

    /// Ends the exchange. The caller is told if nothing of a response has gone down yet; otherwise
    /// its connection breaks off.
    pub(super) fn fail(&mut self, failure: Failure, now: Instant, out: &mut Output) {
        let flight = self.flight.take();
        self.drop_up(End::Abort, out);
        match flight.as_ref().map(|flight| &flight.answer) {
            Some(Answer::Flowing { ends_with_connection, .. }) => {
                // What stands before the cut of a watch is complete events; let them arrive. Only a
                // body that ends with the connection would then look whole.
                let mild = failure == Failure::Cut && !ends_with_connection;
                out.end_down(if mild { End::Close } else { End::Abort });
                self.over();
            }
            Some(Answer::Awaited | Answer::WithRole { .. }) | None => {
                let in_text = flight.as_ref().is_some_and(|flight| flight.discovers);
                let respond = if in_text { event::text_response } else { status_response };
                let (head, body) = respond(failure.status(), &failure.to_string());
                let framing = Framing::Length(body.len() as u64);
                // A head of our own constants can be written.
                let _ = head.write(framing, false, &mut out.down);
                if flight.is_none_or(|flight| &*flight.method != "HEAD") {
                    out.down.extend_from_slice(&body);
                }
                self.end_down(now, out);
            }
        }
        self.events.push_back(Event::Failed(failure));
    }

    /// A caller that sends no more, while its request is upstream.
    pub(super) fn on_half_closed_caller(&mut self, now: Instant, out: &mut Output) {
        self.pump_down(now, out);
        let leaves = |flight: &super::Flight| flight.long_running || flight.upgrade.is_some();
        if !self.request_is_read() || self.flight.as_ref().is_some_and(leaves) {
            self.caller_gone(out);
        }
    }

    /// The last response is in the queue: no more from us, and a moment for the caller to see it.
    pub(super) fn end_down(&mut self, now: Instant, out: &mut Output) {
        self.drop_up(End::Close, out);
        if self.down.finished {
            self.gone(out);
            return;
        }
        out.end_down(End::Finish);
        self.phase = Phase::Draining;
        self.down.inbox = Vec::new();
        self.timers = Timers::new();
        self.timers.set(Wait::Drain, now + DRAIN_TIMEOUT);
    }

    /// Nothing is left to do but to close.
    pub(super) fn gone(&mut self, out: &mut Output) {
        self.drop_up(End::Close, out);
        out.end_down(End::Close);
        self.over();
    }

    fn upstream_gone(&mut self, now: Instant, out: &mut Output) {
        self.fail(Failure::UpstreamGone(self.upstream()), now, out);
    }

    fn caller_gone(&mut self, out: &mut Output) {
        self.drop_up(End::Abort, out);
        out.end_down(End::Abort);
        self.over();
        self.events.push_back(Event::Failed(Failure::CallerGone));
    }

    fn raw_ended(&mut self, end: End, out: &mut Output) {
        self.drop_up(end, out);
        out.end_down(end);
        self.over();
        self.events.push_back(Event::Complete);
    }

    fn over(&mut self) {
        self.phase = Phase::Gone;
        self.flight = None;
        self.down.inbox = Vec::new();
        self.timers = Timers::new();
    }

    fn check_rate(&mut self, now: Instant, out: &mut Output) {
        let least = self.times.body_rate.saturating_mul(BODY_RATE_WINDOW.as_secs());
        let Some(flight) = self.flight.as_mut() else { return };
        if flight.rate.is_some_and(|bytes| bytes < least) {
            self.fail(Failure::SlowCaller, now, out);
            return;
        }
        flight.rate = (!self.up.full).then_some(0);
        self.timers.set(Wait::BodyRate, now + BODY_RATE_WINDOW);
    }
}
