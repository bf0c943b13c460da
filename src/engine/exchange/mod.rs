//! One HTTP/1.1 connection, passed on request by request to at most one upstream connection.
//!
//! The auth proxy uses it between a caller's stream and kube-apiserver, the client proxy between
//! kubectl and a stream of its tunnel. The machine owns the protocol: reading both sides strictly,
//! framing every body anew, keep-alive, `100 Continue`, upgrades, time-outs, and which side ends
//! how when something breaks. The role owns the decisions: it answers each [`Event::Request`] with
//! [`Exchange::forward`] or [`Exchange::respond`], and each [`Event::Response`] with
//! [`Exchange::answer`] or [`Exchange::retry`].
//!
//! Invariants: no byte goes upstream before the decision; one request is in flight; a body that is
//! cut short never looks whole; and no byte of a caller reaches an upstream connection except as
//! part of a message that was read completely strictly, or after both sides agreed to an upgrade.
//!
//! ```text
//!  Reading ── head ──> Deciding ── forward ──> Waiting ── connected ──> Relaying ── 101 ──> Raw
//!     ^                   │ respond                                        │ complete
//!     └───────────────────┴────────────── keep-alive ──────────────────────┘
//!                         └── otherwise ──> Draining ──> Gone
//! ```
//!
//! After each call the role first passes on what is in [`Output`], bytes before ends, and then
//! takes the events: [`Event::Connect`] means a new upstream connection, the old one being over.

mod down;
mod end;
mod event;
mod pass;
#[cfg(test)]
mod tests;
mod times;
mod up;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub use event::{End, Event, Failure, Output, Patience, status_response};
pub use times::Times;

use super::timers::Timers;
use crate::buf::Pressure;
use crate::limits::READ_AHEAD_MAX;
use crate::wire::h1::{BodyReader, BodyWriter, Framing, Protocol, RequestHead, Scan, Version};

/// See the module's documentation.
#[derive(Debug)]
pub struct Exchange {
    phase: Phase,
    down: Side,
    up: Side,
    link: Link,
    flight: Option<Flight>,
    /// A request on this connection was let through.
    known: bool,
    /// No further request is wanted.
    closing: bool,
    drained: usize,
    last_traffic: Instant,
    times: Arc<Times>,
    /// The upstream, as a sentence about it has it.
    upstream: Option<Arc<str>>,
    timers: Timers<Wait>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Between requests, or within a head.
    Reading,
    /// A head is with the role.
    Deciding,
    /// A head waits for an upstream connection.
    Waiting,
    /// A head has gone upstream; bodies go both ways.
    Relaying,
    /// Upgraded: bytes go both ways.
    Raw,
    /// The last response has gone down; what still comes is discarded.
    Draining,
    /// Over.
    Gone,
}

/// What is kept for one of the two connections.
#[derive(Debug, Default)]
struct Side {
    /// Bytes that have come and cannot be used yet.
    inbox: Vec<u8>,
    scan: Scan,
    /// The peer will send no more.
    finished: bool,
    /// Our queue towards the peer is full.
    full: bool,
}

/// The upstream connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Link {
    None,
    Connecting,
    Idle,
    Busy,
}

/// The request that is being served.
#[derive(Debug)]
struct Flight {
    method: Box<str>,
    version: Version,
    upgrade: Option<Protocol>,
    long_running: bool,
    /// kubectl asks what the API server has.
    discovers: bool,
    /// The connection down can carry another request afterwards.
    keep_down: bool,
    /// The connection up can.
    keep_up: bool,
    continue_due: bool,
    /// The rewritten head, until it has gone upstream.
    head: Vec<u8>,
    body: BodyReader,
    writer: BodyWriter,
    /// Something of the body has gone upstream.
    body_sent: bool,
    /// Body bytes in the current stretch of time, unless the upstream was what held them up.
    rate: Option<u64>,
    interim: usize,
    answer: Answer,
}

/// How far the response is.
#[derive(Debug)]
enum Answer {
    /// No final head yet.
    Awaited,
    /// The head is with the role.
    WithRole { framing: Framing },
    /// The head has gone down.
    Flowing { reader: BodyReader, writer: BodyWriter, ends_with_connection: bool },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Wait {
    Idle,
    Head,
    BodyRate,
    ResponseHead,
    CallerReads,
    UpstreamReads,
    UpstreamIdle,
    Traffic,
    Drain,
}

impl Exchange {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::with_times(now, Arc::default())
    }

    /// The same, with another patience.
    #[must_use]
    pub fn with_times(now: Instant, times: Arc<Times>) -> Self {
        let mut timers = Timers::new();
        timers.set(Wait::Idle, now + times.stranger_idle);
        Self {
            phase: Phase::Reading,
            down: Side::default(),
            up: Side::default(),
            link: Link::None,
            flight: None,
            known: false,
            closing: false,
            drained: 0,
            last_traffic: now,
            times,
            upstream: None,
            timers,
            events: VecDeque::new(),
        }
    }

