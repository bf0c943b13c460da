//! Calls of the relay's own API, and HTTP requests to entities.

use crate::net::Fate;
use crate::{auth, relay};

#[test]
fn the_relays_own_api_gets_requests_whole_and_keeps_the_connection() {
    let (mut stage, table) = relay();
    let conn = stage.accept();
    stage.data(conn, b"POST /status HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\nhel");
    assert!(table.0.borrow().calls.is_empty());
    stage.data(conn, b"loGET /subscriptions/x?y HTTP/1.1\r\nHost: n\r\n\r\n");
    assert!(stage.take_text(conn).ends_with("Content-Length: 5\r\n\r\nhello"));
    assert_eq!(table.0.borrow().calls[1].1.target, "/subscriptions/x?y");
    assert_eq!(stage.fate(conn), None);

    let conn = stage.request(b"GET /status HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
    assert_eq!(stage.status(conn).0, 200);
    assert_eq!(stage.fate(conn), Some(Fate::Closed));
}

#[test]
fn calls_with_bodies_that_cannot_be_are_refused() {
    for (fields, status) in [
        ("Content-Length: 65537", 413),
        ("Content-Length: 99999999999999999999", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 5, 6", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Transfer-Encoding: gzip", 400),
    ] {
        let (mut stage, _) = relay();
        let head = format!("POST /status HTTP/1.1\r\nHost: n\r\n{fields}\r\n\r\n");
        let conn = stage.request(head.as_bytes());
        assert_eq!(stage.status(conn).0, status, "{fields}");
    }
}

#[test]
fn a_long_answer_waits_for_its_reader() {
    let (mut stage, _) = relay();
    let conn = stage.accept();
    stage.net.full.insert(conn);
    stage.data(conn, b"GET /status?long HTTP/1.1\r\nHost: n\r\n\r\n");
    assert_eq!(stage.take(conn), b"");
    stage.net.full.clear();
    stage.drained(conn, 1);
    assert!(stage.take(conn).ends_with(&[b'x'; 300_000]));
}

#[test]
fn errors_for_http_senders_are_json_and_have_no_via() {
    let (mut stage, _) = relay();
    for (target, fields, status, code) in [
        ("/ent", String::new(), 401, "TokenMissingOrInvalid"),
        ("/none", auth("", "Send"), 404, "EndpointNotFound"),
        ("/ent/x?a", auth("ent", "Send"), 501, "NotImplemented"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: relay.example\r\n{fields}\r\n");
        let conn = stage.request(head.as_bytes());
        let (got, answer) = stage.status(conn);
        assert_eq!(got, status, "{answer}");
        assert!(answer.contains("Content-Type: application/json\r\n"), "{answer}");
        assert!(
            answer.contains(&format!(r#"{{"error":{{"code":"{code}","message":""#)),
            "{answer}"
        );
        assert!(!answer.contains("Via"), "{answer}");
    }
}
