//! The end-to-end session between client proxy and auth proxy: TLS 1.3, and inside it either many
//! streams (ALPN `cluster-connect/1`, or `cluster-connect-bench/1` to measure) or one plain
//! connection (`http/1.1`), which is then served as the only stream of a session.
//!
//! Bytes of the rendezvous go in and out; what carries them is not known here.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::mux::{Ended, Event, Session, Violation};
use super::tls::{self, Room, State};
pub use super::tlsconf::{ALPN_BENCH, ALPN_HTTP, ALPN_TUNNEL as ALPN_MUX};
use crate::buf::{Lease, Outbox, Pool, Pressure, Slice};
use crate::limits::{CONN_OUTBOX, FRAME_MAX, WINDOW};
use crate::wire::mux::StreamId;

/// One end of the session.
#[derive(Debug)]
pub struct Tunnel {
    tls: tls::Session,
    inner: Inner,
    dialled: bool,
    /// Handshake and alert records to be sent before everything else.
    flight: Vec<u8>,
    /// One frame on its way into a record.
    frame: Vec<u8>,
    /// There was no frame when last asked.
    is_idle: bool,
    /// Plaintext of the records received in one call.
    plain: Vec<Lease>,
    /// Nothing is left to be said but why.
    is_broken: bool,
}

/// The tunnel is of no further use.
#[derive(Debug)]
pub enum Broken {
    /// The peer is not who it should be, or broke TLS.
    Tls(rustls::Error),
    /// The peer broke the stream protocol.
    Mux(Violation),
    /// No protocol in common.
    NoProtocol,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every tunnel has a session")]
enum Inner {
    Handshaking,
    Mux(Session),
    Single(Single),
}

/// The one stream of a plain connection.
#[derive(Debug)]
struct Single {
    outbox: Outbox,
    events: VecDeque<Event>,
    /// Received and not drained.
    held: usize,
    finishing: bool,
    sent_finish: bool,
    got_finish: bool,
    over: bool,
}

/// The stream of a plain connection.
const ONLY: StreamId = StreamId(1);

impl Tunnel {
    /// The client proxy's end.
    ///
    /// # Errors
    ///
    /// What rustls reports for the configuration.
    pub fn dial(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut tls = tls::Session::client(config, name)?;
        let mut flight = Vec::new();
        tls.receive(&mut [], |_| (), &mut flight)?;
        Ok(Self::new(tls, true, flight))
    }

    /// The auth proxy's end.
    ///
    /// # Errors
    ///
    /// What rustls reports for the configuration.
    pub fn accept(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(tls::Session::server(config)?, false, Vec::new()))
    }

    const fn new(tls: tls::Session, dialled: bool, flight: Vec<u8>) -> Self {
        Self {
            tls,
            inner: Inner::Handshaking,
            dialled,
            flight,
            frame: Vec::new(),
            is_idle: true,
            plain: Vec::new(),
            is_broken: false,
        }
    }

