//! Relayed HTTP: every deadline, every way to break, and what must not be mixed up.

use std::time::Duration;

use cluster_connect::role::Close;
use cluster_connect::role::relay::authority::Deadlines;
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::http::{get, head, post, response, serving, streaming};
use crate::net::Fate;
use crate::{auth, fragment, masked, upgrade};

#[test]
fn a_close_of_1000_ends_a_body_and_nothing_else_does() {
    for (end, is_whole) in [
        (Some(masked(Opcode::Close, &[3, 232])), true),
        (Some(masked(Opcode::Close, &[3, 233])), false),
        (Some(masked(Opcode::Close, &[])), false),
        (Some(masked(Opcode::Text, b"{}")), false),
        (Some(crate::plain(Opcode::Continuation, b"x")), false),
        (None, false),
    ] {
        let (mut stage, sender, rendezvous, request) = streaming("GET", "HTTP/1.1");
        stage.data(rendezvous, &response(&request.id, 200, &[], true));
        stage.data(rendezvous, &fragment(Opcode::Binary, false, b"part"));
        stage.take(sender);
        match &end {
            Some(end) => stage.data(rendezvous, end),
            None => stage.closed(rendezvous, Close::Reset),
        }
        if is_whole {
            assert_eq!(stage.take(sender), b"0\r\n\r\n");
            assert_eq!(stage.fate(sender), None);
        } else {
            assert_eq!(stage.fate(sender), Some(Fate::Aborted), "{end:?}");
            assert_eq!(stage.role.leftovers(), (1, 0), "{end:?}");
        }
    }
}

#[test]
fn a_listener_that_is_late_costs_the_sender_its_answer() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&get());
    let (request, _) = stage.inline(control);
    stage.pass(59);
    stage.data(control, &masked(Opcode::Pong, b""));
    assert_eq!(stage.take(sender), b"");
    stage.pass(1);
    let (status, answer) = stage.status(sender);
    assert_eq!(status, 504);
    assert!(answer.contains("did not respond in the required time") && !answer.contains("Via"));
    let late = [response(&request.id, 200, &[], true), masked(Opcode::Binary, b"late")].concat();
    stage.data(control, &late);
    assert_eq!(stage.fate(control), None);

    let sender = stage.request(&post("Content-Length: 70000\r\n"));
    stage.pointer(control);
    stage.pass(30);
    let (status, answer) = stage.status(sender);
    assert_eq!(status, 504);
    assert!(answer.contains("did not rendezvous to accept the request"), "{answer}");
}

#[test]
fn an_entity_may_have_deadlines_of_its_own() {
    let (mut stage, table, control) = serving();
    let deadlines = Deadlines {
        accept: Duration::from_secs(3),
        response: Duration::from_secs(600),
        body_gap: Duration::from_secs(120),
    };
    table.0.borrow_mut().entities.iter_mut().for_each(|entity| entity.deadlines = deadlines);
    let slow = stage.request(&get());
    let (request, _) = stage.inline(control);
    let pointed = stage.request(&post("Content-Length: 70000\r\n"));
    stage.pointer(control);
    stage.pass(3);
    assert_eq!(stage.status(pointed).0, 504);
    for _ in 0..19 {
        stage.data(control, &masked(Opcode::Pong, b""));
        stage.pass(30);
    }
    assert_eq!(stage.take(slow), b"", "nine and a half minutes are within ten");
    stage.data(control, &response(&request.id, 200, &[], false));
    assert_eq!(stage.status(slow).0, 200);
}

#[test]
fn gaps_in_bodies_are_bounded() {
    let (mut stage, sender, rendezvous, request) = streaming("GET", "HTTP/1.1");
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    let mut opcode = Opcode::Binary;
    for _ in 0..5 {
        stage.pass(50);
        stage.data(rendezvous, &fragment(opcode, false, b"x"));
        opcode = Opcode::Continuation;
    }
    assert_eq!(stage.fate(sender), None);
    stage.pass(61);
    assert_eq!(stage.fate(sender), Some(Fate::Aborted));

    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Content-Length: 10\r\n"));
    stage.pass(61);
    assert_eq!(stage.status(sender).0, 408);
    assert!(stage.got(control).is_empty());

    let sender = stage.request(&post("Content-Length: 70000\r\n"));
    let address = stage.pointer(control);
    let rendezvous = stage.opened(&address);
    stage.pass(61);
    assert_eq!(stage.fate(sender), Some(Fate::Aborted));
    let closing = stage.got(rendezvous);
    assert_eq!(close_reason(&closing.last().unwrap().2).unwrap().0, 1001);
}

#[test]
fn a_sender_that_leaves_ends_the_exchange() {
    let (mut stage, sender, rendezvous, request) = streaming("GET", "HTTP/1.1");
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    stage.closed(sender, Close::Reset);
    assert_eq!(close_reason(&stage.got(rendezvous)[0].2).unwrap().0, 1001);
    stage.pass(6);

    let (mut stage, _, control) = serving();
    let sender = stage.request(&get());
    let (request, _) = stage.inline(control);
    stage.closed(sender, Close::Reset);
    stage.data(control, &response(&request.id, 200, &[], false));
    let late = stage.open(&request.address);
    assert_eq!(stage.status(late).0, 403);
    assert_eq!(stage.role.leftovers(), (1, 0));
}