    /// The same, where `upstream` stands for the upstream in what a caller reads.
    #[must_use]
    pub fn calling(self, upstream: Arc<str>) -> Self {
        Self { upstream: Some(upstream), ..self }
    }

    fn upstream(&self) -> Arc<str> {
        self.upstream.clone().unwrap_or_else(|| Arc::from("the upstream"))
    }

    /// The next thing the role has to know. Pass on what is in [`Output`] first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_deadline`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether bytes from the caller can be used. While not, its connection should be paused; what
    /// comes all the same is kept.
    #[must_use]
    pub fn wants_down(&self) -> bool {
        let has_room = self.down.inbox.len() < READ_AHEAD_MAX;
        match self.phase {
            Phase::Reading => !self.down.full && has_room,
            Phase::Deciding | Phase::Waiting => has_room,
            Phase::Relaying if self.request_is_read() => has_room,
            Phase::Relaying | Phase::Raw => !self.up.full && has_room,
            Phase::Draining => true,
            Phase::Gone => false,
        }
    }

    /// Bytes of the caller's that have been taken and wait to be used.
    #[must_use]
    pub const fn kept_down(&self) -> usize {
        self.down.inbox.len()
    }

    /// Whether bytes from the upstream connection can be used.
    #[must_use]
    pub fn wants_up(&self) -> bool {
        let with_role = |it: &Flight| matches!(it.answer, Answer::WithRole { .. });
        match self.phase {
            Phase::Relaying => !self.down.full && !self.flight.as_ref().is_some_and(with_role),
            Phase::Raw => !self.down.full,
            // An idle connection is read so that its end is seen.
            Phase::Reading | Phase::Deciding | Phase::Waiting | Phase::Draining => true,
            Phase::Gone => false,
        }
    }

    /// Takes note of the queue towards the caller: call it when a send has filled it, and whenever
    /// bytes have left it.
    pub fn down_pressure(&mut self, pressure: Pressure, now: Instant, out: &mut Output) {
        self.down.full = pressure == Pressure::Full;
        self.watch_reader(Wait::CallerReads, self.down.full, now);
        if !self.down.full && self.phase == Phase::Reading {
            self.pump_down(now, out);
        }
    }

    /// Takes note of the queue towards the upstream, like [`Self::down_pressure`].
    pub fn up_pressure(&mut self, pressure: Pressure, now: Instant) {
        self.up.full = pressure == Pressure::Full;
        if let Some(flight) = self.flight.as_mut().filter(|_| self.up.full) {
            flight.rate = None;
        }
        self.watch_reader(Wait::UpstreamReads, self.up.full, now);
    }

    /// Nothing is in flight and nothing has been read of a next request.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Reading) && self.down.inbox.is_empty()
    }

    /// The connection was upgraded and carries bytes.
    #[must_use]
    pub const fn is_raw(&self) -> bool {
        matches!(self.phase, Phase::Raw)
    }

    /// Both sides are done with; drop the machine.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// The request body, if any, has been read to its end.
    fn request_is_read(&self) -> bool {
        self.flight.as_ref().is_none_or(|flight| flight.body.is_done())
    }

    /// Stalled readers get so long and no longer, except where a response may rest for hours: there
    /// the connection's own keep-alive tells the dead from the slow.
    fn watch_reader(&mut self, wait: Wait, is_full: bool, now: Instant) {
        let patient = self.flight.as_ref().is_none_or(|flight| flight.long_running);
        if self.phase == Phase::Relaying && !patient && is_full {
            self.timers.set(wait, now + self.times.slow_reader);
        } else {
            self.timers.cancel(wait);
        }
    }
}

impl Flight {
    fn new(head: &RequestHead) -> Self {
        let framing = head.framing();
        Self {
            method: head.method().into(),
            version: head.version(),
            upgrade: head.upgrade(),
            long_running: false,
            discovers: head
                .fields
                .all("accept")
                .any(|accept| memchr::memmem::find(accept, b"g=apidiscovery.k8s.io").is_some()),
            keep_down: head.keep_alive() && head.upgrade().is_none(),
            keep_up: false,
            continue_due: head.expects_continue(),
            head: Vec::new(),
            body: BodyReader::new(framing),
            writer: match framing {
                Framing::Chunked => BodyWriter::Chunked,
                Framing::None | Framing::Length(_) | Framing::UntilClose => BodyWriter::Plain,
            },
            body_sent: false,
            rate: Some(0),
            interim: 0,
            answer: Answer::Awaited,
        }
    }
}
