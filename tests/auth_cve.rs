//! Holes that other proxies and servers have had, one by one, with the bytes that opened them.

mod gate;
#[path = "gate/holes.rs"]
mod holes;
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

/// A request with a good token in place of `@T@`, and what must become of it.
type Hole = (String, Must);

/// A GET with these fields and a good token.
fn fields(fields: &str, must: Must) -> Hole {
    let head = "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\n";
    raw(&format!("{head}{fields}\r\n"), must)
}

/// A whole request.
fn raw(text: &str, must: Must) -> Hole {
    (text.replace("@T@", &good()), must)
}

fn good() -> String {
    tokens::token("alice", "cluster", EPOCH, 3600)
}

fn check(holes: &[Hole]) {
    for (text, must) in holes {
        let mut gate = Gate::new(|_| ());
        let stream = gate.ask(text);
        match must {
            Refuse(status) => {
                let answer = gate.heard(stream);
                assert_eq!(answer.get(9..12), Some(*status), "{text:?}");
                assert!(gate.net.dialled.is_empty(), "{text:?}");
            }
            DropFrom(gone) => {
                let (_, _, head) = gate.upstream();
                assert!(head.contains("Impersonate-User: alice\r\n"), "{head}");
                let head = head.to_lowercase();
                assert!(gone.iter().all(|word| !head.contains(word)), "{head}");
            }
        }
    }
}

#[test]
fn cve_2021_31999_rancher() {
    check(&[
        fields("Connection: Impersonate-User\r\n", Refuse("400")),
        fields("Connection: close, Impersonate-Group\r\n", Refuse("400")),
    ]);
}

#[test]
fn cve_2022_23652_capsule_proxy() {
    check(&[fields("Connection: Authorization\r\n", Refuse("400"))]);
}

#[test]
fn cve_2024_45410_traefik() {
    check(&[fields("Connection: X-Forwarded-For\r\n", Refuse("400"))]);
}

#[test]
fn cve_2026_29054_traefik() {
    check(&[fields("connection: iMPERSONATE-uSER\r\n", Refuse("400"))]);
}

#[test]
fn cve_2021_33197_go() {
    check(&[fields("Connection: \r\nConnection: Impersonate-User\r\n", Refuse("400"))]);
}

#[test]
fn cve_2021_36776_rancher() {
    check(&[fields("Impersonate-User: root\r\n", Refuse("403"))]);
}

#[test]
fn cve_2025_64484_oauth2_proxy() {
    check(&[
        fields("Impersonate_User: root\r\n", Refuse("403")),
        fields("X_Remote_User: root\r\nX-Remote_Group: g\r\n", DropFrom(&["root", "remote"])),
    ]);
}

#[test]
fn cve_2026_54763_traefik() {
    check(&[fields("Impersonate-_User: root\r\n", Refuse("403"))]);
}

#[test]
fn cve_2026_40575_oauth2_proxy() {
    check(&[fields("X-Forwarded-Uri: /healthz\r\n", DropFrom(&["forwarded"]))]);
}

#[test]
fn cve_2022_32148_go() {
    check(&[fields(
        "X-Forwarded-For: 10.0.0.1\r\nX-Real-Ip: 10.0.0.1\r\n",
        DropFrom(&["10.0.0.1"]),
    )]);
}

#[test]
fn cve_2023_48312_capsule_proxy() {
    check(&[
        raw("GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \r\n\r\n", Refuse("401")),
        raw("GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n\r\n", Refuse("401")),
    ]);
}

#[test]
fn cve_2026_34457_oauth2_proxy() {
    check(&[raw(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.33\r\n\r\n",
        Refuse("401"),
    )]);
}

#[test]
fn cve_2025_54576_oauth2_proxy() {
    check(&[raw("GET /api/v1/secrets?x=/healthz HTTP/1.1\r\nHost: x\r\n\r\n", Refuse("401"))]);
}

#[test]
fn cve_2019_9901_envoy() {
    check(&[raw("GET /healthz/../api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n", Refuse("401"))]);
}

#[test]
fn cve_2019_16276_go() {
    check(&[fields("Transfer-Encoding : chunked\r\n", Refuse("400"))]);
}

#[test]
fn cve_2019_9900_envoy() {
    check(&[fields("X-Custom: a\0b\r\n", Refuse("400"))]);
}

#[test]
fn cve_2019_18802_envoy() {
    check(&[fields("X-Custom: a\r\n Impersonate-User: root\r\n", Refuse("400"))]);
}

