//! Every rule of the handshake by its broken case.

use super::*;

const SAMPLE: &str = "GET /$hc/hc1?sb-hc-action=listen HTTP/1.1\r\nHost: relay.example\r\n\
    0: Sec-WebSocket-Extensions: permessage-deflate\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Name: M\u{fc}ller\r\n\
    Sec-WebSocket-Protocol: a, b\r\nsec-websocket-protocol: c\r\n\r\n";

fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, Malformed> {
    Request::parse(bytes, &mut Scan::default())
}

fn sample() -> Vec<u8> {
    SAMPLE.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn parse(head: &str) -> Result<Option<Upgrade>, Malformed> {
    read(head.as_bytes())?.unwrap().0.upgrade()
}

#[test]
fn an_upgrade_is_read_at_every_cut() {
    let bytes = sample();
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    let (request, len) = read(&bytes).unwrap().unwrap();
    assert_eq!((len, request.fields.get("x-name")), (bytes.len(), Some("Müller")));
    assert_eq!(request.upgrade().unwrap().unwrap().protocols, ["a", "b", "c"]);
}

#[test]
fn the_answer_has_the_spelling_that_clients_compare() {
    let upgrade = parse(SAMPLE.replace('\u{fc}', "u").as_str()).unwrap().unwrap();
    let answer = String::from_utf8(upgrade.answer(Some("b"))).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\n\r\n"
    );
}

#[test]
fn upgrades_that_break_the_rules_are_refused() {
    let good = SAMPLE.replace('\u{fc}', "u");
    for (from, to) in [
        ("GET", "POST"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("keep-alive, Upgrade", "keep-alive"),
        ("Version: 13", "Version: 8"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="),
        ("Sec-WebSocket-Key", "X-Key"),
    ] {
        assert!(parse(&good.replacen(from, to, 1)).is_err(), "{from}");
    }
    assert_eq!(parse(&good.replacen("Upgrade: WebSocket", "X: y", 1)), Ok(None));
}

#[test]
fn bytes_that_no_uri_may_have_are_escaped_and_others_are_not() {
    let head = b"GET /a%c3?f[x]={\"b\"}|100%&c=%41%4 HTTP/1.1\r\nHost: n\r\n\r\nrest";
    let (request, len) = read(head).unwrap().unwrap();
    assert_eq!(request.target, "/a%c3?f%5Bx%5D=%7B%22b%22%7D%7C100%25&c=%41%254");
    assert_eq!(&head[len..], b"rest");
}

#[test]
fn heads_that_are_none_are_refused() {
    let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD_LIMIT));
    assert_eq!(read(long.as_bytes()), Err(Malformed::TooLarge));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
    assert_eq!(read(many.as_bytes()), Err(Malformed::TooLarge));
    let tls = read(b"\x16\x03\x01\x02\x00\r\n\r\n");
    assert_eq!(tls, Err(Malformed::Request(h1::Malformed::RequestLine)));
    let target = read("GET /\u{e9} HTTP/1.1\r\n\r\n".as_bytes());
    assert_eq!(target, Err(Malformed::Request(h1::Malformed::Target)));
}

fn dial() -> (Secret<Vec<u8>>, Handshake) {
    let token = Secret::new("SharedAccessSignature sr=x\r\nX: y".to_owned());
    Dial {
        host: "relay.example",
        target: "/$hc/hc1?sb-hc-action=listen",
        nonce: *b"the sample nonce",
        protocol: None,
        token: Some(&token),
    }
    .start()
}

#[test]
fn a_dial_is_answered_by_our_own_server() {
    let (head, mut handshake) = dial();
    let (request, _) = read(head.expose()).unwrap().unwrap();
    assert_eq!(
        request.fields.get("ServiceBusAuthorization"),
        Some("SharedAccessSignature sr=xX: y"),
        "no line can be smuggled in"
    );
    let answer = request.upgrade().unwrap().unwrap().answer(None);
    let (first, second) = answer.split_at(20);
    assert_eq!(handshake.handle(first), Ok(None));
    assert_eq!(handshake.handle(&[second, b"\x82\x00"].concat()), Ok(Some(second.len())));
}

#[test]
fn a_refusal_keeps_its_reason() {
    let text = "Endpoint does not exist. TrackingId:1_G0";
    let answer = refusal(404, text, "Connection: close\r\n", "{}");
    let Err(Refused::Status(answer)) = dial().1.handle(&answer) else { panic!("refused") };
    assert_eq!((answer.status, answer.reason.as_str()), (404, text));
}

#[test]
fn an_answer_to_another_handshake_is_refused() {
    for answer in [
        "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        "HTTP/1.1 101 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        assert_eq!(dial().1.handle(answer.as_bytes()), Err(Refused::Malformed), "{answer}");
    }
}
