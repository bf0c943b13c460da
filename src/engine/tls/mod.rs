//! One TLS connection without a socket, over rustls' unbuffered API.
//!
//! [`Session::receive`] takes ciphertext cut anywhere and decrypts it in place; what is left of an
//! incomplete record waits here for the rest. [`Session::seal`] makes records. Moving to another
//! version of rustls changes this file and no other.

mod room;

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};
use rustls::{ClientConfig, Error, HandshakeKind, ServerConfig};

pub use room::{Fresh, Room, Sealed};

/// The largest plaintext of one record.
pub const RECORD: usize = 16 * 1024;

/// What a record adds to its plaintext, at most.
pub const OVERHEAD: usize = 5 + 256;

/// The most ciphertext that waits for its rest: a handshake message over several records. Every
/// certificate chain in use is far smaller.
const TAIL_MAX: usize = 64 * 1024;

/// Bytes of a record's header: type, version, length.
const RECORD_HEADER: usize = 5;

/// One connection.
///
/// rustls remembers places in the buffer that it was given: where a handshake message began whose
/// rest has not come. Each call therefore gets the same bytes again, at the same places, until they
/// are used up; to call it without them would be a panic, in the peer's hands.
pub struct Session {
    side: Side,
    /// What has come and is not used up: a part of a record, and before it whole records with a
    /// part of a handshake message.
    tail: Vec<u8>,
    /// How many bytes of [`Self::tail`] are whole records. Their headers may be overwritten.
    whole: usize,
    established: bool,
    /// The peer broke TLS: rustls is not called any more.
    failed: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    /// Behind a table of functions, so that a program that accepts nothing links no server.
    Server(Box<dyn Accepting>),
}

/// The accepting side of rustls, as far as it is used.
trait Accepting: Send {
    fn is_handshaking(&self) -> bool;
    fn handshake_kind(&self) -> Option<HandshakeKind>;
    fn alpn(&self) -> Option<&[u8]>;
    fn step(
        &mut self,
        incoming: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
        tls: &mut dyn Room,
    ) -> (usize, Result<Option<State>, Error>);
    fn seal(&mut self, tail: &mut [u8], plain: &[u8], tls: &mut dyn Room) -> Result<bool, Error>;
    fn close(&mut self, tail: &mut [u8], tls: &mut dyn Room) -> bool;
}

impl Accepting for UnbufferedServerConnection {
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }

    fn handshake_kind(&self) -> Option<HandshakeKind> {
        (**self).handshake_kind()
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.alpn_protocol()
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
        tls: &mut dyn Room,
    ) -> (usize, Result<Option<State>, Error>) {
        step(self.process_tls_records(incoming), deliver, tls)
    }

    fn seal(&mut self, tail: &mut [u8], plain: &[u8], tls: &mut dyn Room) -> Result<bool, Error> {
        seal_record(self.process_tls_records(tail), plain, tls)
    }

    fn close(&mut self, tail: &mut [u8], tls: &mut dyn Room) -> bool {
        close(self.process_tls_records(tail), tls)
    }
}

/// What gives each accepted connection its session. It holds the function that makes one beside
/// the configuration: a program that never makes an acceptor links no TLS server.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    start: fn(Arc<ServerConfig>) -> Result<Session, Error>,
}

impl Acceptor {
    /// Sessions by `config`.
    #[must_use]
    pub const fn new(config: Arc<ServerConfig>) -> Self {
        Self { config, start: Session::server }
    }

