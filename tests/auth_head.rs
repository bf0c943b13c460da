//! Whatever a caller writes: the head that goes on has one credential, ours, and one user, the one
//! that was verified, and nothing else that an API server could take for an identity.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "support/rng.rs"]
mod rng;

use cluster_connect::auth::fields::HeaderPolicy;
use cluster_connect::auth::impersonate::{self, Road};
use cluster_connect::auth::{GroupState, Principal};
use cluster_connect::role::auth_proxy::head::Identity;
use cluster_connect::secret::Secret;
use cluster_connect::wire::h1::{RequestHead, Scan, policy};
use rng::Rng;

const OWN: &str = "the-own-token";
const CASES: u64 = 40_000;

const METHODS: [&str; 9] =
    ["GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"];

const TARGETS: [&str; 14] = [
    "/api/v1/pods",
    "/api/v1/pods?watch=1&impersonate-user=root",
    "/apis//../api/./v1",
    "/api/v1/namespaces/a/pods/b/exec?command=sh",
    "/%2e%2e/%00?x=%0d%0aImpersonate-User:%20root",
    "/;a=b/%2f",
    "http://evil.test/api",
    "*",
    "evil.test:443",
    "/a b",
    "/#x",
    "/%zz",
    "/\\..",
    "/api?x=\u{7f}",
];

const NAMES: [&str; 44] = [
    "Accept",
    "User-Agent",
    "Cookie",
    "Content-Type",
    "Kubectl-Command",
    "X-Custom",
    "Origin",
    "Connection",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Expect",
    "Content-Length",
    "Transfer-Encoding",
    "Host",
    "Authorization",
    "Authorization_",
    "Authorization-X",
    "Impersonate-User",
    "Impersonate-Group",
    "Impersonate-Uid",
    "Impersonate-Extra-Scopes",
    "Impersonate",
    "Impersonated",
    "X-Impersonate-User",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Remote-Uid",
    "X-Remote-Extra-Foo",
    "X-Forwarded-For",
    "X-Forwarded-Client-Cert",
    "X-Real-Ip",
    "Forwarded",
    "Audit-ID",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Cache-Control",
    "If-None-Match",
    "X-Stream-Protocol-Version",
];

const VALUES: [&str; 26] = [
    "",
    "x",
    "root",
    "system:masters",
    "close",
    "keep-alive",
    "Upgrade",
    "websocket",
    "SPDY/3.1",
    "h2c",
    "Impersonate-User",
    "x-custom, impersonate_group",
    "Authorization, close",
    "X-Remote-User",
    "Accept, Cookie",
    "chunked",
    "gzip, chunked",
    "0",
    "3",
    "+3",
    "100-continue",
    "Bearer caller",
    "Basic YTpi",
    "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YS5i",
    "v4.channel.k8s.io",
    "a\r\n Impersonate-User: root",
];

/// A name in some other spelling.
fn spell(name: &str, rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => name.to_lowercase(),
        1 => name.to_uppercase(),
        2 => name.replace('-', "_"),
        3 => name.replacen('-', "-_", 1),
        4 if rng.below(6) == 0 => format!("{name} "),
        5 if rng.below(6) == 0 => format!(" {name}"),
        _ => name.to_owned(),
    }
}

/// A name that nobody has thought of, out of the parts that names of identity have.
fn made_up(rng: &mut Rng) -> String {
    const PARTS: [&str; 22] = [
        "impersonate",
        "Impersonate",
        "x",
        "X",
        "remote",
        "user",
        "group",
        "uid",
        "extra",
        "a%2fb",
        "authorization",
        "forwarded",
        "for",
        "real",
        "ip",
        "audit",
        "id",
        "sec",
        "websocket",
        "protocol",
        "proxy",
        "te",
    ];
    let mut name = String::new();
    for _ in 0..=rng.below(4) {
        if !name.is_empty() {
            name.push_str(rng.pick(&["-", "_", "--", "-_", ".", "", "~"]));
        }
        name.push_str(rng.pick(&PARTS));
    }
    name
}