    /// The handshake is done.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        !matches!(self.inner, Inner::Handshaking)
    }

    /// Its handshake went on from an earlier session between the same two ends.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.is_resumed()
    }

    /// Its streams carry nothing but what measures.
    #[must_use]
    pub fn measures(&self) -> bool {
        self.is_established() && self.tls.alpn() == Some(ALPN_BENCH)
    }

    /// Takes bytes of the rendezvous and decrypts them in place.
    ///
    /// # Errors
    ///
    /// [`Broken`]: send what [`Self::transmit`] still gives, then drop the rendezvous.
    pub fn receive(
        &mut self,
        incoming: &mut [u8],
        pool: &Pool,
        now: Instant,
    ) -> Result<(), Broken> {
        let result = self.open_records(incoming, pool, now);
        self.is_broken |= result.is_err();
        result
    }

    fn open_records(
        &mut self,
        incoming: &mut [u8],
        pool: &Pool,
        now: Instant,
    ) -> Result<(), Broken> {
        let plain = &mut self.plain;
        let state = self
            .tls
            .receive(incoming, |record| gather(plain, pool, record), &mut self.flight)
            .map_err(Broken::Tls)?;
        if !self.is_established() && self.tls.is_established() {
            self.inner = match self.tls.alpn() {
                Some(ALPN_MUX | ALPN_BENCH) => Inner::Mux(Session::new(self.dialled)),
                Some(ALPN_HTTP) if !self.dialled => Inner::Single(Single::new()),
                _ => return Err(Broken::NoProtocol),
            };
        }
        for lease in self.plain.drain(..) {
            match &mut self.inner {
                Inner::Mux(session) => {
                    session.receive(lease.freeze(), now).map_err(Broken::Mux)?;
                }
                Inner::Single(single) => single.receive(lease.freeze()),
                Inner::Handshaking => (),
            }
        }
        if state == State::PeerClosed
            && let Inner::Single(single) = &mut self.inner
        {
            single.on_finish();
        }
        Ok(())
    }

    /// Appends the next records to `out`: one frame, or what the handshake has to say. `false` if
    /// there is nothing.
    pub fn transmit(&mut self, out: &mut dyn Room) -> bool {
        if !self.flight.is_empty() {
            return self.take_off(out);
        }
        if self.is_broken {
            return false;
        }
        self.frame.clear();
        let any = match &mut self.inner {
            Inner::Handshaking => false,
            Inner::Mux(session) => session.transmit(&mut self.frame),
            Inner::Single(single) => single.transmit(&mut self.frame),
        };
        if std::mem::replace(&mut self.is_idle, !any) && !any {
            // Asked twice in vain: who sends has its room at hand, who is idle has none.
            self.frame = Vec::new();
        }
        if any && self.tls.seal(&self.frame, out).is_err() {
            // TLS has failed, or its end was said. Whoever reads will be told.
            self.is_broken = true;
            return false;
        }
        if let Inner::Single(single) = &mut self.inner
            && single.ends_now()
        {
            self.tls.close(out);
            return true;
        }
        any
    }

    /// Moves as much of the flight as `out` has room for.
    fn take_off(&mut self, out: &mut dyn Room) -> bool {
        // Flights are rare, and rustls wants room for far more than there is: not kept.
        let flight = std::mem::take(&mut self.flight);
        let mut moved = 0;
        let _ = out.append(flight.len(), &mut |room| {
            moved = room.len().min(flight.len());
            room[..moved].copy_from_slice(&flight[..moved]);
            Ok(moved)
        });
        self.flight.extend_from_slice(&flight[moved..]);
        0 < moved
    }

    /// Opens a stream. `None` when there can be none now.
    pub fn open(&mut self) -> Option<StreamId> {
        match &mut self.inner {
            Inner::Mux(session) => session.open(),
            Inner::Handshaking | Inner::Single(_) => None,
        }
    }

    /// Queues `data` on `stream`.
    pub fn send(&mut self, stream: StreamId, data: Slice) -> Pressure {
        match &mut self.inner {
            Inner::Mux(session) => session.send(stream, data),
            Inner::Single(single) => single.outbox.push(data),
            Inner::Handshaking => Pressure::Open,
        }
    }

    /// Whether more should be queued on `stream` now.
    pub fn pressure(&self, stream: StreamId) -> Pressure {
        match &self.inner {
            Inner::Mux(session) => session.pressure(stream),
            Inner::Single(single) => single.outbox.pressure(),
            Inner::Handshaking => Pressure::Open,
        }
    }

    /// Sends no more on `stream` once its queue is empty.
    pub fn finish(&mut self, stream: StreamId) {
        match &mut self.inner {
            Inner::Mux(session) => session.finish(stream),
            Inner::Single(single) => single.finishing = true,
            Inner::Handshaking => (),
        }
    }

    /// Gives `stream` up. `false` when that means to drop the rendezvous, because the stream is
    /// all there is.
    #[must_use]
    pub fn reset(&mut self, stream: StreamId) -> bool {
        match &mut self.inner {
            Inner::Mux(session) => session.reset(stream),
            Inner::Single(_) | Inner::Handshaking => return false,
        }
        true
    }

    /// The other end is known to have `stream`.
    #[must_use]
    pub fn is_taken(&self, stream: StreamId) -> bool {
        match &self.inner {
            Inner::Mux(session) => session.is_taken(stream),
            Inner::Single(_) | Inner::Handshaking => true,
        }
    }

    /// `len` bytes received on `stream` have left the process.
    pub fn drained(&mut self, stream: StreamId, len: usize, now: Instant) {
        match &mut self.inner {
            Inner::Mux(session) => session.drained(stream, len, now),
            Inner::Single(single) => single.held = single.held.saturating_sub(len),
            Inner::Handshaking => (),
        }
    }

    /// The rendezvous should not be read now: its only stream holds a window full of bytes. A
    /// session of many streams is always read; its streams run out of credit instead.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        matches!(&self.inner, Inner::Single(single) if WINDOW as usize <= single.held)
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        match &mut self.inner {
            Inner::Handshaking => None,
            Inner::Mux(session) => session.poll_event(),
            Inner::Single(single) => single.events.pop_front(),
        }
    }

    /// Streams wait for each other for longer than they should: see [`Session::is_crowded`].
    #[must_use]
    pub fn is_crowded(&self, now: Instant) -> bool {
        matches!(&self.inner, Inner::Mux(session) if session.is_crowded(now))
    }

    /// The other end may be gone: see [`Session::is_overdue`].
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        matches!(&self.inner, Inner::Mux(session) if session.is_overdue(now))
    }

    /// How long the way to the other end and back is: see [`Session::way`].
    #[must_use]
    pub fn way(&self) -> Option<Duration> {
        if let Inner::Mux(session) = &self.inner { session.way() } else { None }
    }

    /// The table of streams, where there is one.
    pub const fn session(&mut self) -> Option<&mut Session> {
        match &mut self.inner {
            Inner::Mux(session) => Some(session),
            Inner::Handshaking | Inner::Single(_) => None,
        }
    }

    /// Asks for no new streams; those that are on their way are refused.
    pub fn go_away(&mut self) {
        if let Inner::Mux(session) = &mut self.inner {
            session.go_away();
        }
    }

    /// The peer of a plain connection has said that it sends no more, and may still be owed an
    /// answer. A session of many streams cannot go on in one direction.
    #[must_use]
    pub const fn is_owed(&self) -> bool {
        matches!(&self.inner, Inner::Single(single) if single.got_finish && !single.sent_finish)
    }

    /// Everything has been said on a plain connection, its end included.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(&self.inner, Inner::Single(single) if single.sent_finish)
    }

    /// Streams there are now.
    #[must_use]
    pub fn streams(&self) -> usize {
        match &self.inner {
            Inner::Handshaking => 0,
            Inner::Mux(session) => session.streams(),
            Inner::Single(single) => usize::from(!single.over),
        }
    }
}

