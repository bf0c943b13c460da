//! The WebSocket opening handshake of RFC 6455, section 4, both ends.
//!
//! tungstenite's own cannot serve here: its server answers in the step in which it has read, while
//! a relay holds the answer back until the listener is there; and both of its ends lose the reason
//! phrase, in which Hybrid Connections carry the reason of a refusal.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tungstenite::handshake::derive_accept_key;

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
        Ok(Some(Upgrade { accept: derive_accept_key(key.as_bytes()), protocols }))
    }
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
        let accept = derive_accept_key(key.as_bytes());
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
mod tests {
    use super::*;

    const SAMPLE: &str = "GET /$hc/hc1?sb-hc-action=listen HTTP/1.1\r\nHost: relay.example\r\n\
        0: Sec-WebSocket-Extensions: permessage-deflate\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Name: M\u{fc}ller\r\n\
        Sec-WebSocket-Protocol: a, b\r\nsec-websocket-protocol: c\r\n\r\n";

    fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, Malformed> {
        Request::parse(bytes, &mut Scan::default())
    }

    fn sample() -> Vec<u8> {
        SAMPLE.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    }

    fn parse(head: &str) -> Result<Option<Upgrade>, Malformed> {
        read(head.as_bytes())?.unwrap().0.upgrade()
    }

    #[test]
    fn an_upgrade_is_read_at_every_cut() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let (request, len) = read(&bytes).unwrap().unwrap();
        assert_eq!((len, request.fields.get("x-name")), (bytes.len(), Some("Müller")));
        assert_eq!(request.upgrade().unwrap().unwrap().protocols, ["a", "b", "c"]);
    }

    #[test]
    fn the_answer_has_the_spelling_that_clients_compare() {
        let upgrade = parse(SAMPLE.replace('\u{fc}', "u").as_str()).unwrap().unwrap();
        let answer = String::from_utf8(upgrade.answer(Some("b"))).unwrap();
        assert_eq!(
            answer,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\n\r\n"
        );
    }

    #[test]
    fn upgrades_that_break_the_rules_are_refused() {
        let good = SAMPLE.replace('\u{fc}', "u");
        for (from, to) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("Version: 13", "Version: 8"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
            ("Sec-WebSocket-Key", "X-Key"),
        ] {
            assert!(parse(&good.replacen(from, to, 1)).is_err(), "{from}");
        }
        assert_eq!(parse(&good.replacen("Upgrade: WebSocket", "X: y", 1)), Ok(None));
    }

    #[test]
    fn bytes_that_no_uri_may_have_are_escaped_and_others_are_not() {
        let head = b"GET /a%c3?f[x]={\"b\"}|100%&c=%41%4 HTTP/1.1\r\nHost: n\r\n\r\nrest";
        let (request, len) = read(head).unwrap().unwrap();
        assert_eq!(request.target, "/a%c3?f%5Bx%5D=%7B%22b%22%7D%7C100%25&c=%41%254");
        assert_eq!(&head[len..], b"rest");
    }

    #[test]
    fn heads_that_are_none_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD_LIMIT));
        assert_eq!(read(long.as_bytes()), Err(Malformed::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(read(many.as_bytes()), Err(Malformed::TooLarge));
        let tls = read(b"\x16\x03\x01\x02\x00\r\n\r\n");
        assert_eq!(tls, Err(Malformed::Request(h1::Malformed::RequestLine)));
        let target = read("GET /\u{e9} HTTP/1.1\r\n\r\n".as_bytes());
        assert_eq!(target, Err(Malformed::Request(h1::Malformed::Target)));
    }

    fn dial() -> (Secret<Vec<u8>>, Handshake) {
        let token = Secret::new("SharedAccessSignature sr=x\r\nX: y".to_owned());
        Dial {
            host: "relay.example",
            target: "/$hc/hc1?sb-hc-action=listen",
            nonce: *b"the sample nonce",
            protocol: None,
            token: Some(&token),
        }
        .start()
    }

    #[test]
    fn a_dial_is_answered_by_our_own_server() {
        let (head, mut handshake) = dial();
        let (request, _) = read(head.expose()).unwrap().unwrap();
        assert_eq!(
            request.fields.get("ServiceBusAuthorization"),
            Some("SharedAccessSignature sr=xX: y"),
            "no line can be smuggled in"
        );
        let answer = request.upgrade().unwrap().unwrap().answer(None);
        let (first, second) = answer.split_at(20);
        assert_eq!(handshake.handle(first), Ok(None));
        assert_eq!(handshake.handle(&[second, b"\x82\x00"].concat()), Ok(Some(second.len())));
    }

    #[test]
    fn a_refusal_keeps_its_reason() {
        let text = "Endpoint does not exist. TrackingId:1_G0";
        let answer = refusal(404, text, "Connection: close\r\n", "{}");
        let Err(Refused::Status(answer)) = dial().1.handle(&answer) else { panic!("refused") };
        assert_eq!((answer.status, answer.reason.as_str()), (404, text));
    }

    #[test]
    fn an_answer_to_another_handshake_is_refused() {
        for answer in [
            "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            "HTTP/1.1 101 OK\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert_eq!(dial().1.handle(answer.as_bytes()), Err(Refused::Malformed), "{answer}");
        }
    }
}