/// Any bytes, most of them legal.
fn any_value(rng: &mut Rng) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..rng.below(12) {
        let byte = u8::try_from(rng.below(256)).unwrap();
        value.push(if rng.below(40) == 0 || 0x20 <= byte && byte != 0x7f { byte } else { b'-' });
    }
    let hidden = [
        "",
        "",
        "\u{a0}base64url.bearer.authorization.k8s.io.YQ",
        "\u{85}Impersonate-User",
        ", base64url.bearer.authorization.k8s.io.YQ",
        ",\u{3000}authorization",
    ];
    value.extend_from_slice(rng.pick(&hidden).as_bytes());
    value
}

fn request(rng: &mut Rng) -> Vec<u8> {
    let method = rng.pick(&METHODS);
    let target = if rng.below(4) == 0 { rng.pick(&TARGETS) } else { rng.pick(&TARGETS[..6]) };
    let version = if rng.below(16) == 0 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut text = format!("{method} {target} {version}\r\nHost: edge.test\r\n").into_bytes();
    if rng.below(20) != 0 {
        text.extend_from_slice(b"Authorization: Bearer caller\r\n");
    }
    // Most names are harmless, so that most requests go on.
    let harmless = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 29, 30, 31, 32, 33, 34, 35, 36, 37, 39];
    for _ in 0..rng.below(7) {
        let name = if rng.below(6) == 0 {
            rng.pick(&NAMES)
        } else {
            let at = rng.below(harmless.len());
            NAMES[harmless[at]]
        };
        let name = if rng.below(3) == 0 { made_up(rng) } else { spell(name, rng) };
        let value = match rng.below(3) {
            0 => any_value(rng),
            _ => rng.pick(&VALUES).as_bytes().to_vec(),
        };
        let end = if rng.below(60) == 0 { "\n" } else { "\r\n" };
        text.extend([name.as_bytes(), b": ", &value, end.as_bytes()].concat());
    }
    text.extend_from_slice(b"\r\n");
    if rng.below(3) == 0 {
        text.extend_from_slice(b"Impersonate-User: root\r\n\r\n");
    }
    text
}

fn principal() -> Principal {
    Principal {
        user: "ana@contoso.example".to_owned(),
        groups: vec!["dev".to_owned(), "a, b".to_owned()],
        group_state: GroupState::Complete,
        extra: vec![("oid".to_owned(), "o-1".to_owned())],
        issuer: "https://issuer.test".to_owned(),
        subject: "s".to_owned(),
        display: "Ana".to_owned(),
        credential_id: "c".to_owned(),
        expires: 0,
        is_app: false,
    }
}

