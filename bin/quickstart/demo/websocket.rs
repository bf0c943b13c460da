//! The server's side of a WebSocket, over a connection taken from HTTP.

use std::io::{self, Cursor};
use std::sync::{Arc, Mutex};

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::connection::Exchange;
use super::http::Request;
use super::identity::is_credential;
use super::status::{Failure, Status};
use super::streams::{Duplex, Upgraded};
use super::tls::lock;

const MESSAGE_MAX: usize = 32 * 1024 * 1024;

/// An accepted WebSocket. One thread receives; any may send.
pub(crate) struct Socket {
    carrier: Arc<Upgraded>,
    protocol: String,
    unread: Mutex<Vec<u8>>,
}

pub(crate) fn is_asked_for(request: &Request) -> bool {
    request.method == "GET"
        && request.headers.has_token("upgrade", "websocket")
        && request.headers.has_token("connection", "upgrade")
}

/// Answers 101 with the first subprotocol of the caller's that is supported; "" among the
/// supported means that a caller may offer none.
pub(crate) fn accept(exchange: &mut Exchange<'_>, supported: &[&str]) -> Result<Socket, Failure> {
    let headers = &exchange.request.headers;
    let key = headers.first("sec-websocket-key").unwrap_or_default();
    if headers.first("sec-websocket-version") != Some("13") || key.is_empty() {
        return Err(Status::bad_request("websocket: version 13 and a key are required").into());
    }
    let offered: Vec<&str> =
        headers.list("sec-websocket-protocol").filter(|offer| !is_credential(offer)).collect();
    let chosen = match offered.as_slice() {
        [] => supported.iter().find(|protocol| protocol.is_empty()).copied(),
        some => some.iter().find(|offer| supported.contains(offer)).copied(),
    };
    let protocol = chosen.ok_or_else(|| {
        Status::bad_request(format!("unable to negotiate a subprotocol; supported: {supported:?}"))
    })?;
    let protocol = protocol.to_owned();
    let mut answer = vec![
        ("Upgrade", "websocket".to_owned()),
        ("Sec-WebSocket-Accept", derive_accept_key(key.as_bytes())),
    ];
    if !protocol.is_empty() {
        answer.push(("Sec-WebSocket-Protocol", protocol.clone()));
    }
    let carrier = Arc::new(exchange.switch(&answer)?);
    Ok(Socket { carrier, protocol, unread: Mutex::default() })
}

impl Socket {
    pub(crate) fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The next data message; `None` once the peer has closed. Pings are answered on the way.
    pub(crate) fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut unread = lock(&self.unread);
        let mut message = Vec::new();
        loop {
            let (header, payload) = self.frame(&mut unread)?;
            match header.opcode {
                OpCode::Data(Data::Text | Data::Binary | Data::Continue) => {
                    message.extend_from_slice(&payload);
                    if message.len() > MESSAGE_MAX {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    if header.is_final {
                        return Ok(Some(message));
                    }
                }
                OpCode::Control(Control::Ping) => {
                    self.send(OpCode::Control(Control::Pong), &payload)?;
                }
                OpCode::Control(Control::Pong) => {}
                OpCode::Control(Control::Close) => {
                    // It may have been the peer's answer to ours.
                    let _ = self.send(OpCode::Control(Control::Close), &payload);
                    return Ok(None);
                }
                OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }

    pub(crate) fn send_text(&self, payload: &[u8]) -> io::Result<()> {
        self.send(OpCode::Data(Data::Text), payload)
    }

    pub(crate) fn send_binary(&self, payload: &[u8]) -> io::Result<()> {
        self.send(OpCode::Data(Data::Binary), payload)
    }

    pub(crate) fn close(&self, code: u16) -> io::Result<()> {
        self.send(OpCode::Control(Control::Close), &code.to_be_bytes())
    }

    fn send(&self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
        let mut out = Vec::with_capacity(payload.len() + 10);
        header.format(payload.len() as u64, &mut out).map_err(io::Error::other)?;
        out.extend_from_slice(payload);
        self.carrier.write_all(&out)
    }

    fn frame(&self, unread: &mut Vec<u8>) -> io::Result<(FrameHeader, Vec<u8>)> {
        let mut scratch = [0_u8; 16 * 1024];
        loop {
            let mut cursor = Cursor::new(unread.as_slice());
            let parsed = FrameHeader::parse(&mut cursor).map_err(io::Error::other)?;
            let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            if let Some((header, len)) = parsed {
                let mask = header.mask.ok_or(io::ErrorKind::InvalidData)?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                if len > MESSAGE_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if unread.len() - start >= len {
                    let mut payload: Vec<u8> = unread.drain(..start + len).skip(start).collect();
                    let mask = mask.iter().cycle();
                    payload.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
                    return Ok((header, payload));
                }
            }
            match self.carrier.read(&mut scratch)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => unread.extend(scratch.iter().take(len)),
            }
        }
    }
}

/// Binary messages as a stream of bytes: how `kubectl port-forward` carries SPDY.
pub(crate) struct Tunnel {
    socket: Socket,
    unread: Mutex<Vec<u8>>,
}

impl Tunnel {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, unread: Mutex::default() }
    }
}

impl Duplex for Tunnel {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut unread = lock(&self.unread);
        while unread.is_empty() {
            match self.socket.receive()? {
                Some(message) => *unread = message,
                None => return Ok(0),
            }
        }
        let len = unread.len().min(into.len());
        into.iter_mut().zip(unread.drain(..len)).for_each(|(to, from)| *to = from);
        Ok(len)
    }

    fn write_all(&self, data: &[u8]) -> io::Result<()> {
        self.socket.send_binary(data)
    }
}