    /// The accepting side of one connection.
    ///
    /// # Errors
    ///
    /// What rustls reports for the configuration.
    pub fn session(&self) -> Result<Session, Error> {
        (self.start)(Arc::clone(&self.config))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Where the connection stands after [`Session::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// [`Session::seal`] is not possible yet.
    Handshaking,
    /// Both directions carry data.
    Established,
    /// The peer has sent `close_notify`: all of its data has been seen.
    PeerClosed,
}

impl Session {
    /// Starts the dialling side. [`Self::receive`] of nothing gives its first flight.
    ///
    /// # Errors
    ///
    /// What rustls reports for the configuration.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name)
            .map(|conn| Self::new(Side::Client(Box::new(conn))))
    }

    /// Starts the accepting side.
    ///
    /// # Errors
    ///
    /// What rustls reports for the configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(|conn| Self::new(Side::Server(Box::new(conn))))
    }

    const fn new(side: Side) -> Self {
        Self { side, tail: Vec::new(), whole: 0, established: false, failed: false }
    }

    /// The handshake is done: [`Self::seal`] works.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the handshake, once done, was one that goes on from an earlier connection.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.side {
            Side::Client(conn) => conn.handshake_kind(),
            Side::Server(conn) => conn.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    fn is_handshaking(&self) -> bool {
        match &self.side {
            Side::Client(conn) => conn.is_handshaking(),
            Side::Server(conn) => conn.is_handshaking(),
        }
    }

    /// The protocol that both sides agreed on (ALPN, RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Client(conn) => conn.alpn_protocol(),
            Side::Server(conn) => conn.alpn(),
        }
    }

    /// Takes ciphertext, hands each record's plaintext to `deliver`, and appends handshake and
    /// alert records for the peer to `tls`.
    ///
    /// # Errors
    ///
    /// The peer broke TLS. `tls` may hold an alert that is still worth sending.
    pub fn receive(
        &mut self,
        mut incoming: &mut [u8],
        mut deliver: impl FnMut(&[u8]),
        tls: &mut dyn Room,
    ) -> Result<State, Error> {
        loop {
            let state = if self.tail.is_empty() {
                let whole = whole(incoming, 0);
                let (used, state) = self.open(incoming, &mut deliver, tls)?;
                self.tail.extend_from_slice(incoming.get(used..).unwrap_or_default());
                self.whole = whole.saturating_sub(used);
                incoming = &mut [];
                state
            } else {
                let take = missing(&self.tail, self.whole).min(incoming.len());
                let (head, rest) = std::mem::take(&mut incoming).split_at_mut(take);
                self.tail.extend_from_slice(head);
                incoming = rest;
                let whole = whole(&self.tail, self.whole);
                let mut tail = std::mem::take(&mut self.tail);
                let (used, state) = self.open(&mut tail, &mut deliver, tls)?;
                tail.drain(..used);
                self.whole = whole.saturating_sub(used);
                self.tail = tail;
                state
            };
            if TAIL_MAX < self.tail.len() {
                self.failed = true;
                return Err(Error::General("TLS message over 64 KiB".into()));
            }
            self.established |= match state {
                State::Handshaking => false,
                State::Established => true,
                // The last of the handshake and the peer's end may have come together.
                State::PeerClosed => !self.is_handshaking(),
            };
            if state == State::PeerClosed {
                (self.tail, self.whole) = (Vec::new(), 0);
            }
            if incoming.is_empty() || state == State::PeerClosed {
                return Ok(state);
            }
        }
    }

    /// Appends `close_notify` to `tls`: the peer will know that it has seen everything.
    pub fn close(&mut self, tls: &mut dyn Room) {
        if self.failed {
            return;
        }
        let Self { side, tail, .. } = self;
        // Something that is due goes out first, which takes rounds of its own.
        while match side {
            Side::Client(conn) => close(conn.process_tls_records(tail), tls),
            Side::Server(conn) => conn.close(tail, tls),
        } {}
    }

    fn open(
        &mut self,
        incoming: &mut [u8],
        deliver: &mut impl FnMut(&[u8]),
        tls: &mut dyn Room,
    ) -> Result<(usize, State), Error> {
        if self.failed {
            return Err(Error::General("TLS has failed before".into()));
        }
        let mut used = 0;
        loop {
            let (discard, next) = self.step(&mut incoming[used..], deliver, tls);
            used += discard;
            match next {
                Ok(None) => (),
                Ok(Some(state)) => return Ok((used, state)),
                Err(err) => {
                    // rustls has queued an alert, which comes out as if nothing had happened. Not a
                    // call more: it would read once more what it has choked on.
                    loop {
                        let before = tls.len();
                        let (discard, next) = self.step(&mut incoming[used..], &mut |_| (), tls);
                        used += discard;
                        let said = tls.get(before..).unwrap_or_default();
                        if !matches!(next, Ok(None)) || is_alert(said) {
                            break;
                        }
                    }
                    self.failed = true;
                    return Err(err);
                }
            }
        }
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        deliver: &mut impl FnMut(&[u8]),
        tls: &mut dyn Room,
    ) -> (usize, Result<Option<State>, Error>) {
        match &mut self.side {
            Side::Client(conn) => step(conn.process_tls_records(incoming), deliver, tls),
            Side::Server(conn) => conn.step(incoming, deliver, tls),
        }
    }

    /// Encrypts `plain` into records appended to `tls`. Only after [`State::Established`].
    ///
    /// # Errors
    ///
    /// The connection cannot send, because it is closed or its keys are used up.
    pub fn seal(&mut self, plain: &[u8], tls: &mut dyn Room) -> Result<(), Error> {
        if self.failed {
            return Err(Error::General("TLS has failed before".into()));
        }
        let Self { side, tail, .. } = self;
        for record in plain.chunks(RECORD) {
            // A key update that is due goes out first, which takes rounds of its own.
            while !match side {
                Side::Client(conn) => seal_record(conn.process_tls_records(tail), record, tls)?,
                Side::Server(conn) => conn.seal(tail, record, tls)?,
            } {}
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.side {
            Side::Client(_) => "Session::Client",
            Side::Server(_) => "Session::Server",
        })
    }
}

/// Handles one state; `None` asks to be called again. Also says how many bytes are used up.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    deliver: &mut (impl FnMut(&[u8]) + ?Sized),
    tls: &mut dyn Room,
) -> (usize, Result<Option<State>, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let next = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(None),
                Some(Ok(record)) => {
                    discard += record.discard;
                    deliver(record.payload);
                }
                Some(Err(err)) => break Err(err),
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, tls).map(|()| None),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(None)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Some(State::Handshaking)),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Some(State::Established)),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Some(State::PeerClosed)),
        Ok(_) => Err(Error::General("unexpected TLS state".into())),
        Err(err) => Err(err),
    };
    (discard, next)
}

/// Encrypts one record if the state allows it now; `false` asks to be called again.
fn seal_record<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    tls: &mut dyn Room,
) -> Result<bool, Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            append(tls, plain.len() + OVERHEAD, |room| {
                traffic.encrypt(plain, room).map_err(|err| match err {
                    EncryptError::InsufficientSize(err) => Some(err),
                    EncryptError::EncryptExhausted => None,
                })
            })?;
            Ok(true)
        }
        ConnectionState::EncodeTlsData(data) => encode(data, tls).map(|()| false),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(false)
        }
        _ => Err(Error::HandshakeNotComplete),
    }
}

/// Encrypts `close_notify`, or what is due before it: then it asks to be called again.
fn close<Data>(status: UnbufferedStatus<'_, '_, Data>, tls: &mut dyn Room) -> bool {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            // Without room or with used-up keys there is nothing better to do than to leave it out.
            let _ = append(tls, OVERHEAD, |room| {
                traffic.queue_close_notify(room).map_err(|err| match err {
                    EncryptError::InsufficientSize(err) => Some(err),
                    EncryptError::EncryptExhausted => None,
                })
            });
            false
        }
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, tls).is_ok(),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            true
        }
        _ => false,
    }
}

/// Whether `record` is an alert: in TLS 1.3 its type is encrypted, but nothing else is as short.
const fn is_alert(record: &[u8]) -> bool {
    matches!(record, [21, ..] | [23, _, _, 0, 19, ..])
}

/// Where the last whole record in `bytes` ends; `from` is where one begins.
fn whole(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(end) = record_end(bytes, at).filter(|end| *end <= bytes.len()) {
        at = end;
    }
    at
}

/// How many bytes the record at `at` lacks, or its header.
fn missing(tail: &[u8], at: usize) -> usize {
    let end = record_end(tail, at).unwrap_or(at + RECORD_HEADER);
    end.saturating_sub(tail.len())
}

/// Where the record at `at` ends, if its header is here.
fn record_end(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at + RECORD_HEADER)?;
    let &[_, _, _, high, low] = header else { return None };
    Some(at + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low])))
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, tls: &mut dyn Room) -> Result<(), Error> {
    append(tls, RECORD + OVERHEAD, |room| {
        data.encode(room).map_err(|err| match err {
            EncodeError::InsufficientSize(err) => Some(err),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Lets `write` fill room at the end of `tls`, and once more if it names a larger size.
fn append(
    tls: &mut dyn Room,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Error> {
    let mut make = |room: &mut [u8]| write(room).map_err(|err| err.map(|err| err.required_size));
    match tls.append(room, &mut make) {
        Err(Some(required)) => tls.append(required, &mut make),
        result => result,
    }
    .map_err(|_| Error::EncryptError)
}
