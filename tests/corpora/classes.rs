//! Variants of the classes of hostile requests, made from a seed: other fields, other places,
//! other bytes. What must become of each follows from how it was made, never from our own parser.

/// A sequence of numbers that a seed replays.
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).expect("below a usize")
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// One request, or several on one connection; `@T@` stands for a good token.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) class: &'static str,
    pub(crate) raw: Vec<u8>,
    pub(crate) must: Must,
}

/// What must become of it.
#[derive(Debug)]
pub(crate) enum Must {
    /// The first final answer has one of these statuses, and nothing goes upstream.
    Refuse(&'static [u16]),
    /// So many requests go upstream, with all of the first texts in them and none of the second,
    /// whatever the case of the letters.
    Pass(usize, Vec<String>, Vec<String>),
    /// A body that is none: the upstream never sees a whole request.
    Break,
}

/// A request that is as it should be, to be spoilt.
struct Request {
    line: Vec<u8>,
    fields: Vec<Vec<u8>>,
    end: &'static [u8],
    body: Vec<u8>,
}

impl Request {
    fn new(method: &str, rng: &mut Rng) -> Self {
        let target = rng.pick(&TARGETS);
        let mut request = Self {
            line: format!("{method} {target} HTTP/1.1").into_bytes(),
            fields: vec![b"Host: edge.test".to_vec(), b"Authorization: Bearer @T@".to_vec()],
            end: b"\r\n",
            body: Vec::new(),
        };
        for _ in 0..rng.below(4) {
            let line = rng.pick(&ORDINARY);
            request.put(line, rng);
        }
        request
    }

    /// Puts a field line somewhere.
    fn put(&mut self, line: impl AsRef<[u8]>, rng: &mut Rng) {
        let at = rng.below(self.fields.len() + 1);
        self.fields.insert(at, line.as_ref().to_vec());
    }

    fn bytes(&self) -> Vec<u8> {
        let lines = [&self.line].into_iter().chain(&self.fields);
        let mut all: Vec<u8> = lines.flat_map(|line| [line, self.end].concat()).collect();
        all.extend_from_slice(self.end);
        all.extend_from_slice(&self.body);
        all
    }

    fn refused(&self, class: &'static str, statuses: &'static [u16]) -> Variant {
        Variant { class, raw: self.bytes(), must: Must::Refuse(statuses) }
    }

