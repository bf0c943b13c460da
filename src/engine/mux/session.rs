//! The table of streams and the frames between its two ends.
//!
//! Streams with data take turns frame by frame, control frames go first. The session keeps no more
//! than its streams' outboxes: what has been received is handed on at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use super::credit::Overdraft;
use super::flow::Flow;
use super::ping::Pings;
use super::stream::Stream;
use crate::buf::{Pressure, Slice};
use crate::limits::{
    FRAME_MAX, MUX_CONTROL_MAX, MUX_HEADER, STREAM_ID_MAX, STREAMS_MAX, WINDOW_MAX,
};
use crate::wire::mux::{Flags, Header, Kind, Malformed, StreamId};

/// One end of a tunnel.
#[derive(Debug)]
pub struct Session {
    next_id: u32,
    /// The last id that the peer opened.
    peer_id: u32,
    streams: BTreeMap<StreamId, Box<Stream>>,
    /// Streams with a frame to send, in the order of their turns.
    turns: VecDeque<StreamId>,
    control: VecDeque<Header>,
    events: VecDeque<Event>,
    reader: Reader,
    pings: Pings,
    flow: Flow,
    /// We asked for no new streams.
    has_left: bool,
    /// The peer did.
    peer_left: bool,
}

/// Something for the role above.
#[derive(Debug)]
pub enum Event {
    /// The peer opened a stream.
    Opened(StreamId),
    /// Bytes arrived. Report with [`Session::drained`] when they have left the process.
    Data(StreamId, Slice),
    /// A stream whose outbox was full takes more.
    Writable(StreamId),
    /// The peer will send no more on this stream.
    Finished(StreamId),
    /// The stream is gone: both ends finished, or the peer reset it.
    Closed(StreamId, Ended),
    /// The peer wants no new streams on this session.
    GoingAway,
    /// The peer answered a ping.
    Pong(Duration),
    /// Much is received, here or by the peer, and whoever shares the session waits for it: see
    /// [`Session::is_crowded`].
    Crowded,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Both sides had finished.
    Clean,
    /// The peer gave it up.
    Reset,
    /// It came too late: the peer had asked for no new streams, and has taken nothing of it. It may
    /// be begun elsewhere.
    Refused,
}

/// The peer broke the protocol; the tunnel has to be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Violation {
    /// Not a frame.
    Malformed(Malformed),
    /// More data or credit than agreed.
    Overdraft(StreamId),
    /// A stream opened twice, or with an id of the wrong parity or order.
    BadOpen(StreamId),
    /// A data frame longer than any window.
    TooLong(u32),
    /// Pings or resets without end, and nothing read.
    Flood,
}

/// Where in a frame the bytes received so far end.
#[derive(Debug)]
enum Reader {
    Header { bytes: [u8; MUX_HEADER], have: usize },
    Data { stream: StreamId, left: usize, fin: bool },
}

impl Session {
    /// The end that dialled the tunnel, if `dialled`, and the end that accepted it otherwise.
    #[must_use]
    pub const fn new(dialled: bool) -> Self {
        Self {
            next_id: if dialled { 1 } else { 2 },
            peer_id: 0,
            streams: BTreeMap::new(),
            turns: VecDeque::new(),
            control: VecDeque::new(),
            events: VecDeque::new(),
            reader: Reader::START,
            pings: Pings::new(),
            flow: Flow::new(),
            has_left: false,
            peer_left: false,
        }
    }

    /// Opens a stream; its first frame says so to the peer. `None` when the session takes no more.
    pub fn open(&mut self) -> Option<StreamId> {
        if self.is_closing() || STREAMS_MAX <= self.streams.len() {
            return None;
        }
        let id = StreamId(self.next_id);
        self.next_id += 2;
        self.streams.insert(id, Box::new(Stream::new(Flags::SYN)));
        self.enqueue(id);
        Some(id)
    }

    /// Queues `data` on `stream`. On a stream that is gone it is dropped.
    pub fn send(&mut self, stream: StreamId, data: Slice) -> Pressure {
        let Some(state) = self.streams.get_mut(&stream) else { return Pressure::Open };
        let pressure = state.push(data);
        self.enqueue(stream);
        pressure
    }

    /// Whether more should be queued on `stream` now.
    pub fn pressure(&self, stream: StreamId) -> Pressure {
        self.streams.get(&stream).map_or(Pressure::Open, |it| it.pressure())
    }

