//! Control channels: tokens, pings, too many of them, refused ones, and their end.

use cluster_connect::engine::ws::Side;
use cluster_connect::role::relay::authority::Order;
use cluster_connect::role::{Close, Event, Notice, Revoked, Signal};
use cluster_connect::wire::ws::{Opcode, close_reason};

use crate::net::Fate;
use crate::table::{Table, token};
use crate::{auth, frames, masked, relay, upgrade};

#[test]
fn a_renewed_token_keeps_the_channel_open() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    stage.pass(1);
    let expires = stage.net.unix + 7200;
    let token = token("http://relay.example/ent", "Listen", expires);
    let renew = format!(r#"{{"renewToken":{{"token":"{token}"}}}}"#);
    stage.data(control, &masked(Opcode::Text, renew.as_bytes()));
    assert_eq!(stage.take(control), b"", "no reply");
    for _ in 0..249 {
        stage.pass(30);
        stage.data(control, &masked(Opcode::Pong, b""));
    }
    assert!(!frames(Side::Client, &stage.take(control)).iter().any(|f| f.0 == Opcode::Close));
    stage.pass(31);
    let closing = frames(Side::Client, &stage.take(control));
    let close = closing.iter().find(|f| f.0 == Opcode::Close).unwrap();
    let (code, reason) = close_reason(&close.2).unwrap();
    assert_eq!(code, 1008);
    assert!(reason.starts_with("ExpiredToken: The token is expired. TrackingId:"), "{reason}");
    assert!(reason.len() <= 123);
    stage.data(control, &masked(Opcode::Close, &close.2));
    assert_eq!(stage.fate(control), Some(Fate::Closed));
    assert_eq!(stage.role.leftovers(), (0, 0));
}

#[test]
fn an_expired_token_ends_the_channel_five_minutes_later_and_no_relayed_socket() {
    let (mut stage, table) = relay();
    let (sender, listener) = stage.joined();
    let control = stage.listener("ent", "");
    let answer = |stage: &mut crate::Stage<_>| {
        for conn in [sender, listener, control] {
            if stage.fate(conn).is_none() {
                stage.data(conn, &masked(Opcode::Pong, b""));
            }
        }
    };
    for _ in 0..(3600 + 300) / 20 - 1 {
        stage.pass(20);
        answer(&mut stage);
    }
    let sent = frames(Side::Client, &stage.take(control));
    assert!(sent.iter().all(|frame| frame.0 == Opcode::Ping), "not before the grace is over");
    stage.pass(20);
    let sent = frames(Side::Client, &stage.take(control));
    let close = sent.iter().find(|frame| frame.0 == Opcode::Close).unwrap();
    assert_eq!(close_reason(&close.2).unwrap().0, 1008);
    answer(&mut stage);
    stage.pass(20);
    stage.take(listener);
    stage.data(sender, &masked(Opcode::Binary, b"still here"));
    assert_eq!(stage.take(listener), crate::plain(Opcode::Binary, b"still here"));
    assert_eq!(table.0.borrow().counts["ent"], 0, "nobody listens any more");
}

#[test]
fn a_bad_renewal_closes_the_channel() {
    for body in [
        r#"{"renewToken":{"token":"TokenProvider$x@1b2c3d"}}"#,
        r#"{"renewToken":{"token":7}}"#,
        r#"{"renewToken":{}}"#,
    ] {
        let (mut stage, table) = relay();
        let control = stage.listener("ent", "");
        stage.data(control, &masked(Opcode::Text, body.as_bytes()));
        let closing = frames(Side::Client, &stage.take(control));
        let (code, reason) = close_reason(&closing[0].2).unwrap();
        assert_eq!((closing.len(), code), (1, 1008));
        assert!(reason.starts_with("MalformedToken: "), "{reason}");
        assert_eq!(stage.fate(control), None, "it may answer first");
        assert_eq!(table.0.borrow().counts["ent"], 0);
        stage.pass(6);
        assert_eq!(stage.fate(control), Some(Fate::Closed));
    }
}

