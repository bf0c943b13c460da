//! Classes about where a head, a field and a body end.

use super::{Must, Request, Rng, SMUGGLED, Variant, other_case};

pub(super) fn lengths(rng: &mut Rng) -> Variant {
    let mut request = Request::new(rng.pick(&["POST", "PUT", "PATCH", "DELETE"]), rng);
    let bad = [
        "+3",
        "-3",
        "0x3",
        "3_0",
        "\"3\"",
        "3,3",
        "3, 3",
        "3a",
        "3 3",
        "3.0",
        "",
        "3;",
        "\u{663}",
        "18446744073709551616",
        "99999999999999999999999",
        "1e1",
        "٣",
        "3\u{b}",
        "NaN",
        "- 3",
    ];
    let name = other_case("content-length", rng);
    if rng.one_in(3) {
        let (one, other) = (rng.pick(&["3", "0", "5", "03"]), rng.pick(&["3", "0", "4"]));
        request.put(format!("Content-Length: {one}"), rng);
        request.put(format!("{name}: {other}"), rng);
    } else if rng.one_in(4) {
        let alias = rng.pick(&["Content_Length", "content_length", "CONTENT_LENGTH"]);
        request.put(format!("{alias}: 3"), rng);
    } else {
        request.put(format!("{name}: {}", rng.pick(&bad)), rng);
    }
    request.body = b"abcGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    request.refused("a length that is none", &[400])
}

pub(super) fn codings(rng: &mut Rng) -> Variant {
    let mut request = Request::new("POST", rng);
    let around: Vec<char> = "\u{b}\u{c}\u{a0}\u{85}\";=/<'@()[]{}:\\".chars().collect();
    let name = other_case("transfer-encoding", rng);
    match rng.below(5) {
        0 => {
            let odd = rng.pick(&around);
            let value = rng.pick(&[format!("{odd}chunked"), format!("chunked{odd}")]);
            request.put(format!("{name}: {value}"), rng);
        }
        1 => {
            let two = rng.pick(&["chunked, chunked", "gzip, chunked", "chunked,identity", "x"]);
            request.put(format!("{name}: {two}"), rng);
        }
        2 => {
            request.put(format!("{name}: chunked"), rng);
            let other = rng.pick(&["chunked", "identity", "gzip", ""]);
            request.put(format!("Transfer-Encoding: {other}"), rng);
        }
        3 => {
            let alias = rng.pick(&["Transfer_Encoding", "transfer_encoding", "TRANSFER_encoding"]);
            request.put(format!("{alias}: chunked"), rng);
        }
        _ => {
            let line = String::from_utf8(request.line.clone()).expect("ASCII");
            request.line = line.replace("HTTP/1.1", "HTTP/1.0").into_bytes();
            request.put(format!("{name}: chunked"), rng);
        }
    }
    request.body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    request.refused("a coding that is not chunked alone", &[400, 501])
}

pub(super) fn both_framings(rng: &mut Rng) -> Variant {
    let mut request = Request::new(rng.pick(&["POST", "PUT", "GET", "DELETE"]), rng);
    let length = other_case("content-length", rng);
    let coding = other_case("transfer-encoding", rng);
    request.put(format!("{length}: {}", rng.below(40)), rng);
    request.put(format!("{coding}: {}", rng.pick(&["chunked", "CHUNKED", "identity"])), rng);
    request.body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    request.refused("length and coding", &[400])
}

pub(super) fn line_ends(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    if rng.one_in(4) {
        request.end = b"\n";
        return request.refused("a line end that is none", &[400]);
    }
    let mut raw = request.bytes();
    let ends: Vec<usize> =
        raw.windows(2).enumerate().filter(|(_, w)| w == b"\r\n").map(|(at, _)| at).collect();
    let at = rng.pick(&ends);
    let is_last = at + 2 == raw.len();
    let mut odd: Vec<&[u8]> = vec![b"\n", b"\r\r\n", b"\n\r", b"\r \n", b"\r\0\n", b"\rx\r\n"];
    if !is_last {
        odd.push(b"\r");
    }
    raw.splice(at..at + 2, rng.pick(&odd).iter().copied());
    // Something behind it, so that a lone CR at the end does not wait for its LF.
    raw.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    Variant { class: "a line end that is none", raw, must: Must::Refuse(&[400, 505]) }
}

pub(super) fn folded(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let blank = rng.pick(&[" ", "\t", "  ", " \t"]);
    let what = rng.pick(&["Impersonate-User: root", "folded", "chunked", ""]);
    let at = rng.below(request.fields.len() + 1);
    request.fields.insert(at, format!("{blank}{what}").into_bytes());
    request.refused("a folded line", &[400])
}

/// RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(super) fn bytes_in_names(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let byte = u8::try_from(rng.below(256)).expect("a byte");
    let name: Vec<u8> = match rng.below(3) {
        0 => [b"X-a", &[byte][..], b"b"].concat(),
        1 => [&[byte][..], b"X-ab"].concat(),
        _ => [b"X-ab", &[byte][..]].concat(),
    };
    request.put([&name, &b": marked"[..]].concat(), rng);
    match byte {
        // Another field, whose value begins with a colon: as legal as it looks odd.
        b':' if name[0] != b':' => request.passes("a byte in a name", Vec::new(), Vec::new()),
        _ if is_token_byte(byte) => {
            let name = String::from_utf8(name).expect("ASCII");
            request.passes("a byte in a name", vec![format!("\r\n{name}: marked\r\n")], Vec::new())
        }
        _ => request.refused("a byte in a name", &[400]),
    }
}

