//! Holes that other proxies and servers have had, one by one, with the bytes that opened them.

mod gate;
mod sim;
mod support;
#[path = "chain/tokens.rs"]
mod tokens;

use gate::Gate;
use sim::EPOCH;

/// What must become of a request.
enum Must {
    /// It is answered with this status, and nothing goes upstream.
    Refuse(&'static str),
    /// It goes on without any of these, in any case.
    DropFrom(&'static [&'static str]),
}
use Must::{DropFrom, Refuse};

/// A GET with these fields and a good token.
const fn fields(id: &'static str, fields: &'static str, must: Must) -> (&'static str, Case, Must) {
    (id, Case::Fields(fields), must)
}

enum Case {
    /// Fields of a GET that has a good token.
    Fields(&'static str),
    /// A whole request; `@T@` is a good token.
    Raw(&'static str),
}

const fn raw(id: &'static str, text: &'static str, must: Must) -> (&'static str, Case, Must) {
    (id, Case::Raw(text), must)
}

const CASES: &[(&str, Case, Must)] = &[
    // Hop-by-hop fields that name ours.
    fields("CVE-2021-31999 rancher", "Connection: Impersonate-User\r\n", Refuse("400")),
    fields("CVE-2021-31999 rancher", "Connection: close, Impersonate-Group\r\n", Refuse("400")),
    fields("CVE-2022-23652 capsule-proxy", "Connection: Authorization\r\n", Refuse("400")),
    fields("CVE-2024-45410 traefik", "Connection: X-Forwarded-For\r\n", Refuse("400")),
    fields("CVE-2026-29054 traefik", "connection: iMPERSONATE-uSER\r\n", Refuse("400")),
    fields("CVE-2021-33197 go", "Connection: \r\nConnection: Impersonate-User\r\n", Refuse("400")),
    // Identities by other spellings.
    fields("CVE-2021-36776 rancher", "Impersonate-User: root\r\n", Refuse("403")),
    fields("CVE-2025-64484 oauth2-proxy", "Impersonate_User: root\r\n", Refuse("403")),
    fields("CVE-2026-54763 traefik", "Impersonate-_User: root\r\n", Refuse("403")),
    fields(
        "CVE-2025-64484 oauth2-proxy",
        "X_Remote_User: root\r\nX-Remote_Group: g\r\n",
        DropFrom(&["root", "remote"]),
    ),
    fields(
        "CVE-2026-40575 oauth2-proxy",
        "X-Forwarded-Uri: /healthz\r\n",
        DropFrom(&["forwarded"]),
    ),
    fields(
        "CVE-2022-32148 go",
        "X-Forwarded-For: 10.0.0.1\r\nX-Real-Ip: 10.0.0.1\r\n",
        DropFrom(&["10.0.0.1"]),
    ),
    // Credentials.
    raw(
        "CVE-2023-48312 capsule-proxy",
        "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \r\n\r\n",
        Refuse("401"),
    ),
    raw(
        "CVE-2023-48312 capsule-proxy",
        "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n\r\n",
        Refuse("401"),
    ),
    raw(
        "CVE-2026-34457 oauth2-proxy",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.33\r\n\r\n",
        Refuse("401"),
    ),
    raw(
        "CVE-2025-54576 oauth2-proxy",
        "GET /api/v1/secrets?x=/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        Refuse("401"),
    ),
    raw(
        "CVE-2019-9901 envoy",
        "GET /healthz/../api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n",
        Refuse("401"),
    ),
    // Grammar.
    fields("CVE-2019-16276 go", "Transfer-Encoding : chunked\r\n", Refuse("400")),
    fields("CVE-2019-9900 envoy", "X-Custom: a\0b\r\n", Refuse("400")),
    fields("CVE-2019-18802 envoy", "X-Custom: a\r\n Impersonate-User: root\r\n", Refuse("400")),
    fields("CVE-2025-22871 go", "X-Custom: a\nImpersonate-User: root\r\n", Refuse("400")),
    raw(
        "CVE-2023-29406 go",
        "GET /api HTTP/1.1\r\nHost: x\0y\r\nAuthorization: Bearer @T@\r\n\r\n",
        Refuse("400"),
    ),
    raw(
        "CVE-2026-39825 go",
        "GET http://other.test/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\n\r\n",
        Refuse("400"),
    ),
    // Framing.
    raw(
        "CVE-2026-2835 pingora",
        "POST /api HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer @T@\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refuse("400"),
    ),
    raw(
        "CVE-2020-35863 hyper",
        "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nContent-Length: 5\r\n\r\nGET /",
        Refuse("400"),
    ),
    raw(
        "CVE-2021-21299 hyper",
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        Refuse("400"),
    ),
    raw(
        "CVE-2021-32715 hyper",
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nContent-Length: +3\r\n\r\nabc",
        Refuse("400"),
    ),
    raw(
        "CVE-2022-1705 go",
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refuse("400"),
    ),
    fields("CVE-2024-24791 go", "Expect: 100-continue\r\n", DropFrom(&["expect"])),
];

fn good() -> String {
    tokens::token("alice", "cluster", EPOCH, 3600)
}

#[test]
fn known_holes_are_closed() {
    for (id, case, must) in CASES {
        let text = match case {
            Case::Raw(text) => text.replace("@T@", &good()),
            Case::Fields(fields) => format!(
                "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{fields}\r\n",
                good()
            ),
        };
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(&text);
        match must {
            Refuse(status) => {
                let answer = gate.heard(stream);
                assert_eq!(answer.get(9..12), Some(*status), "{id}: {text:?}");
                assert!(gate.net.dialled.is_empty(), "{id}: {text:?}");
            }
            DropFrom(gone) => {
                let (_, _, head) = gate.upstream();
                assert!(head.contains("Impersonate-User: alice\r\n"), "{id}: {head}");
                let head = head.to_lowercase();
                assert!(gone.iter().all(|word| !head.contains(word)), "{id}: {head}");
            }
        }
    }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SMUGGLED: &str = "GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\nImpersonate-User: root\r\n\r\n";

fn upgrade() -> String {
    let target = "/api/v1/namespaces/a/pods/b/exec";
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{UPGRADE}", good())
}

#[test]
fn cve_2026_2833_bytes_behind_an_upgrade_wait_for_the_101() {
    let mut gate = Gate::new(|_| ());
    gate.ask(&(upgrade() + SMUGGLED));
    let (conn, _, head) = gate.upstream();
    assert!(!head.contains("secrets") && !head.contains("root"), "{head}");
    gate.reply(
        conn,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(gate.net.sent.remove(&conn).as_deref(), Some(SMUGGLED.as_bytes()));
}

#[test]
fn cve_2018_1002105_a_refused_upgrade_is_no_way_to_a_second_request() {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&(upgrade() + SMUGGLED));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(gate.heard(stream).get(9..12), Some("403"));
    gate.say(stream, SMUGGLED);
    assert!(gate.net.sent.get(&conn).is_none_or(Vec::is_empty));
    assert!(gate.net.ended.contains(&conn) && gate.net.dialled.is_empty());
}

#[test]
fn cve_2020_8559_an_upgrade_is_not_redirected() {
    for answer in ["302 Found\r\nLocation: https://evil.test/", "200 OK"] {
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(&upgrade());
        let (conn, _, _) = gate.upstream();
        gate.reply(conn, &format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n"));
        let heard = gate.heard(stream);
        assert_eq!(heard.get(9..12), Some("502"), "{heard}");
        assert!(!heard.contains("evil") && gate.net.ended.contains(&conn));
    }
}

/// The head of a chunked POST has gone upstream when its body turns out to be no body.
fn broken_body(id: &str, body: &str) {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&format!(
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        good()
    ));
    let (conn, _, _) = gate.upstream();
    gate.say(stream, body);
    let sent = gate.net.sent.remove(&conn).unwrap_or_default();
    let sent = String::from_utf8_lossy(&sent).into_owned();
    assert!(!sent.contains("secrets") && !sent.contains("0\r\n\r\n"), "{id}: {sent}");
    assert!(gate.net.ended.contains(&conn), "{id}: the upstream connection is dropped");
}

#[test]
fn chunks_that_others_have_read_otherwise_end_both_connections() {
    broken_body("CVE-2021-32714 hyper", "fffffffffffffffff\r\nGET /api/v1/secrets");
    broken_body("CVE-2025-22871 go", "2\nab\r\n0\r\n\r\nGET /api/v1/secrets");
    broken_body("CVE-2025-22871 go", "0\n\r\nGET /api/v1/secrets");
    let long = format!("2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(300));
    broken_body("CVE-2023-39326 go", &long);
}

#[test]
fn cve_2025_4366_a_body_that_nobody_read_is_not_the_next_request() {
    let mut gate = Gate::new(|_| ());
    let stream = gate.ask(&format!(
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\n\r\n",
        good(),
        SMUGGLED.len()
    ));
    let (conn, _, _) = gate.upstream();
    gate.reply(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let heard = gate.heard(stream);
    assert!(heard.contains("Connection: close\r\n"), "{heard}");
    gate.say(stream, SMUGGLED);
    assert!(gate.net.dialled.is_empty());
    assert!(gate.net.sent.get(&conn).is_none_or(Vec::is_empty));
}

#[test]
fn cve_2022_2880_a_target_goes_on_byte_for_byte() {
    for target in ["/api?a=1;b=2&%zz", "/api?a=%41;", "/api//v1/%2e%2e/x;y"] {
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(&format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            good()
        ));
        if gate.net.dialled.is_empty() {
            assert_eq!(gate.heard(stream).get(9..12), Some("400"), "{target}");
            continue;
        }
        let (_, _, head) = gate.upstream();
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
    }
}
