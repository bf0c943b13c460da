//! Request heads.

use super::framing::{Declared, declared};
use super::grammar::{is_host, is_origin_form, is_token, is_value_byte, trim_ows};
use super::hop::is_remade;
use super::{Fields, Framing, Malformed, Protocol, Scan, Unwritable};
use crate::limits::{FIELD_NAME_MAX, FIELDS_MAX, REQUEST_HEAD_MAX};

/// The versions there are for us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// One request for each connection, no chunks.
    Http10,
    /// Keep-alive, chunks, upgrades.
    Http11,
}

impl Version {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"HTTP/1.0" => Some(Self::Http10),
            b"HTTP/1.1" => Some(Self::Http11),
            _ => None,
        }
    }
}

/// A request head that obeys every rule of the grammar, and whose body has exactly one reading.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHead {
    /// The fields. Changing them changes what [`Self::write`] writes, not what the other methods
    /// say of the request that came.
    pub fields: Fields,
    method: Box<str>,
    target: Box<str>,
    version: Version,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: Option<Protocol>,
}

impl RequestHead {
    /// Reads a head from the start of `buf`; `scan` remembers how far an unfinished one was looked
    /// at. Gives the head and how many bytes it took, empty lines before it included.
    ///
    /// # Errors
    ///
    /// [`Malformed`], as soon as it is certain.
    pub fn read(buf: &[u8], scan: &mut Scan) -> Result<Option<(Self, usize)>, Malformed> {
        let Some(found) = scan.find(buf, REQUEST_HEAD_MAX)? else { return Ok(None) };
        Ok(Some((Self::parse(found.head)?, found.used)))
    }

    /// A request of our own, without a body.
    ///
    /// # Errors
    ///
    /// [`Unwritable::Line`] when the method is no token or the target no absolute path.
    pub fn new(method: &str, target: &str) -> Result<Self, Unwritable> {
        if !is_token(method.as_bytes()) || !is_origin_form(target.as_bytes()) {
            return Err(Unwritable::Line);
        }
        Ok(Self {
            fields: Fields::default(),
            method: method.into(),
            target: target.into(),
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: true,
            expects_continue: false,
            upgrade: None,
        })
    }

    /// A copy with room for so many fields more, of so many bytes together.
    #[must_use]
    pub fn with_room(&self, fields: usize, bytes: usize) -> Self {
        Self {
            fields: self.fields.with_room(fields, bytes),
            method: self.method.clone(),
            target: self.target.clone(),
            ..*self
        }
    }

    /// The method, in the caller's case: any token.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The target, byte for byte: an absolute path and perhaps a query, ASCII.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The target up to the question mark.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// The target after the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// Puts another target in place, for a proxy that maps paths.
    ///
    /// # Errors
    ///
    /// [`Unwritable::Line`] when it is no absolute path.
    pub fn set_target(&mut self, target: &str) -> Result<(), Unwritable> {
        if !is_origin_form(target.as_bytes()) {
            return Err(Unwritable::Line);
        }
        self.target = target.into();
        Ok(())
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// How the body ends.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the caller wants the connection kept. HTTP/1.0 gets one request, whatever it asks.
    #[must_use]
    pub const fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the caller waits for `100 Continue` before it sends the body.
    #[must_use]
    pub const fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The protocol to upgrade to. One that we do not carry is not an upgrade.
    #[must_use]
    pub const fn upgrade(&self) -> Option<Protocol> {
        self.upgrade
    }

    /// Appends the head, with the framing and connection fields made anew from what was read.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when a field that is made anew was left in, or there is not exactly one
    /// `Host`. `out` is then as it was.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        if let Some(field) = self.fields.iter().find(|field| is_remade(field.name)) {
            return Err(Unwritable::Remade(field.name.to_owned()));
        }
        if self.fields.count("host") != 1 {
            return Err(Unwritable::Host);
        }
        out.reserve(self.method.len() + self.target.len() + self.fields.written_len() + REMADE);
        for part in [&*self.method, " ", &*self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        self.fields.write(out);
        match self.framing {
            Framing::Length(len) => {
                out.extend_from_slice(format!("Content-Length: {len}\r\n").as_bytes());
            }
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::None | Framing::UntilClose => (),
        }
        if let Some(protocol) = self.upgrade {
            protocol.write(out);
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Reads one complete head.
    fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let (line, rest) = split_line(head);
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed::RequestLine);
        };
        let (Ok(method), true) = (std::str::from_utf8(method), is_token(method)) else {
            return Err(Malformed::RequestLine);
        };
        let version = Version::parse(version).ok_or(Malformed::Version)?;
        let (Ok(target), true) = (std::str::from_utf8(target), is_origin_form(target)) else {
            return Err(Malformed::Target);
        };
        Self::judge(method, target, version, parse_fields(rest)?)
    }

    /// Draws the conclusions that need several fields.
    fn judge(
        method: &str,
        target: &str,
        version: Version,
        fields: Fields,
    ) -> Result<Self, Malformed> {
        check_host(&fields, version)?;
        if !fields.members("connection").all(is_token) {
            return Err(Malformed::ConnectionOption);
        }
        let framing = match declared(&fields, version)? {
            Declared::Nothing => Framing::None,
            Declared::Length(len) => Framing::Length(len),
            Declared::Chunked => Framing::Chunked,
        };
        let expects_continue = expects_continue(&fields, version, framing)?;
        let upgrade = Protocol::requested(&fields, version, framing)?;
        let keep_alive = version == Version::Http11 && !fields.has_member("connection", "close");
        Ok(Self {
            fields,
            method: method.into(),
            target: target.into(),
            version,
            framing,
            keep_alive,
            expects_continue,
            upgrade,
        })
    }
}