#[test]
fn a_control_channel_answers_pings_and_bears_what_listeners_do() {
    let (mut stage, _) = relay();
    let control = stage.listener("ent", "");
    for (opcode, payload) in [
        (Opcode::Text, br#"{"injectFault":{"delay":"1"}}"#.as_slice()),
        (Opcode::Text, br#"{"response":{"requestId":"late","statusCode":"200","body":true}}"#),
        (Opcode::Binary, b"its body"),
        (Opcode::Text, br#"{"response":{"requestId":"late","statusCode":204}}"#),
        (Opcode::Binary, b""),
        (Opcode::Ping, b"hi"),
    ] {
        stage.data(control, &masked(opcode, payload));
    }
    assert_eq!(frames(Side::Client, &stage.take(control)), [(Opcode::Pong, true, b"hi".to_vec())]);
    stage.data(control, &masked(Opcode::Close, &[3, 232]));
    assert_eq!(frames(Side::Client, &stage.take(control)), [(Opcode::Close, true, vec![3, 232])]);
    assert_eq!(stage.fate(control), Some(Fate::Closed));
}

#[test]
fn a_control_channel_that_breaks_the_rules_is_closed() {
    let long = vec![b' '; 64 * 1024 + 1];
    for (frame, code) in [
        (masked(Opcode::Text, b"hello"), 1002),
        (masked(Opcode::Binary, b"unannounced"), 1002),
        (masked(Opcode::Text, &[0xff]), 1007),
        (masked(Opcode::Text, &long), 1009),
        (crate::plain(Opcode::Text, b"{}"), 1002),
        (masked(Opcode::Continuation, b"{}"), 1002),
    ] {
        let (mut stage, _) = relay();
        let control = stage.listener("ent", "");
        stage.data(control, &frame);
        let closing = frames(Side::Client, &stage.take(control));
        assert_eq!(close_reason(&closing[0].2).unwrap().0, code);
        assert_eq!(stage.fate(control), Some(Fate::Closed));
        assert_eq!(stage.role.leftovers(), (0, 0));
    }
}

#[test]
fn a_dead_listener_is_found_out_by_pings() {
    let (mut stage, table) = relay();
    let dead = stage.listener("ent", "");
    let live = stage.listener("ent", "");
    for _ in 0..10 {
        stage.pass(15);
        if frames(Side::Client, &stage.take(live)).iter().any(|f| f.0 == Opcode::Ping) {
            stage.data(live, &masked(Opcode::Pong, b""));
        }
    }
    assert_eq!((stage.fate(dead), stage.fate(live)), (Some(Fate::Aborted), None));
    assert_eq!(table.0.borrow().counts["ent"], 1);
}

#[test]
fn the_dead_make_room_for_the_listener_too_many() {
    let (mut stage, _) = relay();
    let controls: Vec<_> = (0..25).map(|_| stage.listener("ent", "")).collect();
    let head = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen"));
    stage.pass(1);
    let more = stage.request(&head);
    for control in &controls[1..] {
        stage.data(*control, &masked(Opcode::Pong, b""));
    }
    stage.pass(6);
    assert_eq!(stage.status(more).0, 101);
    assert_eq!(stage.fate(controls[0]), Some(Fate::Aborted));

    let refused = stage.request(&head);
    for control in controls[1..].iter().chain([&more]) {
        stage.data(*control, &masked(Opcode::Pong, b""));
    }
    stage.pass(6);
    let (status, answer) = stage.status(refused);
    assert_eq!(status, 403, "{answer}");
}

#[test]
fn a_right_taken_away_while_the_others_are_counted_opens_no_channel() {
    let (mut stage, table) = relay();
    for _ in 0..25 {
        stage.listener("ent", "");
    }
    let more = stage.request(&upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Listen")));
    table.order(Order::Revoke(Revoked::Entity("ent".to_owned())));
    stage.event(Event::Deadline);
    assert_eq!(stage.status(more).0, 404);
    stage.pass(6);
    assert_eq!(table.0.borrow().counts["ent"], 0, "the room that was made is not for it");
}

#[test]
fn a_token_for_a_longer_name_renews_no_channel_of_the_shorter_one() {
    let (mut stage, table) = relay();
    let control = stage.listener("ent/sub", "");
    let later = Table::with(&["ent/sub"]).0.borrow().entities[0].clone();
    table.0.borrow_mut().entities.push(later);
    let token = token("http://relay.example/ent/sub", "Listen", stage.net.unix + 7200);
    let renew = format!(r#"{{"renewToken":{{"token":"{token}"}}}}"#);
    stage.data(control, &masked(Opcode::Text, renew.as_bytes()));
    let closing = frames(Side::Client, &stage.take(control));
    let (code, reason) = close_reason(&closing[0].2).unwrap();
    assert!(code == 1008 && reason.starts_with("InvalidAudience: "), "{code} {reason}");
}

#[test]
fn refused_listens_are_answered_three_times_and_then_held() {
    let (mut stage, _) = relay();
    let head = upgrade("/$hc/ent?sb-hc-action=listen", &auth("ent", "Send"));
    let conns: Vec<_> = (0..6).map(|_| stage.request(&head)).collect();
    let answered = conns.iter().filter(|c| !stage.net.out[c].is_empty()).count();
    assert_eq!(answered, 3);
    stage.listener("ent", "");
    stage.pass(31);
    assert_eq!(stage.status(conns[3]).0, 401);
    assert_eq!(stage.fate(conns[4]), None);
    stage.closed(conns[4], Close::Reset);
    stage.closed(conns[5], Close::Reset);
    assert_eq!(stage.role.leftovers(), (1, 0));
}

#[test]
fn revoking_ends_what_is_open() {
    let (mut stage, table) = relay();
    let (sender, listener) = stage.joined();
    let waiting = stage.sender("ent");
    let other = stage.listener("ent2", "");
    let at = |entity: &str, bearer: &str| {
        Order::Revoke(Revoked::At(entity.to_owned(), bearer.to_owned()))
    };
    table.order(at("ent", "Nobody"));
    table.order(at("ent2", "Send"));
    table.order(Order::Revoke(Revoked::Bearer("Nobody".to_owned())));
    stage.pass(1);
    stage.event(Event::Deadline);
    assert_eq!(stage.fate(sender), None);

    table.order(Order::Revoke(Revoked::Bearer("Send".to_owned())));
    stage.event(Event::Deadline);
    for leg in [sender, listener] {
        let closing = frames(Side::Client, &stage.take(leg));
        assert_eq!(close_reason(&closing[0].2).unwrap().0, 1001);
        assert_eq!(stage.fate(leg), Some(Fate::Closed));
    }
    assert_eq!(stage.status(waiting).0, 404);
    assert_eq!(table.0.borrow().counts["ent"], 1, "the listener is another bearer's");

    table.order(Order::Revoke(Revoked::Entity("ent".to_owned())));
    stage.event(Event::Deadline);
    assert_eq!(table.0.borrow().counts["ent"], 0);
    assert_eq!(stage.fate(other), None);
}

#[test]
fn a_stopping_relay_lets_relayed_sockets_end() {
    let (mut stage, _) = relay();
    let (sender, listener) = stage.joined();
    stage.event(Event::Signal(Signal::Stop));
    let exits = |notices: &[Notice]| {
        notices.iter().filter(|notice| matches!(notice, Notice::Exit(0, None))).count()
    };
    assert_eq!(exits(&stage.net.notices), 0);
    let refused = stage.sender("ent");
    assert_eq!(stage.status(refused).0, 503);
    stage.closed(sender, Close::Reset);
    assert_eq!(stage.fate(listener), Some(Fate::Aborted));
    assert_eq!(exits(&stage.net.notices), 1);
    stage.pass(21);
    assert_eq!(exits(&stage.net.notices), 1);
}
