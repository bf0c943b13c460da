//! The WebSocket opening handshake of RFC 6455, section 4, both ends.
//!
//! tungstenite's own cannot serve here: its server answers in the step in which it has read, while
//! a relay holds the answer back until the listener is there; and both of its ends lose the reason
//! phrase, in which Hybrid Connections carry the reason of a refusal.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::limits::{FIELDS_MAX, HEAD_LIMIT};
use crate::secret::Secret;
use crate::wire::h1::{self, Framing, RequestHead, Scan, Version};

/// Header fields in their order, as received. Bytes above 0x7f are kept as Latin-1.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields(pub Vec<(String, String)>);

/// The head of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// As sent, but for bytes that no URI may have: those are escaped, as HTTP.sys does.
    pub target: String,
    /// HTTP/1.0: chunks mean nothing to it, and it cannot be upgraded.
    pub is_http10: bool,
    /// The fields.
    pub fields: Fields,
    /// How the body ends.
    pub framing: Framing,
    /// The connection may be used again.
    pub keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// The head of an answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The phrase after it: where a relay says what is wrong.
    pub reason: String,
    /// The fields.
    pub fields: Fields,
}

/// A request to open a WebSocket that follows the rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    accept: String,
    /// What the client offers in `Sec-WebSocket-Protocol`, in its order.
    pub protocols: Vec<String>,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// A request breaks this rule of HTTP/1.1.
    Request(h1::Malformed),
    /// What answers is not HTTP/1.
    Answer,
    /// It is longer than [`HEAD_LIMIT`], or has more than [`FIELDS_MAX`] fields.
    TooLarge,
    /// It asks for an upgrade, but not to RFC 6455, version 13, with `GET`.
    Upgrade,
}

/// What a client asks of a server.
#[derive(Clone, Debug)]
pub struct Dial<'a> {
    /// Value of `Host`.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// The one subprotocol to ask for.
    pub protocol: Option<&'a str>,
    /// Goes into `ServiceBusAuthorization`: a URL would end up in logs.
    pub token: Option<&'a Secret<String>>,
}

/// Waits for the answer to a [`Dial`].
#[derive(Debug)]
pub struct Handshake {
    accept: String,
    head: Vec<u8>,
}

/// Why there is no WebSocket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The server said no.
    Status(Answer),
    /// What came is not an answer to our handshake.
    Malformed,
}

impl Fields {
    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The elements of the comma-separated list that all values of `name` make together.
    pub fn elements<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim).filter(|e| !e.is_empty())
    }

    /// Whether `token` is one of [`Self::elements`], in any case.
    #[must_use]
    pub fn has(&self, name: &str, token: &str) -> bool {
        self.elements(name).any(|element| element.eq_ignore_ascii_case(token))
    }
}

impl Request {
    /// The head at the front of `bytes` and its length; `None` asks for more bytes. `scan` remembers
    /// how far an unfinished head was looked at.
    ///
    /// # Errors
    ///
    /// [`Malformed::Request`] or [`Malformed::TooLarge`].
    pub fn parse(bytes: &[u8], scan: &mut Scan) -> Result<Option<(Self, usize)>, Malformed> {
        let (head, len) = match RequestHead::read(bytes, scan) {
            Err(h1::Malformed::Target) => {
                let escaped = escape_target(bytes);
                let read = RequestHead::read(&escaped, &mut Scan::default())?;
                let Some((head, len)) = read else { return Ok(None) };
                (head, len.saturating_sub(escaped.len().saturating_sub(bytes.len())))
            }
            Err(why) => return Err(why.into()),
            Ok(None) if bytes.len() <= HEAD_LIMIT => return Ok(None),
            Ok(None) => return Err(Malformed::TooLarge),
            Ok(Some(read)) => read,
        };
        if len > HEAD_LIMIT {
            return Err(Malformed::TooLarge);
        }
        let latin1 = |value: &[u8]| value.iter().map(|&byte| char::from(byte)).collect();
        let fields = head.fields.iter().map(|it| (it.name.to_owned(), latin1(it.value)));
        let request = Self {
            method: head.method().to_owned(),
            target: head.target().to_owned(),
            is_http10: head.version() == Version::Http10,
            fields: Fields(fields.collect()),
            framing: head.framing(),
            keep_alive: head.keep_alive(),
            expects_continue: head.expects_continue(),
        };
        Ok(Some((request, len)))
    }

    /// The request to open a WebSocket in this head, if it is one.
    ///
    /// # Errors
    ///
    /// [`Malformed::Upgrade`] when it is one and breaks the rules. Lenient where clients in use
    /// are careless: unknown fields, a `Connection` with more than one token, no `Origin`.
    pub fn upgrade(&self) -> Result<Option<Upgrade>, Malformed> {
        if !self.fields.has("Upgrade", "websocket") {
            return Ok(None);
        }
        let key = self.fields.get("Sec-WebSocket-Key").unwrap_or_default();
        let nonce_len = STANDARD.decode(key).map_or(0, |nonce| nonce.len());
        let follows_the_rules = self.method == "GET"
            && !self.is_http10
            && self.fields.has("Connection", "Upgrade")
            && self.fields.get("Sec-WebSocket-Version") == Some("13")
            && nonce_len == 16;
        if !follows_the_rules {
            return Err(Malformed::Upgrade);
        }
        let protocols = self.fields.elements("Sec-WebSocket-Protocol").map(str::to_owned).collect();
        Ok(Some(Upgrade { accept: accept_key(key), protocols }))
    }
}

/// What a server answers to `key` (RFC 6455, 4.2.2): it has understood, and is no cache. SHA-1 does
/// for that.
fn accept_key(key: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finish())
}

