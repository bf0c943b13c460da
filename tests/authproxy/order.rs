//! Of several things that are wrong with a request, which one it is refused for: the order of the
//! checks, from the framing to the name.

use serde_json::json;

use crate::door::{Door, claims, is_whole};
use crate::requests::answer;
use crate::support::mint::{now, with};

#[test]
fn a_request_is_refused_for_the_first_thing_that_is_wrong() {
    let door = Door::open(answer, &[]);
    let signed = |more| door.keys.rs256(&with(claims("ana"), more));
    let forge = |token: String| {
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        format!("{signed}.{first}{}", &signature[1..])
    };
    let bearer = |token: String| format!("Authorization: Bearer {token}\r\n");
    let good = bearer(signed(json!({})));
    let past = json!({"exp": now() - 3600});
    let forged = bearer(forge(signed(json!({}))));
    let unknown = bearer(signed(json!({"iss": "https://other.example"})));
    let expired = bearer(signed(past.clone()));
    let forged_expired = bearer(forge(signed(past.clone())));
    let act = "Impersonate-User: root\r\n";
    let named = "Connection: Impersonate-User\r\n";
    let off = "impersonation through this proxy is off";
    for (what, method, fields, status, words) in [
        ("framing, then everything", "GET", format!("{act}Content-Length: 1, 1\r\n"), 400, ""),
        ("method, then credential", "PROPFIND", act.to_owned(), 405, ""),
        ("protected field, then credential", "GET", format!("{named}{act}"), 400, ""),
        ("protected field, then impersonation", "GET", format!("{named}{act}{good}"), 400, ""),
        ("two credentials, then impersonation", "GET", format!("{act}{good}{good}"), 400, ""),
        ("credential, then impersonation", "GET", act.to_owned(), 401, ""),
        ("form, then impersonation", "GET", format!("{act}{}", bearer("a.b.c".into())), 401, ""),
        ("issuer, then impersonation", "GET", format!("{act}{unknown}"), 401, "Unauthorized"),
        ("impersonation, then signature", "GET", format!("{act}{forged}"), 403, off),
        ("impersonation, then time", "GET", format!("{act}{expired}"), 403, off),
        ("signature, then time", "GET", forged_expired, 401, "Unauthorized"),
        (
            "time, then audience",
            "GET",
            bearer(signed(with(past, json!({"aud": "another"})))),
            401,
            "the token has expired",
        ),
        (
            "audience, then name",
            "GET",
            bearer(signed(json!({"aud": "another", "sub": "system:admin"}))),
            401,
            "Unauthorized",
        ),
        ("name", "GET", bearer(signed(json!({"sub": "system:admin"}))), 403, "reserved"),
    ] {
        let bytes = format!("{method} /api/v1/pods HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let down = door.exchange(bytes.as_bytes(), is_whole);
        let text = String::from_utf8_lossy(&down);
        let refused = text.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(refused && text.contains(words), "{what}: {text}");
    }
    assert!(door.went_up().is_empty());
    let down = door.exchange(
        format!("GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n{good}\r\n").as_bytes(),
        is_whole,
    );
    assert!(down.starts_with(b"HTTP/1.1 200 "), "nothing is wrong");
}
