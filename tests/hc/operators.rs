//! What operators see of a relay: health, metrics, and what a hybrid connection tells of itself.

use cluster_connect::engine::ws::Side;
use cluster_connect::role::relay::Relay;
use cluster_connect::role::{ConnId, Event, Signal};
use cluster_connect::wire::ws::Opcode;

use crate::http::{chunked, get, head, serving};
use crate::net::{Fate, Stage};
use crate::{auth, frames, masked, relay};

fn visit(stage: &mut Stage<Relay>, request: &str) -> (u16, String) {
    let conn = stage.visitor();
    let (first, rest) = request.split_at(request.len() / 2);
    stage.data(conn, first.as_bytes());
    stage.data(conn, rest.as_bytes());
    assert_eq!(stage.fate(conn), Some(Fate::Closed), "{request}");
    stage.status(conn)
}

pub(crate) fn page(stage: &mut Stage<Relay>) -> String {
    let (status, text) = visit(stage, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status, 200, "{text}");
    text
}

#[test]
fn the_operators_listener_has_health_and_nothing_of_the_relay() {
    let (mut stage, _) = relay();
    stage.event(Event::Started);
    for (request, expected) in [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /subscriptions HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET /ent HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 400),
        ("GET /metrics SMTP\r\n\r\n", 505),
    ] {
        assert_eq!(visit(&mut stage, request).0, expected, "{request}");
    }
    let _busy = stage.joined();
    stage.event(Event::Signal(Signal::Stop));
    assert_eq!(visit(&mut stage, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").0, 503);
    assert_eq!(visit(&mut stage, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 200);
}

#[test]
fn operators_who_say_nothing_or_are_too_many_are_let_go() {
    let (mut stage, _) = relay();
    let visitors: Vec<ConnId> = (0..65).map(|_| stage.visitor()).collect();
    let fates: Vec<_> = visitors.iter().map(|conn| stage.fate(*conn)).collect();
    assert!(fates[..64].iter().all(Option::is_none));
    assert_eq!(fates[64], Some(Fate::Aborted));
    stage.pass(11);
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn counters_follow_listeners_senders_and_bytes() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.data(sender, &masked(Opcode::Binary, b"12345678"));
    let text = page(&mut stage);
    for line in [
        "relay_listener_connections_total{result=\"success\"} 1",
        "relay_sender_connections_total{result=\"success\"} 1",
        "relay_bytes_transferred_total 14",
        "relay_active_listeners 1",
        "relay_active_connections 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    stage.finished(listener);
    let stranger = stage.sender("ent2");
    assert_eq!(stage.status(stranger).0, 404);
    let text = page(&mut stage);
    for line in [
        "relay_sender_disconnects_total 1",
        "relay_sender_connections_total{result=\"client_error\"} 1",
        "relay_active_connections 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!text.contains("ent2"), "no name from a request is a label");
}

const MARKER: &str = "X-PROCESS-AT: ServiceBus\r\n";

#[test]
fn a_hybrid_connection_tells_dotnet_of_itself() {
    let (mut stage, _, control) = serving();
    for rule in ["Send", "Listen", "root"] {
        let fields = format!("{MARKER}{}", auth("ent", rule));
        let conn = stage.request(head("GET", "/Ent?api-version=2016-07", &fields).as_bytes());
        let (status, text) = stage.status(conn);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("Content-Type: application/atom+xml"), "{text}");
        assert!(text.contains("<CreatedAt>2026-11-23T12:03:00Z</CreatedAt>"), "{text}");
        let rest = "<RequiresClientAuthorization>true</RequiresClientAuthorization>\
                    <UserMetadata>&lt;&amp;&gt;</UserMetadata><ListenerCount>1</ListenerCount>";
        assert!(text.contains(rest), "{text}");
    }
    assert_eq!(stage.take(control), b"", "the listener has nothing to do with it");
}

#[test]
fn nobody_without_a_token_learns_which_hybrid_connections_there_are() {
    let (mut stage, table, _) = serving();
    for entity in &mut table.0.borrow_mut().entities {
        entity.needs_token = false;
    }
    for (path, fields) in [
        ("/ent", String::new()),
        ("/nowhere", String::new()),
        ("/ent", auth("ent2", "Send")),
        ("/ent", auth("ent", "guess")),
    ] {
        let target = format!("{path}?api-version=2016-07");
        let conn = stage.request(head("GET", &target, &format!("{MARKER}{fields}")).as_bytes());
        let (status, text) = stage.status(conn);
        assert_eq!(status, 401, "{text}");
        assert!(text.contains("<Error><Code>401</Code><Detail>"), "{text}");
    }
    let fields = format!("{MARKER}{}", auth("nowhere", "Send"));
    let conn = stage.request(head("GET", "/nowhere?api-version=2016-07", &fields).as_bytes());
    let (status, text) = stage.status(conn);
    assert!(status == 200 && text.contains("<feed ") && !text.contains("<entry"), "{text}");
}

#[test]
fn a_request_that_is_not_marked_goes_to_the_listener() {
    for (target, fields) in
        [("/ent?api-version=2016-07", ""), ("/ent", MARKER), ("/ent?x=api-version", MARKER)]
    {
        let (mut stage, _, control) = serving();
        let fields = format!("{fields}{}", auth("ent", "Send"));
        stage.request(head("GET", target, &fields).as_bytes());
        assert_eq!(stage.inline(control).0.target, target);
    }
}

#[test]
fn a_listener_that_takes_its_time_is_asked_for_a_sign_of_life() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&get());
    let (request, _) = stage.inline(control);
    let rendezvous = stage.opened(&request.address);
    stage.pass(31);
    let asked = frames(Side::Client, &stage.take(rendezvous));
    assert_eq!(asked, [(Opcode::Ping, true, Vec::new())]);
    stage.data(rendezvous, &masked(Opcode::Pong, b""));
    assert_eq!((stage.fate(rendezvous), stage.fate(sender)), (None, None));
}

#[test]
fn a_listener_that_dies_under_a_slow_request_is_found_out() {
    let (mut stage, _, control) = serving();
    let fields = format!("Transfer-Encoding: chunked\r\n{}", auth("ent", "Send"));
    let sender = stage.request(head("POST", "/ent", &fields).as_bytes());
    stage.pass(2);
    let address = stage.pointer(control);
    let rendezvous = stage.opened(&address);
    let bytes = chunked(&[b"a"]);
    let piece = bytes.strip_suffix(b"0\r\n\r\n").unwrap();
    for _ in 0..8 {
        stage.data(sender, piece);
        stage.pass(25);
        if !stage.take(control).is_empty() {
            stage.data(control, &masked(Opcode::Pong, b""));
        }
    }
    assert_eq!(stage.fate(rendezvous), Some(Fate::Aborted));
    assert_eq!(stage.status(sender).0, 502);
}