impl Answer {
    /// The head at the front of `bytes` and its length; `None` asks for more bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed::Answer`] or [`Malformed::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let Some(len) = complete(parsed.parse(bytes), bytes.len())? else { return Ok(None) };
        let answer = Self {
            status: parsed.code.unwrap_or_default(),
            reason: parsed.reason.unwrap_or_default().to_owned(),
            fields: latin1(parsed.headers),
        };
        Ok(Some((answer, len)))
    }
}

impl Upgrade {
    /// The answer that opens the WebSocket, with `protocol` if one was chosen. The spelling of the
    /// two fields is fixed: some clients compare their whole value.
    #[must_use]
    pub fn answer(&self, protocol: Option<&str>) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        if let Some(protocol) = protocol {
            head.push_str("Sec-WebSocket-Protocol: ");
            head.push_str(protocol);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

impl Dial<'_> {
    /// The request to send, and the machine for its answer.
    #[must_use]
    pub fn start(&self) -> (Secret<Vec<u8>>, Handshake) {
        let key = STANDARD.encode(self.nonce);
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            self.target, self.host
        );
        if let Some(protocol) = self.protocol {
            push_field(&mut head, "Sec-WebSocket-Protocol", protocol);
        }
        if let Some(token) = self.token {
            push_field(&mut head, "ServiceBusAuthorization", token.expose());
        }
        head.push_str("\r\n");
        let accept = accept_key(&key);
        (Secret::new(head.into_bytes()), Handshake { accept, head: Vec::new() })
    }
}

impl Handshake {
    /// Takes the front of `input`; once the WebSocket is open, returns how many bytes that was.
    /// What follows them is frames. `None`: all of `input` is taken.
    ///
    /// # Errors
    ///
    /// Why there will be no WebSocket.
    pub fn handle(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        let before = self.head.len();
        self.head.extend_from_slice(input);
        match Answer::parse(&self.head) {
            Err(_) => Err(Refused::Malformed),
            Ok(None) => Ok(None),
            Ok(Some((answer, len))) => {
                self.check(answer)?;
                Ok(Some(len.saturating_sub(before)))
            }
        }
    }

    fn check(&self, answer: Answer) -> Result<(), Refused> {
        if answer.status != 101 {
            return Err(Refused::Status(answer));
        }
        let fields = &answer.fields;
        let is_ours = fields.has("Upgrade", "websocket")
            && fields.has("Connection", "Upgrade")
            && fields.get("Sec-WebSocket-Accept") == Some(&self.accept)
            && fields.get("Sec-WebSocket-Extensions").is_none();
        if is_ours { Ok(()) } else { Err(Refused::Malformed) }
    }
}

/// An answer that refuses, with the reason in the status line, where WebSocket clients look, and
/// `body` for those that read it. `fields` are whole lines with their line ends.
#[must_use]
pub fn refusal(status: u16, reason: &str, fields: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {status} {reason}\r\n{fields}Content-Length: {len}\r\n\r\n{body}")
        .into_bytes()
}

fn push_field(head: &mut String, name: &str, value: &str) {
    head.push_str(name);
    head.push_str(": ");
    head.extend(value.chars().filter(|c| !c.is_control()));
    head.push_str("\r\n");
}

/// `bytes` with the target in their first line made legal: what cannot stand in a URI is escaped,
/// and so is a percent sign that escapes nothing.
fn escape_target(bytes: &[u8]) -> Vec<u8> {
    let line_end = bytes.iter().position(|&byte| byte == b'\r').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(line_end);
    let mut escaped = Vec::with_capacity(bytes.len() + 16);
    for (at, &byte) in line.iter().enumerate() {
        let is_escape = || {
            let digits = line.get(at + 1..at + 3).unwrap_or_default();
            digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
        };
        let is_illegal = matches!(
            byte,
            b'"' | b'<' | b'>' | b'[' | b']' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        );
        if is_illegal || (byte == b'%' && !is_escape()) {
            escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            escaped.push(byte);
        }
    }
    escaped.extend_from_slice(rest);
    escaped
}

fn complete(
    parsed: Result<httparse::Status<usize>, httparse::Error>,
    available: usize,
) -> Result<Option<usize>, Malformed> {
    match parsed {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_LIMIT => Ok(Some(len)),
        Ok(httparse::Status::Partial) if available <= HEAD_LIMIT => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooLarge),
        Err(_) => Err(Malformed::Answer),
    }
}

fn latin1(fields: &[httparse::Header<'_>]) -> Fields {
    let decode = |value: &[u8]| value.iter().map(|&byte| char::from(byte)).collect();
    Fields(fields.iter().map(|field| (field.name.to_owned(), decode(field.value))).collect())
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: String::new(),
            target: String::new(),
            is_http10: false,
            fields: Fields::default(),
            framing: Framing::None,
            keep_alive: true,
            expects_continue: false,
        }
    }
}

impl From<h1::Malformed> for Malformed {
    fn from(why: h1::Malformed) -> Self {
        if why.status() == 431 { Self::TooLarge } else { Self::Request(why) }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(why) => why.fmt(f),
            Self::Answer => f.write_str("not an answer of http/1"),
            Self::TooLarge => f.write_str("the head is too large"),
            Self::Upgrade => f.write_str("the upgrade is not to websocket version 13"),
        }
    }
}

impl std::error::Error for Malformed {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(answer) => write!(f, "{} {}", answer.status, answer.reason),
            Self::Malformed => f.write_str("the answer is not one to a WebSocket handshake"),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests;