#[test]
fn a_listener_that_leaves_hands_on_what_it_has_not_had() {
    let (mut stage, _, first) = serving();
    let sender = stage.request(&post("Content-Length: 70000\r\n"));
    stage.pointer(first);
    let second = stage.listener("ent", "");
    stage.closed(first, Close::Reset);
    stage.pointer(second);
    stage.closed(second, Close::Reset);
    assert_eq!(stage.status(sender).0, 502);

    let (mut stage, _, first) = serving();
    let sender = stage.request(&get());
    let second = stage.listener("ent", "");
    stage.closed(first, Close::Reset);
    assert_eq!(stage.status(sender).0, 502);
    assert!(stage.got(second).is_empty());
}

#[test]
fn a_rendezvous_that_breaks_the_rules_is_closed() {
    let wrong_id = response("other", 200, &[], false);
    for (bytes, code) in [
        (masked(Opcode::Binary, b"x"), 1002),
        (masked(Opcode::Text, b"{}"), 1002),
        (masked(Opcode::Text, br#"{"response":{"statusCode":200}}"#), 1002),
        (wrong_id, 1002),
        (masked(Opcode::Text, &vec![b' '; 70_000]), 1009),
    ] {
        let (mut stage, sender, rendezvous, _) = streaming("GET", "HTTP/1.1");
        stage.data(rendezvous, &bytes);
        assert_eq!(close_reason(&stage.got(rendezvous)[0].2).unwrap().0, code);
        assert_eq!(stage.fate(rendezvous), Some(Fate::Closed));
        assert_eq!(stage.status(sender).0, 502);
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}

#[test]
fn rendezvous_of_requests_and_of_accepts_are_not_the_same() {
    let (mut stage, _, control) = serving();
    stage.request(&get());
    let (request, _) = stage.inline(control);
    let wrong = stage.open(&request.address.replace("action=request", "action=accept"));
    assert_eq!(stage.status(wrong).0, 403);
    stage.sender("ent");
    let accept = stage.accept_command(control);
    let wrong = stage.open(&accept.address.replace("action=accept", "action=request"));
    assert_eq!(stage.status(wrong).0, 403);
    let right = stage.open(&request.address);
    assert_eq!(stage.status(right).0, 101);
    let again = stage.open(&request.address);
    assert_eq!(stage.status(again).0, 403);
}

#[test]
fn statuses_that_end_nothing_are_not_passed_on() {
    for status in [0, 99, 100, 101, 199, 1000] {
        let (mut stage, _, control) = serving();
        let sender = stage.request(&get());
        let (request, _) = stage.inline(control);
        stage.data(control, &response(&request.id, status, &[], false));
        assert_eq!(stage.status(sender).0, 502, "{status}");
    }
}

#[test]
fn a_response_cannot_reach_a_request_that_is_not_its_own() {
    let (mut stage, _, control) = serving();
    let sender = stage.request(&get());
    let (first, _) = stage.inline(control);
    // Announced on the control channel, and then given over the rendezvous.
    stage.data(control, &response(&first.id, 200, &[], true));
    let rendezvous = stage.opened(&first.address);
    stage.data(rendezvous, &response(&first.id, 200, &[], false));
    assert!(stage.take_text(sender).starts_with("HTTP/1.1 200 "));
    stage.data(sender, &get());
    let (second, _) = stage.inline(control);
    stage.data(control, &masked(Opcode::Binary, b"stale"));
    assert_eq!(stage.take(sender), b"");
    stage.data(control, &response(&second.id, 200, &[], false));
    assert!(stage.take_text(sender).starts_with("HTTP/1.1 200 "));
}

#[test]
fn slow_readers_stop_their_sources() {
    let (mut stage, sender, rendezvous, request) = streaming("GET", "HTTP/1.1");
    stage.net.full.insert(sender);
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    stage.data(rendezvous, &fragment(Opcode::Binary, false, b"x"));
    assert!(stage.net.paused.contains(&rendezvous));
    stage.net.full.clear();
    stage.drained(sender, 1);
    assert!(!stage.net.paused.contains(&rendezvous));

    let (mut stage, _, control) = serving();
    let sender = stage.request(&post("Content-Length: 70000\r\n"));
    let address = stage.pointer(control);
    let rendezvous = stage.opened(&address);
    stage.net.full.insert(rendezvous);
    stage.data(sender, b"x");
    assert!(stage.net.paused.contains(&sender));
    stage.net.full.clear();
    stage.drained(rendezvous, 1);
    assert!(!stage.net.paused.contains(&sender));
}

#[test]
fn requests_that_cannot_be_relayed_are_refused() {
    for (bytes, status) in [
        (post("Transfer-Encoding: chunked\r\n").into_iter().chain(*b"zz\r\n").collect(), 400),
        (head("GET", "/ent2", &auth("ent2", "Send")).into_bytes(), 404),
        (
            head("GET", "/ent", &format!("X: {}\r\n{}", "\"".repeat(33_000), auth("ent", "Send")))
                .into_bytes(),
            431,
        ),
        (upgrade("/ent", &auth("ent", "Send")), 400),
    ] {
        let (mut stage, _, _) = serving();
        let bytes: Vec<u8> = bytes;
        let conn = stage.request(&bytes);
        assert_eq!(stage.status(conn).0, status);
        assert_eq!(stage.role.leftovers(), (1, 0));
    }
}
