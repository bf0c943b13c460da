//! Relayed HTTP: which way a request goes, and how a response comes back.

use cluster_connect::engine::ws::Side;
use cluster_connect::role::ConnId;
use cluster_connect::role::relay::Relay;
use cluster_connect::wire::control::{Command, Reply, Request, Response};
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::net::{Fate, Stage};
use crate::table::Table;
use crate::{auth, fragment, frames, masked, relay, upgrade};

/// A relay whose entities take HTTP requests, and a listener of `ent`.
pub(crate) fn serving() -> (Stage<Relay>, Table, ConnId) {
    let (mut stage, table) = relay();
    for entity in &mut table.0.borrow_mut().entities {
        entity.http = true;
    }
    let control = stage.listener("ent", "");
    (stage, table, control)
}

pub(crate) fn head(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: relay.example:443\r\n{fields}\r\n")
}

pub(crate) fn get() -> Vec<u8> {
    head("GET", "/ent/info?a=1", &auth("ent", "Send")).into_bytes()
}

pub(crate) fn post(fields: &str) -> Vec<u8> {
    head("POST", "/ent", &format!("{fields}{}", auth("ent", "Send"))).into_bytes()
}

pub(crate) fn chunked(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(format!("{:x}\r\n", part.len()).into_bytes());
        bytes.extend_from_slice(part);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

pub(crate) fn command(text: &[u8]) -> Command {
    Command::parse(std::str::from_utf8(text).unwrap()).unwrap()
}

pub(crate) fn request(text: &[u8]) -> Request {
    match command(text) {
        Command::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn response(id: &str, status: u16, headers: &[(&str, &str)], body: bool) -> Vec<u8> {
    let headers = headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    let description = "Fine".to_owned();
    let reply = Response { request_id: id.to_owned(), status, description, headers, body };
    masked(Opcode::Text, Reply::Response(reply).encode().as_bytes())
}

impl Stage<Relay> {
    /// The frames that `conn` has got, but for pings.
    pub(crate) fn got(&mut self, conn: ConnId) -> Vec<(Opcode, bool, Vec<u8>)> {
        let bytes = self.take(conn);
        frames(Side::Client, &bytes).into_iter().filter(|f| f.0 != Opcode::Ping).collect()
    }

    /// The one full request on the control channel, and its body.
    pub(crate) fn inline(&mut self, control: ConnId) -> (Request, Option<Vec<u8>>) {
        let got = self.got(control);
        let request = request(&got[0].2);
        let body: Vec<u8> = got[1..].iter().flat_map(|f| f.2.clone()).collect();
        let whole = got[1..].iter().enumerate().all(|(i, f)| {
            let opcode = if i == 0 { Opcode::Binary } else { Opcode::Continuation };
            f.0 == opcode && f.1 == (i + 2 == got.len()) && f.2.len() <= 32 * 1024
        });
        assert!(whole, "one binary message of small fragments");
        assert_eq!(request.body, got.len() > 1);
        (request, (got.len() > 1).then_some(body))
    }

    /// The address that the listener was pointed to.
    pub(crate) fn pointer(&mut self, control: ConnId) -> String {
        let got = self.got(control);
        assert_eq!(got.len(), 1);
        match command(&got[0].2) {
            Command::Pointer(address) => address,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn open(&mut self, address: &str) -> ConnId {
        let target = address.strip_prefix("wss://relay.example").unwrap();
        self.request(&upgrade(target, ""))
    }

    pub(crate) fn opened(&mut self, address: &str) -> ConnId {
        let conn = self.open(address);
        let answer = self.take(conn);
        let len = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        let rest = answer[len..].to_vec();
        self.net.out.insert(conn, rest);
        conn
    }
}

#[test]
fn a_request_without_a_body_is_one_command() {
    let (mut stage, _, control) = serving();
    let sender = stage.accept_from("203.0.113.9:1234");
    stage
        .data(sender, &head("GET", "/ENT/i%c3?a&sb-hc-x=1&b&&", &auth("ent", "Send")).into_bytes());
    let (request, body) = stage.inline(control);
    assert_eq!(body, None);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/ENT/i%c3?a&b&&"));
    assert_eq!((request.remote.address.as_str(), request.remote.port), ("203.0.113.9", 1234));
    let header = |name: &str| {
        let found = request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("Host"), Some("relay.example:443"));
    assert_eq!(header("Via"), Some("1.1 relay.example"));
    assert_eq!(header("ServiceBusAuthorization"), None);
    let address = format!(
        "wss://relay.example/$hc/ENT/i%c3?a&b&&&sb-hc-action=request&sb-hc-id={}",
        request.id
    );
    assert_eq!(request.address, address);
}

#[test]
fn an_inline_answer_has_a_length_and_a_via_and_the_connection_goes_on() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&[get(), get()].concat());
    for round in 0..2 {
        let (request, _) = stage.inline(control);
        let mut reply = response(&request.id, 200, &[("x-a", "1"), ("connection", "close")], true);
        reply.extend(masked(Opcode::Binary, b"hello"));
        stage.data(control, &reply);
        let answer = stage.take_text(sender);
        assert!(
            answer.starts_with("HTTP/1.1 200 Fine\r\nx-a: 1\r\nVia: 1.1 relay.example\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("Content-Length: 5\r\n\r\nhello"), "{round}: {answer}");
    }
    assert_eq!((stage.fate(sender), stage.role.leftovers()), (None, (2, 0)));
}

#[test]
fn bodies_up_to_sixty_four_kilobytes_are_inline() {
    for len in [1, 65_535, 65_536] {
        let (mut stage, _, control) = serving();
        let body = vec![7; len];
        let sender = stage.request(&post(&format!("Content-Length: {len}\r\n")));
        let (first, last) = body.split_at(len / 2);
        stage.data(sender, first);
        assert_eq!(stage.take(control), b"");
        stage.data(sender, last);
        let (request, got) = stage.inline(control);
        assert_eq!(got.unwrap(), body);
        assert!(!request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-length")));
    }
    let (mut stage, _, control) = serving();
    stage.request(&post("Content-Length: 0\r\n"));
    assert_eq!(stage.inline(control).1, None);
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Transfer-Encoding: chunked\r\n"));
    stage.data(sender, &chunked(&[b"ab", b"cde"]));
    assert_eq!(stage.inline(control).1.unwrap(), b"abcde");
}

#[test]
fn one_byte_more_is_fetched_in_either_framing() {
    let body = vec![7; 65_537];
    let parts: Vec<&[u8]> = body.chunks(9000).collect();
    let (whole, most) = body.split_at(65_536);
    let at_the_limit: Vec<&[u8]> = whole.chunks(9000).collect();
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Transfer-Encoding: chunked\r\n"));
    stage.data(sender, &chunked(&at_the_limit));
    assert_eq!((stage.inline(control).1.unwrap().len(), most.len()), (65_536, 1));
    for (fields, wire) in [
        ("Content-Length: 65537\r\n", body.clone()),
        ("Transfer-Encoding: chunked\r\n", chunked(&parts)),
    ] {
        let (mut stage, _, control) = serving();
        let sender = stage.request(&post(fields));
        stage.data(sender, &wire);
        let address = stage.pointer(control);
        let rendezvous = stage.opened(&address);
        let got = stage.got(rendezvous);
        assert!(request(&got[0].2).body);
        assert_eq!(got[1..].iter().map(|f| f.2.len()).sum::<usize>(), 65_537);
        assert!(got[1..].iter().all(|f| f.2.len() <= 32 * 1024));
    }
    // A chunked body that turns out to be empty is none.
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Transfer-Encoding: chunked\r\n"));
    stage.data(sender, b"0\r\n\r\n");
    assert_eq!(stage.inline(control).1, None);
}

#[test]
fn longer_bodies_are_fetched_and_streamed() {
    let body: Vec<u8> = (0..200_000u32).map(|i| u8::try_from(i % 239).unwrap()).collect();
    let plain = (post("Content-Length: 200000\r\n"), body.clone());
    let parts: Vec<&[u8]> = body.chunks(9000).collect();
    let in_chunks = (post("Transfer-Encoding: chunked\r\n"), chunked(&parts));
    for (head, wire) in [plain, in_chunks] {
        let (mut stage, _, control) = serving();
        let sender = stage.request(&head);
        let (early, late) = wire.split_at(100_000);
        stage.data(sender, early);
        let address = stage.pointer(control);
        assert!(stage.net.paused.contains(&sender));
        let rendezvous = stage.opened(&address);
        assert!(!stage.net.paused.contains(&sender));
        stage.data(sender, late);
        let got = stage.got(rendezvous);
        let request = request(&got[0].2);
        assert!(request.body && address.ends_with(&format!("sb-hc-id={}", request.id)));
        assert_eq!(request.address, address);
        let sent: Vec<u8> = got[1..].iter().flat_map(|f| f.2.clone()).collect();
        assert!(sent == body);
        assert!(got[1..].iter().all(|f| f.2.len() <= 32 * 1024));
        assert_eq!(got[1..].iter().filter(|f| f.1).count(), 1);
        assert!(got.last().unwrap().1);

        stage.data(rendezvous, &response(&request.id, 201, &[], false));
        assert!(stage.take_text(sender).starts_with("HTTP/1.1 201 Fine\r\n"));
        let closing = stage.got(rendezvous);
        assert_eq!(close_reason(&closing[0].2), Some((1000, "Normal Closure".to_owned())));
        stage.data(rendezvous, &masked(Opcode::Close, &[3, 232]));
        assert_eq!(stage.role.leftovers(), (2, 0));
    }
}

#[test]
fn a_body_that_takes_its_time_is_fetched() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Transfer-Encoding: chunked\r\n"));
    stage.data(sender, b"2\r\nab\r\n");
    assert_eq!(stage.take(control), b"");
    stage.pass(1);
    let address = stage.pointer(control);
    let rendezvous = stage.opened(&address);
    stage.data(sender, b"0\r\n\r\n");
    let got = stage.got(rendezvous);
    assert_eq!(
        got[1..],
        [(Opcode::Binary, false, b"ab".to_vec()), (Opcode::Continuation, true, vec![])]
    );
}

#[test]
fn whoever_waits_for_a_hundred_gets_one() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Content-Length: 2\r\nExpect: 100-continue\r\n"));
    assert_eq!(stage.take(sender), b"HTTP/1.1 100 Continue\r\n\r\n");
    stage.data(sender, b"ok");
    assert_eq!(stage.inline(control).1.unwrap(), b"ok");
}

/// A request whose response comes over a rendezvous of the listener's own wish.
pub(crate) fn streaming(method: &str, version: &str) -> (Stage<Relay>, ConnId, ConnId, Request) {
    let (mut stage, _, control) = serving();
    let line = head(method, "/ent", &auth("ent", "Send")).replace("HTTP/1.1", version);
    let sender = stage.request(line.as_bytes());
    let (request, _) = stage.inline(control);
    let rendezvous = stage.opened(&request.address);
    assert_eq!(stage.take(rendezvous), b"", "the listener has the request already");
    (stage, sender, rendezvous, request)
}

#[test]
fn a_response_streams_over_the_rendezvous() {
    let (mut stage, sender, rendezvous, request) = streaming("GET", "HTTP/1.1");
    stage.data(rendezvous, &response(&request.id, 200, &[("content-length", "99")], true));
    let head = stage.take_text(sender);
    assert!(head.ends_with("Transfer-Encoding: chunked\r\n\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    stage.data(rendezvous, &fragment(Opcode::Binary, false, b"one"));
    assert_eq!(stage.take(sender), b"3\r\none\r\n");
    stage.data(
        rendezvous,
        &[masked(Opcode::Ping, b"p"), fragment(Opcode::Continuation, false, b"")].concat(),
    );
    assert_eq!(stage.got(rendezvous), [(Opcode::Pong, true, b"p".to_vec())]);
    stage.data(rendezvous, &masked(Opcode::Continuation, b"two"));
    assert_eq!(stage.take(sender), b"3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(close_reason(&stage.got(rendezvous)[0].2).unwrap().0, 1000);
    assert_eq!(stage.fate(sender), None);
    stage.pass(6);
    assert_eq!(stage.fate(rendezvous), Some(Fate::Closed), "it never answers the close");
}

#[test]
fn an_old_sender_gets_its_body_up_to_the_end() {
    let (mut stage, sender, rendezvous, request) = streaming("GET", "HTTP/1.0");
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    stage.data(rendezvous, &masked(Opcode::Binary, b"body"));
    let answer = stage.take_text(sender);
    assert!(answer.ends_with("Connection: close\r\n\r\nbody"), "{answer}");
    assert_eq!(stage.fate(sender), Some(Fate::Closed));
}

#[test]
fn what_has_no_body_gets_none() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(head("HEAD", "/ent", &auth("ent", "Send")).as_bytes());
    let (request, _) = stage.inline(control);
    let reply = response(&request.id, 200, &[("Content-Length", "7")], true);
    stage.data(control, &[reply, masked(Opcode::Binary, b"content")].concat());
    let answer = stage.take_text(sender);
    assert!(answer.contains("Content-Length: 7\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");

    stage.data(sender, &get());
    let (request, _) = stage.inline(control);
    let reply = response(&request.id, 204, &[], false);
    stage.data(control, &[reply, masked(Opcode::Binary, b"")].concat());
    let answer = stage.take_text(sender);
    assert!(answer.starts_with("HTTP/1.1 204 ") && !answer.contains("Content-Length"), "{answer}");

    let (mut stage, sender, rendezvous, request) = streaming("HEAD", "HTTP/1.1");
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    stage.data(rendezvous, &masked(Opcode::Binary, b"discarded"));
    assert!(stage.take_text(sender).ends_with("\r\n\r\n"));
}

#[test]
fn authorization_stays_with_whom_it_is_for() {
    let token = auth("ent", "Send").replace("ServiceBusAuthorization: ", "").replace("\r\n", "");
    let has = |request: &Request, name: &str| {
        request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    for (fields, target, kept) in [
        (format!("Authorization: {token}\r\n"), "/ent".to_owned(), false),
        (
            format!("ServiceBusAuthorization: {token}\r\nAuthorization: x\r\n"),
            "/ent".to_owned(),
            true,
        ),
        (
            "Authorization: x\r\n".to_owned(),
            format!(
                "/ent?sb-hc-token={}",
                token.replace('%', "%25").replace(' ', "+").replace('&', "%26").replace('=', "%3D")
            ),
            true,
        ),
    ] {
        let (mut stage, _, control) = serving();
        stage.request(head("GET", &target, &fields).as_bytes());
        let (request, _) = stage.inline(control);
        assert_eq!(has(&request, "Authorization"), kept, "{fields}");
        assert!(!has(&request, "ServiceBusAuthorization"));
        assert_eq!(request.target, "/ent");
    }
    let (mut stage, table, control) = serving();
    table.0.borrow_mut().entities[0].needs_token = false;
    stage.request(
        head("GET", "/ent", "Authorization: x\r\nServiceBusAuthorization: y\r\n").as_bytes(),
    );
    let (request, _) = stage.inline(control);
    assert!(has(&request, "Authorization") && !has(&request, "ServiceBusAuthorization"));
}

#[test]
fn many_requests_at_once_do_not_mix() {
    let (mut stage, _, control) = serving();
    let senders: Vec<ConnId> = (0..50u8)
        .map(|n| stage.request(&[post("Content-Length: 3\r\n"), vec![n; 3]].concat()))
        .collect();
    let got = stage.got(control);
    assert_eq!(got.len(), 100);
    let pairs: Vec<(Request, Vec<u8>)> =
        got.chunks(2).map(|pair| (request(&pair[0].2), pair[1].2.clone())).collect();
    for (request, body) in pairs.iter().rev() {
        let reply = response(&request.id, 200, &[], true);
        stage.data(control, &[reply, masked(Opcode::Binary, body)].concat());
    }
    for (n, sender) in senders.into_iter().enumerate() {
        assert!(stage.take(sender).ends_with(&[u8::try_from(n).unwrap(); 3]));
    }
    assert_eq!(stage.role.leftovers(), (51, 0));
}