#[test]
fn cve_2025_22871_go() {
    check(&[fields("X-Custom: a\nImpersonate-User: root\r\n", Refuse("400"))]);
}

#[test]
fn cve_2023_29406_go() {
    check(&[raw(
        "GET /api HTTP/1.1\r\nHost: x\0y\r\nAuthorization: Bearer @T@\r\n\r\n",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2026_39825_go() {
    check(&[raw(
        "GET http://other.test/api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\n\r\n",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2026_2835_pingora() {
    check(&[raw(
        "POST /api HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer @T@\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2020_35863_hyper() {
    check(&[raw(
        "GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nContent-Length: 5\r\n\r\nGET /",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2021_21299_hyper() {
    check(&[raw(
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2021_32715_hyper() {
    check(&[raw(
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nContent-Length: +3\r\n\r\nabc",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2022_1705_go() {
    check(&[raw(
        "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer @T@\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refuse("400"),
    )]);
}

#[test]
fn cve_2024_24791_go() {
    check(&[fields("Expect: 100-continue\r\n", DropFrom(&["expect"]))]);
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

#[test]
fn cve_2020_25017_envoy_the_first_of_two_fields_is_not_the_only_one() {
    check(&[
        fields("X-Custom: a\r\nX-Remote-User: a\r\nX-Remote-User: b\r\n", DropFrom(&["remote"])),
        fields("Connection: close\r\nConnection: Impersonate-Group\r\n", Refuse("400")),
        fields("Authorization: Bearer other\r\n", Refuse("400")),
        fields("Accept: a\r\nImpersonate-User: x\r\nImpersonate-User: y\r\n", Refuse("403")),
    ]);
}

#[test]
fn cve_2021_25320_rancher_no_field_of_a_caller_chooses_where_a_request_goes() {
    for fields in [
        "X-Forwarded-Host: evil.test\r\nForwarded: host=evil.test\r\n",
        "X-Api-Host: evil.test\r\nX-Original-Url: http://evil.test/\r\n",
    ] {
        let mut gate = Gate::new(|_| ());
        gate.ask(&format!(
            "GET /meta/proxy/http:/evil.test HTTP/1.1\r\nHost: evil.test\r\n\
             Authorization: Bearer {}\r\n{fields}\r\n",
            good()
        ));
        let (_, place, head) = gate.upstream();
        assert_eq!(place, "ours");
        assert!(head.contains("\r\nHost: apiserver.test\r\n"), "{head}");
        assert!(!head.contains("\r\nHost: evil.test"), "{head}");
    }
}

#[test]
fn cve_2026_42507_go_and_cve_2023_27493_envoy_what_a_caller_wrote_ends_no_line_of_the_log() {
    let mut gate = Gate::new(|_| ());
    gate.ask(&format!(
        "GET /api?x=%0a%1b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         User-Agent: a\"}}\u{9b}31m\u{2028}\r\n\r\n",
        good()
    ));
    gate.ask("GET /api?%0aERROR HTTP/1.1\r\nHost: x\r\nUser-Agent: \\n\"\r\n\r\n");
    assert!(2 <= gate.net.audit.len());
    for line in &gate.net.audit {
        assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line}");
        serde_json::from_str::<serde_json::Value>(line).expect("one object for each line");
    }
}

#[test]
fn cve_2026_71326_traefik_a_verdict_is_remembered_for_exactly_what_was_asked() {
    let ask = |user: &str, fields: &str| {
        let token = tokens::token(user, "cluster", EPOCH, 3600);
        format!("GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
    };
    let mut gate = Gate::new(|config| config.impersonation = true);
    gate.ask(&ask("alice", "Impersonate-User: bob\r\n"));
    let yes = serde_json::json!({"kind": "SubjectAccessReview", "status": {"allowed": true}});
    gate.answer(Ok((201, yes.to_string())));
    gate.upstream();
    // Whatever would read the same if the parts were only put behind one another.
    for (user, fields) in [
        ("alic", "Impersonate-User: ebob\r\n"),
        ("aliceb", "Impersonate-User: ob\r\n"),
        ("alice", "Impersonate-User: Bob\r\n"),
        ("alice", "Impersonate-User: bob\r\nImpersonate-Group: g\r\n"),
    ] {
        gate.ask(&ask(user, fields));
        assert!(gate.net.dialled.is_empty(), "{user} {fields}");
        assert!(!gate.net.jobs.is_empty(), "{user} {fields}");
        gate.net.jobs.clear();
    }
}