/// The way of a request through grammar and policy, and what is put on then.
fn pass(text: &[u8], road: Road, headers: HeaderPolicy) -> Option<(RequestHead, String)> {
    let (head, _) = RequestHead::read(text, &mut Scan::default()).ok()??;
    policy::admit(&head).ok()?;
    let callers = policy::credential(&head.fields, true).ok()?;
    let is_passed = road == Road::Passthrough;
    if policy::impersonates(&head.fields) && !is_passed {
        return None;
    }
    let principal = principal();
    let mut fields = impersonate::fields(&principal, None).expect("sendable");
    if is_passed {
        fields.clear();
    }
    let own = Secret::new(OWN.to_owned());
    let identity = Identity {
        road,
        fields: &fields,
        bearer: match road {
            Road::Bearer => Some(&own),
            Road::Passthrough => Some(&callers),
            Road::Certificate => None,
        },
        host: "apiserver.test",
        audit_id: "the-audit-id",
        policy: headers,
    };
    let shown = || text.escape_ascii().to_string();
    let outgoing = identity.put_on(&head).unwrap_or_else(|why| panic!("{why}: {}", shown()));
    let mut bytes = Vec::new();
    outgoing.write(&mut bytes).unwrap_or_else(|why| panic!("{why}: {}", shown()));
    Some((head, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads the head as a careless server would, and holds it against what it must be.
fn check(head: &RequestHead, sent: &str, road: Road) {
    let sent_head = sent.strip_suffix("\r\n\r\n").expect("one head");
    assert!(
        !sent_head.contains("\r\n\r\n") && !sent_head.replace("\r\n", "").contains(['\r', '\n'])
    );
    let mut lines = sent_head.split("\r\n");
    let line = lines.next().expect("a request line");
    assert_eq!(line, format!("{} {} HTTP/1.1", head.method(), head.target()));
    let fields: Vec<(String, &str)> = lines
        .map(|line| line.split_once(':').expect("a field"))
        .map(|(name, value)| (name.to_lowercase().replace('_', "-"), value.trim()))
        .collect();
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(one, _)| one == name).map(|(_, value)| *value).collect()
    };
    let own = format!("Bearer {OWN}");
    let credential = if road == Road::Bearer { vec![own.as_str()] } else { Vec::new() };
    assert_eq!(all("authorization"), credential);
    assert_eq!(all("impersonate-user"), ["ana@contoso.example"]);
    assert_eq!(all("impersonate-group"), ["system:authenticated", "dev", "a, b"]);
    assert_eq!(all("host"), ["apiserver.test"]);
    assert_eq!(all("audit-id"), ["the-audit-id"]);
    let count = |start: &str| fields.iter().filter(|(name, _)| name.starts_with(start)).count();
    assert_eq!(count("impersonate"), 6, "user, groups, oid, credential id");
    assert_eq!(count("authorization"), credential.len());
    for gone in ["x-remote-", "x-forwarded-", "x-real-ip", "forwarded", "proxy-", "expect", "te"] {
        let found = fields.iter().any(|(name, _)| match gone {
            "te" | "expect" | "forwarded" => name == gone,
            _ => name.starts_with(gone),
        });
        assert!(!found, "{gone}");
    }
    let framing = all("content-length").len() + all("transfer-encoding").len();
    assert!(framing <= 1);
    assert!(all("connection").iter().all(|value| *value == "Upgrade"));
    assert_eq!(all("connection").len(), all("upgrade").len());
    assert!(all("sec-websocket-protocol").iter().all(|it| !it.contains("base64url.bearer")));
}

#[test]
fn no_request_can_change_who_its_caller_is() {
    let (mut passed, mut refused) = (0, 0);
    let mut rng = Rng(7);
    for case in 0..CASES {
        let text = request(&mut rng);
        let road = if case % 4 == 0 { Road::Certificate } else { Road::Bearer };
        let headers = if case % 3 == 0 { HeaderPolicy::AllowList } else { HeaderPolicy::DenyList };
        match pass(&text, road, headers) {
            Some((head, sent)) => {
                let checked = std::panic::catch_unwind(|| check(&head, &sent, road));
                let text = text.escape_ascii();
                assert!(checked.is_ok(), "case {case}: {text} became {sent:?}");
                passed += 1;
            }
            None => refused += 1,
        }
    }
    assert!(passed > 6_000 && refused > 8_000, "{passed} passed, {refused} refused");
}

/// What goes on with the caller's own token has nothing of ours, and nothing of the caller's that
/// speaks of identity in another way than by that token and `Impersonate-`.
#[test]
fn a_callers_own_token_goes_on_alone() {
    let mut rng = Rng(13);
    let (mut passed, mut impersonating) = (0, 0);
    for case in 0..CASES / 2 {
        let text = request(&mut rng);
        let Some((head, sent)) = pass(&text, Road::Passthrough, HeaderPolicy::DenyList) else {
            continue;
        };
        passed += 1;
        assert!(!sent.contains(OWN) && !sent.contains("cluster-connect.internal"), "case {case}");
        let names: Vec<String> = sent
            .split("\r\n")
            .skip(1)
            .filter_map(|line| Some(line.split_once(':')?.0.to_lowercase().replace('_', "-")))
            .collect();
        let count = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
        let exact = |start: &str| {
            let is = |name: &str| name.to_lowercase().starts_with(start);
            head.fields.iter().filter(|field| is(field.name)).count()
        };
        assert_eq!((count("authorization"), count("x-remote-")), (1, 0), "case {case}: {sent}");
        assert_eq!(count("impersonate"), exact("impersonate-"), "case {case}: {sent}");
        impersonating += usize::from(0 < count("impersonate"));
    }
    assert!(passed > 3_000 && impersonating > 100, "{passed} {impersonating}");
}
