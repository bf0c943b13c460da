//! HTTP heads on their way through the relay: what a listener sees of a request, and what a sender
//! sees of a response.

use time::OffsetDateTime;

use crate::engine::upgrade::{Fields, Request};
use crate::wire::control::{Response, joined};
use crate::wire::h1::{BodyReader, Malformed, is_remade, reason_phrase};

/// How the body of a response goes to the sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BodyOut {
    /// There is none.
    None,
    /// Of this length.
    Length(usize),
    /// In chunks.
    Chunked,
    /// Up to the end of the connection.
    UntilClose,
}

/// The fields of `request` that go to the listener: without tokens that were for the relay, and
/// without what belongs to the hop; with the relay in `Via`.
pub(super) fn request_fields(
    request: &Request,
    host: &str,
    hides_authorization: bool,
) -> Vec<(String, String)> {
    let fields = &request.fields;
    let is_hop = |name: &str| {
        is_remade(name) || name.eq_ignore_ascii_case("Close") || fields.has("Connection", name)
    };
    let is_token = |name: &str| {
        name.eq_ignore_ascii_case("ServiceBusAuthorization")
            || (hides_authorization && name.eq_ignore_ascii_case("Authorization"))
    };
    let kept = fields.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept = kept.filter(|(name, _)| !is_hop(name) && !is_token(name));
    let via = format!("1.1 {host}");
    joined(kept.chain([("Via", via.as_str())]))
}

/// The head of the answer to a sender.
pub(super) fn response_head(
    response: &Response,
    request: &Request,
    host: &str,
    unix_now: u64,
    body: BodyOut,
    keep_alive: bool,
) -> Vec<u8> {
    let is_head = request.method == "HEAD";
    let description = match response.description.as_str() {
        "" => reason_phrase(response.status),
        description => description,
    };
    let mut head = latin1(&format!("HTTP/1.1 {} {description}\r\n", response.status));
    let listed = Fields(response.headers.clone());
    let mut push = |name: &str, value: &str| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend(latin1(value));
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in &response.headers {
        let is_length = is_head && name.eq_ignore_ascii_case("Content-Length");
        let is_hop = is_remade(name) || listed.has("Connection", name);
        let is_via = name.eq_ignore_ascii_case("Via");
        if is_token(name) && (is_length || !is_hop) && !is_via {
            push(name, value);
        }
    }
    let vias = listed.all("Via").map(str::to_owned).chain([format!("1.1 {host}")]);
    push("Via", &vias.collect::<Vec<_>>().join(", "));
    if listed.get("Date").is_none() {
        push("Date", &http_date(unix_now));
    }
    match body {
        BodyOut::Length(len) => push("Content-Length", &len.to_string()),
        BodyOut::Chunked => push("Transfer-Encoding", "chunked"),
        BodyOut::None | BodyOut::UntilClose => (),
    }
    if !keep_alive {
        push("Connection", "close");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Moves what of `raw` belongs to the body, taken out of its framing, to `body`.
pub(super) fn take_body(
    reader: &mut BodyReader,
    raw: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut at = 0;
    while !reader.is_done() {
        let rest = raw.get(at..).unwrap_or_default();
        let piece = reader.read(rest)?;
        body.extend_from_slice(rest.get(piece.data).unwrap_or_default());
        at += piece.consumed;
        if piece.consumed == 0 {
            break;
        }
    }
    raw.drain(..at);
    Ok(())
}

fn is_token(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(legal)
}

/// Text as the bytes it came from. What could end a line is left out.
fn latin1(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let (text, end) = match text.strip_suffix("\r\n") {
        Some(text) => (text, b"\r\n".as_slice()),
        None => (text, b"".as_slice()),
    };
    let legal = text.chars().filter(|c| !c.is_ascii_control());
    bytes.extend(legal.map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')));
    bytes.extend_from_slice(end);
    bytes
}

/// `Mon, 23 Nov 2026 19:54:00 GMT` (RFC 9110, 5.6.7).
fn http_date(unix_now: u64) -> String {
    let seconds = i64::try_from(unix_now).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!(
        "{}, {:02} {} {} {hour:02}:{minute:02}:{second:02} GMT",
        short(&weekday),
        at.day(),
        short(&month),
        at.year()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::{Framing, Scan};

    fn request(fields: &str) -> Request {
        let head = format!("GET /ent HTTP/1.1\r\nHost: n\r\n{fields}\r\n");
        Request::parse(head.as_bytes(), &mut Scan::default()).unwrap().unwrap().0
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_listener_sees_what_is_end_to_end() {
        let request = request(
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n\
             Close: 1\r\nProxy-Authorization: x\r\nContent-Length: 0\r\nX-A: 1\r\nx-a: 2\r\n\
             Via: 1.0 old\r\nServiceBusAuthorization: s\r\nAuthorization: a\r\n",
        );
        let rest = [("Host", "n"), ("X-A", "1, 2"), ("Via", "1.0 old, 1.1 relay")];
        assert_eq!(request_fields(&request, "relay", true), pairs(&rest));
        let mut rest = rest.to_vec();
        rest.push(("Authorization", "a"));
        assert_eq!(request_fields(&request, "relay", false), pairs(&rest));
    }

    #[test]
    fn a_response_is_written_anew_and_nothing_can_be_smuggled_into_it() {
        let response = Response {
            status: 200,
            description: "Fi\u{fc}ne".to_owned(),
            headers: pairs(&[
                ("content-length", "99"),
                ("Transfer-Encoding", "chunked"),
                ("x-ok", "1\r\nEvil: 1"),
                ("bad name", "1"),
                ("via", "1.1 inner"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
                ("Connection", "x-hop"),
                ("x-hop", "1"),
            ]),
            ..Response::default()
        };
        let sent = |request: &Request, body, keep_alive| {
            let head = response_head(&response, request, "relay", 1_795_463_640, body, keep_alive);
            head.into_iter().map(char::from).collect::<String>()
        };
        let get = request("");
        assert_eq!(
            sent(&get, BodyOut::Length(5), true),
            "HTTP/1.1 200 Fi\u{fc}ne\r\nx-ok: 1Evil: 1\r\nset-cookie: a\r\nset-cookie: b\r\n\
             Via: 1.1 inner, 1.1 relay\r\nDate: Mon, 23 Nov 2026 19:54:00 GMT\r\n\
             Content-Length: 5\r\n\r\n"
        );
        let head = Request { method: "HEAD".to_owned(), ..get };
        assert!(sent(&head, BodyOut::None, false).contains("content-length: 99\r\n"));
        assert!(sent(&head, BodyOut::None, false).ends_with("Connection: close\r\n\r\n"));
    }

    #[test]
    fn a_body_is_taken_out_of_its_framing_at_every_cut() {
        let wire = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\nGET";
        for cut in 0..wire.len() {
            let mut reader = BodyReader::new(Framing::Chunked);
            let (mut raw, mut body) = (wire[..cut].to_vec(), Vec::new());
            take_body(&mut reader, &mut raw, &mut body).unwrap();
            raw.extend_from_slice(&wire[cut..]);
            take_body(&mut reader, &mut raw, &mut body).unwrap();
            assert!(reader.is_done());
            assert_eq!((body.as_slice(), raw.as_slice()), (&b"abcde"[..], &b"GET"[..]));
        }
    }
}