    /// Sends no more on `stream` once its queue is empty.
    pub fn finish(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.finish();
            self.enqueue(stream);
        }
    }

    /// Gives `stream` up in both directions. No event follows.
    pub fn reset(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get(&stream) else { return };
        // Without an acknowledgement the peer may take it for refused, and begin it elsewhere.
        let flags = state.owed_with_reset() | Flags::RST;
        self.forget(stream);
        self.control.push_back(header(Kind::WindowUpdate, flags, stream, 0));
    }

    /// The peer is known to have `stream`: what is for it is not to be said elsewhere.
    #[must_use]
    pub fn is_taken(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_none_or(|stream| stream.is_taken)
    }

    /// `len` bytes received on `stream` have left the process: the peer may send as many more.
    pub fn drained(&mut self, stream: StreamId, len: usize, now: Instant) {
        let Some(state) = self.streams.get_mut(&stream).filter(|_| 0 < len) else { return };
        let grant = self.flow.drained(&mut state.recv, &mut state.visit, len, now);
        let grant = grant.filter(|_| !state.got_finish);
        if let Some(grant) = grant {
            self.control.push_back(header(Kind::WindowUpdate, Flags::NONE, stream, grant));
        }
        if self.flow.is_due(grant.is_some(), now) {
            self.ask(None, now);
        }
        if grant.is_some() && self.flow.is_crowded(now) {
            self.say_crowded();
        }
    }

    /// Measures a round trip and shows that the session lives. One question at a time. The highest
    /// bit of `value` is not used: see [`CROWDED`](crate::wire::mux::CROWDED).
    pub fn ping(&mut self, value: u32, now: Instant) {
        self.ask(Some(value), now);
    }

    fn ask(&mut self, value: Option<u32>, now: Instant) {
        let is_crowded = self.flow.is_crowded(now);
        self.control.extend(self.pings.ask(value, is_crowded, now));
    }

    /// Who shares the session with what is received on it, here or by the peer, waits for longer than
    /// two round trips and a little, and windows have had the time to shrink, as on a way that loses
    /// packets.
    #[must_use]
    pub fn is_crowded(&self, now: Instant) -> bool {
        self.flow.is_crowded(now) || self.pings.peer_is_crowded(now)
    }

    /// An answer of the peer is so late that it may never come.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.pings.is_overdue(now)
    }

    /// The round trip without what waits on the way, once it has been measured.
    #[must_use]
    pub fn way(&self) -> Option<Duration> {
        self.flow.base()
    }

    /// A peer that says so a thousand times in a row is heard once.
    fn say_crowded(&mut self) {
        if !matches!(self.events.back(), Some(Event::Crowded)) {
            self.events.push_back(Event::Crowded);
        }
    }

    /// When the ping left that has no answer yet.
    #[must_use]
    pub fn unanswered(&self) -> Option<Instant> {
        self.pings.unanswered()
    }

    /// Asks the peer for no new streams; those there are go on, and one that is on its way is
    /// refused.
    pub fn go_away(&mut self) {
        if !std::mem::replace(&mut self.has_left, true) {
            self.control.push_back(header(Kind::GoAway, Flags::NONE, StreamId(0), 0));
        }
    }

    /// Takes decrypted bytes of the tunnel, cut anywhere.
    ///
    /// # Errors
    ///
    /// [`Violation`]: close the tunnel.
    pub fn receive(&mut self, mut bytes: Slice, now: Instant) -> Result<(), Violation> {
        while !bytes.is_empty() {
            match &mut self.reader {
                Reader::Header { bytes: head, have } => {
                    let take = (MUX_HEADER - *have).min(bytes.len());
                    head[*have..*have + take].copy_from_slice(&bytes[..take]);
                    *have += take;
                    bytes.advance(take);
                    if *have == MUX_HEADER {
                        let head = *head;
                        self.reader = Reader::START;
                        let head = Header::decode(head).map_err(Violation::Malformed)?;
                        self.on_header(head, now)?;
                    }
                }
                &mut Reader::Data { stream, left, fin } => {
                    let piece = bytes.split_to(left.min(bytes.len()));
                    let left = left - piece.len();
                    self.flow.received(piece.len(), now);
                    self.reader = match left {
                        0 => Reader::START,
                        _ => Reader::Data { stream, left, fin },
                    };
                    if self.streams.contains_key(&stream) {
                        self.events.push_back(Event::Data(stream, piece));
                    }
                    if left == 0 && fin {
                        self.on_finish(stream);
                    }
                }
            }
        }
        Ok(())
    }

    /// What has happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends the next frame to `out`, at most [`FRAME_MAX`] bytes. `false` if there is none.
    pub fn transmit(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(head) = self.control.pop_front() {
            out.extend_from_slice(&head.encode());
            return true;
        }
        while let Some(id) = self.turns.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.queued = false;
            if !stream.is_ready() {
                continue;
            }
            let start = out.len();
            out.extend_from_slice(&[0; MUX_HEADER]);
            let (len, flags) = stream.take(out, FRAME_MAX - MUX_HEADER);
            let len = u32::try_from(len).expect("a frame has at most 16 KiB");
            // A frame without data that carries flags is a window update in yamux.
            let kind = if len == 0 { Kind::WindowUpdate } else { Kind::Data };
            let head = header(kind, flags, id, len);
            out[start..start + MUX_HEADER].copy_from_slice(&head.encode());
            if stream.relieved() {
                self.events.push_back(Event::Writable(id));
            }
            if stream.is_over() {
                self.end(id, Ended::Clean);
            } else {
                self.enqueue(id);
            }
            return true;
        }
        false
    }

    /// Whether [`Self::transmit`] may have something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty() || !self.turns.is_empty()
    }

    /// Streams there are now.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The ids of all streams.
    pub fn ids(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// No new streams can be opened: the peer or we said so, or ids run out.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.has_left || self.peer_left || STREAM_ID_MAX < self.next_id
    }

    fn on_header(&mut self, head: Header, now: Instant) -> Result<(), Violation> {
        if MUX_CONTROL_MAX < self.control.len() {
            return Err(Violation::Flood);
        }
        match head.kind {
            Kind::Data | Kind::WindowUpdate => self.on_stream_frame(head),
            Kind::Ping if head.flags.has(Flags::SYN) => {
                self.control.push_back(self.pings.answer(head.length, now));
                if self.pings.peer_is_crowded(now) {
                    self.say_crowded();
                }
                Ok(())
            }
            Kind::Ping => {
                if let Some(round_trip) = self.pings.answered(head.length, now) {
                    self.flow.measured(round_trip, now);
                    self.events.push_back(Event::Pong(round_trip));
                }
                Ok(())
            }
            Kind::GoAway => {
                self.peer_left = true;
                self.events.push_back(Event::GoingAway);
                Ok(())
            }
        }
    }

    fn on_stream_frame(&mut self, head: Header) -> Result<(), Violation> {
        let id = head.stream;
        if head.flags.has(Flags::SYN) {
            self.on_syn(id)?;
        }
        let len = if head.kind == Kind::Data { head.length } else { 0 };
        let fin = head.flags.has(Flags::FIN);
        // Frames of a stream that we gave up may still be on their way: their data is passed over.
        let known = match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.is_taken |= head.flags.has(Flags::ACK) || !head.flags.has(Flags::RST);
                match head.kind {
                    Kind::Data => stream.recv.used(head.length),
                    _ => stream.send.grant(head.length),
                }
                .map_err(|Overdraft| Violation::Overdraft(id))?;
                true
            }
            None => false,
        };
        if head.flags.has(Flags::RST) {
            let is_refused = self.peer_left && !self.is_taken(id);
            if known {
                self.end(id, if is_refused { Ended::Refused } else { Ended::Reset });
            }
        } else if known {
            self.enqueue(id);
        }
        if WINDOW_MAX < len {
            return Err(Violation::TooLong(len));
        }
        if 0 < len {
            self.reader = Reader::Data { stream: id, left: len as usize, fin };
        } else if fin {
            self.on_finish(id);
        }
        Ok(())
    }

    fn on_syn(&mut self, id: StreamId) -> Result<(), Violation> {
        let ours = id.0 % 2 == self.next_id % 2;
        if id.0 == 0 || ours || id.0 <= self.peer_id {
            return Err(Violation::BadOpen(id));
        }
        self.peer_id = id.0;
        // After our go-away, which goes first, its opener knows from a reset without an
        // acknowledgement that it can try elsewhere.
        if self.has_left || self.peer_left || STREAMS_MAX <= self.streams.len() {
            self.control.push_back(header(Kind::WindowUpdate, Flags::RST, id, 0));
            return Ok(());
        }
        self.streams.insert(id, Box::new(Stream::new(Flags::ACK)));
        self.enqueue(id);
        self.events.push_back(Event::Opened(id));
        Ok(())
    }

    fn on_finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if std::mem::replace(&mut stream.got_finish, true) {
            return;
        }
        self.events.push_back(Event::Finished(id));
        if stream.is_over() {
            self.end(id, Ended::Clean);
        }
    }

    fn end(&mut self, id: StreamId, how: Ended) {
        self.forget(id);
        self.events.push_back(Event::Closed(id, how));
    }

    fn forget(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.remove(&id) else { return false };
        self.flow.forget(&stream.recv);
        true
    }

    fn enqueue(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.queued && stream.is_ready() {
            stream.queued = true;
            self.turns.push_back(id);
        }
    }
}

impl Reader {
    const START: Self = Self::Header { bytes: [0; MUX_HEADER], have: 0 };
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(err) => err.fmt(f),
            Self::Overdraft(StreamId(id)) => write!(f, "stream {id} exceeded its window"),
            Self::BadOpen(StreamId(id)) => write!(f, "stream {id} may not be opened"),
            Self::TooLong(len) => write!(f, "mux frame of {len} bytes is longer than any window"),
            Self::Flood => f.write_str("too many mux control frames without reading"),
        }
    }
}

impl std::error::Error for Violation {}

pub(super) const fn header(kind: Kind, flags: Flags, stream: StreamId, length: u32) -> Header {
    Header { kind, flags, stream, length }
}