    fn passes(&self, class: &'static str, with: Vec<String>, without: Vec<String>) -> Variant {
        Variant { class, raw: self.bytes(), must: Must::Pass(1, with, without) }
    }
}

const TARGETS: [&str; 5] = [
    "/api",
    "/api/v1/namespaces/a/pods?limit=500",
    "/apis/apps/v1/deployments",
    "/api/v1/namespaces/a/pods/b/log?follow=false",
    "/openapi/v3?hash=A%2Fb",
];

const ORDINARY: [&str; 6] = [
    "Accept: application/json",
    "User-Agent: kubectl/v1.33",
    "Kubectl-Command: kubectl get",
    "X-Custom: 1",
    "Accept-Encoding: gzip",
    "If-None-Match: \"a, b\"",
];

const PROTECTED: [&str; 14] = [
    "Impersonate-User",
    "Impersonate-Group",
    "Impersonate-Uid",
    "Impersonate-Extra-scopes",
    "Impersonate-Anything",
    "Authorization",
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Forwarded-For",
    "Audit-ID",
    "Forwarded",
];

/// The makers of all classes. Each seed gives another variant.
pub(crate) const CLASSES: [fn(&mut Rng) -> Variant; 21] = [
    impersonation,
    connection_options,
    dropped_identity,
    two_credentials,
    bad_credentials,
    lengths,
    codings,
    both_framings,
    line_ends,
    folded,
    bytes_in_names,
    bytes_in_values,
    request_lines,
    targets_that_pass,
    hosts,
    chunks_that_break,
    chunks_that_pass,
    pipelines,
    counted_bodies,
    upgrades,
    hidden_subprotocols,
];

/// A name in another spelling that some server takes for the same.
fn spell(name: &str, rng: &mut Rng) -> String {
    let mixed = |rng: &mut Rng, name: &str| -> String {
        name.chars()
            .map(|c| if rng.one_in(2) { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect()
    };
    match rng.below(5) {
        0 => name.to_owned(),
        1 => name.to_lowercase(),
        2 => name.to_uppercase(),
        3 => mixed(rng, name),
        _ => {
            let dashes: String =
                name.chars().map(|c| if c == '-' && rng.one_in(2) { '_' } else { c }).collect();
            mixed(rng, &dashes)
        }
    }
}

/// The letters alone in another case: the spelling stays.
fn other_case(name: &str, rng: &mut Rng) -> String {
    name.chars().map(|c| if rng.one_in(2) { c.to_ascii_uppercase() } else { c }).collect()
}

fn method(rng: &mut Rng) -> &'static str {
    rng.pick(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
}

fn impersonation(rng: &mut Rng) -> Variant {
    let mut request = Request::new(method(rng), rng);
    let names =
        ["User", "Group", "Uid", "Extra-scopes", "Extra-a.b%2fc", "Extra-", "", "X", "_User"];
    for _ in 0..=rng.below(2) {
        let name = spell(&format!("Impersonate-{}", rng.pick(&names)), rng);
        let name = if rng.one_in(8) { spell("Impersonate", rng) } else { name };
        let value = rng.pick(&["root", "", "system:masters", "alice", "\u{e9}", "a, b"]);
        request.put(format!("{name}: {value}"), rng);
    }
    request.refused("an impersonation field", &[403])
}

fn connection_options(rng: &mut Rng) -> Variant {
    let mut request = Request::new(method(rng), rng);
    let name = rng.pick(&PROTECTED);
    let mut options = vec![spell(name, rng)];
    for _ in 0..rng.below(3) {
        let at = rng.below(options.len() + 1);
        options.insert(at, rng.pick(&["close", "keep-alive", "x-custom", "", "te"]).to_owned());
    }
    let field = other_case("connection", rng);
    if rng.one_in(3) {
        for option in &options {
            request.put(format!("{field}: {option}"), rng);
        }
    } else {
        let comma = rng.pick(&[",", ", ", " ,", ",\t"]);
        request.put(format!("{field}: {}", options.join(comma)), rng);
    }
    // It need not even be there.
    request.refused("a protected connection option", &[400])
}

fn dropped_identity(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let names = [
        "X-Remote-User",
        "X-Remote-Group",
        "X-Remote-Uid",
        "X-Remote-Extra-scopes",
        "X-Forwarded-For",
        "X-Forwarded-Client-Cert",
        "X-Forwarded-Uri",
        "X-Forwarded-User",
        "X-Real-Ip",
        "Forwarded",
        "Audit-ID",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "HTTP2-Settings",
        "Upgrade",
    ];
    for _ in 0..=rng.below(4) {
        let name = spell(rng.pick(&names), rng);
        request.put(format!("{name}: marked"), rng);
    }
    if rng.one_in(2) {
        request.put("Connection: x-custom, close", rng);
        request.put("X-Custom: marked", rng);
    }
    request.passes("a field that never goes on", Vec::new(), vec!["marked".to_owned()])
}

fn two_credentials(rng: &mut Rng) -> Variant {
    let mut request = Request::new(method(rng), rng);
    let name = other_case("authorization", rng);
    let value = rng.pick(&["Bearer @T@", "Basic YTpi", "", "Bearer x"]);
    request.put(format!("{name}: {value}"), rng);
    request.refused("two credentials", &[400])
}

fn bad_credentials(rng: &mut Rng) -> Variant {
    let mut request = Request::new(method(rng), rng);
    request.fields.retain(|line| !line.starts_with(b"Authorization"));
    let values = [
        "Bearer  @T@",
        "Bearer\t@T@",
        "Bearer @T@ @T@",
        "Bearer @T@,",
        "Bearer @T@, Bearer @T@",
        "Bearer \"@T@\"",
        "Bearer",
        "Bearer =",
        "Bearer @T@\u{a0}",
        "Bearer @T@;",
        "bearer:@T@",
        "@T@",
        "Basic @T@",
        "Negotiate @T@",
        "Token @T@",
        "Bearer@T@",
        "BearerX @T@",
    ];
    match rng.below(8) {
        0 => (),
        1 => request.put("Cookie: access_token=@T@; token=@T@", rng),
        2 => request.put("Authorization_: Bearer @T@", rng),
        3 => request.put("X-Authorization: Bearer @T@", rng),
        _ => {
            let name = other_case("authorization", rng);
            request.put(format!("{name}: {}", rng.pick(&values)), rng);
        }
    }
    request.refused("no single bearer token", &[401])
}

fn lengths(rng: &mut Rng) -> Variant {
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

fn codings(rng: &mut Rng) -> Variant {
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

fn both_framings(rng: &mut Rng) -> Variant {
    let mut request = Request::new(rng.pick(&["POST", "PUT", "GET", "DELETE"]), rng);
    let length = other_case("content-length", rng);
    let coding = other_case("transfer-encoding", rng);
    request.put(format!("{length}: {}", rng.below(40)), rng);
    request.put(format!("{coding}: {}", rng.pick(&["chunked", "CHUNKED", "identity"])), rng);
    request.body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    request.refused("length and coding", &[400])
}

fn line_ends(rng: &mut Rng) -> Variant {
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

fn folded(rng: &mut Rng) -> Variant {
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

fn bytes_in_names(rng: &mut Rng) -> Variant {
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

fn bytes_in_values(rng: &mut Rng) -> Variant {
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

fn request_lines(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let (line, statuses): (Vec<u8>, &'static [u16]) = match rng.below(6) {
        0 => {
            let byte =
                rng.pick(&b"\x00\x01\x08\x0b\x0c\x1b\x7f\x80\xa0\xff\"<>\\^`{|}#"[..].to_vec());
            ([b"GET /a", &[byte][..], b"b HTTP/1.1"].concat(), &[400])
        }
        1 => {
            let target = rng.pick(&[
                "http://h/api",
                "https://h/api",
                "h:443",
                "*",
                "",
                "api",
                "//",
                "/%zz",
                "/%2",
                "/%",
                "?a=b",
                "/a b",
                "/a\tb",
                "/[::1]",
            ]);
            let target = if target == "//" { "/a%g0" } else { target };
            (format!("GET {target} HTTP/1.1").into_bytes(), &[400])
        }
        2 => {
            let version = rng.pick(&[
                "HTTP/1.2",
                "HTTP/2.0",
                "HTTP/0.9",
                "http/1.1",
                "HTTP/1.01",
                "HTTP/11",
                "HTP/1.1",
                "HTTP/1.1x",
                "HTTP/1",
                "HTTPS/1.1",
                "",
            ]);
            (format!("GET /api {version}").into_bytes(), &[400, 505])
        }
        3 => {
            let method = rng.pick(&["TRACE", "CONNECT", "get", "PROPFIND", "Get", "PRI", "TRACK"]);
            (format!("{method} /api HTTP/1.1").into_bytes(), &[405])
        }
        4 => {
            let byte = rng.pick(&b"\x00\x0b()<>@,;:\\\"/[]?={}\x7f\x80"[..].to_vec());
            ([b"GE", &[byte][..], b"T /api HTTP/1.1"].concat(), &[400])
        }
        _ => {
            let line = rng.pick(&[
                "GET  /api HTTP/1.1",
                "GET /api  HTTP/1.1",
                " GET /api HTTP/1.1",
                "GET\t/api HTTP/1.1",
                "GET /api HTTP/1.1 ",
                "GET /api",
                "GET",
                "GET /api\tHTTP/1.1",
                "/api HTTP/1.1",
            ]);
            (line.as_bytes().to_vec(), &[400, 505])
        }
    };
    request.line = line;
    request.refused("a request line that is none", statuses)
}

fn targets_that_pass(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let parts = [
        "/",
        "//",
        "/.",
        "/..",
        "/%2e%2e",
        "/%2F",
        "/a;b=c",
        "/%00",
        "/%25%32",
        "/a:b@c",
        "/~!$&'()*+,=",
        "?",
        "?a=b&c",
        "?x=/../y",
        "?%0d%0aImpersonate-User:%20root",
        "?a=;&b",
    ];
    let mut target = "/api".to_owned();
    for _ in 0..rng.below(5) {
        target.push_str(rng.pick(&parts));
    }
    request.line = format!("GET {target} HTTP/1.1").into_bytes();
    request.passes("a target", vec![format!("GET {target} HTTP/1.1\r\n")], Vec::new())
}

fn hosts(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let good = rng.one_in(3);
    let bad = [
        "", "a b", "a@b", "a/b", "a,b", "a:b", "a:123456", "[::1", "[]", "[g]", "a#", "a?",
        "a\u{a0}", "http://a", "a:80:80", "a\\b", ":80", "\"a\"",
    ];
    let fine = ["a", "a:80", "a.b-c", "127.0.0.1:6443", "[::1]:443", "kubernetes.default.svc"];
    request.fields.retain(|line| !line.starts_with(b"Host"));
    if good {
        let name = other_case("host", rng);
        request.put(format!("{name}: {}", rng.pick(&fine)), rng);
        return request.passes("a host", Vec::new(), vec![]);
    }
    match rng.below(3) {
        0 => (),
        1 => {
            for _ in 0..2 {
                request.put(format!("{}: edge.test", other_case("host", rng)), rng);
            }
        }
        _ => request.put(format!("{}: {}", other_case("host", rng), rng.pick(&bad)), rng),
    }
    request.refused("no single host", &[400])
}

fn chunked(rng: &mut Rng) -> Request {
    let mut request = Request::new(rng.pick(&["POST", "PUT", "PATCH", "DELETE"]), rng);
    let name = other_case("transfer-encoding", rng);
    request.put(format!("{name}: {}", other_case("chunked", rng)), rng);
    request
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\n\r\n";

fn chunks_that_break(rng: &mut Rng) -> Variant {
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

fn chunks_that_pass(rng: &mut Rng) -> Variant {
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

fn pipelines(rng: &mut Rng) -> Variant {
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

fn counted_bodies(rng: &mut Rng) -> Variant {
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

fn upgrades(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let protocol = rng.pick(&["websocket", "SPDY/3.1", "WebSocket", "spdy/3.1"]);
    let (connection, upgrade) = (other_case("connection", rng), other_case("upgrade", rng));
    request.put(format!("{connection}: {}", rng.pick(&["Upgrade", "keep-alive, upgrade"])), rng);
    match rng.below(4) {
        0 => {
            let list =
                rng.pick(&["websocket, h2c", "h2c,websocket", "websocket,", "SPDY/3.1, websocket"]);
            request.put(format!("{upgrade}: {list}"), rng);
            request.refused("an upgrade to one of several", &[400])
        }
        1 => {
            request.put(format!("{upgrade}: {protocol}"), rng);
            request.put(format!("{upgrade}: {protocol}"), rng);
            request.refused("an upgrade to one of several", &[400])
        }
        2 => {
            let other = rng.pick(&["h2c", "TLS/1.0", "foo", "websockets", "SPDY/3"]);
            request.put(format!("{upgrade}: {other}"), rng);
            let without = vec!["upgrade:".to_owned()];
            request.passes("an upgrade to something else", Vec::new(), without)
        }
        _ => {
            request.put(format!("{upgrade}: {protocol}"), rng);
            request.body = SMUGGLED.as_bytes().to_vec();
            let with = vec![format!("\r\nUpgrade: {protocol}\r\n")];
            // The upstream here says no to every upgrade.
            request.passes("an upgrade that is refused", with, vec!["smuggled".to_owned()])
        }
    }
}

fn hidden_subprotocols(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let blank =
        rng.pick(&["\u{a0}", "\u{2003}", "\u{85}", "\u{3000}", "\"", "a ", "=", ";", "", " "]);
    let token = format!("{blank}base64url.bearer.authorization.k8s.io.YS5i");
    let list = [rng.pick(&["v4.channel.k8s.io, ", "", "v5, v4,"]), &token].concat();
    request.put(format!("{}: {list}", other_case("sec-websocket-protocol", rng)), rng);
    request.refused("a second credential in a subprotocol", &[400])
}

/// The bytes with `token` where a good one stands.
pub(crate) fn with_token(raw: &[u8], token: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.windows(3).position(|window| window == b"@T@") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(token.as_bytes());
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    out
}
