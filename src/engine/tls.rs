//! One TLS connection without a socket, over rustls' unbuffered API.
//!
//! [`Session::receive`] takes ciphertext cut anywhere and decrypts it in place; what is left of an
//! incomplete record waits here for the rest. [`Session::seal`] makes records. Moving to another
//! version of rustls changes this file and no other.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};
use rustls::{ClientConfig, Error, ServerConfig};

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
pub struct Session {
    side: Side,
    /// Ciphertext of a record whose rest has not come yet.
    tail: Vec<u8>,
    established: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
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
        UnbufferedClientConnection::new(config, name).map(|conn| Self::new(Side::Client(conn)))
    }

    /// Starts the accepting side.
    ///
    /// # Errors
    ///
    /// What rustls reports for the configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(|conn| Self::new(Side::Server(conn)))
    }

    const fn new(side: Side) -> Self {
        Self { side, tail: Vec::new(), established: false }
    }

    /// The handshake is done: [`Self::seal`] works.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// The protocol that both sides agreed on (ALPN, RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Client(conn) => conn.alpn_protocol(),
            Side::Server(conn) => conn.alpn_protocol(),
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
        tls: &mut Vec<u8>,
    ) -> Result<State, Error> {
        loop {
            let state = if self.tail.is_empty() {
                let (used, state) = self.open(incoming, &mut deliver, tls)?;
                let rest = incoming.get(used..).unwrap_or_default();
                if state != State::PeerClosed {
                    self.tail.extend_from_slice(rest);
                }
                incoming = &mut [];
                state
            } else {
                let take = missing(&self.tail).min(incoming.len());
                let (head, rest) = std::mem::take(&mut incoming).split_at_mut(take);
                self.tail.extend_from_slice(head);
                incoming = rest;
                let mut tail = std::mem::take(&mut self.tail);
                let opened = self.open(&mut tail, &mut deliver, tls);
                let (used, state) = opened?;
                if used < tail.len() {
                    tail.drain(..used);
                    self.tail = tail;
                }
                state
            };
            if TAIL_MAX < self.tail.len() {
                return Err(Error::General("TLS message over 64 KiB".into()));
            }
            self.established |= state == State::Established;
            if incoming.is_empty() || state == State::PeerClosed {
                return Ok(state);
            }
        }
    }

    /// Appends `close_notify` to `tls`: the peer will know that it has seen everything.
    pub fn close(&mut self, tls: &mut Vec<u8>) {
        match &mut self.side {
            Side::Client(conn) => close(conn.process_tls_records(&mut []), tls),
            Side::Server(conn) => close(conn.process_tls_records(&mut []), tls),
        }
    }

    fn open(
        &mut self,
        incoming: &mut [u8],
        deliver: &mut impl FnMut(&[u8]),
        tls: &mut Vec<u8>,
    ) -> Result<(usize, State), Error> {
        let mut used = 0;
        loop {
            match self.step(&mut incoming[used..], deliver, tls) {
                Ok((discard, None)) => used += discard,
                Ok((discard, Some(state))) => return Ok((used + discard, state)),
                Err(err) => {
                    // rustls has queued an alert; it comes out as if nothing had happened. Asked
                    // for more than that it would go on with the handshake, and panic: it
                    // remembers places in bytes that are not there.
                    while self.has_queued() && self.step(&mut [], deliver, tls).is_ok() {}
                    return Err(err);
                }
            }
        }
    }

    fn has_queued(&self) -> bool {
        match &self.side {
            Side::Client(conn) => conn.wants_write(),
            Side::Server(conn) => conn.wants_write(),
        }
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        deliver: &mut impl FnMut(&[u8]),
        tls: &mut Vec<u8>,
    ) -> Result<(usize, Option<State>), Error> {
        match &mut self.side {
            Side::Client(conn) => step(conn.process_tls_records(incoming), deliver, tls),
            Side::Server(conn) => step(conn.process_tls_records(incoming), deliver, tls),
        }
    }

    /// Encrypts `plain` into records appended to `tls`. Only after [`State::Established`].
    ///
    /// # Errors
    ///
    /// The connection cannot send, because it is closed or its keys are used up.
    pub fn seal(&mut self, plain: &[u8], tls: &mut Vec<u8>) -> Result<(), Error> {
        for record in plain.chunks(RECORD) {
            // A key update that is due goes out first, which takes rounds of its own.
            while !match &mut self.side {
                Side::Client(conn) => seal_record(conn.process_tls_records(&mut []), record, tls)?,
                Side::Server(conn) => seal_record(conn.process_tls_records(&mut []), record, tls)?,
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

/// Handles one state; `None` asks to be called again.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    deliver: &mut impl FnMut(&[u8]),
    tls: &mut Vec<u8>,
) -> Result<(usize, Option<State>), Error> {
    let UnbufferedStatus { mut discard, state } = status;
    let next = match state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                deliver(record.payload);
            }
            None
        }
        ConnectionState::EncodeTlsData(data) => {
            encode(data, tls)?;
            None
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            None
        }
        ConnectionState::BlockedHandshake => Some(State::Handshaking),
        ConnectionState::WriteTraffic(_) => Some(State::Established),
        ConnectionState::PeerClosed | ConnectionState::Closed => Some(State::PeerClosed),
        _ => return Err(Error::General("unexpected TLS state".into())),
    };
    Ok((discard, next))
}

/// Encrypts one record if the state allows it now; `false` asks to be called again.
fn seal_record<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    tls: &mut Vec<u8>,
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

fn close<Data>(status: UnbufferedStatus<'_, '_, Data>, tls: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        // Without room or with used-up keys there is nothing better to do than to leave it out.
        let _ = append(tls, OVERHEAD, |room| {
            traffic.queue_close_notify(room).map_err(|err| match err {
                EncryptError::InsufficientSize(err) => Some(err),
                EncryptError::EncryptExhausted => None,
            })
        });
    }
}

/// How many bytes the last record in `tail` lacks, or its header.
fn missing(tail: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&[_, _, _, high, low]) = tail.get(at..at + RECORD_HEADER) {
        at += RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
    }
    if tail.len() < at { at - tail.len() } else { at + RECORD_HEADER - tail.len() }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, tls: &mut Vec<u8>) -> Result<(), Error> {
    append(tls, RECORD + OVERHEAD, |room| {
        data.encode(room).map_err(|err| match err {
            EncodeError::InsufficientSize(err) => Some(err),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Lets `write` fill room at the end of `tls`, and once more if it names a larger size.
fn append(
    tls: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), Error> {
    let start = tls.len();
    tls.resize(start + room, 0);
    let mut result = write(&mut tls[start..]);
    if let Err(Some(InsufficientSizeError { required_size })) = result {
        tls.resize(start + required_size, 0);
        result = write(&mut tls[start..]);
    }
    tls.truncate(start + result.as_ref().copied().unwrap_or(0));
    result.map(drop).map_err(|_| Error::EncryptError)
}
