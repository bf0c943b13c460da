//! Variants of the classes of hostile requests, made from a seed: other fields, other places,
//! other bytes. What must become of each follows from how it was made, never from our own parser.

#[path = "classes/framing.rs"]
mod framing;
#[path = "../support/rng.rs"]
mod rng;

pub(crate) use rng::Rng;

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

/// A request that nobody has sent.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\n\r\n";

/// The makers of all classes. Each seed gives another variant.
pub(crate) const CLASSES: [fn(&mut Rng) -> Variant; 21] = [
    impersonation,
    connection_options,
    dropped_identity,
    two_credentials,
    bad_credentials,
    framing::lengths,
    framing::codings,
    framing::both_framings,
    framing::line_ends,
    framing::folded,
    framing::bytes_in_names,
    framing::bytes_in_values,
    request_lines,
    targets_that_pass,
    hosts,
    framing::chunks_that_break,
    framing::chunks_that_pass,
    framing::pipelines,
    framing::counted_bodies,
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

const NO_TARGETS: [&str; 14] = [
    "http://h/api",
    "https://h/api",
    "h:443",
    "*",
    "",
    "api",
    "/a%g0",
    "/%zz",
    "/%2",
    "/%",
    "?a=b",
    "/a b",
    "/a\tb",
    "/[::1]",
];

const NO_VERSIONS: [&str; 11] = [
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
];

fn request_lines(rng: &mut Rng) -> Variant {
    let mut request = Request::new("GET", rng);
    let (line, statuses): (Vec<u8>, &'static [u16]) = match rng.below(6) {
        0 => {
            let byte = rng.pick(b"\x00\x01\x08\x0b\x0c\x1b\x7f\x80\xa0\xff\"<>\\^`{|}#");
            ([b"GET /a", &[byte][..], b"b HTTP/1.1"].concat(), &[400])
        }
        1 => {
            let target = rng.pick(&NO_TARGETS);
            (format!("GET {target} HTTP/1.1").into_bytes(), &[400])
        }
        2 => {
            let version = rng.pick(&NO_VERSIONS);
            (format!("GET /api {version}").into_bytes(), &[400, 505])
        }
        3 => {
            let method = rng.pick(&["TRACE", "CONNECT", "get", "PROPFIND", "Get", "PRI", "TRACK"]);
            (format!("{method} /api HTTP/1.1").into_bytes(), &[405])
        }
        4 => {
            let byte = rng.pick(b"\x00\x0b()<>@,;:\\\"/[]?={}\x7f\x80");
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
