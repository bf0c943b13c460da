//! Response heads.

use super::framing::{Declared, declared};
use super::grammar::{is_token, is_value_byte};
use super::hop::is_remade;
use super::request::{parse_fields, split_line};
use super::{Fields, Framing, Malformed, Protocol, Scan, Unwritable, Version};
use crate::limits::RESPONSE_HEAD_MAX;

/// A response head that obeys every rule of the grammar.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResponseHead {
    /// The fields. Changing them changes what [`Self::write`] writes, not what the other methods
    /// say of the response that came.
    pub fields: Fields,
    status: u16,
    reason: Vec<u8>,
    declared: Declared,
    keep_alive: bool,
    upgrade: Option<Protocol>,
}

impl ResponseHead {
    /// Reads a head from the start of `buf`; `scan` remembers how far an unfinished one was looked
    /// at. Gives the head and how many bytes it took.
    ///
    /// # Errors
    ///
    /// [`Malformed`], as soon as it is certain.
    pub fn read(buf: &[u8], scan: &mut Scan) -> Result<Option<(Self, usize)>, Malformed> {
        let Some(found) = scan.find(buf, RESPONSE_HEAD_MAX)? else { return Ok(None) };
        Ok(Some((Self::parse(found.head)?, found.used)))
    }

    /// A response of our own with a body of so many bytes.
    #[must_use]
    pub fn new(status: u16, length: u64) -> Self {
        Self {
            fields: Fields::default(),
            status,
            reason: reason_phrase(status).into(),
            declared: Declared::Length(length),
            keep_alive: true,
            upgrade: None,
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase: bytes without controls.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// A status under 200: not the answer yet.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether the connection can carry another request afterwards.
    #[must_use]
    pub const fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// What the connection becomes, if this is a `101` that says so.
    #[must_use]
    pub const fn upgrade(&self) -> Option<Protocol> {
        self.upgrade
    }

    /// How the body ends, when this answers a request with `method`.
    #[must_use]
    pub fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || self.is_interim() || matches!(self.status, 204 | 304) {
            return Framing::None;
        }
        match self.declared {
            Declared::Nothing => Framing::UntilClose,
            Declared::Length(len) => Framing::Length(len),
            Declared::Chunked => Framing::Chunked,
        }
    }

    /// Appends the head, with the framing and connection fields made anew. `framing` is how the
    /// body will be sent; where there is none but the answer to another method would have one, its
    /// length is told as it came.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when a field that is made anew was left in. `out` is then as it was.
    pub fn write(
        &self,
        framing: Framing,
        keep_alive: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        if let Some(field) = self.fields.iter().find(|field| is_remade(field.name)) {
            return Err(Unwritable::Remade(field.name.to_owned()));
        }
        out.extend_from_slice(format!("HTTP/1.1 {} ", self.status).as_bytes());
        out.extend_from_slice(&self.reason);
        out.extend_from_slice(b"\r\n");
        self.fields.write(out);
        let told = match (framing, self.declared) {
            (Framing::Length(len), _) => Some(len),
            (Framing::None, Declared::Length(len)) if !self.is_interim() && self.status != 204 => {
                Some(len)
            }
            _ => None,
        };
        if let Some(len) = told {
            out.extend_from_slice(format!("Content-Length: {len}\r\n").as_bytes());
        }
        if framing == Framing::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if let Some(protocol) = self.upgrade {
            protocol.write(out);
        } else if !keep_alive && !self.is_interim() {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Reads one complete head.
    fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let (line, rest) = split_line(head);
        let (version, rest_of_line) = line.split_at_checked(8).ok_or(Malformed::StatusLine)?;
        let version = Version::parse(version).ok_or(Malformed::Version)?;
        let (status, reason) = match rest_of_line {
            [b' ', status @ ..] if status.len() == 3 => (status, [].as_slice()),
            [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c][..], reason),
            _ => return Err(Malformed::StatusLine),
        };
        let status = parse_status(status).ok_or(Malformed::StatusLine)?;
        if !reason.iter().copied().all(is_value_byte) {
            return Err(Malformed::StatusLine);
        }
        let fields = parse_fields(rest)?;
        if !fields.members("connection").all(is_token) {
            return Err(Malformed::ConnectionOption);
        }
        let declared = declared(&fields, version)?;
        let keep_alive = version == Version::Http11 && !fields.has_member("connection", "close");
        let upgrade = if status == 101 { Protocol::granted(&fields) } else { None };
        Ok(Self { fields, status, reason: reason.to_vec(), declared, keep_alive, upgrade })
    }
}

/// Three digits, from 100 to 599.
fn parse_status(digits: &[u8]) -> Option<u16> {
    let value = digits.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + u16::from(byte - b'0'))
    })?;
    (100..600).contains(&value).then_some(value)
}

