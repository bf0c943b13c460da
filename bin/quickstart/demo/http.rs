//! HTTP/1.1 as Go's `net/http` reads it, leniency included: bare LF and obs-fold pass, and
//! Transfer-Encoding wins over Content-Length on a connection that stays open. A front end that
//! lets such a request through is meant to be caught here.

use std::io;
use std::sync::Arc;

use super::tls::Wire;

const HEAD_MAX: usize = 1024 * 1024;
pub(crate) const BODY_MAX: usize = 3 * 1024 * 1024;

/// One request head.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it came.
    pub(crate) target: String,
    /// Percent-decoded before anything looks at it, `%2f` included.
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: Headers,
    pub(crate) framing: Framing,
    pub(crate) keep_open: bool,
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// Fields in the order they came; names in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Members of a comma-separated list spread over any number of fields.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim).filter(|v| !v.is_empty())
    }

    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|member| member.eq_ignore_ascii_case(token))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Decoded query parameters in the order they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(key), form_decode(value))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Present, and neither `false` nor `0`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_lowercase().as_str(), "false" | "0"))
    }
}

/// An answer with a body of known length.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) code: u16,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(code: u16, value: &serde_json::Value) -> Self {
        let mut body = value.to_string().into_bytes();
        body.push(b'\n');
        Self { code, content_type: "application/json".into(), headers: Vec::new(), body }
    }

    pub(crate) fn text(code: u16, text: impl Into<String>) -> Self {
        let content_type = "text/plain; charset=utf-8".into();
        Self { code, content_type, headers: Vec::new(), body: text.into().into_bytes() }
    }
}

/// Why no request came.
#[derive(Debug)]
pub(crate) enum NoRequest {
    Ended,
    /// Answered in plain text, as `net/http` does, and then the connection is closed.
    Malformed(u16, &'static str),
}

/// The connection and what has been read ahead of the request in hand.
pub(crate) struct Link {
    pub(crate) wire: Arc<Wire>,
    ahead: Vec<u8>,
}

impl Link {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self { wire, ahead: Vec::new() }
    }

    pub(crate) fn request(&mut self) -> Result<Request, NoRequest> {
        let mut lines = Vec::new();
        let mut total = 0_usize;
        loop {
            let line = match self.line(HEAD_MAX - total) {
                Ok(Some(line)) => line,
                Ok(None) => {
                    return Err(NoRequest::Malformed(431, "Request Header Fields Too Large"));
                }
                Err(_) => return Err(NoRequest::Ended),
            };
            total = (total + line.len() + 1).min(HEAD_MAX);
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        parse_head(&lines).map_err(|(code, why)| NoRequest::Malformed(code, why))
    }

    /// The whole body; `None` when it is larger than the server takes.
    pub(crate) fn body(&mut self, framing: Framing) -> io::Result<Option<Vec<u8>>> {
        match framing {
            Framing::Length(len) => match usize::try_from(len) {
                Ok(len) if len <= BODY_MAX => self.exactly(len).map(Some),
                _ => Ok(None),
            },
            Framing::Chunked => self.chunked_body(),
        }
    }

    /// What was read ahead, for whoever takes the connection over after a 101.
    pub(crate) fn take_ahead(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ahead)
    }

    fn chunked_body(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        loop {
            let line = self.line(4096)?.ok_or(io::ErrorKind::InvalidData)?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size =
                std::str::from_utf8(size).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            if size == 0 {
                while !self.line(4096)?.ok_or(io::ErrorKind::InvalidData)?.is_empty() {}
                return Ok(Some(body));
            }
            if body.len().saturating_add(size) > BODY_MAX {
                return Ok(None);
            }
            body.append(&mut self.exactly(size)?);
            if !self.line(2)?.ok_or(io::ErrorKind::InvalidData)?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// A line without its end; `None` when there is no end within `max` bytes.
    fn line(&mut self, max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let unsearched = self.ahead.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let mut line: Vec<u8> = self.ahead.drain(..=searched + at).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            searched = self.ahead.len();
            if searched > max {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < len {
            self.fill()?;
        }
        Ok(self.ahead.drain(..len).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut scratch = [0_u8; 16 * 1024];
        match self.wire.read(&mut scratch)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.ahead.extend(scratch.iter().take(len));
                Ok(())
            }
        }
    }
}

/// The reason phrase that goes with a status code.
pub(crate) fn phrase(code: u16) -> &'static str {
    match code {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// Percent-decoding of a path; `None` when an escape is malformed.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn form_decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode(&spaced).unwrap_or(spaced)
}

fn parse_head(lines: &[Vec<u8>]) -> Result<Request, (u16, &'static str)> {
    const BAD: (u16, &str) = (400, "Bad Request");
    let first = lines.first().map(|line| String::from_utf8_lossy(line)).ok_or(BAD)?;
    let (method, rest) = first.split_once(' ').ok_or(BAD)?;
    let (target, version) = rest.split_once(' ').ok_or(BAD)?;
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        other if other.starts_with("HTTP/") => return Err((505, "HTTP Version Not Supported")),
        _ => return Err(BAD),
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(BAD);
    }
    let headers = parse_fields(lines.get(1..).unwrap_or_default()).ok_or(BAD)?;
    match headers.all("host").count() {
        0 if minor == 1 => return Err((400, "Bad Request: missing required Host header")),
        0 | 1 => {}
        _ => return Err((400, "Bad Request: too many Host headers")),
    }
    let origin = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    let keep_open = match minor {
        1 => !headers.has_token("connection", "close"),
        _ => headers.has_token("connection", "keep-alive"),
    };
    Ok(Request {
        method: method.into(),
        target: target.into(),
        path: percent_decode(path).ok_or(BAD)?,
        query: Query::parse(query),
        framing: framing(&headers, minor)?,
        headers,
        keep_open,
    })
}

fn parse_fields(lines: &[Vec<u8>]) -> Option<Headers> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push(' ');
            value.push_str(text.trim_matches([' ', '\t']));
            continue;
        }
        let (name, value) = text.split_once(':')?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).into()));
    }
    Some(Headers(fields))
}

fn framing(headers: &Headers, minor: u8) -> Result<Framing, (u16, &'static str)> {
    let mut codings = headers.all("transfer-encoding");
    if let (Some(coding), 1) = (codings.next(), minor) {
        if codings.next().is_some() {
            return Err((501, "Not Implemented: too many transfer encodings"));
        }
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err((501, "Not Implemented: unsupported transfer encoding"));
        }
        // Content-Length, if there is one, is ignored from here on.
        return Ok(Framing::Chunked);
    }
    let mut lengths = headers.all("content-length");
    let Some(length) = lengths.next() else { return Ok(Framing::Length(0)) };
    if lengths.any(|other| other != length) || !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err((400, "Bad Request"));
    }
    length.parse().map(Framing::Length).map_err(|_| (400, "Bad Request"))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