/// Bytes that framing, upgrade and the request line's own take, at most.
const REMADE: usize = 128;

/// Exactly one `Host` that names a host; HTTP/1.0 may leave it out.
fn check_host(fields: &Fields, version: Version) -> Result<(), Malformed> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => Ok(()),
        (None, _) if version == Version::Http10 => Ok(()),
        _ => Err(Malformed::Host),
    }
}

/// `Expect` has one meaning, and HTTP/1.0 and a request without a body have no use for it.
fn expects_continue(
    fields: &Fields,
    version: Version,
    framing: Framing,
) -> Result<bool, Malformed> {
    let mut expectations = fields.all("expect");
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => {
            let has_body = !matches!(framing, Framing::None | Framing::Length(0));
            Ok(version == Version::Http11 && has_body)
        }
        (Some(_), _) => Err(Malformed::Expectation),
    }
}

/// The first line of a head, and the field lines with the empty line that ends them.
pub(super) fn split_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\r', head).unwrap_or(head.len());
    let (line, rest) = head.split_at(end);
    (line, rest.get(2..).unwrap_or_default())
}

/// Reads the field lines of a complete head. Whatever httparse lets through is checked again.
pub(super) fn parse_fields(lines: &[u8]) -> Result<Fields, Malformed> {
    // A line that starts with a blank continues the one before: obsolete, and a way to hide a field.
    let is_blank = |at: usize| matches!(lines.get(at), Some(b' ' | b'\t'));
    if is_blank(0) || memchr::memchr_iter(b'\n', lines).any(|at| is_blank(at + 1)) {
        return Err(Malformed::Folded);
    }
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let raw = match httparse::parse_headers(lines, &mut slots) {
        Ok(httparse::Status::Complete((len, raw))) if len == lines.len() => raw,
        Ok(_) => return Err(Malformed::FieldName),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooManyFields),
        Err(httparse::Error::HeaderValue) => return Err(Malformed::FieldValue),
        Err(_) => return Err(Malformed::FieldName),
    };
    // Room for what a proxy adds: its own credential, the caller's name, two dozen groups.
    let mut fields = Fields::with_capacity(raw.len() + 8, lines.len() + 1024);
    for header in raw {
        if header.name.len() > FIELD_NAME_MAX {
            return Err(Malformed::NameTooLong);
        }
        if !header.value.iter().copied().all(is_value_byte) {
            return Err(Malformed::FieldValue);
        }
        let pushed = fields.push(header.name, trim_ows(header.value));
        pushed.map_err(|_| Malformed::FieldName)?;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<RequestHead, Malformed> {
        let head = RequestHead::read(text, &mut Scan::default())?;
        Ok(head.expect("a complete head").0)
    }

    /// A request with `fields` after its Host.
    fn with(fields: &str) -> Result<RequestHead, Malformed> {
        read(format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn a_head_is_read_as_it_stands_and_written_anew() {
        let text =
            b"GET /api?a=b HTTP/1.1\r\nHOST:h:1\r\nX-A: \t1 2\t\r\nx-a: \xe9\r\nE:\r\n\r\nmore";
        let (head, used) = RequestHead::read(text, &mut Scan::default()).unwrap().unwrap();
        assert_eq!(used, text.len() - 4);
        assert_eq!((head.method(), head.target()), ("GET", "/api?a=b"));
        assert_eq!((head.path(), head.query()), ("/api", Some("a=b")));
        assert_eq!((head.framing(), head.keep_alive()), (Framing::None, true));
        let mut out = Vec::new();
        head.write(&mut out).unwrap();
        let anew = b"GET /api?a=b HTTP/1.1\r\nHOST: h:1\r\nX-A: 1 2\r\nx-a: \xe9\r\nE: \r\n\r\n";
        assert_eq!(out.escape_ascii().to_string(), anew.escape_ascii().to_string());
    }

    #[test]
    fn request_lines_have_three_parts_and_single_spaces() {
        use Malformed::{RequestLine, Target, Version};
        let bad: [(&str, Malformed); 21] = [
            ("GET\t/a\tHTTP/1.1", RequestLine),
            ("GET  /a HTTP/1.1", RequestLine),
            ("GET /a  HTTP/1.1", RequestLine),
            ("GET /a HTTP/1.1 ", RequestLine),
            (" GET /a HTTP/1.1", RequestLine),
            ("GET /a", RequestLine),
            ("GET", RequestLine),
            ("G=\" /a HTTP/1.1", RequestLine),
            ("GET /a b HTTP/1.1", RequestLine),
            ("GET http://h/a HTTP/1.1", Target),
            ("CONNECT h:443 HTTP/1.1", Target),
            ("OPTIONS * HTTP/1.1", Target),
            ("GET /a#b HTTP/1.1", Target),
            ("GET /%zz HTTP/1.1", Target),
            ("GET /\\ HTTP/1.1", Target),
            ("GET /a HTTP/1.2", Version),
            ("GET /a HTTP/2.0", Version),
            ("GET /a http/1.1", Version),
            ("PRI * HTTP/2.0", Version),
            ("GET /é HTTP/1.1", Target),
            ("GÉT / HTTP/1.1", RequestLine),
        ];
        for (line, rule) in bad {
            let got = read(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()).unwrap_err();
            assert_eq!(got, rule, "{line}");
        }
    }

    #[test]
    fn field_lines_obey_the_grammar() {
        for (line, rule) in [
            (" a: b", Malformed::Folded),
            ("a: b\r\n\tc", Malformed::Folded),
            ("a : b", Malformed::FieldName),
            ("a\t: b", Malformed::FieldName),
            ("a", Malformed::FieldName),
            (": b", Malformed::FieldName),
            ("a\u{e9}: b", Malformed::FieldName),
            ("a\0: b", Malformed::FieldName),
            ("a: b\0", Malformed::FieldValue),
            ("a: \u{b}b", Malformed::FieldValue),
            ("a: b\u{7f}", Malformed::FieldValue),
            ("a: \u{1b}[2J", Malformed::FieldValue),
        ] {
            assert_eq!(with(&format!("{line}\r\n")), Err(rule), "{line:?}");
        }
    }

    #[test]
    fn too_much_is_refused_with_431() {
        let many = |count: usize| (1..count).map(|n| format!("x{n}: y\r\n")).collect::<String>();
        assert!(with(&many(FIELDS_MAX)).is_ok());
        assert_eq!(with(&many(FIELDS_MAX + 1)), Err(Malformed::TooManyFields));
        let name = "n".repeat(FIELD_NAME_MAX + 1);
        assert_eq!(with(&format!("{name}: v\r\n")), Err(Malformed::NameTooLong));
        let value = "v".repeat(REQUEST_HEAD_MAX);
        assert_eq!(with(&format!("n: {value}\r\n")), Err(Malformed::HeadTooLong));
        assert_eq!(Malformed::HeadTooLong.status(), 431);
    }

    #[test]
    fn there_is_one_host_and_it_names_a_host() {
        for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host:\r\n"] {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(read(text.as_bytes()), Err(Malformed::Host), "{fields:?}");
        }
        assert!(read(b"GET / HTTP/1.0\r\n\r\n").is_ok());
        assert_eq!(read(b"GET / HTTP/1.1\r\n Host: h\r\n\r\n"), Err(Malformed::Folded));
    }

    #[test]
    fn what_the_sdks_of_hybrid_connections_send_is_accepted() {
        let head = with(
            "0: Sec-WebSocket-Extensions: permessage-deflate\r\n\
             Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\nX: \u{fc}\r\n",
        )
        .unwrap();
        assert_eq!(head.upgrade(), Some(Protocol::WebSocket));
        assert_eq!(head.fields.count("sec-websocket-key"), 2);
    }

    #[test]
    fn keep_alive_and_expectations() {
        assert!(!with("Connection: x, Close\r\n").unwrap().keep_alive());
        assert!(!read(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().keep_alive());
        assert_eq!(with("Connection: a b\r\n"), Err(Malformed::ConnectionOption));
        let body = "Content-Length: 3\r\n";
        assert!(with(&format!("Expect: 100-Continue\r\n{body}")).unwrap().expects_continue());
        assert!(!with("Expect: 100-continue\r\n").unwrap().expects_continue());
        assert_eq!(with("Expect: 200-ok\r\n"), Err(Malformed::Expectation));
        assert_eq!(Malformed::Expectation.status(), 417);
    }

    #[test]
    fn a_head_with_fields_of_one_hop_is_not_written() {
        let mut head = with("Content-Length: 3\r\nTE: trailers\r\n").unwrap();
        let mut out = Vec::new();
        assert_eq!(head.write(&mut out), Err(Unwritable::Remade("Content-Length".to_owned())));
        super::super::strip(&mut head.fields);
        head.write(&mut out).unwrap();
        assert_eq!(out, b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n");
        head.fields.remove("host");
        assert_eq!(head.write(&mut out), Err(Unwritable::Host));
        assert_eq!(RequestHead::new("GET", "/a b"), Err(Unwritable::Line));
        assert_eq!(head.set_target("/\r\nx: y"), Err(Unwritable::Line));
    }
}