impl Single {
    fn new() -> Self {
        Self {
            outbox: Outbox::new(CONN_OUTBOX),
            events: VecDeque::from([Event::Opened(ONLY)]),
            held: 0,
            finishing: false,
            sent_finish: false,
            got_finish: false,
            over: false,
        }
    }

    fn receive(&mut self, data: Slice) {
        self.held += data.len();
        self.events.push_back(Event::Data(ONLY, data));
    }

    fn on_finish(&mut self) {
        if !std::mem::replace(&mut self.got_finish, true) {
            self.events.push_back(Event::Finished(ONLY));
            self.end_if_over();
        }
    }

    fn transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let full = self.outbox.pressure() == Pressure::Full;
        let any = 0 < self.outbox.fill(out, FRAME_MAX);
        if full && self.outbox.pressure() == Pressure::Open {
            self.events.push_back(Event::Writable(ONLY));
        }
        any
    }

    /// True once: everything is sent and the end has to be said.
    fn ends_now(&mut self) -> bool {
        let ends = self.finishing && self.outbox.is_empty() && !self.sent_finish;
        if ends {
            self.sent_finish = true;
            self.end_if_over();
        }
        ends
    }

    fn end_if_over(&mut self) {
        if self.sent_finish && self.got_finish && !std::mem::replace(&mut self.over, true) {
            self.events.push_back(Event::Closed(ONLY, Ended::Clean));
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(err) => err.fmt(f),
            Self::Mux(err) => err.fmt(f),
            Self::NoProtocol => f.write_str("no application protocol in common"),
        }
    }
}

impl std::error::Error for Broken {}

/// Collects plaintext in as few buffers as it fits in. The bytes are in the process already, so
/// the pool's limit does not apply: what is read at a time is bounded.
fn gather(plain: &mut Vec<Lease>, pool: &Pool, mut record: &[u8]) {
    while !record.is_empty() {
        let count = plain.last_mut().map_or(0, |lease| lease.fill(record));
        record = record.get(count..).unwrap_or_default();
        if !record.is_empty() {
            plain.push(pool.lease_beyond());
        }
    }
}