pub(super) fn bytes_in_values(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let byte = u8::try_from(rng.below(256)).expect("a byte");
    request.put([b"X-Value: a", &[byte][..], b"b"].concat(), rng);
    match byte {
        b'\t' | b' '..=b'~' | 0x80.. => {
            request.passes("a byte in a value", vec!["\r\nX-Value: a".to_owned()], Vec::new())
        }
        _ => request.refused("a byte in a value", &[400]),
    }
}

fn chunked(rng: &mut Rng) -> Request {
    let mut request = Request::new(rng.pick(&["POST", "PUT", "PATCH", "DELETE"]), rng);
    let name = other_case("transfer-encoding", rng);
    request.put(format!("{name}: {}", other_case("chunked", rng)), rng);
    request
}

pub(super) fn chunks_that_break(rng: &mut Rng) -> Variant {
    let mut request = chunked(rng);
    for _ in 0..rng.below(3) {
        let len = 1 + rng.below(30);
        request.body.extend(format!("{len:x}\r\n{}\r\n", "d".repeat(len)).into_bytes());
    }
    let size = rng.pick(&["3", "0", "a", "1F"]);
    let odd = rng.pick(&[
        "\n",
        "\r",
        "\r\r\n",
        " \r\n",
        "\t\r\n",
        ";\n",
        ";a\0\r\n",
        "x\r\n",
        "_0\r\n",
        ".0\r\n",
        "h\r\n",
        ";a\u{7f}\r\n",
        ",\r\n",
    ]);
    let line = match rng.below(6) {
        0 => {
            format!("{}{size}\r\n", rng.pick(&["+", "-", "0x", " ", "\t", "\r\n", "\"", "\0", "_"]))
        }
        1 => format!("{}{size}\r\n", "0".repeat(15)),
        2 => format!("{size};{}\r\n", "e".repeat(300)),
        3 => "\r\n".to_owned(),
        4 => {
            format!("3\r\nabc{}0\r\n\r\n", rng.pick(&["", "\n", "\r", "d\r\n", "\r\r\n", " \r\n"]))
        }
        _ => format!("{size}{odd}"),
    };
    request.body.extend(line.into_bytes());
    request.body.extend(b"0\r\n\r\n");
    request.body.extend(SMUGGLED.as_bytes());
    Variant { class: "chunks that are none", raw: request.bytes(), must: Must::Break }
}

pub(super) fn chunks_that_pass(rng: &mut Rng) -> Variant {
    let mut request = chunked(rng);
    for _ in 0..rng.below(6) {
        let len = 1 + rng.below(70);
        let zeros = "0".repeat(rng.below(5));
        let size = if rng.one_in(2) { format!("{len:x}") } else { format!("{len:X}") };
        let extension = rng.pick(&["", ";a", ";a=b", ";a=\"b c\"", ";;"]);
        request
            .body
            .extend(format!("{zeros}{size}{extension}\r\n{}\r\n", "d".repeat(len)).into_bytes());
    }
    let trailers = [
        "",
        "Impersonate-User: marked\r\n",
        "Authorization: Bearer marked\r\nContent-Length: 7\r\n",
        "X-Remote-User: marked\r\n",
    ];
    let last = rng.pick(&["0", "000", "0;marked"]);
    request.body.extend(format!("{last}\r\n{}\r\n", rng.pick(&trailers)).into_bytes());
    request.passes("chunks", vec!["\r\n0\r\n\r\n".to_owned()], vec!["marked".to_owned()])
}

pub(super) fn pipelines(rng: &mut Rng) -> Variant {
    let count = 1 + rng.below(5);
    let mut raw = Vec::new();
    for _ in 0..count {
        if rng.one_in(3) {
            raw.extend_from_slice(b"\r\n");
        }
        let mut request = Request::new("POST", rng);
        let len = rng.below(50);
        match rng.below(3) {
            0 => request.put(format!("Content-Length: {len}"), rng),
            1 => request.put("Content-Length: 0", rng),
            _ => request.put("Transfer-Encoding: chunked", rng),
        }
        let fields = request.fields.concat();
        let text = String::from_utf8(fields).expect("ASCII");
        request.body = if text.contains("chunked") {
            b"2\r\nok\r\n0\r\n\r\n".to_vec()
        } else if text.contains("Content-Length: 0") {
            Vec::new()
        } else {
            vec![b'b'; len]
        };
        raw.extend(request.bytes());
    }
    // Behind it something that is no request, or not yet.
    let tail = rng.pick(&["GET /half HTTP/1.1\r\nHost: x\r\nAuth", "\n", ""]);
    raw.extend_from_slice(tail.as_bytes());
    let without = vec!["/half".to_owned()];
    Variant { class: "requests in a row", raw, must: Must::Pass(count, Vec::new(), without) }
}

pub(super) fn counted_bodies(rng: &mut Rng) -> Variant {
    let mut request = Request::new(rng.pick(&["POST", "PUT", "PATCH", "DELETE"]), rng);
    // A request in a body is a body.
    let body = SMUGGLED.repeat(rng.below(3)).replace("@T@", "x");
    let zeros = "0".repeat(rng.below(4));
    request.put(format!("Content-Length: {zeros}{}", body.len()), rng);
    request.put("Connection: close", rng);
    request.body = body.clone().into_bytes();
    // What follows a close is nothing.
    request.body.extend_from_slice(b"GET /marked HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    request.passes("a body that looks like a request", vec![length], vec!["marked".to_owned()])
}