/// The usual words for the statuses that we send ourselves.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<ResponseHead, Malformed> {
        let head = ResponseHead::read(text, &mut Scan::default())?;
        Ok(head.expect("a complete head").0)
    }

    fn with(fields: &str) -> Result<ResponseHead, Malformed> {
        read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn the_body_ends_as_method_status_and_fields_say() {
        let head = with("Content-Length: 5\r\n").unwrap();
        assert_eq!(head.framing("GET"), Framing::Length(5));
        assert_eq!(head.framing("HEAD"), Framing::None);
        assert_eq!(with("").unwrap().framing("GET"), Framing::UntilClose);
        let chunked = with("Transfer-Encoding: chunked\r\n").unwrap();
        assert_eq!(chunked.framing("GET"), Framing::Chunked);
        for status in ["100 Continue", "204 No Content", "304 Not Modified"] {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(read(text.as_bytes()).unwrap().framing("GET"), Framing::None, "{status}");
        }
    }

    #[test]
    fn ambiguous_framing_and_stray_bytes_are_refused() {
        for (fields, rule) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Malformed::TwoLengths),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Malformed::LengthAndCoding),
            ("Transfer-Encoding: gzip\r\n", Malformed::UnknownCoding),
            ("a: b\0\r\n", Malformed::FieldValue),
            ("a : b\r\n", Malformed::FieldName),
            ("a: b\r\n c\r\n", Malformed::Folded),
            ("a: b\rc\r\n", Malformed::BareCr),
            ("a: b\nc\r\n", Malformed::BareLf),
        ] {
            assert_eq!(with(fields), Err(rule), "{fields:?}");
        }
    }

    #[test]
    fn status_lines_are_version_status_reason() {
        let good = ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 404 a b"];
        for line in good {
            assert!(read(format!("{line}\r\n\r\n").as_bytes()).is_ok(), "{line}");
        }
        let bad = [
            "HTTP/1.1  200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 x",
            "HTTP/1.1",
            "HTTP/1.1 600 x",
            "HTTP/2.0 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1 +20 OK",
            "ICY 200 OK",
            "HTTP/1.1 200 O\u{1}K",
        ];
        for line in bad {
            assert!(read(format!("{line}\r\n\r\n").as_bytes()).is_err(), "{line}");
        }
        assert_eq!(read(b"HTTP/1.1 200 \xfc\r\n\r\n").unwrap().reason(), b"\xfc");
    }

    #[test]
    fn a_head_is_written_with_the_framing_that_is_asked_for() {
        let mut head = with("Content-Length: 5\r\nConnection: x\r\nA: b\r\n").unwrap();
        let mut out = Vec::new();
        assert!(matches!(head.write(Framing::None, true, &mut out), Err(Unwritable::Remade(_))));
        super::super::strip(&mut head.fields);
        let write = |framing, keep_alive| {
            let mut out = Vec::new();
            head.write(framing, keep_alive, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let start = "HTTP/1.1 200 OK\r\nA: b\r\n";
        assert_eq!(write(Framing::Length(5), true), format!("{start}Content-Length: 5\r\n\r\n"));
        assert_eq!(write(Framing::None, true), format!("{start}Content-Length: 5\r\n\r\n"));
        let chunked = format!("{start}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
        assert_eq!(write(Framing::Chunked, false), chunked);
        // These have no length to tell.
        for status in [103, 204] {
            let mut out = Vec::new();
            ResponseHead::new(status, 5).write(Framing::None, true, &mut out).unwrap();
            let line = format!("HTTP/1.1 {status} {}\r\n\r\n", reason_phrase(status));
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }
}
