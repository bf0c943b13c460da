//! Deadlines and the switch for HTTP requests, each entity its own.

use std::time::Duration;

use cluster_connect::role::relay::authority::Deadlines;
use cluster_connect::role::{Close, Event};
use cluster_connect::wire::ws::Opcode;

use crate::http::{get, head, post, response, serving};
use crate::net::Fate;
use crate::{auth, fragment, masked, relay};

const LONG: Deadlines = Deadlines {
    accept: Duration::from_secs(120),
    response: Duration::from_secs(3600),
    body_gap: Duration::from_secs(600),
};

#[test]
fn a_sender_waits_for_as_long_as_its_entity_says() {
    let (mut stage, table) = relay();
    table.0.borrow_mut().entities[0].deadlines = LONG;
    let (slow, usual) = (stage.listener("ent", ""), stage.listener("ent2", ""));
    let (patient, other) = (stage.sender("ent"), stage.sender("ent2"));
    let alive = |stage: &mut crate::Stage<_>| {
        for control in [slow, usual] {
            stage.data(control, &masked(Opcode::Pong, b""));
        }
    };
    for _ in 0..5 {
        stage.pass(20);
        alive(&mut stage);
    }
    assert_eq!((stage.take(patient), stage.status(other).0), (vec![], 504));
    let accept = stage.accept_command(slow);
    let conn = stage.rendezvous(&accept, "", "");
    assert_eq!((stage.status(conn).0, stage.status(patient).0), (101, 101));

    let late = stage.sender("ent");
    for _ in 0..6 {
        stage.pass(20);
        alive(&mut stage);
    }
    assert_eq!(stage.status(late).0, 504);
}

#[test]
fn a_sender_that_left_is_remembered_no_longer_than_usual() {
    let (mut stage, table) = relay();
    table.0.borrow_mut().entities[0].deadlines = LONG;
    let control = stage.listener("ent", "");
    for (seconds, status) in [(29, 410), (31, 403)] {
        let sender = stage.sender("ent");
        let accept = stage.accept_command(control);
        stage.event(Event::Closed(sender, Close::Reset));
        stage.pass(seconds);
        stage.data(control, &masked(Opcode::Pong, b""));
        let late = stage.rendezvous(&accept, "", "");
        assert_eq!(stage.status(late).0, status, "after {seconds} s");
    }
}

#[test]
fn a_response_may_take_as_long_as_its_entity_says() {
    let (mut stage, table, control) = serving();
    table.0.borrow_mut().entities[0].deadlines = LONG;
    let sender = stage.request(&get());
    let (request, _) = stage.inline(control);
    for _ in 0..119 {
        stage.pass(30);
        stage.data(control, &masked(Opcode::Pong, b""));
    }
    assert_eq!(stage.take(sender), b"");
    // The address is good for as long as somebody waits.
    let rendezvous = stage.opened(&request.address);
    stage.data(rendezvous, &response(&request.id, 200, &[], true));
    stage.data(rendezvous, &fragment(Opcode::Binary, false, b"first"));
    for _ in 0..19 {
        stage.pass(30);
        stage.data(control, &masked(Opcode::Pong, b""));
        stage.data(rendezvous, &masked(Opcode::Pong, b""));
    }
    assert_eq!(stage.fate(sender), None, "a gap of 570 s");
    for _ in 0..2 {
        stage.pass(30);
        stage.data(control, &masked(Opcode::Pong, b""));
    }
    assert_eq!(stage.fate(sender), Some(Fate::Aborted));
}

#[test]
fn a_hasty_entity_gives_up_early() {
    let (mut stage, table, control) = serving();
    let second = Duration::from_secs(1);
    table.0.borrow_mut().entities[0].deadlines =
        Deadlines { accept: second, response: second * 2, body_gap: second * 3 };
    let unanswered = stage.request(&get());
    let unfetched = stage.request(&post("Content-Length: 70000\r\n"));
    let unaccepted = stage.sender("ent");
    let unfinished = stage.request(&post("Content-Length: 7\r\n"));
    stage.pass(1);
    assert_eq!((stage.status(unfetched).0, stage.status(unaccepted).0), (504, 504));
    assert_eq!(stage.take(unanswered), b"");
    stage.pass(1);
    assert_eq!((stage.status(unanswered).0, stage.take(unfinished)), (504, vec![]));
    stage.pass(1);
    assert_eq!(stage.status(unfinished).0, 408);
    assert_eq!(stage.fate(control), None);
    stage.pass(61);
    stage.data(control, &masked(Opcode::Pong, b""));
    assert_eq!(stage.role.leftovers(), (1, 0));
}

#[test]
fn an_entity_without_http_never_shows_a_request_to_its_listener() {
    let (mut stage, table, control) = serving();
    table.0.borrow_mut().entities[0].http = false;
    for request in [
        get(),
        post("Content-Length: 70000\r\n"),
        head("HEAD", "/ent/x", &auth("ent", "Send")).into_bytes(),
    ] {
        let sender = stage.request(&request);
        let (status, answer) = stage.status(sender);
        assert_eq!(status, 501, "{answer}");
        assert!(answer.contains("HTTP requests are not enabled for the endpoint"), "{answer}");
        assert!(!answer.contains("Via:"), "{answer}");
        assert_eq!(stage.fate(sender), Some(Fate::Closed));
    }
    // Whoever has no token is not told which entities have it on.
    let sender = stage.request(head("GET", "/ent", "").as_bytes());
    assert_eq!(stage.status(sender).0, 401);
    assert_eq!(stage.take(control), b"", "hyco-ws would fall over it");
    let sender = stage.sender("ent");
    assert_eq!(stage.take(sender), b"", "WebSockets go on");
    stage.accept_command(control);
}
